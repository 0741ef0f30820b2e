"""Responses in a table of pandas or a data set of `datasets`, judged where they are."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lens_eval.base.errors import UserError, did_you_mean
from lens_eval.language.files.fields import Fields, RowReader
from lens_eval.language.files.report import make_report, percent, render, with_interval
from lens_eval.language.files.response import Broken, Response
from lens_eval.language.files.score import Scores, Settings, count, make_scorer
from lens_eval.language.languages import DEFAULT_LANGUAGES, find_code, normalise_code
from lens_eval.language.reply_form import form_of

if TYPE_CHECKING:
    import pandas

NAME = "the table"
JUDGED = ("outcome", "answered_in", "form")
"""Columns that `FrameScores.frame` has for each row."""
_SHOWN = ("usable", "off_target", "undetermined", "loop", "echo")


@dataclass(frozen=True, repr=False)
class FrameScores:
    """What `score_frame` found. A notebook shows it as a table, `print` as Markdown."""

    report: dict[str, Any]
    """As `lens score --format json` writes it: `overall` and `languages` have the rates and intervals."""
    frame: pandas.DataFrame
    """`outcome`, `answered_in` and `form` of each row, under the index of the table that was given. A row
    that could not be read has "broken" for an outcome; `report["broken"]` says why, with its number."""

    @property
    def table(self) -> pandas.DataFrame:
        """The rates by language asked for, 0 to 1, and over all."""
        import pandas

        rows = {**self.report["languages"], "overall": self.report["overall"]}
        names = list(self.report["overall"]["intervals"])
        return pandas.DataFrame(
            {
                code: {"n": rates["n"], **{name: rates.get(name) for name in names}}
                for code, rates in rows.items()
            }
        ).T.astype({"n": int})

    def __repr__(self) -> str:
        return render(self.report, "md")

    def _repr_html_(self) -> str:
        rows = {**self.report["languages"], "overall": self.report["overall"]}
        head = ["language", "n", *(f"{name.replace('_', '-')} %" for name in _SHOWN)]
        cells = [
            [code, str(rates["n"]), *(_cell(rates, name) for name in _SHOWN)] for code, rates in rows.items()
        ]
        body = "".join(f"<tr>{_row('td', row)}</tr>" for row in cells)
        notes = [f"95% intervals in brackets; detector {self.report['detector']['name']}."]
        if self.report["broken_lines"]:
            first = self.report["broken"][0]
            notes.append(
                f"{self.report['broken_lines']} rows could not be read and are in no rate; "
                f"row {first['line']}: {first['reason']}."
            )
        table = f"<table><thead><tr>{_row('th', head)}</tr></thead><tbody>{body}</tbody></table>"
        return table + "".join(f"<p>{html.escape(note)}</p>" for note in notes)


def score_frame(
    table: Any,
    text: str | None = None,
    language: str | None = None,
    *,
    prompt: str | None = None,
    item: str | None = None,
    correct: str | None = None,
    central: str = "en",
    candidates: Iterable[str] | None = None,
    detector: str = "lingua",
) -> FrameScores:
    """Judge the responses of a table: the rates of `lens score`, and a verdict for every row.

    A cell of `text` is a string, a list of chat messages (the assistant's last one counts) or what a chat API
    answered. A missing one counts as an empty response; a row without a language is in no rate.

    Args:
        table: a `pandas.DataFrame` or a `datasets.Dataset`.
        text: the column of the responses; by default a usual name (`text`, `response`, `messages` ...).
        language: the column of the language asked for, or one code for all rows; by default `language`.
        prompt: the column of the prompts: names in them are set aside, and a copy of one is an echo.
        item: the column that names the item answered, for intervals clustered by item.
        correct: the column that is 1 for a correct response.
        central: the central language.
        candidates: languages that the detector chooses among; by default twelve.
        detector: as in `judge_texts`.

    Raises:
        UserError: no such column, no response that can be read, or a cell with several responses.
    """
    columns, index = _columns(table)
    named = {"text": text, "language": language, "prompt": prompt, "item": item, "correct": correct}
    for what, column in named.items():
        if column is not None and column not in columns and not (what == "language" and find_code(column)):
            raise UserError(
                f"the table has no column {column!r}{did_you_mean(column, columns)} for {what}; "
                f"it has {', '.join(columns)}"
            )
    codes = DEFAULT_LANGUAGES if candidates is None else tuple(map(normalise_code, candidates))
    scores = Scores(Settings(central, codes, detector))
    rows = list(_rows(table))
    reader = RowReader(NAME, Fields(text, language, prompt, item, correct), rows, "", None)
    judged: list[tuple[str, str | None, str | None]] = [("broken", None, None)] * len(rows)

    def keep(response: Response, outcome: str, answered_in: str) -> None:
        judged[response.line - 1] = (outcome, answered_in, form_of(response.text, response.prompt).name)

    count(_responses(reader, rows, scores), make_scorer(scores.settings), scores, on_verdict=keep)
    if not scores.languages:
        why = f"; row {scores.broken[0].line}: {scores.broken[0].reason}" if scores.broken else ""
        raise UserError(f"no response of the table could be scored{why}")
    return FrameScores(make_report(scores), _frame(judged, index))


def _responses(reader: RowReader, rows: Sequence[dict[str, Any]], scores: Scores) -> Iterator[Response]:
    for number, row in enumerate(rows, start=1):
        found = list(reader.read_or_say(number, row))
        if len(found) > 1:
            raise UserError(
                f"row {number} of the table holds {len(found)} responses; give each a row of its own: "
                "table.explode(column)"
            )
        for each in found:
            if isinstance(each, Broken):
                scores.add_broken(each, strict=False)
            else:
                yield each


def _columns(table: Any) -> tuple[list[str], Any]:
    """The names of the columns, and the index of the rows (None: their numbers)."""
    if hasattr(table, "iterrows"):
        return [str(name) for name in table.columns], table.index
    names = getattr(table, "column_names", None)
    if isinstance(names, dict):
        raise UserError(f"this is a dict of data sets; give one of them: {', '.join(names)}")
    if names is None:
        raise UserError(
            f"a pandas.DataFrame or a datasets.Dataset is needed, not {type(table).__name__}; "
            "pandas.DataFrame(rows) makes one"
        )
    return list(names), None


def _rows(table: Any) -> Iterator[dict[str, Any]]:
    if not hasattr(table, "iterrows"):
        yield from map(dict, table)
        return
    columns = [str(name) for name in table.columns]
    plain = table.astype(object).where(table.notna(), None)
    for values in plain.itertuples(index=False, name=None):
        yield {name: _plain(value) for name, value in zip(columns, values, strict=True)}


def _plain(value: Any) -> Any:
    """A cell as JSON would have it: numbers and lists of Python instead of numpy's."""
    return value.tolist() if type(value).__module__ == "numpy" else value


def _frame(judged: Sequence[tuple[Any, ...]], index: Any) -> pandas.DataFrame:
    import pandas

    return pandas.DataFrame(list(judged), columns=list(JUDGED), index=index)


def _cell(rates: dict[str, Any], name: str) -> str:
    return with_interval(rates, name) if name in ("usable", "off_target") else percent(rates.get(name))


def _row(tag: str, cells: Sequence[str]) -> str:
    return "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)
