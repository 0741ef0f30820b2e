"""The `lens` command: every subcommand of both packages, and one way to report mistakes."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from lens_eval.base.errors import UserError
from lens_eval.base.project import VERSION

app = typer.Typer(
    name="lens",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Plain text: rich would take `[default: ...]` and `.[train]` in a help text for markup and drop it.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
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
    "merge": "lens_eval.commands.train:merge",
    "doctor": "lens_eval.commands.doctor:doctor",
    "eval": "lens_eval.commands.run:evaluate",
    "reproduce": "lens_eval.commands.run:reproduce",
    "compare": "lens_eval.commands.run:compare",
    "report": "lens_eval.commands.run:report",
    "score": "lens_eval.commands.score:score",
    "calibrate": "lens_eval.commands.score:calibrate",
    "judge": "lens_eval.commands.judge:judge",
}


def _load(reference: str) -> Callable[..., Any]:
    module, _, function = reference.partition(":")
    return getattr(importlib.import_module(module), function)


for _name, _reference in COMMANDS.items():
    app.command(_name)(_load(_reference))


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(VERSION)
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

    typer.echo(backbone_path())


@app.command("languages")
def languages() -> None:
    """List the known languages: code, name, script."""
    from lens_eval.language.languages import LANGUAGES

    for language in LANGUAGES.values():
        typer.echo(f"{language.code}\t{language.name}\t{', '.join(language.scripts)}")


def main() -> None:
    """Run `lens`; a mistake of the user's ends with one message and status 2, Ctrl-C with 130."""
    try:
        app()
    except UserError as error:
        typer.echo(f"lens: {error}", err=True)
        sys.exit(2)
    except SystemExit as end:
        if end.code == 130:  # Typer turns Ctrl-C into this, without a word
            typer.echo("lens: stopped; run the same command again to go on where that is possible", err=True)
        raise


if __name__ == "__main__":
    main()
