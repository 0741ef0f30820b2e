"""Models that answer one question, token by token, and what their answers are worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lens_eval.base.errors import UserError
from lens_eval.language.languages import DEFAULT_LANGUAGES, LANGUAGES
from lens_eval.language.off_target import Judge
from lens_eval.language.reply_form import form_of
from lens_eval.mini import resolve_model
from lens_eval.runs.sources import adapter_folder, model_arguments, present_base
from lens_train.checkpoint import Checkpoint, adapter_tokenizer
from lens_train.data import Renderer
from lens_train.devices import resolve_device, resolve_dtype
from lens_train.generation import contiguous_output, end_tokens, reply_rows
from lens_train.job import VARIANT_FILE, Variant
from lens_train.stream import open_decoder

QUESTION_TOKENS = 4096
"""A question is cut to so many tokens."""
OnText = Callable[[str], bool]
"""Called with the answer so far after each token; true stops the answer."""


@dataclass(frozen=True)
class Question:
    """One question, and the language its answer is wanted in."""

    text: str
    language: str


@dataclass(frozen=True)
class Answer:
    """One answer, with its verdict."""

    model: str
    question: Question
    text: str
    cut: bool
    """Whether the longest answer allowed, or the user, ended it."""
    outcome: str
    """`on_target`, `central`, `other` or `undetermined`."""
    answered_in: str
    """Language code, script, `undetermined` or `empty`."""
    form: str
    """`text`, `loop`, `echo` or `empty`."""

    @property
    def good(self) -> bool | None:
        """Whether the answer is usable; None if its language cannot be told."""
        if self.form != "text" or self.outcome in ("central", "other"):
            return False
        return True if self.outcome == "on_target" else None

    @property
    def verdict(self) -> str:
        """The verdict in a few words."""
        if self.form == "empty":
            return "empty"
        asked = language_name(self.question.language)
        words = {
            "on_target": f"in {asked}",
            "undetermined": "language cannot be told",
        }.get(self.outcome, f"off target: in {language_name(self.answered_in)}, not {asked}")
        parts = [words]
        if self.form == "loop":
            parts.append("repeats itself")
        if self.form == "echo":
            parts.append("repeats the question")
        if self.cut and self.form != "loop":
            parts.append("cut")
        return ", ".join(parts)


def language_name(code: str) -> str:
    """English name of a language; a code that is none, such as that of a script, as it is."""
    return LANGUAGES[code].name if code in LANGUAGES else code


class Referee:
    """Judges answers, and tells the language of a question."""

    def __init__(self, central: str = "en", languages: Sequence[str] = (), detector: str = "lingua") -> None:
        """Prepare the judge.

        Raises:
            UserError: a language is unknown, or cannot be told from another one.
        """
        self.central = central
        self._judge = Judge(central, {*DEFAULT_LANGUAGES, *languages}, detector)
        for code in languages:
            self._judge.target(code)

    def language_of(self, text: str) -> str:
        """Language of a question: what it is written in, or the central one where that cannot be told."""
        found = self._judge.judge(text, self.central).answered_in
        return found if found in LANGUAGES else self.central

    def judge(self, model: str, question: Question, text: str, cut: bool) -> Answer:
        """Judge one answer."""
        verdict = self._judge.judge(text, question.language, question.text)
        form = form_of(text, question.text).name
        return Answer(model, question, text, cut, verdict.outcome, verdict.answered_in, form)


class Speaker:
    """One model, loaded to answer questions greedily."""

    def __init__(
        self,
        model: str,
        *,
        name: str | None = None,
        template: str | None = None,
        system_prompt: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
    ) -> None:
        """Load a model.

        Args:
            model: hub id, checkpoint, adapter or steering folder, GGUF file, or `builtin`.
            name: name to show; by default the last part of `model`.
            template: `chat` or `plain`; by default `chat` where the model has a chat template.
            system_prompt: system message; None = none.
            device: `auto`, `cpu`, `cuda`, ...
            dtype: `auto`, `float32` or `bfloat16`.

        Raises:
            UserError: no such model, or one that cannot answer (a delta, or a model larger than the memory).
        """
        self.name = name or Path(model).name
        base, adapter, steering = _parts(model)
        place = resolve_device(device)
        checkpoint = Checkpoint.open(base)
        self._tokenizer = (
            checkpoint.tokenizer if adapter is None else adapter_tokenizer(checkpoint, Path(adapter))
        )
        frame = template or ("chat" if self._tokenizer.chat_template else "plain")
        if frame not in ("chat", "plain"):
            raise UserError(f"--template is {frame!r}; it can be chat or plain")
        self._render = Renderer(
            self._tokenizer,
            "chat" if frame == "chat" else "plain",
            system_prompt if frame == "chat" else None,
        )
        decoder = open_decoder(checkpoint, place, resolve_dtype(dtype, place, checkpoint))
        if len(decoder.spans(len(decoder))) > 1:
            raise UserError(f"{model} does not fit into memory, but only a model in memory can answer")
        self._model = decoder.model.requires_grad_(False)
        self._steerer: Any = None
        if adapter is not None:
            from lens_train.loading import load_adapter

            self._model = load_adapter(self._model, adapter_folder(adapter))
        if steering is not None:
            from lens_train.steering.steering import Steerer, Steering

            edits = Steering.load(steering)
            if checkpoint.identity["weights_sha256"] != edits.base["weights_sha256"]:
                raise UserError(
                    f"the steering {steering} was made for other weights than those of {base} now"
                )
            self._steerer = Steerer(self._model, edits)

    def answer(self, question: Question, on_text: OnText, max_new_tokens: int) -> tuple[str, bool]:
        """Answer one question; returns the answer, and whether it was cut.

        `on_text` sees the answer grow, if the model can be run token by token.
        """
        ids = torch.tensor(self._render([question.text], QUESTION_TOKENS), device=self._model.device)
        stopped = False

        def look(tokens: Sequence[int]) -> bool:
            nonlocal stopped
            # A character of several tokens is shown when it is whole.
            stopped = on_text(self._decode(tokens).rstrip("\ufffd"))
            return stopped

        steered = nullcontext() if self._steerer is None else self._steerer.active(question.language)
        ends = end_tokens(self._model, self._tokenizer)
        with torch.no_grad(), contiguous_output(self._model), steered:
            rows = reply_rows(self._model, ids, torch.ones_like(ids), max_new_tokens, ends, stop=look)
            _, reply = next(iter(rows))
        return self._decode(reply.tokens), stopped or not reply.ended

    def _decode(self, tokens: Sequence[int]) -> str:
        return self._tokenizer.decode(tokens, skip_special_tokens=True).strip()


def _parts(model: str) -> tuple[str, str | None, Path | None]:
    """Checkpoint, adapter and steering folder that a name stands for.

    Raises:
        UserError: it is none of them.
    """
    folder = Path(resolve_model(model))
    if (folder / VARIANT_FILE).is_file():
        variant = Variant.load(folder)
        if variant.kind == "steering":
            return present_base(str(variant.base["name"]), folder), None, folder
        if variant.kind == "decoding":
            raise UserError(
                f"{model} is a decoding, which chat does not apply; evaluate it (docs/baselines.md)"
            )
        if variant.kind == "delta":
            raise UserError(
                f"{model} is a delta; merge it first: lens merge --delta {model} "
                f"--model {variant.base['name']} --output FOLDER"
            )
    arguments = model_arguments(model)
    return arguments["pretrained"], arguments.get("peft"), None
