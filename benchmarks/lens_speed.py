"""Lens against the plain two-model trainer: probe, one training run, and each further run of a sweep.

Writes results/bench/lens_speed.{md,json}: a 126M Llama (16 layers x 768, float32, random weights), 300
probing prompts per language and 200 training pairs in 25 steps, on the CPU. With `--dtype bfloat16`,
lens_speed_bfloat16: the same in bfloat16, for both. With `--device cuda`, lens_speed_gpu: the recipe on the
shape of an 8B Llama in bfloat16. With `--same`, a name that ends in _same: both probe the prompts that they
train on, through one template, where lens_train runs each prompt once. Every way runs in a process of its own
on the same model, prompts and order, in `--rounds` rounds that alternate; the fastest of each counts. The
losses of every item are compared, so that what is timed is the same computation.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, Phases, write_table
from benchmarks.random_llama import (
    LANGUAGES,
    PROBE_ITEMS,
    TRAIN_ITEMS,
    save_data,
    save_large,
    save_small,
    save_tokenizer,
)

ROUNDS = 2
SEED = 42
ALONE: dict[str, Any] = {"compat": "official", "diagnose": 0, "show_replies": 0}
"""The release's work and no more."""
FURTHER: tuple[dict[str, Any], ...] = (
    {"displacement": 0.5},
    {"learning_rate": 3e-6},
    {"separate_weight": 2.0},
    {"align_weight": 0.0},
)
"""Configurations that a sweep adds to the first one."""
GOALS = {
    "cpu": "Goals: one run 2.5 times the speed at 0.6 of the memory, a further configuration 15 times.",
    "cuda": "Goal: one run 20 times the speed.",
}
SAME_GOALS = {
    "float32": "Goals: one run 4 times the speed, a further configuration 25 times.",
    "bfloat16": "Goals: one run 3.5 times the speed, a further configuration 20 times.",
}
SAME_SETTINGS = {"probe_items": TRAIN_ITEMS, "probe_tokens": 128}


@dataclass(frozen=True)
class Setup:
    """What is measured on what."""

    folder: Path
    """Holds model and data."""
    device: str
    """`cpu` or `cuda`."""
    dtype: str
    """Type that the model is loaded in."""
    same: bool = False
    """Whether the prompts that are trained on are those that are probed."""

    @property
    def probed(self) -> Path:
        """Texts that are probed."""
        return self.folder / ("train" if self.same else "probe")

    def config(self) -> Any:
        """Settings of the plain way: those of the release, or the defaults on the same prompts."""
        from lens_train.config import LensConfig

        return LensConfig(LANGUAGES, **(SAME_SETTINGS if self.same else {"compat": "official"}))

    @property
    def model(self) -> str:
        """Folder of the model."""
        return str(self.folder / "model")

    def job(self, output: Path, **settings: Any) -> Any:
        """A run of Lens."""
        from lens_train.job import Job

        own = {"probe_data": str(self.probed), "dtype": self.dtype, **settings}
        if self.same:
            own = {**own, **SAME_SETTINGS, "compat": None}
        data = self.folder / "train"
        return Job("lens", self.model, data, LANGUAGES, output, seed=SEED, device=self.device, settings=own)


def plain(setup: Setup, output: Path) -> dict[str, Any]:
    """Probe and train the plain way; returns seconds of each part and the loss of every item."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from benchmarks.plain_lens import PROBE_BATCH, PlainSettings, plain_probe, plain_train
    from lens_train.batches import pad
    from lens_train.data import read_prompts
    from lens_train.loop import step_items
    from lens_train.memory import peak_memory
    from lens_train.probing import probe_prompts, renderer
    from lens_train.subspace import Subspaces

    phases = Phases(setup.device)
    device = torch.device(setup.device)
    config = setup.config()
    with phases("load"):
        tokenizer = AutoTokenizer.from_pretrained(setup.model)
        model = AutoModelForCausalLM.from_pretrained(
            setup.model, dtype=getattr(torch, setup.dtype), device_map={"": device}
        )
    with phases("probe"):
        texts = read_prompts(setup.probed, LANGUAGES, config.most_probed)
        batches: dict[str, list[dict[str, Any]]] = {}
        for code, rows in probe_prompts(texts, tokenizer, config).items():
            width = max(map(len, rows))
            parts = [range(at, min(at + PROBE_BATCH, len(rows))) for at in range(0, len(rows), PROBE_BATCH)]
            padded = [
                pad(rows, part, device, "left" if setup.same else "right", tokenizer.pad_token_id, width)
                for part in parts
            ]
            batches[code] = [{"input_ids": batch.ids, "attention_mask": batch.mask} for batch in padded]
        states = plain_probe(model, batches)
        means = {code: read.double().mean(dim=1) for code, read in states.items()}
        subspaces = Subspaces.from_means(means, "en", 1, {})
    with phases("training"):
        reference = copy.deepcopy(model)
        data = read_prompts(setup.folder / "train", LANGUAGES, TRAIN_ITEMS)
        render = renderer(tokenizer, config, "train")
        ids = {code: render(data.texts[code], config.train_tokens) for code in LANGUAGES}
        order = [item for items in step_items(config, TRAIN_ITEMS, SEED) for item in items]
        losses = plain_train(
            model,
            reference,
            model.model.layers,
            [{code: torch.tensor([ids[code][i]], device=device) for code in LANGUAGES} for i in order],
            subspaces.agnostic[-1].float().to(device),
            subspaces.specific[-1].float().to(device),
            {code: direction[-1].float().to(device) for code, direction in subspaces.directions.items()},
            PlainSettings(low=setup.dtype == "bfloat16"),
        )
    memory = peak_memory(device)
    with phases("save"):
        model.to(getattr(torch, setup.dtype)).save_pretrained(output)
    return {**phases.seconds, "whole": phases.whole(), "memory": memory, "losses": losses, "items": order}


def lens(setup: Setup, output: Path, **settings: Any) -> dict[str, Any]:
    """Probe and train with this project, from the model's folder to a checkpoint."""
    import torch

    from lens_train import export, methods
    from lens_train import lens as method
    from lens_train.loop import LOG, TopTrainer
    from lens_train.memory import peak_memory

    phases = Phases(setup.device)
    phases.wrap(method, "check", "load")
    phases.wrap(method, "open_decoder", "load")
    phases.wrap(method, "find_subspaces", "probe")
    phases.wrap(method, "prepare", "training")
    phases.wrap(TopTrainer, "run", "training")
    phases.wrap(export, "merge_tensors", "save")
    phases.wrap(export, "save_delta", "save")
    methods.train(setup.job(output, **settings))
    whole = phases.whole()
    log = (output / "training" / LOG).read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in log]
    return {
        **phases.seconds,
        "whole": whole,
        "memory": peak_memory(torch.device(setup.device)),
        "losses": [loss for record in records for loss in record["item_losses"]],
        "items": [item for record in records for item in record["items"]],
    }


def further(setup: Setup, output: Path) -> dict[str, Any]:
    """Train further configurations over one trunk, as `lens sweep` does; mean seconds of each."""
    import torch

    from lens_train import lens as method
    from lens_train.memory import peak_memory
    from lens_train.stream import open_decoder

    job = setup.job(output, **ALONE)
    plan = method.make_plan(job)
    decoder = open_decoder(job.model, plan.device, plan.dtype, plan.config.stream, len(plan.trained))
    kept = method.keep_states(plan, decoder)
    subspaces = method.find_subspaces(plan, decoder, kept)
    prepared = method.prepare(plan, decoder, kept)
    initial = {name: value.data.clone() for name, value in prepared.parameters.items()}
    references: dict[Any, Any] = {}
    seconds = []
    for changes in ({}, *FURTHER):
        phases = Phases(setup.device)
        for name, parameter in prepared.parameters.items():
            parameter.data.copy_(initial[name])
        one = method.with_settings(plan, changes, SEED)
        method.trainer(one, prepared, subspaces, None, references).run()
        seconds.append(phases.whole())
    return {"whole": sum(seconds[1:]) / len(FURTHER), "memory": peak_memory(torch.device(setup.device))}


WAYS: dict[str, Callable[[Setup, Path], dict[str, Any]]] = {
    "plain": plain,
    "lens_official": lambda setup, output: lens(setup, output, **ALONE),
    "lens_delta": lambda setup, output: lens(setup, output, **ALONE, delta=True),
    "lens": lambda setup, output: lens(setup, output),
    "further": further,
}
LABELS = {
    "plain": "plain two-model trainer: probe, one run",
    "lens_official": "lens_train, `compat: official`: probe, one run",
    "lens_delta": "the same with `delta`: changed tensors only",
    "lens": "lens_train, default: probe, one run",
    "further": "lens_train: each further configuration of a sweep",
}


def measure(way: str, setup: Setup, threads: int) -> dict[str, Any]:
    """Run one way in a process of its own; adds its CPU seconds, and on the CPU its peak memory."""
    output, result = setup.folder / f"out-{way}", setup.folder / f"{way}.json"
    shutil.rmtree(output, ignore_errors=True)
    command = [sys.executable, "-m", "benchmarks.lens_speed", "--way", way, "--folder", str(setup.folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    command += ["--device", setup.device, "--dtype", setup.dtype, *(["--same"] if setup.same else [])]
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{way} ended with status {process.returncode}")
    shutil.rmtree(output, ignore_errors=True)
    found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    if setup.device == "cpu":
        found["memory"] = usage.ru_maxrss * 1024
    return {**found, "cpu": usage.ru_utime + usage.ru_stime}


def best(runs: Sequence[dict[str, Any]], key: str) -> float:
    """Smallest value of several rounds: what the computation costs, less what else the machine did."""
    return float(min(run[key] for run in runs))


def alone(runs: Sequence[dict[str, Any]]) -> float | None:
    """Seconds of probing and training without loading and saving."""
    return min(run["probe"] + run["training"] for run in runs) if "probe" in runs[0] else None


def report(runs: dict[str, list[dict[str, Any]]], setup: Setup, layers: int, threads: int) -> None:
    """Write the table."""
    device, low = setup.device, setup.dtype == "bfloat16"
    base = runs["plain"]
    base_alone = alone(base)
    assert base_alone is not None
    rows: list[dict[str, Any]] = []
    for way, found in runs.items():
        whole = best(found, "whole")
        work = whole if way == "further" else alone(found)
        assert work is not None
        same = way != "further" if setup.same else way not in ("lens", "further")
        rows.append(
            {
                "what": _label(way, setup),
                "seconds": whole,
                "times the plain one's speed": best(base, "whole") / whole,
                "probe and training alone, seconds": work,
                "times the plain one's": base_alone / work,
                "peak memory, GB": best(found, "memory") / 1e9,
                "of the plain one's": best(found, "memory") / best(base, "memory"),
                "losses differ by": difference(base[0], found[0]) if same else "other settings",
            }
        )
    size = (
        "126M Llama, 16 layers x 768" if device == "cpu" else f"Shape of an 8B Llama, {layers} layers x 4096"
    )
    shape = f"{size}, {setup.dtype}{' (trained layers in float32)' if low else ''}"
    where = f"{threads} threads" if device == "cpu" else "the model's files in the page cache"
    data = f"{PROBE_ITEMS} probing prompts per language, {TRAIN_ITEMS} pairs"
    if setup.same:
        data = f"{TRAIN_ITEMS} pairs, probed and trained on, through the default template"
    notes = [
        f"{shape}, random weights; {data} in 25 steps; {where}; fastest of {len(base)} alternating rounds.",
        "Each way from loading the model to a saved checkpoint, in a process of its own that has imported "
        "its libraries. " + ("Memory is that of the process." if device == "cpu" else "Memory is the GPU's."),
        *[f"{_label(way, setup)}: {_parts(found)}." for way, found in runs.items() if way != "further"],
        "The default run also writes its diagnostics, which the others leave out.",
        "Losses: largest relative difference over all items. "
        + (SAME_GOALS[setup.dtype] if setup.same else GOALS[device]),
    ]
    name = "lens_speed_gpu" if device == "cuda" else "lens_speed_bfloat16" if low else "lens_speed"
    write_table(name + ("_same" if setup.same else ""), "Lens against a plain two-model trainer", rows, notes)


def _label(way: str, setup: Setup) -> str:
    return LABELS[way].replace("`compat: official`", "without diagnostics") if setup.same else LABELS[way]


def _parts(runs: Sequence[dict[str, Any]]) -> str:
    fastest = min(runs, key=lambda run: run["whole"])
    return ", ".join(f"{name} {fastest[name]:.1f} s" for name in ("load", "probe", "training", "save"))


def difference(one: dict[str, Any], other: dict[str, Any]) -> float:
    """Largest relative difference of the losses of two runs in the same order."""
    if one["items"] != other["items"]:
        raise SystemExit("the two ways took the items in different orders; their losses cannot be compared")
    pairs = zip(one["losses"], other["losses"], strict=True)
    return max(abs(a - b) / abs(a) for a, b in pairs)


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", choices=sorted(GOALS), default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], help="float32 on the CPU, else bfloat16")
    parser.add_argument("--same", action="store_true", help="probe the prompts that are trained on")
    parser.add_argument("--layers", type=int, default=32, help="of the model on a GPU")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--way", choices=sorted(WAYS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    dtype = arguments.dtype or ("float32" if arguments.device == "cpu" else "bfloat16")
    if arguments.way:
        importlib.import_module("transformers.models.llama.modeling_llama")  # before any way's clock runs
        setup = Setup(arguments.folder, arguments.device, dtype, arguments.same)
        found = WAYS[arguments.way](setup, arguments.folder / f"out-{arguments.way}")
        (arguments.folder / f"{arguments.way}.json").write_text(json.dumps(found), encoding="utf-8")
        return
    with tempfile.TemporaryDirectory() as name:
        setup = Setup(Path(name), arguments.device, dtype, arguments.same)
        save_data(setup.folder, save_tokenizer(setup.folder / "model"))
        if arguments.device == "cpu":
            save_small(setup.folder / "model", dtype)
        else:
            save_large(setup.folder / "model", arguments.layers)
        runs: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
        for _ in range(arguments.rounds):
            for way in WAYS:
                runs[way].append(measure(way, setup, arguments.threads))
                seconds = {key: value for key, value in runs[way][-1].items() if isinstance(value, float)}
                print(way, seconds, file=sys.stderr, flush=True)
    report(runs, setup, arguments.layers, arguments.threads)


if __name__ == "__main__":
    main()
