"""Unicode scripts: which letters a text is written in, and what tells Chinese from Japanese in Han
characters.

Python's standard library does not know scripts; the ranges below are the letter blocks of the scripts that
the languages of `lens_eval.language.languages` use, and of some neighbours, so that an answer in them can be
named.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

# Letters and the marks that belong to them, by ISO 15924 code.
_RANGES: dict[str, str] = {
    "Latn": r"A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02af\u0300-\u036f\u1e00-\u1eff"
    r"\u2c60-\u2c7f\ua720-\ua7ff",
    "Grek": r"\u0370-\u0373\u0376-\u037d\u0386\u0388-\u03ff\u1f00-\u1fff",
    "Cyrl": r"\u0400-\u052f\u1c80-\u1c8f\u2de0-\u2dff\ua640-\ua69f",
    "Armn": r"\u0531-\u0556\u0561-\u0587",
    "Hebr": r"\u0591-\u05c7\u05d0-\u05f2",
    "Arab": r"\u0610-\u061a\u0620-\u065f\u066e-\u06d3\u06d5-\u06dc\u06df-\u06e8\u06ea-\u06ef\u06fa-\u06ff"
    r"\u0750-\u077f\u08a0-\u08ff",
    "Thaa": r"\u0780-\u07b1",
    "Deva": r"\u0900-\u0963\u0971-\u097f",
    "Beng": r"\u0980-\u09e3\u09f0\u09f1\u09fc-\u09fe",
    "Guru": r"\u0a01-\u0a5e\u0a70-\u0a75",
    "Gujr": r"\u0a81-\u0ae3\u0af9-\u0aff",
    "Orya": r"\u0b01-\u0b63\u0b71",
    "Taml": r"\u0b82-\u0bd7",
    "Telu": r"\u0c00-\u0c63",
    "Knda": r"\u0c80-\u0ce3\u0cf1-\u0cf3",
    "Mlym": r"\u0d00-\u0d57\u0d5f-\u0d63\u0d7a-\u0d7f",
    "Sinh": r"\u0d81-\u0ddf\u0df2\u0df3",
    "Thai": r"\u0e01-\u0e3a\u0e40-\u0e4e",
    "Laoo": r"\u0e81-\u0ebd\u0ec0-\u0ecd\u0edc-\u0edf",
    "Tibt": r"\u0f00\u0f18\u0f19\u0f35-\u0f39\u0f3e-\u0fbc",
    "Mymr": r"\u1000-\u103f\u1050-\u108f\u109a-\u109f",
    "Geor": r"\u10a0-\u10ff\u1c90-\u1cbf\u2d00-\u2d2f",
    "Ethi": r"\u1200-\u1360\u1380-\u138f",
    "Khmr": r"\u1780-\u17d3\u17d7\u17dc",
    "Mong": r"\u1820-\u18aa",
    "Olck": r"\u1c5a-\u1c7d",
    "Tfng": r"\u2d30-\u2d67\u2d6f\u2d7f",
    "Nkoo": r"\u07ca-\u07f5",
    "Vaii": r"\ua500-\ua60c\ua610-\ua61f\ua62a\ua62b",
    "Kana": r"\u3041-\u3096\u3099-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff",
    "Hang": r"\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3",
    "Hani": r"\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f",
}

# One character of these carries about as much as this many letters of an alphabet.
LETTERS_PER_CHARACTER: dict[str, float] = {"Hani": 2.5, "Kana": 1.5, "Hang": 2.0}

# A word, or in scripts without spaces a run, of one script: `match.lastgroup` names the script.
# Apostrophes and hyphens inside a word belong to it (don't, ng'ombe, moja-moja).
WORD = re.compile(
    "|".join(
        f"(?P<{script}>[{letters}]+(?:['’ʼ-][{letters}]+)*)"
        if script == "Latn"
        else f"(?P<{script}>[{letters}]+)"
        for script, letters in _RANGES.items()
    )
)

# Kana and Han characters mix in one language: one group. The other groups are scripts.
_GROUPED = {"Hani": "CJK", "Kana": "CJK"}
_GROUP_RANGES: dict[str, str] = {}
for _script, _letters in _RANGES.items():
    _name = _GROUPED.get(_script, _script)
    _GROUP_RANGES[_name] = _GROUP_RANGES.get(_name, "") + _letters
CASED = frozenset({"Latn", "Cyrl", "Grek", "Armn"})
# Groups without spaces between words.
UNSPACED = frozenset({"CJK", "Thai", "Laoo", "Khmr", "Mymr", "Tibt"})
# A sign of such a text, digits included; none of Tibetan, whose syllables a mark divides, nor a rare Han
# character.
UNSPACED_SIGN = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"
)
_LETTER = re.compile(f"[{''.join(_RANGES.values())}]")
_NOT_HAN = re.compile(f"[^{_RANGES['Hani']}]+")


def script_group(script: str) -> str:
    """Return the group of an ISO 15924 code: "CJK" for Han and kana, else the script itself."""
    return "CJK" if script in ("Hani", "Hira", "Kana") else script


@lru_cache(maxsize=64)
def _letters_but(group: str) -> re.Pattern[str]:
    """Letters of all other groups. Compiled when needed: each takes a few milliseconds."""
    return re.compile(f"[{''.join(letters for other, letters in _GROUP_RANGES.items() if other != group)}]")


@lru_cache(maxsize=64)
def _word(group: str) -> re.Pattern[str]:
    letters = _GROUP_RANGES[group]
    return re.compile(f"[{letters}]+" + (f"(?:['’ʼ-][{letters}]+)*" if group == "Latn" else ""))


@lru_cache(maxsize=65536)
def _group_of(letter: str) -> str:
    match = WORD.match(letter)
    return script_group(match.lastgroup or "") if match else ""


def stretches(text: str) -> list[tuple[str, str]]:
    """Cut a text at the letters where its script group changes: group and stretch, in order."""
    found = []
    place = 0
    while first := _LETTER.search(text, place):
        group = _group_of(first[0])
        other = None if text.isascii() else _letters_but(group).search(text, first.end())
        end = other.start() if other else len(text)
        found.append((group, text[first.start() : end]))
        place = end
    return found


def words_of(stretch: str, group: str) -> list[str]:
    """Return the words of a stretch of one script group; without spaces, its unbroken runs of letters."""
    return _word(group).findall(stretch)


def letters_in(words: Sequence[str], group: str) -> float:
    """Return how many letters of an alphabet the words are worth."""
    text = "".join(words)
    if group == "CJK":
        han = len(han_of(text))
        return han * LETTERS_PER_CHARACTER["Hani"] + (len(text) - han) * LETTERS_PER_CHARACTER["Kana"]
    return len(text) * LETTERS_PER_CHARACTER.get(group, 1.0)


def han_of(text: str) -> str:
    """Return the Han characters of a text."""
    return _NOT_HAN.sub("", text)


# Characters that carry Chinese grammar. A Japanese text without kana is a title or a compound, and has none
# of the first, hardly two of the second.
_CHINESE_WORDS = frozenset("你我您她它们這这那哪吗嗎呢吧没沒很也咱啊谁誰怎什么麼从從让讓")
_CHINESE_PARTICLES = frozenset("的了是他就太不想在有和要去到得都说說上个個为為会會能对對来來")


@lru_cache(maxsize=65536)
def _han_evidence(character: str) -> float:
    """Return how much a Han character speaks for Chinese (positive) or Japanese (negative), 0 if for
    neither.

    The national character sets know: GB 2312 holds the simplified forms, Big5 the traditional ones,
    Shift-JIS those of Japanese.
    """
    simplified, traditional, japanese = (
        _encodable(character, codec) for codec in ("gb2312", "big5", "shift_jis")
    )
    if character in _CHINESE_WORDS or ((simplified or traditional) and not japanese):
        return 1.0
    if character in _CHINESE_PARTICLES:
        return 0.5
    return -1.0 if japanese and not simplified and not traditional else 0.0


def _encodable(character: str, codec: str) -> bool:
    try:
        character.encode(codec)
    except UnicodeEncodeError:
        return False
    return True


def han_evidence(han: str) -> tuple[int, int]:
    """Return how much in a text of Han characters alone speaks for Chinese and how much for Japanese."""
    weights = [_han_evidence(character) for character in han]
    return int(sum(weight for weight in weights if weight > 0)), weights.count(-1.0)


@lru_cache(maxsize=65536)
def _chinese_form(character: str) -> str:
    simplified, traditional = _encodable(character, "gb2312"), _encodable(character, "big5")
    if simplified == traditional:
        return ""
    return "Hans" if simplified else "Hant"


def chinese_form(han: str) -> str | None:
    """Return "Hans" or "Hant", whichever form more characters of Chinese text belong to alone; None if
    equal."""
    forms = [_chinese_form(character) for character in han]
    simplified, traditional = forms.count("Hans"), forms.count("Hant")
    if simplified == traditional:
        return None
    return "Hans" if simplified > traditional else "Hant"
