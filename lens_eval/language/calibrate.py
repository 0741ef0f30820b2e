"""How often the metric errs on text whose language is known: the false off-target floor.

A rate measured on a model's responses means something only above the rate the same detector shows on gold
text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from lens_eval.base.errors import UserError
from lens_eval.base.statistics import Interval, rate_interval
from lens_eval.language.languages import near
from lens_eval.language.off_target import OUTCOMES, Judge
from lens_eval.language.scripts import LETTERS_PER_CHARACTER, WORD

SAMPLE = Path(__file__).parent / "calibration" / "sentences.jsonl"
# What `lens calibrate --lengths 0,40,25,15` wrote for the sentences of NTREX: figures, no text.
MEASURED = Path(__file__).parent / "calibration" / "floor.json"
# What `lens calibrate --lengths 0` wrote for 300 sentences of NTREX-128 in each of several near languages.
MEASURED_NEAR = MEASURED.with_name("near.json")
# Letters of an alphabet, as the metric counts them; 0 is the whole text.
LENGTHS = (0, 60, 40, 25, 15)


@dataclass(frozen=True)
class Calibration:
    """Outcomes on gold text of one language at one length."""

    language: str
    length: int
    n: int
    outcomes: Mapping[str, int]
    off_target: Interval
    agreement: float | None = None


@dataclass(frozen=True)
class NearPair:
    """Outcomes of gold text in one language (`written`) where a near one, or itself, is asked for."""

    asked: str
    written: str
    n: int
    on_target: float
    undetermined: float


@lru_cache(maxsize=1)
def built_in_sample() -> dict[str, list[str]]:
    """Return the built-in gold text: parallel sentences written for this purpose, by language."""
    rows = [json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines()]
    return {code: [row[code] for row in rows] for code in rows[0] if code != "id"}


@lru_cache(maxsize=1)
def measured_floor() -> dict[str, Interval]:
    """Return the rate of false off-target verdicts on some 1,500 gold sentences a language, as measured
    once with the default detector and candidates: for tables that are made without a detector."""
    record = json.loads(MEASURED.read_text(encoding="utf-8"))
    return {
        code: Interval(each["false_off_target"], each["interval"][0], each["interval"][1], each["n"])
        for code, entries in record["languages"].items()
        for each in entries
        if each["letters"] is None
    }


@lru_cache(maxsize=1)
def measured_near() -> tuple[NearPair, ...]:
    """Return how often text in a near language passes for the one asked for, as measured once on 300 gold
    sentences a language with the default detector and candidates."""
    record = json.loads(MEASURED_NEAR.read_text(encoding="utf-8"))
    return tuple(NearPair(**each) for each in record["near"])


def false_floor(judge: Judge, languages: Iterable[str]) -> dict[str, Interval]:
    """Return the rate of false off-target verdicts on the built-in sentences, for the languages it has."""
    sample = built_in_sample()
    floors = {}
    for language in languages:
        if language in sample:
            verdicts = [judge.judge(text, language).outcome for text in sample[language]]
            floors[language] = rate_interval([float(v in ("central", "other")) for v in verdicts])
    return floors


def cut(text: str, letters: int) -> str:
    """Return the beginning of a text, to a whole word, of about so many letters (0: all of it).

    Letters are counted as the metric does; in scripts without spaces the cut is inside a run.
    """
    if not letters:
        return text
    left = float(letters)
    for match in WORD.finditer(text):
        weight = LETTERS_PER_CHARACTER.get(match.lastgroup or "", 1.0)
        amount = len(match[0]) * weight
        if amount > left:
            spaceless = match.lastgroup in ("Hani", "Kana", "Thai")
            return text[: match.start() + int(left / weight)] if spaceless else text[: match.start()].rstrip()
        left -= amount
    return text


def calibrate(
    texts: Mapping[str, Sequence[str]],
    judge: Judge,
    lengths: Sequence[int] = LENGTHS,
    second: Judge | None = None,
) -> list[Calibration]:
    """Judge gold texts by language, whole and cut to several lengths.

    `second` is a judge with another detector: `agreement` is then the share of texts that both decide and
    find in the same language. Cut texts that have no letters left are not counted.
    """
    from lens_eval.base.progress import progress

    results = []
    work = [(language, length) for language in texts for length in lengths]
    for language, length in progress(work, label="calibrating"):
        pieces = [piece for text in texts[language] if (piece := cut(text, length)).strip()]
        verdicts = [judge.judge(piece, language) for piece in pieces]
        outcomes = {name: sum(v.outcome == name for v in verdicts) for name in OUTCOMES}
        off_target = rate_interval([float(v.outcome in ("central", "other")) for v in verdicts])
        agreement = None
        if second:
            pairs = [
                (verdict.answered_in, second.judge(piece, language).answered_in)
                for verdict, piece in zip(verdicts, pieces, strict=True)
            ]
            decided = [(a, b) for a, b in pairs if "undetermined" not in (a, b)]
            agreement = sum(a == b for a, b in decided) / len(decided) if decided else None
        results.append(Calibration(language, length, len(pieces), outcomes, off_target, agreement))
    return results


def askable(texts: Mapping[str, Sequence[str]], judge: Judge) -> dict[str, Sequence[str]]:
    """Return the gold texts of languages that can be asked for: the detector knows them.

    The other ones are text in a near language. Raises `UserError` if none can be.
    """
    known, refused = {}, None
    for language in texts:
        try:
            judge.target(language)
        except UserError as error:
            refused = error
            continue
        known[language] = texts[language]
    if refused and not known:
        raise refused
    return known


def near_pairs(texts: Mapping[str, Sequence[str]], judge: Judge) -> list[NearPair]:
    """Judge gold texts as replies to requests for a near language: languages that are both in `texts`.

    A language that the detector does not know is never asked for.
    """
    found = []
    for asked in texts:
        for written in [asked, *(code for code in texts if code in near(asked))]:
            try:
                verdicts = [judge.judge(text, asked).outcome for text in texts[written]]
            except UserError:
                continue
            n = len(verdicts)
            shares = (verdicts.count(name) / n for name in ("on_target", "undetermined"))
            found.append(NearPair(asked, written, n, *shares))
    return [pair for pair in found if any(o.asked == pair.asked != o.written for o in found)]


def report(
    results: Sequence[Calibration],
    judge: Judge,
    second: Judge | None,
    source: str,
    pairs: Sequence[NearPair] = (),
) -> dict[str, Any]:
    """Return the calibration as JSON: settings, then one entry per language and length, and near pairs."""
    return {
        **({"near": [asdict(pair) for pair in pairs]} if pairs else {}),
        **judge.describe(),
        "second_detector": second.describe()["detector"] if second else None,
        "source": source,
        "languages": {
            language: [
                {
                    "letters": each.length or None,
                    "n": each.n,
                    **{name: count / each.n if each.n else 0.0 for name, count in each.outcomes.items()},
                    "false_off_target": each.off_target.mean if each.n else None,
                    "interval": [each.off_target.low, each.off_target.high] if each.n else None,
                    "agreement": each.agreement,
                }
                for each in results
                if each.language == language
            ]
            for language in dict.fromkeys(each.language for each in results)
        },
    }


def gold_files(names: Sequence[str], text: str | None, language: str | None) -> dict[str, list[str]]:
    """Read gold texts from files, as `lens score` does; raises `UserError` if there are none."""
    from lens_eval.language.files.fields import Fields
    from lens_eval.language.files.inputs import files_of
    from lens_eval.language.files.read import Source
    from lens_eval.language.files.response import Response
    from lens_eval.language.languages import normalise_code

    texts: dict[str, list[str]] = {}
    for name in files_of(names):
        for row in Source(name, Fields(text, language)):
            if isinstance(row, Response) and row.text:
                texts.setdefault(normalise_code(row.language), []).append(row.text)
    if not texts:
        raise UserError(f"no texts in {', '.join(names)}")
    return dict(sorted(texts.items()))
