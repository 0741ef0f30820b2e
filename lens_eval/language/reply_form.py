"""What a reply is before its language is asked: empty, a loop, an echo of the prompt, or text of its own.

A loop or an echo is written in the language asked for and says nothing, so a rate over languages alone
counts it as a success. Both are measured as shares of the reply's letters, without a model and without a
word list: what repeats to the end or was said before (`loop`), and what stands in the prompt (`echo`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lens_eval.language.scripts import UNSPACED_SIGN

LOOP_LIMIT = 0.5
"""A reply loops from this share of its letters on."""
LOOP_LETTERS = 24
"""Fewer letters than this are never called a loop: `ja ja ja`, a list of three."""
PERIODS = 3
"""A stretch at the end is periodic if its period stands there at least so many times."""
ECHO_LIMIT = 0.75
"""A reply is an echo if at least this share of it stands in the prompt..."""
ECHO_OF_PROMPT = 0.5
"""...and it holds at least this share of the prompt. A word chosen from the prompt is an answer."""
SPACED_GRAM, UNSPACED_GRAM = 14, 6
"""Letters in a row that are no chance repetition, in scripts with and without spaces between words."""
ECHO_WORDS, ECHO_LETTERS = 3, 4
"""Words in a row (letters, in scripts without spaces) that are taken from the prompt."""
_LIST_NUMBER = re.compile(r"^\s*\d+[.)](?=\s+\D)", re.MULTILINE)
_LETTERS = re.compile(r"(?:[^\W_]|[\u0300-\u036f\u064b-\u065f\u0900-\u0dff\u0e00-\u0eff])+")


@dataclass(frozen=True)
class ReplyForm:
    """Shares of one reply's letters, from 0 to 1."""

    empty: bool
    """The reply holds no letter and no digit."""
    loop: float
    """Share that repeats what the reply said before, or belongs to a period repeated to its end."""
    echo: float
    """Share that stands in the prompt; 0 if the reply holds less than half of the prompt."""

    @property
    def looping(self) -> bool:
        """Whether so much of the reply repeats that it says nothing more."""
        return self.loop >= LOOP_LIMIT

    @property
    def echoing(self) -> bool:
        """Whether the reply is the prompt again, with little of its own."""
        return self.echo >= ECHO_LIMIT

    @property
    def broken(self) -> bool:
        """Whether the reply is no use in any language: empty, a loop or an echo."""
        return self.empty or self.looping or self.echoing

    @property
    def name(self) -> str:
        """`empty`, `loop`, `echo` or `text`."""
        if self.empty:
            return "empty"
        return "loop" if self.looping else "echo" if self.echoing else "text"


def form_of(reply: str, prompt: str = "") -> ReplyForm:
    """Measure one reply; a loop of the prompt's words counts as a loop."""
    text = _letters(reply)
    if not text:
        return ReplyForm(True, 0.0, 0.0)
    spaced = 2 * len(UNSPACED_SIGN.findall(text)) <= len(text)
    loop = 0.0
    if len(text) >= LOOP_LETTERS:
        loop = max(_periodic_share(text), _repeated_share(text, SPACED_GRAM if spaced else UNSPACED_GRAM))
    if spaced:
        echo = _echo_share(_words(reply), _words(prompt), ECHO_WORDS)
    else:
        echo = _echo_share(text, _letters(prompt), ECHO_LETTERS)
    return ReplyForm(False, loop, echo)


def _letters(text: str) -> str:
    """Letters, marks and digits in lower case, without list numbers: what stays where layout varies."""
    return "".join(_words(text))


def _words(text: str) -> list[str]:
    return _LETTERS.findall(_LIST_NUMBER.sub(" ", text.lower()))


def _periodic_share(text: str) -> float:
    """Share of the text that the longest periodic stretch at its end takes."""
    longest = 0
    for period, covered in _periods(text[::-1]):
        if covered >= PERIODS * period and covered >= LOOP_LETTERS:
            longest = max(longest, covered)
    return longest / len(text)


def _periods(text: str) -> Iterator[tuple[int, int]]:
    """Each period, and how many characters from the start on it holds (the Z function; linear)."""
    size, left, right = len(text), 0, 0
    reach = [0] * size
    for at in range(1, size):
        if at < right:
            reach[at] = min(right - at, reach[at - left])
        while at + reach[at] < size and text[reach[at]] == text[at + reach[at]]:
            reach[at] += 1
        if at + reach[at] > right:
            left, right = at, at + reach[at]
        yield at, at + reach[at]


def _repeated_share(text: str, gram: int) -> float:
    """Share of the letters that belong to a stretch of `gram` letters which stood in the text before."""
    seen: set[str] = set()
    repeated = bytearray(len(text))
    for at in range(len(text) - gram + 1):
        part = text[at : at + gram]
        if part in seen:
            repeated[at : at + gram] = b"\1" * gram
        seen.add(part)
    return sum(repeated) / len(text)


def _echo_share(text: Sequence[str], prompt: Sequence[str], size: int) -> float:
    """Share of the text that stands in the prompt; 0 if it holds too little of the prompt to repeat it.

    Whole words count: the answer to `which language is spoken in Norway` is a word of its own.
    """
    size = min(size, len(prompt), len(text))
    if not size:
        return 0.0
    return _covered(text, prompt, size) if _covered(prompt, text, size) >= ECHO_OF_PROMPT else 0.0


def _covered(text: Sequence[str], source: Sequence[str], size: int) -> float:
    """Share of the letters of `text` in stretches of `size` words or letters that `source` holds too."""
    known = {tuple(source[at : at + size]) for at in range(len(source) - size + 1)}
    covered = [False] * len(text)
    for at in range(len(text) - size + 1):
        if tuple(text[at : at + size]) in known:
            covered[at : at + size] = [True] * size
    return sum(len(part) for part, own in zip(text, covered, strict=True) if own) / sum(map(len, text))
