"""Twenty kills -9 at random moments of a run, each resumed; the tables are those of an undisturbed run.

Writes results/bench/kills.{md,json}. Takes some ten minutes with the demonstration's recipe.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, write_table

TABLES = ("table.md", "table.csv", "table.tex")


def start(recipe: str, out: Path) -> subprocess.Popen[bytes]:
    """`lens reproduce`, in a process group of its own."""
    command = [sys.executable, "-m", "lens_eval", "reproduce", recipe, "--output", str(out)]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def finished(out: Path) -> dict[str, bytes]:
    """The records of the cells that are whole."""
    return {str(file.relative_to(out)): file.read_bytes() for file in out.glob("*/*/cell.json")}


def moment(out: Path) -> str:
    """What was going on in a folder, from the files that a killed process left."""
    for file in out.glob("*/*.responses.partial"):
        if batches := file.read_bytes().count(b"\n") - 1:
            return f"{file.parent.name}: generation, {batches} batches kept"
    if begun := [file for file in out.glob("*/*.partial") if file.is_dir()]:
        return f"{begun[0].parent.name}: evaluation"
    training = [f for f in out.glob("models/*") if f.is_dir() and not (f / "variant.json").exists()]
    return f"{training[0].name.rpartition('-')[0]}: training" if training else "between two pieces of work"


def wait_for_work(process: subprocess.Popen[bytes], out: Path, since: float) -> None:
    """Until the run has recorded the state that it starts from (or has ended)."""
    record = out / "run.json"
    while process.poll() is None and not (record.exists() and record.stat().st_mtime > since + 1):
        time.sleep(0.05)


def kill_once(recipe: str, out: Path, delay: float, from_start: bool) -> dict[str, Any] | None:
    """Run and kill; None where the run ended first."""
    before = finished(out)
    since = time.time()
    process = start(recipe, out)
    if not from_start:
        wait_for_work(process, out, since)
    begun = time.time()
    try:
        process.wait(timeout=delay)
        return None
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
    after = finished(out)
    assert all(after.get(name) == record for name, record in before.items()), "a finished cell was touched"
    return {
        "seconds after": ("the start" if from_start else "the first work") + f": {time.time() - begun:.1f}",
        "killed in": moment(out),
        "cells finished": len(after),
    }


def main() -> None:
    """Run undisturbed, run with kills, compare, write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=__doc__)
    parser.add_argument("--recipe", default="recipes/demo.yaml")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        undisturbed, disturbed = Path(folder) / "undisturbed", Path(folder) / "disturbed"
        assert start(arguments.recipe, undisturbed).wait() == 0, "the undisturbed run failed"
        total = json.loads((undisturbed / "run.json").read_text("utf-8"))["seconds"]["all"]
        chance = random.Random(arguments.seed)
        rows: list[dict[str, Any]] = []
        for number in range(arguments.kills):
            # One in four counts from the start of the process, and so falls into the time before any work.
            from_start = number % 4 == 3
            delay = chance.uniform(0.5, total / arguments.kills)
            if (row := kill_once(arguments.recipe, disturbed, delay, from_start)) is None:
                break
            rows.append({"kill": number + 1, **row})
            print(rows[-1], flush=True)
        kept = finished(disturbed)
        assert start(arguments.recipe, disturbed).wait() == 0, "the last run failed"
        now = finished(disturbed)
        assert all(now[name] == record for name, record in kept.items()), "a finished cell was made again"
        same = [(disturbed / t).read_bytes() == (undisturbed / t).read_bytes() for t in TABLES]
        left = list(disturbed.rglob("*.partial"))
    write_table(
        "kills",
        f"{len(rows)} kills at random moments of {arguments.recipe}, each resumed",
        rows,
        [
            f"The final {', '.join(TABLES)} are byte for byte those of an undisturbed run: {all(same)}.",
            f"{len(now)} cells; a finished one was never made again; files left over: {len(left)}.",
            f"The undisturbed run took {total:.0f} s; kills by SIGKILL, moments uniform at random.",
        ],
    )
    if not all(same) or left or len(rows) < arguments.kills:
        sys.exit("the tables differ, files were left over, or the run ended before the last kill")


if __name__ == "__main__":
    main()
