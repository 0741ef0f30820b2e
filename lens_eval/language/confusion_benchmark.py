"""The Language Confusion Benchmark's line and word pass rates under its published rules (arXiv 2406.20052).

A response passes a line check if every line of at least five tokens is identified as the language asked
for, and a word check if, having passed, it has no English word in those lines (only for languages in
non-Latin scripts). Responses without such a line are counted as too short and are in neither rate. The
published numbers use fastText's lid.176 open to all its languages with a threshold of 0.3; another
detector, restricted to candidates by script, is named in the report as a departure.
"""

from __future__ import annotations

import importlib
import string
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from lens_eval.language.detectors import FastText, get_detector
from lens_eval.language.files.response import Response
from lens_eval.language.files.tally import Scorer, Tally
from lens_eval.language.languages import DEFAULT_LANGUAGES, find_code, normalise_code
from lens_eval.language.off_target import UNDETERMINED, Judge
from lens_eval.language.set_aside import readable

MIN_TOKENS = 5
THRESHOLD = 0.3
RATES = ("line_pass_rate", "word_pass_rate")
# The benchmark's languages; the candidates where the detector is not an open fastText model.
LCB_LANGUAGES = ("ar", "de", "en", "es", "fr", "hi", "id", "it", "ja", "ko", "pt", "ru", "tr", "vi", "zh")
# Languages with a word check: English words are no words of theirs, and their script tells them apart.
WORD_CHECKED = frozenset({"ar", "hi", "ja", "ko", "ru", "zh"})
_BUILT_IN_WORDS = Path(__file__).parent / "calibration" / "english_words.txt"
_NORMALISE = str.maketrans({**dict.fromkeys(string.punctuation, ""), "—": " ", "،": ""})


def normalise(response: str) -> str:
    """Return a response as the benchmark reads it: up to a next "Q:", without ASCII punctuation."""
    return response.split("\nQ:")[0].strip().translate(_NORMALISE)


@lru_cache(maxsize=4)
def _tokeniser(language: str) -> Callable[[str], list[str]] | None:
    """Return jieba for zh or MeCab (fugashi) for ja, None where the optional package is missing."""
    try:
        if language == "zh":
            jieba = importlib.import_module("jieba")
            jieba.setLogLevel("WARNING")
            return lambda line: list(jieba.cut(line))
        tagger = importlib.import_module("fugashi").Tagger("-O wakati -b 50000")
        return lambda line: tagger.parse(line).split()
    except (ImportError, RuntimeError):
        return None


def tokenise(line: str, language: str) -> list[str]:
    """Return the tokens of a line: white space, but jieba for zh and MeCab for ja.

    Without those packages a stretch of Han or kana is cut into pieces of about a word's length, enough to
    count them.
    """
    if language not in ("zh", "ja"):
        return line.split()
    tokenise_by = _tokeniser(language)
    if tokenise_by:
        return tokenise_by(line)
    tokens: list[str] = []
    for part in line.split():
        if part.isascii():
            tokens.append(part)
        else:
            tokens += _cut(part)
    return tokens


def _cut(part: str) -> list[str]:
    pieces: list[str] = []
    latin = ""
    wide = ""
    for character in [*part, ""]:
        if character and character.isascii():
            latin += character
        elif character:
            wide += character
        if (not character or not character.isascii()) and latin:
            pieces.append(latin)
            latin = ""
        if (not character or character.isascii()) and wide:
            pieces += [wide[i : i + 2] for i in range(0, len(wide), 2)]
            wide = ""
    return pieces


@lru_cache(maxsize=4)
def english_words(path: str | None = None) -> frozenset[str]:
    """Return the words of the word check: all in small letters and longer than three."""
    text = Path(path or _BUILT_IN_WORDS).read_text(encoding="utf-8", errors="replace")
    return frozenset(word for word in text.split() if word.islower() and len(word) > 3)


def _identifier(detector: str) -> Callable[[str, str], str]:
    """Return the function (line, language asked) -> language of the line, "unknown" under the threshold."""
    known = get_detector(detector)
    if isinstance(known, FastText):

        def identify_openly(line: str, asked: str) -> str:
            [(label, probability)] = known.labels(line, k=1) or [("unknown", 0.0)]
            return (find_code(label) or label) if probability > THRESHOLD else "unknown"

        return identify_openly
    judge = Judge("en", {*LCB_LANGUAGES, *DEFAULT_LANGUAGES}, known)

    def identify(line: str, asked: str) -> str:
        return judge.identify_line(readable(line), asked, THRESHOLD)

    return identify


def make_lcb_scorer(detector: str, words: str | None) -> Scorer:
    """Return the function that scores one response under the benchmark's rules."""
    identify = _identifier(detector)
    english = english_words(words)

    def count(response: Response, tally: Tally, *outcomes: str) -> None:
        tally.add(outcomes, response.item)
        tally.add_source(response.source, outcomes)

    def score(response: Response, tally: Tally) -> tuple[str, str]:
        language = normalise_code(response.language)
        lines = [
            (line, tokens)
            for line in normalise(response.text or "").split("\n")
            if len(tokens := tokenise(line, language)) >= MIN_TOKENS
        ]
        if not lines:
            count(response, tally, "skipped")
            return "skipped", UNDETERMINED
        found = [identify(line, language) for line, _ in lines]
        tally.lines.update("on_target" if code == language else "off_target" for code in found)
        wrong = [code for code in found if code != language]
        if wrong:
            count(response, tally, "judged")
            return "line_error", wrong[0]
        mixed = language in WORD_CHECKED and any(t.strip() in english for _, tokens in lines for t in tokens)
        count(response, tally, "judged", "line_pass", *([] if mixed else ["word_pass"]))
        return ("word_error" if mixed else "pass"), language

    return score


def lcb_rates(tally: Tally, language: str) -> dict[str, Any]:
    """Return the pass rates of one language with 95% intervals; None where nothing could be checked.

    Where the rows name the data sets of their prompts (`source`) the rates are means over these, as the
    benchmark averages, without intervals.
    """
    rates: dict[str, Any] = {"n": tally.count(), "skipped": tally.count("skipped"), "intervals": {}}
    if len(tally.sources) > 1 and sum(each["n"] for each in tally.sources.values()) == tally.count():
        rates["sources"] = {
            name: _source_rates(tally.sources[name], language) for name in sorted(tally.sources)
        }
        for name in RATES:
            rates[name] = _mean(each[name] for each in rates["sources"].values())
        rates["lines"] = {"n": sum(tally.lines.values()), "on_target": tally.lines["on_target"]}
        return rates
    line = tally.interval("line_pass", "judged")
    rates["line_pass_rate"] = line.mean if line.n else None
    word = tally.interval("word_pass", "line_pass") if language in WORD_CHECKED else None
    rates["word_pass_rate"] = word.mean if word and word.n else None
    for name, interval in (("line_pass_rate", line), ("word_pass_rate", word)):
        if interval and interval.n:
            rates["intervals"][name] = [interval.low, interval.high]
    rates["lines"] = {"n": sum(tally.lines.values()), "on_target": tally.lines["on_target"]}
    return rates


def _source_rates(counts: Counter[str], language: str) -> dict[str, Any]:
    word = counts["word_pass"] / counts["line_pass"] if counts["line_pass"] else None
    return {
        "n": counts["n"],
        "skipped": counts["skipped"],
        "line_pass_rate": counts["line_pass"] / counts["judged"] if counts["judged"] else None,
        "word_pass_rate": word if language in WORD_CHECKED else None,
    }


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def mean_rates(languages: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the means over languages, as the benchmark averages them; by source too, where rows name it."""
    overall: dict[str, Any] = {name: sum(r[name] for r in languages.values()) for name in ("n", "skipped")}
    for name in RATES:
        overall[name] = _mean(r[name] for r in languages.values())
    sources = sorted({source for r in languages.values() for source in r.get("sources", ())})
    if sources:
        found = {
            s: [r["sources"][s] for r in languages.values() if s in r.get("sources", ())] for s in sources
        }
        overall["sources"] = {
            source: {name: _mean(each[name] for each in rows) for name in RATES}
            for source, rows in found.items()
        }
    overall["intervals"] = {}
    return overall


def describe(detector: str, words: str | None, languages: list[str]) -> dict[str, Any]:
    """Return what was used, and in `notes` every departure from the published protocol."""
    known = get_detector(detector)
    notes = []
    if not known.name.startswith("fasttext:lid.176"):
        notes.append(
            f"Departs from the published protocol: {known.name} instead of fastText lid.176 (--detector)."
        )
    missing = [code for code in ("zh", "ja") if code in languages and _tokeniser(code) is None]
    if missing:
        notes.append(
            f"Departs from the published protocol: tokens of {', '.join(missing)} are estimated; "
            "pip install 'lens-multilingual[lcb]' has its tokenisers."
        )
    if words is None:
        count = len(english_words())
        notes.append(
            f"Departs from the published protocol: the English word check has {count} built-in words, which "
            "lets more replies pass (ja 97.6 instead of 91.3% with the benchmark's list); --words FILE takes "
            "the benchmark's own list."
        )
    folded = [code for code in languages if code in ("zh", "ar")]
    if folded:
        notes.append(
            f"Departs from the published protocol: labels yue and wuu count as zh, arz as ar (asked here: "
            f"{', '.join(folded)}); up to 1 point more lines pass."
        )
    return {
        "detector": {"name": known.name, "version": known.version},
        "rules": {
            "min_tokens": MIN_TOKENS,
            "threshold": THRESHOLD,
            "overall": "mean over sources, if the rows name them, then over languages",
        },
        "notes": notes,
    }
