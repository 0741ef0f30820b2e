"""A paper's numbers beside one's own: `lens compare RUN --paper FILE`.

The file is typed in by whoever has the paper at hand; `results/paper/README.md` documents it. This project
holds none of its numbers.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lens_eval.base.errors import UserError, did_you_mean
from lens_eval.base.reading import read_text
from lens_eval.base.separated import write_csv
from lens_eval.base.terminal import make_console
from lens_eval.results.compare import AVERAGE, Comparison, Entry

if TYPE_CHECKING:
    from rich.console import Console

COLUMNS = ("model", "variant", "task", "language", "metric", "value", "source")


@dataclass(frozen=True)
class Published:
    """One number of a paper."""

    model: str
    variant: str
    task: str
    """A task family of the comparison, e.g. `lens_xcopa_official`."""
    language: str
    """Project code, or `average`: the mean over the non-central languages."""
    metric: str
    value: float
    """Percent, as printed."""
    source: str
    """Where it stands, e.g. `Table 2`."""
    line: int
    """In the file."""


@dataclass(frozen=True)
class Pair:
    """A published number and what a run has in its place."""

    published: Published
    ours: Entry | None
    reason: str = ""
    """Why there is nothing of ours."""

    @property
    def difference(self) -> float | None:
        """Ours less theirs, points."""
        return None if self.ours is None else 100 * self.ours.interval.mean - self.published.value


def read_published(path: Path) -> list[Published]:
    """Read a CSV file of published numbers.

    Raises:
        UserError: no such file, other columns, or a value that cannot be; names the line.
    """
    if not path.exists():
        raise UserError(f"no file {path}; results/paper/README.md says what it should hold")
    try:
        reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
        head = next(reader, [])
        _check_columns(head, path)
        found = [_row(fields, reader.line_num, path) for fields in reader if any(f.strip() for f in fields)]
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not CSV ({error})") from error
    _check_twice(found, path)
    return found


def _check_columns(head: Sequence[str], path: Path) -> None:
    given = tuple(name.strip() for name in head)
    if given == COLUMNS:
        return
    unknown = [f"{name!r}{did_you_mean(name, COLUMNS)}" for name in given if name not in COLUMNS]
    missing = [name for name in COLUMNS if name not in given]
    words = [f"unknown: {', '.join(unknown)}"] if unknown else []
    words += [f"missing: {', '.join(missing)}"] if missing else []
    raise UserError(
        f"{path}, line 1: the columns are {','.join(COLUMNS)}, in this order"
        + (f" ({'; '.join(words)})" if words else "")
    )


def _row(fields: Sequence[str], line: int, path: Path) -> Published:
    where = f"{path}, line {line}"
    if len(fields) != len(COLUMNS):
        raise UserError(f"{where}: {len(fields)} fields, not {len(COLUMNS)} ({','.join(COLUMNS)})")
    values = dict(zip(COLUMNS, (field.strip() for field in fields), strict=True))
    empty = [name for name, value in values.items() if not value]
    if empty:
        raise UserError(
            f"{where}: {', '.join(empty)} is empty; every number needs all of {','.join(COLUMNS)}"
        )
    try:
        value = float(values["value"])
    except ValueError:
        raise UserError(f"{where}: value {values['value']!r} is no number; give percent, e.g. 61.2") from None
    if not 0 <= value <= 100:
        raise UserError(f"{where}: value {values['value']} is not between 0 and 100; give percent")
    return Published(
        values["model"],
        values["variant"],
        values["task"],
        _language(values["language"], where),
        values["metric"],
        value,
        values["source"],
        line,
    )


def _language(code: str, where: str) -> str:
    from lens_eval.language.languages import normalise_code

    if code == AVERAGE:
        return code
    try:
        return normalise_code(code)
    except UserError as error:
        raise UserError(f"{where}: {error}; or `{AVERAGE}`") from error


def _check_twice(found: Iterable[Published], path: Path) -> None:
    lines: dict[tuple[str, ...], int] = {}
    for row in found:
        key = (row.model, row.variant, row.task, row.language, row.metric, row.source)
        if key in lines:
            raise UserError(
                f"{path}, line {row.line}: the same number as in line {lines[key]} "
                "(model, variant, task, language, metric and source agree)"
            )
        lines[key] = row.line


def pair(comparison: Comparison, published: Iterable[Published]) -> list[Pair]:
    """Find what a comparison has in the place of each published number."""
    return [_pair(comparison, row) for row in published]


def _pair(comparison: Comparison, row: Published) -> Pair:
    model = str((comparison.run.get("recipe") or {}).get("backbone") or "")
    if model and _short(model) != _short(row.model):
        return Pair(row, None, f"another model: this run is of {_short(model)}")
    known: tuple[tuple[str, str, Sequence[str]], ...] = (
        ("task", row.task, comparison.families),
        ("variant", row.variant, comparison.variants),
        ("metric", row.metric, comparison.metrics.get(row.task, ())),
        ("language", row.language, (AVERAGE, *comparison.languages.get(row.task, ()))),
    )
    for name, value, values in known:
        if value not in values:
            return Pair(row, None, f"no {name} {value} here{did_you_mean(value, values)}")
    entry = comparison.get(row.task, row.metric, row.variant, row.language)
    return Pair(row, entry, "" if entry else "not evaluated")


def _short(model: str) -> str:
    """A hub id or path without its first part, so that `org/Model-8B` and `Model-8B` are one."""
    return model.rstrip("/").rpartition("/")[2].lower()


# --- shown -------------------------------------------------------------------------------------


def rows(pairs: Iterable[Pair]) -> list[dict[str, Any]]:
    """One flat record per published number, percent; `reason` says why there is none of ours."""
    records = []
    for each in pairs:
        ours = each.ours.interval if each.ours else None
        records.append(
            {
                **asdict(each.published),
                "ours": None if ours is None else 100 * ours.mean,
                "low": None if ours is None else 100 * ours.low,
                "high": None if ours is None else 100 * ours.high,
                "n": None if ours is None else ours.n,
                "difference": each.difference,
                "reason": each.reason,
            }
        )
    return records


def to_csv(pairs: Iterable[Pair]) -> str:
    """The records of `rows`."""
    records = rows(pairs)
    return write_csv([*COLUMNS, "line", "ours", "low", "high", "n", "difference", "reason"], records)


def to_markdown(pairs: Sequence[Pair]) -> str:
    """A table of what has a partner, and a list of what has none."""
    from lens_eval.base.plain_tables import markdown_cell

    lines = ["## Beside the paper, %", "", _legend(pairs), ""]
    partners = [each for each in pairs if each.ours]
    if partners:
        head = ["variant", "task", "language", "metric", "paper", "ours", "difference", "source"]
        lines += ["| " + " | ".join(head) + " |", "|---|---|---|---|---:|---:|---:|---|"]
        lines += ["| " + " | ".join(markdown_cell(cell) for cell in _cells(each)) + " |" for each in partners]
        lines.append("")
    lines += [f"- {markdown_cell(line)}" for line in _without(pairs)]
    return "\n".join(lines).rstrip() + "\n"


def show(pairs: Sequence[Pair], console: Console | None = None) -> None:
    """Print the table, and what has no partner."""
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    console = console or make_console()
    console.print("\n[bold]beside the paper, %[/bold]")
    partners = [each for each in pairs if each.ours]
    if partners:
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
        for name in ("variant", "task", "", "metric"):
            table.add_column(name)
        for name in ("paper", "ours", "difference"):
            table.add_column(name, justify="right")
        for each in partners:
            table.add_row(*(Text(cell) for cell in _cells(each)[:-1]))
        console.print(table)
    for line in _without(pairs):
        console.print(escape(line), style="dim")
    console.print(escape(_legend(pairs)), style="dim")


def _cells(each: Pair) -> list[str]:
    row, difference = each.published, each.difference
    assert each.ours is not None
    assert difference is not None
    i = each.ours.interval
    ours = f"{100 * i.mean:.1f} [{100 * i.low:.1f}, {100 * i.high:.1f}]"
    shown = f"{round(difference, 1) + 0.0:+.1f}"
    return [row.variant, row.task, row.language, row.metric, f"{row.value:g}", ours, shown, row.source]


def _without(pairs: Sequence[Pair]) -> list[str]:
    return [
        f"line {each.published.line}, without a partner: {each.published.variant}, {each.published.task}, "
        f"{each.published.language}, {each.published.metric}: {each.reason}"
        for each in pairs
        if each.ours is None
    ]


def _legend(pairs: Sequence[Pair]) -> str:
    partners = [each for each in pairs if each.ours]
    inside = sum(
        1
        for each in partners
        if each.ours and each.ours.interval.low <= each.published.value / 100 <= each.ours.interval.high
    )
    return (
        f"{len(partners)} of {len(pairs)} published numbers have a partner here; {inside} lie within our 95% "
        "interval, which knows nothing of the paper's own uncertainty."
    )
