"""A finished sweep as a table: for the terminal, Markdown and CSV; and the chosen settings as a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lens_eval.base.files import write_text
from lens_eval.base.plain_tables import WHY_SIMULATED, markdown_cell
from lens_eval.base.separated import write_csv
from lens_eval.base.terminal import make_console
from lens_train.lens import RUN_SETTINGS
from lens_train.watch.dev import shown_share

if TYPE_CHECKING:
    from lens_train.sweep.rows import Outcome, Request, Row

MEASURES = {
    "off_target": "off-target",
    "undetermined": "undetermined",
    "usable": "usable",
    "loop": "loops",
    "echo": "echoes",
    "right": "right",
    "central_usable": "{central} usable",
    "central_right": "{central} right",
    "first": "{central} begins alike",
    "central_loss": "{central} loss",
}
EXPLAINED = (
    "Percent of the replies to dev prompts. off-target, undetermined, usable, loops, echoes, right: of the "
    "other languages, each counting alike; usable: on target, no loop, no echo, not empty; right: the reply "
    "holds the item's value. {central} begins alike: {central} replies that begin with the untrained model's "
    "first token. {central} loss: nats per token of the {central} prompts, read as plain text."
)


def names(outcome: Outcome) -> list[str]:
    """Names of the settings in the rows, in the order of their first appearance."""
    return list(dict.fromkeys(name for row in outcome.rows for name in row.settings))


def header(outcome: Outcome) -> list[str]:
    """Column heads."""
    central = outcome.document["about"]["central"]
    shown = [words.format(central=central) for name, words in MEASURES.items() if _measured(outcome, name)]
    return ["", *names(outcome), *shown, "seconds"]


def lines(outcome: Outcome) -> list[list[str]]:
    """Cells, the untrained model first; a stopped setting has its reason instead of measures."""
    found = [["untrained", *["" for _ in names(outcome)], *_shares(outcome, outcome.backbone)]]
    for place, row in enumerate(outcome.rows):
        mark = " *" if place == outcome.choice.chosen else ""
        settings = [_text(row.settings.get(name, "")) for name in names(outcome)]
        found.append([f"{place + 1}{mark}", *settings, *_shares(outcome, row)])
    return found


def _measured(outcome: Outcome, name: str) -> bool:
    return name in outcome.backbone.measures


def _shares(outcome: Outcome, row: Row) -> list[str]:
    shown = [name for name in MEASURES if _measured(outcome, name)]
    cells = ["stopped" if row.reason else _measure(row.measures, name) for name in shown]
    return [*cells, f"{row.seconds:.1f}"]


def _measure(measures: Mapping[str, Any], name: str) -> str:
    return f"{measures[name]:.3f}" if name == "central_loss" else shown_share(measures, name)


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {own}" for key, own in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def notes(outcome: Outcome, shown: Callable[[str], str] = str) -> list[str]:
    """Notes for the reader: the measures, the rule, the chosen setting, the stopped settings.

    `shown` makes names fit for the form of the text.
    """
    about = outcome.document["about"]
    found = [EXPLAINED.format(central=about["central"])]
    dev = shown(about["dev"]["name"])
    items = f"{about['dev']['items']} dev items ({dev}), {len(about['languages'])} languages"
    found.append(
        f"{items}; model {shown(about['model']['name'])}, weights {about['model']['weights_sha256'][:12]}."
    )
    if outcome.document["simulated"]:
        found.append(f"Simulated ({WHY_SIMULATED}).")
    found.append(outcome.choice.rule)
    found += outcome.choice.words
    if len(outcome.choice.ranking) > 1:
        found.append("Best first: " + ", ".join(str(place + 1) for place in outcome.choice.ranking) + ".")
    if outcome.choice.chosen is not None:
        found.append(
            f"Setting {outcome.choice.chosen + 1} (*) is chosen. To train it: `{outcome.document['command']}`"
        )
    found += [f"Setting {place + 1} was stopped: {row.reason}" for place, row in _stopped(outcome)]
    return found


def _stopped(outcome: Outcome) -> list[tuple[int, Row]]:
    return [(place, row) for place, row in enumerate(outcome.rows) if row.reason]


def markdown(outcome: Outcome) -> str:
    """Table and notes."""
    rows = [header(outcome), ["---"] * len(header(outcome)), *lines(outcome)]
    table = ["| " + " | ".join(markdown_cell(cell) for cell in row) + " |" for row in rows]
    return "\n".join(
        ["# Sweep", "", *table, "", *[f"- {note}" for note in notes(outcome, markdown_cell)], ""]
    )


def comma_separated(outcome: Outcome) -> str:
    """Every measure, also by language, as shares."""
    codes = outcome.document["about"]["languages"]
    measures = [name for name in MEASURES if _measured(outcome, name)]
    own = list(next(iter(outcome.backbone.measures["by_language"].values())))
    settings, terms = names(outcome), list(dict.fromkeys(name for row in outcome.rows for name in row.losses))
    columns = [*measures, *[f"{name}.{code}" for code in codes for name in own], *terms]
    head_line = ["setting", "chosen", *settings, *columns, "weights_sha256", "seconds", "reason"]
    table = []
    for place, row in [(-1, outcome.backbone), *enumerate(outcome.rows)]:
        shares = dict(row.measures)
        for code, values in shares.pop("by_language", {}).items():
            shares |= {f"{name}.{code}": value for name, value in values.items()}
        cells = [{**shares, **row.losses}.get(name, "") for name in columns]
        head = ["untrained" if place < 0 else place + 1, int(place == outcome.choice.chosen)]
        given = [_text(row.settings.get(name, "")) for name in settings]
        table.append([*head, *given, *cells, row.weights_sha256, row.seconds, row.reason])
    return write_csv(head_line, table)


def write_all(outcome: Outcome, folder: Path) -> None:
    """Write `table.md`, `table.csv` and, if matplotlib is installed, `tradeoff.png`."""
    from lens_train.sweep.plots import draw_tradeoff

    write_text(folder / "table.md", markdown(outcome))
    write_text(folder / "table.csv", comma_separated(outcome))
    draw_tradeoff(outcome, folder / "tradeoff.png")


def write_chosen(request: Request, row: Row) -> None:
    """Write `chosen.yaml`: settings for `lens train --config`."""
    from lens_eval.base import settings_files

    shared = {name: value for name, value in request.job.settings.items() if name not in RUN_SETTINGS}
    settings = {**shared, **{name: value for name, value in row.settings.items() if name != "seed"}}
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}
    write_text(request.job.output / "chosen.yaml", settings_files.write(plain))


def show(outcome: Outcome) -> None:
    """Print the notes and as much of the table as fits 80 columns."""
    from rich.markup import escape
    from rich.table import Table

    console = make_console()
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    heads, rows = header(outcome), lines(outcome)
    left_out = {"seconds", *_always_none(outcome)}
    shown = [place for place, head in enumerate(heads) if head not in left_out]
    for place in shown:
        words = heads[place].replace("_", " ").replace("-", " ")
        widest = max((len(word) for word in words.split()), default=len("untrained"))
        table.add_column(escape(words), justify="right" if place else "left", min_width=widest)
    for number, cells in enumerate(rows, -1):
        style = "bold" if number == outcome.choice.chosen else ""
        table.add_row(*[escape(cells[place]) for place in shown], style=style)
    console.print(table)
    for note in notes(outcome):
        console.print()
        console.print(escape(note), soft_wrap="lens train" in note)


def _always_none(outcome: Outcome) -> set[str]:
    """Heads of the measures that are 0 in every row; a terminal does not show them."""
    rows = [outcome.backbone, *(row for row in outcome.rows if not row.reason)]
    empty = [name for name in ("undetermined", "echo") if not any(row.measures[name] for row in rows)]
    return {MEASURES[name] for name in empty}
