"""Writing in one step: a reader sees the old file or the new one, never half of one; and tensor headers."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor


def write_text(path: Path, text: str) -> None:
    """Write a text file."""
    aside = path.with_name(path.name + ".partial")
    aside.write_text(text, encoding="utf-8")
    commit(aside, path)


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


def tensor_entries(file: Path) -> tuple[int, dict[str, Any]]:
    """Where the bytes of a safetensors file begin, and what its header says of each tensor."""
    with file.open("rb") as stream:
        (size,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(size))
    header.pop("__metadata__", None)
    return 8 + size, header


def commit(aside: Path, path: Path) -> None:
    """Give a file written aside its name, once it is on the disk."""
    with aside.open("rb") as file:
        os.fsync(file.fileno())
    aside.replace(path)
