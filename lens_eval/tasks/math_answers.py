r"""The answer of a mathematics problem: the last `\boxed{}`, compared by value.

Two numbers are compared as numbers. Other LaTeX (roots, sets, intervals) is parsed and compared by
math-verify, in the extra `math`; whoever asks for problems that need it is told before any work.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fractions import Fraction
from functools import lru_cache
from importlib.util import find_spec

from lens_eval.base.errors import UserError
from lens_eval.language.reasoning import without_reasoning

_BOXED = re.compile(r"\\boxed\s*\{|\\fbox\s*\{")
_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d+)?|\.\d+)(?:/\d+)?")
_FRACTION = re.compile(r"\\[dt]?frac\s*\{\s*(-?\d+)\s*\}\s*\{\s*(\d+)\s*\}|\\[dt]?frac\s*(\d)\s*(\d)(?!\d)")
_DECORATION = re.compile(r"\\(?:left|right|displaystyle|,|;|!|:|quad|\$|%)|[$\s°]|\^\s*\{?\\circ\}?|\\%|%")
_WORDS = re.compile(r"\\(?:text|mathrm|textbf|mbox|operatorname)\s*\{[^{}]*\}")
# Longer texts are no answers, and cost a parser minutes.
_MAX_LENGTH = 400


def read_boxed(text: str) -> str | None:
    r"""Return what the last complete `\boxed{...}` of a text holds, thinking left out, or None."""
    visible = without_reasoning(text)
    for start in reversed(list(_BOXED.finditer(visible))):
        depth = 1
        for place in range(start.end(), len(visible)):
            depth += {"{": 1, "}": -1}.get(visible[place], 0)
            if depth == 0:
                return visible[start.end() : place].strip()
    return None


def plain_number(text: str) -> Fraction | None:
    """Return the value of a text that is one number (in any script's digits), or None."""
    digits = "".join(
        str(int(character))
        if character.isdecimal()
        else {"٫": ".", "٬": ",", "−": "-"}.get(character, character)
        for character in text
    )
    bare = _DECORATION.sub("", _WORDS.sub("", digits)).replace("{,}", ",")
    fraction = _FRACTION.fullmatch(bare.removeprefix("-"))
    if fraction:
        above, below = (fraction[1], fraction[2]) if fraction[1] else (fraction[3], fraction[4])
        sign = -1 if bare.startswith("-") else 1
        return sign * Fraction(int(above), int(below)) if int(below) else None
    if re.fullmatch(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?", bare):
        bare = bare.replace(",", "")
    if not _NUMBER.fullmatch(bare):
        return None
    above, _, below = bare.partition("/")
    return Fraction(above) / int(below or 1) if int(below or 1) else None


def same_value(found: str, reference: str) -> bool:
    """Whether an answer has the value of the reference.

    Raises:
        UserError: LaTeX has to be parsed and math-verify is not installed (see `need_parser`).
    """
    theirs = plain_number(reference)
    ours = plain_number(found) if theirs is None else _lone_number(found)
    if ours is not None and theirs is not None:
        return ours == theirs
    if _bare(found) == _bare(reference):
        return True
    if len(found) > _MAX_LENGTH or (theirs is not None and not re.search(r"\\|[-+*/^]", found)):
        return False
    if find_spec("math_verify") is None:
        if theirs is not None:  # a number against what is none: nothing that was promised needs the parser
            return False
        raise UserError(_advice("an answer"))
    return _verified(found, reference)


def _lone_number(text: str) -> Fraction | None:
    """Return the number of a text that holds one and no formula: `18`, `x = 18`, `$18$ dollars`, `১৮টি`."""
    value = plain_number(text)
    if value is not None:
        return value
    last = _DECORATION.sub(" ", _WORDS.sub(" ", text)).rpartition("=")[2]
    pieces = re.findall(r"[-−+]?\d[\d.,٫٬]*(?:/\d+)?", last)
    if len(pieces) != 1 or re.search(r"[\\^*_(){}\[\]+/√π]", last.replace(pieces[0], "")):
        return None
    return plain_number(pieces[0].rstrip(".,"))


def need_parser(references: Iterable[str], task: str) -> None:
    """Refuse, before work, problems whose answers only math-verify can compare if it is not installed.

    Raises:
        UserError: it is not.
    """
    if find_spec("math_verify") is None and any(plain_number(reference) is None for reference in references):
        raise UserError(_advice(task))


def _advice(what: str) -> str:
    return (
        f"{what}: LaTeX is compared by math-verify, which is not installed; "
        "pip install 'lens-multilingual[math]'"
    )


def _bare(text: str) -> str:
    return _DECORATION.sub("", text).replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")


@lru_cache(maxsize=4096)
def _verified(found: str, reference: str) -> bool:
    from math_verify import parse, verify

    # Without a time limit of its own: that one uses signals, which only a main thread has.
    gold = parse(f"${reference}$", parsing_timeout=None)
    answer = parse(f"${found}$", parsing_timeout=None)
    return bool(gold) and bool(answer) and bool(verify(gold, answer, timeout_seconds=None))
