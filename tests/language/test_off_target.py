"""The metric: what counts as evidence, how it is judged, and that nothing breaks it."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lens_eval.base.errors import UserError
from lens_eval.language.calibrate import built_in_sample
from lens_eval.language.off_target import OUTCOMES, Judge, get_judge, judge_texts, verdict_metrics
from lens_eval.language.reasoning import read_reasoning
from lens_eval.language.set_aside import is_code, read_prompt, readable, set_aside

ENGLISH = "The farmers are waiting for the rain to come."
SWAHILI = "Wakulima wanasubiri mvua inyeshe, kwa sababu mashamba yamekauka."
CHINESE = "农民们正在等待下雨，因为田里太干了。"


@pytest.fixture(scope="module")
def judge() -> Judge:
    return get_judge()


def outcome(text: str | None, language: str, prompt: str | None = None) -> tuple[str, str]:
    verdict = get_judge().judge(text, language, prompt)
    return verdict.outcome, verdict.answered_in


def test_gold_sentences_are_on_target_and_english_ones_central(judge: Judge) -> None:
    sample = built_in_sample()
    for language, sentences in sample.items():
        right = [judge.judge(text, language).outcome for text in sentences]
        assert set(right) <= {"on_target", "undetermined"}
        assert right.count("undetermined") <= 2
        if language != "en":
            assert {judge.judge(text, language).outcome for text in sample["en"]} <= {
                "central",
                "undetermined",
            }


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        (SWAHILI, "sw", ("on_target", "sw")),
        (ENGLISH, "sw", ("central", "en")),
        (ENGLISH, "en", ("on_target", "en")),
        ("Los campesinos están esperando que llueva pronto.", "sw", ("other", "es")),
        (CHINESE, "ja", ("other", "zh")),
        ("農民們正在等待下雨，因為田裡太乾了。", "zh", ("on_target", "zh")),
        ("農民們正在等待下雨，因為田裡太乾了。", "zh-cn", ("on_target", "zh")),
        # a script that no candidate has: its language, else its script
        ("החקלאים מחכים לגשם", "sw", ("other", "he")),
        ("किसान बारिश का इंतज़ार कर रहे हैं", "sw", ("other", "hi")),
    ],
)
def test_whole_sentences(text: str, language: str, expected: tuple[str, str]) -> None:
    assert outcome(text, language) == expected


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        ("Mji mkuu wa Kenya ni Nairobi.", "Mji mkuu wa Kenya ni upi?"),
        ("Sawa. Saba kuongeza tano ni kumi na mbili.", None),
        ("Ndiyo. Jua huchomoza upande wa mashariki.", None),
    ],
)
def test_short_swahili_replies_are_decided(text: str, prompt: str | None) -> None:
    assert outcome(text, "sw", prompt) == ("on_target", "sw")


@pytest.mark.parametrize(
    "text",
    ["OK. Seven plus five is twelve.", "Sure. The sun rises in the east.", "The answer to this is twelve."],
)
def test_short_english_replies_are_central(text: str) -> None:
    judge = get_judge("en", ("en", "zh", "sw", "ar"))
    assert judge.judge(text, "sw").outcome == "central"
    assert judge.judge(text, "en").outcome == "on_target"


@pytest.mark.parametrize(
    "text", ["B", "(C)", "12", "18 - 3 = 15", "D.", "x = 4", "10 km", "Kenya", "A. B. C.", "Na"]
)
def test_too_little_to_tell_is_undetermined(text: str) -> None:
    verdict = get_judge().judge(text, "sw")
    assert (verdict.outcome, verdict.empty) == ("undetermined", False)


@pytest.mark.parametrize(
    "text", ["", "   \n\t ", None, "\u200b\u200f\ufeff", "\x00\x07", "<think>Ninafikiri kuhusu hili</think>"]
)
def test_empty_responses_are_undetermined_and_counted(text: str | None) -> None:
    verdict = get_judge().judge(text, "sw")
    metrics = verdict_metrics(verdict)
    assert (verdict.empty, verdict.answered_in) == (True, "empty")
    assert (metrics["undetermined"], metrics["empty"], metrics["off_target"]) == (1.0, 1.0, 0.0)


def test_a_worked_answer_is_judged_by_its_words_not_its_numbers() -> None:
    swahili = "Janet ana mayai 16 kwa siku.\n16 - 3 - 4 = 9\nAnapata 9 * $2 = $18 kwa siku sokoni.\n#### 18"
    english = "Janet sells 16 - 3 - 4 = 9 duck eggs a day.\nShe makes 9 * $2 = $18 every day.\n#### 18"
    prompt = "Bata wa Janet hutaga mayai 16 kwa siku. Yeye hula matatu na kuoka keki kwa manne."
    assert outcome(swahili, "sw", prompt) == ("on_target", "sw")
    assert outcome(english, "sw", prompt) == ("central", "en")
    lines = get_judge().judge(swahili, "sw", prompt).lines
    assert [line.outcome for line in lines][1] == "set_aside"
    assert lines[3].outcome == "set_aside"


@pytest.mark.parametrize(
    ("aside", "kept"),
    [
        ("```python\nprint('this is an English comment in code')\n```", SWAHILI),
        ("~~~\nsome more English words in a block of code\n~~~", SWAHILI),
        ("`return the number of words in this list`", SWAHILI),
        ("def count(words):\n    total = len(words)\n    return total", SWAHILI),
        (r"$$\text{the area of the circle} = \pi r^2$$", SWAHILI),
        (r"\begin{align}x &= \text{number of apples in the box}\end{align}", SWAHILI),
        ("https://example.org/the/longest/path/of/english/words?in=this#example", SWAHILI),
        ("the.longest.english.address@example.org", SWAHILI),
        ('<div class="the english class of this element"></div>', SWAHILI),
        ("12 345.67 + 89 = 12 434.67", SWAHILI),
        ("😀🎉👍🏽 🇰🇪", SWAHILI),
        ("| --- | :---: |", SWAHILI),
    ],
)
def test_what_is_set_aside_is_no_evidence(aside: str, kept: str) -> None:
    assert outcome(aside, "sw")[0] == "undetermined"
    assert outcome(f"{kept}\n{aside}\n{kept}", "sw") == ("on_target", "sw")
    assert outcome(f"{aside}\n{ENGLISH}", "sw") == (
        "central",
        "en",
    )  # the control: what is not set aside counts


def test_prices_are_no_formula() -> None:
    assert outcome("It costs $5 for the first one and the other costs $7 in the shop", "sw")[0] == "central"


def test_quotations_of_the_prompt_are_set_aside_others_not() -> None:
    prompt = "Tafsiri sentensi hii: The farmers are waiting for the rain to come."
    reply = f'"{ENGLISH}" kwa Kiswahili ni: {SWAHILI}'
    assert outcome(reply, "sw", prompt) == ("on_target", "sw")
    assert outcome(f'"{ENGLISH}"', "sw", "Habari za leo?")[0] == "central"


def test_names_of_the_prompt_do_not_decide() -> None:
    prompt = "什么是 Massachusetts Institute of Technology and Harvard University？"
    reply = "Massachusetts Institute of Technology"
    assert outcome(reply, "zh", prompt)[0] == "undetermined"
    assert outcome("Rodríguez Zapatero José", "en", "Who is José Rodríguez Zapatero?")[0] == "undetermined"
    assert read_prompt("Bata wa Janet hutaga mayai.").names == {"janet"}


def test_thinking_is_judged_apart() -> None:
    verdict = get_judge().judge(f"<think>{ENGLISH}\nLet me think about it.</think>\n{SWAHILI}", "sw")
    assert (verdict.outcome, verdict.thinking) == ("on_target", "central")
    opened_in_the_prompt = get_judge().judge(f"{ENGLISH}</think>{SWAHILI}", "sw")
    assert (opened_in_the_prompt.outcome, opened_in_the_prompt.thinking) == ("on_target", "central")
    cut_off = get_judge().judge(f"<think>{ENGLISH}", "sw")
    assert (cut_off.empty, cut_off.thinking) == (True, "central")
    assert get_judge().judge(SWAHILI, "sw").thinking is None
    parts = read_reasoning("a<think>b</think>c<THINK>d</THINK>e")
    assert (parts.answer, parts.thinking) == ("a\nc\ne", "b\nd")


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("这个 API 使用 machine learning 模型来预测 tokens 的数量。", "zh"),
        ("この API は machine learning のモデルを使います。", "ja"),
        ("이 API는 machine learning 모델을 사용합니다.", "ko"),
        ("يستخدم هذا البرنامج machine learning للتنبؤ بعدد الكلمات.", "ar"),
        ("Tunatumia machine learning na deep learning kutabiri idadi ya maneno katika sentensi.", "sw"),
        ("哈利·波特（Harry Potter and the Philosopher's Stone）是一本小说。", "zh"),
    ],
)
def test_borrowed_english_terms_are_tolerated(text: str, language: str) -> None:
    assert outcome(text, language)[0] == "on_target"


@pytest.mark.parametrize(
    ("native", "language"),
    [
        (CHINESE, "zh"),
        ("農家の人たちは雨が降るのを待っています。", "ja"),
        (SWAHILI, "sw"),
        ("ينتظر المزارعون هطول المطر.", "ar"),
    ],
)
def test_a_sentence_of_english_in_the_same_line_is_not(native: str, language: str) -> None:
    english = "Please let me know if there is anything else that you would like to know."
    verdict = get_judge().judge(f"{native} {english}", language)
    assert (verdict.outcome, verdict.answered_in) == ("central", "en")
    assert 0.2 < verdict.characters["on_target"] < 0.8
    inside = f"{native[:-1]} {english[:-1]} {native}"
    if language != "sw":  # inside one sentence of one script, the sentence is judged as a whole
        assert get_judge().judge(inside, language).outcome == "central"


def test_one_line_off_makes_the_response_off_and_the_levels_differ() -> None:
    verdict = get_judge().judge(f"{SWAHILI}\n{SWAHILI}\n{ENGLISH}\n12", "sw")
    assert verdict.outcome == "central"
    assert [line.outcome for line in verdict.lines] == ["on_target", "on_target", "central", "set_aside"]
    assert verdict.characters["on_target"] == pytest.approx(2 * 57 / (2 * 57 + 36), abs=0.03)


def test_a_list_of_short_native_lines_is_judged_together() -> None:
    words = "mkate\nmaziwa\nmatunda\nmboga za majani\nsamaki wabichi\nnyama ya kuku\nmaji safi"
    assert outcome(words, "sw") == ("on_target", "sw")
    assert (
        outcome("bread\nmilk\nsome fruit\ngreen vegetables\nfresh fish\nchicken meat\nclean water", "sw")[0]
        == "central"
    )


def test_chinese_scripts_are_split_only_on_request() -> None:
    traditional = "農民們正在等待下雨，因為田裡太乾了。"
    split = Judge(split_chinese=True)
    assert split.judge(traditional, "zh-Hans").answered_in == "zh-Hant"
    assert split.judge(traditional, "zh-Hans").outcome == "other"
    assert split.judge(traditional, "zho_Hant").outcome == "on_target"
    assert split.judge(traditional, "zh").outcome == "on_target"
    assert split.judge(CHINESE, "zh-Hant").outcome == "other"


def test_another_central_language() -> None:
    judge = Judge(central="fr")
    assert judge.judge("Les paysans attendent que la pluie arrive.", "sw").outcome == "central"
    assert judge.judge(ENGLISH, "sw").outcome == "other"


HARD = {
    "right-to-left marks": ("\u200fينتظر \u202bالمزارعون\u202c هطول المطر.\u200f", "ar", "on_target"),
    "control characters": (f"{SWAHILI[:20]}\x00\x1b[31m{SWAHILI[20:]}\x07", "sw", "on_target"),
    "zero-width joiners": ("কৃষকেরা\u200d বৃষ্টির\u200c অপেক্ষায় আছেন।", "bn", "on_target"),
    "zero-width spaces inside words": ("\u200b".join(ENGLISH), "sw", "central"),
    "mathematical letters": ("𝐓𝐡𝐞 𝐟𝐚𝐫𝐦𝐞𝐫𝐬 𝐚𝐫𝐞 𝐰𝐚𝐢𝐭𝐢𝐧𝐠 𝐟𝐨𝐫 𝐭𝐡𝐞 𝐫𝐚𝐢𝐧", "fr", "central"),
    "full-width letters": (
        "Ｔｈｅ ｆａｒｍｅｒｓ ａｒｅ ｗａｉｔｉｎｇ ｆｏｒ ｔｈｅ ｒａｉｎ",
        "fr",
        "central",
    ),
    "emoji only": ("😀😀🎉 👨‍👩‍👧‍👦 ❤️", "ja", "undetermined"),
    "a table": (
        "| jina | mji |\n|---|---|\n| Wakulima wanasubiri mvua | mashamba yamekauka sana |",
        "sw",
        "on_target",
    ),
    "an English table": (
        "| name | town |\n|---|---|\n| the farmers are waiting | the fields are very dry |",
        "sw",
        "central",
    ),
    "all capitals": (ENGLISH.upper(), "sw", "central"),
    "lone surrogates": (f"{SWAHILI} \ud800\udfff\udc00", "sw", "on_target"),
    "replacement characters": ("农民们正在\ufffd\ufffd等待下雨，因为田里太干了。", "zh", "on_target"),
    "decomposed letters": (
        "Les e\u0301le\u0300ves attendent que la pluie arrive a\u0300 l'e\u0301cole.",
        "fr",
        "on_target",
    ),
    "Windows line ends": (f"{SWAHILI}\r\n{SWAHILI}\r\n", "sw", "on_target"),
    "one letter a thousand times": ("a" * 1000, "zh", "undetermined"),
    "Devanagari danda": ("কৃষকেরা বৃষ্টির অপেক্ষায় আছেন। মাঠ শুকিয়ে গেছে।", "bn", "on_target"),
}


@pytest.mark.parametrize("case", HARD)
def test_hard_input_lands_where_a_person_would_put_it(case: str) -> None:
    text, language, expected = HARD[case]
    if case == "one letter a thousand times":
        # No language; what matters is that it passes and is not on target.
        assert outcome(text, language)[0] != "on_target"
        return
    assert outcome(text, language)[0] == expected


@pytest.mark.parametrize(
    "unit",
    [
        f"{ENGLISH} ",
        "字",
        "<",
        "$",
        "`",
        "\\(",
        "[",
        '"',
        "a" * 50 + "@",
        "<a ",
        "(((",
        "1. ",
        "```\n",
        "<think>",
        "&",
        "x=",
    ],
)
def test_ten_megabytes_are_judged(unit: str) -> None:
    """Steps that are not linear in the length would not end here."""
    size = 10_000_000 if unit in (f"{ENGLISH} ", "字") else 1_000_000
    text = unit * (size // len(unit))
    verdict = get_judge().judge(text, "sw", "Je, mvua itanyesha lini?")
    assert verdict.outcome in OUTCOMES
    if unit.startswith("The"):
        assert verdict.outcome == "central"


PIECES = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        [
            ENGLISH,
            SWAHILI,
            CHINESE,
            "```",
            "<think>",
            "</think>",
            "$x$",
            "\n",
            "1. ",
            "`",
            "| a |",
            "\u200f",
            "\\[",
            '"',
        ]
    ),
    st.text(alphabet="aeimnsu .\n`$\\<>[](){}|\"'0123456789", max_size=60),
)
CODES = st.sampled_from(
    ["en", "zh", "ja", "ko", "ar", "bn", "sw", "es", "fr", "de", "ru", "th", "zho_Hant", "swh"]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(PIECES, max_size=6).map("".join), CODES, st.none() | PIECES)
def test_any_text_gets_one_outcome_and_shares_that_sum_to_one(
    text: str, language: str, prompt: str | None
) -> None:
    verdict = get_judge().judge(text, language, prompt)
    metrics = verdict_metrics(verdict)
    assert sum(float(metrics[name]) for name in OUTCOMES) == 1.0
    assert metrics["off_target"] == float(metrics["central"]) + float(metrics["other"])
    assert sum(verdict.characters.values()) == pytest.approx(1.0)
    assert verdict.empty <= (verdict.outcome == "undetermined")
    assert verdict == get_judge().judge(text, language, prompt)
    on_target = [line.outcome for line in verdict.lines if line.outcome not in ("undetermined", "set_aside")]
    if on_target:
        assert (verdict.outcome == "on_target") == (set(on_target) == {"on_target"})
    if verdict.outcome == "on_target":
        assert verdict.answered_in == verdict.language
    if verdict.language == "en":
        assert verdict.outcome != "central"


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=200))
def test_cleaning_never_fails_and_adds_no_letters(text: str) -> None:
    clean = set_aside(readable(text))
    if "&" not in readable(text):
        assert len(clean) <= len(readable(text)) + text.count("\n") + 3 * text.count("](") + 1
    assert readable(readable(text)) == readable(text)


def test_the_verdict_of_a_text_does_not_depend_on_its_neighbours() -> None:
    rows = [(text, code) for code, texts in built_in_sample().items() for text in texts[:6]]
    rows += [(text, "sw") for text in built_in_sample()["en"]]
    expected = {row: judge_texts([row[0]], row[1])[0] for row in rows}
    random.Random(3).shuffle(rows)
    verdicts = judge_texts([text for text, _ in rows], [code for _, code in rows])
    assert [dataclasses.astuple(v) for v in verdicts] == [dataclasses.astuple(expected[row]) for row in rows]
    candidates = ["th", "en", "sw", "de", "zh"]
    assert Judge(candidates=candidates).candidates == Judge(candidates=reversed(candidates)).candidates


def test_the_library_function_names_mistakes() -> None:
    with pytest.raises(UserError, match="2 texts need as many languages"):
        judge_texts(["a", "b"], ["sw"])
    with pytest.raises(UserError, match="unknown language code 'xx'"):
        judge_texts(["a"], "xx")
    assert [v.outcome for v in judge_texts([ENGLISH, SWAHILI], "swh")] == ["central", "on_target"]


def test_code_is_told_from_prose() -> None:
    assert is_code("  total += 1;")
    assert is_code("for i in range(10):")
    assert not is_code("for a long time we waited: nothing came")
    assert not is_code("Jumla ya mayai = 16")


def test_real_parallel_text_is_on_target(shared: Path, judge: Judge) -> None:
    """A slice of NTREX in each language; the whole is measured in docs/metrics.md."""
    for code in ("en", "zh", "ja", "ko", "ar", "bn", "sw", "es", "fr", "de", "ru", "th"):
        lines = (
            (shared / "data" / "ntrex_parallel" / f"{code}.jsonl").read_text(encoding="utf-8").splitlines()
        )
        outcomes = [judge.judge(json.loads(line)["text"], code).outcome for line in lines[:150]]
        assert outcomes.count("central") + outcomes.count("other") <= 1
        assert outcomes.count("undetermined") <= 5
