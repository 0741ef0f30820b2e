"""Gold in, 100% out: references score 1.0 in every language of every family; English is off target."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lm_eval.evaluator import evaluate
from task_items import Oracle, load_tasks, write_hub_copies
from worked_steps import STEPS

from lens_eval.tasks.answers import read_number
from lens_eval.tasks.families import LANGUAGES
from lens_eval.tasks.items import load_split
from lens_eval.tasks.words import WORDS

LETTER_GROUPS = (
    "lens_xnli", "lens_xcopa", "lens_xwinograd", "lens_xstorycloze", "lens_mmlu", "lens_kmmlu",
    "lens_xcopa_official", "lens_xwinograd_official", "lens_xstorycloze_official", "lens_mmlu_official",
    "lens_kmmlu_official",
)  # fmt: skip


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("items")
    write_hub_copies(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LENS_DATA_DIR", str(folder))
        yield folder


def run(model: Oracle, group: str, chat: bool = False, **settings: Any) -> dict[str, dict[str, Any]]:
    """Evaluate a group; return the metrics of each task, without the name of the filter."""
    tasks = load_tasks(group)
    for task in tasks["tasks"].values():
        task.set_fewshot_seed(1234)
        if task.config.num_fewshot is None:
            task.set_config("num_fewshot", 0)
    results = evaluate(
        model, tasks, bootstrap_iters=0, apply_chat_template=chat, fewshot_as_multiturn=chat, **settings
    )
    return {
        name: {key.removesuffix(",none"): value for key, value in scores.items()}
        for name, scores in results["results"].items()
        if name in tasks["tasks"]
    }


def language_of(task: str) -> str:
    return task.rsplit("_", 1)[1]


@pytest.mark.parametrize("chat", [False, True], ids=["base", "chat"])
@pytest.mark.parametrize("group", LETTER_GROUPS)
def test_gold_in_letters(items: Path, group: str, chat: bool) -> None:
    scores = run(Oracle(lambda doc: ""), group, chat)
    family = re.sub("lens_|_official", "", group)
    expected = set(LANGUAGES[family])
    if "official" not in group:
        assert {language_of(name) for name in scores} == expected
    assert {name: score["acc"] for name, score in scores.items()} == dict.fromkeys(scores, 1.0)


def test_gold_in_letters_needs_the_right_letter(items: Path) -> None:
    """The control: a model that prefers the first letter scores what the first options are worth."""
    first = Oracle(lambda doc: "")
    first.loglikelihood = lambda requests, **_: [(-float(r.idx), False) for r in requests]  # type: ignore[method-assign]
    assert {score["acc"] for score in run(first, "lens_xnli").values()} == {1 / 3}


def solution(doc: dict[str, Any], language: str) -> str:
    return f"{STEPS[language]}\n{WORDS[language]['final'].format(number=doc['answer_number'])}"


@pytest.mark.parametrize("group", ["lens_mgsm", "lens_mgsm_8shot"])
def test_gold_in_mgsm(items: Path, group: str) -> None:
    scores = run(Oracle(lambda doc: solution(doc, doc["language"])), group)
    assert {language_of(name) for name in scores} >= set(LANGUAGES["mgsm"])
    for name, score in scores.items():
        assert (score["acc"], score["correct_on_target"], score["off_target"], score["no_answer"]) == (
            1,
            1,
            0,
            0,
        ), name
        assert score["answered_in"] == language_of(name)


def test_gold_in_mgsm_in_english(items: Path) -> None:
    scores = run(Oracle(lambda doc: solution(doc, "en")), "lens_mgsm")
    for name, score in scores.items():
        english = language_of(name) == "en"
        assert (score["acc"], score["off_target"]) == (1, 0 if english else 1), name
        assert score["correct_on_target"] == (1 if english else 0)
        assert score["answered_in"] == "en"


def test_gold_in_mgsm_empty(items: Path) -> None:
    for name, score in run(Oracle(lambda doc: "  \n"), "lens_mgsm").items():
        assert (score["acc"], score["undetermined"], score["empty"], score["no_answer"]) == (0, 1, 1, 1), name
        assert (score["off_target"], score["on_target"]) == (0, 0)


def test_gold_in_mgsm_wrong_number(items: Path) -> None:
    wrong = Oracle(lambda doc: solution({"answer_number": doc["answer_number"] + 1}, doc["language"]))
    for score in run(wrong, "lens_mgsm").values():
        assert (score["acc"], score["no_answer"], score["on_target"]) == (0, 0, 1)


def test_gold_in_mgsm_exemplars(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The published worked solutions give their own numbers, in all eleven languages."""
    monkeypatch.setenv("LENS_DATA_DIR", str(shared / "data"))
    for language in LANGUAGES["mgsm"]:
        rows = load_split("mgsm", language, "train").rows
        assert len(rows) == 8
        for row in rows:
            assert read_number(row["solution"], language) == row["answer_number"], (language, row["solution"])


def test_gold_in_mgsm_published_items(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Published items and exemplars: a solution of the exemplars around the right number, then in English."""
    monkeypatch.setenv("LENS_DATA_DIR", str(shared / "data"))
    for asked, off_target in ((None, 0.0), ("en", 1.0)):
        scores = run(
            Oracle(lambda doc, asked=asked: solution(doc, asked or doc["language"])), "lens_mgsm", limit=20
        )
        assert len(scores) == 10
        for name, score in scores.items():
            assert score["acc"] == 1.0, name
            assert score["off_target"] == (0.0 if language_of(name) == "en" else off_target), name


def test_gold_in_mtbench(items: Path) -> None:
    answers = {
        "gold": lambda doc: STEPS[doc["language"]],
        "english": lambda doc: STEPS["en"],
        "empty": lambda doc: "",
    }
    for group in ("lens_mtbench", "lens_mtbench_turn2"):
        gold, english, empty = (run(Oracle(answer), group, chat=True) for answer in answers.values())
        assert len(gold) == len(LANGUAGES["mtbench"]) - (group == "lens_mtbench_turn2")
        for name in gold:
            assert (gold[name]["on_target"], gold[name]["off_target"]) == (1, 0), name
            assert english[name]["off_target"] == (0 if language_of(name) == "en" else 1), name
            assert (empty[name]["undetermined"], empty[name]["empty"]) == (1, 1)


def test_the_second_turn_follows_the_own_first_answer(items: Path) -> None:
    model = Oracle(lambda doc: STEPS[doc["language"]])
    run(model, "lens_mtbench_turn2_zh", chat=True)
    first, second = model.prompts[0], model.prompts[-1]
    assert first.count("<|assistant|>") == 1
    assert STEPS["zh"] not in first
    assert f"<|assistant|>\n{STEPS['zh']}<|end|>\n<|user|>" in second
    assert second.count("<|user|>") == 2
