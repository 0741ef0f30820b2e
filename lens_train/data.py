"""Read parallel prompts from files, and turn prompts into token ids; the chat template is applied once.

File layouts (one item = the same prompt in every language):

- JSON lines `{"prompt": {"en": "...", "zh": "..."}}`, or flat `{"prompt.en": ..., "prompt.zh": ...}`;
- the Lens release: JSON lines `{"en": ..., "zh": ...}`, and JSON `{"Instances": [{"input_en": ..., ...}]}`;
- a JSON list of any of these rows;
- a folder with one file per language, `en.jsonl` or `en.txt`, parallel line by line;
- a folder that holds one of the files above as `train.json`, `train.jsonl` or `test.jsonl`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lens_eval.base import reading
from lens_eval.base.errors import UserError
from lens_eval.base.templates import rendered
from lens_eval.language.languages import find_code

TEXT_KEYS = ("prompt", "instruction", "input", "inputs", "question", "text")
"""Keys that can hold the prompt in a row of a one-language file; the first key found counts."""


@dataclass(frozen=True)
class Row:
    """One item of a file, and its file and line (for messages)."""

    where: str
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class ParallelPrompts:
    """Prompts of `n` items in several languages."""

    texts: Mapping[str, tuple[str, ...]]
    """Language -> n prompts; prompt i of every language belongs to item i."""
    name: str
    sha256: str
    """Hash of the prompts used."""

    def __len__(self) -> int:
        return len(next(iter(self.texts.values())))

    @staticmethod
    def make(texts: Mapping[str, tuple[str, ...]], name: str) -> ParallelPrompts:
        """Make prompts and the hash of their texts."""
        digest = hashlib.sha256(json.dumps(texts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
        return ParallelPrompts(texts, name, digest)

    def part(self, first: int, end: int | None = None) -> ParallelPrompts:
        """The items `first` to `end` - 1, counted from 0."""
        return self.make({code: texts[first:end] for code, texts in self.texts.items()}, self.name)


def read_prompts(path: Path, languages: Sequence[str], limit: int | None = None) -> ParallelPrompts:
    """Read the prompts of the first `limit` items in `languages`.

    Raises:
        UserError: the file is missing, has no known layout, lacks a language, or holds an empty prompt
            or unequal counts; the message names file and line.
    """
    path = Path(path)
    columns = _language_files(path, languages)
    if columns:
        texts = _read_columns(columns, limit)
    else:
        rows = read_rows(path)[:limit]
        texts = {code: tuple(_prompt(row, code) for row in rows) for code in languages}
    return ParallelPrompts.make(texts, path.name)


def read_rows(path: Path) -> list[Row]:
    """Read all rows of one file of parallel items; rows may hold more than prompts.

    Raises:
        UserError: a missing, empty or unreadable file.
    """
    path = _data_file(Path(path))
    rows = list(_json_rows(path) if path.suffix == ".json" else _json_lines(path))
    if not rows:
        raise UserError(f"{path} holds no items")
    return rows


def lookup(fields: Mapping[str, Any], language: str, names: Iterable[str]) -> Any:
    """The value of `name[language]`, `name.language` or `name_language`; None if there is none."""
    for name in names:
        nested = fields.get(name)
        if isinstance(nested, Mapping):
            value = _by_language(nested, language)
            if value is not None:
                return value
        for separator in "._":
            prefix = name + separator
            flat = {key[len(prefix) :]: value for key, value in fields.items() if key.startswith(prefix)}
            value = _by_language(flat, language)
            if value is not None:
                return value
    return None


def _by_language(fields: Mapping[str, Any], language: str) -> Any:
    if language in fields:
        return fields[language]
    return next((value for key, value in fields.items() if find_code(key) == language), None)


def _prompt(row: Row, language: str) -> str:
    text = lookup(row.fields, language, ("prompt", "input"))
    if text is None:
        text = _by_language(row.fields, language)
    refuse_item_name(row, language, text)
    if text is None:
        raise UserError(
            f"{row.where}: no prompt in {language!r}; the item holds: {', '.join(_columns(row.fields))}. "
            "Leave the language out with --languages, or add its prompts"
        )
    if not isinstance(text, str) or not text.strip():
        raise UserError(
            f"{row.where}: the prompt in {language!r} is empty; give it a text or remove the item"
        )
    return text


_USUAL_COLUMNS = ("id", "no")
"""Names of languages (Indonesian, Norwegian) and, as often, of the column that numbers the items."""
_NUMBERED = re.compile(r"[^\W\d_]+[ .#:]*\d+|\d+[ .)]*[^\W\d_]+")
"""A word and a number: `item 3`, `Q. 17`."""


def refuse_item_name(row: Row, language: str, text: Any) -> None:
    """Refuse the number or name of an item in the place of a text in Indonesian (`id`) or Norwegian (`no`).

    Raises:
        UserError: naming row and field; a text by language, `{"prompt": {"id": ...}}`, is always taken.
    """
    if language not in map(find_code, _USUAL_COLUMNS) or not _names_an_item(text):
        return
    fields = [
        name
        for name, value in row.fields.items()
        if value == text and _ending(name) in _USUAL_COLUMNS and find_code(_ending(name)) == language
    ]
    if fields and not any("." in name for name in fields):
        raise UserError(
            f"{row.where}: the field {fields[0]!r} holds {text!r}, which names the item and is no "
            f'text in that language; write the texts as {{"prompt": {{"en": ..., "{language}": ...}}}}'
        )


def _ending(field: str) -> str:
    return field.rpartition("_")[2]


def _names_an_item(text: Any) -> bool:
    """Whether this is a number, one word with signs in it that no word has, or a word and a number."""
    if isinstance(text, int | float):
        return True
    if not isinstance(text, str):
        return False
    if _NUMBERED.fullmatch(text.strip()):
        return True
    return len(text.split()) == 1 and any(sign.isdigit() or sign in "-_:/#" for sign in text)


def _columns(fields: Mapping[str, Any]) -> list[str]:
    nested = fields.get("prompt")
    return (
        [f"prompt.{key}" for key in nested] if isinstance(nested, Mapping) else [str(key) for key in fields]
    )


def _data_file(path: Path) -> Path:
    if path.is_dir():
        for name in ("train.json", "train.jsonl", "test.jsonl"):
            if (path / name).is_file():
                return path / name
        raise UserError(
            f"the folder {path} holds no train.json(l), no test.jsonl and no file per language (en.jsonl)"
        )
    if not path.exists():
        raise UserError(f"no parallel data at {path}: give a file or folder of parallel prompts")
    reading.require_file(path, "parallel data")
    return path


def _json_lines(path: Path) -> Iterator[Row]:
    for where, line in reading.read_lines(path):
        if line.strip():
            yield _row(where, reading.parse_json(line, where))


def _json_rows(path: Path) -> Iterator[Row]:
    content = reading.read_json(path)
    if isinstance(content, Mapping) and "Instances" in content:
        content = content["Instances"]
    if not isinstance(content, list):
        raise UserError(f'{path} is not a list of items and has no "Instances"')
    for number, fields in enumerate(content, 1):
        where = f"{path}, item {number}"
        yield _row(where, fields)


def _row(where: str, fields: Any) -> Row:
    if not isinstance(fields, Mapping):
        raise UserError(f"{where}: an item must be an object, found {type(fields).__name__}")
    return Row(where, fields)


def _language_files(path: Path, languages: Sequence[str]) -> dict[str, Path]:
    """Language -> file, for a folder with one file per language; empty if `path` is no such folder."""
    if not path.is_dir():
        return {}
    by_code = {
        find_code(file.stem): file for file in sorted(path.iterdir()) if file.suffix in (".jsonl", ".txt")
    }
    found = {code: by_code[code] for code in languages if code in by_code}
    missing = [code for code in languages if code not in by_code]
    if found and missing:
        raise UserError(
            f"{path} has no file for {', '.join(missing)}; it has: {', '.join(filter(None, by_code))}"
        )
    return found


def _read_columns(files: Mapping[str, Path], limit: int | None) -> dict[str, tuple[str, ...]]:
    texts = {code: tuple(_column(file)) for code, file in files.items()}
    counts = {code: len(column) for code, column in texts.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{files[code]}: {count}" for code, count in counts.items())
        raise UserError(f"the files are not parallel: they hold unequal numbers of prompts ({listed})")
    return {code: column[:limit] for code, column in texts.items()}


def _column(file: Path) -> Iterator[str]:
    for where, line in reading.read_lines(file):
        text: Any = line
        if file.suffix == ".jsonl":
            fields = _row(where, reading.parse_json(line, where)).fields
            text = next((fields[key] for key in TEXT_KEYS if key in fields), None)
        if not isinstance(text, str) or not text.strip():
            raise UserError(f"{where}: the prompt is empty or missing")
        yield text


@dataclass(frozen=True)
class Renderer:
    """Turns texts into token ids, in the same way for probing and for training.

    By default a text is stripped and cut *before* templating, so every prompt ends where a reply begins.
    With `cut_after` (as released) the templated prompt is cut, often in mid-sentence.
    """

    tokenizer: Any
    template: Literal["chat", "plain"]
    system_prompt: str | None
    cut_after: bool = False
    template_args: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Try the template once.

        Raises:
            UserError: there is no chat template, or it refuses the system message.
        """
        if self.template == "chat" and not self.tokenizer.chat_template:
            raise UserError(
                f"{self.tokenizer.name_or_path} has no chat template. For a base model set `template: plain` "
                "(--template plain) or put a chat_template.jinja into its folder; else use the chat model"
            )
        self._frame("x")

    def __call__(self, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
        """Render `texts`; each text is cut to at most `max_tokens` tokens.

        Returns:
            Token ids per text, without padding.
        """
        if self.cut_after:
            return [self._tokens(self._frame(text))[:max_tokens] for text in texts]
        return [self._tokens(self._frame(self._cut(text.strip(), max_tokens))) for text in texts]

    def _tokens(self, framed: str) -> list[int]:
        # A chat template writes the BOS token itself; adding special tokens would double it.
        return self.tokenizer(framed, add_special_tokens=self.template == "plain")["input_ids"]

    def _frame(self, text: str) -> str:
        if self.template == "plain":
            return text
        messages = [{"role": "user", "content": text}]
        if self.system_prompt is not None:
            messages.insert(0, {"role": "system", "content": self.system_prompt})
        try:
            return rendered(
                lambda: self.tokenizer.apply_chat_template(
                    messages, tokenize=False, add_generation_prompt=True, **self.template_args
                ),
                messages,
                str(self.tokenizer.name_or_path),
                system=True,
            )
        except UserError as error:
            raise UserError(f"{error}; try without system_prompt, or `template: plain`") from None

    def _cut(self, text: str, max_tokens: int) -> str:
        if not self.tokenizer.is_fast:
            ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            return text if len(ids) <= max_tokens else self.tokenizer.decode(ids[:max_tokens])
        offsets = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)[
            "offset_mapping"
        ]
        return text if len(offsets) <= max_tokens else text[: offsets[max_tokens - 1][1]].strip()
