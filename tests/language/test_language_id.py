"""Detectors: one interface, deterministic, versioned, mistakes named."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from lens_eval.base.errors import UserError
from lens_eval.language.calibrate import built_in_sample
from lens_eval.language.common_words import leader, votes
from lens_eval.language.detectors import Detector, FastText, Lingua, get_detector
from lens_eval.language.off_target import Judge

LATIN = ("de", "en", "es", "fr", "sw")
SENTENCES = {
    "de": "Die Bauern warten darauf, dass es endlich regnet",
    "en": "The farmers are waiting for the rain to come",
    "es": "Los campesinos están esperando que llueva",
    "fr": "Les paysans attendent que la pluie arrive",
    "sw": "Wakulima wanasubiri mvua inyeshe",
}


@pytest.mark.parametrize("name", ["lingua", "langdetect"])
def test_detectors_find_plain_sentences_and_are_repeatable(name: str) -> None:
    detector = get_detector(name)
    first = {code: detector.best(text, LATIN) for code, text in SENTENCES.items()}
    for code, text in random.Random(0).sample(sorted(SENTENCES.items()), len(SENTENCES)):
        assert detector.best(text, LATIN) == first[code]
    assert {code: best for code, (best, _) in first.items()} == {code: code for code in SENTENCES}
    assert all(0.5 < share <= 1 for _, share in first.values())
    assert detector.version[0].isdigit()


@pytest.mark.parametrize("name", ["lingua", "langdetect"])
def test_only_candidates_are_ever_chosen(name: str) -> None:
    assert get_detector(name).best(SENTENCES["de"], ("en", "sw"))[0] in ("en", "sw")


def test_common_words_change_no_answer_of_the_full_look() -> None:
    texts = [(text, code) for code in LATIN for text in built_in_sample()[code]]
    named = [(leader(votes(text.split()), text.split(), lambda code: ()), text) for text, _ in texts]
    by_words = [(first, text) for first, text in named if first]
    assert len(by_words) > len(texts) / 3
    assert all(Lingua().best(text, LATIN)[0] == first for first, text in by_words)


def test_a_text_of_unknown_trigrams_rules_nothing_out() -> None:
    code, share = get_detector("lingua").best("qqxz zxqqj wwqzx xxqqw qjxzq zqwwx", LATIN)
    assert code in LATIN
    assert 0 <= share <= 1


def test_another_process_gives_the_same_numbers() -> None:
    code = (
        "from lens_eval.language.detectors import get_detector as g\n"
        "for n in ('lingua', 'langdetect'):\n"
        f"  print([g(n).best(t, {LATIN!r}) for t in {list(SENTENCES.values())!r}])"
    )
    here = "".join(
        f"{[get_detector(name).best(text, LATIN) for text in SENTENCES.values()]}\n"
        for name in ("lingua", "langdetect")
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert there.stdout == here


def test_what_a_detector_does_not_know_is_said() -> None:
    assert get_detector("lingua").unsupported(["en", "qu", "ht"]) == ["qu", "ht"]
    with pytest.raises(UserError, match=r"lingua does not know ht.*GlotLID"):
        Judge(candidates=["en", "ht"])
    Judge(candidates=["en", "my"])  # a script of its own needs no detector


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lingu", "did you mean lingua"),
        ("cld3", "known: lingua, langdetect, fasttext:FILE"),
        ("fasttext", "needs its model file"),
    ],
)
def test_unknown_detectors_are_refused(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        get_detector(name)


def test_a_missing_fasttext_model_or_package_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no fastText model at|needs the package fasttext-predict"):
        get_detector(f"fasttext:{tmp_path}/lid.176.bin")


def test_a_detector_is_one_small_class() -> None:
    class Longest:
        name, version = "longest", "1"

        def unsupported(self, candidates: object) -> list[str]:
            return []

        def best(self, text: str, candidates: tuple[str, ...]) -> tuple[str, float]:
            return candidates[-1], 1.0

    detector: Detector = Longest()
    judge = Judge(candidates=["en", "sw"], detector=detector)
    assert judge.judge(SENTENCES["en"], "sw").answered_in == "sw"
    assert judge.describe()["detector"] == {"name": "longest", "version": "1"}


@pytest.fixture(scope="module")
def fasttext_model() -> FastText:
    pytest.importorskip("fasttext", reason="the fasttext extra is not installed")
    folder = Path(__file__).parents[1] / "data"
    return FastText(folder / "tiny_lid.ftz")


def test_fasttext_model_is_closed_to_the_candidates_and_hashed(fasttext_model: FastText) -> None:
    for code, text in SENTENCES.items():
        assert fasttext_model.best(text, LATIN)[0] == code
    assert fasttext_model.best(SENTENCES["de"], ("en", "sw"))[0] in ("en", "sw")
    assert "model sha256" in fasttext_model.version
    assert fasttext_model.unsupported(["en", "qu"]) == ["qu"]


def test_a_file_that_is_no_model_is_refused(fasttext_model: FastText, tmp_path: Path) -> None:
    (tmp_path / "lid.bin").write_bytes(b"no model")
    with pytest.raises(UserError, match="is not a fastText model"):
        get_detector(f"fasttext:{tmp_path}/lid.bin")
