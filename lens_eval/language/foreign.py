"""Foreign words inside native sentences: a Chinese word in Korean, `however` in Spanish.

Names, words of the prompt, what stands in quotation marks or brackets, abbreviations and accepted borrowings
are none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from lens_eval.language.common_words import of_one_alone, only, titled
from lens_eval.language.scripts import CASED, han_of
from lens_eval.language.sentences import Run, Unit, runs_of
from lens_eval.language.set_aside import Prompt

MIN_LETTERS = 3
"""Shorter words of one script are too alike between languages."""
_ASIDE = re.compile(
    r"[(（\[{][^()（）\[\]{}\n]{0,200}[)）\]}]|[\"“„«「『《][^\"“”„«»「」『』《》\n]{1,200}[\"”“»」』》]"
    r"|(?<!\w)[‘'][^‘’'\n]{1,200}[’'](?!\w)|\*{1,3}[^*\n]{1,200}\*{1,3}"
)
_NOTATION = re.compile(
    r"\b[A-Za-z_][\w.]{0,60}(?=\([!-'*-~ ]{0,60}[()])|[!-~π±√]{0,60}[=^\\<>±√π][!-~π±√]{0,60}"
    r"|\d[A-Za-z]{1,3}\b|\b[a-z]\w{0,60}[._]\w+",
    re.ASCII,
)
"""Calls, formulas and identifiers: `sqrt(2)`, `v^2/R`, `4zy`, `list_a`."""
_HAN = re.compile(r"[\u3400-\u9fff]+")
_BORROWED = (
    "app apps blog bug chat chatbot click cloud cm cookie cv dl dna e-mail email emoji emojis etc "
    "feedback fps gb hardware html http https internet ipad iphone kb kcal kg km kwh laptop link log "
    "login max mb mg min ml mm mod mp mph ms offline online pdf ph php podcast python server sin "
    "smartphone software spam sql sqrt startup tv url usb vs web website wi-fi wifi www xml "
)
_NATIVE_TOO = {
    "af": "had her over was",
    "ca": "any are has",
    "da": "all for have her over",
    "de": "also her was will",
    "es": "has",
    "fr": "are but",
    "ha": "can",
    "nb": "all for her over",
    "nl": "all had her over was",
    "nn": "all for her over",
    "ro": "are",
    "sv": "all for her over",
    "tl": "may",
    "tr": "her",
    "vi": "can may than",
}
"""Words of a language that are written as a common English word: German `also`, Spanish `has`."""
_ACCEPTED = frozenset(_BORROWED.split())


def foreign_words(
    lines: Iterable[str], language: str, central: str, groups: frozenset[str], prompt: Prompt
) -> tuple[tuple[str, ...], int]:
    """Return the foreign words of lines judged on target, in order, and how many are not of the central
    language."""
    found: list[str] = []
    others = 0
    for line in lines:
        text = _ASIDE.sub(" ", _NOTATION.sub(" ", line))
        for run in runs_of(text, prompt):
            if run.group == "Latn" and text.isupper():
                continue  # abbreviations in a script without case
            if run.group not in groups:
                words = _of_another_script(run.words, run.group, prompt)
            elif run.group == "CJK":
                words = [word for word in _of_the_other_cjk(run.words, language) if word not in prompt.text]
            else:
                words = _of_the_central(run.words, language, central, prompt)
            found += words
            others += len(words) if run.group != "Latn" or central == language else 0
    return tuple(found), others


def all_native(units: Iterable[Unit], language: str, central: str, groups: frozenset[str]) -> bool:
    """Return whether sentences have nothing that could be a foreign word, as nearly all have not."""
    return all(len(unit) == 1 and _native(unit[0], language, central, groups) for unit in units)


def _native(run: Run, language: str, central: str, groups: frozenset[str]) -> bool:
    if run.group == "CJK":
        return False
    if run.group != "Latn":
        return True
    return run.group in groups and (
        language == central or of_one_alone(central, language).isdisjoint(run.words)
    )


def _of_another_script(words: Sequence[str], group: str, prompt: Prompt) -> list[str]:
    return [
        word
        for at, word in enumerate(words)
        if (group not in CASED or (word.islower() and len(word) > 1 and not titled(words, at)))
        and word.casefold() not in _ACCEPTED
        and word.casefold() not in prompt.text
        and word not in prompt.in_code
    ]


def _of_the_other_cjk(words: Sequence[str], language: str) -> list[str]:
    if language == "zh":
        return [word for word in words if len(word) - len(han_of(word)) > 1]
    if language != "ja":
        return []
    return [han for word in words for han in _HAN.findall(word) if _not_japanese(han)]


def _not_japanese(han: str) -> bool:
    try:
        han.encode("shift_jis_2004")
    except UnicodeEncodeError:
        return True
    return False


def _of_the_central(words: Sequence[str], language: str, central: str, prompt: Prompt) -> list[str]:
    if language == central:
        return []
    stray = set(only(words, central, language)).difference(_NATIVE_TOO.get(language, "").split())
    return [
        word
        for at, word in enumerate(words)
        if word in stray
        and word.islower()
        and len(word) >= MIN_LETTERS
        and not titled(words, at)
        and word not in prompt.text
        and word not in prompt.in_code
    ]
