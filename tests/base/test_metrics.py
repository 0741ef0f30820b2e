"""The registry of metrics: words, directions and order."""

from __future__ import annotations

from lens_eval.base.metrics import CORRECTNESS, JUDGED, REGISTRY, first_of, label, metric_of, ordered
from lens_eval.tasks import scoring


def test_every_number_that_tasks_and_judges_give_has_its_direction() -> None:
    given = {*scoring.NUMBER_METRICS, *scoring.OPEN_METRICS, *CORRECTNESS, *JUDGED} - {"answered_in"}
    assert all(REGISTRY[name].better for name in given)


def test_a_filter_stays_in_the_words_and_changes_nothing_else() -> None:
    assert label("exact_match,flexible-extract") == "exact match (flexible-extract)"
    assert metric_of("exact_match,flexible-extract") == metric_of("exact_match")


def test_a_metric_of_another_task_is_called_by_its_name() -> None:
    assert (label("bleu"), metric_of("bleu").sign, metric_of("bleu").hint) == ("bleu", 0, "")


def test_the_main_metrics_stand_first() -> None:
    found = ordered({"zeta", "off_target", "on_target", "acc,b", "acc,a"})
    assert found == ("acc,a", "acc,b", "off_target", "on_target", "zeta")


def test_an_earlier_name_goes_before_an_earlier_metric() -> None:
    assert first_of(CORRECTNESS, ["exact_match,x", "acc"]) == "acc"
    assert first_of(CORRECTNESS, ["exact_match,x"]) == "exact_match,x"
    assert first_of(CORRECTNESS, ["off_target"]) is None
