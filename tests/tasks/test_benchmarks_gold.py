"""Gold in, 100% out for the benchmarks of today; answers in English are off target in every language."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from task_items import Oracle, load_tasks, write_hub_copies
from test_tasks_gold import language_of, run
from worked_steps import STEPS

from lens_eval.tasks.families import BELEBELE_VARIANTS, LANGUAGES, LCB_FAMILIES
from lens_eval.tasks.prompts import printed_letters
from lens_eval.tasks.words import WORDS


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Rows made up in the documented schemas."""
    folder = tmp_path_factory.mktemp("items")
    write_hub_copies(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LENS_DATA_DIR", str(folder))
        yield folder


def boxed(doc: dict[str, Any], language: str) -> str:
    return f"{STEPS[language]}\n$\\boxed{{{doc['reference']}}}$"


def lettered(doc: dict[str, Any], language: str) -> str:
    letter = printed_letters(doc)[doc["answer"]]
    return f"{STEPS[language]}\n{WORDS[language]['final'].format(number=letter)}"


WORKED: dict[str, Callable[[dict[str, Any], str], str]] = {
    "lens_polymath": boxed,
    "lens_mmlu_prox": lettered,
    "lens_mmlu_prox_lite": lettered,
}


@pytest.mark.parametrize("group", WORKED)
def test_gold_in_worked_answers(items: Path, group: str) -> None:
    answer = WORKED[group]
    gold = run(Oracle(lambda doc: answer(doc, doc["language"])), group)
    english = run(Oracle(lambda doc: answer(doc, "en")), group)
    family = group.removeprefix("lens_")
    expected = LANGUAGES["polymath_low" if family == "polymath" else family]
    assert {language_of(name) for name in gold} == set(expected)
    for name, score in gold.items():
        wanted = {"acc": 1, "correct_on_target": 1, "off_target": 0, "no_answer": 0}
        assert {key: score[key] for key in wanted} == wanted, name
        assert score["answered_in"] == language_of(name)
        off = 0 if language_of(name) == "en" else 1
        assert (english[name]["acc"], english[name]["off_target"]) == (1, off), name


@pytest.mark.parametrize("group", WORKED)
def test_gold_in_wrong_answers_score_nothing(items: Path, group: str) -> None:
    """The control: another value or letter in the right language."""

    def wrong(doc: dict[str, Any]) -> str:
        other = {**doc, "reference": "1"}
        if "choices" in doc:
            other["answer"] = (doc["answer"] + 1) % len(doc["choices"])
        return WORKED[group](other, doc["language"])

    for name, score in run(Oracle(wrong), group).items():
        assert (score["acc"], score["on_target"], score["no_answer"]) == (0, 1, 0), name


@pytest.mark.parametrize("group", ["lens_lcb_monolingual", "lens_lcb_crosslingual"])
def test_gold_in_lcb(items: Path, group: str) -> None:
    gold = run(Oracle(lambda doc: STEPS[doc["language"]]), group)
    english = run(Oracle(lambda doc: STEPS["en"]), group)
    assert set(gold) == {
        f"lens_{family}_{code}"
        for family, codes in LCB_FAMILIES.items()
        for code in codes.split()
        if family.startswith(group.removeprefix("lens_"))
    }
    for name, score in gold.items():
        wanted = {"off_target": 0, "off_target_lines": 0, "foreign_words": 0, "lcb_line_pass": 1}
        assert {key: score[key] for key in wanted} == wanted, name
        assert score.get("lcb_word_pass", 1) == 1
        off = 0 if language_of(name) == "en" else 1
        assert (english[name]["off_target"], english[name]["off_target_lines"]) == (off, off), name
        assert english[name]["lcb_line_pass"] == 1 - off


def test_gold_in_lcb_lines(items: Path) -> None:
    """One line of two in English: half of the lines, and no pass by the benchmark's rules."""
    score = run(Oracle(lambda doc: f"{STEPS['ru']}\n{STEPS['en']}"), "lens_lcb_monolingual_dolly_ru")
    metrics = score["lens_lcb_monolingual_dolly_ru"]
    assert (metrics["off_target_lines"], metrics["lcb_line_pass"]) == (0.5, 0)


def test_gold_in_lcb_a_word_of_english_fails_its_word_check(items: Path) -> None:
    name = "lens_lcb_monolingual_dolly_ru"
    mixed = "Сначала сложим все яйца, которые утки несут за день, and потом умножим их number на цену яйца."
    metrics = run(Oracle(lambda doc: mixed.replace("number", "together")), name)[name]
    assert (metrics["lcb_line_pass"], metrics["lcb_word_pass"], metrics["foreign_words"]) == (1, 0, 1)
    plain = run(Oracle(lambda doc: mixed.replace("and", "и").replace("number", "число")), name)[name]
    assert (plain["lcb_word_pass"], plain["foreign_words"]) == (1, 0)


@pytest.mark.parametrize(
    "group", ["lens_global_mmlu", "lens_global_mmlu_lite", "lens_include", "lens_belebele"]
)
def test_gold_in_printed_letters(items: Path, group: str) -> None:
    scores = run(Oracle(lambda doc: ""), group)
    assert {score["acc"] for score in scores.values()} == {1.0}
    languages = {language_of(name) for name in scores}
    if group == "lens_belebele":
        assert len(scores) == sum(len(variants) for variants in BELEBELE_VARIANTS.values())
        assert languages >= set(BELEBELE_VARIANTS)
    else:
        assert languages == set(LANGUAGES[group.removeprefix("lens_")])


def test_gold_in_culture_is_apart(items: Path) -> None:
    """A model that takes the first option is right on the first item, which is culturally sensitive."""
    first = Oracle(lambda doc: "")
    first.loglikelihood = lambda requests, **_: [(-float(r.idx), False) for r in requests]  # type: ignore[method-assign]
    for score in run(first, "lens_global_mmlu").values():
        assert (score["acc"], score["acc_sensitive"], score["acc_agnostic"]) == (pytest.approx(1 / 3), 1, 0)


def test_gold_in_polymath_weighted(items: Path) -> None:
    """Right on the level that counts most alone: 8 of 15."""
    from lm_eval.evaluator import evaluate

    def only_top(doc: dict[str, Any]) -> str:
        return boxed(doc if doc["name"].startswith("top") else {"reference": "1"}, doc["language"])

    tasks = load_tasks("lens_polymath")
    for task in tasks["tasks"].values():
        task.set_config("num_fewshot", 0)
    group = evaluate(Oracle(only_top), tasks, bootstrap_iters=0)["groups"]["lens_polymath"]
    assert group["acc,none"] == pytest.approx(1 / 4)
    assert group["weighted_acc,none"] == pytest.approx(8 / 15)


def test_gold_in_polymath_thinking_apart(items: Path) -> None:
    """Thinking in English, then the answer in Chinese."""
    name = "lens_polymath_low_zh"

    def reply(doc: dict[str, Any]) -> str:
        return f"<think>{STEPS['en']}\n\\boxed{{0}}</think>\n{boxed(doc, 'zh')}"

    score = run(Oracle(reply), name)[name]
    assert (score["acc"], score["on_target"]) == (1, 1)
    assert (score["thinking_on_target"], score["thinking_off_target"]) == (0, 1)
