"""Commands about what is asked: `lens tasks` lists it, `lens fetch` brings its data."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from lens_eval.base.errors import UserError
from lens_eval.base.terminal import say
from lens_eval.commands.options import read_codes, say_next


def tasks(
    languages: Annotated[str | None, typer.Option(help="Only these languages, e.g. sw,de.")] = None,
) -> None:
    """List families and languages: items, who reviewed the words, and where the data is or would come from.

    Nothing is downloaded. Without items here, their number is shown as -.
    """
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")
    from lens_eval.tasks.listing import listed

    wanted = read_codes(languages)
    rows = [row for row in listed(wanted) if not wanted or row.language in wanted]
    if not rows:
        raise UserError(f"no task is in one of the languages {languages}; `lens languages` lists them")
    say("task\tlanguage\titems\twords\tdata")
    for row in rows:
        items = "-" if row.items is None else str(row.items)
        say(f"{row.task}\t{row.language}\t{items}\t{row.review}\t{row.source}")
    say_next("lens eval --model MODEL --tasks TASK --output FOLDER", err=True)


def fetch(
    what: Annotated[
        str, typer.Argument(help="A recipe, a task or a group, or a group whose data is on no hub: lens_lcb.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(help="Data folder, for lens_lcb [default: LENS_DATA_DIR, else this project's cache]."),
    ] = None,
    languages: Annotated[
        str | None, typer.Option(help="Only tasks in these languages, e.g. sw,de [default: the recipe's].")
    ] = None,
) -> None:
    """Bring the data of a group, or data and models of a recipe, onto this machine.

    What is on no hub is downloaded with its hash checked, and unpacked where its tasks look; everything else
    goes into the cache of the hub. Then `lens reproduce RECIPE --offline` asks nobody.
    """
    from lens_eval.runs.recipe import load_recipe
    from lens_eval.tasks.fetch import ARCHIVES
    from lens_eval.tasks.fetch import fetch as download
    from lens_eval.tasks.finding import data_dir, fetched_folder

    if what in ARCHIVES:
        say(str(download(ARCHIVES[what], output or data_dir() or fetched_folder())))
        say_next(f"lens eval --model MODEL --tasks {what} --output FOLDER", err=True)
        return
    if output is not None:
        raise UserError(f"--output is for {', '.join(ARCHIVES)}; the rest goes into the cache of the hub")
    from lens_eval.runs.stock import stock_recipe, stock_tasks

    if not _is_recipe(what):
        stock_tasks([what], read_codes(languages), say)
        say_next(f"lens eval --model MODEL --tasks {what} --output FOLDER", err=True)
        return
    recipe = load_recipe(what)
    stock_recipe(recipe, read_codes(languages) or recipe.languages, say)
    say_next(f"lens reproduce {what} --offline", err=True)


def _is_recipe(what: str) -> bool:
    """Whether a recipe is named, by its file or as one of the project's."""
    from lens_eval.runs.recipe import recipe_folders

    return what.endswith((".yaml", ".yml")) or any((f / f"{what}.yaml").is_file() for f in recipe_folders())
