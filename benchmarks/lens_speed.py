"""Lens against the plain two-model trainer: probe, one training run, and each further run of a sweep.

Writes results/bench/lens_speed.{md,json}. A 126M Llama (16 layers x 768, float32, random weights), 300
probing prompts per language and 200 training pairs in 25 steps, on the CPU. Every way runs in a process of
its own on the same model, prompts and order, in `ROUNDS` rounds that alternate; the fastest of each counts.
The losses of every item are compared, so that what is timed is the same computation. Goals: probe and one
run at least 2.5 times faster, each further configuration 15 times, at most 0.6 of the memory.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, write_table
from benchmarks.random_llama import LANGUAGES, PROBE_ITEMS, TRAIN_ITEMS, save_data, save_small, save_tokenizer

ROUNDS = 2
SEED = 42
FURTHER: tuple[dict[str, Any], ...] = (
    {"displacement": 0.5},
    {"learning_rate": 3e-6},
    {"separate_weight": 2.0},
    {"align_weight": 0.0},
)
"""Configurations that a sweep adds to the first one."""


def plain(folder: Path, output: Path) -> dict[str, Any]:
    """Probe and train the plain way; returns seconds of each part and the loss of every item."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from benchmarks.plain_lens import PROBE_BATCH, PlainSettings, plain_probe, plain_train
    from lens_train.config import LensConfig
    from lens_train.data import read_prompts
    from lens_train.loop import step_items
    from lens_train.probe import probe_prompts, renderer
    from lens_train.subspace import Subspaces
    from lens_train.trunk import pad

    begun = time.perf_counter()
    config = LensConfig(LANGUAGES, compat="official")
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    prompts = probe_prompts(read_prompts(folder / "probe", LANGUAGES, PROBE_ITEMS), tokenizer, config)
    cpu, fill = torch.device("cpu"), tokenizer.pad_token_id
    batches: dict[str, list[dict[str, Any]]] = {}
    for code, rows in prompts.items():
        width = max(map(len, rows))
        parts = [range(at, min(at + PROBE_BATCH, len(rows))) for at in range(0, len(rows), PROBE_BATCH)]
        padded = [pad(rows, part, cpu, fill=fill, width=width) for part in parts]
        batches[code] = [{"input_ids": batch.ids, "attention_mask": batch.mask} for batch in padded]
    states = plain_probe(model, batches)
    means = {code: read.double().mean(dim=1) for code, read in states.items()}
    subspaces = Subspaces.from_means(means, "en", 1, {})
    probed = time.perf_counter()
    reference = copy.deepcopy(model)
    data = read_prompts(folder / "train", LANGUAGES, TRAIN_ITEMS)
    render = renderer(tokenizer, config, "train")
    ids = {code: render(data.texts[code], config.train_tokens) for code in LANGUAGES}
    order = [item for items in step_items(config, TRAIN_ITEMS, SEED) for item in items]
    losses = plain_train(
        model,
        reference,
        model.model.layers,
        [{code: torch.tensor([ids[code][item]]) for code in LANGUAGES} for item in order],
        subspaces.agnostic[-1].float(),
        subspaces.specific[-1].float(),
        {code: direction[-1].float() for code, direction in subspaces.directions.items()},
        PlainSettings(),
    )
    model.save_pretrained(output)
    done = time.perf_counter()
    return {"probe": probed - begun, "train": done - probed, "losses": losses, "items": order}


def lens(folder: Path, output: Path, compat: str | None) -> dict[str, Any]:
    """Probe and train with this project, from the model's folder to a checkpoint."""
    from lens_train import methods
    from lens_train.job import Job
    from lens_train.loop import LOG

    begun = time.perf_counter()
    settings: dict[str, Any] = {"probe_data": str(folder / "probe"), "compat": compat, "dtype": "float32"}
    settings |= {"diagnose": 0} if compat else {}
    model, data = str(folder / "model"), folder / "train"
    methods.train(Job("lens", model, data, LANGUAGES, output, seed=SEED, device="cpu", settings=settings))
    seconds = time.perf_counter() - begun
    log = (output / "training" / LOG).read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in log]
    return {
        "whole": seconds,
        "losses": [loss for record in records for loss in record["item_losses"]],
        "items": [item for record in records for item in record["items"]],
    }


def further(folder: Path, output: Path) -> dict[str, Any]:
    """Train further configurations over one trunk, as `lens sweep` does; seconds of each."""
    from lens_train import lens as method
    from lens_train.job import Job
    from lens_train.stream import open_decoder

    settings = {"probe_data": str(folder / "probe"), "compat": "official", "dtype": "float32", "diagnose": 0}
    job = Job(
        "lens", str(folder / "model"), folder / "train", LANGUAGES, output, seed=SEED, settings=settings
    )
    plan = method.make_plan(job)
    decoder = open_decoder(job.model, plan.device, plan.dtype, plan.config.stream, len(plan.trained))
    subspaces = method.find_subspaces(plan, decoder)
    prepared = method.prepare(plan, decoder)
    initial = {name: value.data.clone() for name, value in prepared.parameters.items()}
    references: dict[Any, Any] = {}
    seconds = []
    for changes in ({}, *FURTHER):
        begun = time.perf_counter()
        for name, parameter in prepared.parameters.items():
            parameter.data.copy_(initial[name])
        one = method.with_settings(plan, changes, SEED)
        method.trainer(one, prepared, subspaces, None, references).run()
        seconds.append(time.perf_counter() - begun)
    return {"each": sum(seconds[1:]) / len(FURTHER)}


WAYS: dict[str, Callable[[Path, Path], dict[str, Any]]] = {
    "plain": plain,
    "lens_official": lambda folder, output: lens(folder, output, "official"),
    "lens": lambda folder, output: lens(folder, output, None),
    "further": further,
}


def measure(way: str, folder: Path, threads: int) -> dict[str, Any]:
    """Run one way in a process of its own; adds its CPU seconds and peak memory."""
    output, result = folder / f"out-{way}", folder / f"{way}.json"
    shutil.rmtree(output, ignore_errors=True)
    command = [sys.executable, "-m", "benchmarks.lens_speed", "--way", way, "--folder", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{way} ended with status {process.returncode}")
    shutil.rmtree(output, ignore_errors=True)
    found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return {**found, "cpu": usage.ru_utime + usage.ru_stime, "memory": usage.ru_maxrss / 1e6}


def best(runs: Sequence[dict[str, Any]], key: str) -> float:
    """Smallest value of several rounds: what the computation costs, less what else the machine did."""
    return float(min(run[key] for run in runs))


def report(runs: dict[str, list[dict[str, Any]]], threads: int) -> None:
    """Write the table."""
    base = runs["plain"]
    whole = best(base, "probe") + best(base, "train")
    memory = best(base, "memory")
    rows: list[dict[str, Any]] = [
        {
            "what": "plain two-model trainer: probe, one run",
            "seconds": whole,
            "CPU seconds": best(base, "cpu"),
            "times the plain one's speed": 1.0,
            "peak memory, GB": memory,
            "of the plain one's memory": 1.0,
            "losses differ by": 0.0,
        }
    ]
    names = {"lens_official": "lens_train, `compat: official`", "lens": "lens_train, default"}
    for way, label in names.items():
        rows.append(
            {
                "what": f"{label}: probe, one run",
                "seconds": best(runs[way], "whole"),
                "CPU seconds": best(runs[way], "cpu"),
                "times the plain one's speed": whole / best(runs[way], "whole"),
                "peak memory, GB": best(runs[way], "memory"),
                "of the plain one's memory": best(runs[way], "memory") / memory,
                "losses differ by": difference(base[0], runs[way][0])
                if way == "lens_official"
                else "other prompts",
            }
        )
    each = best(runs["further"], "each")
    rows.append(
        {
            "what": "lens_train: each further configuration of a sweep",
            "seconds": each,
            "CPU seconds": "",
            "times the plain one's speed": whole / each,
            "peak memory, GB": best(runs["further"], "memory"),
            "of the plain one's memory": best(runs["further"], "memory") / memory,
            "losses differ by": "other settings",
        }
    )
    notes = [
        f"126M Llama, 16 layers x 768, float32, random weights; {PROBE_ITEMS} probing prompts per language, "
        f"{TRAIN_ITEMS} pairs in 25 steps; {threads} threads; fastest of {len(base)} alternating rounds.",
        "Each way from loading the model to a saved checkpoint, in a process of its own.",
        f"The plain one's parts: probe {best(base, 'probe'):.1f} s, training {best(base, 'train'):.1f} s; "
        f"a further configuration has {best(base, 'train') / each:.1f} times the speed of training alone.",
        "The default run also writes its diagnostics, which the others leave out.",
        "Losses: largest relative difference over all items. Goals: one run 2.5 times the speed at 0.6 of "
        "the memory, a further configuration 15 times.",
    ]
    write_table("lens_speed", "Lens against a plain two-model trainer", rows, notes)


def difference(one: dict[str, Any], other: dict[str, Any]) -> float:
    """Largest relative difference of the losses of two runs in the same order."""
    if one["items"] != other["items"]:
        raise SystemExit("the two ways took the items in different orders; their losses cannot be compared")
    pairs = zip(one["losses"], other["losses"], strict=True)
    return max(abs(a - b) / abs(a) for a, b in pairs)


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--way", choices=sorted(WAYS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        found = WAYS[arguments.way](arguments.folder, arguments.folder / f"out-{arguments.way}")
        (arguments.folder / f"{arguments.way}.json").write_text(json.dumps(found), encoding="utf-8")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_data(folder, save_tokenizer(folder / "model"))
        save_small(folder / "model")
        runs: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
        for _ in range(arguments.rounds):
            for way, found in runs.items():
                found.append(measure(way, folder, arguments.threads))
    report(runs, arguments.threads)


if __name__ == "__main__":
    main()
