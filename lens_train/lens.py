"""The Lens method from end to end: check, probe, run the trunk, train the top, export."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lens_eval.base import files
from lens_eval.base.errors import UserError
from lens_eval.base.files import is_leftover, lock
from lens_eval.mini import resolve_data
from lens_train import export, methods
from lens_train.checkpoint import Checkpoint
from lens_train.config import LensConfig
from lens_train.data import ParallelPrompts, read_prompts
from lens_train.decoder import Decoder
from lens_train.devices import dtype_name, resolve_device, resolve_dtype
from lens_train.job import Job, Variant, versions
from lens_train.loop import STATE as TRAINING_STATE
from lens_train.loop import (
    TopTrainer,
    free_parameters,
    read_layers,
    require_rate,
    step_items,
    trained_layers,
)
from lens_train.losses import Objective, Units
from lens_train.memory import peak_memory
from lens_train.plan import HeldOut, Plan
from lens_train.probing import STATE as PROBE_STATE
from lens_train.probing import expected_identity, probe, probe_identity, probe_prompts, renderer, save_folder
from lens_train.processes import join, rank
from lens_train.stream import open_decoder
from lens_train.subspace import RECORD, Subspaces
from lens_train.subspace import TENSORS as SUBSPACE_TENSORS
from lens_train.trunk import Trunk
from lens_train.walk import Kept, WalkState
from lens_train.watch import outcome
from lens_train.watch.diagnostics import FEWEST, About, Watch

TRUNK_STATE = "trunk.safetensors"
RUN_SETTINGS = ("subspaces", "probe_data", "delta", "dev_data", "diagnose", "show_replies")
"""Settings of a run, not of the method: see `train`."""
DIAGNOSED_ITEMS = 50


@dataclass(frozen=True)
class Prepared:
    """What the runs over one trunk share."""

    trunk: Trunk
    rows: Mapping[str, range]
    """Language -> row in the trunk of each item."""
    parameters: Mapping[str, torch.nn.Parameter]


def train(job: Job) -> None:
    """Probe (unless subspaces are given), train, and write a checkpoint or a delta to `job.output`.

    Settings are the fields of `LensConfig`, and those of the run:

    - `subspaces`: folder made by `lens probe`;
    - `probe_data`: prompts to probe; without it the training data;
    - `delta`: if true, write only the changed tensors;
    - `dev_data`: prompts for diagnostics and replies, not trained on;
    - `diagnose`: number of prompts per language that the diagnostics read, 0 = none;
    - `show_replies`: number of prompts per language answered before and after training, 0 = none.

    Raises:
        UserError: a setting or an input is wrong (raised before any work), or a loss explodes.
    """
    begun = time.monotonic()
    plan = check(job)
    join(plan.device)
    decoder = open_decoder(plan.checkpoint, plan.device, plan.dtype, plan.config.stream, len(plan.trained))
    base = export.find_tensors(plan.checkpoint.folder)
    # Computed before training, to fail early if the trained tensors could not be written.
    names = list(export.checkpoint_tensors(decoder.model, parameters_of(decoder, plan.trained), base))
    methods.begin(job)
    kept = keep_states(plan, decoder)
    subspaces = find_subspaces(plan, decoder, kept)
    prepared = prepare(plan, decoder, kept)
    folder = job.output / "training"
    watch = None if plan.held_out is None or rank() else watch_held_out(plan, decoder, prepared, kept)
    del kept
    stored = outcome.stored_type(names, base)
    shown = None if rank() else outcome.begin(plan, decoder, prepared.parameters, stored, run_id(plan))
    log = trainer(plan, prepared, subspaces, folder).run()
    if rank():
        return
    if watch is not None:
        watch.write(folder, subspaces)
    changed = export.checkpoint_tensors(decoder.model, parameters_of(decoder, plan.trained), base)
    if plan.delta:
        export.save_delta(changed, base, job.output)
    else:
        export.merge_tensors(plan.checkpoint.folder, changed, job.output)
    found = outcome.end(plan, decoder, prepared.parameters, changed, base, log, shown)
    finish(plan, trained_tokens(plan, prepared), time.monotonic() - begun, found)
    remove_states(folder)


def parameters_of(decoder: Decoder, layers: Sequence[int]) -> dict[int, torch.nn.Parameter]:
    """Parameters of `layers`, by `id`."""
    return {id(value): value for layer in layers for value in decoder.layers[layer].parameters()}


def check(job: Job) -> Plan:
    """Check the output folder, and everything else that needs no model weights in memory."""
    methods.check_output(job)
    plan = make_plan(job)
    files.need_disk(job.output, 0 if plan.delta else plan.checkpoint.bytes)
    return plan


def make_plan(job: Job) -> Plan:
    """Check everything about a job except its output folder."""
    settings = dict(job.settings)
    run = {name: settings.pop(name) for name in RUN_SETTINGS if name in settings}
    checkpoint = Checkpoint.open(job.model)
    checkpoint.require_whole_weights("Lens")
    shape = checkpoint.config.get_text_config()
    config = LensConfig.build(job.languages, job.central, settings).for_width(shape.hidden_size)
    device = resolve_device(job.device)
    count = shape.num_hidden_layers
    trained, read = trained_layers(config, count), read_layers(config, count)
    train_data = read_prompts(resolve_data(job.data), config.languages, config.train_items)
    require_rate(config, len(train_data))
    renderer(checkpoint.tokenizer, config, "train")
    identity = checkpoint.identity
    subspaces = probe_data = None
    if run.get("subspaces"):
        subspaces = Subspaces.load(Path(run["subspaces"]))
        subspaces.require(expected_identity(identity, config))
        subspaces.require_fitting(count, shape.hidden_size, config.languages, config.subspace_rank)
    else:
        probe_data = read_prompts(
            resolve_data(run.get("probe_data") or job.data), config.languages, config.most_probed
        )
    dtype = resolve_dtype(config.dtype, device, checkpoint)
    probed = probed_of(job, config, probe_data, subspaces)
    held_out = partial(find_held_out, job, config, run, len(train_data), probed)
    return Plan(
        job,
        config,
        checkpoint,
        identity,
        train_data,
        probe_data,
        subspaces,
        held_out("diagnose", DIAGNOSED_ITEMS),
        bool(run.get("delta", False)),
        trained,
        read,
        device,
        dtype,
        held_out("show_replies", outcome.SHOWN),
    )


def with_settings(plan: Plan, changes: Mapping[str, Any], seed: int) -> Plan:
    """The plan with changed settings; only settings that need no new probing and no new trunk can change."""
    settings = {**plan.job.settings, **changes}
    own = {name: value for name, value in settings.items() if name not in RUN_SETTINGS}
    shape = plan.checkpoint.config.get_text_config()
    config = LensConfig.build(plan.job.languages, plan.job.central, own).for_width(shape.hidden_size)
    require_rate(config, len(plan.train_data))
    count = shape.num_hidden_layers
    job = replace(plan.job, settings=settings, seed=seed)
    return replace(plan, job=job, config=config, read=read_layers(config, count))


def keep_states(plan: Plan, decoder: Decoder) -> Kept | None:
    """Where probing keeps the states of training prompts, for training and for the diagnostics.

    None with `compat: official`, because its system messages for probing and training differ.
    """
    decoder.model.requires_grad_(False)  # torch may compute a product differently if a weight is trained
    if plan.config.protocol.own_systems:
        return None
    every = [prompt for prompts in train_prompts(plan).values() for prompt in prompts]
    lower = plan.held_out is not None and plan.held_out.source == "train" and not is_streamed(decoder)
    start, budget = plan.trained[0], plan.config.batch_tokens
    return Kept.make(decoder, every, range(len(every)), start, budget, lower)


def is_streamed(decoder: Decoder) -> bool:
    """Whether the model's layers are read from disk one at a time."""
    return len(decoder.spans(len(decoder))) > 1


def train_prompts(plan: Plan) -> dict[str, list[list[int]]]:
    """Language -> token ids of each training prompt."""
    render = renderer(plan.tokenizer, plan.config, "train")
    texts = plan.train_data.texts
    return {code: render(texts[code], plan.config.train_tokens) for code in plan.config.languages}


def find_subspaces(plan: Plan, decoder: Decoder, kept: Kept | None = None) -> Subspaces:
    """The given subspaces, those of the interrupted run, or new ones, which are stored with the run."""
    if plan.subspaces is not None:
        return plan.subspaces
    assert plan.probe_data is not None
    folder = save_folder(plan.job.output)
    if (folder / RECORD).is_file():
        subspaces = Subspaces.load(folder)
        config = plan.config
        subspaces.require(expected_identity(plan.identity, config))
        subspaces.require_fitting(len(decoder), decoder.width, config.languages, config.subspace_rank)
        return subspaces
    identity = probe_identity(plan.identity, plan.probe_data, plan.config, plan.dtype)
    subspaces = probe(decoder, plan.probe_data, plan.tokenizer, plan.config, identity, folder, kept)
    if rank() == 0:
        if kept is not None and kept.hidden and kept.complete and is_streamed(decoder):
            trunk_state(plan, kept).save(0, {}, last=True)
        subspaces.save(folder)
        (folder / PROBE_STATE).unlink(missing_ok=True)
    return subspaces


def probed_of(
    job: Job, config: LensConfig, probe_data: ParallelPrompts | None, subspaces: Subspaces | None
) -> int:
    """How many of the first items of the training file were probed, now or for the given subspaces.

    Files are the same by their name, or by their prompts, whatever they are called.
    """
    if probe_data is not None:
        name, digest, items = probe_data.name, probe_data.sha256, len(probe_data)
    else:
        assert subspaces is not None
        known = subspaces.identity
        name, digest = str(known.get("data")), str(known.get("data_sha256"))
        items = int(known.get("items", 0))
    data = resolve_data(job.data)
    if name == data.name:
        return items
    try:
        read = {read_prompts(data, config.languages, most).sha256 for most in (items, config.most_probed)}
    except UserError:  # an item is faulty that the run itself does not need
        return 0
    return items if digest in read else 0


def find_held_out(
    job: Job,
    config: LensConfig,
    run: Mapping[str, Any],
    trained: int,
    probed: int,
    name: str,
    default: int,
) -> HeldOut | None:
    """Prompts for diagnostics or replies: dev data, else items neither trained on nor probed.

    If too few such items are left, the first training items are used.

    Args:
        job: the run.
        config: settings of the method.
        run: settings of the run.
        trained: number of items trained on.
        probed: number of items probed.
        name: setting that gives the number of prompts per language; 0 = none.
        default: number of prompts if the setting is absent.

    Raises:
        UserError: the dev data cannot be read, or the setting is not a count.
    """
    count = run.get(name, default)
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise UserError(f"{name} is {count!r}; give a number of prompts per language, 0 for none")
    if not count:
        return None
    if run.get("dev_data"):
        texts = read_prompts(resolve_data(run["dev_data"]), config.languages, count)
        return HeldOut(texts, "dev", f"the first {len(texts)} items of the dev data {texts.name}")
    used = max(trained, probed)
    try:
        every = read_prompts(resolve_data(job.data), config.languages, used + count)
    except UserError:  # an item is faulty that the run itself does not need
        every = read_prompts(resolve_data(job.data), config.languages, trained)
    rest = every.part(used)
    if len(rest) >= min(count, FEWEST):
        words = f"items {used + 1} to {len(every)} of {every.name}, neither probed nor trained on"
        return HeldOut(rest, "rest", words)
    first = every.part(0, min(trained, count))
    return HeldOut(first, "train", f"the first {len(first)} training items: none were held out")


def trunk_state(plan: Plan, kept: Kept | None) -> WalkState:
    """The progress file of the training prompts through a streamed model."""
    path = plan.job.output / "training" / TRUNK_STATE
    return WalkState(path, run_id(plan), kept=kept)


def prepare(plan: Plan, decoder: Decoder, kept: Kept | None = None) -> Prepared:
    """Unfreeze the layers to train; run the frozen layers on the prompts, unless their states are `kept`."""
    config = plan.config
    decoder.hold(plan.trained[0])
    decoder.model.requires_grad_(False)
    parameters = free_parameters(decoder.layers, plan.trained)
    prompts: list[list[int]] = []
    rows: dict[str, range] = {}
    for code, own in train_prompts(plan).items():
        rows[code] = range(len(prompts), len(prompts) + len(own))
        prompts += own
    state = trunk_state(plan, kept)
    start, every = plan.trained[0], range(len(prompts))
    trunk = Trunk.build(decoder, prompts, every, start, config.batch_tokens, state, kept)
    if trunk.start:
        decoder.free_embeddings()
    return Prepared(trunk, rows, parameters)


def trainer(
    plan: Plan,
    prepared: Prepared,
    subspaces: Subspaces,
    folder: Path | None,
    references: dict[Any, Any] | None = None,
) -> TopTrainer:
    """Set up one run over a trunk; `TopTrainer` explains `folder` and `references`."""
    decoder = prepared.trunk.decoder
    units = Units.of(decoder, plan.read, subspaces.means) if plan.config.in_units else None
    objective = Objective.make(plan.config, subspaces, plan.read, decoder.device, units)
    return TopTrainer(
        prepared.trunk,
        prepared.rows,
        plan.read,
        objective,
        prepared.parameters,
        plan.config,
        plan.job.seed,
        folder,
        run_id(plan),
        {} if references is None else references,
    )


def watch_held_out(plan: Plan, decoder: Decoder, prepared: Prepared, kept: Kept | None = None) -> Watch:
    """Read the states of the held-out prompts before training.

    For a streamed model, these are training prompts, and layers from the first trained one on. Other prompts
    or layers would need one more pass over the whole checkpoint.
    """
    held = plan.held_out
    assert held is not None
    streamed = is_streamed(decoder)
    layers = tuple(range(prepared.trunk.start if streamed else 0, len(decoder)))
    if streamed:
        first = plan.train_data.part(0, len(held.texts))
        held = HeldOut(first, "train", f"the first {len(first)} training items: the model was streamed")
    about = About(held, plan.config.languages, plan.config.central, layers, plan.trained, plan.read)
    if streamed:
        return Watch.on_trunk(prepared.trunk, prepared.rows, about)
    if kept is not None and kept.lower is not None:
        return Watch.on_trunk(prepared.trunk, prepared.rows, about, kept.lower)
    render = renderer(plan.tokenizer, plan.config, "train")
    texts = held.texts.texts
    prompts = {code: render(texts[code], plan.config.train_tokens) for code in plan.config.languages}
    return Watch.on_prompts(decoder, prompts, about, plan.config.batch_tokens)


def run_id(plan: Plan) -> str:
    """Identity of a run: the job, the model's weights, the data, and the type that `auto` resolved to."""
    facts = [methods.describe(plan.job), dict(plan.identity), plan.train_data.sha256, str(plan.dtype)]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def trained_tokens(plan: Plan, prepared: Prepared) -> int:
    """Prompt tokens of all steps; a prompt counts once for each time it is trained on."""
    prompts, rows = prepared.trunk.prompts, prepared.rows.values()
    steps = step_items(plan.config, len(plan.train_data), plan.job.seed)
    return sum(len(prompts[own[item]]) for items in steps for item in items for own in rows)


def probed_tokens(plan: Plan) -> int:
    """Tokens of the prompts probed by this run; 0 if subspaces were given."""
    if plan.probe_data is None:
        return 0
    probed = probe_prompts(plan.probe_data, plan.tokenizer, plan.config)
    items = Subspaces.load(save_folder(plan.job.output)).identity["items"]
    return sum(len(ids) for prompts in probed.values() for ids in prompts[:items])


def finish(plan: Plan, tokens: int, seconds: float, found: Mapping[str, Any]) -> None:
    """Write `variant.json`, which makes the folder a finished variant."""
    data = plan.train_data
    Variant(
        method=plan.job.method,
        kind="delta" if plan.delta else "checkpoint",
        base=plan.identity,
        languages=plan.config.languages,
        central=plan.config.central,
        settings=every_setting(plan),
        seed=plan.job.seed,
        data={
            "name": data.name,
            "sha256": data.sha256,
            "items": len(data),
            "probe_tokens": probed_tokens(plan),
        },
        tokens_seen=tokens,
        wall_seconds=round(seconds, 2),
        peak_memory_bytes=peak_memory(plan.device),
        versions=versions(),
        outcome=found,
    ).save(plan.job.output)


def remove_states(folder: Path) -> None:
    """Remove the state files of a run, which are six times the size of the changed tensors.

    Call this only after `variant.json` is written: until then, a restarted run resumes from them.
    """
    for name in (TRUNK_STATE, TRAINING_STATE):
        (folder / name).unlink(missing_ok=True)


def every_setting(plan: Plan) -> dict[str, Any]:
    """All settings of the method, including defaults, and the given settings of the run.

    `dtype` is the type that `auto` resolved to on this machine.
    """
    own = {**asdict(plan.config), "dtype": dtype_name(plan.dtype)}
    del own["languages"], own["central"]
    return {**plan.job.settings, **own}


def probe_folder(
    model: str, data: str | Path, config: LensConfig, output: Path, device: str = "auto"
) -> Subspaces:
    """Probe a model and write its subspaces to the folder `output`.

    Raises:
        UserError: a setting or an input is wrong; raised before any work.
    """
    _check_probe_folder(output)
    with lock(output):
        _check_probe_folder(output)
        return _probe_into(output, model, data, config, device)


def _check_probe_folder(output: Path) -> None:
    """Refuse a folder that holds more than a killed probing leaves; the record, written last, is not left."""
    ours = {PROBE_STATE, SUBSPACE_TENSORS}
    if output.exists() and (
        not output.is_dir()
        or any(file.name not in ours and not is_leftover(file) for file in output.iterdir())
    ):
        raise UserError(f"output {output} is not empty; name another folder")


def _probe_into(output: Path, model: str, data: str | Path, config: LensConfig, device: str) -> Subspaces:
    place = resolve_device(device)
    texts = read_prompts(resolve_data(data), config.languages, config.most_probed)
    checkpoint = Checkpoint.open(model)
    renderer(checkpoint.tokenizer, config, "probe")
    dtype = resolve_dtype(config.dtype, place, checkpoint)
    identity = probe_identity(checkpoint.identity, texts, config, dtype)
    decoder = open_decoder(checkpoint, place, dtype, config.stream)
    subspaces = probe(decoder, texts, checkpoint.tokenizer, config, identity, output)
    subspaces.save(output)
    (output / PROBE_STATE).unlink(missing_ok=True)
    return subspaces
