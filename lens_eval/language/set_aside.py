"""What is no evidence of the language a response is written in, and is set aside before judging.

Code, LaTeX, URLs, markup, list marks, quotations of the prompt and names the prompt contains. Thinking
parts are cut out to be judged apart. Numbers, punctuation and emoji need no work here: they have no script.
Every step is linear in the length of the text.
"""

from __future__ import annotations

import html
import re
import unicodedata
from dataclasses import dataclass

from lens_eval.language.scripts import WORD

_FENCE = re.compile(r"\s{0,3}(?:[-*+>]\s+|\d+[.)]\s+)?(```+|~~~+)")
_INLINE_CODE = re.compile(r"(`+)[^`\n]{1,400}\1")
_URL = re.compile(
    r"(?:https?://|ftp://|www\.)[!-;=?-~]+|(?<![\w.+-])[\w.+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+",
    re.ASCII,
)
_FILE_END = re.compile(
    r"\.(?:com|org|net|edu|gov|io|py|js|html?|pdf|txt|json|csv|md|jpe?g|png|gif|java|cpp|exe|zip|mp[34]|xlsx?|docx?)\b",
    re.ASCII,
)
_FILE = re.compile(r"(?<![\w.])[\w-]{1,60}(?:\.[\w-]{1,60}){0,3}" + _FILE_END.pattern, re.ASCII)
_LINK = re.compile(r"!?\[([^\[\]\n]{0,400})\]\([^()\s]{0,400}\)")
_TAG = re.compile(
    r"<\|[^|<>\n]{1,80}\|>|\[/?INST\]|<!--[^\n]{0,400}?-->|</?[A-Za-z][\w:-]{0,30}(?:\s[^<>\n]{0,300}?=[^<>\n]{0,300})?\s?/?>"
)
# What opens again before it closes is no formula: so each step stays linear.
_DISPLAY_MATH = re.compile(
    r"\$\$[^$]{1,4000}\$\$"
    r"|\\\[(?:(?!\\[\[\]]).){1,4000}\\\]"
    r"|\\\((?:(?!\\[()])[^\n]){1,1000}\\\)"
    r"|\\begin\{(\w{1,20}\*?)\}(?:(?!\\(?:begin|end)\{\1).){1,4000}\\end\{\1\}",
    re.DOTALL,
)
# As in pandoc: no space inside the dollars and no digit behind them, so that two prices are not a formula.
_INLINE_MATH = re.compile(r"\$(?=\S)([^$\n]{1,400})(?<=\S)\$(?!\d)")
_MATH_SIGN = re.compile(r"[\\^_=<>+*/{}]|^\W*\w\W*$")
_PROSE = re.compile(r"[^\W\d_]{3,}\s+[^\W\d_]{3,}")
_COMMAND = re.compile(r"\\[A-Za-z]{1,30}\*?")
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_COMMENT_OR_STRING = re.compile(
    r"\"\"\"[\s\S]{0,4000}?\"\"\"|\"[^\"\n]*\"|'[^'\n]*'|(?:#|//|--).*|/\*[\s\S]{0,4000}?\*/|<!--[\s\S]{0,4000}?-->"
)
# Code outside fences: statements, assignments, lines that end as only code does.
_CODE_LINE = re.compile(
    r"\s*(?:(?:def|class|for|while|if|elif|else|try|except|with|function|switch)\b[ -~]*[:{]"
    r"|(?:import|from|return|print|var|let|const|int|public|private|#include|FOR EACH)\b[ -~]*"
    r"|(?:(?:val|var|let|const|auto|final|static|int|float|double|char|bool|string|String|export|local|my)\s+)?"
    r"(?:mut\s+)?[$@]?[\w.\[\]]{1,40}\s?(?:[-+*/|&:]?=|←|<-)\s?[^=][ -~]*|[ -~]*[;{}]"
    r"|(?:for|while|until|if)\s[ -~]*;\s*(?:do|then)"
    r"|def\s+\w+[!?]?\([ -~]*\)|(?:puts|echo|printf?)\s+[\"'$][ -~]*"
    # a call, and nothing else on its line
    r"|@?[A-Za-z_$][\w.$:!?>-]{0,80}\((?!s\))[ -~]*\)\s*[,:]?)\s*",
    re.ASCII,
)
_CODE_SIGN = re.compile(r"[=;{}\[\]<>←(\"'$]")
# Names as only programs have them, and paths of files.
_IDENTIFIER = re.compile(
    r"(?<![\w'’])[A-Za-z0-9]+(?:_[A-Za-z0-9]+)+(?!\w)|(?<![\w'’])[a-z]{2,}(?:[A-Z][a-z0-9]{2,})+(?!\w)"
    r"|(?<![\w/:])~?(?:/[\w.-]{1,60}){2,}/?",
    re.ASCII,
)
_HUMP = re.compile(r"[a-z][A-Z]")
_RETURN = re.compile(r"\s{2,}return \w+\s*")
_ROMAN = "ivxIVX"
_LIST_MARK = re.compile(
    r"^[\s>#|*+•‣▪●◦–—-]*(?:\(?(?:\d{1,4}|[^\W\d_]|[" + _ROMAN + r"]{1,5})[.)\]:：、]\**(?=\s|$)[\s*]*)*"
)

# Direction marks, joiners, soft hyphens, variation selectors, byte order marks: invisible, and no evidence.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0"
    "\ufff9-\ufffb\U000e0000-\U000e007f\U000e0100-\U000e01ef]"
)
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffc\ufffd]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_UNREADABLE = re.compile(f"[{''.join(each.pattern[1:-1] for each in (_INVISIBLE, _CONTROL, _SURROGATE))}]")


@dataclass(frozen=True)
class Prompt:
    """What of a prompt may reappear in a response without telling its language.

    `names` are its capitalised words inside sentences (and all its Latin words where the prompt is in a
    script without case); `text` is the whole, folded for looking up quotations. `in_code` are names that the
    code of the response itself uses.
    """

    names: frozenset[str]
    text: str
    in_code: frozenset[str] = frozenset()


NO_PROMPT = Prompt(frozenset(), "")


def readable(text: str) -> str:
    """Return `text` without what no reader sees: invisible characters go, control characters become spaces,
    look-alike letters (mathematical alphabets, full-width forms) become plain ones, lone surrogates
    question marks."""
    if text.isascii():
        return _CONTROL.sub(" ", text) if not text.isprintable() else text
    if _UNREADABLE.search(text):
        text = _CONTROL.sub(" ", _INVISIBLE.sub("", _SURROGATE.sub("?", text)))
    return text if unicodedata.is_normalized("NFKC", text) else unicodedata.normalize("NFKC", text)


def set_aside(text: str) -> str:
    """Return `text` with code, LaTeX, URLs and markup replaced by spaces; line breaks outside code stay."""
    if "```" in text or "~~~" in text:
        text = _without_fences(text)
    if "`" in text:
        text = _INLINE_CODE.sub(" ", text)
    if "$" in text or "\\" in text:
        text = _DISPLAY_MATH.sub(" ", text)
        text = _INLINE_MATH.sub(_without_formula, text)
        text = _COMMAND.sub(" ", text)
    if "](" in text:
        text = _LINK.sub(r" \1 ", text)
    if "://" in text or "www." in text or "@" in text:
        text = _URL.sub(" ", text)
    if _FILE_END.search(text):
        text = _FILE.sub(" ", text)
    if "<" in text or "[" in text:
        text = _TAG.sub(" ", text)
    if "&" in text:
        text = html.unescape(text)
    return text


def _without_fences(text: str) -> str:
    kept: list[str] = []
    fence = ""
    for line in text.split("\n"):
        mark = _FENCE.match(line)
        if not fence:
            kept.append("" if mark else line)
            fence = mark[1] if mark else ""
            if mark and line.rstrip().endswith(fence) and line.count(fence) > 1:
                fence = ""  # opened and closed in one line
        elif mark and mark[1].startswith(fence):
            fence = ""
    return "\n".join(kept)


def names_in_code(text: str) -> frozenset[str]:
    """Return the names that the fenced code of a text uses, without their last digits.

    Words of comments and strings are none.
    """
    if "```" not in text and "~~~" not in text:
        return frozenset()
    kept = set(_without_fences(text).split("\n"))
    code = "\n".join(line for line in text.split("\n") if line not in kept)
    return frozenset(name.rstrip("0123456789") for name in _NAME.findall(_COMMENT_OR_STRING.sub(" ", code)))


def _without_formula(match: re.Match[str]) -> str:
    inside = match[1]
    if "\\" in inside or (_MATH_SIGN.search(inside) and not _PROSE.search(inside)):
        return " "
    return match[0]


def is_code(line: str) -> bool:
    """Return whether a line outside a code fence is program code."""
    if _CODE_SIGN.search(line) and _CODE_LINE.fullmatch(line):
        return True
    return line[:1].isspace() and bool(_RETURN.fullmatch(line))


def without_identifiers(text: str) -> str:
    """Return text without names as only programs have them (`first_name`, `readLine`) and paths."""
    if "_" in text or "/" in text or _HUMP.search(text):
        return _IDENTIFIER.sub(" ", text)
    return text


def without_list_mark(line: str) -> str:
    """Return a line without its bullets, numbers, option letters, heading and quotation marks."""
    opening = line[:2]
    if len(opening) == 2 and opening.isalpha() and opening[0] not in _ROMAN:
        return line  # as most lines: two letters are no mark, but for Roman numbers
    return line[_LIST_MARK.match(line).end() :]  # type: ignore[union-attr]  # it matches everywhere


def read_prompt(prompt: str | None) -> Prompt:
    """Return the names and the folded text of a prompt."""
    if not prompt:
        return NO_PROMPT
    prompt = readable(prompt)
    words = [(match.lastgroup, match[0], match.start()) for match in WORD.finditer(prompt)]
    latin = sum(len(word) for script, word, _ in words if script == "Latn")
    if 2 * latin < sum(len(word) for _, word, _ in words):
        names = {word.casefold() for script, word, _ in words if script == "Latn"}
    else:
        names = {
            word.casefold()
            for _, word, start in words
            if word[0].isupper() and not _opens_sentence(prompt, start)
        }
        names -= {word for _, word, _ in words if word.islower()}
    return Prompt(frozenset(names), folded(prompt))


def _opens_sentence(text: str, start: int) -> bool:
    before = text[max(0, start - 12) : start].rstrip(" \t\"'“”«»‘’([*_-")
    return not before or before[-1] in ".!?:;…\n¿¡।。！？"


def folded(text: str) -> str:
    """Return a text as quotations are looked up: in small letters, with single spaces."""
    return " ".join(text.casefold().split())
