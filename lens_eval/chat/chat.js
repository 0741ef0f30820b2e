"use strict";
// What users and models write is set as textContent alone.
const form = document.getElementById("ask");
const field = document.getElementById("question");
const names = [...document.querySelectorAll("#models h2")].map((head) => head.textContent);

function add(parent, tag, name, text) {
  const element = document.createElement(tag);
  element.className = name;
  element.textContent = text;
  element.dir = "auto";
  parent.append(element);
  return element;
}

function newRound(text) {
  const round = document.createElement("article");
  round.className = "round";
  add(round, "p", "question", text);
  const answers = document.createElement("div");
  answers.className = "answers";
  round.append(answers);
  document.getElementById("rounds").append(round);
  return names.map((name) => {
    const cell = document.createElement("div");
    answers.append(cell);
    add(cell, "p", "who", name);
    return { text: add(cell, "p", "text", "…"), verdict: add(cell, "p", "verdict", "") };
  });
}

function show(cells, piece) {
  if (piece.model === undefined) return;
  const cell = cells[piece.model];
  cell.text.textContent = piece.text;
  if (piece.verdict === undefined) return;
  cell.verdict.textContent = piece.verdict;
  cell.verdict.classList.add(piece.good === true ? "good" : piece.good === false ? "bad" : "open");
}

async function ask(question, language) {
  const cells = newRound(question);
  try {
    const answer = await fetch("ask", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ question, language }),
    });
    if (!answer.ok) throw new Error(await answer.text());
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) show(cells, JSON.parse(line));
      window.scrollTo(0, document.body.scrollHeight);
    }
  } catch (error) {
    for (const cell of cells) if (!cell.verdict.textContent) cell.verdict.textContent = String(error.message);
  }
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const question = field.value.trim();
  if (!question || form.dataset.busy) return;
  form.dataset.busy = "yes";
  field.value = "";
  await ask(question, document.getElementById("language").value);
  delete form.dataset.busy;
  field.focus();
});

field.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    form.requestSubmit();
  }
});
