"""Options that several commands take, as values."""

from __future__ import annotations

from typing import Any

from lens_eval.base.errors import UserError, did_you_mean
from lens_eval.base.redaction import is_secret_name, note
from lens_eval.base.terminal import say


def read_codes(languages: str | None) -> tuple[str, ...]:
    """The codes of a list with commas, as this project writes them; each once."""
    from lens_eval.runs.recipe import language_code

    codes = [code.strip() for code in (languages or "").split(",") if code.strip()]
    return tuple(dict.fromkeys(language_code(code) for code in codes))


def read_backend(name: str) -> str:
    from lens_eval.runs.recipe import BACKENDS

    if name not in BACKENDS:
        raise UserError(
            f"unknown backend {name!r}{did_you_mean(name, BACKENDS)}; known: {', '.join(BACKENDS)}"
        )
    return name


def read_pairs(text: str | None, option: str = "--model-args") -> dict[str, Any]:
    """`a=1,b=x` as lm_eval reads its --model_args."""
    pairs: dict[str, Any] = {}
    for part in (text or "").split(","):
        if part.strip():
            key, separator, value = part.partition("=")
            if not separator:
                raise UserError(f"{option}: {part!r} is not key=value")
            pairs[key.strip()] = _plain_value(value.strip())
            if is_secret_name(key.strip()):
                note(value.strip())
    return pairs


def say_next(words: str, err: bool = False) -> None:
    """The last line of a command: what to do next, a command to be copied where there is one.

    Args:
        err: for commands whose standard output is read by programs.
    """
    say(f"next: {words}", err=err)


def _plain_value(text: str) -> Any:
    from lens_eval.base import settings_files

    value = settings_files.parse(text, text)
    return text if isinstance(value, (dict, list)) or value is None else value
