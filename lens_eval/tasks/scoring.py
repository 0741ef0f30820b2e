"""What lm_eval calls after a model has answered: `process_results` and aggregation of every Lens task.

A generation hook returns `acc`, the language verdict (`on_target`, `central`, `other`, `undetermined`,
`off_target`, `answered_in`), the form of the reply (`usable`, `echo`, `loop`, `empty`), `correct_on_target`,
and `no_answer` where an answer is read out of free text. A multiple-choice hook returns `acc` and
`acc_norm`. Everything but `answered_in` is a number to be averaged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lens_eval.language.languages import DEFAULT_LANGUAGES, LANGUAGES
from lens_eval.tasks.answers import read_number, same_number

if TYPE_CHECKING:
    from lens_eval.language.off_target import Verdict

OPEN_METRICS = (
    *("usable", "on_target", "off_target", "central", "other", "undetermined"),
    *("echo", "loop", "empty", "foreign_words", "answered_in"),
)
NUMBER_METRICS = ("acc", "correct_on_target", "no_answer", *OPEN_METRICS)


def most_common(values: Iterable[str]) -> str:
    """Aggregate `answered_in`: the language most responses were in; ties go to the first in the alphabet."""
    counts = Counter(values)
    return min(counts, key=lambda language: (-counts[language], language)) if counts else "none"


def judge_language(doc: Mapping[str, Any], response: str) -> dict[str, Any]:
    """Return the language verdict on one response, and its form, as metrics.

    `doc` needs `language` and may hold `prompt` (words of the question are set aside, and its echo is told)
    and `central` ("en").
    The set of candidate languages is closed: the project's twelve, the one asked for, and the central one.
    """
    return language_metrics(doc, response, verdict_of(doc, response))


def verdict_of(doc: Mapping[str, Any], response: str) -> Verdict:
    """Return the language verdict on one response; `doc` as in `judge_language`."""
    from lens_eval.language.off_target import get_judge

    language, central = doc["language"], doc.get("central") or "en"
    candidates = tuple(sorted({*DEFAULT_LANGUAGES, language, central}))
    return get_judge(central, candidates).judge(response, language, prompt=doc.get("prompt"))


def language_metrics(doc: Mapping[str, Any], response: str, verdict: Verdict) -> dict[str, Any]:
    """Return a verdict and the form of its response as metrics."""
    from lens_eval.language.off_target import verdict_metrics
    from lens_eval.language.reply_form import form_metrics, form_of

    metrics = dict(verdict_metrics(verdict))
    return metrics | form_metrics(form_of(response, doc.get("prompt")), metrics)


def _with_verdict(verdict: dict[str, Any], correct: bool) -> dict[str, Any]:
    return {"acc": float(correct), "correct_on_target": float(correct) * verdict["on_target"], **verdict}


def open_answer(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Score an open question: no reference, only the language of the response."""
    return judge_language(doc, results[0])


def number(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Score a worked solution: the number it ends on against `doc["answer_number"]`."""
    verdict = judge_language(doc, results[0])
    # An answer in English writes 1,234 as English does, whatever the question was in.
    written_in = verdict["answered_in"] if verdict["answered_in"] in LANGUAGES else doc["language"]
    found = read_number(results[0], written_in)
    correct = found is not None and same_number(found, doc["answer_number"])
    return {**_with_verdict(verdict, correct), "no_answer": float(found is None)}


def option_letter(doc: Mapping[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, float]:
    """Score a multiple choice answered by its letter: only letters of options that exist are compared."""
    return {"acc": float(_first_best([float(result[0]) for result in results]) == doc["answer"])}


def choice(doc: Mapping[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, float]:
    """Score a multiple choice answered by the text of an option, by its log-likelihood.

    `doc["choices"]` are the options, `doc["answer"]` is the index of the right one. `acc_norm` divides by
    the length in characters.
    """
    scores = [float(result[0]) for result in results]
    per_character = [score / max(len(text), 1) for score, text in zip(scores, doc["choices"], strict=True)]
    return {
        "acc": float(_first_best(scores) == doc["answer"]),
        "acc_norm": float(_first_best(per_character) == doc["answer"]),
    }


def _first_best(scores: Sequence[float]) -> int:
    return max(range(len(scores)), key=lambda index: (scores[index], -index))
