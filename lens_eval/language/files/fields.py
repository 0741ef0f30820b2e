"""Where in a row things are: the text, the language asked for, the prompt, the item, whether it is right."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lens_eval.base.errors import UserError, did_you_mean
from lens_eval.language.files.replies import cut_by, failure, prompt_of, replies_of
from lens_eval.language.files.response import Broken, Response
from lens_eval.language.languages import find_code, normalise_code

TEXT_FIELDS = ("text", "response", "completion", "output", "prediction", "generation")
TALK_FIELDS = ("choices", "message", "messages", "conversations")
"""Read as replies where no field of `TEXT_FIELDS` holds one."""
LANGUAGE_FIELDS = (
    "language",
    "lang",
    "doc.language",
    "doc.lang",
    "metadata.language",
    "request.metadata.language",
    "request.body.metadata.language",
    "response.metadata.language",
    "response.body.metadata.language",
)
PROMPT_FIELDS = ("doc.prompt", "prompt", "request", "messages", "conversations")
SAMPLE_PROMPT = "arguments.gen_args_0.arg_0"
SOURCE_FIELD = "source"
CUT_FIELDS = ("cut_off", "finish_reason")
"""`cut_off` is 1 or 0, as in samples of Lens tasks; a `finish_reason` of `length` is a cut, as in APIs."""
ITEM_FIELDS = ("id", "item_id", "doc_id")
FILE_NAME = "the file name"


@dataclass(frozen=True)
class Fields:
    """Where in a row things are: field names, dotted for what lies deeper (`choices.0.message.content`).
    `language` may also be a code for all rows; None means the usual names."""

    text: str | None = None
    language: str | None = None
    prompt: str | None = None
    item: str | None = None
    correct: str | None = None


Row = dict[str, Any]
_Find = Callable[[Row], Any]


class RowReader:
    """Reads rows of one input, whose fields it finds in the first of them.

    Args:
        name: of the input, for messages.
        file_language: the language that the file's name says, if any.
        rows: the first rows; the fields are looked for in them. Without rows nothing is looked for.
        family: what `item` belongs to, so that items of two tasks stay apart.

    Raises:
        UserError: no text or no language is found.
    """

    def __init__(
        self, name: str, fields: Fields, rows: Sequence[Row], family: str, file_language: str | None
    ) -> None:
        self.name, self.family, self._fields = name, family, fields
        self.samples = bool(rows) and "resps" in rows[0] and "doc" in rows[0]
        self.language_from = ""
        self._language: _Find = _nothing
        self._text: _Find = _nothing
        self._prompt: _Find = _nothing
        self._item: _Find = _nothing
        self._correct: _Find = _nothing
        self._cut_fields: tuple[str, ...] = CUT_FIELDS
        if rows:
            self._set_up(rows, file_language)

    def read(self, line: int, row: Row) -> Iterator[Response]:
        """The responses of a row.

        Raises:
            UserError, ValueError: it cannot be read; says why.
        """
        language = self._language(row)
        if not isinstance(language, str) or not language.strip():
            raise ValueError(f"no language in {self.language_from}")
        code = normalise_code(language)
        item, correct = self._item(row), self._number(row)
        prompt = prompt_of(self._prompt(row))
        source = get(row, SOURCE_FIELD)
        cut = next((c for f in self._cut_fields if (c := cut_by(get(row, f))) is not None), None)
        for reply in replies_of(self._reply(row), self.samples):
            yield Response(
                reply.text,
                language if code == "zh" else code,
                prompt,
                None if _missing(item) else f"{self.family}:{item}",
                correct,
                self.name,
                line,
                cut if reply.cut is None else reply.cut,
                source if isinstance(source, str) and source else None,
            )

    def _number(self, row: Row) -> float | None:
        value = self._correct(row)
        if value is not None and not isinstance(value, (int, float)):
            raise ValueError(f"{self._fields.correct} is {value!r}, not a number")
        return None if value is None or _missing(value) else float(value)

    def read_or_say(self, line: int, row: Row) -> Iterator[Response | Broken]:
        """The responses of a row, or why it cannot be read."""
        try:
            yield from self.read(line, row)
        except (UserError, ValueError) as error:
            yield Broken(self.name, line, str(error))

    def _reply(self, row: Row) -> Any:
        failed = row.get("error")
        if failed and self._fields.text != "error":
            try:
                value = self._text(row)
            except ValueError:
                value = None
            if value is None:
                raise ValueError(f"the request failed: {failure(failed)}")
            return value
        return self._text(row)

    def _set_up(self, rows: Sequence[Row], file_language: str | None) -> None:
        fields, first = self._fields, rows[0]
        text = fields.text or ("resps" if self.samples else _usual_text(rows))
        self._text = self._finder("text", text, TEXT_FIELDS, rows)
        if self.samples and fields.text is None:
            _require_text(self.name, rows)
        # Beside `choices.0.message.content`, a choice says why it ended: `choices.0.finish_reason`.
        parts = (text or "").split(".")
        above = [".".join([*parts[:end], "finish_reason"]) for end in range(len(parts) - 1, 0, -1)]
        self._cut_fields = (*above, *CUT_FIELDS)
        self._set_up_language(rows, file_language)
        prompts = (*PROMPT_FIELDS, SAMPLE_PROMPT) if self.samples else PROMPT_FIELDS
        self._prompt = self._optional("prompt", fields.prompt, prompts, rows)
        items = ("doc_id",) if self.samples else ITEM_FIELDS
        self._item = self._optional("item", fields.item, items, rows)
        if fields.item is None and not self.samples and "custom_id" in first:
            self._item = lambda row: row.get("custom_id")  # a batch's `id` is its own in every line
        self._correct = self._optional("correct", fields.correct, (), rows)

    def _set_up_language(self, rows: Sequence[Row], file_language: str | None) -> None:
        asked = self._fields.language
        if asked is not None and find_code(asked) is not None:
            self.language_from = "--language"
            self._language = lambda row: asked
            return
        usual = next((f for f in LANGUAGE_FIELDS if isinstance(get(rows[0], f), str)), None)
        if asked is None and usual is None and file_language is not None:
            self.language_from = FILE_NAME
            self._language = lambda row: file_language
            return
        if asked is None and usual is None:
            raise UserError(
                f"{self.name}: in which language should the responses be? There is no language in the file "
                f"name, and the rows have the fields {_names(rows)}; give a field, or a code for all rows: "
                "--language sw"
            )
        self.language_from = f"field {asked or usual}"
        self._language = self._finder("language", asked or usual, LANGUAGE_FIELDS, rows)

    def _finder(self, what: str, field: str | None, usual: tuple[str, ...], rows: Sequence[Row]) -> _Find:
        if field is None or not any(has(row, field) for row in rows):
            hint = did_you_mean(field, rows[0]) if field else ""
            named = f"no field {field!r}{hint}" if field else f"no field called {' or '.join(usual)}"
            raise UserError(
                f"{self.name}: {named}; the rows have the fields {_names(rows)}; "
                f"name the one that holds the {what} with --{what}"
            )
        name = field

        def find(row: Row) -> Any:
            found, value = look_up(row, name)
            if not found:
                raise ValueError(f"no field {name!r}")
            return value

        return find

    def _optional(self, what: str, asked: str | None, usual: tuple[str, ...], rows: Sequence[Row]) -> _Find:
        if asked is not None:
            return self._finder(what, asked, usual, rows)
        field = next((name for name in usual if has(rows[0], name)), None)
        return _nothing if field is None else lambda row: get(row, field)


def look_up(row: Any, field: str) -> tuple[bool, Any]:
    """Whether a row has a field, and its value. Dots lead into objects, numbers into lists (-1: the last)."""
    if field in row:
        return True, row[field]
    for part in field.split("."):
        if isinstance(row, dict) and part in row:
            row = row[part]
        elif isinstance(row, list) and _is_place(part) and -len(row) <= int(part) < len(row):
            row = row[int(part)]
        else:
            return False, None
    return True, row


def has(row: Row, field: str) -> bool:
    """Whether a row has a field; see `look_up`."""
    return look_up(row, field)[0]


def get(row: Row, field: str) -> Any:
    """The value of a field, None if there is none; see `look_up`."""
    return look_up(row, field)[1]


def _usual_text(rows: Sequence[Row]) -> str | None:
    """The first usual field in which a row has a reply, else the first that is there."""
    for field in (*TEXT_FIELDS, *TALK_FIELDS):
        for row in rows:
            if field in TALK_FIELDS and isinstance(row.get(field), str):
                continue  # `message` of a log, which is no reply
            try:
                if any(reply.text is not None for reply in replies_of(row.get(field))):
                    return field
            except ValueError:
                continue
    there = (*TEXT_FIELDS, *(f for f in TALK_FIELDS if not isinstance(rows[0].get(f), str)))
    return next((field for field in there if field in rows[0]), None)


def _require_text(name: str, rows: Sequence[Row]) -> None:
    """Refuse samples of a task that is answered by likelihoods.

    Raises:
        UserError: none of the rows holds a text.
    """
    reasons = []
    for row in rows:
        try:
            replies_of(row.get("resps"), samples=True)
            return
        except ValueError as error:
            reasons.append(str(error))
    raise UserError(f"{name}: {reasons[0]}")


def _is_place(part: str) -> bool:
    digits = part.removeprefix("-")
    return digits.isascii() and digits.isdecimal() and len(digits) < 9


def _missing(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and value != value)


def _nothing(row: Row) -> Any:
    return None


def _names(rows: Sequence[Row]) -> str:
    return ", ".join(dict.fromkeys(str(name) for row in rows for name in row)) or "(none)"
