"""`lens compare` on 200 cells of 1,000 items: seconds and peak memory, against reading the same files bare.

Writes results/bench/compare.{md,json}. Goal: at most 10 s and 1 GB.
"""

from __future__ import annotations

import hashlib
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, write_table
from lens_eval.tasks.scoring import NUMBER_METRICS

VARIANTS = 8
LANGUAGES = [
    "en",
    "zh",
    "ja",
    "ko",
    "ar",
    "bn",
    "sw",
    "es",
    "fr",
    "de",
    "ru",
    "th",
    "te",
    "hi",
    "ur",
    "vi",
    "tr",
    "el",
    "bg",
    "it",
    "pt",
    "nl",
    "pl",
    "uk",
    "id",
]
ITEMS = 1000
METRICS = tuple(name for name in NUMBER_METRICS if name != "answered_in")
BARE = """
import glob, json, sys
n = 0
for name in glob.glob(sys.argv[1] + "/**/samples_*.jsonl", recursive=True):
    with open(name, "rb") as stream:
        for line in stream:
            n += len(json.loads(line))
print(n)
"""


def sample(task: str, item: int, rng: random.Random) -> dict[str, Any]:
    """A record as lm_eval writes it for a worked solution: about 2 kB."""
    question = f"{task} question {item} " + "with some words of a problem to be solved " * 8
    reply = "a worked solution in several steps " * 10
    off = float(rng.random() < 0.3)
    right = float(rng.random() < 0.5)
    values = dict.fromkeys(METRICS, 0.0) | {
        "acc": right,
        "off_target": off,
        "central": off,
        "on_target": 1 - off,
    }
    values["correct_on_target"] = right * (1 - off)
    return {
        "doc_id": item,
        "doc": {"id": str(item), "prompt": question, "language": task[-2:], "answer_number": "12"},
        "target": "12",
        "arguments": {"gen_args_0": {"arg_0": question, "arg_1": {"until": [], "max_gen_toks": 1024}}},
        "resps": [[reply]],
        "filtered_resps": [reply],
        "filter": "none",
        "metrics": [*METRICS, "answered_in"],
        "doc_hash": _hash(question),
        "prompt_hash": _hash(question + "p"),
        "target_hash": _hash("12"),
        **values,
        "answered_in": "en",
    }


def write_runs(folder: Path) -> int:
    """Write the results folders; returns their size in bytes."""
    rng = random.Random(0)
    size = 0
    for variant in range(VARIANTS):
        own = folder / f"variant{variant}"
        own.mkdir()
        tasks = [f"lens_bench_{code}" for code in LANGUAGES]
        for task in tasks:
            lines = "".join(json.dumps(sample(task, i, rng)) + "\n" for i in range(ITEMS))
            size += (own / f"samples_{task}_2026-01-01T00-00-00.jsonl").write_text(lines, encoding="utf-8")
        metadata = {t: {"task": t, "metadata": {"language": t[-2:], "central": "en"}} for t in tasks}
        document = {
            "results": {t: {} for t in tasks},
            "configs": metadata,
            "versions": dict.fromkeys(tasks, 1),
            "n-shot": dict.fromkeys(tasks, 0),
            "n-samples": {t: {"effective": ITEMS} for t in tasks},
            "model_name": own.name,
        }
        (own / "results_2026-01-01T00-00-00.json").write_text(json.dumps(document), encoding="utf-8")
    return size


def measure(what: str, command: list[str]) -> dict[str, Any]:
    """Time and peak memory of a process (the largest so far, so the lighter one comes first)."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"what": what, "seconds": seconds, "CPU seconds": cpu, "peak memory, GB": after.ru_maxrss / 1e6}


def main() -> None:
    """Measure and write the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = write_runs(folder)
        bare = measure("json.loads of every line, nothing else", [sys.executable, "-c", BARE, str(folder)])
        runs = [str(p) for p in sorted(folder.glob("variant*"))]
        ours = measure("lens compare", [sys.executable, "-m", "lens_eval", "compare", *runs])
    cells = VARIANTS * len(LANGUAGES)
    notes = [
        f"{cells} cells of {ITEMS} items with {len(METRICS)} metrics, {size / 1e6:.0f} MB of samples.",
        "Goal: at most 10 s and 1 GB.",
    ]
    write_table("compare", "Comparing 200 cells of 1,000 items", [bare, ours], notes)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


if __name__ == "__main__":
    main()
