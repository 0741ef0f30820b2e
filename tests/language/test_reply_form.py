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


@pytest.mark.parametrize(
    "reply",
    [
        "Day 1: eat well and rest. Day 2: eat well and rest. Day 3: eat well and rest. Day 4: eat well",
        "\n".join(f"{number}. Drink a glass of water in step {number}." for number in range(1, 9)),
        "Sleep is good for the heart, and for the mind. It helps against stress, worry, " + "fear, " * 12,
        "第一，多喝水，早点睡觉。第二，多喝水，早点睡觉。第三，多喝水，早点睡觉。第四，多喝水，早点睡觉。第五，多喝水，早点睡觉。",
    ],
    ids=["a number changes", "two alike", "only the end", "counted in words"],
)
def test_a_period_with_a_changing_number_is_a_loop(reply: str) -> None:
    assert form_of(reply, QUESTION).name == "loop"


@pytest.mark.parametrize(
    "reply",
    [
        "\n".join(f"Seven times {number} is {7 * number}." for number in range(1, 13)),
        "| year | eggs |\n|---|---|\n" + "\n".join(f"| {1990 + n} | {n * n + 3} |" for n in range(12)),
        "The river runs by the mill at dawn,\nThe mill wheel sings its song.\n"
        "Row on, row on, my brothers all,\n"
        "The night was cold and long.\nThe river runs by the town at noon,\nThe bells ring in the square.\n"
        "Row on, row on, my brothers all,\nThe market folk are there.",
        "def test_add():\n    assert add(1, 2) == 3\n    assert add(2, 5) == 7\n    assert add(4, 4) == 8\n"
        "    assert add(0, 9) == 9\n\ndef test_names():\n    assert names([]) == []\n",
        '[{"name": "Amina", "age": 31}, {"name": "Juma", "age": 28}, {"name": "Zawadi", "age": 45}]',
    ],
    ids=["multiplication in words", "a table", "a refrain", "code", "JSON"],
)
def test_what_repeats_and_says_more_is_no_loop(reply: str) -> None:
    assert form_of(reply, QUESTION).name == "text"


EXAMPLES = (
    "Question: What is two and two?\nAnswer: four\n\nQuestion: How long does an egg boil on a stove?\nAnswer:"
)
TEMPLATED = (
    "<|im_start|>system\nYou are helpful.<|im_end|>\n"
    f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
)


@pytest.mark.parametrize(
    ("prompt", "reply"),
    [
        (EXAMPLES, "How long does an egg boil on a stove?"),
        (TEMPLATED, QUESTION),
        (QUESTION, "How do I open a can of bean if I have not can opener at home"),
        (
            "Maria ana matofaa 12 na anampa kaka yake 5. Eleza jibu lako kwa maneno.",
            "Eleza jibu lako kwa maneno.",
        ),
    ],
    ids=["the last of examples", "in a template", "a few letters changed", "the end alone"],
)
def test_a_part_of_the_prompt_is_an_echo(prompt: str, reply: str) -> None:
    assert form_of(reply, prompt).name == "echo"
    assert form_of(ANSWER, prompt).name == "text"  # the control


@pytest.mark.parametrize(
    ("prompt", "reply"),
    [
        (EXAMPLES, "six minutes"),
        (
            "Correct the mistakes in the text below.\n\nShe could not remembers where her purse was, so I "
            "thought it is in the car. He said it was on the kitchen table, but he was not sure of it, and "
            "asked me to look.",
            "She could not remember where her purse was, so I thought it was in the car. He said it was on "
            "the kitchen table, but he was not sure of it, and asked me to look.",
        ),
        (
            "A shop invests 8000 dollars in the first year and half of it in the second year. What is the "
            "total amount that the shop invested in the two years?",
            "The total amount that the shop invested in the two years is 12000 dollars.",
        ),
        ("ความสัมพันธ์ระหว่าง A และ C คืออะไร?", "ความสัมพันธ์ระหว่าง A และ C คือ A เป็นปู่ของ C"),
    ],
    ids=["examples before", "mended text", "a number of its own", "Thai"],
)
def test_an_answer_in_words_of_the_prompt_is_none(prompt: str, reply: str) -> None:
    assert form_of(reply, prompt).name == "text"


_WORD = st.text(alphabet="abcdefghiklmnoprstuw", min_size=2, max_size=9)


@given(st.lists(_WORD, min_size=6, max_size=40, unique=True))
def test_any_prompt_again_is_an_echo_and_its_first_third_before_own_words_is_none(words: list[str]) -> None:
    prompt = " ".join(words)
    assert form_of(prompt.capitalize() + ".", prompt).name in ("echo", "loop")
    own = " ".join(word[::-1] + "x" for word in words)
    assert form_of(prompt + " " + own, prompt).name != "echo"


@given(st.text(max_size=200))
def test_the_form_of_a_text_is_that_of_it_in_capitals_or_with_space_around(reply: str) -> None:
    if reply.upper().lower() == reply.lower():
        assert form_of(f"\n {reply.upper()} \n", QUESTION).name == form_of(reply, QUESTION).name


def test_long_replies_take_no_long_time() -> None:
    import time

    begun = time.perf_counter()
    assert form_of("ab" * 200_000, QUESTION).name == "loop"
    form_of(" ".join(str(number) for number in range(100_000)), QUESTION)
    assert time.perf_counter() - begun < 5


@pytest.mark.parametrize(
    ("reply", "looping"),
    [
        ("「三原色」は「赤、青、緑」の" + "「" * 33, True),
        ("この「大気汚染の" + "「 " * 40, True),
        ("Jibu ni: " + "..! " * 20, True),
        ("Der Bericht über das letzte Jahr ist fertig und liegt auf dem Tisch im Büro.\n" + "-" * 30, False),
        ("| a | b |\n|---|---|\n| eins | zwei |\n| drei | vier |", False),
        ("Warte ...", False),
    ],
)
def test_marks_without_end_are_a_loop(reply: str, looping: bool) -> None:
    assert form_of(reply, "").looping is looping


@pytest.mark.parametrize(
    ("prompt", "answer", "echo"),
    [
        ("Mji mkuu wa Kenya ni upi?", "Mji mkuu wa Kenya ni Nairobi.", "Mji mku wa Kenyaa ni upi"),
        (
            "Was ist die Hauptstadt von Kenia?",
            "Die Hauptstadt von Kenia ist Nairobi.",
            "Was ist die Haupstad von Kenja?",
        ),
        (
            "¿Cuál es la capital de Francia?",
            "La capital de Francia es París.",
            "¿Cual es la capitel de Francia?",
        ),
        ("Какая столица у Франции?", "Столица Франции — Париж.", "Какая столица у Франци"),
    ],
)
def test_a_new_word_in_the_place_of_the_question_is_an_answer(prompt: str, answer: str, echo: str) -> None:
    assert not form_of(answer, prompt).echoing
    assert form_of(echo, prompt).echoing, "a control: the prompt again with other letters"
