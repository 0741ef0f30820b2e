"""Progress for work over two seconds: one bar on a terminal, nothing where output is no terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def progress(iterable: Iterable[Any] | None = None, *, label: str, total: int | None = None) -> Any:
    """Wrap `iterable` in a bar with an estimate of what is left (or return a bar to `.update()`).

    Appears only after two seconds, and only where standard error is a terminal.
    """
    return tqdm(iterable, desc=label, total=total, disable=None, delay=2, dynamic_ncols=True, leave=False)
