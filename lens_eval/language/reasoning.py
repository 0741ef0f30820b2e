"""The reasoning in a response, told from its answer: one reader for language, numbers, options and grades.

`MARKS` holds how models mark their reasoning. A new way is one more line there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

_NAMES = (
    "think|thinking|thinks|thought|thoughts|thought_process|thinking_process|reason|reasoning|reflection|"
    "scratchpad|inner_monologue|internal_monologue|antthinking|ant:thinking|seed:think|analysis|cot"
)


@dataclass(frozen=True)
class Mark:
    """How some models mark reasoning: regular expressions of what opens it and of what ends it.

    Case is ignored. A closing ends reasoning that an opening of the same line of `MARKS` began.
    """

    opening: str
    closing: str
    shown: str
    """The opening as a model writes it; put in front of a response whose prompt ends inside reasoning."""


MARKS = (
    # DeepSeek-R1, Qwen3, many others: a tag of some name, with attributes or without.
    Mark(rf"<\s*(?:{_NAMES})(?:\s[^<>\n]{{0,100}})?>", rf"<\s*/\s*(?:{_NAMES})\s*>", "<think>"),
    # Magistral and relatives: the same names in brackets.
    Mark(rf"\[(?:{_NAMES})\]", rf"\[/(?:{_NAMES})\]", "[THINK]"),
    # Cohere, OpenThinker and relatives: special tokens for begin and end.
    Mark(
        rf"<\|(?:start|begin)_(?:of_)?(?:{_NAMES})\|>|<\|(?:{_NAMES})\|>",
        rf"<\|(?:end|eo)_?(?:of_)?(?:{_NAMES})\|>|<\|/(?:{_NAMES})\|>",
        "<|START_THINKING|>",
    ),
    # Harmony (gpt-oss): channels; what stands in another one than `final` is no answer.
    Mark(
        r"(?:<\|start\|>assistant\s*)?<\|channel\|>\s*(?!final\b)[\w.]+[^<>\n]{0,200}(?:<\|constrain\|>\w+)?<\|message\|>",
        r"(?:<\|(?:end|call|return)\|>\s*)?(?:<\|start\|>assistant\s*)?<\|channel\|>\s*final[^<>\n]{0,100}<\|message\|>"
        r"|<\|end\|>",
        "<|channel|>analysis<|message|>",
    ),
    # The same where a backend leaves special tokens out of the text.
    Mark(r"\A\s*analysis(?=[A-Z])", r"assistantfinal", "analysis"),
    # Gemma: a channel that closes itself.
    Mark(r"<\|channel>\s*(?:thought|analysis)\b", r"<channel\|>", "<|channel>thought"),
    # Kimi.
    Mark(r"◁think▷", r"◁/think▷", "◁think▷"),
    # MedGemma: unused tokens of the vocabulary.
    Mark(r"<unused94>(?:thought)?", r"<unused95>", "<unused94>thought"),
    # Apertus: what is thought stands between an inner prefix and an inner suffix.
    Mark(r"<\|inner_prefix\|>", r"<\|inner_suffix\|>", "<|inner_prefix|>"),
    # Granite: sentences.
    Mark(
        r"\A\s*Here(?: is|'s) my thought process:",
        r"Here(?: is|'s) my response:",
        "Here is my thought process:",
    ),
)

# What can stand around a final answer and says nothing: left out where reasoning was found.
_ANSWER_MARK = re.compile(
    r"<\|channel\|>\s*final[^<>\n]{0,100}<\|message\|>|<\|(?:start|end|begin)_(?:of_)?(?:response|solution|answer)\|>"
    r"|<\|(?:return|end|start|call)\|>(?:assistant)?",
    re.IGNORECASE,
)
# Cheap: a text without any of these has no mark.
_HINT = re.compile(r"[<\[◁]|\A\s*(?:analysis[A-Z]|here)", re.IGNORECASE)


@dataclass(frozen=True)
class Reasoned:
    """A response in its parts."""

    answer: str
    thinking: str
    closed: bool
    """Whether all reasoning ended; if not, the response was cut off inside it."""

    @property
    def cut(self) -> bool:
        """Whether the response is reasoning alone, which never came to an answer."""
        return not self.closed and not self.answer.strip()


@lru_cache(maxsize=1)
def _pattern() -> re.Pattern[str]:
    """Every mark; the groups `o<i>` and `c<i>` are opening and closing of `MARKS[i]`."""
    parts = [f"(?P<c{i}>{mark.closing})|(?P<o{i}>{mark.opening})" for i, mark in enumerate(MARKS)]
    return re.compile("|".join(parts).replace(r"(?=[A-Z])", r"(?-i:(?=[A-Z]))"), re.IGNORECASE)


def _marks(text: str) -> list[tuple[int, bool, int, int]]:
    """Marks of a text in order: (index of the mark, whether it opens, start, end).

    A mark in backticks is spoken of, not used.
    """
    found = []
    for match in _pattern().finditer(text):
        before, after = text[: match.start()][-1:], text[match.end() :][:1]
        if before == "`" and after == "`":
            continue
        kind = match.lastgroup or ""
        found.append((int(kind[1:]), kind[0] == "o", match.start(), match.end()))
    return found


def read_reasoning(text: str, prompt: str | None = None) -> Reasoned:
    """Split a response into its answer and its reasoning, both without marks.

    A closing mark without an opening one ends reasoning that began in the prompt. An opening one that is
    never closed runs to the end. `prompt`, as it was fed, tells of reasoning that it opened: then a response
    without any mark is reasoning to its end.
    """
    begins = opened_by(prompt)
    if begins is None and not _HINT.search(text):
        return Reasoned(text, "", True)
    answer: list[str] = []
    thinking: list[str] = []
    inside, start = begins, 0
    for kind, opens, first, end in _marks(text):
        if not opens and inside is not None and kind != inside and not _ends(kind, inside):
            continue  # the end of something else: a tag that the reasoning speaks of
        part = text[start:first]
        if not opens and inside is None and not thinking:
            if _is_final(text[first:end]):
                answer.append(part)
            else:
                thinking.extend([*answer, part])
                answer.clear()
        else:
            (answer if inside is None else thinking).append(part)
        inside = (kind if inside is None else inside) if opens else None
        start = end
    (answer if inside is None else thinking).append(text[start:])
    if not thinking and inside is None and start == 0:
        return Reasoned(text, "", True)
    reply = _ANSWER_MARK.sub(" ", "\n".join(answer))
    return Reasoned(reply, "\n".join(thinking), inside is None)


def _ends(closing: int, opening: int) -> bool:
    """Whether the mark `closing` may end what `opening` opened: tags of the first three kinds are mixed."""
    return max(closing, opening) <= 2


def _is_final(mark: str) -> bool:
    """Whether a closing mark opens the answer itself, or ends a message, and nothing need stand before it."""
    return "<|" in mark and ("channel" in mark.casefold() or mark.casefold() == "<|end|>")


def opened_by(prompt: str | None) -> int | None:
    """The mark that a prompt, as it is fed, ends inside of; None if it ends outside of reasoning.

    The opening stands at the end of the prompt, or before a few words on its line that begin the response.
    """
    if not prompt:
        return None
    tail = prompt[-400:]
    marks = _marks(tail)
    if not marks or not marks[-1][1]:
        return None
    kind, _, first, end = marks[-1]
    rest = tail[end:].strip()
    own_line = (
        first == 0 or tail[first - 1] in "\n>" or tail[:first].endswith("\n ") or tail[first - 1] == "]"
    )
    return kind if (own_line or not rest) and "\n" not in rest and "<|" not in rest else None


def continued(response: str, prompt: str | None) -> str:
    """The response with the mark in front that its prompt ended in, so that it can be read without it."""
    kind = opened_by(prompt)
    return response if kind is None else MARKS[kind].shown + response


def without_reasoning(text: str, prompt: str | None = None) -> str:
    """The answer alone; empty where the reasoning was cut off."""
    return read_reasoning(text, prompt).answer
