"""The released bilingual recipe on a model that does not fit: an 8B shape on a CPU, streamed from disk.

`python -m benchmarks.large_model` makes the checkpoint (16 GB of random bfloat16 weights, deleted afterwards
unless `--keep`), probes 300 prompts per language, trains 200 pairs in 25 steps and writes a whole checkpoint.
Interrupted or past `--stop-at`, it goes on when started again with the same folder. A finished run of the
whole recipe writes a result; with fewer layers (`--layers 3`, a third of an hour) that of its memory alone,
which does not depend on their number. `--layers 4 --probe 40 --train 40` is a short try.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, timed, write_table
from benchmarks.random_llama import LANGUAGES, PROBE_ITEMS, TRAIN_ITEMS, save_data, save_large, save_tokenizer
from lens_eval.base.files import free_bytes
from lens_train.job import Variant

LAYERS = 32
LAYER_BYTES, OUTER_BYTES = 436_224_000, 2_101_354_496
PHASES = "phases.jsonl"
PARTS = ("checks and hashes", "open", "probe", "frozen layers", "training", "export")
TARGET_MINUTES, TARGET_MEMORY = 60, 10e9


def main() -> int:
    """Return 0 when the run is finished."""
    arguments = _arguments()
    folder = arguments.folder / f"lens-large-{arguments.layers}"
    size = arguments.layers * LAYER_BYTES + OUTER_BYTES
    free = free_bytes(arguments.folder)
    if not (folder / "model" / "config.json").is_file() and free < 2.2 * size:
        print(
            f"{arguments.folder} has {free / 1e9:.0f} GB free, {2.2 * size / 1e9:.0f} GB are needed: --folder"
        )
        return 1
    folder.mkdir(exist_ok=True)
    if not (folder / "model" / "config.json").is_file():
        tokenizer = save_tokenizer(folder / "model")
        save_data(folder, tokenizer)
        save_large(folder / "model", arguments.layers)
    finished = _run(folder, arguments)
    records = [json.loads(line) for line in (folder / PHASES).read_text(encoding="utf-8").splitlines()]
    print(json.dumps(records, indent=1))
    if finished and (arguments.probe, arguments.train) == (PROBE_ITEMS, TRAIN_ITEMS):
        variant = Variant.load(folder / "variant")
        if arguments.layers == LAYERS:
            _report(variant, records, arguments.threads)
        else:
            report_memory(records, arguments.layers, variant.settings["dtype"], arguments.threads)
    if finished and not arguments.keep:
        shutil.rmtree(folder)
    return 0 if finished else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="needs 36 GB")
    parser.add_argument("--layers", type=int, default=LAYERS)
    parser.add_argument("--probe", type=int, default=PROBE_ITEMS, help="prompts per language that are probed")
    parser.add_argument("--train", type=int, default=TRAIN_ITEMS, help="pairs that are trained on")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--compat", default="official", choices=["official", "none"])
    parser.add_argument("--stop-at", help="HH:MM, UTC: leave off then; start again to go on")
    parser.add_argument("--keep", action="store_true", help="leave the model and the result on disk")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        _child(arguments)
        sys.exit(0)
    return arguments


def _run(folder: Path, arguments: argparse.Namespace) -> bool:
    """Train in a process of its own, so that its peak memory is that of the training alone."""
    threads = {name: str(arguments.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    command = [sys.executable, "-m", "benchmarks.large_model", *sys.argv[1:], "--child", str(folder)]
    begun = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **threads})
    while process.poll() is None:
        time.sleep(1)
        if arguments.stop_at and datetime.now().strftime("%H:%M") >= arguments.stop_at:
            process.send_signal(signal.SIGKILL)  # what is on disk must do
            print("stopped by the clock; start again to go on", file=sys.stderr)
    _note(folder / PHASES, {"phase": "whole", "seconds": round(time.monotonic() - begun, 1)})
    return process.returncode == 0


def _note(log: Path, record: dict[str, Any]) -> None:
    with log.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(record) + "\n")


def _child(arguments: argparse.Namespace) -> None:
    import torch

    from lens_train import export, lens, methods, walk
    from lens_train.job import Job
    from lens_train.loop import TopTrainer
    from lens_train.memory import peak_memory

    folder = arguments.child
    log = folder / PHASES

    def phase(label: str) -> Callable[[float], None]:
        def note(seconds: float) -> None:
            peak = peak_memory(torch.device("cpu"))
            _note(log, {"phase": label, "seconds": round(seconds, 1), "peak_bytes": peak})

        return note

    timed(lens, "check", phase("checks and hashes"))
    timed(lens, "open_decoder", phase("open"))
    timed(lens, "find_subspaces", phase("probe"))
    timed(lens, "prepare", phase("frozen layers"))
    timed(TopTrainer, "run", phase("training"))
    timed(export, "merge_tensors", phase("export"))
    timed(walk.WalkState, "save", phase("state"))
    settings: dict[str, Any] = {
        "probe_data": str(folder / "probe"),
        "probe_items": arguments.probe,
        "train_items": arguments.train,
        "compat": None if arguments.compat == "none" else arguments.compat,
        "dtype": arguments.dtype,
        "stream": "always",
    }
    methods.train(
        Job(
            "lens",
            str(folder / "model"),
            folder / "train",
            LANGUAGES,
            folder / "variant",
            seed=42,
            device="cpu",
            settings=settings,
        )
    )


def _report(variant: Variant, records: list[dict[str, Any]], threads: int) -> None:
    seconds = {name: sum(r["seconds"] for r in records if r["phase"] == name) for name in (*PARTS, "whole")}
    starts = sum(record["phase"] == "checks and hashes" for record in records)
    peak = max([variant.peak_memory_bytes, *(record.get("peak_bytes", 0) for record in records)])
    minutes = seconds["whole"] / 60
    rows: list[dict[str, Any]] = [
        {"what": name, "measured": f"{value:.0f} s", "target": ""} for name, value in seconds.items()
    ]
    rows += [
        {"what": "wall time", "measured": f"{minutes:.1f} min", "target": f"{TARGET_MINUTES} min"},
        {
            "what": "peak resident memory",
            "measured": f"{peak / 1e9:.2f} GB",
            "target": f"{TARGET_MEMORY / 1e9:.0f} GB",
        },
    ]
    notes = [
        f"Random Llama of {LAYERS} layers x 4096 (MLP 14336, 32/8 heads, vocabulary 128256), stored in "
        f"bfloat16, 16 GB on disk; run in {variant.settings['dtype']} on {threads} threads, "
        "the two trained layers in float32.",
        f"`compat: official`: {PROBE_ITEMS} probing prompts per language cut to 64 tokens, "
        f"{TRAIN_ITEMS} pairs, 25 steps of 8; {variant.tokens_seen} tokens of training prompts. "
        f"Started {starts} time(s).",
        "The whole checkpoint was written; `whole` includes what lies between the phases.",
    ]
    write_table("large_model", "An 8B shape on a CPU, streamed from disk", rows, notes)


def report_memory(records: list[dict[str, Any]], layers: int, dtype: str, threads: int) -> None:
    """Write the peak of resident memory at the end of each part of a run."""
    peaks = {name: max(r["peak_bytes"] for r in records if r["phase"] == name) for name in PARTS}
    target = f"{TARGET_MEMORY / 1e9:.0f} GB"
    rows = [
        {"until the end of": name, "peak resident memory": f"{peak / 1e9:.2f} GB", "target": target}
        for name, peak in peaks.items()
    ]
    notes = [
        f"The shape, prompts, pairs and steps of `large_model`, in {dtype} on {threads} threads, but "
        f"{layers} of its {LAYERS} layers.",
        "The layers below the trained two are held one at a time, so the peak does not depend on their "
        "number. The seconds do, and are not shown.",
    ]
    write_table("large_model_memory", "Memory of the 8B shape on a CPU", rows, notes)


if __name__ == "__main__":
    sys.exit(main())
