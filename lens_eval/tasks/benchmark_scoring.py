"""What lm_eval calls after an answer to a benchmark of today: LCB, PolyMath, MMLU-ProX, Global-MMLU.

Metrics are those of `lens_eval.tasks.scoring`, and those named here. A metric that does not concern an item
is left out of its numbers, so a mean is over the items that it concerns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from lens_eval.language.confusion_benchmark import WORD_CHECKED, make_lcb_scorer
from lens_eval.language.files.response import Response
from lens_eval.language.files.tally import Scorer, Tally
from lens_eval.tasks.letters import read_letter
from lens_eval.tasks.math_answers import read_boxed, same_value
from lens_eval.tasks.prompts import printed_letters
from lens_eval.tasks.scoring import (
    NUMBER_METRICS,
    OPEN_METRICS,
    judge_language,
    language_metrics,
    option_letter,
    verdict_of,
)

LCB_METRICS = (*OPEN_METRICS, "off_target_lines", "lcb_line_pass", "lcb_word_pass")
MATH_METRICS = (*NUMBER_METRICS, "thinking_on_target", "thinking_off_target")
CULTURE_METRICS = ("acc", "acc_sensitive", "acc_agnostic")


def confusion(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Score a reply to a prompt of the Language Confusion Benchmark.

    `off_target_lines` is the share of its judged lines that are off target (left out without one).
    `lcb_line_pass` and `lcb_word_pass` are the benchmark's own checks: left out where it counts a
    reply in neither rate, by its rules and with this project's detector.
    """
    verdict = verdict_of(doc, results[0])
    metrics = language_metrics(doc, results[0], verdict)
    lines = [line.outcome for line in verdict.lines if line.outcome in ("on_target", "central", "other")]
    if lines:
        metrics["off_target_lines"] = sum(outcome != "on_target" for outcome in lines) / len(lines)
    return metrics | _published(results[0], doc["language"])


def _published(text: str, language: str) -> dict[str, float]:
    response = Response(text, language, None, None, None, "", 0)
    outcome, _ = _lcb_scorer()(response, Tally())
    if outcome == "skipped":
        return {}
    passed = {"lcb_line_pass": float(outcome != "line_error")}
    if language in WORD_CHECKED and outcome != "line_error":
        passed["lcb_word_pass"] = float(outcome == "pass")
    return passed


@lru_cache(maxsize=1)
def _lcb_scorer() -> Scorer:
    return make_lcb_scorer("lingua", None)


def boxed(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    r"""Score a worked solution by the value of its last `\boxed{}` against `doc["reference"]`.

    `thinking_on_target` and `thinking_off_target` are the language of a `<think>` part, left out without one
    and where it is undetermined; the other language metrics are of the answer alone.
    """
    verdict = verdict_of(doc, results[0])
    metrics = language_metrics(doc, results[0], verdict)
    found = read_boxed(results[0])
    correct = float(found is not None and same_value(found, doc["reference"]))
    thinking = verdict.thinking
    if thinking not in (None, "undetermined"):
        metrics["thinking_on_target"] = float(thinking == "on_target")
        metrics["thinking_off_target"] = float(thinking != "on_target")
    return {
        "acc": correct,
        "correct_on_target": correct * metrics["on_target"],
        **metrics,
        "no_answer": float(found is None),
    }


def worked_letter(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Score a worked choice: the letter that it ends on, in any wording."""
    metrics = judge_language(doc, results[0])
    letters = printed_letters(doc)
    found = read_letter(results[0], letters)
    correct = float(found == letters[doc["answer"]])
    return {
        "acc": correct,
        "correct_on_target": correct * metrics["on_target"],
        **metrics,
        "no_answer": float(found is None),
    }


def letter_by_culture(doc: Mapping[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, float]:
    """Score a letter, and apart for items that are labelled as culturally sensitive and as agnostic."""
    metrics = option_letter(doc, results)
    name = {"CS": "acc_sensitive", "CA": "acc_agnostic"}.get(doc["culture"])
    return metrics if name is None else {**metrics, name: metrics["acc"]}
