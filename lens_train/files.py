"""Tensors in files: written in one step, and the types they are stored in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from lens_eval.base.files import commit


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file."""
    aside = path.with_name(path.name + ".partial")
    aside.touch()
    mode = aside.stat().st_mode
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()}, aside, metadata=dict(metadata or {})
    )
    aside.chmod(mode)  # safetensors makes files that only their owner may read
    commit(aside, path)


TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
