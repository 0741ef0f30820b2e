"""The letter of an option, read from a worked answer in any wording.

Looked for in this order: the last `\\boxed{}`; the first letter after the last phrase that states an answer,
in any language of the word table; the last letter in brackets or at an end; else none. A letter needs no
space before it: 答案是(B) and 答案是B are read alike.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from lens_eval.language.reasoning import without_reasoning
from lens_eval.tasks.words import WORDS

# Further ways to state an answer; the word table has each language's own.
_PHRASES = (
    *("correct answer", "answer is", "the answer", "final answer", "correct option is", "correct choice is"),
    *("正确答案", "正确选项", "答案", "应选", "故选", "因此选", "选择", "正解", "答え", "정답", "답은"),
    *(
        "la respuesta correcta",
        "la bonne réponse",
        "richtige antwort",
        "правильный ответ",
        "правильный вариант",
    ),
)
_BOXED = re.compile(r"\\boxed\s*\{\s*(?:\\(?:text|mathrm|textbf)\s*\{)?\s*\(?([A-Z])\)?[\s}]")


def read_letter(text: str, letters: Sequence[str]) -> str | None:
    """Return the option letter that a response ends on, one of `letters`, or None."""
    plain = unicodedata.normalize("NFKC", without_reasoning(text))
    boxed = [letter for letter in _BOXED.findall(plain) if letter in letters]
    if boxed:
        return boxed[-1]
    plain = re.sub(r"\\(?:text|mathrm|textbf|mathbf)\s*|[*_`{}$\\]", "", plain)
    # A capital that no Latin letter touches; other scripts may.
    touching = "[A-Za-z0-9]" if "".join(letters).isascii() else r"\w"
    standing = re.compile(rf"(?<!{touching})[{''.join(letters)}](?!{touching}|['’])")
    for phrase in reversed(list(_stated().finditer(plain))):
        after = standing.search(plain, phrase.end())
        if after and _one_sentence(plain[phrase.end() : after.start()]):
            return after[0]
    return _set_apart(plain, standing)


def _one_sentence(between: str) -> bool:
    """Whether a letter behind a phrase still belongs to it: few words lie between, and no sentence ends."""
    return len(between) <= 60 and not re.search(r"[。！？।؟։።]|[.!?](?=\s)", between)


def _set_apart(plain: str, standing: re.Pattern[str]) -> str | None:
    """Return the last letter in brackets, or alone at the end of a line or at its start before a mark."""
    apart = re.compile(
        rf"[(\[【「]\s*({standing.pattern})\s*[)\]】」]|^\s*({standing.pattern})\s*(?:[.:)、,]|$)|"
        rf"(?<=[\s:,،])({standing.pattern})\s*[.。।]?\s*$",
        re.MULTILINE,
    )
    found = [next(filter(None, match.groups())) for match in apart.finditer(plain)]
    return found[-1] if found else None


@lru_cache(maxsize=1)
def _stated() -> re.Pattern[str]:
    """Return what matches a phrase that states an answer, the longest ones first."""
    finals = (words["final"].partition("{number}")[0] for words in WORDS.values() if "final" in words)
    labels = (words["answer"] for words in WORDS.values() if "answer" in words)
    phrases = {unicodedata.normalize("NFKC", text).strip() for text in (*finals, *labels, *_PHRASES)}
    ordered = sorted(phrases, key=len, reverse=True)
    return re.compile("|".join(re.escape(phrase) for phrase in ordered), re.IGNORECASE)
