"""Instruction pairs: layouts, errors that name file and line, the data budget, the language check."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from baseline_helpers import ITEMS, LANGUAGES, many_items, write_lines

from lens_eval.base.errors import UserError
from lens_train.baselines import pairs


def flat(row: dict) -> dict:
    return {"id": row["id"]} | {
        f"{f}.{code}": row[f][code] for f in ("prompt", "response") for code in LANGUAGES
    }


def test_nested_flat_and_listed_items_are_the_same(tmp_path: Path) -> None:
    nested = pairs.read_pairs(write_lines(tmp_path / "a.jsonl", ITEMS), LANGUAGES)
    flattened = pairs.read_pairs(write_lines(tmp_path / "b.jsonl", [flat(row) for row in ITEMS]), LANGUAGES)
    (tmp_path / "c.json").write_text(json.dumps(ITEMS), encoding="utf-8")
    listed = pairs.read_pairs(tmp_path / "c.json", LANGUAGES)
    assert nested.parallel
    assert pairs.digest(nested.items) == pairs.digest(flattened.items) == pairs.digest(listed.items)
    assert pairs.digest(nested.items) != pairs.digest(nested.items[:1])
    assert nested.items[1].where == f"{tmp_path / 'a.jsonl'}, line 2"
    assert nested.items[0].response["sw"] == "Mji mkuu wa Kenya ni Nairobi."


def test_bactrian_folder_is_joined_by_id(tmp_path: Path) -> None:
    for code in LANGUAGES:
        rows = [
            {
                "id": row["id"],
                "instruction": row["prompt"][code],
                "input": "Kenya" if row["id"] == "capital" else "",
                "output": row["response"][code],
            }
            for row in ITEMS[:: 1 if code == "en" else -1]
        ]
        (tmp_path / f"{code}.json").write_text(json.dumps(rows), encoding="utf-8")
    data = pairs.read_pairs(tmp_path, LANGUAGES)
    assert [item.id for item in data.items] == ["capital", "water"]
    assert data.items[0].prompt["sw"] == "Mji mkuu wa Kenya ni upi?\n\nKenya"
    assert data.items[1].prompt["zh"] == "水在多少度沸腾？"
    with pytest.raises(UserError, match=r"no file for ar; it has: en, sw, zh"):
        pairs.read_pairs(tmp_path, (*LANGUAGES, "ar"))
    (tmp_path / "sw.json").write_text(
        json.dumps([{"id": "capital", "instruction": "x", "output": "y"}]), encoding="utf-8"
    )
    with pytest.raises(UserError, match=r"en\.json, item 2: the id 'water' has no row in sw"):
        pairs.read_pairs(tmp_path, LANGUAGES)


def aya(code: str, number: int, **more: object) -> dict:
    return {"inputs": f"question {number}", "targets": f"answer {number}", "language_code": code, **more}


def test_aya_rows_with_ids_are_joined_and_others_are_not_parallel(tmp_path: Path) -> None:
    codes = {"eng": 2, "zho": 2, "swh": 2, "fra": 5}
    joined = [aya(code, n, id=n, dataset_name="x") for code, count in codes.items() for n in range(count)]
    data = pairs.read_pairs(write_lines(tmp_path / "joined.jsonl", joined), LANGUAGES)
    assert data.parallel
    assert [item.id for item in data.items] == ["x/0", "x/1"]
    loose = [aya(code, n) for code, count in codes.items() for n in range(count)]
    data = pairs.read_pairs(write_lines(tmp_path / "loose.jsonl", loose), LANGUAGES)
    assert not data.parallel
    assert len(data.items) == 6
    taken = pairs.take(data, 1)
    assert [next(iter(item.prompt)) for item in taken] == ["en", "zh", "sw"]
    with pytest.raises(UserError, match=r"no rows in ar; there are: 2 in en, 2 in zh, 2 in sw"):
        pairs.read_pairs(tmp_path / "loose.jsonl", (*LANGUAGES, "ar"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: row["prompt"].pop("zh"), r"line 2: no `prompt\.zh`"),
        (lambda row: row["response"].update(sw=" "), r"line 2: `response\.sw` is empty"),
        (lambda row: row["response"].update(sw=7), r"line 2: `response\.sw` is empty or no text"),
        (lambda row: row.pop("response"), r"line 2: no `response\.en`; this method learns from"),
        (lambda row: row.update(id="capital"), r"line 2: the id 'capital' was already used in .*line 1"),
    ],
)
def test_a_faulty_item_is_named_by_file_and_line(tmp_path: Path, change, message: str) -> None:
    rows = json.loads(json.dumps(ITEMS))
    change(rows[1])
    with pytest.raises(UserError, match=message):
        pairs.read_pairs(write_lines(tmp_path / "a.jsonl", rows), LANGUAGES)


def test_files_that_hold_no_pairs(tmp_path: Path) -> None:
    prompts = write_lines(tmp_path / "prompts.jsonl", [{"en": "a", "zh": "b", "sw": "c"}])
    with pytest.raises(UserError, match=r"line 1: no instruction pairs here, the keys are en, sw, zh"):
        pairs.read_pairs(prompts, LANGUAGES)
    with pytest.raises(UserError, match="no parallel data at"):
        pairs.read_pairs(tmp_path / "absent.jsonl", LANGUAGES)
    with pytest.raises(UserError, match="unpack it first"):
        pairs.read_pairs(tmp_path / "en.json.gz", LANGUAGES)


def test_the_budget_and_the_order_of_examples(tmp_path: Path) -> None:
    data = pairs.read_pairs(write_lines(tmp_path / "a.jsonl", many_items(5)), LANGUAGES)
    assert [item.id for item in pairs.take(data, 2)] == ["0", "1"]
    assert len(pairs.take(data, 50)) == len(pairs.take(data, None)) == 5
    made = pairs.examples(pairs.take(data, 2), LANGUAGES)
    assert [(e.item, e.language) for e in made] == [(i, code) for i in "01" for code in LANGUAGES]
    assert made[1] == pairs.Example("0", "zh", "0后面是几？", "是1。")


def test_answers_in_another_language_are_counted_and_can_be_dropped(tmp_path: Path) -> None:
    rows = json.loads(json.dumps(ITEMS))
    rows[1]["response"]["zh"] = "Water boils at one hundred degrees, as everybody knows from the kitchen."
    rows[0]["response"]["sw"] = rows[0]["response"]["zh"]
    data = pairs.read_pairs(write_lines(tmp_path / "a.jsonl", rows), LANGUAGES)
    made = pairs.examples(data.items, LANGUAGES)
    right, counts = pairs.check_languages(made, "en")
    assert counts["zh"] == {"central": 1, "on_target": 1}
    assert counts["sw"] == {"on_target": 1, "other": 1}
    assert not {"central", "other"} & set(counts["en"])
    left_out = {(e.item, e.language) for e in set(made) - set(right)}
    assert left_out == {("water", "zh"), ("capital", "sw")}
