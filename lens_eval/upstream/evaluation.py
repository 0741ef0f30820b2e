"""What lm_eval does around an evaluation that a run of many cells must not do, or not as loudly."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any


class NoManager:
    """Tasks are handed over loaded; an index of lm_eval's 14,000 is not needed for that."""

    task_index: Mapping[str, Any] = {}

    def load(self, tasks: list[Any]) -> dict[str, Any]:
        return {"tasks": {task.task_name: task for task in tasks}, "groups": {}, "group_map": {}}


@contextlib.contextmanager
def no_work_twice(known: Mapping[str, Any]) -> Iterator[None]:
    """Spare lm_eval what it would do over and over with the same result.

    It asks torch and git about the machine after every evaluation (three seconds, CPU flags and all): the run
    notes its environment once (`known`, with the key `commit`), and results files get that in one line. And
    it compiles the templates of a task anew for every item, which takes longer than all scoring.
    """
    import lm_eval.evaluator
    import lm_eval.utils
    import torch.utils.collect_env as collect_env

    templates = lm_eval.utils.env
    compiled = lru_cache(maxsize=256)(templates.from_string)
    describe, commit = collect_env.get_pretty_env_info, lm_eval.evaluator.get_git_commit_hash
    collect_env.get_pretty_env_info = lambda: json.dumps(known)
    lm_eval.evaluator.get_git_commit_hash = lambda: known["commit"]
    templates.from_string = compiled
    try:
        yield
    finally:
        collect_env.get_pretty_env_info = describe
        lm_eval.evaluator.get_git_commit_hash = commit
        del templates.from_string  # the class's own again


class _Relay(io.TextIOBase):
    """Stands in for standard error: keeps the last lines, and reads the share done from lm_eval's bars."""

    _BAR = re.compile(r"requests:.*?(\d+)/(\d+) \[")

    def __init__(self, on_progress: Callable[[float], None], below: Any) -> None:
        self._on_progress = on_progress
        self.below = below  # where `lens_eval.base.progress` writes its lines
        self.tail = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.tail = (self.tail + text)[-4000:]
        for done, total in self._BAR.findall(text):
            self._on_progress(int(done) / max(int(total), 1))
        return len(text)


@contextlib.contextmanager
def only_own_bars() -> Iterator[None]:
    """For training: this project's bars on a terminal, and nothing of the libraries' anywhere."""
    if not sys.stderr.isatty():
        with quiet():
            yield
        return
    import transformers.utils.logging  # noqa: F401

    _bars(False)
    yield


@contextlib.contextmanager
def quiet(on_progress: Callable[[float], None] = lambda _: None) -> Iterator[None]:
    """Keep lm_eval, transformers and datasets from writing over the one live line of this program."""
    relay = _Relay(on_progress, sys.stderr)
    loggers = [logging.getLogger(name) for name in ("lm_eval", "transformers", "datasets", "httpx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(relay), contextlib.redirect_stdout(relay):
            warnings.simplefilter("ignore")
            _bars(False)
            yield
    except Exception as error:
        if relay.tail.strip() and hasattr(error, "add_note"):
            error.add_note("last output before the error:\n" + relay.tail[-2000:])
        raise
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _bars(shown: bool) -> None:
    """transformers and datasets hold their own handles of standard error."""
    transformers_logging = sys.modules.get("transformers.utils.logging")
    if transformers_logging is not None:
        (transformers_logging.enable_progress_bar if shown else transformers_logging.disable_progress_bar)()
    datasets = sys.modules.get("datasets")
    if datasets is not None:
        (datasets.enable_progress_bars if shown else datasets.disable_progress_bars)()
