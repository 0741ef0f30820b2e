"""The shape of documents that somebody else may have written, as patterns of plain Python.

A pattern is

- a type; `float` stands for any finite number, `int` for a whole one;
- None, for null;
- a tuple of patterns, one of which must fit;
- a list with the pattern of all its entries;
- a mapping: `{str: PATTERN}` for any names, else the wanted names with their patterns. A name that ends in
  `?` may be absent. Other names may be there too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lens_eval.base.errors import UserError

NUMBER = (float, None)
RUN: dict[str, Any] = {
    "cells": [
        {"variant": str, "task": str, "state": str, "folder": str, "seconds?": float, "reason?": (str, None)}
    ],
    "name?": str,
    "simulated?": (bool, None),
    "reference?": (str, None),
    "variants?": [str],
    "command?": (str, None),
    "device?": (str, None),
    "recipe?": {"description?": (str, None), "backbone?": (str, None), "languages?": [str]},
    "environment?": {"commit?": (str, None), "machine?": (str, None), "versions?": {str: str}},
    "costs?": {
        str: {
            "evaluation_seconds?": NUMBER,
            "train_seconds?": NUMBER,
            "train_tokens?": NUMBER,
            "train_peak_memory_bytes?": NUMBER,
            "train_warnings?": [str],
            "settings?": {str: object},
        }
    },
    "seconds?": {str: float},
    "left_out?": [{"what": str, "reason": str}],
}
"""`run.json` of a run of `lens reproduce`."""
TRAINING: dict[Any, Any] = {
    str: {
        "model?": str,
        "curves": [{"stage": str, "term": str, "averaged": int, "steps": [int], "values": [float]}],
        "diagnostics": dict,
    }
}
"""`training.json` of a run."""
_MOMENT: dict[str, Any] = {
    name: [NUMBER]
    for name in ("separability", "language_variance", "specific_share", "agnostic_share", "means_explained")
} | {name: {str: [NUMBER]} for name in ("norm", "spread", "effective_rank", "retrieval", "retrieval_centred")}
_POINTS = {str: [[NUMBER]]}
DIAGNOSTICS: dict[str, Any] = {
    "languages": [str],
    "central": str,
    "layers": [int],
    "trained_layers": [int],
    "loss_layers": [int],
    "before": _MOMENT,
    "after": _MOMENT,
    "angles": {"specific": [NUMBER], "agnostic": [NUMBER], "probe": [NUMBER]},
    "chance": {str: NUMBER},
    "projection": {"layer": int, "explained": [NUMBER], "before": _POINTS, "after": _POINTS},
    "held_out": {"text": str, "items": int},
    "warnings": [str],
}
"""`diagnostics.json` of a training, unless it was skipped."""


def require_shape(value: Any, pattern: Any, where: str) -> None:
    """Check a document against a pattern.

    Raises:
        UserError: it does not fit; the message names the first place that does not.
    """
    found = misfit(value, pattern, "")
    if found:
        raise UserError(f"{where}: {found}")


def require_diagnostics(document: Mapping[str, Any], where: str) -> None:
    """Check the diagnostics of a training: their shape, and a number per layer everywhere.

    Raises:
        UserError: they are damaged.
    """
    if "skipped" in document:
        require_shape(document, {"skipped": str, "warnings": [str]}, where)
        return
    require_shape(document, DIAGNOSTICS, where)
    layers, languages = document["layers"], document["languages"]
    rows = [*document["angles"].values()]
    for moment in (document["before"], document["after"]):
        for name in _MOMENT:
            rows += moment[name].values() if isinstance(moment[name], dict) else [moment[name]]
    picture = document["projection"]
    points = [picture[moment].get(code) for moment in ("before", "after") for code in languages]
    if (
        not layers
        or not document["trained_layers"]
        or any(len(row) != len(layers) for row in rows)
        or len(picture["explained"]) != 2
        or any(own is None or any(len(point) != 2 for point in own) for own in points)
    ):
        raise UserError(f"{where}: the numbers are not one per layer, or the points have no two coordinates")


def misfit(value: Any, pattern: Any, place: str) -> str:
    """Where and how a value does not fit a pattern; an empty text if it does."""
    what = place or "the document"
    if isinstance(pattern, tuple):
        found = [misfit(value, each, place) for each in pattern]
        return found[0] if all(found) else ""
    if isinstance(pattern, list):
        if not isinstance(value, list):
            return f"{what} is {_shown(value)}, a list was expected"
        return next(
            (own for n, each in enumerate(value) if (own := misfit(each, pattern[0], f"{place}[{n}]"))), ""
        )
    if isinstance(pattern, Mapping):
        return _misfit_of_mapping(value, pattern, place)
    if pattern is None or isinstance(pattern, type):
        return "" if _is(value, pattern) else f"{what} is {_shown(value)}, {_NAMES[pattern]} was expected"
    raise TypeError(f"no pattern: {pattern!r}")


def _misfit_of_mapping(value: Any, pattern: Mapping[Any, Any], place: str) -> str:
    if not isinstance(value, dict):
        return f"{place or 'the document'} is {_shown(value)}, `name: value` pairs were expected"
    for wanted, own in pattern.items():
        if wanted is str:
            names = list(value)
        elif (name := wanted.removesuffix("?")) in value:
            names = [name]
        elif wanted.endswith("?"):
            continue
        else:
            return f"{place + '.' if place else ''}{wanted} is missing"
        for each in names:
            if found := misfit(value[each], own, f"{place}.{each}" if place else str(each)):
                return found
    return ""


def _is(value: Any, kind: type | None) -> bool:
    if kind is None:
        return value is None
    if kind in (int, float):
        whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63
        return whole or (kind is float and isinstance(value, float) and math.isfinite(value))
    return isinstance(value, kind)


def _shown(value: Any) -> str:
    return f"{value!r:.40}"


_NAMES: dict[type | None, str] = {
    None: "nothing",
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "`name: value` pairs",
    object: "anything",
}
