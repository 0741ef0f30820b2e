"""Rewards for reinforcement learning, in the form that TRL's GRPO takes: `GRPOTrainer(reward_funcs=[...])`.

A reward function is called with the completions of a batch and, by name, the prompts and every other column
of the data set, each with one entry per completion. Completions and prompts are texts, or lists of chat
messages. The language asked for is the column `language` of the data set, or one code for all.

What cannot be judged earns nothing: an empty completion, a number, a name, a few words that several
languages share. So a policy gains nothing by falling silent or by answering with what no language can be
read from. It loses nothing either: the reward is 0, as for a completion in a wrong language.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from lens_eval.base.errors import UserError
from lens_eval.language.messages import ASSISTANT, USER, last_text
from lens_eval.language.off_target import Verdict, judge_texts
from lens_eval.language.reply_form import form_of

Completion = str | Sequence[Mapping[str, Any]] | None
"""A text, or chat messages."""
Reward = Callable[..., list[float]]
"""What `GRPOTrainer` takes as a reward function."""


def language_reward(
    language: str | None = None,
    *,
    partial: bool = False,
    column: str = "language",
    central: str = "en",
    candidates: Iterable[str] | None = None,
    detector: str = "lingua",
) -> Reward:
    """Return a reward for the language of a completion: 1 on target, 0 off target or not to be judged.

    Args:
        language: the language asked for in every prompt; by default the column `column` says it row by row.
        partial: give a completion in several languages the share of its letters that is on target.
        column: the column of the data set that holds the language asked for.
        central: the central language.
        candidates: languages that the detector chooses among; see `judge_texts`.
        detector: as in `judge_texts`.

    Raises:
        UserError: (when called) neither `language` nor the column is there, or a code is unknown.
    """
    return _reward("language_reward", False, language, partial, column, central, candidates, detector)


def usable_reward(
    language: str | None = None,
    *,
    partial: bool = False,
    column: str = "language",
    central: str = "en",
    candidates: Iterable[str] | None = None,
    detector: str = "lingua",
) -> Reward:
    """Return a reward for a usable completion: that of `language_reward`, and 0 for a loop or an echo.

    Use it in place of `language_reward`: one sentence repeated, or the prompt again, is on target too, and a
    policy finds that. The arguments and errors are those of `language_reward`.
    """
    return _reward("usable_reward", True, language, partial, column, central, candidates, detector)


def _reward(
    name: str,
    whole: bool,
    language: str | None,
    partial: bool,
    column: str,
    central: str,
    candidates: Iterable[str] | None,
    detector: str,
) -> Reward:
    """The reward function; `whole`: a broken reply earns nothing. Trainers log it under its name."""
    codes = None if candidates is None else tuple(candidates)

    def reward(
        completions: Sequence[Completion], prompts: Sequence[Completion] | None = None, **columns: Any
    ) -> list[float]:
        judged = _judged(completions, prompts, language, column, columns, central, codes, detector)
        return [
            0.0 if whole and form_of(text, prompt).broken else _language_share(verdict, partial)
            for text, prompt, verdict in judged
        ]

    reward.__name__ = reward.__qualname__ = name
    return reward


def _language_share(verdict: Verdict, partial: bool) -> float:
    if partial and verdict.outcome != "undetermined":
        return verdict.characters["on_target"]
    return float(verdict.outcome == "on_target")


def _judged(
    completions: Sequence[Completion],
    prompts: Sequence[Completion] | None,
    language: str | None,
    column: str,
    columns: Mapping[str, Any],
    central: str,
    candidates: tuple[str, ...] | None,
    detector: str,
) -> list[tuple[str, str, Verdict]]:
    """Text, prompt and verdict of each completion."""
    asked = language if language is not None else columns.get(column)
    if asked is None:
        raise UserError(
            f"the reward does not know the language asked for: the data set has no column {column!r} (it has "
            f"{', '.join(sorted(columns)) or 'no other'}); add it, or name one language for all"
        )
    texts = [_text(completion, ASSISTANT) for completion in completions]
    given = [_text(prompt, USER) for prompt in prompts] if prompts is not None else [""] * len(texts)
    verdicts = judge_texts(texts, asked, given, central=central, candidates=candidates, detector=detector)
    return list(zip(texts, given, verdicts, strict=True))


def _text(completion: Completion, roles: Sequence[str]) -> str:
    """The text of a completion or prompt; of messages, that of the last one of these roles."""
    if completion is None or isinstance(completion, str):
        return completion or ""
    return last_text(completion, roles)
