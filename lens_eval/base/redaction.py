"""Secrets and strangers' words: what may not be written or printed as it came.

A secret is noted where it enters (`note`): from the environment, model arguments, a recipe, a header. It is
taken out wherever text leaves (`hide`): files, pages, terminal, tracebacks.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

MASK = "***"
_SHORTEST = 6
_NAME = re.compile(
    r"(?i)(^|[_.-])(api[_-]?keys?|keys?|tokens?|secrets?|passwords?|passwd|credentials?|authorization|auth)$"
)
_NO_SECRETS = re.compile(
    r"(?i)(true|false|none|null|auto|empty|dummy|token|secret|password|[\d.]{1,7}|no-?key.*)?"
)
_FORMS = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{20,})"
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)|(?i:(?<=bearer )[A-Za-z0-9._~+/=-]{8,})"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_noted: set[str] = set()


def is_secret_name(name: str) -> bool:
    """Whether a setting of this name holds a secret: `token`, `api_key`, `HF_TOKEN`; not `max_tokens`."""
    return bool(_NAME.search(name)) and not re.search(
        r"(?i)(max|new|num|think|end|pad|eos|bos)\w*$", _before(name)
    )


def _before(name: str) -> str:
    return re.sub(r"[_.-]?[a-zA-Z]+$", "", name)


def note(value: Any) -> None:
    """Remember a secret; what is too short or too common to be one is left alone."""
    if isinstance(value, str):
        for each in {value, value.strip(), *_CONTROL.split(value)}:
            if len(each) >= _SHORTEST and not _NO_SECRETS.fullmatch(each):
                _noted.update((each, quote(each, safe=""), repr(each)[1:-1], json.dumps(each)[1:-1]))


def note_settings(settings: Mapping[str, Any]) -> None:
    """Remember the secrets among settings, at any depth."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            note_settings(value)
        elif isinstance(value, list | tuple):
            note_settings({f"{place}.{name}": each for place, each in enumerate(value)})
        elif is_secret_name(str(name)):
            note(value)


def note_environment() -> None:
    """Remember the secrets of the environment."""
    note_settings(os.environ)


def hide(text: str) -> str:
    """`text` without the noted secrets and without what has the form of one."""
    for secret in sorted(_noted, key=len, reverse=True):
        if secret in text:
            text = text.replace(secret, MASK)
    return _FORMS.sub(MASK, text)


def visible(text: str) -> str:
    """Text for a terminal: without secrets; control characters, which could move the cursor, as escapes.

    The escapes are those of JSON: a document stays one.
    """
    return "".join(_shown(sign) for sign in hide(text))


def _shown(sign: str) -> str:
    if sign in "\n\t" or sign.isprintable() or sign in "\u200c\u200d\u3000\u00a0":
        return sign
    return json.dumps(sign)[1:-1]


def without_secrets(value: Any) -> Any:
    """The same value with secrets masked: by the name of a setting, and wherever a noted one is in text."""
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, Mapping):
        return {name: _masked(str(name), each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(each) for each in value]
    return value


def _masked(name: str, value: Any) -> Any:
    secret = is_secret_name(name) and isinstance(value, str) and not _NO_SECRETS.fullmatch(value)
    return MASK if secret else without_secrets(value)
