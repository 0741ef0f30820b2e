"""What a reply is before its language is asked: empty, a loop, an echo of the prompt, or text of its own.

A loop or an echo is written in the language asked for and says nothing, so a rate over languages alone
counts it as a success. Both are measured as shares of the reply's letters, without a model and without a
word list: what repeats up to the end (`loop`), and what stands in the prompt (`echo`). The limits were
chosen on replies of strong models and on judged replies of weak ones; docs/metrics.md names them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Any

from lens_eval.language.scripts import UNSPACED_SIGN

FORM_METRICS = ("usable", "echo", "loop", "empty")

PERIODS, PERIODS_SHARE = 3, 0.3
"""A stretch at the end is periodic if its period stands there so many times, over this share of the text."""
MANY_PERIODS, LOOP_LIMIT = 4, 0.1
"""Or so many times, over this share: then the reply has only begun to loop. No gold text comes near."""
CUT_PERIODS, CUT_SHARE = 2.25, 0.75
"""A long period is cut before it stands there three times: then it takes nearly the whole reply."""
LOOP_LETTERS, LOOP_SYLLABLES = 24, 12
"""Fewer letters (signs of Chinese, Japanese, Korean) are no loop: `ja ja ja`, a list of three."""
PERIOD_LETTERS = 8
"""Letters that a period with a changing number in it has at least. A table has several numbers in it."""
NEAR_LIMIT, NEAR_OFTEN = 0.7, 0.8
"""A period with small changes: this share of the letters stands in the text `MANY_PERIODS` times, or the
larger share `PERIODS` times. Three lines of a table are alike too."""
ECHO_LIMIT = 0.7
"""A reply is an echo if at least this share of it stands in the prompt..."""
ECHO_OF_PROMPT = 0.5
"""...and it holds this share of the prompt, and of its first sentence. Mended text lacks the instruction."""
ECHO_OF_QUESTION = 0.75
"""Or it holds this share of a question in the prompt, and is at most twice as long."""
QUESTION_LETTERS = 12
"""Letters of such a question at least (a Han character counts as one)."""
LIKE_LIMIT, MOST_LIKE = 0.8, 1000
"""Or it is as like the prompt as this, letter by letter, if it has at most so many letters, and each of its
words is nearly one of the prompt's: `Berlin` in the place of `which city` is an answer."""
LIKE_ALONE, LIKE_WORD = 0.9, 0.6
"""From the first likeness on the words are not asked; from the second on a word is nearly another."""
PART_IN_PROMPT, PART_OF_PROMPT, SHORT_PROMPT = 0.9, 0.3, 120
"""Or it is the end of the prompt and nothing else: this share of the reply, and of the prompt, which has at
most so many letters. A longer one brings text along, and an answer may be a part of that."""
MOST_PROMPTS = 4
"""A reply of more letters than so many prompts is no echo: it has text of its own, or it loops."""
NEAR_LETTERS = 600
"""Letters at the end of a reply in which a period with small changes must show."""
MOST_LETTERS = 20_000
"""Letters of a reply that are looked at, the last ones: enough to see a loop, and time stays bounded."""
MARKS, KINDS_OF_MARKS = 24, 3
"""Marks without a letter at the end of a reply that are a loop, and how many kinds there are at most."""
_MARK = 8
_SYLLABLES = "\u3040"
"""Signs from here on are worth a syllable and more: kana, Han, Hangul."""

_HANGUL = re.compile("[\uac00-\ud7a3]")
_LIST_NUMBER = re.compile(r"^\s*\d+[.)](?=\s+\D)", re.MULTILINE)
_LETTERS = re.compile(r"(?:[^\W_]+|[\u0300-\u036f\u064b-\u065f\u0900-\u0dff\u0e00-\u0eff])+")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_COUNTED = re.compile(r"\d+(?:[.,]\d+)*|第[一二三四五六七八九十]+")
"""A number, or an ordinal as Chinese and Japanese write it."""
_ENDS = re.compile(r"(?<=[.!?。\uff01\uff1f؟।])\s*|\n+")
_QUESTION = re.compile(r"[?\uff1f؟;]\s*$")
_ASKS = re.compile(r"(?:[?\uff1f]|か[。.]?|吗。?)\s*$")
"""A question in Chinese and Japanese, and the signs of words that may answer it: numbers, katakana, Han."""
_NAMING = re.compile(r"[\d\u30a1-\u30fa\u3400-\u9fff]")
_THAI_ASKS = re.compile("อะไร|ใคร|ไหน|กี่|เท่าไร|เท่าไหร่|เมื่อไร|เมื่อไหร่")
"""Words that ask in Thai, which has no mark for it."""
_TURN = re.compile(r"<\|[^|<>]{1,40}\|>|</?(?:start|end)_of_turn>|\[/?INST\]|</?s>|<(?:bos|eos)>")
_LABEL = re.compile(
    r"^[\W_]*(?:question|answer|user|assistant|human|prompt|instruction|input|output|response|[QA])"
    r"[ *_]*[:：]",
    re.IGNORECASE | re.MULTILINE,
)
_ROLE = re.compile(r"^\s*(?:system|user|assistant|model)\b:?", re.IGNORECASE)


@dataclass(frozen=True)
class _Writing:
    """How many units in a row are no chance repetition, by how a script is written."""

    words: bool
    """Whether spaces stand between words: then units of an echo are words, else letters."""
    gram: int
    """Letters of a period with small changes."""
    taken: int
    """Units that are taken from the prompt."""


_SPACED, _KOREAN = _Writing(True, 14, 3), _Writing(True, 7, 3)
_HAN, _ALPHABETIC = _Writing(False, 8, 4), _Writing(False, 14, 12)
"""Chinese and Japanese; Thai, Lao, Khmer, Burmese, whose words have many letters and no spaces."""


@dataclass(frozen=True)
class ReplyForm:
    """Shares of one reply's letters, from 0 to 1."""

    empty: bool
    """The reply holds no letter and no digit."""
    loop: float
    """Share of the period that is repeated to the end; with small changes, if it takes `NEAR_LIMIT`."""
    echo: float
    """Share that stands in the prompt; 0 if the reply holds too little of the prompt to repeat it."""

    @property
    def looping(self) -> bool:
        """Whether the reply ends in a loop."""
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
        """`empty`, `loop`, `echo` or `text`; a loop of the prompt's words is a loop."""
        if self.empty:
            return "empty"
        return "loop" if self.looping else "echo" if self.echoing else "text"


def form_of(reply: str | None, prompt: str | None = "") -> ReplyForm:
    """Measure one reply (None counts as empty).

    The prompt may be the question alone or as the model was given it: the parts of a chat template are
    dropped, and of several examples the last one is what was asked.
    """
    reply = reply or ""
    text = "".join(_words(reply))[-MOST_LETTERS:]
    if not text:
        return ReplyForm(True, 0.0, 0.0)
    writing = _writing(text)
    loop = _marks_share(reply[-MOST_LETTERS:])
    if len(text) >= LOOP_SYLLABLES:
        loop = max(loop, _periodic_share(text), _counting_share(reply), _near_share(text, writing.gram))
    return ReplyForm(False, loop, _echo_share(reply, writing, _asked(prompt or "")))


def form_metrics(form: ReplyForm, verdict: Mapping[str, Any]) -> dict[str, float]:
    """The form as numbers of a sample, 0.0 or 1.0 each.

    Args:
        form: of the reply.
        verdict: the language's numbers of the same reply; `on_target` is read.
    """
    usable = bool(verdict["on_target"]) and not form.broken
    return {
        "usable": float(usable),
        "echo": float(form.name == "echo"),
        "loop": float(form.name == "loop"),
        "empty": float(form.empty),
    }


def _words(text: str) -> list[str]:
    """Words and numbers in lower case, without list numbers: what stays where layout varies."""
    return _LETTERS.findall(_LIST_NUMBER.sub(" ", text.lower()))


def _writing(text: str) -> _Writing:
    """How most letters of a text are written."""
    if text.isascii():
        return _SPACED
    unspaced = UNSPACED_SIGN.findall(text)
    if 2 * len(unspaced) <= len(text):
        return _KOREAN if 2 * len(_HANGUL.findall(text)) > len(text) else _SPACED
    return _HAN if 2 * sum(sign >= "\u3040" for sign in unspaced) >= len(unspaced) else _ALPHABETIC


# --- loops -------------------------------------------------------------------------------------


def _periodic_share(text: str) -> float:
    """Share of the text that the longest periodic stretch at its end takes."""
    return max((covered for _, covered in _periods(text)), default=0) / len(text)


def _periods(text: str) -> Iterator[tuple[int, int]]:
    """Each period that is repeated to the end, and how many letters it covers.

    The last letters stand one period before the end too, so only those places are looked at.
    """
    size, tail = len(text), text[-_MARK:]
    at = text.rfind(tail, 0, size - 1)
    while at >= 0:
        period = size - _MARK - at
        if period * 2 > size:
            return
        if text[-period * 2 :] == text[-period:] * 2:
            covered = period * 2
            while covered < size and text[-covered - 1] == text[-covered - 1 + period]:
                covered += 1
            whole = covered >= CUT_PERIODS * period and covered >= CUT_SHARE * size
            often = covered >= PERIODS * period and covered >= PERIODS_SHARE * size
            many = covered >= MANY_PERIODS * period
            least = LOOP_SYLLABLES if text[-1] >= _SYLLABLES else LOOP_LETTERS
            if covered >= least and (whole or often or many):
                yield period, covered
            # Inside the stretch only multiples of its period follow.
            at = min(at, size - covered)
        at = text.rfind(tail, 0, at + _MARK - 1)


def _marks_share(reply: str) -> float:
    """Share of a row of the same few marks at the end: `「「「「「「`. A line of marks alone is a rule."""
    signs = "".join(reply.split())
    marks = 0
    while marks < len(signs) and not _LETTERS.match(signs[-1 - marks]):
        marks += 1
    row, last = signs[len(signs) - marks :], reply.rstrip().rpartition("\n")[2]
    if marks < MARKS or len(set(row)) > KINDS_OF_MARKS:  # nearly always
        return 0.0
    if not _LETTERS.search(last) and _LETTERS.search(reply):
        return 0.0
    share = marks / len(signs)
    return share if share >= PERIODS_SHARE else 0.0


def _counting_share(reply: str) -> float:
    """Share of a period that repeats but for one number in it: `Day 1: rest. Day 2: rest. Day 3: rest.`

    A table repeats too, and has several numbers in a row.
    """
    if not _COUNTED.search(reply):
        return 0.0
    text = "".join(_words(_COUNTED.sub(" 0 ", _LIST_NUMBER.sub(" ", reply))))[-MOST_LETTERS:]
    for period, covered in _periods(text):
        unit = text[-period:]
        least = PERIOD_LETTERS // 2 if unit[-1] >= _SYLLABLES else PERIOD_LETTERS
        if unit.count("0") == 1 and len(unit) > least:
            return covered / len(text)
    return 0.0


def _near_share(text: str, gram: int) -> float:
    """Share of the letters in stretches that the text holds `PERIODS` times; 0 below `NEAR_LIMIT`."""
    share = _often(text[-NEAR_LETTERS:], gram)
    return _often(text, gram) if share and len(text) > NEAR_LETTERS else share


def _often(text: str, gram: int) -> float:
    """Share of the letters in stretches of `gram` letters that stand there often; 0 below the limits."""
    parts = [text[at : at + gram] for at in range(len(text) - gram + 1)]
    counts = Counter(parts)
    if len(counts) == len(parts):  # as in most text
        return 0.0
    for times, limit in ((MANY_PERIODS, NEAR_LIMIT), (PERIODS, NEAR_OFTEN)):
        often = {part for part, count in counts.items() if count >= times}
        if gram * sum(counts[part] for part in often) < limit * len(text):
            continue
        end = covered = 0
        for at, part in enumerate(parts):
            if part in often:
                covered += at + gram - max(end, at)
                end = at + gram
        if covered >= limit * len(text):
            return covered / len(text)
    return 0.0


# --- echoes ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Asked:
    """What a prompt asks: the parts of it that an echo repeats, as words and as letters."""

    whole: str
    first: str
    questions: tuple[str, ...]


@lru_cache(maxsize=1024)
def _asked(prompt: str) -> _Asked:
    """The last turn of a prompt, and of examples in a row the last."""
    turns = [_ROLE.sub("", part).strip() for part in _TURN.split(prompt)]
    whole = next((turn for turn in reversed(turns) if _LETTERS.search(turn)), "")
    parts = [part for part in whole.split("\n\n") if _LETTERS.search(part)]
    if len(parts) > 1 and parts[-1].split(maxsplit=1)[0] in {p.split(maxsplit=1)[0] for p in parts[:-1]}:
        whole = parts[-1]
    sentences = [sentence for sentence in _ENDS.split(whole) if sentence and _LETTERS.search(sentence)]
    questions = [s for s in sentences if _QUESTION.search(s) and len("".join(_words(s))) >= QUESTION_LETTERS]
    return _Asked(whole, sentences[0] if sentences else "", tuple(questions))


def _echo_share(reply: str, writing: _Writing, asked: _Asked) -> float:
    """Share of the reply that stands in the prompt; 0 if it holds too little of the prompt to repeat it.

    Whole words count: the answer to `which language is spoken in Norway` is a word of its own. So is a number
    that the prompt does not have.
    """
    whole = _units(asked.whole, writing)
    if not whole:
        return 0.0
    text = _units(_LABEL.sub(" ", reply[-MOST_LETTERS:]), writing)
    size = _size(text)
    if not size or size > MOST_PROMPTS * _size(whole):
        return 0.0
    share = _covered(text, whole, writing)
    like = _likeness("".join(text), "".join(whole))
    if writing.words and like < LIKE_ALONE and not _misspelt(text, whole):
        like = 0.0
    if (share < PART_IN_PROMPT or writing is _HAN) and _answers(reply, text, asked, whole, writing):
        return 0.0
    if (share < ECHO_LIMIT / 2 and not like) or not _numbers(reply) <= _numbers(asked.whole):
        return 0.0  # nearly always
    if like:
        return max(share, like)
    back = _covered(whole, text, writing)
    if back >= ECHO_OF_PROMPT:
        first = _covered(_units(asked.first, writing), text, writing)
        if first >= ECHO_OF_PROMPT:
            return share
    ends = text[-1:] == whole[-1:] and len(text) >= 2 * writing.taken - 1 and size >= QUESTION_LETTERS
    if ends and share >= PART_IN_PROMPT and back >= PART_OF_PROMPT and _size(whole) <= SHORT_PROMPT:
        return share
    for question in asked.questions:
        own = _units(question, writing)
        if 2 * _size(own) >= size and _covered(own, text, writing) >= ECHO_OF_QUESTION:
            return share
    return 0.0


def _likeness(text: str, other: str) -> float:
    """How alike two texts of like length are, if they are the same but for a few letters; else 0."""
    if not LIKE_LIMIT <= len(text) / len(other) <= 1 / LIKE_LIMIT or len(text) > MOST_LIKE:
        return 0.0
    matcher = SequenceMatcher(None, text, other, autojunk=False)
    if matcher.quick_ratio() < LIKE_LIMIT:  # nearly always
        return 0.0
    likeness = matcher.ratio()
    return likeness if likeness >= LIKE_LIMIT else 0.0


def _answers(reply: str, text: Sequence[str], asked: _Asked, whole: Sequence[str], writing: _Writing) -> bool:
    """Whether a reply puts a word of its own in the place of a word of the question, and asks nothing."""
    if not writing.words and ("".join(whole) in "".join(text) or _size(text) > _size(whole) * 2):
        return False
    if writing is _HAN:
        asks = _ASKS.search(asked.whole) and not _ASKS.search(reply)
        return bool(asks and _NAMING.search("".join(set(text) - set(whole))))
    if not writing.words:
        return bool(set(_THAI_ASKS.findall(asked.whole)) - set(_THAI_ASKS.findall(reply)))
    if _QUESTION.search(reply) or not _QUESTION.search(asked.whole):
        return False
    return not set(whole) <= set(text) and _size(text) <= _size(whole) * 2 and not _misspelt(text, whole)


def _misspelt(words: Sequence[str], others: Sequence[str]) -> bool:
    """Whether each word is nearly one of the others."""
    known = set(others)
    return all(
        any(SequenceMatcher(None, word, other, autojunk=False).ratio() >= LIKE_WORD for other in known)
        for word in set(words) - known
    )


def _units(text: str, writing: _Writing) -> Sequence[str]:
    """Words, or letters in scripts without spaces."""
    words = _words(text)
    return words if writing.words else "".join(words)


def _size(units: Sequence[str]) -> int:
    """Letters."""
    return sum(map(len, units))


def _numbers(text: str) -> set[str]:
    return set(_NUMBER.findall(_LIST_NUMBER.sub(" ", text)))


def _covered(text: Sequence[str], source: Sequence[str], writing: _Writing) -> float:
    """Share of the letters of `text` in stretches of words or letters that `source` holds too."""
    size = min(writing.taken, len(text), len(source))
    if not size:
        return 0.0
    known = set(_stretches(source, size))
    found = [at for at, part in enumerate(_stretches(text, size)) if part in known]
    covered = bytearray(len(text))
    for at in found:
        covered[at : at + size] = b"\1" * size
    return sum(len(part) for part, own in zip(text, covered, strict=True) if own) / _size(text)


def _stretches(units: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    return zip(*(units[start:] for start in range(size)), strict=False)
