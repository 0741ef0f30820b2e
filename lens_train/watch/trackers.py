"""What training logs, sent on to trackers: tensorboard, wandb, trackio and the others that accelerate knows.

Every method writes `training/log.jsonl`, a line per step. The lines are followed while they are written, so
no method knows of trackers, and what a tracker does cannot change the training.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lens_eval.base.errors import UserError, did_you_mean
from lens_eval.base.terminal import say
from lens_train.job import VARIANT_FILE, Job, Variant
from lens_train.local_paths import last_part, without_paths

LOG = Path("training") / "log.jsonl"
FOLDER = Path("training") / "trackers"
"""Where trackers that write files write them."""
PROJECT = "lens"
_SECONDS = 1.0
_PACKAGES = {"comet_ml": "comet_ml", "tensorboard": "tensorboard"}


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers that are unknown, or whose package is not installed.

    Raises:
        UserError: names the known ones, or the package and how to install it.
    """
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
    from accelerate.utils import LoggerType

    known = sorted(map(str, LOGGER_TYPE_TO_CLASS))
    for name in names:
        if name not in known:
            raise UserError(
                f"--report-to: unknown tracker {name!r}{did_you_mean(name, known)}; known: {', '.join(known)}"
            )
        there = {str(getattr(each, "value", each)) for each in get_available_trackers()}
        if name in LoggerType.list() and name not in there:
            package = _PACKAGES.get(name, name)
            raise UserError(
                f"--report-to {name} needs the package {package}, which is not installed: "
                f"pip install '{package}'"
            )


@contextmanager
def tracked(job: Job, names: Sequence[str]) -> Iterator[None]:
    """Send what the training in the block logs to trackers, and at its end what came of it.

    Raises:
        UserError: see `check_trackers`; or a tracker cannot be started.
    """
    if not names:
        yield
        return
    check_trackers(names)
    world = os.environ.get("WORLD_SIZE", "")
    if world.isdecimal() and int(world) > 1:
        raise UserError("--report-to is for training in one process; several write training/log.jsonl alone")
    follower = _Follower(job, names)
    follower.start()
    try:
        yield
        follower.end()
        follower.guarded(lambda: _report_outcome(job.output, follower.trackers, follower.step))
    finally:
        follower.end()
        for tracker in follower.trackers:
            follower.guarded(tracker.finish)
        if follower.problem:
            say(f"lens: the trackers stopped, the training did not: {follower.problem}", err=True)


def _start(name: str, job: Job) -> Any:
    from accelerate import PartialState
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    kind: Any = LOGGER_TYPE_TO_CLASS[name]
    place = {}
    if kind.requires_logging_directory:
        folder = job.output / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        place = {"logging_dir": str(folder)}
    try:
        PartialState()  # accelerate's own log lines ask it
        tracker = kind(PROJECT, **place)
        tracker.start()
        tracker.store_init_configuration(_configuration(job))
    except Exception as error:  # each tracker has its own errors: no account, no network, no rights
        raise UserError(f"the tracker {name} does not start: {' '.join(str(error).split())[:300]}") from None
    return tracker


def _configuration(job: Job) -> dict[str, Any]:
    """The job as flat values, without local paths."""
    settings = {f"settings.{name}": value for name, value in job.settings.items()}
    plain = {
        "method": job.method,
        "model": last_part(job.model),
        "data": last_part(str(job.data)),
        "languages": ",".join(job.languages),
        "central": job.central,
        "seed": job.seed,
        **settings,
    }
    return {
        name: value if isinstance(value, bool | int | float | str) else str(value)
        for name, value in without_paths(plain).items()
    }


class _Follower(threading.Thread):
    """Reads the log while it grows, and hands each whole line on.

    Trackers that write into the run's folder begin with the first line: before it, the folder may be
    another's.
    """

    def __init__(self, job: Job, names: Sequence[str]) -> None:
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        super().__init__(name="trackers", daemon=True)
        kinds: dict[str, Any] = {name: LOGGER_TYPE_TO_CLASS[name] for name in names}
        self._job, self._file = job, job.output / LOG
        self._later = [name for name, kind in kinds.items() if kind.requires_logging_directory]
        self.trackers = [_start(name, job) for name in names if name not in self._later]
        self._ended = threading.Event()
        self._done = 0
        self.step = 0
        self.problem = ""

    def run(self) -> None:
        """Follow until `end`."""
        while not self._ended.wait(_SECONDS):
            self.guarded(self._read)
        self.guarded(self._read)

    def end(self) -> None:
        """Hand on what is left, and stop."""
        self._ended.set()
        self.join()

    def guarded(self, do: Callable[[], None]) -> None:
        """Do what a tracker may fail at; the first failure is kept, and nothing more is handed on."""
        if self.problem:
            return
        try:
            do()
        except Exception as error:  # trackers are others' code, and no training may end for them
            self.problem = " ".join(str(error).split())[:300] or type(error).__name__

    def _read(self) -> None:
        if not self._file.is_file():
            return
        lines = self._file.read_text(encoding="utf-8").split("\n")[:-1]
        if lines and self._later:
            self.trackers += [_start(name, self._job) for name in self._later]
            self._later = []
        for line in lines[self._done :]:
            self.step = max(self.step, send(self.trackers, json.loads(line)))
        self._done = len(lines)


def send(trackers: Sequence[Any], record: Mapping[str, Any]) -> int:
    """Hand one line of a log to trackers; returns its step. Names of a stage stand before its numbers."""
    step, stage = int(record.get("step", 0)), record.get("stage")
    before = f"{stage}/" if isinstance(stage, str) else ""
    values = {
        f"{before}{name}": value
        for name, value in record.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and name != "step"
    }
    for tracker in trackers:
        tracker.log(values, step=step)
    return step


def _report_outcome(folder: Path, trackers: Sequence[Any], step: int) -> None:
    """What training counted before and after, as `before/usable.sw` and `after/usable.sw`."""
    if not (folder / VARIANT_FILE).is_file():
        return
    replies = Variant.load(folder).outcome.get("replies") or {}
    for time, at in (("before", 0), ("after", step)):
        counts = replies.get(time) or {}
        values = {
            f"{time}/{kind}.{code}": number / replies["items"]
            for code, own in counts.items()
            for kind, number in own.items()
        }
        for tracker in trackers if values else ():
            tracker.log(values, step=at)
