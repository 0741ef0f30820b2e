"""A sweep on a real model: time, memory, and what each setting does.

`python -m benchmarks real_sweep` writes results/bench/real_sweep.{md,json}. The environment variable
LENS_REAL_MODELS names a folder that holds a model as `english/`, parallel prompts to train on as
`prompts/tr.jsonl` and others to choose by as `prompts/dev.jsonl`. What is absent is said in the table.
The command is the one that a user types, in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import write_table

LANGUAGES = "en,zh,ja,ko,ar,bn,sw"
VARY = "learning_rate=3e-5,1e-4,3e-4"
GOAL_MINUTES, GOAL_GB = 2, 3
SHOWN = {
    "off_target": "off-target",
    "usable": "usable",
    "loop": "loops",
    "central_usable": "en usable",
    "first": "en begins alike",
}


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--models", type=Path, default=os.environ.get("LENS_REAL_MODELS"))
    parser.add_argument("--name", default="english")
    parser.add_argument("--vary", default=VARY)
    arguments = parser.parse_args()
    model = arguments.models / arguments.name if arguments.models else None
    if model is None or not (model / "config.json").is_file():
        notes = ["No such model; LENS_REAL_MODELS names the folder that holds it."]
        write_table("real_sweep", "A sweep on a real model", [{"what": "none measured"}], notes)
        return
    train, dev = (arguments.models / "prompts" / f"{name}.jsonl" for name in ("tr", "dev"))
    with tempfile.TemporaryDirectory() as name:
        output = Path(name) / "sweep"
        command = [sys.executable, "-m", "lens_eval", "sweep", "--model", str(model), "--data", str(train)]
        command += ["--dev-data", str(dev), "--languages", LANGUAGES, "--vary", arguments.vary]
        begun = time.monotonic()
        subprocess.run([*command, "--output", str(output), "--device", "cpu"], check=True)
        minutes = (time.monotonic() - begun) / 60
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        document = json.loads((output / "sweep.json").read_text(encoding="utf-8"))
    write_table("real_sweep", "A sweep on a real model", _rows(document, minutes, used), _notes(train, dev))


def _rows(document: dict[str, Any], minutes: float, used: resource.struct_rusage) -> list[dict[str, Any]]:
    count = len(document["rows"])
    whole = f"lens sweep, {count} settings"
    rows: list[dict[str, Any]] = [
        {"what": f"{whole}: minutes", "measured": minutes, "target": GOAL_MINUTES},
        {"what": f"{whole}: processor minutes", "measured": (used.ru_utime + used.ru_stime) / 60},
        {"what": f"{whole}: peak memory, GB", "measured": used.ru_maxrss / 1e6, "target": GOAL_GB},
    ]
    for row in [document["backbone"], *document["rows"]]:
        setting = ", ".join(f"{key}={value:g}" for key, value in row["settings"].items())
        measures = row["measures"]
        rates = {words: f"{100 * measures[name]:.1f}%" for name, words in SHOWN.items() if name in measures}
        rows.append({"what": setting or "untrained", "measured": "", **rates})
    columns = list(dict.fromkeys(column for row in rows for column in row))
    return [{column: row.get(column, "") for column in columns} for row in rows]


def _notes(train: Path, dev: Path) -> list[str]:
    prompts = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in (train, dev)}
    return [
        f"gemma-3-270m taught to chat on English alone; languages {LANGUAGES}; {prompts[train]} prompts per "
        f"language to train on, {prompts[dev]} to choose by; greedy replies of at most 64 tokens.",
        "Rates are of the other languages, each counting alike; `lens sweep` prints the same table.",
        f"Load at the end: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.",
    ]


if __name__ == "__main__":
    main()
