"""Where the time of `lens reproduce recipes/demo.yaml` goes, and what it takes when nothing has changed.

Writes results/bench/runner.{md,json}. Goals: what is neither training, loading a model nor inference takes
at most 3% of a run; a run with nothing to do takes at most one minute. The parts are the runner's own record
(`seconds` in run.json); the libraries are imported before it starts, as they are for plain lm_eval.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, write_table

CODE = """
import json, sys, time
from pathlib import Path
start = time.perf_counter()
import lm_eval.models.huggingface, lm_eval.tasks, datasets, peft, torch, transformers
imports = time.perf_counter() - start
from lens_eval import recipe, runner
outcome = runner.run(recipe.load_recipe(sys.argv[1]), Path(sys.argv[2]), say=lambda _: None)
whole = time.perf_counter() - start - imports
assert outcome.status == 0
print(json.dumps({"imports": imports, "run": whole, "cells": outcome.done}))
"""


def measure(recipe: str, out: Path) -> dict[str, Any]:
    """Seconds of one run, in parts."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", CODE, recipe, str(out)],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    wall = time.perf_counter() - start
    found = json.loads(done.stdout.splitlines()[-1])
    parts = json.loads((out / "run.json").read_text("utf-8"))["seconds"]
    return {**found, **parts, "wall": wall, "tables": found["run"] - parts["all"]}


def main() -> None:
    """Run the recipe, run it again, write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.runner", description=__doc__)
    parser.add_argument("--recipe", default="recipes/demo.yaml")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        first = measure(arguments.recipe, Path(folder) / "out")
        second = measure(arguments.recipe, Path(folder) / "out")
    assert second["cells"] == 0
    around = first["evaluate"] - first["inference"]
    other = first["run"] - first["train"] - first["load"] - first["evaluate"] - first["tables"]
    own = first["run"] - first["train"] - first["load"] - first["inference"]
    parts = {
        "training": first["train"],
        "loading models": first["load"],
        "inference": first["inference"],
        "requests, scores and samples of the cells": around,
        "tables and page": first["tables"],
        "everything else: tasks, identities, records": other,
        "all but training, loading and inference": own,
        "the whole run": first["run"],
    }
    rows: list[dict[str, Any]] = [
        {"part": name, "seconds": seconds, "percent of the run": 100 * seconds / first["run"]}
        for name, seconds in parts.items()
    ]
    rows.append({"part": "the same again, nothing changed, from start to end", "seconds": second["wall"]})
    write_table(
        "runner",
        f"Where the time of {arguments.recipe} goes",
        rows,
        [
            f"{first['cells']} cells. Goal for all but training, loading and inference: at most 3%.",
            f"Before that, {first['imports']:.1f} s went into importing torch, transformers and lm_eval, "
            "once per run, however long it is.",
            "Goal for the same again: at most 60 s.",
        ],
    )


if __name__ == "__main__":
    main()
