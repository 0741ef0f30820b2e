"""Every bullet of what is set aside and what counts, in each of the twelve languages; hand-made cases."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lens_eval.language.off_target import get_judge

NATIVE = {
    "en": "The children are playing in the garden behind the old school.",
    "zh": "孩子们正在老学校后面的花园里玩耍。",
    "ja": "子どもたちは古い学校の裏の庭で遊んでいます。",
    "ko": "아이들이 오래된 학교 뒤 정원에서 놀고 있습니다.",
    "ar": "يلعب الأطفال في الحديقة خلف المدرسة القديمة.",
    "bn": "শিশুরা পুরোনো স্কুলের পেছনের বাগানে খেলছে।",
    "sw": "Watoto wanacheza kwenye bustani nyuma ya shule ya zamani.",
    "es": "Los niños juegan en el jardín detrás de la vieja escuela.",
    "fr": "Les enfants jouent dans le jardin derrière la vieille école.",
    "de": "Die Kinder spielen im Garten hinter der alten Schule.",
    "ru": "Дети играют в саду за старой школой.",
    "th": "เด็กๆ กำลังเล่นอยู่ในสวนหลังโรงเรียนเก่า",
}
# A native sentence with a borrowed English term.
BORROWED = {
    "zh": "这个 App 用 machine learning 来推荐视频。",
    "ja": "このアプリは deep learning を使っています。",
    "ko": "이 앱은 machine learning 기술을 사용합니다.",
    "ar": "يستخدم هذا التطبيق تقنية machine learning لاقتراح المقاطع.",
    "bn": "এই অ্যাপটি machine learning ব্যবহার করে ভিডিও সাজায়।",
    "sw": "Programu hii hutumia machine learning kupendekeza video kwa watumiaji wake.",
    "es": "Esta aplicación usa machine learning para recomendar videos a los usuarios.",
    "fr": "Cette application utilise le machine learning pour recommander des vidéos.",
    "de": "Diese App nutzt Machine Learning, um den Nutzern passende Videos zu empfehlen.",
    "ru": "Это приложение использует machine learning, чтобы советовать видео.",
    "th": "แอปนี้ใช้ machine learning เพื่อแนะนำวิดีโอ",
}
ASIDE = {
    "code": "```python\nfor name in list_of_names:\n    print('this is the name of the child')\n```",
    "inline": "`return the first word of the list`",
    "latex": r"$$\text{the number of apples in the basket} = \frac{a}{b}$$",
    "url": "https://www.example.org/the/name/of/the/page?with=some&english=words",
    "numbers": "3.14159 + 2,718 = 5.86 (12%)",
    "markup": '<b></b><br/><div class="the old english class"></div>',
    "emoji": "🎉😀👍🏽",
}
ENGLISH = "I hope that this answer helps you to understand the question better."
MARKS = ("1. ", "- ", "* **", "a) ", "> ", "### ", "• ")
OTHERS = [code for code in NATIVE if code != "en"]


def outcome(text: str, language: str, prompt: str | None = None) -> str:
    return get_judge().judge(text, language, prompt).outcome


@pytest.mark.parametrize("language", NATIVE)
def test_what_is_set_aside_decides_nothing_before_and_after_native_text(language: str) -> None:
    native = NATIVE[language]
    for name, aside in ASIDE.items():
        assert outcome(aside, language) == "undetermined", name
        assert outcome(f"{native}\n{aside}", language) == "on_target", name
        assert outcome(f"{aside}\n{native}", language) == "on_target", name
    for mark in MARKS:
        assert outcome(mark + native, language) == "on_target", mark
    assert outcome(f"| {native} | {native} |\n|---|---|\n| {native} | 12 |", language) == "on_target"


@pytest.mark.parametrize("language", OTHERS)
def test_a_sentence_of_english_is_off_target_a_borrowed_term_is_not(language: str) -> None:
    native = NATIVE[language]
    assert outcome(BORROWED[language], language) == "on_target"
    named = f"{native} (Harvard University, Massachusetts Institute of Technology)"
    assert outcome(named, language) == "on_target"
    assert outcome(ENGLISH, language) == "central"
    assert outcome(f"{native}\n{ENGLISH}", language) == "central"
    assert outcome(f"{native} {ENGLISH}", language) == "central"


@pytest.mark.parametrize("language", OTHERS)
def test_quotations_of_the_prompt_and_thinking_are_no_answer(language: str) -> None:
    native = NATIVE[language]
    quoting = f'"{ENGLISH}" — {native}'
    assert outcome(quoting, language, f"Translate: {ENGLISH}") == "on_target"
    assert outcome(quoting, language) == "central"  # the control: a quotation of nothing
    verdict = get_judge().judge(f"<think>{ENGLISH}</think>\n{native}", language)
    assert (verdict.outcome, verdict.thinking) == ("on_target", "central")


@pytest.mark.parametrize("asked", NATIVE)
def test_every_language_is_named_whatever_was_asked(asked: str) -> None:
    for code, text in NATIVE.items():
        verdict = get_judge().judge(text, asked)
        assert verdict.answered_in == code
        assert verdict.outcome == ("on_target" if code == asked else "central" if code == "en" else "other")


NUMBERS = st.lists(st.integers(0, 10**6) | st.floats(0, 1e6), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(NATIVE)),
    st.sampled_from(sorted(NATIVE)),
    st.lists(
        st.sampled_from(sorted(ASIDE.values())) | NUMBERS.map(lambda n: " + ".join(map(str, n))), max_size=4
    ),
)
def test_appending_what_is_set_aside_changes_no_verdict(asked: str, code: str, more: list[str]) -> None:
    before = get_judge().judge(NATIVE[code], asked)
    after = get_judge().judge("\n".join([NATIVE[code], *more]), asked)
    assert (after.outcome, after.answered_in) == (before.outcome, before.answered_in)
    decided = ("on_target", "central", "other")
    assert [after.letters[k] for k in decided] == [before.letters[k] for k in decided]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(OTHERS), st.integers(1, 4), st.integers(0, 4))
def test_one_english_line_anywhere_makes_a_native_response_central(
    code: str, native: int, place: int
) -> None:
    lines = [NATIVE[code]] * native
    assert outcome("\n".join(lines), code) == "on_target"
    lines.insert(min(place, native), ENGLISH)
    assert outcome("\n".join(lines), code) == "central"
