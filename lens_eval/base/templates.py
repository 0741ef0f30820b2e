"""A chat template rendered within limits; its faults in one line; proof that it writes the prompt.

A template is a program that came with a model. It can fail in any way, run for ever, or leave the prompt out.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from lens_eval.base.errors import UserError

SECONDS = 10.0
"""Longest time for one rendering."""
CHARACTERS = 1_000_000
"""Most characters that a template may add to its messages."""


class _TooLong(BaseException):
    """No `Exception`, so that no template's own code catches it."""


def rendered(
    make: Callable[[], Any], messages: Sequence[Mapping[str, Any]], name: str, system: bool = False
) -> str:
    """What `make` renders of `messages`, with the text of every user message in it, in their order.

    Args:
        make: renders; whatever it raises is told in one line.
        name: of the model, for messages.
        system: whether the system message must be in it too. lm_eval leaves one out if a template refuses it.

    Raises:
        UserError: the template fails, takes too long, writes too much, or leaves a message out.
    """
    try:
        with _limited(SECONDS):
            text = make()
    except _TooLong:
        raise UserError(
            f"the chat template of {name} does not come to an end within {SECONDS:.0f} s"
        ) from None
    except Exception as error:
        raise UserError(f"the chat template of {name} fails: {_in_a_line(error)}") from None
    if not isinstance(text, str):
        raise UserError(f"the chat template of {name} renders no text but {type(text).__name__}")
    contents = [c if isinstance(c := message.get("content"), str) else "" for message in messages]
    if len(text) > CHARACTERS + 10 * sum(map(len, contents)):
        raise UserError(f"the chat template of {name} writes {len(text):,} characters around a prompt")
    squeezed, behind = "".join(text.split()), 0
    for message, content in zip(messages, contents, strict=True):
        wanted, role = "".join(content.split()), message.get("role")
        if system and role == "system" and wanted not in squeezed:
            raise UserError(f"the chat template of {name} leaves the system message out of what it renders")
        if role == "user":
            # Behind the message before it: a dialogue whose turns are dropped or swapped is another one.
            place = squeezed.find(wanted, behind)
            if place < 0:
                raise UserError(
                    f"the chat template of {name} leaves the prompt out of what it renders; templates that "
                    "expect `content` as a list of parts do; give the model a chat_template.jinja that takes "
                    "text"
                )
            behind = place + len(wanted)
    return text


def _in_a_line(error: Exception) -> str:
    words = " ".join(str(error).split())[:300]
    kind = type(error).__name__
    return f"{kind}: {words}" if words else kind


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise `_TooLong` in this block after so many seconds; only the main thread can be interrupted so."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
