"""What lm_eval is given for every response."""

from __future__ import annotations

from fractions import Fraction

import pytest

from lens_eval.language.contains import contains
from lens_eval.tasks.answers import same_number
from lens_eval.tasks.scoring import (
    NUMBER_METRICS,
    OPEN_METRICS,
    choice,
    most_common,
    number,
    open_answer,
    option_letter,
)

CHINESE = "我们先计算鸭蛋的数量，然后乘以每个鸭蛋的价格。答案是 18。"
ENGLISH = "First we count the eggs and then we multiply by the price. The answer is 18."


def test_a_number_carries_every_metric() -> None:
    doc = {"language": "zh", "prompt": "鸭子每天下几颗蛋？", "answer_number": 18}
    right = number(doc, [CHINESE])
    assert set(right) == set(NUMBER_METRICS)
    assert (right["acc"], right["correct_on_target"], right["no_answer"]) == (1, 1, 0)
    assert right["answered_in"] == "zh"
    english = number(doc, [ENGLISH])
    assert (english["acc"], english["correct_on_target"], english["off_target"]) == (1, 0, 1)
    nothing = number(doc, [""])
    assert (nothing["acc"], nothing["no_answer"], nothing["empty"], nothing["undetermined"]) == (0, 1, 1, 1)


def test_numbers_are_written_as_in_the_language_of_the_answer() -> None:
    doc = {"language": "de", "prompt": "Wie viel?", "answer_number": 1250}
    assert number(doc, ["Wir zählen alle Eier zusammen. Die Antwort lautet 1.250."])["acc"] == 1
    assert number(doc, ["First we count all of the eggs together. The answer is 1,250."])["acc"] == 1
    assert number(doc, ["Wir zählen alle Eier zusammen. Die Antwort lautet 1,250."])["acc"] == 0


def test_an_open_answer_has_no_accuracy() -> None:
    scores = open_answer({"language": "zh", "prompt": "你好"}, [ENGLISH])
    assert set(scores) == set(OPEN_METRICS)
    assert scores["central"] == 1


@pytest.mark.parametrize(
    ("text", "answer", "found"),
    [
        ("The capital is Paris.", "paris", True),
        ("a Parisian", "Paris", False),
        ("It is 15", "5", False),
        ("It is 1.5", "5", False),
        ("It is 5.", "5", True),
        ("উত্তর ৫", "5", True),
        ("서울은 수도입니다", "서울", True),
        ("القاهرة عاصمة", "قاهرة", True),
        ("首都是巴黎。", "巴黎", True),
        ("ＰＡＲＩＳ", "Paris", True),
        ("anything", "", False),
    ],
)
def test_contains(text: str, answer: str, found: bool) -> None:
    assert contains(text, answer) is found


def test_choices() -> None:
    results = [(-3.0, False), (-4.0, False), (-9.0, False)]
    assert option_letter({"answer": 0}, results) == {"acc": 1.0}
    assert option_letter({"answer": 1}, results) == {"acc": 0.0}
    texts = {"answer": 1, "choices": ["ab", "abcd", "abc"]}
    assert choice(texts, results) == {"acc": 0.0, "acc_norm": 1.0}


def test_only_options_that_exist_are_compared() -> None:
    """Two options, two requests: no third letter can win, as it could in the released evaluation."""
    assert option_letter({"answer": 1}, [(-2.0, False), (-1.0, False)]) == {"acc": 1.0}


def test_most_common() -> None:
    assert most_common(["en", "zh", "zh"]) == "zh"
    assert most_common(["zh", "en"]) == "en"
    assert most_common([]) == "none"


def test_same_number() -> None:
    assert same_number(Fraction(18), "18")
    assert same_number(Fraction(114200), "114,200")
    assert same_number(Fraction("18.5"), 18.5)
    assert not same_number(Fraction(1800), 18)
