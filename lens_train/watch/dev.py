"""A model judged on dev prompts: in which language it replies, and whether the central one stays as it was.

The replies are generated greedily with the weights that are in place. What is measured, in shares:

- `off_target`, of it `central` and `other`, and `undetermined`: of the replies, by
  `lens_eval.language.off_target`;
- `loop`, `echo`, `empty`: of the replies, by `lens_eval.language.reply_form`;
- `usable`: of the replies, those on target that are none of the three;
- `right`: of the replies, those that hold the item's `value` in the language asked or the central one; only
  if the dev data have values;
- `first`: of the central replies, those that begin with the same token as the untrained model's;
- `central_loss`: mean negative log-likelihood of a token of the central prompts, in nats. They are read as
  plain text, so that what a user writes is held back, not what the model itself would have said: a reply
  worded otherwise is no loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lens_eval.base.errors import UserError
from lens_eval.language.languages import DEFAULT_LANGUAGES
from lens_eval.language.reply_form import form_of
from lens_train import generation
from lens_train.data import ParallelPrompts, Renderer, lookup, read_prompts, read_rows
from lens_train.decoder import Decoder

PROMPT_TOKENS = 1024
"""A dev prompt is cut to this many tokens, before templating."""

LOSS_TOKENS = 256
"""A text whose likelihood is asked is read up to this many tokens: logits over 262,144 then take 270 MB."""

Replies = dict[str, list[list[int]]]
"""Language -> token ids of the reply to each item."""


@dataclass(frozen=True)
class DevData:
    """Prompts to be answered, and the values that right answers hold."""

    prompts: ParallelPrompts
    values: Mapping[str, Sequence[str]] | None
    """Language -> value of each item; None where the data have none."""

    @staticmethod
    def read(path: Path, languages: Sequence[str], limit: int | None = None) -> DevData:
        """Read parallel data.

        Raises:
            UserError: as `read_prompts`; or a language that the off-target judge cannot tell from the others.
        """
        prompts = read_prompts(path, languages, limit)
        return DevData(prompts, _values(path, languages, len(prompts)))


def _values(path: Path, languages: Sequence[str], count: int) -> dict[str, list[str]] | None:
    try:
        rows = read_rows(path)[:count]
    except UserError:  # a folder with a file per language has prompts only
        return None
    values = {code: [lookup(row.fields, code, ("value",)) for row in rows] for code in languages}
    known = all(isinstance(value, str) and value for column in values.values() for value in column)
    return values if known else None


@dataclass
class DevJudge:
    """Judges whatever weights are in place; the first time, those of the untrained model."""

    decoder: Decoder
    tokenizer: Any
    data: DevData
    central: str
    max_new_tokens: int
    budget: int
    """Tokens per forward pass, padding and reply included."""
    prompts: Mapping[str, list[list[int]]]
    """Language -> token ids of each prompt."""
    first: Replies = field(default_factory=dict)
    """Replies of the untrained model."""

    @staticmethod
    def make(
        decoder: Decoder,
        tokenizer: Any,
        data: DevData,
        render: Renderer,
        central: str,
        tokens: int,
        budget: int,
    ) -> DevJudge:
        """Render the prompts; no work yet."""
        prompts = {code: render(texts, PROMPT_TOKENS) for code, texts in data.prompts.texts.items()}
        return DevJudge(decoder, tokenizer, data, central, tokens, budget, prompts)

    @torch.no_grad()
    def judge(self) -> tuple[dict[str, Any], dict[str, list[str]]]:
        """Answer all prompts; returns the measures and the replies as text, by language."""
        replies = self._generate()
        self.first = self.first or replies
        texts = {code: [self._decode(reply) for reply in own] for code, own in replies.items()}
        pairs = zip(replies[self.central], self.first[self.central], strict=True)
        alike = [now[:1] == then[:1] for now, then in pairs]
        by_language = {code: self._verdicts(code, own) for code, own in texts.items()}
        others = [shares for code, shares in by_language.items() if code != self.central]
        measures: dict[str, Any] = {name: _mean([shares[name] for shares in others]) for name in others[0]}
        pivot = by_language[self.central]
        measures |= {f"central_{name}": pivot[name] for name in ("usable", "right") if name in pivot}
        measures |= {"first": _mean(alike), "central_loss": self._central_loss()}
        return {**measures, "by_language": by_language}, texts

    def _verdicts(self, language: str, replies: Sequence[str]) -> dict[str, float]:
        from lens_eval.language.contains import contains
        from lens_eval.language.off_target import judge_texts

        asked = self.data.prompts.texts
        candidates = sorted({*DEFAULT_LANGUAGES, *asked})
        verdicts = judge_texts(
            replies, language, asked[language], central=self.central, candidates=candidates
        )
        forms = [form_of(reply, prompt) for reply, prompt in zip(replies, asked[language], strict=True)]
        outcomes = [verdict.outcome for verdict in verdicts]
        shares = {
            "off_target": _mean([outcome in ("central", "other") for outcome in outcomes]),
            "central": _mean([outcome == "central" for outcome in outcomes]),
            "other": _mean([outcome == "other" for outcome in outcomes]),
            "undetermined": _mean([outcome == "undetermined" for outcome in outcomes]),
            "loop": _mean([form.looping for form in forms]),
            "echo": _mean([form.echoing for form in forms]),
            "empty": _mean([form.empty for form in forms]),
            "usable": _mean(
                [
                    outcome == "on_target" and not form.broken
                    for outcome, form in zip(outcomes, forms, strict=True)
                ]
            ),
        }
        if (values := self.data.values) is not None:
            pairs = zip(replies, values[language], values[self.central], strict=True)
            shares["right"] = _mean(
                [contains(text, own) or contains(text, pivot) for text, own, pivot in pairs]
            )
        return shares

    def _generate(self) -> Replies:
        """Greedy replies to every prompt, up to and without the end-of-text token."""
        places = [(code, item) for code, own in self.prompts.items() for item in range(len(own))]
        flat = [self.prompts[code][item] for code, item in places]
        model, budget = self.decoder.model, self.budget
        replies = generation.generate(model, self.tokenizer, flat, self.max_new_tokens, budget)
        found: Replies = {code: [[]] * len(own) for code, own in self.prompts.items()}
        for (code, item), reply in zip(places, replies, strict=True):
            found[code][item] = reply.tokens
        return found

    def _central_loss(self) -> float:
        """Mean loss of a token of the central prompts as plain text, in nats."""
        texts = self.data.prompts.texts[self.central]
        losses = torch.cat(list(token_losses(self.decoder.model, self.tokenizer, texts)))
        return float(losses.mean())

    def _decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True).strip()


@torch.no_grad()
def token_losses(model: Any, tokenizer: Any, texts: Sequence[str]) -> Iterator[Tensor]:
    """Loss of every token but the first of each text, read as plain text; (tokens - 1,), nats.

    It is the model's own forward pass that gives the logits: some families scale or cap them.
    """
    for text in texts:
        ids = torch.tensor([tokenizer(text)["input_ids"][:LOSS_TOKENS]], device=model.device)
        logits = model(input_ids=ids, use_cache=False).logits[0, :-1].float()
        yield nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none").cpu()


@contextmanager
def as_written(
    parameters: Mapping[str, nn.Parameter], dtype: torch.dtype, stored: torch.dtype | None = None
) -> Iterator[None]:
    """Have the trained weights, float32 in training, as whoever loads the checkpoint will have them.

    Args:
        parameters: what is trained.
        dtype: type in which the model computes.
        stored: type of the file, by which they are rounded first; None = not at all.
    """
    wide: dict[str, Tensor] = {name: parameter.data for name, parameter in parameters.items()}
    try:
        for parameter in parameters.values():
            parameter.data = parameter.data.to(stored or dtype).to(dtype)
        yield
    finally:
        for name, parameter in parameters.items():
            parameter.data = wide[name]


def _mean(values: Sequence[float | bool]) -> float:
    return sum(map(float, values)) / max(1, len(values))
