"""What tables of all kinds have in common."""

from __future__ import annotations

SIMULATED = "simulated: a tiny self-made model on self-made items; it shows the mechanism, no model's quality"


def percent(value: float) -> str:
    """A share as percent with one decimal, without a minus before zero."""
    return f"{round(100 * value, 1) + 0.0:.1f}"


def markdown_cell(text: str) -> str:
    """Text that stays text in Markdown: no table breaks, no markup, no HTML."""
    for sign in "\\|`*_<>[]":
        # Interval brackets and underscores in names read better unescaped and do no harm in a cell.
        if sign not in "[]_":
            text = text.replace(sign, "\\" + sign)
    return " ".join(text.split())
