"""Progress of work that lasts: a bar on a terminal, plain lines on standard error anywhere else.

What a log shows of a phase, if it lasts at all (`FIRST` seconds), and then every `INTERVAL` seconds:

    lens: probing: 1200 of 2100 (57%), about 40 s left
    lens: probing: done in 96 s

A phase within another one (training within a sweep) lets `INTERVAL` seconds pass before its first line. The
lines come from a thread, so that one long step does not look like a standstill.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, Literal, TextIO

from tqdm import tqdm

from lens_eval.base.redaction import visible

FIRST = 2.0
"""Seconds that a phase lasts before it is mentioned."""
INTERVAL = 30.0
"""Seconds between two lines of one phase."""


class _Bar(tqdm):
    """A bar on a terminal; its label may hold a name of a stranger's."""

    def set_description(self, desc: str | None = None, refresh: bool | None = True) -> None:
        """Change the label."""
        super().set_description(visible(desc or ""), refresh)


def progress(
    iterable: Iterable[Any] | None = None,
    *,
    label: str,
    total: int | None = None,
    initial: int = 0,
    unit: Literal["", "bytes"] = "",
) -> Any:
    """Wrap `iterable`, or return a bar to `.update()`, with an estimate of what is left.

    Args:
        iterable: what is gone through.
        label: name of the phase.
        total: how much there is to do; the length of `iterable` if it has one.
        initial: how much of it had been done before.
        unit: what is counted, if not steps.
    """
    stream = sys.stderr
    if stream is None or stream.isatty():
        # Every process of several would write over the same line.
        off: bool | None = True if _another_process() else None
        more: dict[str, Any] = {"unit": "B", "unit_scale": True} if unit else {}
        if total is None and not hasattr(iterable, "__len__"):
            more["bar_format"] = "{desc}: {n_fmt}, {elapsed}" if initial or iterable else "{desc}: {elapsed}"
        return _Bar(
            iterable,
            desc=visible(label),
            total=total,
            initial=initial,
            disable=off,
            delay=2,
            dynamic_ncols=True,
            leave=False,
            **more,
        )
    shown: TextIO | None = shown_below(stream)
    if shown is None or shown.isatty() or _another_process():
        shown = None
    return Lines(iterable, label, total, initial, unit, shown)


def waiting(label: str) -> AbstractContextManager[Any]:
    """Say in a log that something without steps lasts; a terminal shows the bars of the libraries."""
    return nullcontext() if sys.stderr is None or sys.stderr.isatty() else progress(label=label)


def shown_below(stream: Any) -> TextIO | None:
    """The stream that a stand-in for standard error lies over; an attribute `below` names it."""
    while stream is not None and hasattr(stream, "below"):
        stream = stream.below
    return stream


def _another_process() -> bool:
    """Whether this is not the first of the processes of `torchrun` or `accelerate launch`."""
    return os.environ.get("RANK", "0") != "0"


class Lines:
    """The part of tqdm's interface that is used here, as lines in a log; a bar not shown has no stream.

    `update`, `set_description` and `close` may be called while the thread writes.
    """

    _open: list[Lines] = []  # noqa: RUF012 (shared on purpose: phases within phases)

    def __init__(
        self,
        iterable: Iterable[Any] | None,
        label: str,
        total: int | None,
        initial: int = 0,
        unit: str = "",
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin the phase."""
        length = getattr(iterable, "__len__", None)
        self.total: int | None = length() if total is None and length is not None else total
        self.n = initial
        self._iterable, self._label, self._initial, self._unit = iterable, label, initial, unit
        self._stream, self._clock, self._begun = stream, clock, clock()
        self._lock, self._ended, self._said = threading.RLock(), threading.Event(), False
        self._due = self._begun + (INTERVAL if self._open else FIRST)
        if stream is not None:
            self._open.append(self)
            threading.Thread(target=self._watch, daemon=True).start()

    def __iter__(self) -> Iterator[Any]:
        """Go through what was wrapped, counting."""
        assert self._iterable is not None
        with self:
            for each in self._iterable:
                yield each
                self.update()

    def __enter__(self) -> Lines:
        """The phase itself."""
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        """End it; with an exception, where it stopped."""
        self._end(kind is None)

    def update(self, count: int = 1) -> None:
        """Note that so much more has been done."""
        with self._lock:
            self.n += count

    def set_description(self, label: str) -> None:
        """Give the phase another name."""
        with self._lock:
            self._label = label

    def close(self) -> None:
        """End the phase."""
        self._end(self.total is None or self.n >= self.total)

    def tick(self) -> float:
        """Write a line if one is due; returns the seconds until the next one is."""
        with self._lock:
            now = self._clock()
            if not self._ended.is_set() and now >= self._due:
                self._due = now + INTERVAL
                self._said = True
                self._write(f"{self._count()}, {self._time(now - self._begun)}")
            return self._due - now

    def _watch(self) -> None:
        wait = self.tick()
        while not self._ended.wait(max(wait, 0.01)):
            wait = self.tick()

    def _end(self, complete: bool) -> None:
        with self._lock:
            if self._ended.is_set():
                return
            self._ended.set()
            with suppress(ValueError):
                self._open.remove(self)
            if self._said:
                seconds = in_words(self._clock() - self._begun)
                self._write(f"done in {seconds}" if complete else f"ended at {self._count()} after {seconds}")

    def _count(self) -> str:
        done = self._number(self.n)
        if self.total is None:
            return done if self.n else "at work"
        share = f" ({100 * self.n // self.total:.0f}%)" if self.total else ""
        return f"{done} of {self._number(self.total)}{share}"

    def _number(self, number: int) -> str:
        if not self._unit:
            return f"{number:.0f}"  # a part of a cell may be done
        return f"{number / 1e9:.2f} GB" if (self.total or number) >= 1e9 else f"{number / 1e6:.1f} MB"

    def _time(self, seconds: float) -> str:
        done = self.n - self._initial
        if self.total is None or done <= 0 or self.n >= self.total:
            return f"{in_words(seconds)} so far"
        return f"about {in_words(seconds * (self.total - self.n) / done)} left"

    def _write(self, words: str) -> None:
        if self._stream is None:
            return
        with suppress(OSError, ValueError):  # a log that is full or closed must not end the work
            self._stream.write(visible(f"lens: {self._label}: {words}\n"))
            self._stream.flush()


def in_words(seconds: float) -> str:
    """A span of time as a person would say it: `40 s`, `12 min`, `3.5 h`."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if seconds < 99.5 * 60:
        return f"{seconds / 60:.{1 if seconds < 597 else 0}f} min"
    return f"{seconds / 3600:.1f} h"
