"""Translators for the baselines: a table of given translations, a seq2seq model, or none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from lens_eval.base.errors import UserError
from lens_eval.base.progress import progress
from lens_eval.language.languages import find_code, get_language
from lens_train.baselines.pairs import Item
from lens_train.checkpoint import first_line
from lens_train.data import Row, lookup, read_rows, refuse_item_name
from lens_train.loading import FAULTS


class Translator(Protocol):
    """Returns one translation per text; None for a text without one."""

    def __call__(self, texts: Sequence[str], source: str, target: str) -> list[str | None]:
        """Translate `texts` from language `source` into language `target`."""


def make_translator(
    name: str, items: Sequence[Item], central: str, others: Sequence[str], device: str
) -> Translator:
    """The translator of a setting: `none`, `data`, a file of parallel texts, or a seq2seq model.

    Raises:
        UserError: the file holds no parallel texts, or the model cannot translate into a language.
    """
    if name == "none":
        return Table({})
    if name == "data":
        return Table.of([item.prompt, item.response] for item in items)
    if Path(name).suffix in (".jsonl", ".json"):
        return Table.read(Path(name), (central, *others))
    return Seq2Seq.load(name, (central, *others), device)


@dataclass(frozen=True)
class Table:
    """A table of given translations; a text that is not in it has none."""

    texts: dict[tuple[str, str, str], str]
    """(source language, target language, text) -> text."""

    def __call__(self, texts: Sequence[str], source: str, target: str) -> list[str | None]:
        """Look up every text, without the white space around it."""
        return [self.texts.get((source, target, text.strip())) for text in texts]

    @staticmethod
    def of(rows: Iterable[Sequence[Mapping[str, str]]]) -> Table:
        """Build the table from groups of texts with the same meaning: language -> text."""
        found: dict[tuple[str, str, str], str] = {}
        for row in rows:
            for texts in row:
                for source, text in texts.items():
                    for target, other in texts.items():
                        if source != target:
                            found.setdefault((source, target, text.strip()), other)
        return Table(found)

    @staticmethod
    def read(path: Path, languages: Sequence[str]) -> Table:
        """Read a file of rows `{"en": ..., "zh": ...}`, or of items with `prompt` and `response`.

        Raises:
            UserError: there is no such file, or it has no texts in two of `languages`.
        """
        table = Table.of([parallel_texts(row, languages) for row in read_rows(path)])
        if not table.texts:
            raise UserError(
                f'{path} holds no texts in two of {", ".join(languages)}; rows are like {{"en": ...}}'
            )
        return table


def parallel_texts(row: Row, languages: Sequence[str]) -> list[dict[str, str]]:
    """The texts of a row by language: those of `prompt`, of `response`, and of the row itself.

    Raises:
        UserError: the row's number or name stands where a text in Indonesian or Norwegian would.
    """
    fields = row.fields
    found: list[dict[str, Any]] = [{code: text for key, text in fields.items() if (code := find_code(key))}]
    found += [{code: lookup(fields, code, (name,)) for code in languages} for name in ("prompt", "response")]
    for texts in found:
        for code in languages:
            refuse_item_name(row, code, texts.get(code))
    return [
        {code: texts[code] for code in languages if isinstance(texts.get(code), str) and texts[code].strip()}
        for texts in found
    ]


@dataclass
class Seq2Seq:
    """A translation model of transformers (NLLB, M2M-100, mBART, or a Marian model of one direction).

    Not tried on a real translation model here: none can be downloaded where the tests run.
    """

    name: str
    model: Any
    tokenizer: Any
    codes: dict[str, str] = field(default_factory=dict)
    """Language -> the tokenizer's own code; empty for a model with one direction."""
    batch_size: int = 16
    max_tokens: int = 512

    @staticmethod
    def load(name: str, languages: Sequence[str], device: str) -> Seq2Seq:
        """Load a model and find its language codes.

        Raises:
            UserError: the model cannot be loaded, or does not know a language.
        """
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

        from lens_train.devices import resolve_device

        try:
            tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
            model = AutoModelForSeq2SeqLM.from_pretrained(name, trust_remote_code=False, use_safetensors=True)
        except FAULTS as error:
            raise UserError(
                f"translator {name}: no file of parallel texts, and no seq2seq model ({first_line(error)})"
            ) from None
        codes = _codes(tokenizer, languages, name)
        return Seq2Seq(name, model.to(resolve_device(device)).eval(), tokenizer, codes)

    def __call__(self, texts: Sequence[str], source: str, target: str) -> list[str | None]:
        """Translate greedily."""
        import torch

        from lens_train.generation import contiguous_output

        found: list[str | None] = []
        if self.codes:
            self.tokenizer.src_lang = self.codes[source]
        starts = range(0, len(texts), self.batch_size)
        for start in progress(starts, label=f"translating into {target}"):
            batch = self.tokenizer(
                list(texts[start : start + self.batch_size]),
                return_tensors="pt",
                padding=True,
                truncation=True,
            ).to(self.model.device)
            with torch.no_grad(), contiguous_output(self.model):
                ids = self.model.generate(**batch, **self._target(target), max_new_tokens=self.max_tokens)
            found += self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [text or None for text in found]

    def _target(self, target: str) -> dict[str, int]:
        if not self.codes:
            return {}
        return {
            "forced_bos_token_id": self.tokenizer.convert_tokens_to_ids(
                _token(self.tokenizer, self.codes[target])
            )
        }


def _codes(tokenizer: Any, languages: Sequence[str], name: str) -> dict[str, str]:
    """The tokenizer's own language codes (`swh_Latn`, `sw`, `sw_KE`); empty if it has none."""
    known = getattr(tokenizer, "lang_code_to_token", None) or {
        token: token for token in tokenizer.all_special_tokens if find_code(token)
    }
    if not known:
        return {}
    by_code: dict[str, str] = {}
    for spelling in known:
        by_code.setdefault(find_code(spelling) or spelling, spelling)
    missing = [get_language(code).name for code in languages if code not in by_code]
    if missing:
        raise UserError(f"translator {name} does not know {', '.join(missing)}")
    return {code: by_code[code] for code in languages}


def _token(tokenizer: Any, code: str) -> str:
    return (getattr(tokenizer, "lang_code_to_token", None) or {}).get(code, code)
