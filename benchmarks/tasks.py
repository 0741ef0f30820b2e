"""Building every task of every family from local data: at most 90 s and 1 GB.

The published items in `LENS_DATA_DIR`; what it lacks, and MMLU in full, from made-up items in the hub's
layout, as many as the published splits have. Each set in a process of its own, like a user's; and in one
process all tasks of the paper's sets.
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

LIMIT_SECONDS, LIMIT_GB = 90.0, 1.0
# Items of a test split of one language as published; KMMLU is made of two subjects here, of 45 there.
PAPER_SIZES = {"xstorycloze": 1511, "mmlu": 14042, "kmmlu": 17515}
SIZES = PAPER_SIZES | {
    "global_mmlu": 14042,
    "global_mmlu_lite": 400,
    "include": 500,
    "belebele": 900,
    "mmlu_prox": 11759,
    "mmlu_prox_lite": 588,
    "polymath_medium": 125,
    "polymath_high": 125,
    "polymath_top": 125,
}
LOCAL_MMLU = "mmlu_subset"

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
    from lens_eval.tasks.generate import FAMILIES

    made_up = {
        items: [f"lens_{family.name}" for family in FAMILIES if family.items == items] for items in SIZES
    }
    own = [f"lens_{family.name}" for family in FAMILIES if family.items not in SIZES]
    local = Path(os.environ.get("LENS_DATA_DIR") or ROOT.parent / "shared" / "data")
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_full_size(folder)
        for family, groups in made_up.items():
            rows.append({"items from": f"{family}, made up", **build(groups, folder)})
        paper = {group for items in PAPER_SIZES for group in made_up[items]}
        if local.is_dir():
            rows.insert(0, {"items from": "published, from LENS_DATA_DIR", **build(own, local)})
            for path in local.iterdir():
                here = folder / path.name
                if path.name != LOCAL_MMLU and not here.exists():  # it would replace the full one
                    here.symlink_to(path.resolve())
            paper |= {*own}
        rows.append({"items from": "published ones and the paper's in one", **build(sorted(paper), folder)})
    over = [
        row["items from"] for row in rows if row["CPU seconds"] > LIMIT_SECONDS or row["peak GB"] > LIMIT_GB
    ]
    notes = [
        f"Limit: {LIMIT_SECONDS:.0f} CPU seconds and {LIMIT_GB:.0f} GB for each row. "
        + (f"Not met: {', '.join(over)}." if over else "Met."),
        "Seconds include neither Python's start nor lm_eval's import (given beside).",
        "Peak memory is the whole process's, with lm_eval and what it imports.",
        "Made-up items are as many as the published ones, in every language, of about 500 bytes.",
    ]
    write_table("tasks", "Building every task of every family", rows, notes)
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
