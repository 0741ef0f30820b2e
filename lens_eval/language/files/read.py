"""Responses out of files: lm_eval's samples of any generation task, JSONL, CSV, TSV, gzip or not, or a
pipe.

Reads one line at a time. What cannot be read is handed on as a `Broken` line with its number, never
dropped.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lens_eval.base.errors import UserError, did_you_mean
from lens_eval.base.reading import Damaged, Lines, parse_json
from lens_eval.base.separated import TOO_LONG, Dialect, guess_dialect, rows_of_table
from lens_eval.language.languages import find_code, normalise_code

TEXT_FIELDS = ("text", "response", "completion", "output", "prediction", "generation")
LANGUAGE_FIELDS = ("language", "lang", "doc.language", "doc.lang")
PROMPT_FIELDS = ("doc.prompt", "prompt")
CUT_FIELDS = ("cut_off", "finish_reason")
"""`cut_off` is 1 or 0, as in samples of Lens tasks; a `finish_reason` of `length` is a cut, as in APIs."""
ITEM_FIELDS = ("id", "item_id", "doc_id")
SOURCE_FIELD = "source"
FILE_NAME = "the file name"
_TIMESTAMP = re.compile(r"_\d{4}-\d\d-\d\dT[\d.:-]+$")
# Codes that are also words of English: taken for a language only at the end of a file name.
_ENGLISH_WORDS = frozenset(
    {"am", "as", "be", "hi", "id", "is", "it", "la", "mo", "my", "no", "so", "st", "or", "ha", "om"}
)
_LOOK_AHEAD = 100


@dataclass(frozen=True)
class Response:
    """One response to judge. `item` names what it answers (the same in every language), None if unknown;
    `cut` says whether the token limit ended it, None if the row does not tell."""

    text: str | None
    language: str
    prompt: str | None
    item: str | None
    correct: float | None
    file: str
    line: int
    cut: bool | None = None
    source: str | None = None
    """The data set its prompt is from, in files of the Language Confusion Benchmark."""


@dataclass(frozen=True)
class Broken:
    """A line that could not be read, and why."""

    file: str
    line: int
    reason: str


@dataclass(frozen=True)
class Fields:
    """Where in a row things are: field names (dotted for nested ones). `language` may also be a code for
    all rows; None means the usual names."""

    text: str | None = None
    language: str | None = None
    prompt: str | None = None
    item: str | None = None
    correct: str | None = None


_Find = Callable[[dict[str, Any]], Any]


class Source:
    """One input: a file or "-" for standard input. Checks on opening that text and language can be found.

    Raises `UserError` if the file cannot be read or holds no responses with these fields.
    """

    def __init__(self, name: str, fields: Fields, delimiter: str | None = None) -> None:
        self.name = "standard input" if name == "-" else name
        self.invalid_utf8 = 0  # lines read with replacement characters
        self.first_invalid_utf8: int | None = None
        self.other_filters = 0
        self._delimiter = delimiter
        self._ended: Broken | None = None  # the input broke off
        self._file = _open(name)
        try:
            self._lines = Lines(self._file, self.name)
        except (OSError, EOFError) as error:
            raise UserError(f"cannot read {self.name}: {error}") from None
        self._suffixes = _suffixes(name)
        self._numbered = self._decode()
        first, rest = _peek(self._numbered)
        self._numbered = rest
        self.kind = self._find_kind(first)
        self.dialect = Dialect("\t" if self.kind == "tsv" else ",", True)
        self._rows = self._parse_jsonl() if self.kind == "jsonl" else self._parse_table(first)
        ahead = list(itertools.islice(self._rows, _LOOK_AHEAD))
        self._rows = itertools.chain(ahead, self._rows)
        rows = [row for _, row in ahead if isinstance(row, dict)]
        self._fields = fields
        self._samples = bool(rows) and "resps" in rows[0] and "doc" in rows[0]
        self._filter: Any = rows[0].get("filter") if self._samples else None
        self.family, self._file_language = _read_name(name)
        self.language_from = ""
        self._language: _Find = _nothing
        self._text: _Find = _nothing
        self._prompt: _Find = _nothing
        self._item: _Find = _nothing
        self._correct: _Find = _nothing
        self._set_up(rows)

    def __iter__(self) -> Iterator[Response | Broken]:
        for line, row in self._rows:
            if isinstance(row, str):
                yield Broken(self.name, line, row)
                continue
            if self._samples and row.get("filter", self._filter) != self._filter:
                self.other_filters += 1  # the same responses, cut by another of the task's answer filters
                continue
            try:
                yield from self._read(line, row)
            except (UserError, ValueError) as error:
                yield Broken(self.name, line, str(error))
        if self._ended:
            yield self._ended

    def position(self) -> int:
        """Return how many bytes of the file have been read."""
        return self._lines.position

    def describe(self) -> dict[str, Any]:
        """Return what was read and how: for the report."""
        return {
            "name": self.name,
            "kind": "lm_eval samples" if self._samples else self.kind,
            "language_from": self.language_from,
            "dialect": "" if self.kind == "jsonl" else self.dialect.words(),
            "invalid_utf8_lines": self.invalid_utf8,
            "other_filter_rows": self.other_filters,
        }

    def close(self) -> None:
        """Close the file (not standard input)."""
        if self.name != "standard input":
            self._file.close()

    def _read(self, line: int, row: dict[str, Any]) -> Iterator[Response]:
        language = self._language(row)
        if not isinstance(language, str) or not language.strip():
            raise ValueError(f"no language in {self.language_from}")
        code = normalise_code(language)
        prompt, item, correct = self._prompt(row), self._item(row), self._correct(row)
        if correct is not None and not isinstance(correct, (int, float)):
            raise ValueError(f"{self._fields.correct} is {correct!r}, not a number")
        name = None if item is None or item == "" else f"{self.family}:{item}"
        for text in _texts(self._text(row), self._samples):
            yield Response(
                text,
                language if code == "zh" else code,
                prompt if isinstance(prompt, str) else None,
                name,
                None if correct is None else float(correct),
                self.name,
                line,
                _cut(row),
                _source(row),
            )

    def _set_up(self, rows: list[dict[str, Any]]) -> None:
        if not rows:
            return
        first, fields = rows[0], self._fields
        if self._samples and fields.text is None:
            self._text = lambda row: row.get("resps")
        else:
            self._text = self._finder("text", fields.text, TEXT_FIELDS, first, rows)
        self._set_up_language(first, rows)
        prompts = (*PROMPT_FIELDS, "arguments.gen_args_0.arg_0") if self._samples else PROMPT_FIELDS
        self._prompt = self._optional("prompt", fields.prompt, prompts, first, rows)
        self._item = self._optional(
            "item", fields.item, ("doc_id",) if self._samples else ITEM_FIELDS, first, rows
        )
        self._correct = self._optional("correct", fields.correct, (), first, rows)

    def _set_up_language(self, first: dict[str, Any], rows: list[dict[str, Any]]) -> None:
        asked = self._fields.language
        if asked is not None and find_code(asked) is not None:
            self.language_from = "--language"
            self._language = lambda row: asked
            return
        usual = next((f for f in LANGUAGE_FIELDS if isinstance(_get(first, f), str)), None)
        if asked is None and usual is None and self._file_language is not None:
            language = self._file_language
            self.language_from = FILE_NAME
            self._language = lambda row: language
            return
        if asked is None and usual is None:
            raise UserError(
                f"{self.name}: in which language should the responses be? There is no language in the file "
                f"name, and the rows have the fields {_names(rows)}; give a field, or a code for all rows: "
                "--language sw"
            )
        self.language_from = f"field {asked or usual}"
        self._language = self._finder("language", asked, LANGUAGE_FIELDS, first, rows)

    def _finder(
        self,
        what: str,
        asked: str | None,
        usual: tuple[str, ...],
        first: dict[str, Any],
        rows: list[dict[str, Any]],
    ) -> _Find:
        field = asked or next((name for name in usual if _has(first, name)), None)
        if field is None or not any(_has(row, field) for row in rows):
            hint = did_you_mean(field, first) if field else ""
            named = f"no field {field!r}{hint}" if field else f"no field called {' or '.join(usual)}"
            raise UserError(
                f"{self.name}: {named}; the rows have the fields {_names(rows)}; "
                f"name the one that holds the {what} with --{what}"
            )

        def find(row: dict[str, Any]) -> Any:
            found, value = _look_up(row, field)
            if not found:
                raise ValueError(f"no field {field!r}")
            return value

        return find

    def _optional(
        self,
        what: str,
        asked: str | None,
        usual: tuple[str, ...],
        first: dict[str, Any],
        rows: list[dict[str, Any]],
    ) -> _Find:
        if asked is not None:
            return self._finder(what, asked, usual, first, rows)
        field = next((name for name in usual if _has(first, name)), None)
        return _nothing if field is None else lambda row: _get(row, field)

    def _decode(self) -> Iterator[tuple[int, str | None]]:
        """Number and text of each line; None in place of one that is too long to be read."""
        try:
            for number, raw in self._lines:
                yield number, None if raw is None else self._text_of(raw, number)
        except Damaged as error:
            self._ended = Broken(self.name, error.line, str(error))

    def _text_of(self, raw: bytes, number: int) -> str:
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            self.invalid_utf8 += 1
            self.first_invalid_utf8 = self.first_invalid_utf8 or number
            return raw.decode("utf-8", "replace")

    def _find_kind(self, first: str) -> str:
        for kind in ("csv", "tsv", "jsonl"):
            if f".{kind}" in self._suffixes:
                return kind
        start = first.lstrip()[:1]
        return "jsonl" if start in ("{", "[", "") else "tsv" if "\t" in first else "csv"

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

    def _parse_table(self, first: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
        ahead = list(itertools.islice(self._numbered, _LOOK_AHEAD))
        self._numbered = itertools.chain(ahead, self._numbered)
        self.dialect = guess_dialect(
            [line for _, line in ahead if line is not None], self.kind, self._delimiter
        )
        return rows_of_table(self._numbered, self.dialect)


def _cut(row: dict[str, Any]) -> bool | None:
    """Whether the token limit ended a response, where its row tells."""
    for field in CUT_FIELDS:
        found, value = _look_up(row, field)
        if found and isinstance(value, str):
            return value == "length"
        if found and isinstance(value, (bool, int, float)):
            return value >= 1
    return None


def _source(row: dict[str, Any]) -> str | None:
    """The data set a prompt is from, where its row tells."""
    _, value = _look_up(row, SOURCE_FIELD)
    return value if isinstance(value, str) and value else None


def _nothing(row: dict[str, Any]) -> Any:
    return None


def _open(name: str) -> Any:
    if name == "-":
        return sys.stdin.buffer
    path = Path(name)
    if path.is_dir():
        raise UserError(f"{name} is a folder; name its files, for instance {name}/*.jsonl")
    try:
        return path.open("rb", buffering=0)
    except OSError as error:
        raise UserError(f"cannot read {name}: {error.strerror or error}") from error


def _suffixes(name: str) -> list[str]:
    return [] if name == "-" else [suffix.lower() for suffix in Path(name).suffixes]


def _peek(numbered: Iterator[tuple[int, str | None]]) -> tuple[str, Iterator[tuple[int, str | None]]]:
    first = next(numbered, None)
    return ("", iter(())) if first is None else (first[1] or "", itertools.chain([first], numbered))


def _read_name(name: str) -> tuple[str, str | None]:
    """Return what a file name says of the task, without language and time, and its language if it has one."""
    if name == "-":
        return "", None
    stem = Path(name).name
    for suffix in (".gz", ".jsonl", ".json", ".csv", ".tsv", ".txt"):
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


def _has(row: dict[str, Any], field: str) -> bool:
    return _look_up(row, field)[0]


def _get(row: dict[str, Any], field: str) -> Any:
    return _look_up(row, field)[1]


def _look_up(row: Any, field: str) -> tuple[bool, Any]:
    if field in row:
        return True, row[field]
    for part in field.split("."):
        if not isinstance(row, dict) or part not in row:
            return False, None
        row = row[part]
    return True, row


def _names(rows: list[dict[str, Any]]) -> str:
    return ", ".join(dict.fromkeys(name for row in rows for name in row)) or "(none)"


def _texts(value: Any, samples: bool) -> list[str | None]:
    """Return the responses of a field: a string, null (empty), a list of strings, or lm_eval's `resps`."""
    if value is None or isinstance(value, str):
        return [value]
    if isinstance(value, list) and value:
        flat = [inner for each in value for inner in (each if isinstance(each, list) else [each])]
        if all(text is None or isinstance(text, str) for text in flat):
            return flat
        if samples:
            raise ValueError("log-likelihoods instead of text: a multiple-choice task generates no responses")
    raise ValueError(f"the text is no string but {type(value).__name__}")
