"""Parallel instruction pairs, the training data of the baselines.

File layouts:

- the project's own and Lens's (`lens_train.data`), with a `response` for each `prompt`:
  `{"id": "7", "prompt": {"en": "...", "zh": "..."}, "response": {"en": "...", "zh": "..."}}`, or flat keys;
- Bactrian-X: a folder with one file per language (`en.json`, `zh.json`, ...), rows with `instruction`,
  `input`, `output` and an `id` shared by all languages;
- Aya: a file of rows with `inputs`, `targets` and `language_code` or `language`, or a folder with one
  such file per language; rows with the same `id` are joined, rows without an `id` are not parallel.

Every method reads its data through `read_pairs` and `take`: the same items, languages and order. So the
rows of a comparison differ only in the method.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lens_eval.base.errors import UserError
from lens_eval.base.progress import progress
from lens_eval.language.languages import find_code
from lens_train.data import Row, lookup, read_rows, refuse_item_name

WRONG_LANGUAGE = ("central", "other")
"""Verdicts for an answer in another language than the one asked for; `undetermined` is not one of them."""


@dataclass(frozen=True)
class Item:
    """One item in several languages; `where` names its file and line."""

    id: str
    prompt: Mapping[str, str]
    response: Mapping[str, str]
    where: str


@dataclass(frozen=True)
class PairData:
    """A data set of instruction pairs, checked."""

    path: Path
    languages: tuple[str, ...]
    items: tuple[Item, ...]

    @property
    def parallel(self) -> bool:
        """Whether every item has every language; false for Aya rows that share no id."""
        return all(len(item.prompt) == len(self.languages) for item in self.items)


@dataclass(frozen=True)
class Example:
    """One training example: a user turn and the answer to be learned."""

    item: str
    """Id of the item that the example was made from."""
    language: str
    """Language that the response should be in."""
    prompt: str
    response: str
    kind: str = "answer"
    """The part of a method that made the example (`answer`, `translate`, ...)."""


def read_pairs(path: Path, languages: Sequence[str]) -> PairData:
    """Read instruction pairs in `languages` (normalised codes).

    Raises:
        UserError: the file, its responses, a language or a text is missing, the layout is unknown, or an id
            occurs twice. The message names the file and the line.
    """
    rows = _rows(Path(path), languages)
    layout = _layout(rows[0][0])
    items = (
        _whole_items([row for row, _ in rows], languages)
        if layout == "items"
        else _joined_items(rows, languages, layout)
    )
    return PairData(Path(path), tuple(languages), tuple(items))


def take(data: PairData, items: int | None) -> tuple[Item, ...]:
    """The data budget: the first `items` items, or fewer if the data holds fewer; None takes all.

    If the data is not parallel, `items` counts per language.
    """
    if items is None:
        return data.items
    chosen, seen = [], Counter[str]()
    for item in data.items:
        if any(seen[language] < items for language in item.prompt):
            chosen.append(item)
            seen.update(item.prompt.keys())
    return tuple(chosen)


def examples(items: Iterable[Item], languages: Sequence[str]) -> list[Example]:
    """One example per item and language, asked and answered in it: item by item, languages in order."""
    return [
        Example(item.id, language, item.prompt[language], item.response[language])
        for item in items
        for language in languages
        if language in item.prompt
    ]


def digest(items: Iterable[Item]) -> str:
    """SHA-256 over the texts of `items`, in order."""
    texts = [[dict(item.prompt), dict(item.response)] for item in items]
    return hashlib.sha256(json.dumps(texts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def check_languages(
    pairs: Sequence[Example], central: str
) -> tuple[list[Example], dict[str, dict[str, int]]]:
    """Judge each answer's language with the off-target metric.

    Returns:
        The examples whose answer is not in a wrong language, and per language the number of answers by
        outcome (`on_target`, `central`, `other`, `undetermined`).
    """
    from lens_eval.language.off_target import judge_texts

    outcomes: list[str] = []
    for first in progress(range(0, len(pairs), 1000), label="languages of the answers"):
        part = pairs[first : first + 1000]
        verdicts = judge_texts(
            [pair.response for pair in part],
            [pair.language for pair in part],
            prompts=[pair.prompt for pair in part],
            central=central,
        )
        outcomes += [verdict.outcome for verdict in verdicts]
    counts: dict[str, Counter[str]] = {}
    for pair, outcome in zip(pairs, outcomes, strict=True):
        counts.setdefault(pair.language, Counter())[outcome] += 1
    right = [pair for pair, outcome in zip(pairs, outcomes, strict=True) if outcome not in WRONG_LANGUAGE]
    return right, {language: dict(sorted(count.items())) for language, count in counts.items()}


def _rows(path: Path, languages: Sequence[str]) -> list[tuple[Row, str | None]]:
    """All rows, each with its language if the file name gives it."""
    if path.suffix == ".gz":
        raise UserError(f"{path} is compressed; unpack it first (gunzip {path.name})")
    named = _language_files(path)
    if not named:
        return [(row, find_code(path.stem)) for row in read_rows(path)]
    missing = [language for language in languages if language not in named]
    if missing:
        raise UserError(f"{path} has no file for {', '.join(missing)}; it has: {', '.join(sorted(named))}")
    return [(row, language) for language in languages for row in read_rows(named[language])]


def _language_files(path: Path) -> dict[str, Path]:
    if not path.is_dir():
        return {}
    files = [file for file in sorted(path.iterdir()) if file.suffix in (".json", ".jsonl")]
    return {code: file for file in files if (code := find_code(file.stem))}


def _layout(row: Row) -> str:
    keys = {key.partition(".")[0] for key in row.fields}
    if "prompt" in keys:
        return "items"
    if {"instruction", "output"} <= keys:
        return "bactrian"
    if {"inputs", "targets"} <= keys:
        return "aya"
    raise UserError(
        f"{row.where}: no instruction pairs here, the keys are {', '.join(sorted(keys)) or 'none'}. "
        "Pairs have `prompt` and `response` by language, or `instruction`, `input`, `output` (Bactrian-X), "
        "or `inputs`, `targets` (Aya). Prompts alone serve Lens, but no method that learns from answers"
    )


def _whole_items(rows: Sequence[Row], languages: Sequence[str]) -> list[Item]:
    items: dict[str, Item] = {}
    for number, row in enumerate(rows):
        prompt, response = (
            {code: _text(row, f"{name}.{code}", _looked_up(row, code, name)) for code in languages}
            for name in ("prompt", "response")
        )
        identity = str(row.fields.get("id", number))
        if identity in items:
            raise UserError(f"{row.where}: the id {identity!r} was already used in {items[identity].where}")
        items[identity] = Item(identity, prompt, response, row.where)
    return list(items.values())


def _looked_up(row: Row, language: str, name: str) -> object:
    found = lookup(row.fields, language, (name,))
    refuse_item_name(row, language, found)
    return found


def _text(row: Row, field: str, text: object) -> str:
    if text is None:
        raise UserError(
            f"{row.where}: no `{field}`; this method learns from a prompt and its answer in every language"
        )
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"{row.where}: `{field}` is empty or no text; give it a text or remove the item")
    return text


def _joined_items(
    rows: Sequence[tuple[Row, str | None]], languages: Sequence[str], layout: str
) -> list[Item]:
    """Join rows of one language each by id, in the order in which the ids first occur."""
    items: dict[str, Item] = {}
    for number, (row, named) in enumerate(rows):
        language = _row_language(row, named)
        if language is None or language not in languages:
            continue
        identity = _row_id(row, number)
        prompt, response = _turn(row, layout)
        item = items.setdefault(identity, Item(identity, {}, {}, row.where))
        if language in item.prompt:
            raise UserError(f"{row.where}: the id {identity!r} occurs twice in {language}")
        items[identity] = Item(
            identity, {**item.prompt, language: prompt}, {**item.response, language: response}, item.where
        )
    _check_joined(items.values(), languages, whole=layout == "bactrian")
    return list(items.values())


def _row_language(row: Row, named: str | None) -> str | None:
    given = row.fields.get("language_code") or row.fields.get("language")
    language = find_code(str(given)) if given else named
    if language is None and not given:
        raise UserError(
            f"{row.where}: no `language_code` or `language`, and the file is not named by a language"
        )
    return language


def _row_id(row: Row, number: int) -> str:
    """An id that is unique: ids of Aya's collection are unique only within one of its data sets."""
    if "id" not in row.fields:
        return f"row-{number}"
    return "/".join(str(row.fields[key]) for key in ("dataset_name", "id") if key in row.fields)


def _turn(row: Row, layout: str) -> tuple[str, str]:
    if layout == "aya":
        return _text(row, "inputs", row.fields.get("inputs")), _text(
            row, "targets", row.fields.get("targets")
        )
    instruction = _text(row, "instruction", row.fields.get("instruction"))
    given = str(row.fields.get("input") or "").strip()
    return f"{instruction}\n\n{given}" if given else instruction, _text(
        row, "output", row.fields.get("output")
    )


def _check_joined(items: Iterable[Item], languages: Sequence[str], *, whole: bool) -> None:
    items = list(items)
    present = Counter(language for item in items for language in item.prompt)
    absent = [language for language in languages if not present[language]]
    if absent:
        counts = ", ".join(f"{count} in {language}" for language, count in present.items())
        raise UserError(f"no rows in {', '.join(absent)}; there are: {counts or 'none'}")
    for item in items if whole else ():
        lacking = [language for language in languages if language not in item.prompt]
        if lacking:
            raise UserError(f"{item.where}: the id {item.id!r} has no row in {', '.join(lacking)}")
