"""Local paths in what is handed on: they tell of the machine, and lead nowhere elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

_LOCAL = re.compile(r"(~|\.{1,2})?/.+|~.*|file:.*", re.DOTALL)
_WINDOWS = re.compile(r"[A-Za-z]:[\\/].*", re.DOTALL)


def is_local(value: str) -> bool:
    """Whether a text is a path on a machine rather than a hub id, a name or a sentence."""
    return "\n" not in value and bool(_LOCAL.fullmatch(value) or _WINDOWS.fullmatch(value))


def last_part(value: str) -> str:
    """A local path by its last part alone; every other text as it is."""
    if not is_local(value):
        return value
    kind = PureWindowsPath if _WINDOWS.fullmatch(value) else PurePosixPath
    name = kind(value).name
    return name if name and not is_local(name) else "local"  # `~name` is another's home


def without_paths(value: Any) -> Any:
    """JSON with every local path by its last part alone."""
    if isinstance(value, str):
        return last_part(value)
    if isinstance(value, Mapping):
        return {name: without_paths(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths(each) for each in value]
    return value
