"""Values of a recipe, each refused with its place if it is not of its kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lens_eval.base.errors import UserError, did_you_mean


def known_keys(raw: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    """Refuse a key that is not known."""
    known = tuple(known)
    for key in raw:
        if key not in known:
            raise UserError(
                f"{where}: unknown key {key!r}{did_you_mean(str(key), known)}; known: {', '.join(known)}"
            )


def mapping(raw: Any, where: str) -> Mapping[str, Any]:
    """`key: value` lines; none if nothing is there."""
    if raw is None:
        return {}
    if not isinstance(raw, Mapping):
        raise UserError(f"{where}: expected `key: value` lines, found {raw!r}")
    return raw


def strings(raw: Any, where: str) -> tuple[str, ...]:
    """A list of names, or a text with commas; each once."""
    if isinstance(raw, str):
        raw = [part.strip() for part in raw.split(",")]
    if not isinstance(raw, (list, tuple)) or not all(isinstance(item, str) and item for item in raw):
        raise UserError(f"{where}: expected a list of names, found {raw!r}")
    twice = sorted({item for item in raw if raw.count(item) > 1})
    if twice:
        raise UserError(f"{where}: named twice: {', '.join(twice)}")
    return tuple(raw)


def boolean(raw: Any, where: str) -> bool:
    """True or false."""
    if not isinstance(raw, bool):
        raise UserError(f"{where}: expected true or false, found {raw!r}")
    return raw


def whole(raw: Any, where: str, least: int) -> int:
    """A whole number of at least `least`."""
    if isinstance(raw, bool) or not isinstance(raw, int) or raw < least:
        raise UserError(f"{where}: expected a whole number of at least {least}, found {raw!r}")
    return raw
