"""Checks of the training data, the disk and the memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lens_eval.base.errors import UserError
from lens_eval.base.files import free_bytes
from lens_eval.doctor.patient import Patient, Result

CACHE = 1.3
"""Memory to evaluate, as a factor on the weights: keys and values come on top."""


def check_data(patient: Patient, data: str, languages: Sequence[str]) -> Result:
    """Parallel data can be read, and what is cut of it."""
    from lens_eval.mini import resolve_data
    from lens_eval.runs.recipe import require_set
    from lens_train.config import LensConfig
    from lens_train.data import read_prompts

    require_set(data, "--data")
    limit = LensConfig(("en", "zh")).train_tokens
    try:
        prompts = read_prompts(resolve_data(data), languages)
    except UserError as error:
        return Result("training data", "failed", str(error))
    encode = patient.tokenizer.encode
    parts = []
    for code, texts in prompts.texts.items():
        cut = sum(len(encode(text, add_special_tokens=False)) > limit for text in texts) / len(texts)
        parts.append(f"{code} {100 * cut:.0f}%")
    words = f"{len(prompts)} items; longer than {limit} tokens and cut: {', '.join(parts)}"
    return Result("training data", "ok", words)


def _weight_bytes(patient: Patient) -> int:
    """Bytes of the weights in memory, in the type that a run loads them in."""
    import torch

    from lens_train.export import find_tensors

    wanted = getattr(torch, str(patient.backend.args.get("dtype", "")), None)
    places = find_tensors(patient.checkpoint.folder).values()
    return sum(place.length // place.dtype.itemsize * (wanted or place.dtype).itemsize for place in places)


def check_disk(patient: Patient) -> Result:
    """A trained variant, which is as large as the model, fits on the disk."""
    size, free = patient.checkpoint.bytes, free_bytes(Path.cwd())
    words = f"a full variant takes {_size(size)}, {_size(free)} are free here"
    return Result("disk", "ok" if free > 1.05 * size else "failed", words)


def check_memory(patient: Patient) -> Result:
    """The model fits in the memory of the device."""
    from lens_train.devices import resolve_device
    from lens_train.stream import free_memory

    device = resolve_device(patient.device)
    need, free = CACHE * _weight_bytes(patient), free_memory(device)
    place = "GPU" if device.type == "cuda" else "machine"
    if free is None:
        return Result(
            "memory", "skipped", f"evaluation takes about {_size(need)}; what is free cannot be told"
        )
    words = f"evaluation takes about {_size(need)}, {_size(free)} are free on this {place}"
    if need < free:
        return Result("memory", "ok", words)
    return Result(
        "memory", "failed", f"{words}; several GPUs: tensor_parallel_size with vLLM, parallelize with hf"
    )


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
