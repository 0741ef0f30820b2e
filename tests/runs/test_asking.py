"""The variants `prompted` and `few_shot`: messages with the language asked for or shown, and their rows."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from lens_eval.base.errors import UserError
from lens_eval.mini import resolve_data
from lens_eval.results.read import load
from lens_eval.runs import runner
from lens_eval.runs.asking import Asking
from lens_eval.runs.preflight import check
from lens_eval.runs.recipe import Recipe, parse_recipe
from lens_eval.tasks.words import WORDS
from lens_train.baselines.pairs import read_pairs

RAW: dict[str, Any] = {
    "backbone": "builtin",
    "simulated": True,
    "languages": ["en", "zh"],
    "data": {"train": "builtin:train"},
    "tasks": ["lens_mini_qa_zh"],
    "variants": {
        "backbone": {},
        "prompted": {"ask": "prompted"},
        "few_shot": {"ask": "few_shot", "shots": 2},
    },
    "limit": 6,
    "backend": {"batch_size": 6},
}


def _recipe(**changes: Any) -> Recipe:
    return parse_recipe({**RAW, **changes})


def test_messages_are_added_and_none_is_lost() -> None:
    given = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "old"},
        {"role": "assistant", "content": "reply"},
        {"role": "user", "content": "Q"},
    ]
    turns = ({"role": "user", "content": "1"}, {"role": "assistant", "content": "2"})
    asked = Asking(sentence="Only so.", turns=turns)(given)
    assert [m["content"] for m in asked] == ["S", "1", "2", "old", "reply", "Q\n\nOnly so."]
    assert given[-1]["content"] == "Q"
    assert Asking()(given) == given


def test_rows_of_a_run_are_asked_as_their_names_say(tmp_path: Path) -> None:
    """Control: the backbone's prompts hold neither sentence nor examples; its replies differ."""
    recipe = _recipe()
    assert recipe.reference == "backbone"
    outcome = runner.run(recipe, tmp_path / "out", device="cpu", say=lambda _: None)
    assert outcome.status == 0
    prompts, replies = {}, {}
    for row in ("backbone", "prompted", "few_shot"):
        (file,) = (tmp_path / "out" / row).rglob("samples_*.jsonl.gz")
        rows = [json.loads(line) for line in gzip.decompress(file.read_bytes()).decode().splitlines()]
        prompts[row] = [sample["arguments"]["gen_args_0"]["arg_0"] for sample in rows]
        replies[row] = [sample["resps"][0][0] for sample in rows]
    sentence = WORDS["zh"]["only"]
    assert all(sentence in prompt for prompt in prompts["prompted"])
    assert not any(sentence in prompt for prompt in prompts["backbone"] + prompts["few_shot"])
    for item in read_pairs(resolve_data("builtin:train"), ("zh",)).items[:2]:
        for text in (item.prompt["zh"], item.response["zh"]):
            assert all(text in prompt for prompt in prompts["few_shot"])
            assert not any(text in prompt for prompt in prompts["backbone"] + prompts["prompted"])
    assert replies["backbone"] != replies["few_shot"]
    assert replies["backbone"] != replies["prompted"]
    table = (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    assert all(f"| {row}" in table for row in ("backbone", "prompted", "few_shot"))
    assert {each.variant: each.asked for each in load([tmp_path / "out"]).scores} == {
        "backbone": "",
        "prompted": "prompted",
        "few_shot": "few_shot",
    }
    again = runner.run(_recipe(), tmp_path / "out", device="cpu", say=lambda _: None)
    assert again.done == 0
    other = {**RAW["variants"], "few_shot": {"ask": "few_shot", "shots": 1}}
    changed = runner.run(_recipe(variants=other), tmp_path / "out", device="cpu", say=lambda _: None)
    assert changed.done == 1, "only the row with other examples is evaluated again"


@pytest.mark.parametrize(
    ("variant", "changes", "words"),
    [
        ({"ask": "promted"}, {}, "did you mean"),
        ({"ask": "prompted", "shots": 2}, {}, "goes with `ask: few_shot`"),
        ({"ask": "prompted", "method": "lens"}, {}, "exclude each other"),
        ({"ask": "few_shot"}, {"data": {}}, "needs questions with answers"),
        ({"ask": "few_shot", "shots": 5000}, {}, "5000 examples are asked for"),
        ({"ask": "prompted"}, {"languages": ["en", "qu"]}, "no word 'only' for language 'qu'"),
        ({"ask": "prompted"}, {"backend": {"apply_chat_template": False}}, "needs a chat template"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_work(
    tmp_path: Path, variant: dict[str, Any], changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        check(_recipe(variants={"asked": variant}, **changes), tmp_path / "out", "cpu")
