"""The standard error of a group: clustered by item, because languages share their items."""

from __future__ import annotations

import random
from math import sqrt
from pathlib import Path

import pytest
from lm_eval.api.metrics import mean_stderr, unweighted_mean_stderr
from lm_eval.evaluator import evaluate
from task_items import Oracle, load_tasks, write_hub_copies

from lens_eval.upstream.group_errors import clustered_error


def draw(seed: int, count: int = 400) -> dict[int | str, float]:
    generator = random.Random(seed)
    return {item: float(generator.random() < 0.6) for item in range(count)}


def test_one_task_has_the_error_of_its_mean() -> None:
    scores = draw(1)
    assert clustered_error([scores]) == pytest.approx(mean_stderr(list(scores.values())))


def test_translations_that_agree_are_one_task() -> None:
    """The control: lm_eval's error of four equal tasks is half of what it is of one."""
    scores = draw(1)
    error = mean_stderr(list(scores.values()))
    assert clustered_error([scores] * 4) == pytest.approx(error)
    assert unweighted_mean_stderr([error] * 4) == pytest.approx(error / 2)


def test_independent_tasks_keep_lm_evals_error() -> None:
    tasks = [draw(seed) for seed in range(2, 6)]
    errors = [mean_stderr(list(scores.values())) for scores in tasks]
    assert clustered_error(tasks) == pytest.approx(unweighted_mean_stderr(errors), rel=0.15)
    apart = [{f"{n}/{item}": score for item, score in scores.items()} for n, scores in enumerate(tasks)]
    assert clustered_error(apart) == pytest.approx(unweighted_mean_stderr(errors), rel=0.01)


def test_sizes_may_differ_and_one_item_has_no_error() -> None:
    few, many = draw(1, 10), draw(2, 1000)
    assert clustered_error([few, many]) > mean_stderr(list(few.values())) / 2 * 0.9
    assert clustered_error([{0: 1.0}]) != clustered_error([{0: 1.0}])  # NaN


def test_lm_eval_reports_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Items 0 and 2 are right in every language, item 1 in none: three items, however many languages."""
    write_hub_copies(tmp_path)
    monkeypatch.setenv("LENS_DATA_DIR", str(tmp_path))
    tasks = load_tasks("lens_xcopa")
    for task in tasks["tasks"].values():
        task.set_config("num_fewshot", 0)
    model = Oracle(lambda doc: "")
    own = model.loglikelihood

    def miss_one(requests: list, **_: object) -> list[tuple[float, bool]]:
        scored = zip(requests, own(requests), strict=True)
        return [(-score if request.doc["id"] == 1 else score, False) for request, (score, _) in scored]

    model.loglikelihood = miss_one  # type: ignore[assignment]
    results = evaluate(model, tasks, bootstrap_iters=1)
    group = results["groups"]["lens_xcopa"]
    assert group["acc,none"] == pytest.approx(2 / 3)
    assert group["acc_stderr,none"] == pytest.approx(sqrt(2 / 9 / 2))
    alone = results["results"]["lens_xcopa_zh"]["acc_stderr,none"]
    assert group["acc_stderr,none"] == pytest.approx(alone)
