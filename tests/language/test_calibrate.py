"""The false off-target floor: gold text in, and what a wrong detector would show."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lens_eval.language.calibrate import built_in_sample, calibrate, cut, false_floor, measured_floor, report
from lens_eval.language.files.report import render_calibration
from lens_eval.language.languages import DEFAULT_LANGUAGES
from lens_eval.language.off_target import Judge, get_judge
from lens_eval.language.scripts import LETTERS_PER_CHARACTER, WORD


class AlwaysEnglish:
    """A detector that calls every Latin text English."""

    name, version = "english", "1"

    def unsupported(self, candidates: object) -> list[str]:
        return []

    def best(self, text: str, candidates: tuple[str, ...]) -> tuple[str, float]:
        return "en", 1.0


def test_the_built_in_sample_is_parallel_and_complete() -> None:
    sample = built_in_sample()
    assert set(sample) == set(DEFAULT_LANGUAGES)
    assert len({len(sentences) for sentences in sample.values()}) == 1
    assert all(sentence == sentence.strip() for sentences in sample.values() for sentence in sentences)
    for sentences in sample.values():
        assert len(set(sentences)) == len(sentences)


def test_the_floor_of_gold_text_is_zero_and_a_wrong_detector_shows() -> None:
    languages = ("en", "sw", "zh", "de")
    floors = false_floor(get_judge(), (*languages, "qu"))
    assert set(floors) == set(languages)  # there is no gold text for Quechua
    assert all(floor.mean == 0 < floor.high < 0.2 for floor in floors.values())
    wrong = false_floor(Judge(detector=AlwaysEnglish()), languages)
    assert wrong["sw"].mean == wrong["de"].mean == 1.0
    assert wrong["zh"].mean == wrong["en"].mean == 0.0


def test_report_has_outcomes_by_length_and_agreement() -> None:
    sample = built_in_sample()
    texts = {code: sample[code][:8] for code in ("sw", "th")}
    judge, second = get_judge(), Judge(detector=AlwaysEnglish())
    found = report(calibrate(texts, judge, (0, 15), second), judge, second, "the built-in sample")
    for entries in found["languages"].values():
        for each in entries:
            assert sum(each[k] for k in ("on_target", "central", "other", "undetermined")) == pytest.approx(1)
            assert each["interval"][0] <= each["false_off_target"] <= each["interval"][1]
    assert found["languages"]["sw"][0]["agreement"] == 0.0
    assert found["languages"]["th"][0]["agreement"] == 1.0
    text = render_calibration(found, "md")
    assert "Agreement % with english 1 where both decide" in text
    assert "15 letters" in text


@given(st.sampled_from([t for texts in built_in_sample().values() for t in texts]), st.integers(0, 80))
def test_a_cut_is_a_beginning_of_at_most_so_many_letters(text: str, letters: int) -> None:
    piece = cut(text, letters)
    assert text.startswith(piece)
    amount = sum(len(m[0]) * LETTERS_PER_CHARACTER.get(m.lastgroup or "", 1.0) for m in WORD.finditer(piece))
    assert piece == text if not letters else amount <= letters


def test_the_floor_shown_beside_comparisons_is_of_many_sentences_in_every_language() -> None:
    floors = measured_floor()
    assert set(floors) == set(DEFAULT_LANGUAGES)
    assert all(floor.n > 1000 and floor.mean <= floor.high < 0.01 for floor in floors.values())
