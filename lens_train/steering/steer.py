"""Steering without training: language-specific parts removed and put back, or a language direction added.

The method follows arXiv 2505.15257 (language-reasoning disentanglement). In middle layers the part of a
hidden state in the language-specific subspace is removed, h <- h - s P h, so that reasoning depends less on
the language. In upper layers that part is put back, h <- h + s P h, so that the answer stays in its language.
Plain addition, h <- h + s d, adds the direction of a language instead.

`train` probes and writes a small folder: `steering.safetensors`, `steering.json`, `variant.json`.
`Steerer` applies the steering to any causal model of transformers; `lens_eval.backends.steered` applies it
under lm_eval.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from lens_eval.base.errors import UserError
from lens_eval.mini import resolve_data
from lens_train import methods
from lens_train.checkpoint import Checkpoint
from lens_train.config import LensConfig
from lens_train.data import read_prompts
from lens_train.decoder import Decoder, load_model
from lens_train.devices import resolve_device, resolve_dtype
from lens_train.job import Job, Variant
from lens_train.memory import peak_memory
from lens_train.probing import expected_identity, probe, probe_identity, probe_prompts
from lens_train.steering.steering import Edit, Steering
from lens_train.subspace import Subspaces

MIDDLE, UPPER = (0.3, 0.7), (0.7, 0.97)
"""Shares of the depth in which parts are removed and put back, if no layers are named."""


@dataclass(frozen=True)
class SteerSettings:
    """The edits per layer, and how the subspaces are found.

    Layers count from 0, negative indices from the end. The last layer's state is taken after the final norm.
    """

    remove_strength: float = 0.2
    """s of h - s P h; 0 leaves the removal out. The paper takes 0 to 0.4."""
    remove_layers: tuple[int, ...] | None = None
    """None: 30 to 70% of the depth."""
    restore_strength: float = 0.2
    """s of h + s P h; 0 leaves the restoration out. The paper takes 0 to 0.4."""
    restore_layers: tuple[int, ...] | None = None
    """None: 70 to 97% of the depth."""
    add_strength: float = 0.0
    """s of h + s d, where d is the direction of the answer's language; 0 leaves the addition out."""
    add_layers: tuple[int, ...] | None = None
    """None: 70 to 97% of the depth."""
    subspaces: str | None = None
    """Folder made by `lens probe`; None: probe the prompts of the data."""
    rank: int | None = None
    """Dimensions of the specific subspace; None: number of languages - 1."""
    probe_items: int = 300
    probe_tokens: int = 64
    template: Literal["chat", "plain"] = "chat"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"

    def __post_init__(self) -> None:
        for name in ("remove_strength", "restore_strength", "add_strength"):
            if not math.isfinite(getattr(self, name)):
                raise UserError(f"setting {name} is {getattr(self, name)}; it must be a finite number")
        for name in ("rank", "probe_items", "probe_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"setting {name} is {value}; it must be at least 1")


def train(job: Job) -> None:
    """Probe (unless subspaces are given), and write the steering folder to `job.output`."""
    begun = time.perf_counter()
    settings = methods.read_settings(SteerSettings, job.settings, job.method)
    config = LensConfig(
        job.languages,
        job.central,
        rank=settings.rank,
        probe_items=settings.probe_items,
        probe_tokens=settings.probe_tokens,
        template=settings.template,
        dtype=settings.dtype,
    )
    device = resolve_device(job.device)
    dtype = resolve_dtype(config.dtype, device)
    checkpoint = Checkpoint.open(job.model)
    identity, tokenizer = checkpoint.identity, checkpoint.tokenizer
    texts = read_prompts(resolve_data(job.data), job.languages, config.most_probed)
    decoder = Decoder(load_model(checkpoint, device, dtype))
    edits = make_edits(settings, decoder)
    if not edits:
        raise UserError(
            "this steering would change nothing: raise one of remove_strength, restore_strength and "
            "add_strength above 0, and leave its layers to the default or name some"
        )
    tokens = 0
    if settings.subspaces:
        subspaces = Subspaces.load(Path(settings.subspaces))
        subspaces.require(expected_identity(identity, config))
        subspaces.require_fitting(len(decoder), decoder.width, config.languages, config.subspace_rank)
    else:
        subspaces = probe(decoder, texts, tokenizer, config, probe_identity(identity, texts, config, dtype))
        tokens = sum(
            len(ids) for prompts in probe_prompts(texts, tokenizer, config).values() for ids in prompts
        )
    methods.begin(job)
    source = {
        "name": texts.name,
        "sha256": texts.sha256,
        "items": len(texts),
        "positions": "last of a prompt",
    }
    steering = pick(edits, subspaces, identity)
    replace(steering, source=source, settings=asdict(settings)).save(job.output)
    Variant.untrained(
        job,
        "steering",
        identity,
        asdict(settings),
        {"name": texts.name, "sha256": texts.sha256, "items": len(texts), "probe_tokens": tokens},
        begun,
        peak_memory(device),
    ).save(job.output)


def make_edits(settings: SteerSettings, decoder: Any) -> tuple[Edit, ...]:
    """The edits that the settings ask for, with layers counted from 0.

    Raises:
        UserError: the settings name a layer that the model does not have.
    """
    count = len(decoder)

    def chosen(named: tuple[int, ...] | None, share: tuple[float, float]) -> list[int]:
        if named is not None:
            return sorted({decoder.index(layer) for layer in named})
        return list(range(math.ceil(share[0] * count), math.ceil(share[1] * count)))

    wanted: list[
        tuple[tuple[int, ...] | None, tuple[float, float], Literal["specific", "direction"], float]
    ] = [
        (settings.remove_layers, MIDDLE, "specific", -settings.remove_strength),
        (settings.restore_layers, UPPER, "specific", settings.restore_strength),
        (settings.add_layers, UPPER, "direction", settings.add_strength),
    ]
    return tuple(
        Edit(layer, kind, strength)
        for named, share, kind, strength in wanted
        if strength
        for layer in chosen(named, share)
    )


def pick(edits: tuple[Edit, ...], subspaces: Any, base: Mapping[str, str]) -> Steering:
    """A steering with the tensors that the edits need, taken from the subspaces of all layers."""
    specific = {edit.layer: subspaces.specific[edit.layer] for edit in edits if edit.kind == "specific"}
    directions = {
        edit.layer: {code: tensor[edit.layer] for code, tensor in subspaces.directions.items()}
        for edit in edits
        if edit.kind == "direction"
    }
    return Steering(edits, specific, directions, base)
