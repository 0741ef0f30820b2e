"""Loops, echoes and empty replies are told from text, in scripts with and without spaces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lens_eval.language.reply_form import form_of

QUESTION = "How do I open a can of beans if I have no can opener at home?"
ANSWER = (
    "Place the can upside down on a rough stone and rub it in circles until the rim is worn through. "
    "Then squeeze the sides, lift the lid with a spoon, and pour the beans into a pot."
)


@pytest.mark.parametrize(
    "reply",
    [
        "約の約の約の約の約の約の約の約の約の約の約の約の約の約の約の約の",
        "リラックス、リフレッシュ、またはリラックスタイム、リラックス、リフレッシュ、またはリラックスタイム、リラックス、リフレッシュ",
        "La manera de abrir una lata es de la manera de abrir una luna. La manera de abrir una lata es de la "
        "manera de abrir una luna. La manera de abrir una lata es de la manera",
        "1. Drink water.\n2. Drink water.\n3. Drink water.\n4. Drink water.\n5. Drink water.\n6.",
        "1. 1. 1. 1. 1. 1. 1. 1. 1. 1. 1. 1. 1. 1. 1. 1. 1. 1. 1. 1. 1. 1. 1. 1. 1. 1.",
        "It is a good day for a walk. "
        + "and then and then and then and then and then and then and then and",
        "আমি জানি না আমি জানি না আমি জানি না আমি জানি না আমি জানি না",
    ],
)
def test_a_period_to_the_end_is_a_loop(reply: str) -> None:
    form = form_of(reply, QUESTION)
    assert form.looping
    assert form.name == "loop"
    assert form.broken


@pytest.mark.parametrize(
    "reply",
    [
        ANSWER,
        "ja ja ja",
        "No, no, no!",
        "\n".join(f"7 x {number} = {7 * number}" for number in range(1, 13)),
        "Row, row, row your boat, gently down the stream. Merrily, merrily, merrily, life is but a dream.",
        "- apples\n- pears\n- plums\n- cherries\n- grapes\n- lemons\n- figs",
        "東京は日本の首都で、人口は約千四百万人です。多くの会社や大学が集まり、観光地も豊富にあります。",
    ],
)
def test_text_is_no_loop(reply: str) -> None:
    form = form_of(reply, QUESTION)
    assert not form.looping
    assert form.name == "text"


@pytest.mark.parametrize(
    "reply",
    [
        QUESTION,
        "How do I open a can of beans if I have no can opener?",
        QUESTION.upper() + "\n",
        '"How do I open a can of beans, if I have no can opener at home?"',
    ],
)
def test_the_prompt_again_is_an_echo(reply: str) -> None:
    assert form_of(reply, QUESTION).name == "echo"
    assert not form_of(reply, "Tell me about the weather in Nairobi in March.").echoing  # the control


@pytest.mark.parametrize(
    ("prompt", "reply"),
    [
        (QUESTION, QUESTION + " " + ANSWER),
        ("Which of these is an animal: table, dog, lamp, chair, window, door?", "dog"),
        ("日本の首都はどこですか?", "日本の首都は東京です。"),
        (
            "ما اللغة التي يتحدث بها معظم الناس في النرويج؟",
            "حسنًا. اللغة التي يتحدث بها معظم الناس في النرويج هي النرويجية.",
        ),
        ("", ANSWER),
    ],
)
def test_a_restatement_before_an_answer_is_no_echo(prompt: str, reply: str) -> None:
    assert not form_of(reply, prompt).echoing


def test_nothing_but_signs_is_empty() -> None:
    assert form_of(" \n...!?", QUESTION).name == "empty"
    assert not form_of("7", QUESTION).empty


@given(st.text(max_size=300), st.text(max_size=100))
def test_shares_are_shares(reply: str, prompt: str) -> None:
    form = form_of(reply, prompt)
    assert 0 <= form.loop <= 1
    assert 0 <= form.echo <= 1


@given(st.text(alphabet=st.characters(categories=("Lu", "Ll", "Lo")), min_size=8, max_size=40))
def test_any_text_four_times_over_is_a_loop(text: str) -> None:
    assert form_of(" ".join([text] * 4)).looping
