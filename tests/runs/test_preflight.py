"""What is refused before a run begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lens_eval.base.errors import UserError
from lens_eval.runs.preflight import check
from lens_eval.runs.recipe import parse_recipe

RECIPE = {"backbone": "builtin", "languages": ["en", "sw"], "tasks": ["lens_mini"], "variants": {"a": {}}}


@pytest.mark.parametrize(
    "backend",
    [
        {"gen_kwargs": {"max_gen_toks": 0}},
        {"gen_kwargs": {"temperature": "abc"}},
        {"args": {"max_length": -5}},
        {"args": {"max_length": True}},
    ],
)
def test_numbers_that_no_backend_could_follow(tmp_path: Path, backend: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="give a number of at least"):
        check(parse_recipe({**RECIPE, "backend": backend}), tmp_path / "out", "cpu")


def test_control_usual_numbers_are_taken(tmp_path: Path) -> None:
    good = {"args": {"max_length": 64}, "gen_kwargs": {"max_gen_toks": 1, "temperature": 0.5}}
    check(parse_recipe({**RECIPE, "backend": good}), tmp_path / "out", "cpu")
