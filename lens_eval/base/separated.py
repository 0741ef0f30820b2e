"""Tables of separated values: CSV and TSV, with the delimiter and the meaning of quotes told or guessed.

Quotes in a TSV are guessed, since there are both kinds: spreadsheets put cells in quotes, and data sets
write a quote as a letter. If quotes were read the wrong way, a cell that begins with one would swallow the
rows behind it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lens_eval.base.errors import UserError
from lens_eval.base.reading import LONGEST_LINE, read_lines
from lens_eval.base.redaction import visible

TOO_LONG = f"longer than {LONGEST_LINE >> 20} MB"
_DELIMITERS = {"csv": ",;\t|", "tsv": "\t"}
_NAMES = {"\t": "tab", ",": "comma", ";": "semicolon", "|": "bar"}

csv.field_size_limit(LONGEST_LINE)


@dataclass(frozen=True)
class Dialect:
    """How cells are told apart."""

    delimiter: str
    quotes: bool
    """Whether a cell can stand in quotes; else a quote is a letter like others."""

    def words(self) -> str:
        """The dialect for a report."""
        delimiter = _NAMES.get(self.delimiter, self.delimiter)
        return f"{delimiter}, {'cells may be in quotes' if self.quotes else 'quotes are text'}"


def guess_dialect(lines: Sequence[str], kind: str, delimiter: str | None = None) -> Dialect:
    """The dialect of a table by its first lines, the header first.

    The delimiter is the one that is most frequent in the header, the usual one of the kind where two are.
    Cells are in quotes in CSV, and in TSV if fewer rows are broken that way, or as few and cells are quoted.

    Args:
        kind: `csv` or `tsv`.
        delimiter: the user's, if any.
    """
    header = lines[0] if lines else ""
    if delimiter is None:
        delimiter = max(_DELIMITERS[kind], key=lambda sign: header.count(sign))
    if kind == "csv":
        return Dialect(delimiter, True)
    if not any('"' in line for line in lines):
        return Dialect(delimiter, False)
    whole = any(
        len(cell) > 1 and cell[0] == cell[-1] == '"'
        for line in lines
        for cell in line.rstrip("\r\n").split("\t")
    )
    broken = {quotes: _broken(lines, Dialect(delimiter, quotes)) for quotes in (True, False)}
    return Dialect(delimiter, broken[True] < broken[False] or (whole and broken[True] == broken[False]))


def _broken(lines: Sequence[str], dialect: Dialect) -> int:
    """Lines that are in no row of the header's length: those of a row over several lines count as broken too,
    if the row is not closed."""
    numbered = list(enumerate(lines, start=1))
    return sum(isinstance(row, str) for _, row in rows_of_table(iter(numbered), dialect))


def rows_of_table(
    numbered: Iterator[tuple[int, str | None]], dialect: Dialect
) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """The rows under a header, with the line each begins on; why it cannot be read in place of a row.

    Args:
        numbered: number and text of each line; None for a line that is too long.
    """
    lines = _Feed(numbered)
    reader = _reader(lines, dialect)
    header: list[str] | None = None
    while True:
        lines.begin()
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield lines.first, f"not CSV: {error}" if str(error) != "TOO_LONG" else TOO_LONG
            if lines.ended:
                return
            # The reader is in the middle of a cell: another begins with the next line.
            reader = _reader(lines, dialect)
            continue
        if cells is None:
            return
        if header is None:
            header = cells
            if len(set(header)) < len(header):
                raise UserError(f"two columns have one name: {', '.join(header)[:200]}")
        elif cells and len(cells) != len(header):
            yield lines.first, f"{len(cells)} fields where the header has {len(header)}"
        elif cells:
            yield lines.first, dict(zip(header, cells, strict=True))


def _reader(lines: Iterator[str], dialect: Dialect) -> Iterator[list[str]]:
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if dialect.quotes else csv.QUOTE_NONE
    return csv.reader(lines, delimiter=dialect.delimiter, quoting=quoting, strict=True)


class _Feed:
    """Lines for `csv.reader`, which asks for as many as a row has; a row over too many is refused."""

    def __init__(self, numbered: Iterator[tuple[int, str | None]]) -> None:
        self._numbered, self._size = numbered, 0
        self.first, self.ended = 0, False

    def begin(self) -> None:
        self._size, self.first = 0, 0

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        found = next(self._numbered, None)
        if found is None:
            self.ended = True
            raise StopIteration
        number, line = found
        self.first = self.first or number
        self._size += len(line or "")
        if line is None or self._size > LONGEST_LINE:
            raise csv.Error("TOO_LONG")
        return line.replace("\0", "")


def read_table(path: Path, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a CSV or TSV file with their places.

    Raises:
        UserError: a row that cannot be read; names the line.
    """
    lines = [line + "\n" for _, line in read_lines(path)]
    numbered: Iterator[tuple[int, str | None]] = iter(list(enumerate(lines, start=1)))
    for number, row in rows_of_table(numbered, guess_dialect(lines, kind)):
        if isinstance(row, str):
            raise UserError(f"{path}, line {number}: {row}")
        yield f"{path}, line {number}", row


def write_csv(header: Sequence[str], rows: Iterable[Mapping[str, Any] | Sequence[Any]]) -> str:
    """Rows as CSV. Text that a spreadsheet would take for a formula is marked as text by an apostrophe;
    control characters are written as escapes.

    Args:
        rows: by name, or in the order of the header.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([_cell(name) for name in header])
    for row in rows:
        cells = [row.get(name, "") for name in header] if isinstance(row, Mapping) else row
        writer.writerow([_cell(cell) for cell in cells])
    return out.getvalue()


def _cell(value: Any) -> Any:
    value = visible(value) if isinstance(value, str) else value
    formula = isinstance(value, str) and value[:1] in tuple("=+-@\t\r")
    return "'" + value if formula and not _is_number(value) else value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
