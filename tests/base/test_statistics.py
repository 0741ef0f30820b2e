"""Intervals: against known values, against simulation with correlated items, and their invariances."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lens_eval.base.errors import UserError
from lens_eval.base.statistics import interval_of_sums, paired_difference, rate_interval, student_quantile

RATES = st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=60)


def test_wilson_of_known_counts() -> None:
    """15 of 50: the textbook interval (0.1910, 0.4375)."""
    interval = rate_interval([1.0] * 15 + [0.0] * 35)
    assert (interval.mean, interval.n) == (0.3, 50)
    assert interval.low == pytest.approx(0.1910, abs=5e-5)
    assert interval.high == pytest.approx(0.4375, abs=5e-5)


@pytest.mark.parametrize(
    ("degrees", "quantile"),
    [(1, 12.7062), (2, 4.30265), (3, 3.18245), (10, 2.22814), (29, 2.04523), (249, 1.96954), (5000, 1.96044)],
)
def test_student_quantiles_of_the_tables(degrees: int, quantile: float) -> None:
    assert student_quantile(0.975, degrees) == pytest.approx(quantile, abs=1e-5)


def test_student_quantiles_equal_scipys() -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    for degrees in (1, 2, 7, 1999, 2001):
        assert student_quantile(0.95, degrees) == pytest.approx(scipy_stats.t.ppf(0.95, degrees), abs=1e-6)


def test_repeating_every_item_tells_nothing_new_when_clustered() -> None:
    values = [1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0] * 5
    once = rate_interval(values)
    repeated = rate_interval(values * 4, list(range(len(values))) * 4)
    naive = rate_interval(values * 4)
    assert repeated.high - repeated.low == pytest.approx(once.high - once.low, rel=0.06)
    assert naive.high - naive.low < 0.6 * (once.high - once.low)  # the control: what pooling would claim


def test_clustered_interval_covers_where_the_independent_one_does_not() -> None:
    """60 items in 8 languages whose difficulty is shared: 95% intervals must cover about 95%."""
    draw = random.Random(0)
    covered = naive_covered = 0
    for _ in range(400):
        values, clusters = [], []
        for item in range(60):
            difficulty = draw.choice([0.05, 0.35])  # mean 0.2
            for _ in range(8):
                values.append(float(draw.random() < difficulty))
                clusters.append(item)
        robust, naive = rate_interval(values, clusters), rate_interval(values)
        covered += robust.low <= 0.2 <= robust.high
        naive_covered += naive.low <= 0.2 <= naive.high
    assert 0.92 <= covered / 400 <= 0.99
    assert naive_covered / 400 < 0.90


def test_paired_difference_by_hand() -> None:
    """Differences 1, 0, 0, 1: mean .5, standard error .57735 / 2, t(3) = 3.18245."""
    interval = paired_difference([1, 0, 1, 1], [0, 0, 1, 0])
    assert interval.mean == 0.5
    assert interval.high - interval.mean == pytest.approx(3.18245 * 0.288675, rel=1e-4)


def test_paired_difference_is_narrower_than_two_rates_on_the_same_hard_items() -> None:
    draw = random.Random(1)
    a = [float(draw.random() < (0.9 if item % 2 else 0.1)) for item in range(200)]
    b = [value if draw.random() < 0.95 else 1 - value for value in a]
    paired = paired_difference(a, b)
    first, second = rate_interval(a), rate_interval(b)
    assert paired.high - paired.low < 0.6 * math.hypot(first.high - first.low, second.high - second.low)


def test_two_variants_that_never_disagree_are_not_certainly_equal() -> None:
    few, many = paired_difference([1] * 20, [1] * 20), paired_difference([1] * 500, [1] * 500)
    assert few.mean == 0
    assert few.low < -0.05
    assert few.high > 0.05
    assert many.high - many.low < 0.01


def test_nothing_and_one_cluster() -> None:
    assert math.isnan(rate_interval([]).mean)
    assert rate_interval([]).n == 0
    assert paired_difference([1, 0], [0, 0], ["same", "same"]).high == math.inf


def test_mistakes_are_named() -> None:
    with pytest.raises(UserError, match="2 values need as many clusters, not 1"):
        rate_interval([0, 1], ["a"])
    with pytest.raises(UserError, match="between 0 and 1"):
        rate_interval([2.0])
    with pytest.raises(UserError, match="one length"):
        paired_difference([1], [1, 0])


@given(RATES, st.data())
def test_interval_holds_the_mean_and_ignores_the_order(values: list[float], data: st.DataObject) -> None:
    clusters = data.draw(st.lists(st.integers(0, 5), min_size=len(values), max_size=len(values)))
    order = data.draw(st.permutations(range(len(values))))
    interval = rate_interval(values, clusters)
    assert 0 <= interval.low <= interval.mean <= interval.high <= 1
    assert interval == rate_interval([values[i] for i in order], [clusters[i] for i in order])
    sums = [
        (clusters.count(c), sum(v for v, k in zip(values, clusters, strict=True) if k == c))
        for c in {*clusters}
    ]
    assert interval == interval_of_sums(sums)


@given(RATES, st.data())
def test_swapping_the_variants_mirrors_the_difference(values: list[float], data: st.DataObject) -> None:
    others = data.draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=len(values), max_size=len(values)))
    clusters = data.draw(st.lists(st.integers(0, 5), min_size=len(values), max_size=len(values)))
    there, back = paired_difference(values, others, clusters), paired_difference(others, values, clusters)
    assert (there.mean, there.low, there.high) == (-back.mean, -back.high, -back.low)
