"""`lens` run in this process by its own entry point: fast enough to be tried a thousand times."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

UNFORESEEN = "this was not foreseen"
"""What the `lens` command says of an error that no check has put into words."""


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str

    def require_words(self) -> None:
        """Assert that the command has ended with a result, or with words and status 2."""
        assert self.status in (0, 1, 2), self
        assert UNFORESEEN not in self.err, self.err
        assert os.environ.get("LENS_TRACEBACK") or "Traceback" not in self.err, self.err
        if self.status == 2:
            assert self.said, self
            assert len(self.said.splitlines()) == 1 or "Usage" in self.err, self.err
        for text in (self.out, self.err):
            assert "\x1b" not in text, text

    @property
    def said(self) -> str:
        """What was said last on standard error, from the word `lens:` on; a usage error as it is."""
        place = self.err.rfind("lens: ")
        return self.err[place:].strip() if place >= 0 else self.err.strip()


def lens(*arguments: Any, stdin: bytes = b"") -> Done:
    """Run `lens` with these arguments, in the current folder."""
    from lens_eval.commands.cli import main

    out, err, status = io.StringIO(), io.StringIO(), 0
    with (
        _attribute(sys, "argv", ["lens", *map(str, arguments)]),
        _attribute(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin))),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
    return Done(status, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work in a folder meanwhile."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextlib.contextmanager
def _attribute(thing: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(thing, name)
    setattr(thing, name, value)
    try:
        yield
    finally:
        setattr(thing, name, before)
