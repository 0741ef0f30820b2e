"""What a reply repeats of its prompt, in any marks or none, and titles: no evidence of its language."""

from __future__ import annotations

import re

from lens_eval.language.set_aside import Prompt, folded

_MARKS = "\"“„«「『《‘'*_”»」』》’`‹›()[]<>|（）［］【】"
_QUOTED = re.compile(
    r"[\"“„«「『《](?P<a>[^\"“”„«»「」『』《》\n]{2,1000})[\"”“»」』》]"
    r"|(?<!\w)[‘‹](?P<b>[^‘‹›\n]{2,1000}?)[’›](?!\w)"
    r"|(?<![\w*])(?P<marks>\*{1,3}|_{1,3})(?P<c>[^*_\n]{2,1000})(?P=marks)(?![\w*])"
)
MIN_WORDS = 4
"""A bare repetition of the prompt takes so many words, or `MIN_LETTERS` letters without spaces."""
MIN_LETTERS = 10
LONGEST = 200_000
"""Nothing is looked for in a longer text: each quotation is looked up in the prompt."""
_SENTENCE = re.compile(r"[^.!?。！？\n:]+[.!?。！？]*|:")


def without_quotations(text: str, prompt: Prompt) -> str:
    """Return `text` without spans in quotation or emphasis marks, lines and sentences of the prompt.

    Bare repetitions only go where something is left: a reply that is nothing else is judged as it is.
    """
    if not prompt.text:
        return text

    def marked(match: re.Match[str]) -> str:
        inside = match["a"] or match["b"] or match["c"]
        return " " if _stands_in(inside, prompt) else match[0]

    if len(text) > LONGEST:
        return text
    text = _QUOTED.sub(marked, text)
    left = "\n".join(_without_bare(line, prompt) for line in text.split("\n"))
    return left if any(letter.isalpha() for letter in left) else text


def _without_bare(line: str, prompt: Prompt) -> str:
    core = line.strip().lstrip(">-•# ").strip(_MARKS + " ")
    if _long(core) and _stands_in(core, prompt):
        return ""
    return _SENTENCE.sub(lambda m: " " if _long(m[0]) and _stands_in(m[0], prompt) else m[0], line)


def _long(text: str) -> bool:
    return len(text.split(None, MIN_WORDS)) >= MIN_WORDS or (
        not text.isascii() and sum(map(str.isalpha, text)) >= MIN_LETTERS
    )


def _stands_in(text: str, prompt: Prompt) -> bool:
    inside = folded(text).strip(_MARKS + " ")
    return bool(inside) and inside in prompt.text
