"""Judge a model on dev prompts: the language of its replies, and whether the central language is unchanged.

The replies are generated greedily with the current weights. The measures, as shares:

- `off_target`, of it `central` and `other`, and `undetermined`: of the replies, by
  `lens_eval.language.off_target`;
- `loop`, `echo`, `empty`: of the replies, by `lens_eval.language.reply_form`;
- `usable`: of the replies, those on target that are none of the three;
- `right`: of the replies, those that hold the item's `value` in the language asked for or in the central
  one; only if the dev data have values;
- `first`: of the central replies, those that begin with the same token as the untrained model's;
- `central_loss`: mean negative log-likelihood per token of the central prompts, in nats. The prompts are read
  as plain text. So the measure uses text of users, not of the model, and a reply in other words is no loss.
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
from lens_eval.language.reasoning import without_reasoning
from lens_eval.language.reply_form import form_of
from lens_train import generation
from lens_train.data import ParallelPrompts, Renderer, lookup, read_prompts, read_rows
from lens_train.decoder import Decoder

PROMPT_TOKENS = 1024
"""A dev prompt is cut to this many tokens, before templating."""

LOSS_TOKENS = 256
"""A text for the likelihood is cut to this many tokens; logits over 262,144 tokens then take 270 MB."""

Replies = dict[str, list[list[int]]]
"""Language -> token ids of the reply to each item."""


@dataclass(frozen=True)
class DevData:
    """Prompts to answer, and the values that right answers hold."""

    prompts: ParallelPrompts
    values: Mapping[str, Sequence[str]] | None
    """Language -> value of each item; None if the data have no values."""

    @staticmethod
    def read(path: Path, languages: Sequence[str], limit: int | None = None) -> DevData:
        """Read parallel data.

        Raises:
            UserError: as in `read_prompts`; or the off-target judge cannot tell a language from the others.
        """
        prompts = read_prompts(path, languages, limit)
        return DevData(prompts, _values(path, languages, len(prompts)))


def _values(path: Path, languages: Sequence[str], count: int) -> dict[str, list[str]] | None:
    try:
        rows = read_rows(path)[:count]
    except UserError:  # a folder with one file per language has no values
        return None
    values = {code: [lookup(row.fields, code, ("value",)) for row in rows] for code in languages}
    known = all(isinstance(value, str) and value for column in values.values() for value in column)
    return values if known else None


@dataclass
class DevJudge:
    """Judges the current weights; the first call must be on the untrained model."""

    decoder: Decoder
    tokenizer: Any
    data: DevData
    central: str
    max_new_tokens: int
    budget: int
    """Most tokens per forward pass, including padding and reply."""
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
        """Render the prompts; nothing is run yet."""
        prompts = {code: render(texts, PROMPT_TOKENS) for code, texts in data.prompts.texts.items()}
        return DevJudge(decoder, tokenizer, data, central, tokens, budget, prompts)

    @torch.no_grad()
    def judge(self) -> tuple[dict[str, Any], dict[str, list[str]]]:
        """Answer all prompts; returns the measures, and the replies as text by language."""
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
            answers = [without_reasoning(reply) for reply in replies]
            pairs = zip(answers, values[language], values[self.central], strict=True)
            shares["right"] = _mean(
                [contains(text, own) or contains(text, pivot) for text, own, pivot in pairs]
            )
        return shares

    def _generate(self) -> Replies:
        """Greedy replies to every prompt, without the end-of-text token."""
        places = [(code, item) for code, own in self.prompts.items() for item in range(len(own))]
        flat = [self.prompts[code][item] for code, item in places]
        model, budget = self.decoder.model, self.budget
        replies = generation.generate(model, self.tokenizer, flat, self.max_new_tokens, budget)
        found: Replies = {code: [[]] * len(own) for code, own in self.prompts.items()}
        for (code, item), reply in zip(places, replies, strict=True):
            found[code][item] = reply.tokens
        return found

    def _central_loss(self) -> float:
        """Mean loss per token of the central prompts as plain text, in nats."""
        texts = self.data.prompts.texts[self.central]
        losses = torch.cat(list(token_losses(self.decoder.model, self.tokenizer, texts)))
        return float(losses.mean())

    def _decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True).strip()


@torch.no_grad()
def token_losses(model: Any, tokenizer: Any, texts: Sequence[str]) -> Iterator[Tensor]:
    """Loss of every token except the first of each text, read as plain text; (tokens - 1,), in nats.

    The model's own forward pass computes the logits, because some families scale or cap them.
    """
    for text in texts:
        ids = torch.tensor([tokenizer(text)["input_ids"][:LOSS_TOKENS]], device=model.device)
        logits = model(input_ids=ids, use_cache=False).logits[0, :-1].float()
        yield nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none").cpu()


@contextmanager
def as_written(
    parameters: Mapping[str, nn.Parameter], dtype: torch.dtype, stored: torch.dtype | None = None
) -> Iterator[None]:
    """Use the trained weights, which are float32 in training, as a user of the checkpoint will load them.

    Args:
        parameters: the trained parameters.
        dtype: type in which the model computes.
        stored: type of the file; the weights are rounded to it first. None = no rounding.
    """
    wide: dict[str, Tensor] = {name: parameter.data for name, parameter in parameters.items()}
    try:
        for parameter in parameters.values():
            parameter.data = parameter.data.to(stored or dtype).to(dtype)
        yield
    finally:
        for name, parameter in parameters.items():
            parameter.data = wide[name]


def shown_share(shares: Mapping[str, Any], name: str) -> str:
    """A measure in percent; a dash for a rate off target if not one reply could be judged."""
    nothing = name in ("off_target", "central", "other") and shares.get("undetermined") == 1
    return "–" if nothing else f"{100 * shares[name]:.1f}"


def _mean(values: Sequence[float | bool]) -> float:
    return sum(map(float, values)) / max(1, len(values))
