"""The `lens` command as a user meets it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lens_eval.base.project import VERSION

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "transformers", "lm_eval", "vllm", "pandas", "datasets")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lens_eval", *arguments], capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize(
    "module", ["lens_eval", "lens_train", "lens_eval.commands.cli", "lens_eval.language.off_target"]
)
def test_importing_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_control_heavy_modules_would_be_seen() -> None:
    code = f"import sys, torch; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "torch" in done.stdout


def test_help_names_every_command() -> None:
    from lens_eval.commands.cli import COMMANDS

    done = run("--help")
    assert done.returncode == 0
    for name in [*COMMANDS, "backbone", "languages"]:
        assert name in done.stdout


def test_every_command_has_help() -> None:
    from lens_eval.commands.cli import COMMANDS

    for name in COMMANDS:
        done = run(name, "--help")
        assert done.returncode == 0, name
        assert "Usage" in done.stdout, name


def test_mistakes_end_with_status_2_and_no_traceback() -> None:
    given = {"--model": "builtin", "--languages": "en,xx-unknown", "--data": "builtin", "--output": "o"}
    done = run("probe", *(word for pair in given.items() for word in pair))
    assert done.returncode == 2
    assert "xx-unknown" in done.stderr
    assert "Traceback" not in done.stderr


def test_unknown_command_ends_with_status_2() -> None:
    assert run("prboe").returncode == 2


def test_module_names_resolve_without_running_anything() -> None:
    done = run("backbone")
    assert done.returncode == 0
    assert done.stdout.strip().endswith("backbone")


def as_lens(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The installed command's own name, which shells complete and help texts show."""
    code = "import sys; sys.argv[0] = 'lens'; from lens_eval.commands.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
    )


def test_short_help_and_the_version() -> None:
    assert as_lens("--version").stdout.strip() == VERSION
    assert as_lens("-h").stdout == as_lens("--help").stdout
    assert as_lens("score", "-h").stdout == as_lens("score", "--help").stdout != ""


def test_help_is_whole_at_80_columns() -> None:
    from typer.main import get_command

    from lens_eval.commands.cli import app

    group = get_command(app)
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        shown = as_lens(name, "--help", COLUMNS="80", TERMINAL_WIDTH="80").stdout
        assert max(map(len, shown.splitlines())) <= 80, name
        assert "…" not in shown
        words = " ".join(shown.split())
        for parameter in command.params:
            text = " ".join((getattr(parameter, "help", None) or "").split())
            assert text in words, f"{name}: {text}"


def test_shells_complete_commands_options_and_values() -> None:
    def completed(*words: str) -> list[str]:
        typed = " ".join(["lens", *words])
        done = as_lens(_LENS_COMPLETE="complete_bash", COMP_WORDS=typed, COMP_CWORD=str(len(words)))
        return done.stdout.split()

    assert completed("sc") == ["score"]
    assert "--fail-above" in completed("score", "--fail")
    assert completed("train", "--method", "xsft_") == ["xsft_large", "xsft_lora", "xsft_top"]
    assert "demo" in completed("reproduce", "de")
    assert completed("eval", "--backend", "v") == ["vllm"]
    assert (
        "complete"
        in as_lens("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1").stdout
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("languages",), "lens score"),
        (("tasks", "--languages", "sw"), "lens eval"),
        (("score", "{replies}", "--language", "sw"), "--verdicts"),
        (("calibrate", "--languages", "en,sw", "--lengths", "0"), "lens score"),
        (("compare", "{demo}"), "--output FOLDER"),
        (("push", "{variant}", "a/b", "--dry-run"), "lens push"),
        (("card", "{variant}"), "--dry-run"),
    ],
)
def test_the_last_line_says_what_to_do_next(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    (tmp_path / "r.jsonl").write_text('{"text": "Mvua itanyesha kesho asubuhi."}\n', encoding="utf-8")
    places = {"replies": tmp_path / "r.jsonl", "demo": ROOT / "results" / "demo"}
    if "{variant}" in arguments:
        places["variant"] = trained(tmp_path / "variant")
    done = run(*(word.format(**places) for word in arguments))
    assert done.returncode == 0, done.stderr
    last = (done.stderr or done.stdout).splitlines()[-1]
    assert last.startswith("next: ")
    assert words in last


def trained(folder: Path) -> Path:
    """A variant that takes no training."""
    from lens_train import Job, train

    settings = {"bias": 5.0}
    data = ROOT / "lens_eval" / "mini" / "items" / "train.jsonl"
    train(Job("bias", "builtin", data, ("en", "zh"), folder, device="cpu", settings=settings))
    return folder
