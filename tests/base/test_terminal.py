"""What tables show of strangers' words."""

from __future__ import annotations

import ast
import io
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

from lens_eval.base import redaction
from lens_eval.base.progress import progress
from lens_eval.base.terminal import make_console, say

ROOT = Path(__file__).resolve().parents[2]
PRINTING = {"echo", "secho", "write", "writelines"}
"""What prints, of a standard stream, a bar or typer."""
DOORS = {"lens_eval/base/terminal.py", "lens_eval/base/progress.py"}
"""What prints for all others."""


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
    assert "a\\u001b[2Jb\\u009bc" in stream.getvalue()


def test_no_secret_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_noted", {"geheim-123"})
    stream = io.StringIO()
    make_console(file=stream).print("the key is geheim-123.")
    assert stream.getvalue() == "the key is ***.\n"


@pytest.mark.parametrize("err", [False, True])
def test_what_is_said_moves_no_cursor(capsys: pytest.CaptureFixture[str], err: bool) -> None:
    say("a\x1b[2J\rb\x9b\u202e", err=err)
    said = capsys.readouterr()
    assert (said.err, said.out)[not err] == "a\\u001b[2J\\rb\\u009b\\u202e\n"
    assert not (said.out, said.err)[not err]


def test_labels_of_bars_move_no_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    with progress(label="x\x1b[2J", total=2) as bar:
        bar.delay = 0
        bar.set_description("task\x1b]0;t\x07")
    assert "task\\u001b]0;t\\u0007" in stream.getvalue()
    assert "\x1b]0" not in stream.getvalue()
    assert "\x1b[2J" not in stream.getvalue()


def _prints(source: str) -> list[int]:
    """Lines that print by themselves."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        name = called.rpartition(".")[2]
        on_screen = called.startswith(("sys.std", "tqdm.", "typer."))
        if called in ("print", "Console") or (on_screen and name in PRINTING):
            found.append(node.lineno)
    return found


def test_all_text_leaves_by_one_door() -> None:
    files = [file for package in ("lens_eval", "lens_train") for file in (ROOT / package).rglob("*.py")]
    printing = {
        file.relative_to(ROOT).as_posix(): lines
        for file in files
        if (lines := _prints(file.read_text(encoding="utf-8")))
    }
    assert printing.keys() - DOORS <= {"lens_eval/mini/build.py", "lens_eval/tasks/generate.py"}, printing


@pytest.mark.parametrize(
    "line", ["print(x)", "typer.echo(x)", "sys.stderr.write(x)", "tqdm.write(x)", "Console().print(x)"]
)
def test_control_each_way_to_print_is_seen(line: str) -> None:
    assert _prints(line)
