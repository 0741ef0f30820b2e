"""Building every task of every family from local data: at most 60 s and 1 GB.

Once from the published items in `LENS_DATA_DIR`, once from made-up items in the hub's layout, as many as the
published splits have, so that every family counts. Each in a process of its own, like a user's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, write_table

LIMIT_SECONDS, LIMIT_GB = 60.0, 1.0
# Items of a test split of one language as published; KMMLU is made of two subjects here, of 45 there.
SIZES = {
    "xnli": 5010,
    "mgsm": 250,
    "xcopa": 500,
    "xwinograd": 2325,
    "xstorycloze": 1511,
    "mmlu": 14042,
    "kmmlu": 17515,
    "mtbench": 80,
}

_BUILD = """
import json, os, resource, sys, time
start = time.perf_counter()
from lm_eval.tasks import TaskManager
manager = TaskManager(include_path={tasks!r}, include_defaults=False)
began, cpu = time.perf_counter(), time.process_time()
loaded = manager.load({groups!r})["tasks"]
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({{
    "tasks": len(loaded),
    "items": sum(len(task.eval_docs) for task in loaded.values()),
    "seconds": time.perf_counter() - began,
    "CPU seconds": time.process_time() - cpu,
    "import seconds": began - start,
    "peak GB": peak / 1e6,
}}))
"""


def build(groups: list[str], data: Path) -> dict[str, Any]:
    """Build groups in a new process with `LENS_DATA_DIR=data`; return tasks, items, seconds, peak memory."""
    environment = {**os.environ, "LENS_DATA_DIR": str(data), "HF_HUB_OFFLINE": "1"}
    code = _BUILD.format(tasks=str(ROOT / "tasks"), groups=groups)
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(run.stderr[-2000:])
    return json.loads(run.stdout.splitlines()[-1])


def write_full_size(root: Path) -> None:
    """Write made-up items in the hub's layout, as many as the published test splits hold."""
    sys.path.insert(0, str(ROOT / "tests"))
    import task_items

    short = task_items.native
    # As many bytes as a question of MMLU with its options has in English, about 500.
    task_items.native = lambda language, number: f"{short(language, number)} " + "…" * 35
    task_items.write_hub_copies(root, SIZES)


def main() -> int:
    """Return 1 where a limit is passed."""
    from lens_eval.generate_tasks import FAMILIES

    groups = [f"lens_{family.name}" for family in FAMILIES]
    rows = []
    local = os.environ.get("LENS_DATA_DIR") or str(ROOT.parent / "shared" / "data")
    if Path(local).is_dir():
        absent = ("xstorycloze", "kmmlu")
        own = [f"lens_{family.name}" for family in FAMILIES if family.items not in absent]
        rows.append({"items from": "LENS_DATA_DIR, published", **build(own, Path(local))})
    with tempfile.TemporaryDirectory() as folder:
        write_full_size(Path(folder))
        rows.append({"items from": "made up, published sizes", **build(groups, Path(folder))})
    met = all(row["CPU seconds"] <= LIMIT_SECONDS and row["peak GB"] <= LIMIT_GB for row in rows)
    notes = [
        f"Limit: {LIMIT_SECONDS:.0f} s and {LIMIT_GB:.0f} GB for every task of every family: "
        + ("met." if met else "not met."),
        "One process each; seconds include neither Python's start nor lm_eval's import (given beside).",
        "The limit is on CPU seconds: the machine was shared with other work.",
        "Peak memory is the whole process's, with lm_eval and what it imports.",
        "The second row writes each family in every language, as large as its published test split.",
    ]
    write_table("tasks", "Building every task of every family", rows, notes)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
