"""Tensor files: atomic writing, file headers, and stored types."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lens_eval.base.errors import UserError
from lens_eval.base.files import written_aside
from lens_eval.base.reading import parse_json, shaped, text


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


def read_tensors(path: Path, what: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a safetensors file, and its metadata.

    Args:
        path: the file.
        what: it should be, for the message.

    Raises:
        UserError: it is not there, is damaged, or is something else.
    """
    metadata = read_metadata(path, what)
    try:
        with safe_open(str(path), framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise UserError(f"{path} is no {what}, or a damaged one ({error})") from None


def read_metadata(path: Path, what: str) -> dict[str, str]:
    """The metadata of a safetensors file; raises as `read_tensors`."""
    if not path.is_file():
        raise UserError(f"no {what} at {path}")
    try:
        _, header = _header(path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    metadata = header.get("__metadata__") or {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise UserError(f"{path} is no {what}, or a damaged one (its metadata is no text)")
    return metadata


LARGEST_HEADER = 100_000_000
"""Bytes, as in the safetensors library."""
TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}


def tensor_entries(file: Path) -> tuple[int, dict[str, Any]]:
    """Offset of the data in a safetensors file, and the header's entry of each tensor.

    Raises:
        UserError: it is no safetensors file, or cut short.
    """
    data, header = _header(file)
    whole = file.stat().st_size
    with shaped(file, "safetensors file"):
        header.pop("__metadata__", None)
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            count = prod(entry["shape"])
            width = TYPES[entry["dtype"]].itemsize if entry["dtype"] in TYPES else None
            if not 0 <= begin <= end <= whole - data or (width and count * width != end - begin):
                raise UserError(f"{file} is damaged or cut short: the tensor {name} lies outside of it")
    return data, header


def _header(file: Path) -> tuple[int, dict[str, Any]]:
    """Offset of the data in a safetensors file, and what its header holds."""
    whole = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(8)
        size = struct.unpack("<Q", start)[0] if len(start) == 8 else whole
        if 8 + size > whole or size > LARGEST_HEADER:
            raise UserError(f"{file} is no safetensors file, or cut short (its header would end behind it)")
        header = parse_json(text(stream.read(size), str(file)), str(file))
    if not isinstance(header, dict):
        raise UserError(f"{file} is no safetensors file: its header is no object")
    return 8 + size, header
