"""What tables of all kinds have in common."""

from __future__ import annotations

from collections.abc import Callable

from lens_eval.base.statistics import Interval

WHY_SIMULATED = "a tiny self-made model on self-made items; it shows the mechanism, no model's quality"
SIMULATED = f"simulated: {WHY_SIMULATED}"


def percent(value: float) -> str:
    """A share as percent with one decimal, without a minus before zero."""
    return f"{round(100 * value, 1) + 0.0:.1f}"


def points(value: float) -> str:
    """A difference of shares in points, with one decimal and its sign; zero is `+0.0`."""
    return f"{round(100 * value, 1) + 0.0:+.1f}"


def bounds(interval: Interval, write: Callable[[float], str] = percent) -> str:
    """`[66.0, 83.7]`, each written by `write`."""
    return f"[{write(interval.low)}, {write(interval.high)}]"


def markdown_cell(text: str) -> str:
    """Text that stays text in Markdown: no table breaks, no markup, no HTML, no links, no pictures."""
    # Interval brackets and underscores in names read better unescaped, and do no harm without a link.
    for sign in ("\\", "|", "`", "*", "<", ">"):
        text = text.replace(sign, "\\" + sign)
    text = text.replace("![", "\\!\\[").replace("](", "]\\(").replace("][", "]\\[").replace("]:", "]\\:")
    return "".join(sign for sign in " ".join(text.split()) if sign.isprintable())
