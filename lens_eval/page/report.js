"use strict";
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  for (const tool of all(".tools[hidden]")) tool.hidden = false;

  // Sorting: the first press puts the largest number (or the first name) on top, the next turns it over,
  // the third restores the order of the run.
  const shown = (cell) => {
    const name = document.body.classList.contains("differences") && "d" in cell.dataset ? "d" : "v";
    return cell.dataset[name];
  };
  const number = (cell) => {
    const text = shown(cell);
    return text === undefined || text === "" ? NaN : Number(text);
  };
  const sort = (table, column, order) => {
    const body = table.tBodies[0];
    const sign = order === "ascending" ? 1 : -1;
    const rows = [...body.rows].sort((a, b) => {
      const place = Number(a.dataset.at) - Number(b.dataset.at);
      if (order === "none") return place;
      const x = a.cells[column], y = b.cells[column];
      if (x.tagName === "TH") return sign * x.textContent.localeCompare(y.textContent, "en") || place;
      const p = number(x), q = number(y);
      if (Number.isNaN(p) || Number.isNaN(q)) return Number.isNaN(p) - Number.isNaN(q) || place;
      return sign * (p - q) || place;
    });
    body.append(...rows);
  };
  for (const table of all("table.sortable")) {
    [...table.tBodies[0].rows].forEach((row, at) => { row.dataset.at = String(at); });
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const steps = column === 0 ? ["none", "ascending", "descending"] : ["none", "descending", "ascending"];
        const now = head.getAttribute("aria-sort") || "none";
        const next = steps[(steps.indexOf(now) + 1) % 3];
        for (const other of heads) other.removeAttribute("aria-sort");
        if (next !== "none") head.setAttribute("aria-sort", next);
        sort(table, column, next);
      });
    });
  }

  // Values or differences in every table.
  const way = document.getElementById("show");
  const choose = () => {
    document.body.classList.remove("values", "differences", "both");
    document.body.classList.add(way.value);
  };
  if (way) {
    way.addEventListener("change", choose);
    choose();
  }

  // Answers by language, variant, and whether the verdicts differ.
  const language = document.getElementById("language");
  const variant = document.getElementById("variant");
  const differing = document.getElementById("differing");
  const filter = () => {
    for (const group of all(".group")) {
      group.hidden = language.value !== "" && group.dataset.language !== language.value;
      if (language.value !== "" && !group.hidden) group.open = true;
    }
    for (const example of all(".example")) example.hidden = differing.checked && !("differs" in example.dataset);
    for (const answer of all(".answer")) {
      answer.hidden = variant.value !== "" && answer.dataset.variant !== variant.value && !("reference" in answer.dataset);
    }
  };
  if (language) for (const control of [language, variant, differing]) control.addEventListener("change", filter);

})();
