"""Named checks of the directions that are published about Lens, on one's own results.

The paper's tables could not be sourced; what its public reviews say of them could: directions, no numbers.
Each is a `Finding`: a contrast of per-item results with its paired, item-clustered 95% interval, and a rule.
`docs/reproduction.md` words them for readers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from lens_eval.base.metrics import metric_of
from lens_eval.base.plain_tables import bounds, points
from lens_eval.base.separated import write_csv
from lens_eval.base.terminal import make_console
from lens_eval.results.read import Scores

if TYPE_CHECKING:
    from rich.console import Console

    from lens_eval.base.statistics import Interval

MARGIN = 0.03
"""What counts as little: three points. A choice of this project, not of the paper."""

Outcome = Literal["passes", "fails", "not applicable"]
Rule = Literal["above zero", "within the margin", "not below the margin"]


@dataclass(frozen=True)
class Part:
    """One cell of a contrast: `weight` times the mean of `of - to`, item by item."""

    of: Scores
    to: Scores
    metric: str
    weight: float


@dataclass(frozen=True)
class Check:
    """How a finding came out on some results."""

    name: str
    claim: str
    outcome: Outcome
    rule: Rule
    interval: Interval | None
    """Of the contrast, a share (0.1 is ten points); None where it is not applicable."""
    detail: str
    """What was compared on what; or what is missing."""


@dataclass(frozen=True)
class Finding:
    """A direction that a run can show: its contrast, and where that has to lie."""

    name: str
    claim: str
    rule: Rule
    parts: Callable[[Results], list[Part]]

    def check(self, results: Results) -> Check:
        """Evaluate the finding."""
        try:
            parts = self.parts(results)
        except NotThere as reason:
            return Check(self.name, self.claim, "not applicable", self.rule, None, f"missing: {reason}")
        interval = contrast(parts)
        passes = {
            "above zero": interval.low > 0,
            "within the margin": interval.low > -MARGIN and interval.high < MARGIN,
            "not below the margin": interval.low > -MARGIN,
        }[self.rule]
        return Check(
            self.name, self.claim, "passes" if passes else "fails", self.rule, interval, _describe(parts)
        )


class NotThere(Exception):
    """A variant, task or language that a finding is about is not among the results."""


class Results:
    """Scores by family, variant and language, and the parts that findings are made of."""

    def __init__(self, scores: Iterable[Scores], reference: str) -> None:
        self._cells = {(s.family, s.variant, s.language): s for s in scores}
        self.reference = reference
        self.variants = tuple(dict.fromkeys(variant for _, variant, _ in self._cells))
        families = tuple(dict.fromkeys(family for family, _, _ in self._cells))
        # Of a family asked twice, by the released protocol and by ours, the released one is the paper's.
        self.families = tuple(family for family in families if f"{family}_official" not in families)

    def lens(self) -> tuple[str, ...]:
        """The Lens rows: `lens` where there is one, else `lens_official`; one per seed."""
        for name in ("lens", "lens_official"):
            if found := self._rows(name):
                return found
        raise NotThere("a variant named lens or lens_official")

    def rows(self, name: str) -> tuple[str, ...]:
        """Rows of a variant, one per seed.

        Raises:
            NotThere: there is none.
        """
        found = self._rows(name)
        if not found:
            raise NotThere(f"a variant named {name}")
        return found

    def _rows(self, name: str) -> tuple[str, ...]:
        return tuple(v for v in self.variants if v == name or v.startswith(f"{name}-seed"))

    def fidelity(
        self, of: Sequence[str], to: Sequence[str], languages: Sequence[str] | None = None, weight: float = 1
    ) -> list[Part]:
        """Contrast of the share of answers in the language asked for, over all open tasks.

        `languages`: all that are not the central one, or those named, each of which must be there.
        """
        return self._average(of, to, ("on_target", "off_target"), languages, weight)

    def accuracy(
        self,
        of: Sequence[str],
        to: Sequence[str],
        languages: Sequence[str] | None = None,
        weight: float = 1,
        task: str = "",
    ) -> list[Part]:
        """Contrast of accuracy over tasks answered by option, of families with `task` in their name."""
        return self._average(of, to, ("acc",), languages, weight, task)

    def central(self, of: Sequence[str], to: Sequence[str]) -> list[Part]:
        """Contrast of accuracy in the central language, over tasks answered by option."""
        codes = {cell.central for cell in self._cells.values()}
        return [part for code in codes for part in self._average(of, to, ("acc",), [code], 1.0)]

    def _average(
        self,
        of: Sequence[str],
        to: Sequence[str],
        metrics: Sequence[str],
        languages: Sequence[str] | None,
        weight: float,
        task: str = "",
    ) -> list[Part]:
        """Every pair of rows, family and language counts alike."""
        found: list[tuple[Scores, Scores, str]] = []
        lacking: list[set[str]] = []
        for family in self.families:
            if task not in family:
                continue
            pairs, absent = self._family(family, of, to, metrics, languages)
            # A family without one of the languages named would shift the contrast to the others.
            found += [] if absent else pairs
            lacking.append(absent)
        if not found:
            nearest = sorted(lacking, key=lambda absent: (len(absent), sorted(absent)))[:1]
            raise NotThere(self._what(metrics, languages, task, set().union(*nearest)))
        return [Part(a, b, metric, weight * metric_of(metric).sign / len(found)) for a, b, metric in found]

    def _family(
        self,
        family: str,
        of: Sequence[str],
        to: Sequence[str],
        metrics: Sequence[str],
        languages: Sequence[str] | None,
    ) -> tuple[list[tuple[Scores, Scores, str]], set[str]]:
        pairs, there = [], set()
        for key, theirs in self._cells.items():
            if key[0] != family or key[1] not in to:
                continue
            wanted = theirs.language != theirs.central if languages is None else theirs.language in languages
            metric = next((name for name in metrics if name in theirs.metrics), None)
            answered_by_option = "on_target" not in theirs.metrics and "off_target" not in theirs.metrics
            if not wanted or metric is None or (metric == "acc" and not answered_by_option):
                continue
            for row in of:
                ours = self._cells.get((family, row, theirs.language))
                if ours is not None and metric in ours.metrics and ours.items == theirs.items:
                    pairs.append((ours, theirs, metric))
                    there.add(theirs.language)
        return pairs, set(languages or ()) - there

    @staticmethod
    def _what(
        metrics: Sequence[str], languages: Sequence[str] | None, task: str, lacking: Iterable[str]
    ) -> str:
        kind = "answered by option" if metrics == ("acc",) else "with judged language"
        where = f" in {', '.join(languages)}" if languages else " in a language that is not the central one"
        words = f"a {task} task" if task else "a task"
        absent = sorted(lacking)
        short = (
            f" (no family has them all; the nearest lacks {', '.join(absent)})"
            if languages and absent
            else ""
        )
        return f"{words} {kind}{where}, in both variants{short}"


def contrast(parts: Sequence[Part]) -> Interval:
    """Sum over parts of weight times mean(of - to), with its interval clustered by item within a family.

    Where no item differs from another the standard error is that of `paired_difference` for such values.
    """
    import numpy as np

    from lens_eval.base.statistics import Interval, paired_difference, student_quantile

    total = sum(len(part.of.items) for part in parts)
    ours, theirs, clusters = [], [], []
    for part in parts:
        # The mean over all values is the sum of the parts' weighted means.
        scale = part.weight * total / len(part.of.items)
        ours.append(part.of.metrics[part.metric] * scale)
        theirs.append(part.to.metrics[part.metric] * scale)
        clusters += [(part.of.family, item) for item in part.of.items]
    found = paired_difference(np.concatenate(ours).tolist(), np.concatenate(theirs).tolist(), clusters)
    groups = len(set(clusters))
    if found.high - found.low > 1e-9 or groups < 2:
        return found
    error = sum(abs(part.weight) for part in parts) / (groups + 2)
    spread = student_quantile(0.975, groups - 1) * error
    return Interval(found.mean, found.mean - spread, found.mean + spread, found.n)


def _describe(parts: Sequence[Part]) -> str:
    """What a contrast compared: variants, tasks and languages, in the order of the results."""

    def named(values: Iterator[str]) -> str:
        return ", ".join(dict.fromkeys(values))

    groups: dict[tuple[str, str, bool], list[Part]] = {}
    for part in parts:
        metric = "on target" if part.metric in ("on_target", "off_target") else "accuracy"
        positive = part.weight * metric_of(part.metric).sign > 0
        variants = f"{_plain(part.of.variant)} - {_plain(part.to.variant)}"
        groups.setdefault((variants, metric, positive), []).append(part)
    texts = [
        ("" if positive else "less ")
        + f"{variants}, {metric}: {named(p.of.family for p in own)} ({named(p.of.language for p in own)})"
        for (variants, metric, positive), own in groups.items()
    ]
    return "; ".join(texts)


def _plain(variant: str) -> str:
    return variant.partition("-seed")[0]


def _fidelity_over_accuracy(results: Results) -> list[Part]:
    lens, base = results.lens(), results.rows(results.reference)
    return results.fidelity(lens, base) + results.accuracy(lens, base, weight=-1)


def _near_over_far(measure: Callable[..., list[Part]], results: Results) -> list[Part]:
    lens, base = results.lens(), results.rows(results.reference)
    together = measure(lens, base, ["zh", "ja", "ar", "bn"])
    sign = {"zh": 2.0, "ja": 2.0, "ar": -2.0, "bn": -2.0}
    # Twice the share of each of the four languages: the mean of two less the mean of the other two.
    return [Part(p.of, p.to, p.metric, p.weight * sign[p.of.language]) for p in together]


FINDINGS: tuple[Finding, ...] = (
    Finding(
        "fidelity_rises",
        "Lens answers in the language asked for more often than the backbone",
        "above zero",
        lambda r: r.fidelity(r.lens(), r.rows(r.reference)),
    ),
    Finding(
        "fidelity_is_the_clearest_gain",
        "Lens gains more in language fidelity than in accuracy",
        "above zero",
        _fidelity_over_accuracy,
    ),
    Finding(
        "fidelity_zh_ja_over_ar_bn",
        "Lens gains more fidelity in Chinese and Japanese than in Arabic and Bengali",
        "above zero",
        lambda r: _near_over_far(r.fidelity, r),
    ),
    Finding(
        "accuracy_zh_ja_over_ar_bn",
        "Lens gains more accuracy in Chinese and Japanese than in Arabic and Bengali",
        "above zero",
        lambda r: _near_over_far(r.accuracy, r),
    ),
    Finding(
        "sdrrl_above_backbone_on_xcopa",
        "SDRRL is above the backbone on XCOPA",
        "above zero",
        lambda r: r.accuracy(r.rows("sdrrl"), r.rows(r.reference), task="xcopa"),
    ),
    Finding(
        "xsft_full_beats_lens_on_swahili",
        "Fine-tuning on the large data set beats Lens on Swahili",
        "above zero",
        lambda r: r.accuracy(r.rows("xsft_large"), r.lens(), ["sw"]),
    ),
    Finding(
        "align_weight_changes_little",
        "Lens without the align loss is as accurate as with it",
        "within the margin",
        lambda r: r.accuracy(r.rows("lens_no_align"), r.lens()),
    ),
    Finding(
        "align_weight_changes_fidelity_little",
        "Lens without the align loss answers in the language asked for as often as with it",
        "within the margin",
        lambda r: r.fidelity(r.rows("lens_no_align"), r.lens()),
    ),
    Finding(
        "central_language_is_kept",
        "Lens does not lower accuracy in the central language",
        "not below the margin",
        lambda r: r.central(r.lens(), r.rows(r.reference)),
    ),
    Finding(
        "understanding_is_kept",
        "Lens does not lower accuracy in the other languages",
        "not below the margin",
        lambda r: r.accuracy(r.lens(), r.rows(r.reference)),
    ),
)


def check_findings(scores: Sequence[Scores], reference: str) -> list[Check]:
    """Evaluate every finding on the scores of a comparison; `reference` is its backbone's name."""
    results = Results(scores, reference)
    return [finding.check(results) for finding in FINDINGS]


# --- shown -------------------------------------------------------------------------------------

NOTE = (
    f"Differences in points with paired 95% intervals, clustered by item; little is {100 * MARGIN:.0f} "
    "points. A check fails where the interval does not lie where the claim says, also for want of items."
)


def show(checks: Sequence[Check], console: Console | None = None) -> None:
    """Print each check: outcome and name, the claim, the numbers behind it."""
    from rich.markup import escape

    console = console or make_console()
    styles = {"passes": "green", "fails": "red", "not applicable": "dim"}
    console.print("\n[bold]published directions[/bold]")
    for check in checks:
        style = styles[check.outcome]
        console.print(f"[{style}]{check.outcome}[/{style}]  [bold]{check.name}[/bold]")
        console.print(escape(f"    {check.claim}: {numbers(check)}"))
        console.print(escape(f"    {check.detail}"), style="dim")
    console.print(escape(NOTE), style="dim")


def to_markdown(checks: Sequence[Check]) -> str:
    """A table of the checks."""
    from lens_eval.base.plain_tables import markdown_cell

    lines = ["## Published directions", "", NOTE, "", "| check | outcome | claim | difference | measured |"]
    lines += ["|---|---|---|---:|---|"]
    for c in checks:
        cells = (c.name, c.outcome, c.claim, numbers(c), c.detail)
        lines.append("| " + " | ".join(markdown_cell(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def rows(checks: Sequence[Check]) -> list[dict[str, Any]]:
    """One flat record per check, for CSV and JSON; differences are shares."""
    records = []
    for check in checks:
        record: dict[str, Any] = {k: v for k, v in asdict(check).items() if k != "interval"}
        numbers: Mapping[str, Any] = asdict(check.interval) if check.interval else {}
        record.update({name: numbers.get(name) for name in ("mean", "low", "high", "n")})
        records.append(record)
    return records


def to_csv(checks: Sequence[Check]) -> str:
    """The records of `rows`."""
    names = ["name", "claim", "outcome", "rule", "detail", "mean", "low", "high", "n"]
    return write_csv(names, rows(checks))


def numbers(check: Check) -> str:
    """`+5.2 [+1.0, +9.4]`: the contrast in points with its interval; a dash where there is none."""
    i = check.interval
    if i is None:
        return "–"
    return f"{points(i.mean)} {bounds(i, points)}"
