"""Numbers out of free text, in any script."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lens_eval.language.languages import LANGUAGES
from lens_eval.tasks.answers import DECIMAL_COMMA, read_number, same_number
from lens_eval.tasks.families import LANGUAGES as FAMILY_LANGUAGES
from lens_eval.tasks.words import WORDS

NUMBERS = [
    # digits of other scripts
    ("উত্তর হল ১৮।", "bn", 18),
    ("الجواب هو ١٨", "ar", 18),
    ("۱۸", "fa", 18),
    ("१८", "hi", 18),
    ("คำตอบคือ ๑๘", "th", 18),
    ("၁၈", "my", 18),
    ("２０", "ja", 20),
    ("答案是十八。", "zh", 18),
    ("答案是七万。", "zh", 70000),
    ("答案是一百二十元", "zh", 120),
    # decimals and thousands
    ("18.00", "en", 18),
    ("The answer is $18.00.", "en", 18),
    ("The answer is: $18.50", "en", "18.5"),
    ("18,5", "de", "18.5"),
    ("Die Antwort lautet 1.234,50 Euro.", "de", "1234.5"),
    ("Also 1.234 Stück", "de", 1234),
    ("70.000 $", "de", 70000),
    ("$70,000", "de", 70000),
    ("0.125", "de", "0.125"),
    ("18.000", "en", 18),
    ("1,234,567.89", "en", "1234567.89"),
    ("1.234.567,89", "de", "1234567.89"),
    ("70 000 dollars", "fr", 70000),
    ("70\u202f000 dollars", "fr", 70000),
    ("La respuesta es 1 234.", "es", 1234),
    ("1'234", "de", 1234),
    ("1,00,000 টাকা", "bn", 100000),
    ("٣٫٥", "ar", "3.5"),
    ("١٬٢٣٤", "ar", 1234),
    (".5", "en", "0.5"),
    ("1, 2, 3", "en", 3),
    ("1,2,3", "en", 3),
    # words for powers of ten
    ("3万5千", "zh", 35000),
    ("3万5000", "ja", 35000),
    ("7만 달러", "ko", 70000),
    ("70 mil", "es", 70000),
    ("elfu 70", "sw", 70000),
    ("The answer is 2 million.", "en", 2_000_000),
    ("70K", "en", 70000),
    # signs
    ("-5", "en", -5),
    ("= −5 degrees", "en", -5),
    ("-$5", "en", -5),
    ("$-5", "en", -5),
    ("minus 5", "en", -5),
    ("moins 5", "fr", -5),
    ("-5 + 3 = -2", "en", -2),
    ("10 - 5", "en", 5),
    ("10-5", "en", 5),
    ("10 minus 5 is 5", "en", 5),
    # fractions and LaTeX
    ("3/4", "en", "3/4"),
    ("1 1/2", "en", "3/2"),
    ("1½", "en", "3/2"),
    ("\\boxed{\\frac{3}{4}}", "en", "3/4"),
    ("so \\(\\boxed{1{,}234}\\) ducks, not 7", "en", 1234),
    ("$\\boxed{18\\text{ dollars}}$", "en", 18),
    ("The total is 20 m^2", "en", 20),
    # wrapping
    ("**18** dollars", "en", 18),
    ("**Answer:** 18", "en", 18),
    ("Answer:\n18", "en", 18),
    ("#### 18", "en", 18),
    ("18km", "en", 18),
    ("答えは18ドルです。", "ja", 18),
    ("150%", "en", 150),
    ("H2O", "en", None),
    # the last stated answer
    ("The answer is 3 + 2 = 5.", "en", 5),
    ("The answer is 18 dollars. She has 2 ducks.", "en", 18),
    ("The answer is 12. The answer is 15.", "en", 15),
    ("The answer is 12. Wait, I made a mistake. 9 * 2 = 18.", "en", 18),
    ("答案是 12。等等，算错了，应该是 18。", "zh", 18),
    ("Answer: First 16 - 3 = 13. Then 13 * 2 = 26", "en", 26),
    ("<think>5</think> The answer is 7", "en", 7),
    ("<think> 5, so 7", "en", None),
    ("[THINK]5[/THINK] The answer is 7", "en", 7),
    # what follows the answer
    ("**Answer: 18**\n\nLet me know if you want me to explain step 2 again!", "en", 18),
    ("Answer: 18 dollars\n\nNote: 3 eggs are eaten.", "en", 18),
    ("答案：18\n\n如果需要，我可以再解释第 2 步。", "zh", 18),
    ("She sells 9 eggs for 18 dollars.\n\nQuestion: Tom has 5 apples. Answer: 5", "en", 18),
    ("The answer is 18.\n\nQ: Tom has 5 apples.\nA: The answer is 5.", "en", 18),
    ("Jibu ni 18.\nSwali: Tom ana matofaa 5. Jibu ni 5.", "sw", 18),
    ("**Question:** What is 9 * 2?\n18", "en", 18),
    # JSON
    ('{"answer": 18, "confidence": 0.95}', "en", 18),
    ('{"steps": [1, 2], "final_answer": "18", "confidence": 95}', "en", 18),
    ('{"answer": 18.5, "unit": 3}', "de", "18.5"),
    # powers of ten
    ("5 × 10^3", "en", 5000),
    ("$5 \\times 10^{3}$", "en", 5000),
    ("1.5 x 10^6 people", "en", 1_500_000),
    ("5 × 10³", "en", 5000),
    ("5e3", "en", 5000),
    ("1.5E+6", "en", 1_500_000),
    ("2,5e3", "de", 2500),
    ("5e-3", "de", "0.005"),
    ("10^4", "en", 10_000),
    # glued currencies
    ("Rp70.000", "id", 70_000),
    ("USD18", "en", 18),
    ("KSh1,250", "sw", 1250),
    ("no number", "en", None),
    ("", "en", None),
]


@pytest.mark.parametrize(("text", "language", "value"), NUMBERS)
def test_number(text: str, language: str, value: int | str | None) -> None:
    found = read_number(text, language)
    assert (found is None) if value is None else (found is not None and same_number(found, value)), found


def test_eighteen_point_zero_zero_is_never_eighteen_hundred() -> None:
    for language in LANGUAGES:
        assert read_number("18.00", language) == 18
        assert read_number("18,00", language) == 18


@given(
    st.integers(-10_000_000, 10_000_000),
    st.sampled_from(FAMILY_LANGUAGES["mgsm"]),
    st.booleans(),
    st.booleans(),
)
def test_the_final_sentence_of_every_language_is_read(
    number: int, language: str, own_digits: bool, grouped: bool
) -> None:
    text = f"{number:,}" if grouped else str(number)
    if grouped and language in DECIMAL_COMMA:
        text = text.replace(",", ".")
    if own_digits:
        text = text.translate(str.maketrans("0123456789", LANGUAGES[language].digits))
    sentence = WORDS[language]["final"].format(number=text)
    assert read_number(sentence, language) == number
    assert read_number(f"7 + 8 = 15.\n**{sentence}**", language) == number


@given(st.decimals(min_value=-9999, max_value=9999, places=2), st.sampled_from(sorted(LANGUAGES)))
def test_two_decimals_are_decimals_in_every_language(number: Decimal, language: str) -> None:
    for mark in ".,":
        assert read_number(str(number).replace(".", mark), language) == Fraction(number)


@given(st.integers(0, 10**9), st.sampled_from(sorted(LANGUAGES)))
def test_digits_of_every_script(number: int, language: str) -> None:
    own = str(number).translate(str.maketrans("0123456789", LANGUAGES[language].digits))
    assert read_number(own, language) == number


@given(st.text(max_size=200), st.sampled_from(sorted(LANGUAGES)))
def test_any_text_is_read_without_failing(text: str, language: str) -> None:
    read_number(text, language)


@given(st.text(alphabet="0123456789.,'/-+*= $€%()kKmx\n", max_size=60))
def test_arithmetic_like_text_is_read_without_failing(text: str) -> None:
    read_number(text, "en")
    read_number(text, "de")
