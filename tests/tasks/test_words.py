"""The table of prompt words: complete for every family and language, and clear about what it lacks."""

from __future__ import annotations

import re
import unicodedata

import pytest

from lens_eval.base.errors import UserError
from lens_eval.language.languages import LANGUAGES
from lens_eval.language.scripts import UNSPACED, script_group
from lens_eval.tasks import words
from lens_eval.tasks.families import LANGUAGES as FAMILY_LANGUAGES
from lens_eval.tasks.words import FAMILY_WORDS, REVIEWS, WORDS, label, letters, list_letters, word


@pytest.mark.parametrize("family", sorted(FAMILY_WORDS))
def test_every_family_has_its_words_in_every_language(family: str) -> None:
    for language in FAMILY_LANGUAGES[family]:
        for key in FAMILY_WORDS[family]:
            assert word(language, key).strip() == word(language, key) != ""


def test_every_family_is_listed() -> None:
    assert set(FAMILY_WORDS) == set(FAMILY_LANGUAGES)
    assert set(WORDS) <= set(LANGUAGES)
    used = {key for keys in FAMILY_WORDS.values() for key in keys}
    for language, entries in WORDS.items():
        offered = [family for family, codes in FAMILY_LANGUAGES.items() if language in codes]
        needed = {key for family in offered for key in FAMILY_WORDS[family]}
        assert set(entries) <= used | {"only"}, language
        assert set(entries) >= needed, language


def test_placeholders() -> None:
    wanted = {"reply": ["letters"], "choose": ["letters"], "final": ["number"]}
    for language, entries in WORDS.items():
        for key, text in entries.items():
            assert re.findall(r"{(\w+)}", text) == wanted.get(key, []), (language, key)
            assert "  " not in text
            assert unicodedata.normalize("NFC", text) == text, (language, key)


def test_no_two_languages_share_a_sentence() -> None:
    """A sentence copied from another language is the likeliest slip; one-word labels may be equal."""
    seen: dict[str, str] = {}
    for language, entries in WORDS.items():
        for key, text in entries.items():
            if key != "final" and len(text.split()) > 3:
                assert text not in seen, (language, key, seen[text])
                seen[text] = f"{language}/{key}"


def test_a_missing_word_names_the_file_to_edit() -> None:
    with pytest.raises(UserError, match=r"WORDS\['ko'\]\['premise'\] in .*words\.yaml"):
        word("ko", "premise")
    with pytest.raises(UserError, match=r"no prompt words for language 'xx'.*words\.yaml"):
        word("xx", "answer")


def test_letters() -> None:
    assert letters("zh", 3) == ["A", "B", "C"]
    assert letters("ar", 4) == ["أ", "ب", "ج", "د"]
    assert letters("ar", 4, official=True) == ["أ", "ب", "ك", "د"]
    assert list_letters("zh", 2) == "A、B"
    assert list_letters("fr", 3) == "A, B, C"
    assert list_letters("ar", 3, printed=True) == "A، B، C"
    assert letters("ar", 10, printed=True) == list("ABCDEFGHIJ")
    assert len(set(words.ARABIC_LETTERS)) == 4


def test_labels_join_as_the_language_does() -> None:
    assert label("zh", "premise", "天") == "前提：天"
    assert label("fr", "premise", "x") == "Prémisse : x"


def test_sentences_run_on_where_words_do_but_for_burmese() -> None:
    unspaced = {code for code in WORDS if script_group(LANGUAGES[code].scripts[0]) in UNSPACED}
    assert unspaced - words.NO_SPACE == {"my"}
    assert unspaced >= words.NO_SPACE


def test_every_set_of_words_says_who_reviewed_it() -> None:
    assert set(REVIEWS) == set(WORDS)
    assert all(isinstance(name, str) and name.strip() for name in REVIEWS.values())


def test_at_least_45_languages_have_instruction_and_answer() -> None:
    complete = [code for code, entries in WORDS.items() if {"reply", "answer"} <= set(entries)]
    assert len(complete) >= 45
