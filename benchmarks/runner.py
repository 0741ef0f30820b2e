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
from benchmarks.random_llama import save_small, save_tokenizer

LARGER_ITEMS = 60

CODE = """
import json, sys, time
from pathlib import Path
start = time.perf_counter()
import lm_eval.models.huggingface, lm_eval.tasks, datasets, peft, torch, transformers
imports = time.perf_counter() - start
from lens_eval.runs import recipe, runner
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


def larger_recipe(folder: Path) -> str:
    """A recipe that evaluates a random Llama of 126M, nothing trained: nearer to real models."""
    save_tokenizer(folder / "model")
    save_small(folder / "model")
    text = f"""
name: larger
backbone: {folder / "model"}
central: en
languages: [en, zh]
variants: {{backbone: {{}}}}
tasks: [lens_mini]
backend: {{model: hf, args: {{dtype: float32}}, batch_size: 16}}
limit: {LARGER_ITEMS}
"""
    file = folder / "larger.yaml"
    file.write_text(text, encoding="utf-8")
    return str(file)


def parts_of(run: dict[str, Any]) -> dict[str, float]:
    """Seconds of the parts of a run."""
    other = run["run"] - run["train"] - run["load"] - run["evaluate"] - run["tables"]
    return {
        "training": run["train"],
        "loading models": run["load"],
        "inference": run["inference"],
        "requests, scores and samples of the cells": run["evaluate"] - run["inference"],
        "tables and page": run["tables"],
        "everything else: tasks, identities, records": other,
        "all but training, loading and inference": run["run"] - run["train"] - run["load"] - run["inference"],
        "the whole run": run["run"],
    }


def main() -> None:
    """Run the recipe, run it again, run a larger model, write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.runner", description=__doc__)
    parser.add_argument("--recipe", default="recipes/demo.yaml")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        first = measure(arguments.recipe, Path(folder) / "out")
        second = measure(arguments.recipe, Path(folder) / "out")
        larger = measure(larger_recipe(Path(folder)), Path(folder) / "larger")
    assert second["cells"] == 0
    small, large = parts_of(first), parts_of(larger)
    rows: list[dict[str, Any]] = [
        {
            "part": name,
            "seconds": small[name],
            "percent": 100 * small[name] / first["run"],
            "126M, seconds": large[name],
            "126M, percent": 100 * large[name] / larger["run"],
        }
        for name in small
    ]
    rows.append({"part": "the same again, nothing changed, from start to end", "seconds": second["wall"]})
    write_table(
        "runner",
        f"Where the time of {arguments.recipe} goes",
        rows,
        [
            f"{first['cells']} cells. Goal for all but training, loading and inference: at most 3%.",
            "The built-in backbone has 1.4M weights, so that building a request and judging a reply are a "
            f"visible part of an item. 126M: a random Llama of that size on {larger['cells']} of the cells, "
            f"{LARGER_ITEMS} items each, nothing trained.",
            f"Before that, {first['imports']:.1f} s went into importing torch, transformers and lm_eval, "
            "once per run, however long it is.",
            "Goal for the same again: at most 60 s.",
        ],
    )


if __name__ == "__main__":
    main()
