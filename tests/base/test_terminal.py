"""What tables show of strangers' words."""

from __future__ import annotations

import io

import pytest
from rich.table import Table
from rich.text import Text

from lens_eval.base import redaction
from lens_eval.base.terminal import make_console


def test_nothing_printed_on_a_console_moves_the_cursor() -> None:
    stream = io.StringIO()
    console = make_console(file=stream, width=60, force_terminal=True, color_system=None)
    table = Table("name")
    table.add_row(Text("a\x1b[2Jb\x9bc"))
    console.print(table)
    console.print("d\x1b]0;title\x07")
    assert "\x1b[2J" not in stream.getvalue()
    assert "\x1b]0" not in stream.getvalue()
    assert "\x9b" not in stream.getvalue()
    assert "a\\x1b[2Jb\\x9bc" in stream.getvalue()


def test_no_secret_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_noted", {"geheim-123"})
    stream = io.StringIO()
    make_console(file=stream).print("the key is geheim-123.")
    assert stream.getvalue() == "the key is ***.\n"
