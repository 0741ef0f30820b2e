"""Reasoning is told from the answer, whatever marks it, wherever it begins, and whoever asks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lens_eval.judge.grades import read_grade
from lens_eval.language.off_target import get_judge
from lens_eval.language.reasoning import continued, opened_by, read_reasoning
from lens_eval.tasks.answers import read_number
from lens_eval.tasks.letters import read_letter
from lens_eval.tasks.math_answers import read_boxed

ENGLISH = "The user wants to know how many eggs there are, so I add 2 and 3 and get Grade: 3."
SWAHILI = "Jibu la swali hili ni kwamba kuna mayai saba kwenye kikapu hicho. Grade: 7"

# What opens reasoning, and what ends it.
WAYS = [
    ("<think>", "</think>"),
    ("<Think>\n", "\n</Think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ('<think type="long">', "</think>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("<|start|>assistant<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
    ("analysis", "assistantfinal"),
    ("<|START_THINKING|>", "<|END_THINKING|><|START_RESPONSE|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|><|begin_of_solution|>"),
    ("<|channel>thought\n", "<channel|>"),
    ("◁think▷", "◁/think▷"),
    ("<unused94>thought\n", "<unused95>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("Here is my thought process: ", "\nHere is my response: "),
]


@pytest.mark.parametrize(("opening", "closing"), WAYS)
def test_every_reader_takes_the_answer_and_not_the_reasoning(opening: str, closing: str) -> None:
    whole = opening + ENGLISH + closing + SWAHILI
    parts = read_reasoning(whole)
    assert (parts.answer.strip(), parts.thinking.strip(), parts.closed) == (SWAHILI, ENGLISH, True)
    verdict = get_judge().judge(whole, "sw")
    assert (verdict.outcome, verdict.thinking) == ("on_target", "central")
    assert (read_number(whole, "sw"), read_grade(whole)) == (7, 7)
    # Control: the answer alone is read alike.
    assert read_number(SWAHILI, "sw") == 7


@pytest.mark.parametrize(("opening", "closing"), WAYS)
def test_choices_and_worked_values_are_read_behind_the_reasoning(opening: str, closing: str) -> None:
    reply = opening + r"Is it B? The answer is B, \boxed{5}." + closing + r"The answer is C, \boxed{7}."
    assert (read_letter(reply, "ABCD"), read_boxed(reply)) == ("C", "7")
    cut = opening + r"Is it B? The answer is B, \boxed{5}."
    assert (read_letter(cut, "ABCD"), read_boxed(cut)) == (None, None)
    # Control: without the marks that is an answer.
    assert (read_letter("The answer is B.", "ABCD"), read_boxed(r"\boxed{5}")) == ("B", "5")


@pytest.mark.parametrize(("opening", "closing"), WAYS)
def test_reasoning_that_never_ends_is_no_answer(opening: str, closing: str) -> None:
    cut = opening + ENGLISH
    verdict = get_judge().judge(cut, "sw")
    assert (verdict.empty, verdict.answered_in, verdict.thinking) == (True, "empty", "central")
    assert read_number(cut, "sw") is None
    assert read_grade(cut) is None
    assert read_reasoning(cut).cut


@pytest.mark.parametrize(
    "prompt", ["<|assistant|>\n<think>\n", "<|assistant|><think>", "x\n[THINK]", "<think>\nOkay, so"]
)
def test_a_prompt_can_begin_the_reasoning(prompt: str) -> None:
    assert read_reasoning(ENGLISH, prompt).answer == ""
    assert read_number(continued(ENGLISH, prompt), "sw") is None
    verdict = get_judge().judge(ENGLISH, "sw", prompt=prompt)
    assert (verdict.empty, verdict.thinking) == (True, "central")
    # Ended, it is judged as if it had opened it itself.
    closing = "[/THINK]" if "[" in prompt else "</think>"
    assert read_reasoning(f"{ENGLISH}{closing}{SWAHILI}", prompt).answer.strip() == SWAHILI


@pytest.mark.parametrize(
    "prompt",
    [
        None,
        "",
        "<|assistant|>",
        "<think>\n\n</think>\n\n",
        "What does <think> mean?\nAnswer:",
        "<|start|>assistant",
    ],
)
def test_other_prompts_begin_none(prompt: str | None) -> None:
    assert opened_by(prompt) is None
    assert continued("7", prompt) == "7"
    assert read_reasoning("7", prompt).answer == "7"


@pytest.mark.parametrize(
    "text",
    [
        "The `<think>` tag opens the reasoning of a model. 18",
        "Analysis of the text: 18",
        "analysis shows 18",
        "[1] See <b>here</b>: 18",
        "I think 18",
    ],
)
def test_what_is_no_mark_stays(text: str) -> None:
    parts = read_reasoning(text)
    assert (parts.answer, parts.thinking, parts.closed) == (text, "", True)
    assert read_number(text, "en") == 18


@given(
    st.lists(
        st.sampled_from([mark for way in WAYS for mark in way] + ["a", "\n", " 7", "`", "<|end|>"]),
        max_size=12,
    ),
    st.sampled_from([None, "<think>", "x"]),
)
def test_any_order_of_marks_is_read(parts: list[str], prompt: str | None) -> None:
    """Nothing but marks is lost: every digit is in the answer or in the reasoning, once."""
    text = "".join(parts)
    found = read_reasoning(text, prompt)
    assert (found.answer + found.thinking).count("7") == text.count("7")


@given(st.text(alphabet=st.characters(exclude_characters="<[◁"), max_size=100))
def test_text_without_marks_is_the_answer(text: str) -> None:
    if not text.lstrip().casefold().startswith(("analysis", "here")):
        assert read_reasoning(text).answer == text
