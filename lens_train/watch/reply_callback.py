"""A callback for transformers' `Trainer`, and TRL's: in which language does the model reply while it learns?

Every so many steps the model answers held-back prompts, greedily, and the shares of its replies that are off
target and usable are logged where everything else of the training is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import TrainerCallback

from lens_eval.base.errors import UserError
from lens_eval.language.languages import normalise_code
from lens_eval.mini import resolve_data
from lens_train.data import Renderer, read_prompts
from lens_train.generation import generate
from lens_train.watch.dev import PROMPT_TOKENS
from lens_train.watch.outcome import count, judge

_KINDS = ("off_target", "usable", "looping")
_BATCH_TOKENS = 8192


class ReplyCallback(TrainerCallback):
    """Measures replies to held-back prompts before the first step, every `every` steps, and at the end.

    It logs `eval_off_target`, `eval_usable` and `eval_looping`, shares from 0 to 1: as means over the
    languages that are not central, and with `_CODE` behind for each language. Training itself is as without
    it: no random number is drawn, and dropout is off while it measures.

        trainer.add_callback(ReplyCallback(trainer, {"sw": ["Mji mkuu wa Kenya ni upi?"], "en": [...]}))

    Args:
        trainer: the trainer that the callback is added to.
        prompts: language -> prompts that are not trained on; or a file of parallel prompts, as `lens train`
            reads, or `builtin:dev`.
        languages: for a file: which of its languages to ask in.
        every: steps between two measurements.
        limit: most prompts per language.
        max_new_tokens: longest reply.
        central: the central language, which is in no mean.
        template: `chat`, or `plain` for a model without a chat template.
        system_prompt: the system message of every chat.

    Raises:
        UserError: no prompts, an unknown language, a tokenizer without a chat template; at the start of
            training, weights that are spread over devices (FSDP, ZeRO-3), which cannot write replies here.
    """

    def __init__(
        self,
        trainer: Any,
        prompts: Mapping[str, Sequence[str]] | str | Path,
        languages: Sequence[str] | None = None,
        *,
        every: int = 100,
        limit: int = 8,
        max_new_tokens: int = 64,
        central: str = "en",
        template: Literal["chat", "plain"] = "chat",
        system_prompt: str | None = None,
    ) -> None:
        if every < 1 or limit < 1 or max_new_tokens < 1:
            raise UserError("every, limit and max_new_tokens must be at least 1")
        self.trainer, self.every, self.max_new_tokens = trainer, every, max_new_tokens
        self.central = normalise_code(central)
        self.texts = _texts(prompts, languages, limit)
        self.history: list[dict[str, float]] = []
        """Every measurement: what was logged, with its `step`."""
        processor = trainer.processing_class
        self.tokenizer = getattr(processor, "tokenizer", processor)
        if self.tokenizer is None:
            raise UserError("the trainer has no tokenizer; give it one: Trainer(processing_class=tokenizer)")
        render = Renderer(self.tokenizer, template, system_prompt)
        self._ids = {code: render(own, PROMPT_TOKENS) for code, own in self.texts.items()}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Refuse what cannot be measured, and measure the untrained model."""
        if getattr(self.trainer, "is_fsdp_enabled", False) or _is_zero3(self.trainer):
            raise UserError("ReplyCallback needs whole weights on one device; FSDP and ZeRO-3 spread them")
        self._measure(args, state, control)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Measure every so many steps."""
        if state.global_step % self.every == 0:
            self._measure(args, state, control)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Measure the trained model, unless its last step was measured."""
        self._measure(args, state, control)

    def measure(self) -> dict[str, float]:
        """Answer every prompt with the current weights; returns the shares, by the names that are logged."""
        counts = count(judge(self._replies(), self.texts, self.central))
        shares = {
            kind: {code: own[kind] / len(self.texts[code]) for code, own in counts.items()} for kind in _KINDS
        }
        found: dict[str, float] = {}
        for kind, own in shares.items():
            others = [share for code, share in own.items() if code != self.central] or list(own.values())
            found[f"eval_{kind}"] = sum(others) / len(others)
            found |= {f"eval_{kind}_{code}": share for code, share in own.items()}
        return found

    def _measure(self, args: Any, state: Any, control: Any) -> None:
        """Measure and log; the first process does, the others go on and wait at their next exchange."""
        step = state.global_step
        if not state.is_world_process_zero or (self.history and self.history[-1]["step"] == step):
            return
        values = self.measure()
        self.history.append({**values, "step": step})
        # Not by trainer.log: trainers of TRL add to what is logged there and forget it then. Nor by the
        # handler's on_log, which also notes that the trainer need not log its own numbers at this step.
        epoch = {} if state.epoch is None else {"epoch": state.epoch}
        state.log_history.append({**values, **epoch, "step": step})
        logs = {**values, **epoch}
        self.trainer.callback_handler.call_event("on_log", args, state, control, logs=logs)

    @torch.no_grad()
    def _replies(self) -> dict[str, list[str]]:
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        # An adapter of peft stands inside the layers of the model that it wraps.
        model = model.get_base_model() if hasattr(model, "get_base_model") else model
        flat = [ids for own in self._ids.values() for ids in own]
        training = model.training
        model.eval()
        try:
            budget = _BATCH_TOKENS
            made = generate(model, self.tokenizer, flat, self.max_new_tokens, budget, label=None)
        finally:
            model.train(training)
        replies = iter(made)
        return {
            code: [self.tokenizer.decode(next(replies).tokens, skip_special_tokens=True).strip() for _ in own]
            for code, own in self._ids.items()
        }


def _texts(
    prompts: Mapping[str, Sequence[str]] | str | Path, languages: Sequence[str] | None, limit: int
) -> dict[str, list[str]]:
    if isinstance(prompts, str | Path):
        if not languages:
            raise UserError(f"in which languages should the prompts of {prompts} be asked? Give languages")
        codes = [normalise_code(code) for code in languages]
        read = read_prompts(resolve_data(prompts), codes, limit)
        return {code: list(own) for code, own in read.texts.items()}
    found = {normalise_code(code): list(own)[:limit] for code, own in prompts.items()}
    empty = [code for code, own in found.items() if not own]
    if not found or empty:
        raise UserError(f"there are no prompts{f' in {empty[0]}' if empty else ''} to ask while training")
    return found


def _is_zero3(trainer: Any) -> bool:
    plugin = getattr(trainer.accelerator.state, "deepspeed_plugin", None)
    return plugin is not None and plugin.zero_stage == 3
