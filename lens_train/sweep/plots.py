"""A plot of a sweep: usable replies against the loss in the central language."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lens_eval.base.errors import UserError
from lens_eval.base.terminal import say

if TYPE_CHECKING:
    from lens_train.sweep.rows import Outcome, Row
from lens_train.watch.plots import MISSING, new_figure, save_figure, style_of


def draw_tradeoff(outcome: Outcome, path: Path) -> None:
    """Draw usable replies against the loss in the central language; or print one line that says why not."""
    try:
        figure, axes = new_figure(1, 1, 7, 4.8)
    except UserError:
        say(f"lens: {path.name} was left out: {MISSING}", err=True)
        return
    axis = axes[0, 0]
    central = outcome.document["about"]["central"]
    rows = [(place, row) for place, row in enumerate(outcome.rows) if not row.reason]
    first = outcome.backbone.measures
    most = 100 * outcome.document["margin"]
    axis.axvline(most, color="0.5", linestyle="--", label="most that the rule lets through")

    def point(row: Row) -> tuple[float, float]:
        return 100 * (row.measures["central_loss"] / first["central_loss"] - 1), 100 * row.measures["usable"]

    for number, (rate, own) in enumerate(sorted(_by_rate(rows).items(), key=lambda pair: str(pair[0]))):
        points = [point(row) for _, row in own]
        label = "settings" if rate is None else f"learning rate {rate:g}"
        axis.scatter(*zip(*points, strict=True), label=label, **style_of(number), s=30)
        for (place, _), where in zip(own, points, strict=True):
            axis.annotate(str(place + 1), where, xytext=(4, 3), textcoords="offset points", fontsize=7)
    axis.scatter([0], [100 * first["usable"]], marker="s", color="black", label="untrained")
    if outcome.choice.chosen is not None:
        best = point(outcome.rows[outcome.choice.chosen])
        ring = {"facecolors": "none", "edgecolors": "black", "linewidths": 1.5}
        axis.scatter([best[0]], [best[1]], s=150, label="chosen", **ring)
    words = f"loss on {central} text, change in %"
    axis.set(xlabel=words, ylabel="usable replies, %")
    simulated = " (simulated)" if outcome.document["simulated"] else ""
    axis.set_title(f"Usable replies against {words}, dev prompts{simulated}", loc="left", fontsize=10)
    axis.legend(fontsize=7)
    save_figure(figure, path)


def _by_rate(rows: Sequence[tuple[int, Any]]) -> dict[float | None, list[tuple[int, Any]]]:
    found: dict[float | None, list[tuple[int, Any]]] = {}
    for place, row in rows:
        found.setdefault(row.settings.get("learning_rate"), []).append((place, row))
    return found
