"""The Lens method from end to end: check, probe, run the trunk, train the top, export."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lens_eval.errors import UserError
from lens_train import export, methods
from lens_train.config import LensConfig
from lens_train.data import ParallelPrompts, read_prompts
from lens_train.job import Job, Variant
from lens_train.layers import (
    Decoder,
    checkpoint_folder,
    load_model,
    load_tokenizer,
    model_identity,
    resolve_device,
    resolve_dtype,
)
from lens_train.loop import TopTrainer, free_parameters, rank, trained_layers
from lens_train.losses import Objective
from lens_train.probe import expected_identity, probe, probe_identity, renderer, save_folder
from lens_train.subspace import RECORD, Subspaces
from lens_train.trunk import Trunk

RUN_SETTINGS = ("subspaces", "probe_data", "delta")
"""Settings of a run, not of the method: a subspace folder, data to probe with, write a delta only."""


@dataclass(frozen=True)
class Plan:
    """A job whose every part has been checked, before any work."""

    job: Job
    config: LensConfig
    identity: Mapping[str, str]
    tokenizer: Any
    train_data: ParallelPrompts
    probe_data: ParallelPrompts | None
    """None where subspaces are given."""
    subspaces: Subspaces | None
    delta: bool
    device: torch.device
    dtype: torch.dtype


def train(job: Job) -> None:
    """Probe (unless subspaces are given), train, and fill `job.output` with a checkpoint or a delta.

    Settings are the fields of `LensConfig`, and: `subspaces` (folder made by `lens probe`), `probe_data`
    (texts to probe with; the training data where absent), `delta` (true: changed tensors only).

    Raises:
        UserError: anything wrong with what was asked for; raised before work, but for losses that explode.
    """
    begun = time.monotonic()
    plan = check(job)
    methods.begin(job)
    decoder = Decoder(load_model(job.model, plan.device, plan.dtype))
    wanted = trained_layers(plan.config, len(decoder))
    base = export.find_tensors(checkpoint_folder(job.model))
    subspaces = find_subspaces(plan, decoder)
    parameters = free_parameters(decoder.layers, wanted)
    trained = {id(value): value for value in parameters.values()}
    export.checkpoint_tensors(
        decoder.model, trained, base
    )  # it must be possible to write what will be trained
    trainer, tokens = prepare(plan, decoder, subspaces, wanted, parameters)
    trainer.run()
    if rank():
        return
    changed = export.checkpoint_tensors(decoder.model, trained, base)
    if plan.delta:
        export.save_delta(changed, base, job.output)
    else:
        export.merge_tensors(checkpoint_folder(job.model), changed, job.output)
    finish(plan, tokens, time.monotonic() - begun)


def check(job: Job) -> Plan:
    """Check everything that can be checked without the model's weights in memory."""
    methods.check_output(job)
    settings = dict(job.settings)
    run = {name: settings.pop(name) for name in RUN_SETTINGS if name in settings}
    config = LensConfig.build(job.languages, job.central, settings)
    device = resolve_device(job.device)
    train_data = read_prompts(resolve_data(job.data), config.languages, config.train_items)
    tokenizer = load_tokenizer(job.model)
    renderer(tokenizer, config, "train")
    folder = checkpoint_folder(job.model)
    delta = bool(run.get("delta", False))
    export.need_disk(job.output, 0 if delta else export.checkpoint_bytes(folder))
    identity = model_identity(job.model)
    subspaces = probe_data = None
    if run.get("subspaces"):
        subspaces = Subspaces.load(Path(run["subspaces"]))
        subspaces.require(expected_identity(identity, config))
    else:
        probe_data = read_prompts(
            resolve_data(run.get("probe_data") or job.data), config.languages, config.probe_items
        )
    dtype = resolve_dtype(config.dtype, device)
    return Plan(job, config, identity, tokenizer, train_data, probe_data, subspaces, delta, device, dtype)


def resolve_data(name: str | Path) -> Path:
    """Path of parallel data; `builtin`, `builtin:dev` and the like are the built-in world's."""
    if str(name).partition(":")[0] == "builtin":
        from lens_eval.mini import resolve_data as resolve_builtin

        return resolve_builtin(str(name))
    return Path(name)


def find_subspaces(plan: Plan, decoder: Decoder) -> Subspaces:
    """The subspaces given, those of the interrupted run, or new ones; kept with the run."""
    if plan.subspaces is not None:
        return plan.subspaces
    assert plan.probe_data is not None
    folder = save_folder(plan.job.output)
    if (folder / RECORD).is_file():
        subspaces = Subspaces.load(folder)
        subspaces.require(expected_identity(plan.identity, plan.config))
        return subspaces
    identity = probe_identity(plan.identity, plan.probe_data, plan.config, plan.dtype)
    subspaces = probe(decoder, plan.probe_data, plan.tokenizer, plan.config, identity)
    if rank() == 0:
        subspaces.save(folder)
    return subspaces


def prepare(
    plan: Plan,
    decoder: Decoder,
    subspaces: Subspaces,
    wanted: tuple[int, ...],
    parameters: Mapping[str, torch.nn.Parameter],
) -> tuple[TopTrainer, int]:
    """Run the trunk and set up the trainer; returns it with the number of tokens of all training prompts."""
    config = plan.config
    layers = tuple(decoder.index(layer) for layer in config.loss_layers)
    if max(layers) < wanted[0]:
        raise UserError(
            f"loss_layers {list(layers)} lie below the first trained layer {wanted[0]}: nothing would change"
        )
    objective = Objective.make(config, subspaces, layers, decoder.device)
    render = renderer(plan.tokenizer, config, "train")
    prompts: list[list[int]] = []
    rows: dict[str, range] = {}
    for code in objective.languages:
        texts = plan.train_data.texts[code]
        rows[code] = range(len(prompts), len(prompts) + len(texts))
        prompts += render(texts, config.train_tokens)
    trunk = Trunk.build(decoder, prompts, range(len(prompts)), wanted[0], config.batch_tokens)
    folder = plan.job.output / "training"
    trainer = TopTrainer(
        trunk, rows, layers, objective, parameters, config, plan.job.seed, folder, run_id(plan)
    )
    return trainer, sum(map(len, prompts))


def run_id(plan: Plan) -> str:
    """Identity of a run: the job, the model's weights and the data."""
    facts = [methods.describe(plan.job), dict(plan.identity), plan.train_data.sha256]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def finish(plan: Plan, tokens: int, seconds: float) -> None:
    """Write `variant.json`, which makes the folder a finished variant."""
    data = plan.train_data
    Variant(
        method=plan.job.method,
        kind="delta" if plan.delta else "checkpoint",
        base=plan.identity,
        languages=plan.config.languages,
        central=plan.config.central,
        settings=dict(plan.job.settings),
        seed=plan.job.seed,
        data={"name": data.name, "sha256": data.sha256, "items": len(data)},
        tokens_seen=tokens * plan.config.epochs,
        wall_seconds=round(seconds, 2),
        peak_memory_bytes=peak_memory(plan.device),
        versions=versions(),
    ).save(plan.job.output)


def peak_memory(device: torch.device) -> int:
    """Largest memory held so far, bytes: of the GPU where one is used, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def versions() -> dict[str, str]:
    """Versions of what computed the numbers."""
    import transformers

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def probe_folder(
    model: str,
    data: str | Path,
    languages: tuple[str, ...],
    central: str,
    output: Path,
    settings: Mapping[str, Any],
    device: str = "auto",
) -> Subspaces:
    """Probe a model and write its subspaces to the folder `output`.

    Raises:
        UserError: anything wrong with what was asked for, before any work.
    """
    config = LensConfig.build(languages, central, settings)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"output {output} is not empty; name another folder")
    place = resolve_device(device)
    texts = read_prompts(resolve_data(data), languages, config.probe_items)
    tokenizer = load_tokenizer(model)
    renderer(tokenizer, config, "probe")
    dtype = resolve_dtype(config.dtype, place)
    identity = probe_identity(model_identity(model), texts, config, dtype)
    subspaces = probe(Decoder(load_model(model, place, dtype)), texts, tokenizer, config, identity)
    subspaces.save(output)
    return subspaces
