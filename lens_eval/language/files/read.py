"""Responses out of files: lm_eval's samples of any generation task, logs of chat APIs, JSONL, CSV, TSV, gzip
or not, Parquet, Arrow, or a pipe.

Reads one row at a time. What cannot be read is handed on as a `Broken` line with its number, never dropped.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lens_eval.language.files.column_rows import ENDINGS, ColumnRows
from lens_eval.language.files.fields import Fields, RowReader
from lens_eval.language.files.requests import Requests
from lens_eval.language.files.response import Broken, Response
from lens_eval.language.files.text_rows import TextRows
from lens_eval.language.languages import find_code

_TIMESTAMP = re.compile(r"_\d{4}-\d\d-\d\dT[\d.:-]+$")
# Codes that are also words of English: taken for a language only at the end of a file name.
_ENGLISH_WORDS = frozenset(
    {"am", "as", "be", "hi", "id", "is", "it", "la", "mo", "my", "no", "so", "st", "or", "ha", "om"}
)
_LOOK_AHEAD = 100


class Source:
    """One input: a file or "-" for standard input. Checks on opening that text and language can be found.

    With `requests`, every row also holds its request, under `request`.

    Raises `UserError` if the file cannot be read or holds no responses with these fields.
    """

    def __init__(
        self, name: str, fields: Fields, delimiter: str | None = None, requests: Requests | None = None
    ) -> None:
        self.name = "standard input" if name == "-" else name
        self.other_filters = 0
        columns = Path(name).suffix.lower() in ENDINGS
        self._input = ColumnRows(name, self.name) if columns else TextRows(name, self.name, delimiter)
        rows = iter(self._input) if requests is None else _joined(self._input, requests)
        ahead = list(itertools.islice(rows, _LOOK_AHEAD))
        self._rows = itertools.chain(ahead, rows)
        first = [row for _, row in ahead if isinstance(row, dict)]
        self.reader = RowReader(self.name, fields, first, *_read_name(name))
        self._filter: Any = first[0].get("filter") if self.reader.samples else None

    def __iter__(self) -> Iterator[Response | Broken]:
        for line, row in self._rows:
            if isinstance(row, str):
                yield Broken(self.name, line, row)
                continue
            if self.reader.samples and row.get("filter", self._filter) != self._filter:
                self.other_filters += 1  # the same responses, cut by another of the task's answer filters
                continue
            yield from self.reader.read_or_say(line, row)
        if self._input.ended:
            yield self._input.ended

    @property
    def first_invalid_utf8(self) -> int | None:
        """The first line that was read with replacement characters, None if none was."""
        return self._input.first_invalid_utf8

    def position(self) -> int:
        """Return how many bytes of the file have been read."""
        return self._input.position

    def describe(self) -> dict[str, Any]:
        """Return what was read and how: for the report."""
        return {
            "name": self.name,
            "kind": "lm_eval samples" if self.reader.samples else self._input.kind,
            "language_from": self.reader.language_from,
            "dialect": self._input.dialect,
            "invalid_utf8_lines": self._input.invalid_utf8,
            "other_filter_rows": self.other_filters,
        }

    def close(self) -> None:
        """Close the file (not standard input)."""
        self._input.close()


def _joined(
    rows: Iterable[tuple[int, dict[str, Any] | str]], requests: Requests
) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Rows with their requests; in place of a row whose request is not found stands why."""
    for line, row in rows:
        try:
            yield line, row if isinstance(row, str) else requests.join(row)
        except ValueError as error:
            yield line, str(error)


def _read_name(name: str) -> tuple[str, str | None]:
    """Return what a file name says of the task, without language and time, and its language if it has one."""
    if name == "-":
        return "", None
    stem = Path(name).name
    for suffix in (".gz", ".jsonl", ".json", ".csv", ".tsv", ".txt", *ENDINGS):
        stem = stem.removesuffix(suffix)
    stem = _TIMESTAMP.sub("", stem)
    if find_code(stem) and len(re.split(r"[_-]", stem)[0]) <= 3:
        return "", stem
    parts = re.split(r"[_.\s-]+", stem)
    for place in range(len(parts) - 1, -1, -1):
        ambiguous = parts[place].lower() in _ENGLISH_WORDS and place < len(parts) - 1
        if len(parts[place]) in (2, 3) and not ambiguous and find_code(parts[place]):
            return "_".join(parts[:place] + parts[place + 1 :]), parts[place]
    return stem, None
