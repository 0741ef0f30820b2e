"""One response to judge, and a line that could not be read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Response:
    """One response to judge. `item` names what it answers (the same in every language), None if unknown;
    `cut` says whether the token limit ended it, None if the row does not tell."""

    text: str | None
    language: str
    prompt: str | None
    item: str | None
    correct: float | None
    file: str
    line: int
    cut: bool | None = None
    source: str | None = None
    """The data set its prompt is from, in files of the Language Confusion Benchmark."""


@dataclass(frozen=True)
class Broken:
    """A line that could not be read, and why."""

    file: str
    line: int
    reason: str
