"""Tensor files: atomic writing, file headers, and stored types."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from lens_eval.base.files import written_aside


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file."""
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with written_aside(path) as aside:
        aside.touch()
        mode = aside.stat().st_mode
        save_file(whole, aside, metadata=dict(metadata or {}))
        aside.chmod(mode)  # files of safetensors are readable by their owner only


TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}


def tensor_entries(file: Path) -> tuple[int, dict[str, Any]]:
    """Offset of the data in a safetensors file, and the header's entry of each tensor."""
    with file.open("rb") as stream:
        (size,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(size))
    header.pop("__metadata__", None)
    return 8 + size, header
