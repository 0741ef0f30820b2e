"""Language codes of every system, and the table behind them."""

from __future__ import annotations

import pytest

from lens_eval.base.errors import UserError
from lens_eval.language.languages import (
    DEFAULT_LANGUAGES,
    LANGUAGES,
    chinese_script,
    find_code,
    get_language,
    normalise_code,
)

# XNLI, MGSM, XCOPA, XWinograd, XStoryCloze, m_mmlu, KMMLU.
TASK_LANGUAGES = [
    "ar",
    "bg",
    "de",
    "el",
    "en",
    "es",
    "fr",
    "hi",
    "ru",
    "sw",
    "th",
    "tr",
    "ur",
    "vi",
    "zh",
    "bn",
    "ja",
    "te",
    "et",
    "ht",
    "id",
    "it",
    "qu",
    "ta",
    "pt",
    "eu",
    "my",
    "ca",
    "da",
    "gu",
    "hr",
    "hu",
    "hy",
    "is",
    "kn",
    "ml",
    "mr",
    "nb",
    "ne",
    "nl",
    "ro",
    "sk",
    "sr",
    "sv",
    "uk",
    "ko",
]


@pytest.mark.parametrize(
    ("spelling", "code"),
    [
        ("zh-cn", "zh"),
        ("zho_Hans", "zh"),
        ("cmn", "zh"),
        ("ZH", "zh"),
        ("jp", "ja"),
        ("swh", "sw"),
        ("swa_Latn", "sw"),
        ("EN", "en"),
        ("en_US", "en"),
        ("arb_Arab", "ar"),
        ("pt-BR", "pt"),
        ("__label__deu_Latn", "de"),
        ("no", "nb"),
        ("fil", "tl"),
        ("iw", "he"),
        (" Swahili ", "sw"),
        ("Chinese (simplified)", "zh"),
        ("日本語", "ja"),
    ],
)
def test_every_common_spelling_is_understood(spelling: str, code: str) -> None:
    assert normalise_code(spelling) == code


@pytest.mark.parametrize("code", ["", "xx", "klingon", "e n", "-", "zzz_Latn"])
def test_unknown_codes_are_refused_with_the_known_ones(code: str) -> None:
    with pytest.raises(UserError, match="known: af, am, ar"):
        normalise_code(code)
    assert find_code(code) is None


def test_a_near_miss_gets_a_suggestion() -> None:
    with pytest.raises(UserError, match="did you mean swahili"):
        normalise_code("swahilli")


def test_all_task_languages_are_there_and_complete() -> None:
    assert set(TASK_LANGUAGES) <= set(LANGUAGES)
    assert set(DEFAULT_LANGUAGES) <= set(LANGUAGES)
    for language in LANGUAGES.values():
        assert language.direction in ("ltr", "rtl")
        assert [int(digit) for digit in language.digits] == list(range(10))
        assert normalise_code(language.name) == language.code


def test_no_spelling_names_two_languages() -> None:
    spellings = [s for lang in LANGUAGES.values() for s in {lang.code, lang.name.casefold(), *lang.aliases}]
    assert len(spellings) == len(set(spellings))


def test_all_of_linguas_languages_are_known() -> None:
    lingua = pytest.importorskip("lingua")
    assert {lang.iso_code_639_1.name.lower() for lang in lingua.Language.all()} <= set(LANGUAGES)


def test_right_to_left_and_native_digits() -> None:
    assert get_language("arb").direction == "rtl"
    assert get_language("ar").digits[7] == "٧"
    assert get_language("ben").digits[3] == "৩"
    assert get_language("sw").digits == "0123456789"


@pytest.mark.parametrize(
    ("code", "script"),
    [
        ("zh", None),
        ("zh-Hant", "Hant"),
        ("zho_Hans", "Hans"),
        ("zh-TW", "Hant"),
        ("zh_cn", "Hans"),
        ("cn", None),
    ],
)
def test_chinese_scripts_are_told_by_their_codes(code: str, script: str | None) -> None:
    assert chinese_script(code) == script
