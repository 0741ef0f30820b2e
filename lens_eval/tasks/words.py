"""The words that a prompt adds to an item, per language: read from `words.yaml`, the one table to review.

That file says what each key is for. A family offered in a language needs all of its keys there
(`FAMILY_WORDS`); a language or a word that is missing is an error, never English instead.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from lens_eval.base.errors import UserError, did_you_mean
from lens_eval.tasks.families import LCB_FAMILIES, POLYMATH_FAMILIES

TABLE = Path(__file__).with_name("words.yaml")
UNREVIEWED = "unreviewed"
LETTERS = ("A", "B", "C", "D", "E", "F", "G", "H", "I", "J")
# The order of the alphabet as taught for lists (abjad): the third letter is jim.
ARABIC_LETTERS = ("أ", "ب", "ج", "د")
# The released Lens evaluation has kaf in the third place; kept for its protocol only.
OFFICIAL_ARABIC_LETTERS = ("أ", "ب", "ك", "د")
# No space between sentences, nor before the answer: Chinese, Japanese and Thai. Burmese, whose script has no
# spaces between words either, has them between phrases.
NO_SPACE = frozenset({"zh", "ja", "th"})

FAMILY_WORDS: dict[str, tuple[str, ...]] = {
    "xnli": (
        "answer",
        "reply",
        "premise",
        "hypothesis",
        "relation",
        "entailment",
        "neutral",
        "contradiction",
    ),
    "mgsm": ("question", "steps", "solve", "final"),
    "xcopa": ("answer", "reply", "cause", "effect"),
    "xwinograd": ("answer", "reply", "blank"),
    "xstorycloze": ("answer", "reply", "ending"),
    "mmlu": ("answer", "reply"),
    "kmmlu": ("answer", "reply"),
    "mtbench": (),
    "global_mgsm": ("question", "steps", "solve", "final"),
    **dict.fromkeys(LCB_FAMILIES, ()),
    **dict.fromkeys(POLYMATH_FAMILIES, ("boxed",)),
    "global_mmlu": ("answer", "reply"),
    "global_mmlu_lite": ("answer", "reply"),
    "include": ("answer", "reply"),
    "belebele": ("answer", "reply"),
    "mmlu_prox": ("choose", "final"),
    "mmlu_prox_lite": ("choose", "final"),
}


def _read_table() -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """Return the words by language and key, and who reviewed each language's."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    table = yaml.load(TABLE.read_text(encoding="utf-8"), Loader=loader)  # a safe loader either way
    reviews = {language: entries.pop("review") for language, entries in table.items()}
    return table, reviews


WORDS, REVIEWS = _read_table()
"""The words of a language by key, and who reviewed them: a name, or `unreviewed`."""


def word(language: str, key: str) -> str:
    """Return the word or sentence `key` in a language.

    Raises `UserError` that names this file and the line to add where it is missing.
    """
    words = WORDS.get(language)
    if words is None:
        known = ", ".join(WORDS)
        raise UserError(
            f"no prompt words for language {language!r}{did_you_mean(language, WORDS)}; known: {known}; "
            f"add WORDS[{language!r}] in {TABLE}"
        )
    if key not in words:
        raise UserError(
            f"no word {key!r} for language {language!r}; add WORDS[{language!r}][{key!r}] in {TABLE}"
        )
    return words[key]


def letters(language: str, count: int, official: bool = False, printed: bool = False) -> list[str]:
    """Return the first `count` option letters of a language.

    `printed` are those that a data set prints itself: A to J in every language, at most ten. Else Arabic has
    its own, at most four.
    """
    if language != "ar" or printed:
        return list(LETTERS[:count])
    return list((OFFICIAL_ARABIC_LETTERS if official else ARABIC_LETTERS)[:count])


def list_letters(language: str, count: int, printed: bool = False) -> str:
    """Return the option letters as a list in running text: "A, B, C", "A、B、C", "أ، ب، ج"."""
    comma = {"zh": "、", "ja": "、", "ar": "، ", "ur": "، "}.get(language, ", ")
    return comma.join(letters(language, count, printed=printed))


def label(language: str, key: str, value: str) -> str:
    """Return `value` behind its label: with a space, except after a full-width colon."""
    name = word(language, key)
    return f"{name}{value}" if name.endswith("：") else f"{name} {value}"
