"""Training as charts: loss terms over the steps, and what became of the languages' subspaces."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from lens_eval.language.languages import LANGUAGES
from lens_eval.page import charts

_LAST = ("grad_norm", "learning_rate")
_TERMS = {"grad_norm": "norm of the gradient", "learning_rate": "learning rate"}
_SHARES = {
    "separability": "nearest to the mean of their own language, %",
    "language_variance": "variance that lies between languages, %",
    "specific_share": "variance in the specific subspace, %",
    "agnostic_share": "variance along the agnostic line, %",
    "retrieval_centred": "nearest to their own translation, %",
}
_MEASURES = {**_SHARES, "effective_rank": "effective rank within a language"}
"""Measures by layer, before and after; of those with a number per language the mean is drawn."""


def losses(variants: Iterable[str], training: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Per trained variant a panel for each loss term; terms of several languages share one."""
    found = []
    for variant in variants:
        if variant not in training:
            continue
        curves = training[variant]["curves"]
        starts, total = _stages(curves)
        terms: dict[str, dict[str, list[tuple[float, float]]]] = {}
        for curve in curves:
            group, _, name = curve["term"].partition(".")
            steps = [starts[curve["stage"]] + step for step in curve["steps"]]
            own = terms.setdefault(group, {}).setdefault(name, [])
            own += zip(steps, curve["values"], strict=True)
        order = sorted(terms, key=lambda group: _LAST.index(group) + 1 if group in _LAST else 0)
        marks = [(float(at), stage) for stage, at in starts.items()] if len(starts) > 1 else []
        panels = []
        for group in order:
            drawn = [_line(points, name) for name, points in terms[group].items()]
            title = _TERMS.get(group, group)
            chart = charts.curves(f"{variant}: {title} by step", drawn, ("step", ""), marks)
            panels.append((title, chart))
        averaged = max(curve["averaged"] for curve in curves)
        found.append({"variant": variant, "steps": total, "averaged": averaged, "panels": panels})
    return found


def _stages(curves: Sequence[Mapping[str, Any]]) -> tuple[dict[str, int], int]:
    """Steps before each stage, and steps in all: stages are drawn one behind the other."""
    lengths: dict[str, int] = {}
    for curve in curves:
        lengths[curve["stage"]] = max(lengths.get(curve["stage"], 0), curve["steps"][-1])
    starts, total = {}, 0
    for stage, length in lengths.items():
        starts[stage] = total
        total += length
    return starts, total


def _line(points: Sequence[tuple[float, float]], name: str) -> charts.Line:
    return charts.Line(tuple(x for x, _ in points), tuple(y for _, y in points), name)


def subspaces(variants: Iterable[str], training: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Per variant with diagnostics: pictures of the states before and after, measures by layer, warnings."""
    found = []
    for variant in variants:
        document = training.get(variant, {}).get("diagnostics")
        if not document:
            continue
        about: dict[str, Any] = {"variant": variant, "warnings": document["warnings"], "pictures": []}
        if "skipped" in document:
            about["text"] = document["skipped"]
        else:
            held_out = document["held_out"]
            about["text"] = f"{held_out['items']} prompts per language, {held_out['text']}"
            about["key"] = [
                (LANGUAGES[code].name if code in LANGUAGES else code, charts.swatch(number))
                for number, code in enumerate(document["languages"])
            ]
            about["pictures"] = _pictures(variant, document)
            about["measures"] = _measures(variant, document)
        found.append(about)
    return found


def _pictures(variant: str, document: Mapping[str, Any]) -> list[tuple[str, Markup]]:
    """The states at one layer before and after, on the same axes."""
    picture, languages = document["projection"], document["languages"]
    moments = {
        moment: [
            charts.Point(point[0], point[1], number, "")
            for number, code in enumerate(languages)
            for point in picture[moment][code]
            if None not in point
        ]
        for moment in ("before", "after")
    }
    everything = [point for points in moments.values() for point in points]
    if not everything:
        return []
    xs, ys = [point.x for point in everything], [point.y for point in everything]
    names = [_axis(number, share) for number, share in enumerate(picture["explained"], 1)]
    return [
        (
            f"{moment} training, layer {picture['layer']}",
            charts.scatter(
                f"{variant}: states {moment} training, layer {picture['layer']}",
                points,
                (names[0], names[1]),
                x=(min(xs), max(xs)),
                y=(min(ys), max(ys)),
            ),
        )
        for moment, points in moments.items()
        if points
    ]


def _axis(number: int, share: float | None) -> str:
    return f"axis {number}" + ("" if share is None else f" ({100 * share:.0f} % of the variance)")


def _measures(variant: str, document: Mapping[str, Any]) -> list[tuple[str, Markup]]:
    layers, trained = document["layers"], document["trained_layers"]
    marks = [(float(trained[0]), "trained from here")] if trained[0] > layers[0] else []
    panels = []
    for name, title in _MEASURES.items():
        lines = [
            _by_layer(layers, _mean(document[moment][name]), moment, 100 if name in _SHARES else 1)
            for moment in ("before", "after")
        ]
        panels.append((title + _chance(document, name), lines))
    turned = {"specific": "specific", "agnostic": "agnostic", "probe": "probe's"}
    lines = [_by_layer(layers, document["angles"][name], word) for name, word in turned.items()]
    panels.append(("angle of subspaces before and after, degrees", lines))
    return [
        (title, charts.curves(f"{variant}: {title}, by layer", drawn, ("layer", ""), marks))
        for title, lines in panels
        if (drawn := [line for line in lines if line.xs])
    ]


def _chance(document: Mapping[str, Any], name: str) -> str:
    """What guessing gives, in words, for the measures that can be guessed."""
    share = document["chance"].get(name.removesuffix("_centred"))
    return "" if share is None else f" (guessing: {100 * share:.3g})"


def _mean(values: Any) -> list[float | None]:
    """By layer; of a measure per language the mean over languages."""
    if not isinstance(values, Mapping):
        return list(values)
    columns = zip(*values.values(), strict=True)
    return [None if None in column else statistics.fmean(column) for column in columns]


def _by_layer(
    layers: Sequence[int], values: Sequence[float | None], name: str, scale: float = 1
) -> charts.Line:
    points = [(float(x), scale * y) for x, y in zip(layers, values, strict=True) if y is not None]
    return _line(points, name)
