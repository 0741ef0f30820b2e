"""The choice of a sweep's setting: a ranking, and the trade-off in words.

A setting is ranked by the usable replies that it adds. A usable reply is in the language asked for, and is
no loop, no echo and not empty. So loops, and replies too short to judge, count as no gain. A setting keeps
the central language if three measures stay within a margin: the likelihood of held-back central text, the
share of usable central replies and, if it is known, the share of right ones. The untrained model is measured
on the same prompts in the same batches, so every difference comes from training. A share over n replies
changes in steps of 1/n, so one reply is allowed whatever the margin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lens_train.sweep.rows import Choice
from lens_train.watch.dev import shown_share

if TYPE_CHECKING:
    from lens_train.sweep.rows import Row

SHARES = {"central_usable": "usable {central} replies", "central_right": "right {central} replies"}
"""Shares of central replies that a setting must not lower, if they are measured."""


def choose(rows: Sequence[Row], backbone: Row, margin: float, central: str, items: int) -> Choice:
    """Rank the settings of a sweep.

    Args:
        rows: the settings; a stopped setting has a reason and no measures.
        backbone: the untrained model.
        margin: allowed loss in the central language: of a share, and of the likelihood (relative).
        central: the central language.
        items: dev prompts per language.
    """
    least = max(margin, 1 / items)
    finished = [place for place, row in enumerate(rows) if not row.reason]
    kept = frozenset(
        place for place in finished if not lost(rows[place].measures, backbone.measures, margin, items)
    )

    def order(place: int) -> tuple[float, ...]:
        measures, gains = rows[place].measures, _gain(rows[place], backbone) > 0
        group = 2 if not gains else int(place not in kept)
        judged = 1 - measures.get("undetermined", 0.0)
        # Of those judged: a model that falls silent is not less off target.
        off = measures["off_target"] / judged if judged > 0 else 1.0
        return (group, -measures["usable"], off, strength(rows[place]), place)

    ranking = tuple(sorted(finished, key=order))
    best = ranking[0] if ranking else None
    chosen = best if best is not None and _gain(rows[best], backbone) > 0 else None
    gentle = _gentlest(rows, backbone, chosen, kept) if chosen is not None else None
    rule = (
        "Chosen: the most usable replies (in the language asked for; no loop, no echo, not empty) among the "
        f"settings that keep {central}: its usable and right replies at most {100 * least:g} points below "
        f"the untrained model's, the loss on held-back {central} text at most {100 * margin:g}% above it; of "
        "equal ones the lower off-target rate of those judged, then the smaller learning rate."
    )
    words = tuple(_words(rows, backbone, ranking, kept, chosen, gentle, central, items, margin))
    return Choice(ranking, kept, chosen, gentle, rule, words)


def lost(now: Mapping[str, Any], before: Mapping[str, Any], margin: float, items: int) -> list[str]:
    """Names of the central language's measures that a setting lowered by more than the margin."""
    least = max(margin, 1 / items)
    found = [name for name in SHARES if name in before and now[name] < before[name] - least - 1e-9]
    if now["central_loss"] > before["central_loss"] * (1 + margin) + 1e-9:
        found.append("central_loss")
    return found


def strength(row: Row) -> float:
    """Strength of a setting: its learning rate, times its passes or steps if these vary."""
    rate = float(row.settings.get("learning_rate") or 1.0)
    return rate * float(row.settings.get("epochs") or 1) * float(row.settings.get("steps") or 1)


def _gain(row: Row, backbone: Row) -> float:
    return row.measures["usable"] - backbone.measures["usable"]


def _gentlest(rows: Sequence[Row], backbone: Row, chosen: int, kept: frozenset[int]) -> int | None:
    half = _gain(rows[chosen], backbone) / 2
    fit = [
        place
        for place, row in enumerate(rows)
        if not row.reason
        and (place in kept or chosen not in kept)
        and strength(row) < strength(rows[chosen])
        and _gain(row, backbone) >= half - 1e-9
    ]
    return min(fit, key=lambda place: (strength(rows[place]), -rows[place].measures["usable"]), default=None)


def _words(
    rows: Sequence[Row],
    backbone: Row,
    ranking: Sequence[int],
    kept: frozenset[int],
    chosen: int | None,
    gentle: int | None,
    central: str,
    items: int,
    margin: float,
) -> list[str]:
    if chosen is None:
        nothing = "No setting made more replies usable than the untrained model's"
        base = f" ({_percent(backbone, 'usable')}%)" if ranking else ""
        return [f"{nothing}{base}. {_advice(rows, backbone, ranking)}"]
    found = [f"Setting {chosen + 1}: {trade_off(rows[chosen], backbone, central, items)}."]
    if chosen not in kept:
        names = lost(rows[chosen].measures, backbone.measures, margin, items)
        what = " and ".join(
            SHARES[name].format(central=central) if name in SHARES else f"the loss on {central} text"
            for name in names
        )
        found.append(
            f"No setting keeps {central} within the margin; this one gains most and loses {what}. Try a "
            "larger retain_weight or smaller learning rates, or accept it with --margin."
        )
    if gentle is not None:
        own = (
            f"{_percent(rows[gentle], 'off_target')}% off target, {_percent(rows[gentle], 'usable')}% usable"
        )
        found.append(f"The gentlest setting with half the gain is {gentle + 1} ({own}).")
    return found


def trade_off(row: Row, backbone: Row, central: str, items: int) -> str:
    """The difference between one setting and the untrained model, in words."""
    now, before = row.measures, backbone.measures
    parts = [
        f"{words} {_percent(backbone, name)} -> {_percent(row, name)}%"
        for name, words in (("off_target", "off-target"), ("usable", "usable"), ("loop", "loops"))
    ]
    loss = 100 * (now["central_loss"] / before["central_loss"] - 1) if before["central_loss"] else 0.0
    pair = (_percent(backbone, "central_usable"), _percent(row, "central_usable"))
    parts.append(f"{central} replies usable {pair[0]} -> {pair[1]}%")
    parts.append(f"{round(now['first'] * items)} of {items} begin alike, loss on {central} text {loss:+.1f}%")
    return ", ".join(parts)


def _advice(rows: Sequence[Row], backbone: Row, ranking: Sequence[int]) -> str:
    if not ranking:
        return "Every setting was stopped: try smaller learning rates."
    measures = [rows[place].measures for place in ranking]
    if backbone.measures["usable"] > 0.95:
        return "There was next to nothing to repair."
    if min(own["off_target"] for own in measures) < backbone.measures["off_target"] - 0.05:
        return (
            "Fewer replies are off target, but loops, echoes or empty replies took their place: the model "
            "may not be able to write these languages, or the settings are too strong."
        )
    return "Try larger learning rates or more epochs."


def _percent(row: Row, name: str) -> str:
    return shown_share(row.measures, name)
