"""Secrets and control characters are taken out wherever text leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lens_eval.base import files, redaction
from lens_eval.base.plain_tables import markdown_cell


@pytest.fixture(autouse=True)
def _own_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_noted", set())


def test_a_noted_secret_reaches_no_file(tmp_path: Path) -> None:
    assert "geheim-123" in redaction.hide("geheim-123")
    redaction.note_settings({"a": {"api_key": "geheim-123\r"}})
    files.write_json(tmp_path / "a.json", {"x": "key geheim-123!"})
    files.append_text(tmp_path / "b", "geheim-123")
    assert "geheim" not in (tmp_path / "a.json").read_text() + (tmp_path / "b").read_text()


@pytest.mark.parametrize(
    "text", ["hf_" + "a" * 30, "sk-" + "b" * 30, "https://me:word@host/x", "Authorization: Bearer abcdefgh12"]
)
def test_the_forms_of_secrets(text: str) -> None:
    assert redaction.MASK in redaction.hide(text)


@pytest.mark.parametrize("name", ["token", "api_key", "HF_TOKEN", "OPENAI_API_KEY", "password"])
def test_names_of_secrets(name: str) -> None:
    assert redaction.is_secret_name(name)
    assert redaction.without_secrets({"a": [{name: "word"}]}) == {"a": [{name: redaction.MASK}]}


def test_a_secret_is_found_in_every_form_it_is_written_in() -> None:
    redaction.note('gehe\rim"-1234567')
    for text in (
        'gehe\rim"-1234567',
        repr('gehe\rim"-1234567'),
        json.dumps('gehe\rim"-1234567'),
        'im"-1234567',
    ):
        assert "1234567" not in redaction.hide(f"x {text} y"), text


def test_secrets_in_lists_are_noted() -> None:
    redaction.note_settings({"tokens": ["geheim-123"], "list": [{"api_key": "geheim-456"}]})
    assert redaction.hide("geheim-123 geheim-456") == "*** ***"


@pytest.mark.parametrize("name", ["max_tokens", "think_end_token", "TOKENIZERS_PARALLELISM", "monkey"])
def test_names_of_no_secrets(name: str) -> None:
    assert not redaction.is_secret_name(name)
    assert redaction.without_secrets({name: "word"}) == {name: "word"}


def test_usual_words_are_no_secrets() -> None:
    redaction.note_settings({"OPENAI_API_KEY": "EMPTY", "token": "true", "key": "abc"})
    assert redaction.hide("EMPTY true abc") == "EMPTY true abc"


def test_nothing_printed_moves_the_cursor() -> None:
    assert redaction.visible("a\x1b[2J\x07\u202eb\x9b\rc\n") == "a\\u001b[2J\\u0007\\u202eb\\u009b\\rc\n"
    assert redaction.visible("日本語 हिन्दी ไทย עברית") == "日本語 हिन्दी ไทย עברית"


def test_markdown_shows_no_pictures_and_keeps_intervals() -> None:
    assert "![x](" not in markdown_cell("![x](http://a)")
    assert markdown_cell("a|b") == r"a\|b"
    assert markdown_cell("1.0 [0.5, 2.0]") == "1.0 [0.5, 2.0]"


@pytest.mark.parametrize("sign", ["\x07", "\x7f", "\x9b", "\xad", "\u202e", "\U000e0041", "\ud800"])
def test_a_document_stays_json_when_it_is_shown(sign: str) -> None:
    shown = redaction.visible(json.dumps({"name": f"a{sign}b"}, ensure_ascii=False))
    assert sign not in shown
    assert json.loads(shown) == {"name": f"a{sign}b"}
