"""Additive steering written into an ordinary checkpoint, so that any engine runs it at full speed.

A constant that is added to the output of a layer is the bias of its last projection. Some families have that
bias. Models of the shape of Llama without one become a Llama with biases (`mlp_bias`, `attention_bias`); the
biases that the steering does not need are zeros.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from lens_eval.base.errors import UserError
from lens_eval.base.files import need_disk, write_json
from lens_eval.base.reading import read_object
from lens_train.checkpoint import INDEX, Checkpoint, weight_files
from lens_train.decoder import load_model
from lens_train.export import (
    Complete,
    Place,
    check_tokens,
    find_tensors,
    folder_aside,
    merge_tensors,
    require_base,
    require_free,
)
from lens_train.files import write_tensors
from lens_train.job import Variant
from lens_train.steering.steering import Steering

OWN_BIAS = {"gpt2": "c_proj", "starcoder2": "c_proj", "gpt_neox": "dense_4h_to_h", "phi": "fc2"}
"""Families whose MLP ends in a projection with a bias, and its name."""
LLAMA_LIKE = ("llama", "mistral", "qwen2")
"""Families that are a Llama, but for biases and for attention windows."""
_LLAMA_NEEDS = ("hidden_act", "max_position_embeddings", "num_key_value_heads", "rms_norm_eps")
_NOT_LLAMA = ("sliding_window", "use_sliding_window", "max_window_layers", "layer_types")
WORDS = (
    "Don't  wait:\n\n1 234.5 km, s\u00ed.",
    "\u80af\u5c3c\u4e9a\u7684\u9996\u90fd",
    "\u0639\u0627\u0635\u0645\u0629 \u0915\u0940",
)
"""Texts that tokenizers split in different ways."""


@dataclass(frozen=True)
class Difference:
    """Logits of the baked checkpoint against the base under hooks, float32, on `export.check_tokens`."""

    most: float
    """Largest absolute difference."""
    effect: float
    """Largest absolute difference that the steering itself makes."""
    size: float
    """Largest absolute logit."""


def bake(folder: Path, language: str, model: str, output: Path, complete: Complete | None = None) -> None:
    """Write the model with the steering of one language built in.

    Args:
        folder: variant folder of a steering.
        language: of the answers; a checkpoint has one.
        model: the base it was made for.
        output: folder of the checkpoint.
        complete: see `folder_aside`.

    Raises:
        UserError: the steering is not additive, is not for this model or language, or the family has no bias
            at that place; the output folder is in use, or the disk is full. Nothing is written then.
    """
    steering, checkpoint = Steering.load(folder), Checkpoint.open(model)
    try:
        variant = Variant.load(folder)
    except FileNotFoundError:
        raise UserError(f"{folder} holds no finished variant; train the steering to its end") from None
    require_free(output)
    require_base(folder, steering.base, checkpoint)
    shifts = constants(steering, language, checkpoint)
    places = find_tensors(checkpoint.folder)
    family = checkpoint.config.model_type
    need_disk(output, checkpoint.bytes)
    with folder_aside(output, complete) as aside:
        if family in OWN_BIAS:
            merge_tensors(checkpoint.folder, _raised(shifts, OWN_BIAS[family], places), aside)
        else:
            merge_tensors(checkpoint.folder, {}, aside)
            _add_file(aside, _biases(shifts, checkpoint, places))
            write_json(aside / "config.json", _llama_config(checkpoint))
            _require_same_words(checkpoint, aside)
        settings = {**variant.settings, "baked_language": language}
        replace(variant, kind="checkpoint", settings=settings).save(aside)


def constants(steering: Steering, language: str, checkpoint: Checkpoint) -> dict[int, Tensor]:
    """What is added to the output of each layer, (width,), float32.

    Raises:
        UserError: it is not one constant for all positions, or the model has no bias that could hold it.
    """
    others = sorted({edit.kind for edit in steering.edits if edit.strength and edit.kind != "direction"})
    if others or steering.skip is not None:
        does = ", ".join(others) or "not for all positions"
        raise UserError(
            f"only a steering that adds one constant at every position can be written into a checkpoint "
            f"(diffmean, or steer with add_strength alone); this one is {does}"
        )
    steering.require_language(language)
    config = checkpoint.config.get_text_config()
    depth = config.num_hidden_layers
    steering.require(depth=depth, width=config.hidden_size, name=checkpoint.name)
    if depth - 1 in steering.layers:
        raise UserError(
            f"this steering acts behind the final norm (layer {depth - 1}), where {checkpoint.name} has no "
            "bias; steer a lower layer"
        )
    _require_family(checkpoint)
    shifts: dict[int, Tensor] = {}
    for edit in steering.edits:
        shift = edit.strength * steering.directions[edit.layer][language].float()
        shifts[edit.layer] = shifts.get(edit.layer, torch.zeros_like(shift)) + shift
    if not any(bool(shift.any()) for shift in shifts.values()):
        raise UserError(f"this steering leaves answers in {language!r} alone; there is nothing to write")
    return shifts


def _require_family(checkpoint: Checkpoint) -> None:
    checkpoint.require_whole_weights("a baked steering")
    config = checkpoint.config
    family = config.model_type
    if family not in (*OWN_BIAS, *LLAMA_LIKE):
        raise UserError(
            f"{checkpoint.name} is of the family {family}, whose layers do not end in a projection with a "
            f"bias; steering can be written into {', '.join((*LLAMA_LIKE, *OWN_BIAS))}"
        )
    windowed = getattr(config, "use_sliding_window", family == "mistral")
    if family in LLAMA_LIKE and windowed and getattr(config, "sliding_window", None) is not None:
        raise UserError(
            f"{checkpoint.name} looks back {config.sliding_window} tokens at most; a Llama, which it would "
            "become, has no such window"
        )


def _raised(shifts: Mapping[int, Tensor], projection: str, places: Mapping[str, Place]) -> dict[str, Tensor]:
    """The biases that are there, with the constants added."""
    raised: dict[str, Tensor] = {}
    for layer, shift in shifts.items():
        form = re.compile(rf"(^|\.){layer}\.mlp\.{projection}\.bias$")
        name = next((name for name in places if form.search(name)), None)
        if name is None:
            raise UserError(
                f"the checkpoint holds no bias {projection} of layer {layer}; it was saved without"
            )
        with safe_open(str(places[name].file), framework="pt") as file:
            raised[name] = file.get_tensor(name).float() + shift
    return raised


def _biases(
    shifts: Mapping[int, Tensor], checkpoint: Checkpoint, places: Mapping[str, Place]
) -> dict[str, Tensor]:
    """The biases of a Llama with biases that the checkpoint lacks; zeros where nothing is added."""
    found: dict[str, Tensor] = {}
    for layer in range(checkpoint.config.num_hidden_layers):
        for part, names in (("self_attn", ("q", "k", "v", "o")), ("mlp", ("gate", "up", "down"))):
            for name in names:
                stem = f"model.layers.{layer}.{part}.{name}_proj"
                weight = places.get(f"{stem}.weight")
                if weight is None:
                    raise UserError(f"{checkpoint.name} holds no {stem}.weight, as a {LLAMA_LIKE[0]} would")
                if f"{stem}.bias" not in places:
                    found[f"{stem}.bias"] = torch.zeros(weight.shape[0], dtype=weight.dtype)
        if layer in shifts:
            name = f"model.layers.{layer}.mlp.down_proj.bias"
            if name not in found:
                raise UserError(f"{checkpoint.name} has the bias {name} already, and is not changed twice")
            found[name] = shifts[layer].to(found[name].dtype)
    return found


def _add_file(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Put tensors into a file of their own beside the weights, and write the index of all."""
    index: dict[str, str] = {}
    old = weight_files(folder)
    count = len(old) + 1
    for number, file in enumerate(old, start=1):
        name = f"model-{number:05}-of-{count:05}.safetensors"
        index |= dict.fromkeys(
            (key for key, place in find_tensors(folder).items() if place.file == file), name
        )
    for number, file in enumerate(old, start=1):
        file.rename(folder / f"model-{number:05}-of-{count:05}.safetensors")
    last = f"model-{count:05}-of-{count:05}.safetensors"
    write_tensors(folder / last, tensors, {"format": "pt"})
    size = sum(file.stat().st_size for file in folder.glob("model-*.safetensors"))
    write_json(
        folder / INDEX,
        {"metadata": {"total_size": size}, "weight_map": {**index, **dict.fromkeys(tensors, last)}},
    )


def _llama_config(checkpoint: Checkpoint) -> dict[str, Any]:
    """The configuration of the base, as that of a Llama with biases."""
    raw = read_object(checkpoint.folder / "config.json", "configuration")
    for name in _NOT_LLAMA:
        raw.pop(name, None)
    config = checkpoint.config
    needed = {name: raw.get(name, getattr(config, name)) for name in _LLAMA_NEEDS}
    return {
        **raw,
        **needed,
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": True,
        "mlp_bias": True,
        "tie_word_embeddings": bool(config.tie_word_embeddings),
    }


def _require_same_words(checkpoint: Checkpoint, folder: Path) -> None:
    """Transformers chooses the tokenizer's class by the family, which has changed."""
    other = Checkpoint(str(folder), folder, ()).tokenizer
    for text in WORDS:
        if checkpoint.tokenizer(text)["input_ids"] != other(text)["input_ids"]:
            raise UserError(
                f"{checkpoint.name} as a Llama reads {text!r} as other tokens; it cannot be written as one"
            )


@torch.no_grad()
def compare(folder: Path, language: str, model: str, baked: Path) -> Difference:
    """Measure how far the baked checkpoint is from the base under hooks; the two are loaded one by one."""
    base = load_model(model)
    ids = check_tokens(base)
    plain = base(ids).logits
    with Steering.load(folder).on(base, language):
        hooked = base(ids).logits
    del base
    own = load_model(str(baked))(ids).logits
    return Difference(
        float((own - hooked).abs().max()), float((plain - hooked).abs().max()), float(hooked.abs().max())
    )
