"""Comparison of lm_eval results folders: variants x languages x metrics, from the per-item samples.

Every number is computed from `samples_*.jsonl`, never from lm_eval's aggregates: its group standard
errors take parallel items for independent ones. Results of `lens reproduce`, `lens eval` and plain
`lm_eval --log_samples` are read alike. What was measured on other items, prompts, shots or task
versions is refused, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from lens_eval.base.errors import UserError, did_you_mean
from lens_eval.base.metrics import OF_JUDGED, REGISTRY, metric_of, ordered, plain_name
from lens_eval.results.read import Hole, Scores, family_and_language

if TYPE_CHECKING:
    import numpy as np

    from lens_eval.base.statistics import Interval

AVERAGE = "average"
"""Mean over the non-central languages, each language counting alike."""
AVERAGE_ALL = "average with central"
"""The same with the central language among them."""
CHECKS = ("items", "prompts", "shots", "version", "generation")
"""What must agree before two results stand in one table; each can be allowed by name."""


@dataclass(frozen=True)
class Entry:
    """One number of the table with its interval and its paired difference to the reference."""

    variant: str
    family: str
    language: str
    metric: str
    interval: Interval
    difference: Interval | None
    """None for the reference itself, and where the reference has no such cell."""

    @property
    def differs(self) -> bool:
        """Whether the 95% interval of the paired difference excludes zero."""
        return self.difference is not None and not self.difference.low <= 0.0 <= self.difference.high


@dataclass(frozen=True)
class Comparison:
    """Everything a table or report shows; `entries` is keyed by (family, metric, variant, language)."""

    name: str
    reference: str
    variants: tuple[str, ...]
    families: tuple[str, ...]
    languages: Mapping[str, tuple[str, ...]]
    """By family, the non-central ones first, in a fixed order."""
    central: Mapping[str, str]
    """By family; an empty string where the central language was not evaluated."""
    metrics: Mapping[str, tuple[str, ...]]
    entries: Mapping[tuple[str, str, str, str], Entry]
    simulated: bool = False
    holes: tuple[Hole, ...] = ()
    notes: tuple[str, ...] = ()
    run: Mapping[str, Any] = field(default_factory=dict)
    """`run.json` of `lens reproduce`, where there is one: recipe, environment, costs."""
    rivals: Mapping[tuple[str, str], Mapping[str, Interval]] = field(default_factory=dict)
    """(family, metric) -> variant -> paired difference of the Lens row to it, on the family's average."""

    def get(self, family: str, metric: str, variant: str, language: str) -> Entry | None:
        """The entry, or None for a hole."""
        return self.entries.get((family, metric, variant, language))


def lens_row(variants: Sequence[str], reference: str) -> str | None:
    """The variant that is Lens, by its name; of several the first; None if there is none."""
    others = [name for name in variants if name != reference]
    found = [name for name in others if name == "lens"] or [
        name for name in others if name.startswith("lens")
    ]
    return found[0] if found else None


# --- comparing ---------------------------------------------------------------------------------


def compare(
    scores: Sequence[Scores],
    *,
    reference: str | None = None,
    name: str = "",
    holes: Sequence[Hole] = (),
    run: Mapping[str, Any] | None = None,
    allow: Iterable[str] = (),
) -> Comparison:
    """Set variants side by side, item by item.

    Args:
        scores: what `load` returned.
        reference: the variant that differences are taken to; `backbone` where there is one, else the first.
        allow: names out of `CHECKS` that may differ; each then stands as a note under the tables.

    Raises:
        UserError: nothing to compare, an unknown reference, or results that do not compare (says why).
    """
    allow = tuple(allow)
    for word in allow:
        if word not in CHECKS:
            raise UserError(f"unknown check {word!r}{did_you_mean(word, CHECKS)}; known: {', '.join(CHECKS)}")
    variants = _variants(scores, holes, run or {})
    if reference is None:
        reference = (run or {}).get("reference") or ("backbone" if "backbone" in variants else variants[0])
    if reference not in variants:
        raise UserError(
            f"no variant {reference!r} to compare with{did_you_mean(reference, variants)}; "
            f"there are: {', '.join(variants)}"
        )
    notes = check_comparable(scores, reference, allow)
    scores, incomplete = _complete(scores)
    notes += incomplete
    notes += [
        f"{s.variant}, {s.task}: {s.cut_prompts} of {len(s.items)} prompts were cut to fit the context"
        for s in scores
        if s.cut_prompts
    ]
    notes += _left_out(run or {})
    builder = _Builder(scores, variants, reference, holes)
    return Comparison(
        name=name,
        reference=reference,
        variants=variants,
        families=builder.families,
        languages=builder.languages,
        central=builder.central,
        metrics=builder.metrics,
        entries=builder.entries(paired="items" not in allow),
        simulated=any(s.simulated for s in scores),
        holes=tuple(holes),
        notes=tuple(notes),
        run=run or {},
        rivals={} if "items" in allow else builder.rivals(lens_row(variants, reference)),
    )


def _variants(scores: Sequence[Scores], holes: Sequence[Hole], run: Mapping[str, Any]) -> tuple[str, ...]:
    """The variants in the order of the run, then those that it does not name."""
    found = dict.fromkeys([*(s.variant for s in scores), *(h.variant for h in holes)])
    if not found:
        raise UserError("no results to compare")
    known = [name for name in run.get("variants") or () if name in found]
    return tuple(dict.fromkeys([*known, *found]))


def _left_out(run: Mapping[str, Any]) -> list[str]:
    """What a run left out, a note per reason."""
    reasons: dict[str, list[str]] = {}
    for part in run.get("left_out", ()):
        reasons.setdefault(str(part.get("reason")), []).append(str(part.get("what")))
    return [
        f"{', '.join(names)} {'was' if len(names) == 1 else 'were'} left out: {reason}"
        for reason, names in reasons.items()
    ]


def check_comparable(scores: Sequence[Scores], reference: str, allow: Sequence[str] = ()) -> list[str]:
    """Refuse results of one task that were not measured alike; return notes on what was allowed to differ.

    Raises:
        UserError: one line per task and variant that differs from the reference, with what differs.
    """
    by_task: dict[str, list[Scores]] = {}
    for entry in scores:
        by_task.setdefault(entry.task, []).append(entry)
    refused: list[tuple[str, str]] = []
    notes: list[tuple[str, str]] = []
    for task, entries in by_task.items():
        first = next((e for e in entries if e.variant == reference), entries[0])
        for entry in entries:
            for check, words in _differences(first, entry):
                line = f"{task}: {entry.variant} and {first.variant} have {words}"
                (notes if check in allow else refused).append((check, line))
    if refused:
        lines = [line for _, line in refused]
        shown = lines[:10] + ([f"... and {len(lines) - 10} more"] if len(lines) > 10 else [])
        words = ",".join(sorted({check for check, _ in refused}))
        raise UserError(
            "these results cannot stand in one table:\n  "
            + "\n  ".join(shown)
            + f"\nEvaluate them alike, or say `--allow {words}` to see them side by side all the same."
        )
    return [line for _, line in notes]


def _complete(scores: Sequence[Scores]) -> tuple[list[Scores], list[str]]:
    """Leave out, for every variant, the items that some variant has no number for; return notes on them."""
    import numpy as np

    missing: dict[str, set[str]] = {}
    for entry in scores:
        for values in entry.metrics.values():
            own = {entry.items[i] for i in np.flatnonzero(np.isnan(values))}
            missing.setdefault(entry.task, set()).update(own)
    notes = [
        f"{task}: {len(items)} items are left out for every variant; one of them has no number there"
        for task, items in missing.items()
        if items
    ]
    return [_without(entry, missing.get(entry.task, set())) for entry in scores], notes


def _without(entry: Scores, items: set[str]) -> Scores:
    if not items:
        return entry
    kept = [i for i, item in enumerate(entry.items) if item not in items]
    return replace(
        entry,
        items=tuple(entry.items[i] for i in kept),
        doc_ids=tuple(entry.doc_ids[i] for i in kept),
        metrics={name: values[kept] for name, values in entry.metrics.items()} if kept else {},
        doc_hashes=tuple(entry.doc_hashes[i] for i in kept),
        prompt_hashes=tuple(entry.prompt_hashes[i] for i in kept),
    )


def _differences(a: Scores, b: Scores) -> Iterator[tuple[str, str]]:
    if a.version != b.version:
        yield "version", f"other task versions ({b.version} and {a.version})"
    if a.shots != b.shots:
        yield "shots", f"other numbers of shots ({b.shots} and {a.shots})"
    if len(a.items) != len(b.items):
        yield "items", f"other items ({len(b.items)} and {len(a.items)} of them)"
    elif a.doc_hashes != b.doc_hashes:
        other = [i for i, (x, y) in enumerate(zip(a.doc_hashes, b.doc_hashes, strict=True)) if x != y]
        yield (
            "items",
            f"other items ({len(other)} of {len(a.items)} differ, the first is {b.items[other[0]]})",
        )
    elif a.prompt_hashes != b.prompt_hashes and a.shots == b.shots and a.asked == b.asked:
        which = "chat templates" if a.chat_template != b.chat_template else "prompt templates"
        yield "prompts", f"other {which}"
    if a.generation != b.generation:
        yield "generation", f"other generation settings ({b.generation} and {a.generation})"


class _Builder:
    """Indexes scores by (family, variant, language) and computes each entry once."""

    def __init__(
        self, scores: Sequence[Scores], variants: tuple[str, ...], reference: str, holes: Sequence[Hole]
    ) -> None:
        self.variants = variants
        self.reference = reference
        self.cells = {(s.family, s.variant, s.language): s for s in scores}
        self.families = tuple(dict.fromkeys(s.family for s in scores))
        self.central: dict[str, str] = {}
        self.languages: dict[str, tuple[str, ...]] = {}
        self.metrics: dict[str, tuple[str, ...]] = {}
        self.designs: dict[tuple[str, str, tuple[str, ...]], _Design] = {}
        for family in self.families:
            own = [s for s in scores if s.family == family]
            # A language that failed everywhere stays a column of holes, and its average one too.
            missing = [
                code
                for hole in holes
                for name, code in [family_and_language(hole.task, {})]
                if name == family
            ]
            found = tuple(dict.fromkeys([s.language for s in own] + missing))
            central = own[0].central if own[0].central in found else ""
            self.central[family] = central
            last = (central,) if central else ()
            self.languages[family] = tuple(code for code in found if code not in last) + last
            self.metrics[family] = ordered({metric for s in own for metric in s.metrics})

    def entries(self, paired: bool) -> dict[tuple[str, str, str, str], Entry]:
        entries = {}
        for family in self.families:
            for metric in self.metrics[family]:
                for variant in self.variants:
                    for language, parts in self._groups(family):
                        entry = self._entry(family, metric, variant, language, parts, paired)
                        if entry:
                            entries[family, metric, variant, language] = entry
        return entries

    def rivals(self, subject: str | None) -> dict[tuple[str, str], dict[str, Interval]]:
        found: dict[tuple[str, str], dict[str, Interval]] = {}
        for family in self.families:
            _, parts = next(iter(self._groups(family)))
            for metric in (m for m in self.metrics[family] if metric_of(m).main):
                for variant in self.variants:
                    if subject is None or variant in (subject, self.reference):
                        continue
                    difference = self._difference(family, metric, subject, variant, parts)
                    if difference is not None:
                        found.setdefault((family, metric), {})[variant] = difference
        return found

    def _difference(
        self, family: str, metric: str, variant: str, to: str, parts: tuple[str, ...]
    ) -> Interval | None:
        """The paired difference of two variants; None where one has no number."""
        ours, theirs = (self._values(family, metric, name, parts) for name in (variant, to))
        if ours is None or theirs is None:
            return None
        if any(self._unjudged(family, metric, name, parts) for name in (variant, to)):
            return None
        return self._design(family, variant, parts).difference(ours, theirs)

    def _groups(self, family: str) -> Iterator[tuple[str, tuple[str, ...]]]:
        languages = self.languages[family]
        others = tuple(code for code in languages if code != self.central[family])
        if len(others) > 1 or (others and self.central[family]):
            yield AVERAGE, others
        if others and self.central[family]:
            yield AVERAGE_ALL, languages
        for code in languages:
            yield code, (code,)

    def _entry(
        self, family: str, metric: str, variant: str, language: str, parts: tuple[str, ...], paired: bool
    ) -> Entry | None:
        """None where a language is missing: an average over fewer languages would not compare."""
        values = self._values(family, metric, variant, parts)
        if values is None:
            return None
        if plain_name(metric) in OF_JUDGED and self._unjudged(family, metric, variant, parts):
            return None
        design = self._design(family, variant, parts)
        difference = None
        if paired and variant != self.reference:
            difference = self._difference(family, metric, variant, self.reference, parts)
        return Entry(
            variant,
            family,
            language,
            metric,
            design.interval(values, self._is_rate(family, metric)),
            difference,
        )

    def _unjudged(self, family: str, metric: str, variant: str, parts: tuple[str, ...]) -> bool:
        """Whether the language of no response of some part could be judged: a rate of it is no number."""
        if plain_name(metric) not in OF_JUDGED:
            return False
        _, comma, filtered = metric.partition(",")
        cells = [self.cells.get((family, variant, code)) for code in parts]
        names = [cell.metrics.get(f"undetermined{comma}{filtered}") for cell in cells if cell is not None]
        return any(values is not None and len(values) > 0 and bool((values == 1).all()) for values in names)

    def _is_rate(self, family: str, metric: str) -> bool:
        """Whether a metric is a rate: as it declares; an unknown one, if every value of it is 0 or 1."""
        known = REGISTRY.get(plain_name(metric))
        if known is not None:
            return known.rate
        own = [
            cell.metrics[metric]
            for cell in self.cells.values()
            if cell.family == family and metric in cell.metrics
        ]
        return all(bool(((values == 0) | (values == 1)).all()) for values in own)

    def _values(self, family: str, metric: str, variant: str, parts: tuple[str, ...]) -> np.ndarray | None:
        import numpy as np

        cells = [self.cells.get((family, variant, code)) for code in parts]
        found = [cell.metrics[metric] for cell in cells if cell is not None and metric in cell.metrics]
        return np.concatenate(found) if len(found) == len(parts) else None

    def _design(self, family: str, variant: str, parts: tuple[str, ...]) -> _Design:
        key = (family, variant, parts)
        if key not in self.designs:
            self.designs[key] = _Design([self.cells[family, variant, code].items for code in parts])
        return self.designs[key]


class _Design:
    """Which values belong to one item, and weights by which every language counts alike in the mean."""

    def __init__(self, items: Sequence[tuple[str, ...]]) -> None:
        import numpy as np

        sizes = [len(own) for own in items]
        self.n = sum(sizes)
        names = [name for own in items for name in own]
        self.clusters = np.unique(names, return_inverse=True)[1]
        self.weights = np.concatenate([np.full(size, self.n / (len(sizes) * size)) for size in sizes])
        self.counts = np.bincount(self.clusters, self.weights)
        self._balanced = bool(np.allclose(self.counts, self.counts[0]))

    def interval(self, values: np.ndarray, rate: bool) -> Interval:
        """Mean and interval: of a rate (Wilson), or of a number or grade that is none (Student)."""
        import numpy as np

        from lens_eval.base.statistics import interval_of_sums, paired_difference

        if not rate or values.min() < 0 or values.max() > 1:
            return paired_difference((values * self.weights).tolist(), [0.0] * self.n, self.clusters.tolist())
        sums = np.bincount(self.clusters, values * self.weights)
        interval = interval_of_sums(list(zip(self.counts.tolist(), sums.tolist(), strict=True)))
        return replace(interval, n=self.n)

    def difference(self, values: np.ndarray, base: np.ndarray) -> Interval:
        """Mean of `values - base` with its interval, clustered by item."""
        import numpy as np

        from lens_eval.base.statistics import paired_difference

        if self._balanced and not np.array_equal(values, base):
            # Parallel items: the same variance from one number per item, a language's share of the work.
            scale = len(self.counts) / self.n
            ours, theirs = (np.bincount(self.clusters, x * self.weights) * scale for x in (values, base))
            return replace(paired_difference(ours.tolist(), theirs.tolist()), n=self.n)
        return paired_difference(
            (values * self.weights).tolist(), (base * self.weights).tolist(), self.clusters.tolist()
        )


def main_metrics(comparison: Comparison, family: str) -> tuple[str, ...]:
    """The metrics that tables for reading show; all of them where none is known."""
    own = comparison.metrics[family]
    main = tuple(m for m in own if metric_of(m).main)
    return main or own
