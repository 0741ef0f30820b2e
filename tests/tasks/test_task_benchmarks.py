"""Benchmarks of today: items as published, columns checked, letters and values read."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from benchmark_items import belebele_row, global_mmlu_row, mmlu_prox_row, write_parquet
from hypothesis import given
from hypothesis import strategies as some

from lens_eval.base.errors import UserError
from lens_eval.tasks import math_answers
from lens_eval.tasks.families import HUB, LANGUAGES, LCB_FAMILIES
from lens_eval.tasks.items import load_split
from lens_eval.tasks.letters import read_letter
from lens_eval.tasks.math_answers import need_parser, plain_number, read_boxed, same_value
from lens_eval.tasks.words import LETTERS, WORDS


def test_lcb_items_are_the_published_ones(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LENS_DATA_DIR", str(shared / "data"))
    count = 0
    for family, codes in LCB_FAMILIES.items():
        _, setting, source = family.split("_", 2)
        for code in codes.split():
            path = shared / "data" / "lcb" / "test_sets" / setting / source / f"{code}.csv"
            with path.open(encoding="utf-8", newline="") as file:
                published = list(csv.DictReader(file))
            rows = load_split(family, code, "test").rows
            assert [row["question"] for row in rows] == [row["prompt"] for row in published]
            for row, record in zip(rows, published, strict=True):
                assert {**row, "prompt": row["question"], "language": record["language"]} == {
                    **record,
                    "question": record["prompt"],
                }
            count += 1
    assert count == len(list((shared / "data" / "lcb").rglob("*.csv"))) == 66


def test_polymath_items_are_the_published_ones(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LENS_DATA_DIR", str(shared / "data"))
    files = sorted((shared / "data" / "polymath_low").glob("*.jsonl"))
    assert len(files) == 8
    for path in files:
        assert path.stem in LANGUAGES["polymath_low"]
        published = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        rows = load_split("polymath_low", path.stem, "test").rows
        assert [(row["name"], row["question"], row["reference"]) for row in rows] == [
            (record["id"], record["question"].strip(), str(record["answer"])) for record in published
        ]
        assert all(plain_number(row["reference"]) is not None for row in rows)


@pytest.mark.parametrize(
    ("family", "row", "column"),
    [
        ("global_mmlu", global_mmlu_row, "cultural_sensitivity_label"),
        ("global_mmlu", global_mmlu_row, "option_c"),
        ("mmlu_prox", mmlu_prox_row, "option_9"),
        ("belebele", belebele_row, "flores_passage"),
    ],
)
def test_a_missing_column_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, row: object, column: str
) -> None:
    monkeypatch.setenv("LENS_DATA_DIR", str(tmp_path))
    record = row("sw", 0)  # type: ignore[operator]
    del record[column]
    folder = tmp_path / HUB[family].repo
    if family == "belebele":
        (folder / "data").mkdir(parents=True)
        (folder / "data" / "swh_Latn.jsonl").write_text(json.dumps(record), encoding="utf-8")
    else:
        write_parquet(folder / "sw" / "test-00000-of-00001.parquet", [record])
    with pytest.raises(UserError, match=column):
        load_split(family, "swh_Latn" if family == "belebele" else "sw", "test")


def test_a_value_that_a_column_cannot_hold_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LENS_DATA_DIR", str(tmp_path))
    path = tmp_path / HUB["global_mmlu"].repo / "sw" / "test-00000-of-00001.parquet"
    write_parquet(path, [{**global_mmlu_row("sw", 0), "answer": "E"}])
    with pytest.raises(UserError, match=r"test-00000.*column 'answer' holds 'E'; it can hold A, B, C, D"):
        load_split("global_mmlu", "sw", "test")


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("答案是(B)", "B"),
        ("所以答案是B。", "B"),
        ("因此，正确答案是：Ｃ。", "C"),
        ("The answer is (J).", "J"),
        ("**Answer: D**", "D"),
        ("A is wrong because B is cheaper. The answer is C, not A.", "C"),
        ("La réponse est E.", "E"),
        ("Jibu ni H.", "H"),
        ("答えはFです。", "F"),
        ("정답은 G입니다.", "G"),
        ("الإجابة هي I.", "I"),
        ("We find $\\boxed{\\text{B}}$.", "B"),
        ("(A) is out, so it must be\n(D)", "D"),
        ("<think>The answer is A</think>The answer is B", "B"),
        ("I think that a plan is best", None),
        ("I do not know.", None),
        ("", None),
    ],
)
def test_letters_are_read_in_any_wording(text: str, letter: str | None) -> None:
    assert read_letter(text, LETTERS) == letter


def test_a_letter_without_an_option_is_none() -> None:
    assert read_letter("The answer is H.", LETTERS[:4]) is None


@given(some.sampled_from(sorted(WORDS)), some.sampled_from(LETTERS), some.text(max_size=40))
def test_the_sentence_asked_for_is_read_after_any_text(language: str, letter: str, before: str) -> None:
    if "final" in WORDS[language] and "boxed" not in before and "think" not in before:
        final = WORDS[language]["final"].format(number=letter)
        assert read_letter(f"{before}\n{final}", LETTERS) == letter


@pytest.mark.parametrize(
    ("text", "boxed"),
    [
        (r"so \boxed{18}", "18"),
        (r"\boxed{1} and then \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{3} and \boxed{4", "3"),
        (r"<think>\boxed{1}</think> \boxed{2}", "2"),
        ("the answer is 18", None),
    ],
)
def test_the_last_box_is_read(text: str, boxed: str | None) -> None:
    assert read_boxed(text) == boxed


@pytest.mark.parametrize(
    ("found", "reference", "same"),
    [
        ("18", "18", True),
        ("18.0", "18", True),
        ("70,000", "70000", True),
        (r"\$70{,}000", "70000", True),
        (r"\frac{1}{2}", "0.5", True),
        (r"-\dfrac12", "-1/2", True),
        ("১৮", "18", True),
        ("x = 18", "18", True),
        (r"18 \text{ dollars}", "18", True),
        ("18 টাকা", "18", True),
        ("19", "18", False),
        ("-18", "18", False),
        ("18 + 2", "18", False),
        (r"\sqrt{2}", r"$\sqrt{2}$", True),
    ],
)
def test_values_are_compared(found: str, reference: str, same: bool) -> None:
    assert same_value(found, reference) is same


def test_latex_without_its_parser_is_refused_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(math_answers, "find_spec", lambda name: None)
    need_parser(["18", r"\frac{1}{2}"], "lens_polymath_low_en")
    with pytest.raises(UserError, match=r"lens_polymath_top_en.*pip install 'lens-multilingual\[math\]'"):
        need_parser(["18", r"2\sqrt{3}"], "lens_polymath_top_en")


def test_latex_is_compared_by_value() -> None:
    pytest.importorskip("math_verify", reason="the extra math is not installed")
    assert same_value(r"\sqrt{12}", r"2\sqrt{3}")
    assert same_value(r"\{2, 1\}", r"\{1, 2\}")
    assert not same_value(r"\sqrt{11}", r"2\sqrt{3}")
