"""Results recorded before the form of a reply was: it comes from the kept reply."""

from __future__ import annotations

from typing import Any

from lens_eval.results.read import with_form

PROMPT = "Mji mkuu wa Kenya ni upi, na unajulikana kwa nini?"


def _sample(reply: str, **changes: Any) -> dict[str, Any]:
    sample = {"doc": {"prompt": PROMPT}, "resps": [[reply]], "on_target": 1.0, "metrics": ["on_target"]}
    return sample | changes


def test_the_form_is_added_to_a_sample_without_it() -> None:
    echo, answer = with_form(_sample(PROMPT)), with_form(_sample("Mji mkuu ni Nairobi, mji wa biashara."))
    assert (echo["usable"], echo["echo"], echo["loop"]) == (0.0, 1.0, 0.0)
    assert (answer["usable"], answer["echo"], answer["loop"]) == (1.0, 0.0, 0.0)
    assert {"usable", "echo", "loop", "empty"} <= set(echo["metrics"])


def test_nothing_is_added_where_it_is_known_or_cannot_be() -> None:
    for sample in (
        _sample(PROMPT, usable=1.0, metrics=["on_target", "usable"]),
        _sample(PROMPT, metrics=["acc"]),
        _sample(PROMPT, resps=[[[-1.0, False]]]),
    ):
        assert with_form(sample) == sample
