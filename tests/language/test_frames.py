"""`score_frame`: a table of pandas or a data set judged where it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas
import pytest

from lens_eval import UserError, score_frame
from lens_eval.language.files.fields import Fields
from lens_eval.language.files.report import make_report
from lens_eval.language.files.score import score_files

ENGLISH = "The farmers are waiting for the rain to come."
SWAHILI = "Wakulima wanasubiri mvua inyeshe, kwa sababu mashamba yamekauka."
ROWS = [
    {"reply": SWAHILI, "lang": "sw"},
    {"reply": ENGLISH, "lang": "swh"},
    {"reply": None, "lang": "sw"},
    {"reply": float("nan"), "lang": "sw"},
    {"reply": SWAHILI, "lang": None},
    {"reply": [{"role": "user", "content": "?"}, {"role": "assistant", "content": SWAHILI}], "lang": "sw"},
]


def test_each_row_has_its_verdict_under_its_index() -> None:
    table = pandas.DataFrame(ROWS, index=[f"r{i}" for i in range(6)])
    before = table.copy(deep=True)
    found = score_frame(table, text="reply", language="lang")
    assert list(found.frame.index) == list(table.index)
    assert list(found.frame["outcome"]) == [
        "on_target",
        "central",
        "undetermined",
        "undetermined",
        "broken",
        "on_target",
    ]
    assert list(found.frame["answered_in"][:3]) == ["sw", "en", "empty"]
    assert found.report["broken"] == [{"file": "the table", "line": 5, "reason": "no language in field lang"}]
    assert found.table.loc["sw", "n"] == found.table.loc["overall", "n"] == 5
    assert found.table.loc["sw", "off_target"] == pytest.approx(0.2)
    pandas.testing.assert_frame_equal(table, before)  # the user's own is as it was


def test_the_numbers_are_those_of_the_same_file(tmp_path: Path) -> None:
    rows = [row for row in ROWS if isinstance(row["reply"], str)] * 3
    path = tmp_path / "r.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    of_file = make_report(score_files([str(path)], Fields(text="reply", language="lang")))
    of_frame = score_frame(pandas.DataFrame(rows), text="reply", language="lang").report
    assert of_frame["languages"] == of_file["languages"]
    assert of_frame["confusion"] == of_file["confusion"]


def test_a_data_set_is_taken_too() -> None:
    import datasets

    rows = [{"text": SWAHILI, "language": "sw"}, {"text": ENGLISH, "language": "sw"}]
    data = datasets.Dataset.from_list(rows)
    found = score_frame(data)
    assert list(found.frame["outcome"]) == ["on_target", "central"]
    with pytest.raises(UserError, match="give one of them: test"):
        score_frame(datasets.DatasetDict({"test": data}))


def test_a_notebook_shows_it_escaped() -> None:
    rows = [
        {"text": SWAHILI, "language": "sw", "prompt": "?"},
        {"text": ENGLISH, "language": "<b>sw", "prompt": "?"},
    ]
    found = score_frame(pandas.DataFrame(rows))
    shown = found._repr_html_()
    assert "<table>" in shown
    assert "<td>sw</td><td>1</td>" in shown
    assert "<b>" not in shown
    assert "&lt;b&gt;sw" in shown
    assert "| sw " in repr(found)


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (
            pandas.DataFrame(ROWS),
            {"text": "replay", "language": "sw"},
            r"no column 'replay' \(did you mean reply",
        ),
        (pandas.DataFrame({"text": ["x"]}), {}, "in which language should the responses be"),
        (pandas.DataFrame({"text": []}), {"language": "sw"}, "no response of the table"),
        (pandas.DataFrame({"text": [7]}), {"language": "sw"}, "row 1: the text is no string but int"),
        (pandas.DataFrame({"text": [["a", "b"]]}), {"language": "sw"}, "row 1 .* holds 2 responses"),
        ([{"text": "x"}], {"language": "sw"}, "a pandas.DataFrame or a datasets.Dataset is needed, not list"),
    ],
)
def test_mistakes_are_said_in_words(table: Any, options: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        score_frame(table, **options)


def test_items_cluster_and_correct_counts() -> None:
    import numpy

    rows = pandas.DataFrame(
        {
            "text": [SWAHILI, ENGLISH] * 10,
            "language": "sw",
            "item": numpy.repeat([0, 1], 10),
            "right": numpy.array([True, False] * 10),
        }
    )
    alone = score_frame(rows)
    found = score_frame(rows, item="item", correct="right")
    assert found.report["overall"]["correct"] == 0.5
    wide, narrow = (r.report["overall"]["intervals"]["central"] for r in (found, alone))
    assert wide != narrow
