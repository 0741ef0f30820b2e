"""The Lens method from end to end: check, probe, run the trunk, train the top, export."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
import time
from collections.abc import Mapping, Sequence
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
    causal_config,
    checkpoint_folder,
    load_tokenizer,
    model_identity,
    resolve_device,
    resolve_dtype,
)
from lens_train.loop import TopTrainer, free_parameters, rank, read_layers, trained_layers
from lens_train.losses import Objective
from lens_train.probe import STATE as PROBE_STATE
from lens_train.probe import expected_identity, probe, probe_identity, renderer, save_folder
from lens_train.stream import open_decoder
from lens_train.subspace import RECORD, Subspaces
from lens_train.trunk import Trunk, WalkState

TRUNK_STATE = "trunk.safetensors"
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
    trained: tuple[int, ...]
    """Layers that are trained, counted from 0."""
    read: tuple[int, ...]
    """Layers that the losses read, counted from 0."""
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
    decoder = open_decoder(job.model, plan.device, plan.dtype, plan.config.stream, len(plan.trained))
    base = export.find_tensors(checkpoint_folder(job.model))
    # Asked for here already: it must be possible to write what will be trained.
    export.checkpoint_tensors(decoder.model, parameters_of(decoder, plan.trained), base)
    methods.begin(job)
    subspaces = find_subspaces(plan, decoder)
    trainer, tokens = prepare(plan, decoder, subspaces)
    trainer.run()
    if rank():
        return
    changed = export.checkpoint_tensors(decoder.model, parameters_of(decoder, plan.trained), base)
    if plan.delta:
        export.save_delta(changed, base, job.output)
    else:
        export.merge_tensors(checkpoint_folder(job.model), changed, job.output)
    (job.output / "training" / TRUNK_STATE).unlink(missing_ok=True)
    finish(plan, tokens, time.monotonic() - begun)


def parameters_of(decoder: Decoder, layers: Sequence[int]) -> dict[int, torch.nn.Parameter]:
    """Parameters of some layers, by `id`."""
    return {id(value): value for layer in layers for value in decoder.layers[layer].parameters()}


def check(job: Job) -> Plan:
    """Check everything that can be checked without the model's weights in memory."""
    methods.check_output(job)
    settings = dict(job.settings)
    run = {name: settings.pop(name) for name in RUN_SETTINGS if name in settings}
    config = LensConfig.build(job.languages, job.central, settings)
    device = resolve_device(job.device)
    count = causal_config(job.model).get_text_config().num_hidden_layers
    trained, read = trained_layers(config, count), read_layers(config, count)
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
    dtype = resolve_dtype(config.dtype, device, job.model)
    return Plan(
        job,
        config,
        identity,
        tokenizer,
        train_data,
        probe_data,
        subspaces,
        delta,
        trained,
        read,
        device,
        dtype,
    )


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
    subspaces = probe(decoder, plan.probe_data, plan.tokenizer, plan.config, identity, folder)
    if rank() == 0:
        subspaces.save(folder)
        (folder / PROBE_STATE).unlink(missing_ok=True)
    return subspaces


def prepare(plan: Plan, decoder: Decoder, subspaces: Subspaces) -> tuple[TopTrainer, int]:
    """Run the trunk and set up the trainer; returns it with the number of tokens of all training prompts."""
    config = plan.config
    decoder.hold(plan.trained[0])
    decoder.model.requires_grad_(False)
    parameters = free_parameters(decoder.layers, plan.trained)
    objective = Objective.make(config, subspaces, plan.read, decoder.device)
    render = renderer(plan.tokenizer, config, "train")
    prompts: list[list[int]] = []
    rows: dict[str, range] = {}
    for code in objective.languages:
        texts = plan.train_data.texts[code]
        rows[code] = range(len(prompts), len(prompts) + len(texts))
        prompts += render(texts, config.train_tokens)
    folder = plan.job.output / "training"
    state = WalkState(folder / TRUNK_STATE, run_id(plan))
    budget = config.batch_tokens
    trunk = Trunk.build(decoder, prompts, range(len(prompts)), plan.trained[0], budget, state)
    decoder.free_embeddings()
    trainer = TopTrainer(
        trunk, rows, plan.read, objective, parameters, config, plan.job.seed, folder, run_id(plan)
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
    if output.exists() and (not output.is_dir() or {file.name for file in output.iterdir()} - {PROBE_STATE}):
        raise UserError(f"output {output} is not empty; name another folder")
    place = resolve_device(device)
    texts = read_prompts(resolve_data(data), languages, config.probe_items)
    tokenizer = load_tokenizer(model)
    renderer(tokenizer, config, "probe")
    dtype = resolve_dtype(config.dtype, place, model)
    identity = probe_identity(model_identity(model), texts, config, dtype)
    decoder = open_decoder(model, place, dtype, config.stream)
    subspaces = probe(decoder, texts, tokenizer, config, identity, output)
    subspaces.save(output)
    (output / PROBE_STATE).unlink(missing_ok=True)
    return subspaces
