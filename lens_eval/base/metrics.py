"""Metrics: the words for each number that an item can have, and which way is better.

lm_eval appends a filter to a name (`exact_match,flexible-extract`); every function here takes a name with or
without one. What is not in the registry, a metric of another task, is called by its name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """A number per item, whose mean is shown."""

    name: str
    label: str
    better: Literal["higher", "lower", ""]
    """Empty where neither is better, or where that is not known."""
    main: bool = False
    """Whether tables for reading show it; the others go into JSON and CSV only."""
    rate: bool = True
    """Whether an item's number is 0, 1 or a share between, so that the mean is a rate; else it is a grade."""

    @property
    def sign(self) -> int:
        """1 if more of it is better, -1 if less of it is, else 0."""
        return {"higher": 1, "lower": -1, "": 0}[self.better]

    @property
    def hint(self) -> str:
        """`higher is better`, `lower is better`, or nothing."""
        return f"{self.better} is better" if self.better else ""


# The main ones in the order of tables.
REGISTRY: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("acc", "accuracy", "higher", main=True),
        Metric("exact_match", "exact match", "higher", main=True),
        Metric("off_target", "off-target", "lower", main=True),
        Metric("usable", "usable", "higher", main=True),
        Metric("correct_on_target", "on target and correct", "higher", main=True),
        Metric("judge_score", "judge's grade (100 is 10)", "higher", main=True, rate=False),
        Metric(
            "judge_score_on_target", "judge's grade, off target counts 1", "higher", main=True, rate=False
        ),
        Metric("acc_norm", "acc_norm", "higher"),
        Metric("on_target", "on target", "higher"),
        Metric("central", "in the central language", "lower"),
        Metric("other", "in another language", "lower"),
        Metric("undetermined", "language undetermined", "lower"),
        Metric("echo", "echo of the prompt", "lower"),
        Metric("loop", "loop", "lower"),
        Metric("empty", "empty answer", "lower"),
        Metric("no_answer", "no answer found", "lower"),
        Metric("cut_off", "cut by the token limit", "lower"),
        Metric("off_target_lines", "lines off target", "lower"),
        Metric("foreign_words", "with foreign words", "lower"),
        Metric("lcb_line_pass", "LCB line pass rate", "higher"),
        Metric("lcb_word_pass", "LCB word pass rate", "higher"),
        Metric("thinking_on_target", "thinking on target", "higher"),
        Metric("thinking_off_target", "thinking off target", "lower"),
        Metric("acc_sensitive", "accuracy, culturally sensitive", "higher"),
        Metric("acc_agnostic", "accuracy, culturally agnostic", "higher"),
    )
}
CORRECTNESS = ("acc", "exact_match")
"""Whether an answer is right: an item has one of them, if any."""
JUDGED = ("judge_score", "judge_score_on_target")
"""Grades of a judge model."""
OF_JUDGED = ("on_target", "central", "other", "off_target", "correct_on_target")
"""Shares that say nothing if the language of no response could be judged."""


def plain_name(metric: str) -> str:
    """The name without lm_eval's filter."""
    return metric.partition(",")[0]


def metric_of(metric: str) -> Metric:
    """The metric of a name; one that is not in the registry has its name for a label."""
    name = plain_name(metric)
    return REGISTRY.get(name) or Metric(name, name, "")


def label(metric: str) -> str:
    """The metric in words; a filter that is not lm_eval's plain one stays in the name."""
    _, _, filtered = metric.partition(",")
    return metric_of(metric).label + (f" ({filtered})" if filtered else "")


def ordered(metrics: Collection[str]) -> tuple[str, ...]:
    """The main ones first, in the order of the registry, then the others by name."""
    first = [m for name in REGISTRY if REGISTRY[name].main for m in sorted(metrics) if plain_name(m) == name]
    return (*first, *sorted(set(metrics) - set(first)))


def first_of(names: Iterable[str], metrics: Iterable[str]) -> str | None:
    """The first of `metrics` that has one of these names, whatever its filter; an earlier name goes first."""
    own = tuple(metrics)
    return next((m for name in names for m in own if plain_name(m) == name), None)
