"""Intervals for rates whose items are not independent: parallel items in many languages, several answers to
one.

Everything is in closed form and summed exactly (`math.fsum`), so that the same values in any order give the
same numbers. Responses of one cluster (the same item in every language, or repeated answers to it) are
correlated; lm_eval's pooled standard error of a group of tasks takes them for independent, which is wrong
there.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import sub

from lens_eval.base.errors import UserError

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval (95% unless asked otherwise), over `n` values; NaN where n is 0."""

    mean: float
    low: float
    high: float
    n: int


def rate_interval(
    values: Sequence[float], clusters: Sequence[Hashable] | None = None, confidence: float = CONFIDENCE
) -> Interval:
    """Return the mean of values between 0 and 1 with a Wilson score interval.

    With `clusters` (one label per value) the interval is cluster-robust: the variance of the mean comes from
    the cluster sums, and Wilson's formula gets the number of independent values with the same variance (the
    effective sample size, at most n) and Student's t on clusters - 1 degrees of freedom. Without, values are
    independent. Where all values are 0 or all are 1 the clusters are counted instead. Raises `UserError` for
    lists of unequal length and values outside 0..1.
    """
    if clusters is not None and len(clusters) != len(values):
        raise UserError(f"{len(values)} values need as many clusters, not {len(clusters)}")
    if any(not 0 <= value <= 1 for value in values):
        raise UserError("a rate needs values between 0 and 1")
    sums: dict[Hashable, list[float]] = {}
    for value, cluster in zip(values, range(len(values)) if clusters is None else clusters, strict=True):
        sums.setdefault(cluster, []).append(value)
    return interval_of_sums([(len(each), math.fsum(each)) for each in sums.values()], confidence)


def interval_of_sums(clusters: Sequence[tuple[int, float]], confidence: float = CONFIDENCE) -> Interval:
    """Return the interval of a rate from (number of values, their sum) per cluster; see `rate_interval`."""
    n = sum(count for count, _ in clusters)
    if not n:
        return Interval(math.nan, math.nan, math.nan, 0)
    mean = math.fsum(total for _, total in clusters) / n
    effective, quantile = float(n), normal_quantile((1 + confidence) / 2)
    if len(clusters) < n:
        effective = _effective_size(clusters, mean, n)
        quantile = student_quantile((1 + confidence) / 2, max(1, len(clusters) - 1))
    low, high = _wilson(mean, effective, quantile)
    return Interval(mean, low, high, n)


def _effective_size(clusters: Sequence[tuple[int, float]], mean: float, n: int) -> float:
    """Return how many independent values would give a mean of the same variance (Kish's n over design
    effect)."""
    groups = len(clusters)
    independent = mean * (1 - mean)
    if not independent:
        # No variation to estimate anything from: count items, not responses.
        return float(groups)
    squares = math.fsum((total - count * mean) ** 2 for count, total in clusters)
    variance = squares * groups / (groups - 1) / n**2 if groups > 1 else independent
    if not variance:
        return float(n)
    return min(float(n), max(independent / variance, 1.0))


def _wilson(mean: float, n: float, z: float) -> tuple[float, float]:
    centre = mean + z * z / (2 * n)
    spread = z * math.sqrt(mean * (1 - mean) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # At 0 and 1 the ends are exact; rounding may leave them a hair inside.
    low = 0.0 if mean == 0 else max(0.0, (centre - spread) / scale)
    high = 1.0 if mean == 1 else min(1.0, (centre + spread) / scale)
    return low, high


def paired_difference(
    a: Sequence[float],
    b: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    confidence: float = CONFIDENCE,
) -> Interval:
    """Return mean(a - b) over pairs (two variants' values for the same response) with its interval.

    Cluster-robust where `clusters` labels pairs of one item (CR1: sums per cluster, G/(G-1)), with Student's
    t on G - 1 degrees of freedom. Of 0/1 values without a single disagreement the standard error is taken as
    1/(G + 2) instead of 0 (as adding half a pair to each cell does, Agresti and Min 2005). `n` counts pairs;
    with fewer than two clusters the interval is infinite. Raises `UserError` for lists of unequal length.
    """
    if not len(a) == len(b) == (len(a) if clusters is None else len(clusters)):
        sizes = f"{len(a)} and {len(b)}" + ("" if clusters is None else f", {len(clusters)} clusters")
        raise UserError(f"paired values need lists of one length, not {sizes}")
    n = len(a)
    if not n:
        return Interval(math.nan, math.nan, math.nan, 0)
    differences = list(map(sub, a, b))
    mean = math.fsum(differences) / n
    if clusters is None:
        apart = [difference - mean for difference in differences]
    else:
        grouped: dict[Hashable, list[float]] = {}
        for difference, cluster in zip(differences, clusters, strict=True):
            grouped.setdefault(cluster, []).append(difference)
        apart = [math.fsum(each) - len(each) * mean for each in grouped.values()]
    groups = len(apart)
    if groups < 2:
        return Interval(mean, -math.inf, math.inf, n)
    squares = math.fsum([each**2 for each in apart])
    error = math.sqrt(squares * groups / (groups - 1)) / n
    if not error and all(value in (0, 1) for value in (*a, *b)):
        error = 1 / (groups + 2)
    spread = student_quantile((1 + confidence) / 2, groups - 1) * error
    return Interval(mean, mean - spread, mean + spread, n)


@lru_cache(maxsize=64)
def normal_quantile(p: float) -> float:
    """Return the p-quantile of the standard normal distribution, 0 < p < 1."""
    from statistics import NormalDist

    return NormalDist().inv_cdf(p)


@lru_cache(maxsize=1024)
def student_quantile(p: float, degrees: int) -> float:
    """Return the p-quantile of Student's t, 0.5 <= p < 1, `degrees` >= 1, by bisection."""
    low, high = 0.0, 1.0
    while student_cdf(high, degrees) < p:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if student_cdf(middle, degrees) < p else (low, middle)
    return (low + high) / 2


def student_cdf(t: float, degrees: int) -> float:
    """Return P(T <= t) for Student's t with `degrees` >= 1, t >= 0.

    Finite trigonometric sums (Abramowitz and Stegun 26.7.3, 26.7.4); beyond 2,000 degrees the normal
    distribution with the usual correction (26.7.8), which agrees to six digits there.
    """
    if degrees > 2000:
        from statistics import NormalDist

        return NormalDist().cdf(t * (1 - 1 / (4 * degrees)) / math.sqrt(1 + t * t / (2 * degrees)))
    theta = math.atan(t / math.sqrt(degrees))
    sine, cosine2 = math.sin(theta), math.cos(theta) ** 2
    odd = degrees % 2
    if degrees == 1:
        return 0.5 + theta / math.pi
    term = math.cos(theta) if odd else 1.0
    total = term
    for k in range(3 if odd else 2, degrees - 1, 2):
        term *= cosine2 * (k - 1) / k
        total += term
    share = 2 * (theta + sine * total) / math.pi if odd else sine * total
    return 0.5 + share / 2
