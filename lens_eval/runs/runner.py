"""`lens reproduce`: train what a recipe names, evaluate every cell through lm_eval, compare, write tables.

A cell is one variant on one lm_eval task. Its key is a hash of everything that decides its numbers;
a cell whose key is unchanged is kept, any other is evaluated again. Each cell appears on disk complete
or not at all, so a run that was killed goes on behind the last finished one.

    <output>/<variant>/<task>/   results_*.json, samples_*.jsonl.gz (lm_eval's format), cell.json (the key)
    <output>/models/             trained variants, by name and key
    <output>/run.json            recipe, environment, state and cost of every cell
    <output>/table.*             the comparison
    <output>/report.html         the same as a page, with answers and training curves (training.json)
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from lens_eval.base.errors import UserError
from lens_eval.base.files import lock, write_json, write_text
from lens_eval.results.read import RUN_FILE
from lens_eval.runs.evaluation import stopwatch
from lens_eval.runs.preflight import available, check
from lens_eval.runs.recipe import Recipe, output_of
from lens_eval.runs.task_index import load_tasks
from lens_eval.runs.work import Outcome, Run

if TYPE_CHECKING:
    from lens_eval.runs.cluster import Cluster

_IGNORED = "models/\nerrors/\n.lock\ncell.json\n*.partial\n"


def run(
    recipe: Recipe,
    output: Path | None = None,
    *,
    device: str = "auto",
    ray: str | None = None,
    cpus: float = 1.0,
    command: str = "",
    say: Callable[[str], None] = print,
) -> Outcome:
    """Do what of `recipe` is not done yet, then compare.

    Args:
        ray: address of a Ray cluster that does the work (`local`: this machine as one); None: this process.
        cpus: what each task asks of the cluster; only with `ray`.
        say: called with one line per finished step.

    Raises:
        UserError: a mistake in what was asked, before any work; or another run is at work in the folder.
    """
    clock = stopwatch()
    folder = output_of(recipe, output)
    recipe, left_out = available(recipe)
    check(recipe, folder, None if ray else device)
    tasks = load_tasks(
        recipe.tasks,
        recipe.languages,
        recipe.include_path,
        recipe.limit,
        left_out,
        recipe.backend.num_fewshot,
        recipe.backend.model == "endpoint",
    )
    for reason in dict.fromkeys(left_out.values()):
        names = [name for name, why in left_out.items() if why == reason]
        say(f"left out: {', '.join(names)}: {reason}")
    with _cluster(ray, recipe, device, cpus) as cluster, lock(folder), _full_disk_in_words(folder):
        _prepare(folder, recipe)
        if cluster is not None:
            device = cluster.device
            cluster.check(folder)
        work = Run(recipe, folder, tasks, device, command, say, left_out, clock)
        with work.bar():
            work.do() if cluster is None else cluster.do(work)
        return work.finish()


@contextmanager
def _full_disk_in_words(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise UserError(
            f"cannot write to {folder}: {error.strerror}; make room, and the same command goes on from here"
        ) from error


def _cluster(
    ray: str | None, recipe: Recipe, device: str, cpus: float
) -> AbstractContextManager[Cluster | None]:
    if ray is None:
        return nullcontext()
    from lens_eval.runs.cluster import connected

    return connected(ray, recipe, device, cpus)


def _prepare(folder: Path, recipe: Recipe) -> None:
    # First what makes the folder ours: a run killed behind it goes on.
    if not (folder / RUN_FILE).exists():
        write_json(folder / RUN_FILE, {"name": recipe.name, "simulated": recipe.simulated, "cells": []})
    write_text(folder / ".gitignore", _IGNORED)
    shutil.rmtree(folder / "errors", ignore_errors=True)
