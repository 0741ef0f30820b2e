"""The judged replies are what their README says, and the verdicts agree with them as well as it states."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.judged_replies import HALVES, agreement, agreement_lines, judge, read, verdict


def test_there_are_two_parts_that_share_no_prompt() -> None:
    rows = read()
    assert Counter(row["half"] for row in rows) == {"choose": 400, "test": 184}
    for half in HALVES:
        assert len({row["language"] for row in rows if row["half"] == half}) >= 12
    prompts = [{row["prompt"] for row in rows if row["half"] == half} for half in HALVES]
    assert not prompts[0] & prompts[1]
    assert len({(row["model"], row["prompt"]) for row in rows}) == len(rows)
    for row in rows:
        assert row["judged"]["form"] in ("text", "echo", "loop", "empty")
        assert row["judged"]["outcome"] in ("on_target", "central", "other", "undetermined")
        assert row["judged"]["reason"]


@pytest.mark.parametrize(("name", "least"), [("form", 0.91), ("usable or not", 0.90), ("verdict", 0.88)])
def test_agreement_does_not_fall(name: str, least: float) -> None:
    judged = [each for each in judge(read()) if each.half == "test"]
    same, count = agreement(judged)[name]
    assert count == 184
    assert same / count >= least


def test_the_document_states_the_agreement() -> None:
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    shown = text.partition("<!-- judged replies")[2].partition("-->\n")[2].partition("<!-- end of judged")[0]
    assert shown.strip().splitlines() == agreement_lines(judge(read()))


def test_a_loop_is_one_whatever_its_language() -> None:
    assert [verdict("loop", "central"), verdict("text", "other"), verdict("text", "on_target")] == [
        "loop",
        "off target",
        "usable",
    ]
