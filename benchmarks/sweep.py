"""A sweep of 24 settings on the built-in world, and what the diagnostics of a run cost there.

`python -m benchmarks sweep`. The sweep is the command a user types; each run's diagnostics are timed against
the whole run they are part of, in processor time, for wall time depends on what else the machine does.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import timed, write_table
from lens_eval.mini import resolve_data

LANGUAGES = ("en", "zh", "sw", "ar")
GRID = {
    "learning_rate": [1.0e-4, 3.0e-4, 5.0e-4, 1.0e-3],
    "displacement": [0.5, 1.0, 1.5],
    "retain_weight": [1.0, 3.0],
}
REPEATS = 3
TARGET_SECONDS, TARGET_SHARE = 240, 0.15


def main() -> None:
    """Measure and write the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shares = [_share_of_diagnostics(folder / f"run{number}") for number in range(REPEATS)]
        seconds, processor, rows = _sweep(folder)
    share = sorted(shares)[REPEATS // 2]
    load = os.getloadavg()[0]
    sweep = f"lens sweep, {rows} settings, from the start of Python to the table"
    table = [
        {"what": f"{sweep}: wall seconds", "measured": seconds, "target": f"{TARGET_SECONDS} on 2 cores"},
        {"what": f"{sweep}: processor seconds", "measured": processor, "target": ""},
        {
            "what": "diagnostics, share of a run's processor time",
            "measured": share,
            "target": f"below {TARGET_SHARE}",
        },
    ]
    threads = os.environ.get("OMP_NUM_THREADS", "default")
    notes = [
        f"408 training and 117 dev items in {len(LANGUAGES)} languages; replies of at most 64 tokens.",
        f"Torch threads: {threads}; load at the end: {load:.1f} on {os.cpu_count()} cores. Wall time holds "
        "what other processes took; processor time does not.",
        f"The share is the median of {REPEATS} runs: {', '.join(f'{own:.3f}' for own in shares)}.",
    ]
    write_table("sweep", "A sweep, and the cost of diagnostics, on the built-in world", table, notes)


def _sweep(folder: Path) -> tuple[float, float, int]:
    points = folder / "points.yaml"
    points.write_text(json.dumps({"grid": GRID}))
    command = [
        sys.executable,
        "-m",
        "lens_eval",
        "sweep",
        "--model",
        "builtin",
        "--data",
        "builtin:train",
    ]
    command += ["--dev-data", "builtin:dev", "--languages", ",".join(LANGUAGES), "--device", "cpu"]
    command += ["--points", str(points), "--output", str(folder / "sweep")]
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, check=True)
    seconds, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    document = json.loads((folder / "sweep" / "sweep.json").read_text())
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, used, len(document["rows"])


def _share_of_diagnostics(output: Path) -> float:
    from lens_train import lens
    from lens_train.job import Job
    from lens_train.watch.diagnostics import Watch

    spent: list[float] = []

    watch, write = lens.watch_held_out, Watch.write
    timed(lens, "watch_held_out", spent.append, time.process_time)
    timed(Watch, "write", spent.append, time.process_time)
    job = Job("lens", "builtin", resolve_data("builtin:train"), LANGUAGES, output, device="cpu")
    try:
        if not output.with_name("warm").exists():  # the first run also imports what the others find there
            lens.train(Job(**{**job.__dict__, "output": output.with_name("warm")}))
            spent.clear()
        begun = time.process_time()
        lens.train(job)
        return sum(spent) / (time.process_time() - begun)
    finally:
        lens.watch_held_out, Watch.write = watch, write  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
