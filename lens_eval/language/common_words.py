"""The commonest words of many languages: evidence of a language that needs no model.

`calibration/common_words.txt` has a line per variety of a language, some forty words each, written for this
purpose. A variety is a code of the project, with the script behind it where that is not the usual one
(`sr-Latn`); `hi-Latn` and its like are romanised text.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

WORDS = Path(__file__).parent / "calibration" / "common_words.txt"
MARGIN = 2
"""So many more words of one variety than of any other decide."""
ENOUGH = 0.1
"""The share of a text's words that the margin takes at least: a long text has stray words of others."""
# What no list of words tells apart counts as one; a detector may still know better.
_ALIKE = {"bs": "hr", "sr-Latn": "hr"}


@lru_cache(maxsize=1)
def varieties() -> dict[str, frozenset[str]]:
    """Return the words of each variety, folded."""
    rows = (line.split(" | ") for line in WORDS.read_text(encoding="utf-8").splitlines())
    return {code: frozenset(unicodedata.normalize("NFKC", words).casefold().split()) for code, words in rows}


@lru_cache(maxsize=1)
def _index() -> dict[str, tuple[str, ...]]:
    index: dict[str, list[str]] = {}
    for code, words in varieties().items():
        for word in words:
            index.setdefault(word, []).append(code)
    return {word: tuple(codes) for word, codes in index.items()}


def votes(words: Sequence[str]) -> dict[str, int]:
    """Return how many of the words are common ones of each variety."""
    index = _index()
    counts: dict[str, int] = {}
    for word in words:
        for code in index.get(word.casefold(), ()):
            counts[code] = counts.get(code, 0) + 1
    return counts


def leader(counts: dict[str, int], words: int) -> str:
    """Return the variety that the votes of so many words name beyond doubt, else an empty string."""
    if not counts:
        return ""
    first = max(counts, key=lambda code: (counts[code], code))
    most, kind = counts[first], _ALIKE.get(first, first)
    other = max((n for code, n in counts.items() if _ALIKE.get(code, code) != kind), default=0)
    return kind if most - other >= max(MARGIN, ENOUGH * words) and most > 2 else ""


def only(words: Sequence[str], code: str, other: str) -> list[str]:
    """Return those of the words that are common in one variety and not in the other."""
    table = varieties()
    mine, theirs = table.get(code, frozenset()), table.get(other, frozenset())
    return [word for word in words if (low := word.casefold()) in mine and low not in theirs]
