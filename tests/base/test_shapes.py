"""Documents against their patterns."""

from __future__ import annotations

from typing import Any

import pytest
from report_run import diagnostics

from lens_eval.base.errors import UserError
from lens_eval.base.shapes import require_diagnostics, require_shape

PATTERN = {"name": str, "rows": [{"steps": [int], "value?": (float, None)}], "any?": {str: bool}}


@pytest.mark.parametrize(
    "value",
    [
        {"name": "x", "rows": []},
        {"name": "x", "rows": [{"steps": [1], "value": 2}, {"steps": []}], "more": 1},
        {"name": "x", "rows": [{"steps": [1], "value": None}], "any": {"a": True}},
    ],
)
def test_what_fits(value: Any) -> None:
    require_shape(value, PATTERN, "it")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "the document is [], `name: value` pairs were expected"),
        ({"rows": []}, "name is missing"),
        ({"name": 1, "rows": []}, "name is 1, a text was expected"),
        ({"name": "x", "rows": {}}, "rows is {}, a list was expected"),
        ({"name": "x", "rows": [{"steps": [1.5]}]}, r"rows[0].steps[0] is 1.5, a whole number was expected"),
        ({"name": "x", "rows": [{"steps": [True]}]}, r"rows[0].steps[0] is True"),
        ({"name": "x", "rows": [{"steps": [], "value": float("nan")}]}, "rows[0].value is nan, a number"),
        ({"name": "x", "rows": [], "any": {"a": 1}}, "any.a is 1, true or false was expected"),
    ],
)
def test_the_first_misfit_is_named(value: Any, words: str) -> None:
    with pytest.raises(UserError) as error:
        require_shape(value, PATTERN, "a.json")
    assert str(error.value).startswith(f"a.json: {words}")


def test_diagnostics_have_a_number_per_layer() -> None:
    require_diagnostics(diagnostics(), "it")
    require_diagnostics({"skipped": "too few", "warnings": []}, "it")
    for path in (("angles", "probe"), ("before", "separability"), ("after", "norm", "zh"), ("layers",)):
        document = diagnostics()
        inner: Any = document
        for name in path[:-1]:
            inner = inner[name]
        inner[path[-1]] = inner[path[-1]][:-1]
        with pytest.raises(UserError, match="one per layer"):
            require_diagnostics(document, "it")
