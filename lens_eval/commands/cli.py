"""The `lens` command: every subcommand of both packages, and one way to report mistakes."""

from __future__ import annotations

import errno
import importlib
import os
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from lens_eval.base.errors import UserError
from lens_eval.base.project import VERSION
from lens_eval.base.terminal import say
from lens_eval.commands.lm_eval_words import LmEvalCommand, dashed

app = typer.Typer(
    name="lens",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Plain text: rich would take `[default: ...]` and `.[train]` in a help text for markup and drop it.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "token_normalize_func": dashed},
    help="Better answers in more languages. Train, evaluate, compare; judge off-target answers anywhere.",
)

# Light modules only: they import torch, lm_eval and pandas inside their functions, so that
# `lens --help` answers at once.
COMMANDS: dict[str, str] = {
    "chat": "lens_eval.commands.chat:chat",
    "assess": "lens_eval.commands.train:assess",
    "probe": "lens_eval.commands.train:probe",
    "train": "lens_eval.commands.train:train",
    "sweep": "lens_eval.commands.train:sweep",
    "diagnose": "lens_eval.commands.train:diagnose",
    "merge": "lens_eval.commands.weights:merge",
    "bake": "lens_eval.commands.weights:bake",
    "export": "lens_eval.commands.weights:export",
    "doctor": "lens_eval.commands.doctor:doctor",
    "eval": "lens_eval.commands.evaluate:evaluate",
    "reproduce": "lens_eval.commands.run:reproduce",
    "compare": "lens_eval.commands.run:compare",
    "report": "lens_eval.commands.run:report",
    "card": "lens_eval.commands.publish:card",
    "push": "lens_eval.commands.publish:push",
    "score": "lens_eval.commands.score:score",
    "calibrate": "lens_eval.commands.score:calibrate",
    "tasks": "lens_eval.commands.data:tasks",
    "fetch": "lens_eval.commands.data:fetch",
    "judge": "lens_eval.commands.judge:judge",
}


def _load(reference: str) -> Callable[..., Any]:
    module, _, function = reference.partition(":")
    return getattr(importlib.import_module(module), function)


for _name, _reference in COMMANDS.items():
    app.command(_name, cls=LmEvalCommand if _name == "eval" else None)(_load(_reference))


def _show_version(wanted: bool) -> None:
    if wanted:
        say(VERSION)
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    pass


@app.command("backbone")
def backbone() -> None:
    """Print the folder of the built-in (simulated) backbone, for `pretrained=$(lens backbone)`."""
    from lens_eval.mini import backbone_path

    say(str(backbone_path()))


@app.command("languages")
def languages() -> None:
    """List the known languages: code, name, script."""
    from lens_eval.language.languages import LANGUAGES

    for language in LANGUAGES.values():
        say(f"{language.code}\t{language.name}\t{', '.join(language.scripts)}")
    say("next: lens score FILES --language CODE", err=True)


EXTRAS: dict[str, str] = {
    **dict.fromkeys(
        ("torch", "transformers", "accelerate", "safetensors", "peft", "trl", "datasets"), "train"
    ),
    **dict.fromkeys(("tokenizers", "huggingface_hub", "sentencepiece"), "train"),
    "gguf": "gguf",
    "vllm": "vllm",
    "ray": "ray",
    "matplotlib": "report",
}
"""Packages that an extra installs."""


def _missing_extra(error: ModuleNotFoundError) -> str | None:
    """What to install for a package that is not there; None for any other, which is a fault."""
    package = (error.name or "").partition(".")[0]
    extra = EXTRAS.get(package)
    if extra is None:
        return None
    return (
        f"this command needs the package {package}, which is not installed: "
        f"pip install 'lens-multilingual[{extra}]'"
    )


def main() -> None:
    """Run `lens`; a mistake of the user's ends with one message and status 2, Ctrl-C with 130.

    What the machine refuses (disk, rights, memory) and what nobody foresaw end the same way, in one line;
    `LENS_TRACEBACK=1` shows where.
    """
    from lens_eval.base.redaction import note_environment

    note_environment()
    try:
        app()
    except SystemExit as end:
        if end.code == 130:  # Typer turns Ctrl-C into this, without a word
            say("lens: stopped; run the same command again to go on where that is possible", err=True)
        raise
    except Exception as error:
        foreign = not isinstance(error, UserError) or error.__cause__ is not None
        if os.environ.get("LENS_TRACEBACK") and foreign:
            say("".join(traceback.format_exception(error)), err=True)
        say(f"lens: {in_words(error)}", err=True)
        sys.exit(2)


def in_words(error: Exception) -> str:
    """One line on what ended a command."""
    text = " ".join(str(error).split())[:500]
    if isinstance(error, UserError):
        return " ".join(line.strip() for line in str(error).splitlines())
    if isinstance(error, ModuleNotFoundError) and (hint := _missing_extra(error)) is not None:
        return hint
    if isinstance(error, OSError) and error.errno is not None:
        file = f"{error.filename}: " if error.filename is not None else ""
        return f"{file}{error.strerror}{_ADVICE.get(error.errno, '')}"
    if isinstance(error, MemoryError):
        return f"{os.strerror(errno.ENOMEM)}{_ADVICE[errno.ENOMEM]}"
    for found, code in _SAID_BY_LIBRARIES.items():
        if re.search(found, text):
            return f"{os.strerror(code)}{_ADVICE.get(code, '')}"
    if type(error).__name__ == "BrokenProcessPool":
        return "a worker process was killed (out of memory, as a rule); try again with --processes 1"
    frame = traceback.extract_tb(error.__traceback__)[-1:]
    place = f" ({Path(frame[0].filename).name}, line {frame[0].lineno})" if frame else ""
    return f"{type(error).__name__}: {text}{place}; this was not foreseen, LENS_TRACEBACK=1 shows where"


_ADVICE = {
    errno.ENOSPC: "; make room, and run the same command again",
    errno.EDQUOT: "; make room, and run the same command again",
    errno.EFBIG: "; the file system takes no larger files",
    errno.EMFILE: "; raise the limit of open files: ulimit -n 4096",
    errno.ENFILE: "; the machine has too many files open",
    errno.EROFS: "; name an output elsewhere",
    errno.EACCES: "; name an output where you may write",
    errno.ENAMETOOLONG: "; name a shorter one",
    errno.ENOMEM: "; take a smaller model, batch or file",
}
_SAID_BY_LIBRARIES = {
    r"No space left on device|os error 28\b|code: 28\b|StreamWriter failed|unexpected pos": errno.ENOSPC,
    r"File too large|os error 27\b|code: 27\b": errno.EFBIG,
    r"Too many open files|os error 24\b|code: 24\b": errno.EMFILE,
    r"Read-only file system|os error 30\b|code: 30\b": errno.EROFS,
    r"Permission denied|os error 13\b|code: 13\b": errno.EACCES,
    r"out of memory|an't allocate memory|annot allocate memory|os error 12\b|code: 12\b": errno.ENOMEM,
}
"""What the system refused, in the words of libraries that raise errors of their own."""


if __name__ == "__main__":
    main()
