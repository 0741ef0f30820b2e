"""Rows of text files: JSONL, CSV, TSV, gzip or not, or a pipe, one line at a time."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lens_eval.base.errors import UserError
from lens_eval.base.reading import Damaged, Lines, parse_json
from lens_eval.base.separated import TOO_LONG, Dialect, guess_dialect, rows_of_table
from lens_eval.language.files.response import Broken

_LOOK_AHEAD = 100


class TextRows:
    """The rows of a file, or of standard input if it is called "-", each with its line.

    In place of a row that cannot be read stands why. `ended` says, at the end, where the input broke off.

    Raises:
        UserError: the file cannot be opened, or is one JSON array.
    """

    def __init__(self, path: str, name: str, delimiter: str | None = None) -> None:
        self.name = name
        self.invalid_utf8 = 0
        """Lines read with replacement characters."""
        self.first_invalid_utf8: int | None = None
        self.ended: Broken | None = None
        self._delimiter, self._own = delimiter, path != "-"
        self._file = _open(path)
        try:
            self._lines = Lines(self._file, name)
        except Damaged as error:
            raise UserError(f"{name} {error}") from None
        suffixes = [] if path == "-" else [suffix.lower() for suffix in Path(path).suffixes]
        self._numbered = self._decode()
        first, self._numbered = _peek(self._numbered)
        self.kind = _kind(suffixes, first)
        self._dialect = Dialect("\t" if self.kind == "tsv" else ",", True)
        self._rows = self._parse_jsonl() if self.kind == "jsonl" else self._parse_table()

    @property
    def dialect(self) -> str:
        """How cells are told apart, in words; empty if there are none."""
        return "" if self.kind == "jsonl" else self._dialect.words()

    @property
    def position(self) -> int:
        """Bytes of the file that have been read."""
        return self._lines.position

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any] | str]]:
        return self._rows

    def close(self) -> None:
        """Close the file (not standard input)."""
        if self._own:
            self._file.close()

    def _decode(self) -> Iterator[tuple[int, str | None]]:
        """Number and text of each line; None in place of one that is too long to be read."""
        try:
            for number, raw in self._lines:
                yield number, None if raw is None else self._text_of(raw, number)
        except Damaged as error:
            self.ended = Broken(self.name, error.line, str(error))

    def _text_of(self, raw: bytes, number: int) -> str:
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            self.invalid_utf8 += 1
            self.first_invalid_utf8 = self.first_invalid_utf8 or number
            return raw.decode("utf-8", "replace")

    def _parse_jsonl(self) -> Iterator[tuple[int, dict[str, Any] | str]]:
        for number, line in self._numbered:
            if line is None:
                yield number, TOO_LONG
                continue
            if not line.strip():
                continue
            if number == 1 and (line.strip() == "[" or line.lstrip().startswith("[{")):
                raise UserError(
                    f"{self.name} is one JSON array; one object a line is needed: jq -c '.[]' {self.name}"
                )
            try:
                row = parse_json(line, "")
            except UserError as error:
                yield number, str(error).removeprefix(": ")
                continue
            yield number, row if isinstance(row, dict) else "a JSON value, but no object with fields"

    def _parse_table(self) -> Iterator[tuple[int, dict[str, Any] | str]]:
        ahead = list(itertools.islice(self._numbered, _LOOK_AHEAD))
        self._numbered = itertools.chain(ahead, self._numbered)
        lines = [line for _, line in ahead if line is not None]
        self._dialect = guess_dialect(lines, self.kind, self._delimiter)
        yield from rows_of_table(self._numbered, self._dialect)


def _kind(suffixes: list[str], first: str) -> str:
    for kind in ("csv", "tsv", "jsonl"):
        if f".{kind}" in suffixes:
            return kind
    start = first.lstrip()[:1]
    return "jsonl" if start in ("{", "[", "") else "tsv" if "\t" in first else "csv"


def _open(name: str) -> Any:
    if name == "-":
        return sys.stdin.buffer
    try:
        return Path(name).open("rb", buffering=0)
    except OSError as error:
        raise UserError(f"cannot read {name}: {error.strerror or error}") from error


def _peek(numbered: Iterator[tuple[int, str | None]]) -> tuple[str, Iterator[tuple[int, str | None]]]:
    first = next(numbered, None)
    return ("", iter(())) if first is None else (first[1] or "", itertools.chain([first], numbered))
