"""The text of a card: its front matter (YAML between lines of dashes), and parts that are written again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lens_eval.base.errors import UserError
from lens_eval.base.settings_files import parse, write

_LINE = "---\n"


@dataclass(frozen=True)
class Card:
    """Front matter and text of a card."""

    matter: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""

    def write(self) -> str:
        """The card as a file holds it."""
        if not self.matter:
            return self.text
        return f"{_LINE}{write(dict(self.matter), width=100)}{_LINE}\n{self.text}"


def read_card(text: str) -> Card:
    """A card as it was written by anybody.

    Raises:
        UserError: its front matter is no YAML.
    """
    if not text.startswith(_LINE):
        return Card({}, text)
    matter, ended, rest = text[len(_LINE) :].partition("\n" + _LINE)
    if not ended:
        return Card({}, text)
    found = parse(matter, "the card's front matter")
    if not isinstance(found, dict):
        raise UserError("the card's front matter holds no fields")
    return Card(found, rest.lstrip("\n"))


def begins(part: str) -> str:
    """The line before a part that is made anew; what stands outside of parts is the user's."""
    return f"<!-- {part}: written by lens card; text outside stays -->"


def ends(part: str) -> str:
    """The line behind a part."""
    return f"<!-- end of {part} -->"


def part_of(text: str, part: str) -> str | None:
    """What stands in a part of a card; None if the card has no such part."""
    _, begun, rest = text.partition(begins(part) + "\n")
    inside, ended, _ = rest.partition(ends(part))
    return inside if begun and ended else None


def with_part(text: str, part: str, inside: str) -> str:
    """The card with a part replaced, or added at its end."""
    new = f"{begins(part)}\n{inside.strip()}\n{ends(part)}"
    old = part_of(text, part)
    if old is None:
        return f"{text.rstrip()}\n\n{new}\n".lstrip("\n")
    return text.replace(f"{begins(part)}\n{old}{ends(part)}", new, 1)
