"""A small recipe for tests that count what a run would do; no model and no data behind it."""

from __future__ import annotations

from typing import Any

from lens_eval.runs.recipe import Recipe, parse_recipe


def planned_recipe(**changes: Any) -> Recipe:
    """The recipe with these of its parts changed."""
    raw: dict[str, Any] = {
        "backbone": "org/Model-8B",
        "languages": ["en", "zh"],
        "data": {"train": "pairs.jsonl"},
        "variants": {"backbone": {}},
        "tasks": ["lens_mini"],
        "backend": {"model": "hf"},
    }
    return parse_recipe({**raw, **changes})
