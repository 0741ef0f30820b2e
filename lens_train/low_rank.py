"""A trained checkpoint as a LoRA adapter of its base: the change of each linear layer, cut to a rank by SVD.

The best approximation of a change D by a matrix of rank r is its r largest singular values. What is no linear
layer (norms, biases, experts kept as one tensor) cannot be part of an adapter, and stays as in the base.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lens_eval.base.errors import UserError
from lens_eval.base.progress import progress
from lens_train.checkpoint import Checkpoint, first_line
from lens_train.decoder import find_layers, load_model
from lens_train.export import Complete, check_tokens, folder_aside, require_base, require_free
from lens_train.files import write_tensors
from lens_train.job import Variant

ADAPTER = "adapter_model.safetensors"


@dataclass(frozen=True)
class LowRank:
    """What the adapter keeps of the change."""

    rank: int
    layers: Mapping[int, float]
    """Layer -> share of the squared change of all its weights that the adapter holds, 0 to 1."""
    left_out: int
    """Tensors that have changed and are no linear layer of a decoder layer."""
    most: float
    """Largest difference of logits between adapter and checkpoint, float32, on `export.check_tokens`."""
    effect: float
    """Largest difference of logits between base and checkpoint."""


def export_lora(
    folder: Path, rank: int, base: str, output: Path, complete: Complete | None = None
) -> LowRank:
    """Write the difference between a trained checkpoint and its base as an adapter of PEFT.

    Computed in float32, on the CPU; both models are in memory. `complete`: see `folder_aside`.

    Raises:
        UserError: the folder holds no trained checkpoint, `base` is not its base, no linear layer has
            changed, the rank is below 1, or the output folder is in use.
    """
    begun = time.perf_counter()
    if rank < 1:
        raise UserError(f"rank is {rank}; it must be at least 1")
    variant = _checkpoint_of(folder)
    require_free(output)
    checkpoint = Checkpoint.open(base)
    require_base(folder, variant.base, checkpoint)
    checkpoint.require_whole_weights("an adapter made of a checkpoint")
    before, after = load_model(checkpoint), load_model(str(folder))
    changes, left_out = _changes(before, after)
    with folder_aside(output, complete) as aside:
        factors, kept = _factors(before, changes, rank)
        shares = _shares(before, after, kept)
        _write(aside, factors, rank, before, checkpoint)
        most, effect = _difference(before, after, aside)
        found = LowRank(rank, shares, left_out, most, effect)
        record = {
            **variant.outcome,
            "low_rank": {**asdict(found), "layers": {str(k): v for k, v in shares.items()}},
        }
        seconds = round(variant.wall_seconds + time.perf_counter() - begun, 3)
        settings = {**variant.settings, "lora_rank": rank}
        replace(variant, kind="adapter", settings=settings, outcome=record, wall_seconds=seconds).save(aside)
    return found


def cut(change: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The nearest matrix of a rank, as a product B A.

    Args:
        change: (out, in).
        rank: of the product; more than the change has are filled with zeros.

    Returns:
        A, (rank, in), and B, (out, rank).
    """
    u, sizes, v = torch.linalg.svd(change.float(), full_matrices=False)
    held = min(rank, len(sizes))
    root = sizes[:held].sqrt()
    down, up = root[:, None] * v[:held], u[:, :held] * root
    pad = rank - held
    return nn.functional.pad(down, (0, 0, 0, pad)), nn.functional.pad(up, (0, pad))


def _checkpoint_of(folder: Path) -> Variant:
    try:
        variant = Variant.load(folder)
    except FileNotFoundError:
        raise UserError(f"{folder} holds no trained variant; name the output folder of lens train") from None
    if variant.kind != "checkpoint":
        raise UserError(
            f"{folder} holds a {variant.kind}, not a checkpoint"
            + ("; `lens merge` makes one of it" if variant.kind == "delta" else "")
        )
    return variant


def _layer_of(model: Any, name: str) -> int | None:
    """Number of the decoder layer that a module or parameter lies in."""
    found = re.search(r"\.(\d+)\.", name)
    if found is None or int(found[1]) >= model.config.get_text_config().num_hidden_layers:
        return None
    return int(found[1])


def _changes(before: Any, after: Any) -> tuple[dict[str, Tensor], int]:
    """Module -> change of its weight, for every linear layer that has changed; and how many others have.

    Raises:
        UserError: no linear layer has changed.
    """
    new = dict(after.named_parameters())
    found: dict[str, Tensor] = {}
    others = 0
    for name, old in before.named_parameters():
        change = (new[name] - old).detach()
        if not bool(change.any()):
            continue
        owner, _, last = name.rpartition(".")
        if (
            last == "weight"
            and type(before.get_submodule(owner)) is nn.Linear
            and _layer_of(before, name) is not None
        ):
            found[owner] = change
        else:
            others += 1
    if not found:
        raise UserError(
            "no linear layer differs from the base's; there is nothing that an adapter could hold"
        )
    return found, others


def _factors(
    model: Any, changes: Mapping[str, Tensor], rank: int
) -> tuple[dict[str, tuple[Tensor, Tensor]], dict[int, float]]:
    """Module -> A and B; layer -> squared size of what they hold. Modules beside a changed one get zeros."""
    layers = {_layer_of(model, name) for name in changes}
    kinds = {name.rpartition(".")[2] for name in changes}
    factors: dict[str, tuple[Tensor, Tensor]] = {}
    kept: dict[int, float] = {}
    modules = [
        (name, module)
        for name, module in model.named_modules()
        if type(module) is nn.Linear and name.rpartition(".")[2] in kinds and _layer_of(model, name) in layers
    ]
    for name, module in progress(modules, label="cutting to a rank", total=len(modules)):
        layer = _layer_of(model, name)
        assert layer is not None
        down, up = cut(changes.get(name, torch.zeros_like(module.weight)), rank)
        factors[name] = (down, up)
        kept[layer] = kept.get(layer, 0.0) + float((up @ down).double().square().sum())
    return factors, kept


def _shares(before: Any, after: Any, kept: Mapping[int, float]) -> dict[int, float]:
    """Layer -> share of the squared change of all its parameters."""
    new = dict(after.named_parameters())
    whole: dict[int, float] = {}
    for name, old in before.named_parameters():
        layer = _layer_of(before, name)
        if layer is not None:
            size = float((new[name] - old).detach().double().square().sum())
            whole[layer] = whole.get(layer, 0.0) + size
    return {layer: round(kept.get(layer, 0.0) / size, 6) for layer, size in whole.items() if size}


def _write(
    folder: Path, factors: Mapping[str, tuple[Tensor, Tensor]], rank: int, model: Any, checkpoint: Checkpoint
) -> None:
    from peft import LoraConfig

    base = model.get_decoder() if hasattr(model, "get_decoder") else model.base_model
    layers = find_layers(base, model.config.get_text_config().num_hidden_layers, checkpoint.name)
    pattern = next(name for name, module in model.named_modules() if module is layers).rpartition(".")[2]
    LoraConfig(
        r=rank,
        lora_alpha=rank,
        target_modules=sorted({name.rpartition(".")[2] for name in factors}),
        layers_to_transform=sorted(
            {layer for name in factors if (layer := _layer_of(model, name)) is not None}
        ),
        layers_pattern=pattern,
        task_type="CAUSAL_LM",
        base_model_name_or_path=str(checkpoint.folder),
    ).save_pretrained(str(folder))
    tensors: dict[str, Tensor] = {}
    for name, (down, up) in factors.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = down
        tensors[f"base_model.model.{name}.lora_B.weight"] = up
    write_tensors(folder / ADAPTER, tensors, {"format": "pt"})


@torch.no_grad()
def _difference(before: Any, after: Any, folder: Path) -> tuple[float, float]:
    """Largest difference of logits: adapter against checkpoint, and base against checkpoint."""
    from peft import PeftModel

    ids = check_tokens(before)
    wanted, plain = after(ids).logits, before(ids).logits
    try:
        own = PeftModel.from_pretrained(before, str(folder)).eval()(ids).logits
    except (ValueError, RuntimeError, KeyError) as error:
        raise UserError(f"PEFT cannot put such an adapter on this model: {first_line(error)}") from None
    return float((own - wanted).abs().max()), float((plain - wanted).abs().max())
