"""Options that several commands take, as values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from lens_eval.base.errors import UserError, did_you_mean
from lens_eval.base.redaction import note_settings, visible

if TYPE_CHECKING:
    from collections.abc import Sequence


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


def read_pairs(text: str | Sequence[str] | None, option: str = "--model-args") -> dict[str, Any]:
    """`a=1,b=x`, or a JSON object, as lm_eval reads its --model_args.

    Raises:
        UserError: it is neither, or an object cut short.
    """
    from lens_eval.upstream.arguments import read

    pairs: dict[str, Any] = {}
    for part in [text] if isinstance(text, str) else text or ():
        pairs |= read(part, option)
    note_settings(pairs)
    return pairs


def say(text: str, nl: bool = True, err: bool = False) -> None:
    """Print text for a reader: without secrets and without control characters."""
    typer.echo(visible(text), nl=nl, err=err)


def say_next(words: str, err: bool = False) -> None:
    """The last line of a command: what to do next, a command to be copied where there is one.

    Args:
        err: for commands whose standard output is read by programs.
    """
    say(f"next: {words}", err=err)
