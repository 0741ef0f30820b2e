"""Progress where output is no terminal: what a log says, and when."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from lens_eval.base import progress
from lens_eval.base.progress import Lines, in_words


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Time stands still for the threads: only the tests call `tick`."""
    monkeypatch.setattr(progress, "FIRST", 2.0)
    monkeypatch.setattr(progress, "INTERVAL", 30.0)
    monkeypatch.setattr(Lines, "_watch", lambda self: None)
    monkeypatch.setattr(
        Lines, "_open", []
    )  # a test that failed on purpose holds its phase with its traceback
    return Clock()


def test_a_short_phase_is_not_mentioned_and_a_long_one_every_interval(clock: Clock) -> None:
    log = io.StringIO()
    with Lines(None, "probing", 2100, stream=log, clock=clock) as bar:
        clock.now += 1.9
        assert bar.tick() == pytest.approx(0.1)
    assert log.getvalue() == ""
    with Lines(None, "probing", 2100, stream=log, clock=clock) as bar:
        clock.now += 2
        bar.tick()
        clock.now += 28
        bar.update(1200)
        bar.tick()
        clock.now += 2
        bar.tick()
        clock.now += 28
    assert log.getvalue().splitlines() == [
        "lens: probing: 0 of 2100 (0%), 2 s so far",
        "lens: probing: 1200 of 2100 (57%), about 24 s left",
        "lens: probing: done in 60 s",
    ]


def test_what_had_been_done_before_says_nothing_of_the_speed(clock: Clock) -> None:
    log = io.StringIO()
    bar = Lines(None, "training", 100, initial=90, stream=log, clock=clock)
    bar.update()
    clock.now += 10
    bar.tick()
    bar.close()
    assert log.getvalue().splitlines() == [
        "lens: training: 91 of 100 (91%), about 90 s left",
        "lens: training: ended at 91 of 100 (91%) after 10 s",
    ]


def test_a_phase_within_another_waits_an_interval(clock: Clock) -> None:
    log = io.StringIO()
    with Lines(None, "sweep", 4, stream=log, clock=clock) as outer:
        for _ in range(2):
            with Lines(None, "training", 25, stream=log, clock=clock) as inner:
                clock.now += 10
                inner.tick()
            outer.update()
        outer.tick()
        with Lines(None, "training", 25, stream=log, clock=clock) as inner:
            clock.now += 30
            inner.tick()
    assert log.getvalue().splitlines() == [
        "lens: sweep: 2 of 4 (50%), about 20 s left",
        "lens: training: 0 of 25 (0%), 30 s so far",
        "lens: training: done in 30 s",
        "lens: sweep: done in 50 s",
    ]


def test_iterating_counts_and_an_exception_is_no_end(clock: Clock) -> None:
    log = io.StringIO()
    bar = Lines([1, 2, 3], "replies", None, stream=log, clock=clock)
    seen = []
    for each in bar:
        clock.now += 3
        bar.tick()
        seen.append(each)
    assert seen == [1, 2, 3]
    assert bar.total == bar.n == 3
    bar = Lines(None, "training", 25, stream=log, clock=clock)
    clock.now += 3
    bar.tick()
    bar.update(12)
    with pytest.raises(ZeroDivisionError), bar:
        _ = 1 / 0
    assert log.getvalue().splitlines() == [
        "lens: replies: 0 of 3 (0%), 3 s so far",
        "lens: replies: done in 9 s",
        "lens: training: 0 of 25 (0%), 3 s so far",
        "lens: training: ended at 12 of 25 (48%) after 3 s",
    ]


def test_bytes_and_work_without_steps(clock: Clock) -> None:
    log = io.StringIO()
    with Lines(None, "hashing weights", 16_060_000_000, unit="bytes", stream=log, clock=clock) as bar:
        clock.now += 2
        bar.update(8_030_000_000)
        bar.tick()
    with Lines(None, "loading the model", None, stream=log, clock=clock) as bar:
        clock.now += 200
        bar.set_description("loading another")
        bar.tick()
    assert log.getvalue().splitlines() == [
        "lens: hashing weights: 8.03 GB of 16.06 GB (50%), about 2 s left",
        "lens: hashing weights: done in 2 s",
        "lens: loading another: at work, 3.3 min so far",
        "lens: loading another: done in 3.3 min",
    ]


def test_spans_of_time() -> None:
    assert [in_words(seconds) for seconds in (0.4, 40, 99, 100, 590, 600, 5940, 12600)] == [
        "0 s",
        "40 s",
        "99 s",
        "1.7 min",
        "9.8 min",
        "10 min",
        "99 min",
        "3.5 h",
    ]


def test_lines_pass_a_stand_in_for_standard_error_unless_a_terminal_lies_below(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lens_eval.upstream.evaluation import quiet

    log = io.StringIO()
    for below in (log, Terminal()):
        monkeypatch.setattr(sys, "stderr", below)
        with quiet():
            print("noise of a library", file=sys.stderr)
            with progress.progress(label="training", total=2) as bar:
                bar._clock = lambda: bar._due
                bar.tick()
        if below is log:
            assert bar._said
            assert log.getvalue().startswith("lens: training: 0 of 2 (0%)")
            assert "noise" not in log.getvalue()
        else:
            assert below.getvalue() == ""


def test_only_the_first_of_several_processes_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    for rank, spoken in (("0", True), ("1", False)):
        monkeypatch.setenv("RANK", rank)
        with progress.progress(label="training", total=2) as bar:
            assert (bar._stream is not None) == spoken


WORK = """
import sys, time
from lens_eval.base import progress
progress.FIRST, progress.INTERVAL = 0.05, 0.2
with progress.progress(label="probing", total=4) as bar:
    for _ in range(4):
        bar.update()
        time.sleep(0.15)
with progress.progress(label="one long step", total=1) as bar:
    time.sleep(0.5)
    bar.update()
for _ in progress.progress(range(3), label="too short to mention"):
    pass
"""


def test_a_log_is_written_by_a_thread_and_also_amid_one_long_step(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("w") as stream:
        subprocess.run([sys.executable, "-c", WORK], stderr=stream, check=True)
    lines = log.read_text().splitlines()
    assert sum(line.startswith("lens: probing: ") for line in lines) >= 3
    assert sum(line.startswith("lens: one long step: 0 of 1 (0%), ") for line in lines) >= 2
    ends = [line.partition(" done in ")[0] for line in lines if " done in " in line]
    assert ends == ["lens: probing:", "lens: one long step:"]
    assert not [line for line in lines if "short" in line]


def test_a_terminal_shows_a_bar_and_no_lines() -> None:
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    slower = WORK.replace("0.15", "0.8")  # the bar appears after two seconds
    done = subprocess.Popen([sys.executable, "-c", slower], stderr=follower)
    os.close(follower)
    shown = b""
    while True:
        try:
            part = os.read(leader, 4096)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(leader)
    assert done.wait() == 0
    assert b"probing:" in shown
    assert b"%|" in shown
    assert b"lens: " not in shown
