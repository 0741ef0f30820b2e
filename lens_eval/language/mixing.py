"""Two languages of one script in one sentence: which words are of which.

Common words of one language alone say where it is; words between them follow their neighbours and what the
detector says of them one by one. A borrowed term has no common words of its language around it, and stays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lens_eval.language.common_words import only, titled, varieties
from lens_eval.language.detectors import Detector

MIN_COMMON = 2
"""So many common words of the other language alone: fewer are a borrowing or a title."""
MIN_WORDS, MIN_SHARE = 3, 0.2
"""The part in the other language takes so many words, and such a share of the letters, at least."""
_COMMON, _SINGLE, _SWITCH = 3.0, 1.5, 1.2
_TOO_SHORT = 3


@dataclass(frozen=True)
class Parts:
    """Letters of a sentence in the language asked for and in the other one, and the words of the latter."""

    own: float
    other: float
    words: tuple[str, ...]

    @property
    def mixed(self) -> bool:
        """Whether so much is in the other language that the sentence is in both."""
        return len(self.words) >= MIN_WORDS and self.other >= MIN_SHARE * (self.own + self.other)


def stray_words(words: Sequence[str], language: str, other: str) -> list[str]:
    """Return the common words of another language that the language asked for does not have."""
    found = set(only(words, other, language))
    if not found:
        return []
    return [word for at, word in enumerate(words) if word in found and not titled(words, at)]


def uncommon_stretch(words: Sequence[str], code: str) -> list[str]:
    """Return the longest stretch of words in a row without a common word of a language, or a name inside."""
    common = varieties().get(code, frozenset())
    longest: list[str] = []
    current: list[str] = []
    for at, word in enumerate(words):
        if word.casefold() in common or (at and not word.islower()):
            current = []
        else:
            current.append(word)
            longest = max(longest, current, key=len)
    return longest


def part(words: Sequence[str], language: str, other: str, detector: Detector) -> Parts:
    """Divide the words of a sentence between two languages: the likeliest path, with a price per change."""
    mine, theirs = set(only(words, language, other)), set(stray_words(words, language, other))
    paths: tuple[tuple[float, list[int]], tuple[float, list[int]]] = ((0.0, []), (-_SWITCH, []))
    for word in words:
        if word in theirs:
            score = -_COMMON
        elif word in mine:
            score = _COMMON
        else:
            score = _leaning(word, language, other, detector)
        (own, own_path), (foreign, foreign_path) = paths
        stay = (own, own_path) if own >= foreign - _SWITCH else (foreign - _SWITCH, foreign_path)
        leave = (foreign, foreign_path) if foreign >= own - _SWITCH else (own - _SWITCH, own_path)
        paths = (stay[0] + score, [*stay[1], 0]), (leave[0] - score, [*leave[1], 1])
    _, path = max(paths, key=lambda each: each[0])
    foreign_words = tuple(word for word, state in zip(words, path, strict=True) if state)
    other_letters = float(sum(map(len, foreign_words)))
    return Parts(sum(map(len, words)) - other_letters, other_letters, foreign_words)


def _leaning(word: str, language: str, other: str, detector: Detector) -> float:
    """Return how much a word alone speaks for the language asked for (positive) or the other one."""
    if len(word) < _TOO_SHORT or not word.islower() or detector.unsupported((language, other)):
        return 0.0
    code, share = detector.best(word, tuple(sorted((language, other))))
    weight = min(_SINGLE, math.log(max(share, 1e-6) / max(1 - share, 1e-6)))
    return weight if code == language else -weight
