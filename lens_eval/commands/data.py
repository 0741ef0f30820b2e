"""Commands about what is asked: `lens tasks` lists it, `lens fetch` brings its data."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from lens_eval.base.errors import UserError, did_you_mean
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
    group: Annotated[str, typer.Argument(help="A group whose data is on no hub: lens_lcb.")],
    output: Annotated[
        Path | None, typer.Option(help="Data folder [default: LENS_DATA_DIR, else this project's cache].")
    ] = None,
) -> None:
    """Download the data of a group that is on no hub, check its hash, and unpack it where its tasks look."""
    from lens_eval.tasks.fetch import ARCHIVES
    from lens_eval.tasks.fetch import fetch as download
    from lens_eval.tasks.finding import data_dir, fetched_folder

    if group not in ARCHIVES:
        raise UserError(
            f"nothing to fetch for {group!r}{did_you_mean(group, ARCHIVES)}; known: {', '.join(ARCHIVES)}"
        )
    say(str(download(ARCHIVES[group], output or data_dir() or fetched_folder())))
    say_next(f"lens eval --model MODEL --tasks {group} --output FOLDER", err=True)
