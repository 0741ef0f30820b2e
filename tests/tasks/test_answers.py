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


# What stands behind an answer, in many languages: offers of help, steps, other numbers.
BEHIND = [
    ("**Answer: 18**\n\nLet me know if you want me to explain step 2 again!", "en", 18),
    ("**Answer: 18**\n\nIf you have 3 more questions, just ask.", "en", 18),
    ("The final answer is **18**.\n\nWould you like me to show 2 other ways to solve it?", "en", 18),
    ("**Final Answer:** $18\n\nI can also check steps 1 and 2 for you.", "en", 18),
    ("### Answer: 18 dollars\n\n*Step 3 can be done in another way.*", "en", 18),
    (
        "So she makes 9 * 2 = 18 dollars.\n\n**Answer: 18 dollars per day**\n\nFeel free to ask about steps 1-3.",
        "en",
        18,
    ),
    ("**Antwort: 18**\n\nSag Bescheid, wenn ich Schritt 2 noch einmal erklären soll!", "de", 18),
    ("**Respuesta: 18**\n\n¿Quieres que te explique otra vez el paso 2?", "es", 18),
    ("**Réponse : 18**\n\nDites-moi si vous voulez que j'explique encore l'étape 2.", "fr", 18),
    ("**Ответ: 18**\n\nМогу ещё раз объяснить шаг 2, если хотите.", "ru", 18),
    ("**Jibu: 18**\n\nNiambie kama unataka nieleze hatua ya 2 tena.", "sw", 18),
    ("**答案：18**\n\n如果需要，我可以再解释第 2 步。", "zh", 18),
    ("**答え：18**\n\nステップ2をもう一度説明しましょうか。", "ja", 18),
    ("**정답: 18**\n\n2단계를 다시 설명해 드릴까요?", "ko", 18),
    ("**উত্তর: ১৮**\n\nধাপ ২ আবার বুঝিয়ে দিতে পারি।", "bn", 18),
    ("**คำตอบ: 18**\n\nถ้าต้องการ ฉันอธิบายขั้นตอนที่ 2 อีกครั้งได้", "th", 18),
    ("**الجواب: ١٨**\n\nهل تريد أن أشرح الخطوة ٢ مرة أخرى؟", "ar", 18),
    ("**उत्तर: 18**\n\nक्या मैं चरण 2 फिर से समझाऊँ?", "hi", 18),
    ("**సమాధానం: 18**\n\nదశ 2 మళ్లీ వివరించాలా?", "te", 18),
    ("Jawaban: 18\n\nBeri tahu saya jika langkah 2 perlu dijelaskan lagi.", "id", 18),
    ("Cevap: 18\n\n2. adımı yeniden anlatmamı ister misin?", "tr", 18),
    ("\\boxed{18}\n\nLet me know if step 2 is unclear.", "en", 18),
    ("The answer is 18.\n\n(It took 3 steps and 2 multiplications.)", "en", 18),
    ("#### 18\n\nTotal tokens used: 250", "en", 18),
    ("Answer: 18.\nConfidence: 95%", "en", 18),
    ("Answer: 18\nExplanation: 16 - 3 - 4 = 9 eggs, 9 * 2 is what she makes.", "en", 18),
]
RUN_ON = [
    (
        "The answer is 18.\n\nQuestion: Tom has 5 apples and eats 2. How many are left?\nThe answer is 3.",
        "en",
        18,
    ),
    (
        "She makes 18 dollars.\n\nQuestion: Tom has 5 apples and eats 2.\nStep-by-Step Answer: 5 - 2 = 3",
        "en",
        18,
    ),
    ("18\n\nQ: Tom has 5 apples.\nA: 5", "en", 18),
    ("18\n\nProblem 2: Tom has 5 apples.\nSolution: 5", "en", 18),
    ("18\n\n**Question 2:** Tom has 5 apples.\n**Answer:** 5", "en", 18),
    ("18\nUser: Tom has 5 apples. How many?\nAssistant: 5", "en", 18),
    ("The answer is 18.\n\n### Question\nTom has 5 apples.\n### Answer\n5", "en", 18),
    (
        "Die Antwort ist 18.\n\nFrage: Tom hat 5 Äpfel und isst 2.\nSchritt-für-Schritt-Antwort: Die Antwort ist 3.",
        "de",
        18,
    ),
    (
        "La respuesta es 18.\n\nPregunta: Tom tiene 5 manzanas y come 2.\nRespuesta paso a paso: La respuesta es 3.",
        "es",
        18,
    ),
    (
        "La réponse est 18.\n\nQuestion : Tom a 5 pommes et en mange 2.\nRéponse étape par étape : La réponse est 3.",
        "fr",
        18,
    ),
    ("Ответ — 18.\n\nЗадача: У Тома 5 яблок, он съел 2.\nПошаговое решение: Ответ — 3.", "ru", 18),
    ("Jibu ni 18.\n\nSwali: Tom ana matofaa 5 na anakula 2.\nJibu la Hatua kwa Hatua: Jibu ni 3.", "sw", 18),
    ("答案是 18。\n\n问题：汤姆有 5 个苹果，吃了 2 个。\n逐步解答：答案是 3。", "zh", 18),
    (
        "答えは18です。\n\n問題：トムはりんごを5個持っていて、2個食べました。\nステップごとの答え：答えは3です。",
        "ja",
        18,
    ),
    ("উত্তর হল 18।\n\nপ্রশ্ন: টমের 5টি আপেল আছে, সে 2টি খায়।\nধাপে ধাপে উত্তর: উত্তর হল 3।", "bn", 18),
    ("คำตอบคือ 18\n\nโจทย์: ทอมมีแอปเปิล 5 ลูก กินไป 2 ลูก\nคำตอบทีละขั้นตอน: คำตอบคือ 3", "th", 18),
    ("సమాధానం 18.\n\nప్రశ్న: టామ్ వద్ద 5 ఆపిల్స్ ఉన్నాయి.\nదశలవారీగా సమాధానం: సమాధానం 5.", "te", 18),
    ("정답은 18입니다.\n\n문제: 톰은 사과 5개가 있습니다.\n정답은 5입니다.", "ko", 18),
    ("الجواب هو 18.\n\nالسؤال: لدى توم 5 تفاحات.\nالجواب هو 5.", "ar", 18),
]
WRAPPED = [
    ('{"answer": 18, "confidence": 0.95}', "en", 18),
    ('{"confidence": 0.95, "answer": 18, "steps": 3}', "en", 18),
    ('{"final_answer": "18", "confidence": "95%"}', "en", 18),
    ('```json\n{\n  "answer": 18,\n  "unit": "dollars",\n  "steps": 3\n}\n```', "en", 18),
    ('{"reasoning": "16 - 3 - 4 = 9, 9 * 2 = 18", "answer": "$18", "score": 1}', "en", 18),
    ('{"Answer": 1234.5, "n": 2}', "de", "1234.5"),
    ("{'answer': 18, 'confidence': 0.9}", "en", 18),
    ('{"result": {"value": 18}, "steps": 4}', "en", 18),
    ('{"respuesta": 18, "confianza": 0.95}', "es", 18),
    ('{"答案": 18, "置信度": 0.95}', "zh", 18),
    ('{"答え": "18ドル", "確信度": 0.9}', "ja", 18),
    ('{"উত্তর": "১৮", "ধাপ": ৩}', "bn", 18),
    ('{"jibu": 18, "uhakika": 0.95}', "sw", 18),
    ('{"ответ": 18, "уверенность": 0.95}', "ru", 18),
    ('{"antwort": "1.234", "schritte": 3}', "de", 1234),
    ('{"réponse": 18, "confiance": 0.95}', "fr", 18),
    ('{"คำตอบ": 18, "ความมั่นใจ": 0.95}', "th", 18),
    ('{"ans": 18, "conf": 0.5}', "en", 18),
    ("answer: 18\nconfidence: 0.95", "en", 18),
    ("<answer>18</answer>\n<confidence>0.95</confidence>", "en", 18),
    ("| step | value |\n|---|---|\n| answer | 18 |", "en", 18),
]
POWERS = [
    ("5 × 10^3", "en", 5000), ("5×10^3", "de", 5000), ("5*10^3", "en", 5000), ("5 · 10^3", "de", 5000),
    ("5 x 10^3", "en", 5000), ("5 X 10^3", "en", 5000), ("5 \\cdot 10^{3}", "en", 5000), ("5 \\times 10^3", "fr", 5000),
    ("1,5 × 10^3", "de", 1500), ("1.5 × 10³", "en", 1500), ("2,5·10⁶", "ru", 2_500_000), ("3 * 10**4", "en", 30_000),
    ("答案是 5 × 10^3。", "zh", 5000), ("答えは 5×10³ です。", "ja", 5000), ("উত্তর হল ৫ × ১০^৩", "bn", 5000),
    ("الجواب هو ٥ × ١٠^٣", "ar", 5000), ("5e3", "en", 5000), ("5E3", "de", 5000), ("1.2e+4", "en", 12_000),
    ("The answer is -5e3.", "en", -5000), ("the answer is 5e-1", "en", "0.5"), ("7e0", "en", 7),
    ("La respuesta es 2 × 10^5 litros.", "es", 200_000), ("10^6", "en", 10**6), ("10⁵", "en", 10**5),
    ("-2 × 10^3", "en", -2000), ("\\boxed{5 \\times 10^{3}}", "en", 5000), ("5 × 10 ^ 3", "en", 5000),
    ("5 × 10^(3)", "en", 5000), ("6.02×10^2 atoms", "en", 602),
]  # fmt: skip
CURRENCIES = [
    ("Rp70.000", "id", 70_000), ("Rp 70.000,50", "id", "70000.5"), ("Rp70,000", "en", 70_000), ("Rs.500", "en", 500),
    ("Rs500", "hi", 500), ("₹1,00,000", "hi", 100_000), ("INR500", "en", 500), ("KSh500", "sw", 500),
    ("Ksh.1,500", "sw", 1500), ("TSh2000", "sw", 2000), ("Sh500", "sw", 500), ("US$18", "en", 18), ("USD18", "en", 18),
    ("A$18", "en", 18), ("R$18,50", "pt", "18.5"), ("S/18", "es", 18), ("NT$500", "zh", 500), ("HK$18", "en", 18),
    ("€18", "de", 18), ("18€", "de", 18), ("18,50€", "de", "18.5"), ("EUR18", "de", 18), ("£18", "en", 18),
    ("¥1,800", "ja", 1800), ("1,800円", "ja", 1800), ("18元", "zh", 18), ("RMB18", "zh", 18), ("CNY18", "zh", 18),
    ("₩18,000", "ko", 18_000), ("18,000원", "ko", 18_000), ("৳১৮", "bn", 18), ("Tk18", "bn", 18), ("18টাকা", "bn", 18),
    ("฿18", "th", 18), ("18บาท", "th", 18), ("18руб.", "ru", 18), ("18₽", "ru", 18), ("zł18", "pl", 18), ("18zł", "pl", 18),
    ("kr18", "sv", 18), ("CHF18", "de", 18), ("₺18", "tr", 18), ("18TL", "tr", 18), ("₫70.000", "vi", 70_000),
    ("70.000đ", "vi", 70_000), ("₦18", "en", 18), ("₱18", "tl", 18), ("RM18", "ms", 18), ("$18USD", "en", 18),
    ("18$", "fr", 18), ("AED18", "en", 18), ("SAR18", "en", 18), ("١٨ر.س", "ar", 18), ("18kr", "da", 18), ("C$18", "en", 18),
    ("₪18", "en", 18), ("₴18", "uk", 18), ("₸18", "kk", 18), ("₲18", "es", 18), ("¢50", "en", 50), ("50¢", "en", 50),
    ("GH₵18", "en", 18), ("ZAR18", "en", 18), ("Kč18", "cs", 18), ("18Kč", "cs", 18), ("лв18", "bg", 18),
    ("Ft18", "hu", 18), ("ETB18", "en", 18), ("UGX5000", "en", 5000), ("Rp.70.000,-", "id", 70_000), ("Rp70rb", "id", 70_000),
]  # fmt: skip


@pytest.mark.parametrize(("text", "language", "value"), [*BEHIND, *RUN_ON, *WRAPPED, *POWERS, *CURRENCIES])
def test_number_of_real_answers(text: str, language: str, value: int | str) -> None:
    found = read_number(text, language)
    assert found is not None
    assert same_number(found, value), found


@pytest.mark.parametrize(
    "text",
    ["H2O", "x2 + y", "COVID-19", "the A4 page", "MP3", "B12 vitamins", "Rp", "R2D2", "page_3", "v2e3"],
)
def test_digits_in_names_are_no_answer(text: str) -> None:
    assert read_number(text, "en") in (None, 19)
