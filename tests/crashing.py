"""`lens` killed at its n-th change of a file, for every n, each time run again to its end.

`python crashing.py JOB.json`, where the job holds

    commands   lists of arguments of `lens`, run one after the other in one process
    inputs     folder copied for every try; the commands run in the copy
    tries      folder for the copies: `whole` is that of the undisturbed run, the others are numbers
    events     names of Python's audit events to be killed at, only below the copy

It loads everything once and forks a process per try, and prints `{"tries": N, "faults": [...]}`.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

KILLED = 77
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def main() -> None:
    """Make every try."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    _warm()
    commands, tries = job["commands"], Path(job["tries"])
    faults: list[Any] = []
    status = _try(commands, _copied(job, tries / "whole"), None)
    if status:
        faults.append(["whole", status, _said(tries / "whole")])
    number = 0
    while not faults or faults[0][0] != "whole":
        number += 1
        folder = _copied(job, tries / str(number))
        first = _try(commands, folder, number, job["events"])
        if first == KILLED:
            again = _try(commands, folder, None)
            if again:
                faults.append([number, again, _said(folder)])
            continue
        if first:
            faults.append([number, first, _said(folder)])
        break
    print(json.dumps({"tries": number, "faults": faults}))


def _warm() -> None:
    """Import what the commands import, so that a fork need not."""
    import lm_eval.evaluator
    import lm_eval.tasks
    import peft
    import transformers
    import trl

    from lens_eval.commands import cli
    from lens_eval.runs import evaluation, workplace
    from lens_train import lens
    from lens_train.sweep import run

    del lm_eval, peft, transformers, trl, cli, evaluation, workplace, lens, run


def _copied(job: dict[str, Any], folder: Path) -> Path:
    shutil.copytree(job["inputs"], folder)
    return folder


def _said(folder: Path) -> str:
    return (folder.parent / f"{folder.name}.err").read_text(encoding="utf-8", errors="replace")[-2000:]


def _try(
    commands: Sequence[Sequence[str]], folder: Path, stop: int | None, events: Sequence[str] = ()
) -> int:
    """Run the commands in a fork; returns its status, `KILLED` where it was killed at the event `stop`."""
    child = os.fork()
    if not child:
        try:
            _run(commands, folder, stop, events)
        except BaseException:
            traceback.print_exc()
        os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _run(commands: Sequence[Sequence[str]], folder: Path, stop: int | None, events: Sequence[str]) -> None:
    from lens_eval.commands.cli import main as entry

    os.chdir(folder)
    err = os.open(folder.parent / f"{folder.name}.err", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(err, 1)
    os.dup2(err, 2)
    sys.stdout = open(1, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
    if stop is not None:
        _kill_at(stop, str(folder), events)
    status = 0
    for command in commands:
        sys.argv = ["lens", *command]
        try:
            entry()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if status:
            break
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _kill_at(stop: int, folder: str, events: Sequence[str]) -> None:
    left = stop

    def hook(event: str, arguments: Any) -> None:
        nonlocal left
        if event not in events or not _is_change(event, arguments):
            return
        path = arguments[0]
        if not isinstance(path, str | bytes | os.PathLike):
            return
        if not os.path.abspath(os.fsdecode(path)).startswith(folder + os.sep):  # noqa: PTH100
            return
        left -= 1
        if not left:
            os._exit(KILLED)

    sys.addaudithook(hook)


def _is_change(event: str, arguments: Any) -> bool:
    return event != "open" or bool(isinstance(arguments[2], int) and arguments[2] & _WRITES)


if __name__ == "__main__":
    main()
