"""Standard errors of lm_eval's groups that respect that languages share their items.

lm_eval combines the errors of a group's tasks as if their items were independent. The languages of one family
are translations of the same items, and a hard item is hard in all of them: such an error is too small.
Here the error of a group's mean is clustered by item, from the scores that its tasks saw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import wraps
from math import sqrt
from typing import Any

ItemScores = Mapping[int | str, float]


def clustered_error(tasks: Sequence[ItemScores]) -> float:
    """Return the standard error of the mean of task means, clustered by item.

    `tasks` holds each task's scores by item. An item's influence on the mean of means is
    u_i = sum over tasks of (x_ti - mean_t) / (tasks * n_t); the error is sqrt(G / (G - 1) * sum of u_i^2)
    over G items: with one task lm_eval's own error of a mean. NaN for a single item.
    """
    influence: dict[int | str, float] = {}
    for scores in tasks:
        mean = sum(scores.values()) / len(scores)
        for item, score in scores.items():
            share = (score - mean) / (len(tasks) * len(scores))
            influence[item] = influence.get(item, 0.0) + share
    count = len(influence)
    if count < 2:
        return float("nan")
    return sqrt(count / (count - 1) * sum(value**2 for value in influence.values()))


def install() -> None:
    """Let lm_eval's groups of Lens tasks alone report clustered errors; others are left as they are.

    lm_eval has no place for a group's own error, so its method is wrapped, once.
    """
    from lm_eval.api.group import Group

    original = Group.aggregate
    if getattr(original, "clusters_items", False):
        return

    @wraps(original)
    def aggregate(self: Any, task_metrics: Mapping[str, Any]) -> Any:
        metrics = original(self, task_metrics)
        tasks = [task for task in self.get_all_tasks() if task.task_name in task_metrics]
        if tasks and all(hasattr(task, "item_scores") for task in tasks):
            for key in [key for key in metrics if "_stderr," in key and metrics[key] != "N/A"]:
                metrics[key] = _error(key, tasks, task_metrics)
            weights = (self.metadata or {}).get("weights")
            if weights and "acc,none" in metrics:
                metrics["weighted_acc,none"] = _weighted(tasks, task_metrics, weights)
                metrics["weighted_acc_stderr,none"] = "N/A"
        return metrics

    aggregate.clusters_items = True  # type: ignore[attr-defined]
    Group.aggregate = aggregate


def _weighted(tasks: Sequence[Any], task_metrics: Mapping[str, Any], weights: Sequence[float]) -> float | str:
    """Return accuracy weighted by task, the mean over languages; "N/A" where one lacks a weight."""
    found: dict[str, dict[float, float]] = {}
    for task in tasks:
        metadata = task.config.metadata
        own = found.setdefault(metadata["language"], {})
        own[metadata["weight"]] = task_metrics[task.task_name]["acc,none"]
    if any(set(own) != set(weights) for own in found.values()):
        return "N/A"
    means = [sum(w * own[w] for w in weights) / sum(weights) for own in found.values()]
    return sum(means) / len(means)


def _error(key: str, tasks: Sequence[Any], task_metrics: Mapping[str, Any]) -> float | str:
    """Return a group's error, or "N/A" where this process saw only some of the items (several GPUs)."""
    metric = key.partition("_stderr,")[0]
    seen = [task.item_scores.get(metric, {}) for task in tasks]
    whole = all(
        len(scores) == task_metrics[task.task_name].get("sample_len")
        for task, scores in zip(tasks, seen, strict=True)
    )
    error = clustered_error(seen) if whole and all(seen) else float("nan")
    return error if error == error else "N/A"
