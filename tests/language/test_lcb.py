"""The Language Confusion Benchmark's rules, by hand-made responses whose verdict they fix."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lens_eval.language import confusion_benchmark
from lens_eval.language.confusion_benchmark import (
    english_words,
    lcb_rates,
    make_lcb_scorer,
    mean_rates,
    normalise,
    tokenise,
)
from lens_eval.language.files.fields import Fields
from lens_eval.language.files.report import make_report, render
from lens_eval.language.files.response import Response
from lens_eval.language.files.score import Settings, score_files
from lens_eval.language.files.tally import Tally

GERMAN = "Die Bauern warten schon lange darauf, dass es endlich regnet."
ENGLISH = "The farmers are waiting for the rain to come."
ARABIC = "ينتظر المزارعون هطول المطر منذ وقت طويل"


def score(text: str | None, language: str, detector: str = "lingua") -> tuple[tuple[str, str], Tally]:
    tally = Tally()
    response = Response(text, language, None, None, None, "", 1)
    return make_lcb_scorer(detector, None)(response, tally), tally


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        (GERMAN, "de", ("pass", "de")),
        (ENGLISH, "de", ("line_error", "en")),
        (f"{GERMAN}\n{ENGLISH}", "de", ("line_error", "en")),
        # fewer than five tokens: no evidence
        (f"{GERMAN}\nSure, here it is", "de", ("pass", "de")),
        ("Sure, here it is", "de", ("skipped", "undetermined")),
        (None, "de", ("skipped", "undetermined")),
        # the response ends where a next question begins
        (f"{GERMAN}\nQ: {ENGLISH}", "de", ("pass", "de")),
        # an English word in a language of another script; German has no word check
        (f"{ARABIC} because", "ar", ("word_error", "ar")),
        (f"{ARABIC} Because", "ar", ("pass", "ar")),
        (f"{ARABIC} the", "ar", ("pass", "ar")),  # three letters
        (f"{GERMAN} because", "de", ("pass", "de")),
    ],
)
def test_rules(text: str | None, language: str, expected: tuple[str, str]) -> None:
    assert score(text, language)[0] == expected


def test_normalisation_and_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    assert normalise("  a, b — c! \nQ: d") == "a b   c"
    assert tokenise("one two  three", "de") == ["one", "two", "three"]
    monkeypatch.setattr(confusion_benchmark, "_tokeniser", lambda language: None)
    assert tokenise("我喜欢machine学习", "zh") == ["我喜", "欢", "machine", "学习"]


def test_rates_are_of_what_could_be_checked_and_average_over_languages() -> None:
    scorer = make_lcb_scorer("lingua", None)
    tallies = {"ar": Tally(), "de": Tally()}
    for text, language in [
        (ARABIC, "ar"),
        (f"{ARABIC} because", "ar"),
        (ENGLISH, "ar"),
        ("نعم", "ar"),
        (GERMAN, "de"),
    ]:
        scorer(Response(text, language, None, None, None, "", 1), tallies[language])
    rates = {code: lcb_rates(tally, code) for code, tally in tallies.items()}
    assert (rates["ar"]["n"], rates["ar"]["skipped"]) == (4, 1)
    assert rates["ar"]["line_pass_rate"] == pytest.approx(2 / 3)
    assert rates["ar"]["word_pass_rate"] == pytest.approx(1 / 2)
    assert rates["de"]["word_pass_rate"] is None
    overall = mean_rates(rates)
    assert overall["line_pass_rate"] == pytest.approx((2 / 3 + 1) / 2)
    assert overall["word_pass_rate"] == pytest.approx(1 / 2)


def test_rates_are_means_over_sources_as_the_benchmark_averages(tmp_path: Path) -> None:
    rows = [("okapi", "ar", ARABIC)] * 3 + [("okapi", "ar", ENGLISH), ("sharegpt", "ar", ENGLISH)]
    rows += [("okapi", "de", GERMAN), ("sharegpt", "de", "Ja")]
    path = tmp_path / "replies.jsonl"
    lines = [{"source": source, "language": code, "completion": text} for source, code, text in rows]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    report = make_report(score_files([str(path)], Fields(), Settings(protocol="lcb")))
    # By hand: okapi 3 of 4, sharegpt 0 of 1; pooled it would be 3 of 5. What is too short is in no mean.
    assert report["languages"]["ar"]["line_pass_rate"] == pytest.approx((3 / 4 + 0) / 2)
    assert report["languages"]["de"]["line_pass_rate"] == 1.0
    assert report["overall"]["line_pass_rate"] == pytest.approx((3 / 8 + 1) / 2)
    assert report["overall"]["sources"]["okapi"]["line_pass_rate"] == pytest.approx((3 / 4 + 1) / 2)
    assert any("means over sources (okapi, sharegpt)" in note for note in report["notes"])
    assert "37.5" in render(report, "md")


def test_a_field_of_very_many_sources_names_no_data_sets() -> None:
    scorer, tally = make_lcb_scorer("lingua", None), Tally()
    for number in range(70):
        scorer(Response(GERMAN, "de", None, None, None, "", number, source=f"page {number}"), tally)
    rates = lcb_rates(tally, "de")
    assert ("sources" in rates, rates["line_pass_rate"]) == (False, 1.0)
    assert rates["intervals"]


def test_every_departure_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "de.jsonl"
    path.write_text(f'{{"text": "{GERMAN}"}}\n', encoding="utf-8")
    report = make_report(score_files([str(path)], Fields(), Settings(protocol="lcb")))
    assert any("lingua instead of fastText lid.176" in note for note in report["notes"])
    assert any("built-in" in note and "words" in note for note in report["notes"])
    assert "line pass rate %" in render(report, "md")
    assert render(report, "csv").startswith("language,n,line_pass_rate,")


def test_an_open_fasttext_model_answers_for_itself() -> None:
    pytest.importorskip("fasttext", reason="the fasttext extra is not installed")
    model = Path(__file__).parents[1] / "data" / "tiny_lid.ftz"
    assert score(GERMAN, "de", f"fasttext:{model}")[0] == ("pass", "de")


def test_words_are_small_and_longer_than_three(tmp_path: Path) -> None:
    assert len(english_words()) > 900
    assert all(word.islower() and len(word) > 3 for word in english_words())
    (tmp_path / "words").write_text("the\nBecause\nhouse\n", encoding="utf-8")
    assert english_words(str(tmp_path / "words")) == {"house"}
