"""The commonest words of many languages: evidence of a language that needs no model.

`calibration/common_words.txt` has a line per variety of a language, some forty words each, written for this
purpose. A variety is a code of the project, with the script behind it where that is not the usual one
(`sr-Latn`); `hi-Latn` and its like are romanised text.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path

WORDS = Path(__file__).parent / "calibration" / "common_words.txt"
NEAR_WORDS = WORDS.with_name("near_words.txt")
"""More words of languages that few common words tell apart, for both of a pair alike."""
ALIKE_WORDS = WORDS.with_name("spelled_alike.txt")
"""Words of a language that are also common ones of English: `also` in German."""
MARGIN = 2
"""So many more words of one variety than of any other decide."""
MANY = 8
"""So many common words are hardly the same one or two."""
ENOUGH = 0.1
"""The share of a text's words that the margin takes at least: a long text has stray words of others."""
# What no list of words tells apart counts as one; a detector may still know better.
_ALIKE = {"bs": "hr", "sr-Latn": "hr"}


@lru_cache(maxsize=1)
def varieties() -> dict[str, frozenset[str]]:
    """Return the words of each variety, folded."""
    return _read(WORDS, NEAR_WORDS)


@lru_cache(maxsize=1)
def _spelled_alike() -> dict[str, frozenset[str]]:
    return _read(ALIKE_WORDS)


def _read(*paths: Path) -> dict[str, frozenset[str]]:
    words: dict[str, set[str]] = {}
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines():
            code, _, row = line.partition(" | ")
            words.setdefault(code, set()).update(unicodedata.normalize("NFKC", row).casefold().split())
    return {code: frozenset(each) for code, each in words.items()}


@lru_cache(maxsize=1)
def _index() -> dict[str, tuple[str, ...]]:
    index: dict[str, list[str]] = {}
    for code, words in varieties().items():
        for word in words:
            index.setdefault(word, []).append(code)
    return {word: tuple(codes) for word, codes in index.items()}


def votes(words: Sequence[str]) -> Counter[str]:
    """Return how many of the words are common ones of each variety."""
    known = map(_index().get, " ".join(words).casefold().split(" "))
    return Counter(chain.from_iterable(filter(None, known)))


def leader(counts: Mapping[str, int], words: Sequence[str], beside: Callable[[str], Collection[str]]) -> str:
    """Return the variety that the votes of words name beyond doubt, else an empty string.

    Varieties that stand `beside` the first one do not count as its rivals.
    """
    most = max(counts.values(), default=0)
    if most <= 2:
        return ""
    first = max(code for code, n in counts.items() if n == most)
    kind, near = _ALIKE.get(first, first), beside(first)
    enough = most - max(MARGIN, ENOUGH * len(words))
    for code, n in counts.items():
        if n > enough and code not in near and _ALIKE.get(code, code) != kind:
            return ""
    if most < MANY and len(varieties()[first].intersection(word.casefold() for word in words)) <= 2:
        return ""  # one or two words again and again, as in a refrain
    return kind


def only(words: Sequence[str], code: str, other: str) -> list[str]:
    """Return those of the words that are common in one variety and not in the other."""
    alone = of_one_alone(code, other)
    if alone.isdisjoint(" ".join(words).casefold().split(" ")):  # as nearly always
        return []
    return [word for word in words if word.casefold() in alone]


@lru_cache(maxsize=1024)
def of_one_alone(code: str, other: str) -> frozenset[str]:
    """Return the words, folded, that are common in one variety and no words of the other."""
    table, none = varieties(), frozenset[str]()
    return table.get(code, none) - table.get(other, none) - _spelled_alike().get(other, none)


def titled(words: Sequence[str], at: int) -> bool:
    """Return whether a small word stands between capitalised ones, as in a title or a name."""
    before = next((w for w in reversed(words[max(0, at - 2) : at]) if not w.islower()), "")
    behind = next((w for w in words[at + 1 : at + 3] if not w.islower()), "")
    return bool(before and behind)
