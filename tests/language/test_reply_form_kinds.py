"""Echoes and loops as models write them, in many languages, and what only looks like one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from repeating_texts import FIGURES, by_language
from reply_texts import QUESTIONS, REPEATED

from lens_eval.language.off_target import get_judge
from lens_eval.language.reply_form import form_of

LANGUAGES = sorted(QUESTIONS)
UNSPACED = {"zh", "ja", "th"}


def _parts(text: str, language: str) -> list[str]:
    return list(text) if language in UNSPACED else text.split(" ")


def _joined(parts: list[str], language: str) -> str:
    return ("" if language in UNSPACED else " ").join(parts)


def _without_some(text: str, language: str) -> str:
    parts = _parts(text, language)
    return _joined(parts[: -max(1, len(parts) // 8)], language)


def _one_doubled(text: str, language: str) -> str:
    parts = _parts(text, language)
    middle = len(parts) // 2
    return _joined([*parts[:middle], parts[middle], *parts[middle:]], language)


def _one_dropped(text: str, language: str) -> str:
    parts = _parts(text, language)
    middle = len(parts) // 2
    return _joined(parts[:middle] + parts[middle + 1 :], language)


def _two_swapped(text: str, language: str) -> str:
    parts = _parts(text, language)
    middle = len(parts) // 3
    parts[middle], parts[middle + 1] = parts[middle + 1], parts[middle]
    return _joined(parts, language)


def _begun_again(text: str, language: str) -> str:
    parts = _parts(text, language)
    return text + "\n" + _joined(parts[: len(parts) // 2], language)


def _ends_changed(text: str, language: str) -> str:
    """Each eighth word gets another last letter, as a weak model misspells."""
    if language in UNSPACED:
        return text[:-1] + "。"
    words = text.split(" ")
    return " ".join(word[:-1] if not at % 5 and len(word) > 3 else word for at, word in enumerate(words))


ECHOES: dict[str, Callable[[str, str], str]] = {
    "word for word": lambda text, language: text,
    "without the mark": lambda text, language: text.rstrip("?？؟。 "),
    "in bold": lambda text, language: f"**{text}**",
    "quoted": lambda text, language: f"« {text} »",
    "behind a mark": lambda text, language: f"> {text}",
    "with a role": lambda text, language: f"User: {text}",
    "as a heading": lambda text, language: f"### Question:\n{text}\n\n### Answer:",
    "in capitals": lambda text, language: text.upper(),
    "with a comma less": lambda text, language: text.replace(",", "").replace("،", "").replace("，", ""),
    "without its end": _without_some,
    "one word twice": _one_doubled,
    "one word less": _one_dropped,
    "two words swapped": _two_swapped,
    "begun again": _begun_again,
    "misspelt": _ends_changed,
    "with a sign of agreement": lambda text, language: f"OK! {text}",
}


@pytest.mark.parametrize("kind", ECHOES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_prompt_with_small_changes_is_an_echo(language: str, kind: str) -> None:
    prompt, answer = QUESTIONS[language]
    reply = ECHOES[kind](prompt, language)
    assert form_of(reply, prompt).name == "echo"
    assert form_of(reply, answer).name == "text"  # the control: another prompt


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_prompt_and_an_answer_is_none(language: str) -> None:
    prompt, answer = QUESTIONS[language]
    parts = _parts(prompt, language)
    for reply in (
        answer,
        f"{prompt}\n\n{answer}",
        f"{prompt} {answer}",
        f"**{prompt}**\n{answer}",
        _joined(parts[: len(parts) // 2], language) + " " + answer,
        answer + "\n\n" + prompt,
    ):
        assert form_of(reply, prompt).name == "text", reply


@pytest.mark.parametrize("language", LANGUAGES)
def test_another_question_on_the_same_is_none(language: str) -> None:
    prompt, _ = QUESTIONS[language]
    others = {code: question for code, (question, _) in QUESTIONS.items() if code != language}
    for question in others.values():
        assert form_of(prompt, question).name == "text"


LOOPS: dict[str, Callable[[str, str], str]] = {
    "to the end": lambda unit, start: unit * 12,
    "cut": lambda unit, start: (unit * 12)[: -len(unit) // 2],
    "after a beginning": lambda unit, start: start + "\n" + unit * 20,
    "in lines": lambda unit, start: f"{unit.strip()}\n" * 10,
    "in a list": lambda unit, start: f"- {unit.strip()}\n" * 10,
    "in a numbered list": lambda unit, start: "\n".join(f"{n}. {unit.strip()}" for n in range(1, 12)),
    "before a short end": lambda unit, start: unit * 20 + "ABC.",
    "quoted": lambda unit, start: f"“{unit.strip()}” " * 10,
    "in brackets": lambda unit, start: f"({unit.strip()}) " * 10,
    "in capitals": lambda unit, start: unit.upper() * 12,
}


@pytest.mark.parametrize("kind", LOOPS)
@pytest.mark.parametrize("language", sorted(REPEATED))
def test_a_passage_again_and_again_is_a_loop(language: str, kind: str) -> None:
    prompt, answer = QUESTIONS[language]
    for unit in REPEATED[language]:
        assert form_of(LOOPS[kind](unit, answer), prompt).name == "loop", unit
        assert form_of(f"{answer} {unit}", prompt).name == "text"  # the control: once


@pytest.mark.parametrize("sign", ["a", "ha", "хо", "的", "の", "ก", "ক", "ا", "ㅋ", "はい", "7", "no "])
def test_one_sign_or_syllable_without_end_is_a_loop(sign: str) -> None:
    assert form_of(sign * 60, "").name == "loop"
    assert form_of("One, two, three. " + sign * 80, "").name == "loop"
    assert form_of(sign * 2, "").name == "text"


CHANGING = [
    "The first step is to drink water and rest. The second step is to drink water and rest. The third step is "
    "to drink water and rest. The fourth step is to drink water and rest. The fifth step is to drink water",
    "En primer lugar, hay que dormir bien. En segundo lugar, hay que dormir bien. En tercer lugar, hay que "
    "dormir bien. En cuarto lugar, hay que dormir bien. En quinto lugar, hay que dormir bien.",
    "Schritt 1: Trinken Sie Wasser.\nSchritt 2: Trinken Sie Wasser.\nSchritt 3: Trinken Sie Wasser.\n"
    "Schritt 4: Trinken Sie Wasser.\nSchritt 5: Trinken Sie Wasser.",
    "第一步，喝一杯水。第二步，喝一杯水。第三步，喝一杯水。第四步，喝一杯水。第五步，喝一杯水。第六步，喝一杯水。",
    "いち、水を飲んで休みます。に、水を飲んで休みます。さん、水を飲んで休みます。よん、水を飲んで休みます。",
    "Siku ya 1: kula vizuri na ulale. Siku ya 2: kula vizuri na ulale. Siku ya 3: kula vizuri na ulale. Siku "
    "ya 4: kula vizuri na ulale.",
    "День 1: ешьте больше овощей. День 2: ешьте больше овощей. День 3: ешьте больше овощей. День 4: ешьте",
    "첫째, 물을 많이 마십니다. 둘째, 물을 많이 마십니다. 셋째, 물을 많이 마십니다. 넷째, 물을 많이 마십니다.",
]


@pytest.mark.parametrize("reply", CHANGING)
def test_a_counted_passage_is_a_loop(reply: str) -> None:
    assert form_of(reply, "").name == "loop"


REPEATING = [*by_language(), *(("", kind, text) for kind, text in FIGURES.items())]


def test_good_replies_that_repeat_are_neither_loop_nor_echo() -> None:
    wrong = []
    for language, kind, text in REPEATING:
        for code, (prompt, _) in QUESTIONS.items():
            form = form_of(text, prompt)
            if form.broken:
                wrong.append((language, kind, code))
        if language in QUESTIONS:
            prompt, answer = QUESTIONS[language]
            if form_of(f"{answer}\n\n{text}", prompt).broken:
                wrong.append((language, kind, "behind an answer"))
    assert len(REPEATING) > 80
    assert not wrong


def test_good_replies_that_repeat_are_on_target() -> None:
    verdicts = [
        (language, kind, get_judge().judge(text, language).outcome) for language, kind, text in by_language()
    ]
    wrong = [each for each in verdicts if each[2] != "on_target"]
    assert not [each for each in wrong if each[2] != "undetermined"]
    assert len(wrong) <= 0.05 * len(verdicts), wrong
