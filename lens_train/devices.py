"""Devices and number types, by name."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import nn

from lens_eval.base.errors import UserError
from lens_train.checkpoint import Checkpoint

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def resolve_device(device: str) -> torch.device:
    """Return the device asked for; `auto` is a GPU if there is one, else the CPU.

    Raises:
        UserError: this machine does not have the device.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        wanted = torch.device(device)
    except RuntimeError:
        raise UserError(f"unknown device {device!r}; possible: auto, cpu, cuda, cuda:1, ...") from None
    if wanted.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (wanted.index or 0) >= count:
            raise UserError(
                f"device {device!r} was asked for, but PyTorch sees {count} GPU(s) here; use --device cpu"
            )
    elif wanted.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("device 'mps' was asked for, but this machine has none; use --device cpu")
    return wanted


def resolve_dtype(dtype: str, device: torch.device, model: Checkpoint | None = None) -> torch.dtype:
    """Return the type of the frozen weights.

    `auto` is bfloat16 on a GPU that supports it. On a CPU it is bfloat16 if `model` is stored in bfloat16 and
    products in bfloat16 are no slower than in float32 (`multiplies_in_bfloat16`); otherwise it is float32.
    """
    if dtype != "auto":
        return DTYPES[dtype]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    stored = model is not None and model.config.dtype == torch.bfloat16
    fast = device.type == "cpu" and stored and multiplies_in_bfloat16()
    return torch.bfloat16 if fast else torch.float32


@lru_cache(maxsize=1)
def multiplies_in_bfloat16() -> bool:
    """Whether a matrix product in bfloat16 takes no longer than in float32 on this CPU; it is timed.

    The instructions alone do not decide: some processors are half as fast in bfloat16 as in float32, others
    two or ten times as fast. The fastest of a few products counts.
    """
    if not any(
        getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    ):
        return False
    fastest = product_seconds((torch.bfloat16, torch.float32), 256, (1024, 1024), 8)
    return fastest[torch.bfloat16] <= fastest[torch.float32]


def product_seconds(
    dtypes: Sequence[torch.dtype], rows: int, weight: tuple[int, int], tries: int
) -> dict[torch.dtype, float]:
    """Seconds of the fastest of a few products of `rows` states with a weight, by type, in one thread.

    Processor time is measured, so other processes do not count. The types alternate.
    """
    fastest = dict.fromkeys(dtypes, math.inf)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            for _ in range(tries):
                for dtype in dtypes:
                    states, matrix = torch.ones(rows, weight[1], dtype=dtype), torch.ones(weight, dtype=dtype)
                    begun = time.thread_time()
                    nn.functional.linear(states, matrix)
                    fastest[dtype] = min(fastest[dtype], time.thread_time() - begun)
    finally:
        torch.set_num_threads(threads)
    return fastest


def dtype_name(dtype: torch.dtype) -> str:
    """The name of a type as settings and records spell it: `bfloat16`."""
    return str(dtype).removeprefix("torch.")
