"""What happened, in one sentence: computed from a comparison, and never more than its intervals say.

The subject is the Lens row; without one, the only variant beside the reference, or else the one with the
highest first number. A change is stated as one only if the paired interval excludes zero. If it does not, the
two are called level where the interval lies within `LEVEL`, and not distinguishable where it is wider.
"""

from __future__ import annotations

from lens_eval.base.metrics import CORRECTNESS, first_of, label, metric_of
from lens_eval.base.plain_tables import bounds, percent, points
from lens_eval.base.statistics import Interval
from lens_eval.language.languages import LANGUAGES
from lens_eval.results.compare import AVERAGE, Comparison, lens_row

LEVEL = 0.02
"""A difference of so much (two points) or less, with its whole interval, is called level."""
SHOWN = ("off_target", "usable")
_MOST_NAMES = 4


def headline(comparison: Comparison) -> str:
    """One sentence on the first task with replies in words, else on the first task; empty without numbers."""
    family = _family(comparison)
    subject = subject_of(comparison)
    if family is None or subject is None:
        return ""
    languages = comparison.languages[family]
    central = comparison.central[family]
    others = [code for code in languages if code != central]
    place = (
        AVERAGE if any(key[0] == family and key[3] == AVERAGE for key in comparison.entries) else languages[0]
    )
    clauses = [
        clause
        for metric in _metrics(comparison, family)
        if (clause := _clause(comparison, family, metric, subject, place, label(metric)))
    ]
    if not clauses:
        return ""
    where = f"average of {len(others)} languages" if place == AVERAGE else place or "all items"
    text = f"{subject}: {', '.join(clauses)} ({family}, {where}"
    text += ", simulated)" if comparison.simulated else ")"
    if central and place != central and (spoken := _central(comparison, family, subject, central)):
        text += f"; {spoken}"
    return f"{text}.{_rivals(comparison, family, subject)}"


def subject_of(comparison: Comparison) -> str | None:
    """The variant that the sentence is about; None if there is only the reference's name without numbers."""
    others = [name for name in comparison.variants if name != comparison.reference]
    if not others:
        return next(iter(comparison.variants), None)
    lens = lens_row(comparison.variants, comparison.reference)
    return lens or (others[0] if len(others) == 1 else _highest(comparison, others))


def _highest(comparison: Comparison, names: list[str]) -> str:
    family = _family(comparison)
    metrics = _metrics(comparison, family) if family else []
    if not metrics:
        return names[0]
    metric = metrics[-1] if len(metrics) == 1 else metrics[1]

    def rank(name: str) -> float:
        own = [e for key, e in comparison.entries.items() if key[:3] == (family, metric, name)]
        return metric_of(metric).sign * own[0].interval.mean if own else float("-inf")

    return max(names, key=rank)


def _family(comparison: Comparison) -> str | None:
    spoken = [f for f in comparison.families if first_of(["off_target"], comparison.metrics[f])]
    return next(iter([*spoken, *comparison.families]), None)


def _metrics(comparison: Comparison, family: str) -> list[str]:
    own = comparison.metrics[family]
    found = [first_of([name], own) for name in SHOWN] + [first_of(CORRECTNESS, own)]
    return [metric for metric in found if metric is not None] or list(own[:1])


def _clause(comparison: Comparison, family: str, metric: str, subject: str, place: str, words: str) -> str:
    """`off-target 77.0 → 1.3% [0.7, 2.6]`; empty if the subject has no such number."""
    entry = comparison.get(family, metric, subject, place)
    if entry is None:
        return ""
    value, sign = percent(entry.interval.mean), "%" if metric_of(metric).rate else ""
    before = comparison.get(family, metric, comparison.reference, place)
    if subject == comparison.reference or before is None:
        return f"{words} {value}{sign} {bounds(entry.interval)}"
    both = f"{words} {percent(before.interval.mean)} → {value}{sign}"
    if entry.difference is None:
        return f"{both} {bounds(entry.interval)} (not compared item by item)"
    if entry.differs:
        return f"{both} {bounds(entry.interval)}"
    return f"{both}, {_undecided(entry.difference)} {bounds(entry.difference, points)}"


def _undecided(difference: Interval) -> str:
    return "level" if is_level(difference) else "not distinguishable"


def is_level(difference: Interval) -> bool:
    """Whether a difference lies, with its whole interval, within `LEVEL` around zero."""
    return difference.low >= -LEVEL and difference.high <= LEVEL


def _central(comparison: Comparison, family: str, subject: str, central: str) -> str:
    name = LANGUAGES[central].name if central in LANGUAGES else central
    own = comparison.metrics[family]
    metric = first_of(CORRECTNESS, own) or first_of(["usable"], own) or first_of(["off_target"], own)
    if metric is None:
        return ""
    return _clause(comparison, family, metric, subject, central, f"{name} {label(metric)}")


def _rivals(comparison: Comparison, family: str, subject: str) -> str:
    """How the subject stands to the other variants by its first number that can be compared."""
    for metric in _metrics(comparison, family)[1:] or _metrics(comparison, family):
        groups: dict[str, list[str]] = {}
        for variant, difference in comparison.rivals.get((family, metric), {}).items():
            words = _standing(difference)
            by = f" by {abs(100 * difference.mean):.1f}" if words in ("above", "below") else ""
            groups.setdefault(words, []).append(variant + by)
        if groups:
            order = ("above", "level with", "not distinguishable from", "below")
            parts = [f"{words} {_names(groups[words])}" for words in order if words in groups]
            return f" {label(metric).capitalize()}: {'; '.join(parts)}."
    return ""


def _standing(difference: Interval) -> str:
    if difference.low <= 0.0 <= difference.high:
        return "level with" if is_level(difference) else "not distinguishable from"
    return "above" if difference.mean > 0 else "below"


def _names(names: list[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names) if more <= 1 else f"{', '.join(names[:_MOST_NAMES])} and {more} more"
