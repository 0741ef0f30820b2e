"""Whether an answer stands in a text, in any script."""

from __future__ import annotations

import re
import unicodedata


def contains(text: str, answer: str) -> bool:
    """Whether `answer` stands in `text`; case, width, and the script of digits do not count.

    A Latin, Greek or Cyrillic letter or a digit at the edge of the answer must be the edge of a word or
    number ("5" is not in "15" or "1.5"). Other scripts write no spaces or glue particles to words: a
    substring is enough.
    """
    haystack, needle = _plain(text), _plain(answer)
    if not needle:
        return False
    before, after = _EDGES_BEFORE[_kind(needle[0])], _EDGES_AFTER[_kind(needle[-1])]
    return re.search(before + re.escape(needle) + after, haystack) is not None


_EDGES_BEFORE = {"letter": r"(?<!\w)", "digit": r"(?<!\d)(?<!\d[.,٫])", "other": ""}


_EDGES_AFTER = {"letter": r"(?!\w)", "digit": r"(?!\d)(?![.,٫]\d)", "other": ""}


_ARABIC_MARKS = re.compile("[\u064b-\u0652\u0640]")


def _kind(character: str) -> str:
    if character.isdecimal():
        return "digit"
    spaced = unicodedata.name(character, "").startswith(("LATIN", "GREEK", "CYRILLIC"))
    return "letter" if spaced else "other"


def _plain(text: str) -> str:
    folded = _ARABIC_MARKS.sub("", unicodedata.normalize("NFKC", text)).casefold()
    digits = "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in folded)
    return " ".join(digits.split())
