"""A comparison as tables: for the terminal, Markdown, CSV, LaTeX (booktabs) and JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lens_eval.base.files import write_text
from lens_eval.base.metrics import label
from lens_eval.base.plain_tables import SIMULATED, bounds, markdown_cell, percent, points
from lens_eval.base.separated import write_csv
from lens_eval.base.terminal import make_console
from lens_eval.results.compare import AVERAGE, AVERAGE_ALL, Comparison, Entry, main_metrics
from lens_eval.results.headline import headline

if TYPE_CHECKING:
    from rich.console import Console

    from lens_eval.base.statistics import Interval

MARK = "*"
HOLE = "–"
FLOOR = "false floor"
MADE = "made.md"
"""Beside the tables: what differs from one run to the next though the numbers are the same."""


def cell(entry: Entry | None) -> str:
    """`75.6 [66.0, 83.7]*`: percent, 95% interval, and the mark of a difference that excludes zero."""
    if entry is None:
        return HOLE
    i = entry.interval
    return f"{percent(i.mean)} {bounds(i)}{MARK if entry.differs else ''}"


def difference_cell(entry: Entry | None) -> str:
    """`-75.2 [-79.0, -71.4]*`: the paired difference to the reference in points."""
    if entry is None or entry.difference is None:
        return ""
    d = entry.difference
    return f"{points(d.mean)} {bounds(d, points)}{MARK if entry.differs else ''}"


def floor_cells(comparison: Comparison, family: str, metric: str, own: Sequence[str]) -> list[str]:
    """How often gold text is called off-target (`lens calibrate`), by column; empty for other metrics."""
    if metric != "off_target":
        return []
    from lens_eval.language.calibrate import measured_floor

    floors = {code: interval.mean for code, interval in measured_floor().items()}
    others = [code for code in comparison.languages[family] if code != comparison.central[family]]
    if others and all(code in floors for code in others):
        floors[AVERAGE] = sum(floors[code] for code in others) / len(others)
    return [percent(floors[code]) if code in floors else HOLE for code in own]


def columns(comparison: Comparison, family: str) -> list[str]:
    """The average over the non-central languages where there is one, those languages, the central one."""
    languages = list(comparison.languages[family])
    has_average = any(key[0] == family and key[3] == AVERAGE for key in comparison.entries)
    return [AVERAGE, *languages] if has_average else languages


def column_name(comparison: Comparison, family: str, language: str) -> str:
    """How a column is headed: the average says over how many languages, the central language that it is."""
    if language == AVERAGE:
        central = comparison.central[family]
        others = [code for code in comparison.languages[family] if code != central]
        return f"average of {len(others)}"
    if language == comparison.central[family] and language:
        return f"{language} (central)"
    return language or "all"


def sizes(comparison: Comparison, family: str) -> dict[str, int]:
    """Items by language; where metrics or variants differ in number, the largest."""
    found: dict[str, int] = {}
    for (own, _, _, language), entry in comparison.entries.items():
        if own == family and language not in (AVERAGE, AVERAGE_ALL):
            found[language] = max(found.get(language, 0), entry.interval.n)
    return found


def size_line(comparison: Comparison, family: str) -> str:
    """`n = 82 items per language`, or each language's number where they differ."""
    counts = sizes(comparison, family)
    if len(set(counts.values())) == 1:
        n = next(iter(counts.values()))
        return f"n = {n} items" + (" per language" if len(counts) > 1 else "")
    return "n = " + ", ".join(f"{code}: {n}" for code, n in counts.items())


def legend(comparison: Comparison, reference: str | None = None) -> list[str]:
    """What a reader must know to read the tables; `reference`: its name as the form of the text needs it."""
    lines = ["Percent with 95% intervals, clustered by item: parallel items are not counted as independent."]
    if len(comparison.variants) > 1:
        lines.append(
            f"{MARK} the paired difference to {reference or comparison.reference} excludes zero "
            "(95%, clustered by item)."
        )
    if any("off_target" in metrics for metrics in comparison.metrics.values()):
        lines.append("False floor: how often gold sentences of that language are called off-target.")
    if any(comparison.central.values()):
        lines.append("Averages are over the non-central languages, each counting alike.")
    return lines


def _tables(comparison: Comparison) -> Iterator[tuple[str, str]]:
    for family in comparison.families:
        for metric in main_metrics(comparison, family):
            yield family, metric


# --- terminal ----------------------------------------------------------------------------------


def show(comparison: Comparison, console: Console | None = None) -> None:
    """Print the tables, at most 80 columns wide: value above, interval below."""
    from rich.markup import escape

    console = console or make_console()
    width = min(console.width, 80)
    title = comparison.name or "comparison"
    console.print(f"[bold]{escape(title)}[/bold]" + (" (simulated)" if comparison.simulated else ""))
    if said := headline(comparison):
        console.print(escape(said), width=width)
    family = ""
    for own, metric in _tables(comparison):
        if own != family:
            family = own
            console.print(f"\n[bold]{escape(family)}[/bold]  {escape(size_line(comparison, family))}")
        for part in _fitting(comparison, family, width):
            _print_block(console, comparison, family, metric, part)
    console.print()
    for line in _foot(comparison):
        console.print(escape(line), style="dim", width=width)


def _fitting(comparison: Comparison, family: str, width: int) -> Iterator[list[str]]:
    """Columns in runs that fit the width; the first column is the variant's name."""
    per_line = max(1, (width - _name_width(comparison)) // 9)
    own = columns(comparison, family)
    for start in range(0, len(own), per_line):
        yield own[start : start + per_line]


def _name_width(comparison: Comparison) -> int:
    return min(26, max(len(v) for v in comparison.variants) + 2)


def _print_block(
    console: Console, comparison: Comparison, family: str, metric: str, part: Sequence[str]
) -> None:
    from rich.table import Table
    from rich.text import Text

    simulated = ", simulated" if comparison.simulated else ""
    table = Table(
        box=None,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        title=f"{label(metric)}, %{simulated}",
        title_justify="left",
        title_style="bold",
    )
    table.add_column("", width=_name_width(comparison) - 1, no_wrap=True, overflow="ellipsis")
    for language in part:
        short = "average" if language == AVERAGE else language or "all"
        table.add_column(Text(short), justify="right", width=8, no_wrap=True)
    for variant in comparison.variants:
        found = [comparison.get(family, metric, variant, language) for language in part]
        table.add_row(Text(variant), *(Text(_value(entry)) for entry in found))
        table.add_row("", *(Text(_range(entry), style="dim") for entry in found))
    if floor := floor_cells(comparison, family, metric, part):
        table.add_row(Text(FLOOR, style="dim"), *(Text(each + " ", style="dim") for each in floor))
    console.print(table)


def _value(entry: Entry | None) -> str:
    if entry is None:
        return HOLE
    return percent(entry.interval.mean) + (MARK if entry.differs else " ")


def _range(entry: Entry | None) -> str:
    if entry is None:
        return ""
    return f"{100 * entry.interval.low:.0f}–{100 * entry.interval.high:.0f} "


def _foot(comparison: Comparison) -> list[str]:
    lines = legend(comparison)
    if comparison.simulated:
        lines.append(SIMULATED[0].upper() + SIMULATED[1:] + ".")
    lines += [f"Note: {note}" for note in comparison.notes]
    lines += [f"Missing: {hole.variant}, {hole.task}: {hole.reason}" for hole in comparison.holes]
    return lines


# --- files -------------------------------------------------------------------------------------


def to_markdown(comparison: Comparison) -> str:
    """All tables for reading, with the paired difference of the average (or the only column)."""
    simulated = " (simulated)" if comparison.simulated else ""
    lines = [f"# {markdown_cell(comparison.name) or 'Comparison'}{simulated}", ""]
    if said := headline(comparison):
        lines += [f"**{markdown_cell(said)}**", ""]
    if comparison.simulated:
        lines += [f"**{SIMULATED[0].upper() + SIMULATED[1:]}.**", ""]
    lines += [" ".join(legend(comparison, markdown_cell(comparison.reference))), ""]
    family = ""
    for own, metric in _tables(comparison):
        if own != family:
            family = own
            size = markdown_cell(size_line(comparison, family))
            lines += [f"## {markdown_cell(family)}{simulated}", "", f"{size}.", ""]
            lines += summary(comparison, family)
        lines += [f"### {markdown_cell(label(metric))}, %{simulated}", ""]
        lines += [*markdown_table(comparison, family, metric), ""]
    if comparison.holes:
        lines += ["## Missing", ""]
        lines += [
            f"- {markdown_cell(hole.variant)}, {markdown_cell(hole.task)}: {markdown_cell(hole.reason)}"
            for hole in comparison.holes
        ] + [""]
    if comparison.notes:
        lines += ["## Notes", "", *(f"- {markdown_cell(note)}" for note in comparison.notes), ""]
    if comparison.run:
        lines += [f"How this was made, and what it cost: [{MADE}]({MADE}).", ""]
    return "\n".join(lines).rstrip() + "\n"


def summary(comparison: Comparison, family: str) -> list[str]:
    """One Markdown table with a line per variant: every metric's average, and the central language.

    Empty where there are no averages, or nothing that the metric's own table does not say.
    """
    own, metrics = columns(comparison, family), main_metrics(comparison, family)
    central = comparison.central[family]
    if own[0] != AVERAGE or (len(metrics) < 2 and not central):
        return []
    places = [(metric, AVERAGE) for metric in metrics]
    places += [(metrics[0], central)] if central else []
    names = {AVERAGE: column_name(comparison, family, AVERAGE), central: central}
    head = ["variant", *(f"{label(metric)}, {names[language]}" for metric, language in places)]
    lines = [f"### summary, %{' (simulated)' if comparison.simulated else ''}", ""]
    lines += ["| " + " | ".join(markdown_cell(h) for h in head) + " |", "|---" + "|---:" * len(places) + "|"]
    for variant in comparison.variants:
        cells = [cell(comparison.get(family, metric, variant, language)) for metric, language in places]
        lines.append("| " + " | ".join(markdown_cell(c) for c in (variant, *cells)) + " |")
    return [*lines, ""]


def markdown_table(comparison: Comparison, family: str, metric: str) -> list[str]:
    """One metric of a family: a line per variant, a column per language."""
    own = columns(comparison, family)
    main = own[0]
    head = ["variant", column_name(comparison, family, main), f"difference to {comparison.reference}"]
    head += [column_name(comparison, family, language) for language in own[1:]]
    if len(comparison.variants) == 1:
        head.pop(2)
    lines = [
        "| " + " | ".join(markdown_cell(h) for h in head) + " |",
        "|---" + "|---:" * (len(head) - 1) + "|",
    ]
    for variant in comparison.variants:
        first = comparison.get(family, metric, variant, main)
        row = [variant, cell(first), difference_cell(first)]
        if len(comparison.variants) == 1:
            row.pop()
        row += [cell(comparison.get(family, metric, variant, language)) for language in own[1:]]
        lines.append("| " + " | ".join(markdown_cell(c) for c in row) + " |")
    if floor := floor_cells(comparison, family, metric, own):
        row = [FLOOR, floor[0], *([] if len(comparison.variants) == 1 else [""]), *floor[1:]]
        lines.append("| " + " | ".join(row) + " |")
    return lines


def to_made(comparison: Comparison) -> str:
    """How a run was made and what it cost: what differs where the same numbers are made again."""
    run = comparison.run
    lines = [f"# How the tables of {markdown_cell(comparison.name)} were made", ""]
    environment = run.get("environment", {})
    facts = {
        "command": run.get("command"),
        "commit": environment.get("commit"),
        "machine": environment.get("machine"),
        "versions": ", ".join(f"{k} {v}" for k, v in environment.get("versions", {}).items()),
    }
    lines += [f"- {name}: {markdown_cell(str(value))}" for name, value in facts.items() if value]
    costs = run.get("costs", {})
    if costs:
        lines += [
            "",
            "| variant | training, s | peak memory in training, MB | tokens trained on | evaluation, s |",
        ]
        lines += ["|---|---:|---:|---:|---:|"]
        for variant, cost in costs.items():
            lines.append(f"| {markdown_cell(variant)} | " + " | ".join(_cost(cost)) + " |")
    return "\n".join(lines) + "\n"


def _cost(cost: dict[str, Any]) -> Iterator[str]:
    formats: dict[str, Callable[[float], str]] = {
        "train_seconds": lambda v: f"{v:.1f}",
        "train_peak_memory_bytes": lambda v: f"{v / 1e6:.0f}",
        "train_tokens": lambda v: f"{v:.0f}",
        "evaluation_seconds": lambda v: f"{v:.1f}",
    }
    for key, text in formats.items():
        value = cost.get(key)
        yield HOLE if value is None else text(value)


def rows(comparison: Comparison) -> Iterator[dict[str, Any]]:
    """One flat record per number, every metric: what CSV and JSON hold. Shares, not percent."""
    for (family, metric, variant, language), entry in comparison.entries.items():
        record: dict[str, Any] = {
            "task": family,
            "metric": metric,
            "variant": variant,
            "language": language,
            "central": language == comparison.central[family] and bool(language),
            **_interval(entry.interval, ""),
            "reference": comparison.reference if entry.difference else None,
            **_interval(entry.difference, "difference_"),
            "differs": entry.differs if entry.difference else None,
            "simulated": comparison.simulated,
        }
        yield record


def _interval(interval: Interval | None, prefix: str) -> dict[str, Any]:
    names = ("mean", "low", "high", "n")
    return {prefix + name: None if interval is None else getattr(interval, name) for name in names}


def to_csv(comparison: Comparison) -> str:
    """Every number, one a line; empty lines of a hole say `hole` in `metric` and the reason last."""
    records = list(rows(comparison))
    names = [*(records[0] if records else {"task": 0, "metric": 0, "variant": 0}), "reason"]
    records += [
        {"task": hole.task, "metric": "hole", "variant": hole.variant, "reason": hole.reason}
        for hole in comparison.holes
    ]
    return write_csv(names, records)


def to_json(comparison: Comparison) -> str:
    """Every number with how the run was made; samples are named by the folders in `run.cells`."""
    document = {
        "name": comparison.name,
        "simulated": comparison.simulated,
        "headline": headline(comparison),
        "reference": comparison.reference,
        "variants": comparison.variants,
        "languages": comparison.languages,
        "central": comparison.central,
        "rows": list(rows(comparison)),
        "false_off_target_floor": _floor(comparison),
        "holes": [asdict(hole) for hole in comparison.holes],
        "notes": comparison.notes,
        "run": comparison.run,
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _floor(comparison: Comparison) -> dict[str, float]:
    from lens_eval.language.calibrate import measured_floor

    wanted = {code for languages in comparison.languages.values() for code in languages}
    return {code: floor.mean for code, floor in measured_floor().items() if code in wanted}


def to_latex(comparison: Comparison) -> str:
    """One booktabs table per task family and metric; needs `\\usepackage{booktabs}`."""
    parts = []
    for family, metric in _tables(comparison):
        own = columns(comparison, family)
        simulated = " Simulated." if comparison.simulated else ""
        parts += [
            r"\begin{table}",
            r"\centering\small",
            r"\begin{tabular}{l" + "r" * len(own) + "}",
            r"\toprule",
            " & ".join(["", *(_tex(column_name(comparison, family, c)) for c in own)]) + r" \\",
            r"\midrule",
            *(_latex_row(comparison, family, metric, variant, own) for variant in comparison.variants),
            *_latex_floor(floor_cells(comparison, family, metric, own)),
            r"\bottomrule",
            r"\end{tabular}",
            rf"\caption{{{_tex(family)}: {_tex(label(metric))}, \%, with 95\% intervals clustered by item"
            rf" ({_tex(size_line(comparison, family))}).{simulated}}}",
            rf"\label{{tab:{re.sub('[^A-Za-z0-9.]+', '-', f'{family}-{metric}')}}}",
            r"\end{table}",
            "",
        ]
    return "\n".join(parts)


def _latex_row(comparison: Comparison, family: str, metric: str, variant: str, own: Sequence[str]) -> str:
    found = []
    for language in own:
        entry = comparison.get(family, metric, variant, language)
        if entry is None:
            found.append("--")
            continue
        i = entry.interval
        mark = r"\textsuperscript{*}" if entry.differs else ""
        found.append(rf"{percent(i.mean)}{mark} {{\tiny {bounds(i)}}}")
    return " & ".join([_tex(variant), *found]) + r" \\"


def _latex_floor(cells: list[str]) -> list[str]:
    return (
        [r"\midrule", " & ".join([FLOOR, *(c.replace(HOLE, "--") for c in cells)]) + r" \\"] if cells else []
    )


_TEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{c: "\\" + c for c in "&%$#_{}"},
}


def _tex(text: str) -> str:
    return "".join(_TEX.get(c, c) for c in text if c.isprintable())


FORMATS: dict[str, tuple[str, Callable[[Comparison], str]]] = {
    "md": ("table.md", to_markdown),
    "json": ("table.json", to_json),
    "csv": ("table.csv", to_csv),
    "tex": ("table.tex", to_latex),
}


def write_all(comparison: Comparison, folder: Path) -> list[Path]:
    """Write every format into `folder`, each file in one step, and how the run was made where that is known.

    Of the same samples come the same `table.md`, `.csv` and `.tex`, byte for byte.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = {folder / name: render(comparison) for name, render in FORMATS.values()}
    if comparison.run:
        texts[folder / MADE] = to_made(comparison)
    for path, text in texts.items():
        write_text(path, text)
    return list(texts)
