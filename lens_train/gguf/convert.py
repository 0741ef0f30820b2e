"""Convert a GGUF file into a transformers folder, some rows of one tensor at a time."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lens_eval.base.errors import UserError
from lens_eval.base.files import write_text, written_aside
from lens_eval.base.progress import progress
from lens_train.files import TYPES
from lens_train.gguf.architecture import (
    LONG_FACTORS,
    ROPE_FACTORS,
    SHORT_FACTORS,
    Source,
    decimal,
    read_config,
    sources,
)
from lens_train.gguf.header import Entry, Header, check_whole, gguf_package, stored_bytes
from lens_train.gguf.tokenizer import end_tokens, special, write_tokenizer

SHARD_BYTES = 2_000_000_000
"""Largest size of a weight file, unless a single tensor is larger."""
CHUNK = 1 << 22
"""Values that are dequantised at once: 16 MB in float32, and temporarily a few times as much."""
NAMES = {dtype: name for name, dtype in TYPES.items()}
PLAIN = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def stored_dtype(header: Header) -> torch.dtype:
    """The type that the weights are written in: that of the file, or bfloat16 if the file is quantised.

    Only matrices count, because llama.cpp always keeps norms and biases in float32.
    """
    gguf = gguf_package()
    kinds = {gguf.GGMLQuantizationType(e.kind).name for e in header.tensors.values() if len(e.shape) > 1}
    if not kinds <= set(PLAIN):
        return torch.bfloat16
    return PLAIN[kinds.pop()] if len(kinds) == 1 else torch.float32


def prepare(header: Header) -> tuple[Any, list[Source]]:
    """Make all checks before any work; returns the configuration and the sources of the weights.

    Raises:
        UserError: the file is cut short, or an architecture, setting or tensor type is not supported.
    """
    check_whole(header)
    _check_types(header)
    with header.file.open("rb") as file:
        factors = {
            name: _values(header, file, header.tensors[name])
            for name in (ROPE_FACTORS, LONG_FACTORS, SHORT_FACTORS)
            if name in header.tensors
        }
    config = read_config(header, factors)
    return config, sources(header, config)


def _check_types(header: Header) -> None:
    gguf = gguf_package()
    for entry in {entry.kind: entry for entry in header.tensors.values()}.values():
        kind = gguf.GGMLQuantizationType(entry.kind)
        block, width = gguf.GGML_QUANT_SIZES[kind]
        try:
            gguf.quants.dequantize(np.zeros((1, width), dtype=np.uint8), kind)
        except NotImplementedError:
            raise UserError(
                f"{header.file}: the tensor {entry.name} is of type {kind.name}, which gguf cannot dequantise"
            ) from None
        if entry.shape[-1] % block:
            raise UserError(f"{header.file} is damaged: {entry.name} is not a whole number of blocks wide")


def _values(header: Header, file: BufferedReader, entry: Entry) -> list[float]:
    return [decimal(value) for value in _read(header, file, entry).ravel().tolist()]


def _read(header: Header, file: BufferedReader, entry: Entry, first: int = 0, last: int | None = None) -> Any:
    """Rows of a tensor in float32, (rows, columns)."""
    gguf = gguf_package()
    rows = entry.elements // entry.shape[-1]
    width = stored_bytes(header, entry) // rows
    count = (rows if last is None else last) - first
    file.seek(entry.start + first * width)
    raw = np.empty((count, width), dtype=np.uint8)
    file.readinto(raw.reshape(-1).data)
    return gguf.quants.dequantize(raw, gguf.GGMLQuantizationType(entry.kind)).reshape(count, entry.shape[-1])


def size_of(found: Sequence[Source], dtype: torch.dtype) -> int:
    """Bytes of the converted weights."""
    return sum(source.entry.elements for source in found) * dtype.itemsize


def convert(header: Header, config: Any, found: Sequence[Source], dtype: torch.dtype, folder: Path) -> None:
    """Fill `folder` with configuration, tokenizer and weights.

    Args:
        config, found: made by `prepare`.
        dtype: type of the written weights.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    write_tokenizer(header, folder)
    ends = end_tokens(header, folder)
    config.dtype = dtype
    config.architectures = [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[config.model_type]]
    write_text(folder / "config.json", config.to_json_string())
    generation = {
        "bos_token_id": special(header, "bos"),
        "eos_token_id": ends[0] if len(ends) == 1 else ends or None,
        "pad_token_id": special(header, "padding"),
    }
    given = {name: value for name, value in generation.items() if value is not None}
    write_text(folder / "generation_config.json", json.dumps(given, indent=2))
    _write_weights(header, found, dtype, folder)


def _write_weights(header: Header, found: Sequence[Source], dtype: torch.dtype, folder: Path) -> None:
    """Write the weight files, and an index if there are several."""
    shards = _shards(found, dtype)
    names = [f"model-{n + 1:05d}-of-{len(shards):05d}.safetensors" for n in range(len(shards))]
    names = names if len(shards) > 1 else ["model.safetensors"]
    with progress(label=f"converting {header.file.name}", total=size_of(found, dtype), unit="bytes") as bar:
        for name, shard in zip(names, shards, strict=True):
            _write_shard(header, shard, dtype, folder / name, bar.update)
    if len(shards) > 1:
        places = {source.name: name for name, shard in zip(names, shards, strict=True) for source in shard}
        index = {"metadata": {"total_size": size_of(found, dtype)}, "weight_map": places}
        write_text(folder / "model.safetensors.index.json", json.dumps(index, indent=2))


def _shards(found: Sequence[Source], dtype: torch.dtype) -> list[list[Source]]:
    shards: list[list[Source]] = [[]]
    for source in found:
        if shards[-1] and size_of([*shards[-1], source], dtype) > SHARD_BYTES:
            shards.append([])
        shards[-1].append(source)
    return shards


def _write_shard(
    header: Header, shard: Sequence[Source], dtype: torch.dtype, path: Path, done: Callable[[int], Any]
) -> None:
    """Write one safetensors file: its header, then the tensors slice by slice, so that none is held whole."""
    table: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for source in shard:
        start, end = end, end + source.entry.elements * dtype.itemsize
        table[source.name] = {
            "dtype": NAMES[dtype],
            "shape": list(source.entry.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(table).encode()
    text += b" " * (-len(text) % 8)
    with written_aside(path) as aside, aside.open("wb") as file, ThreadPoolExecutor(os.cpu_count()) as pool:
        file.write(struct.pack("<Q", len(text)) + text)
        pieces = (piece for source in shard for piece in _pieces(header, source))
        work = partial(_convert_piece, header, dtype=dtype)
        # Only a few slices are computed ahead of the writing, because they are held in memory.
        while batch := list(islice(pieces, 2 * (os.cpu_count() or 1))):
            for data in pool.map(work, batch):
                file.write(data)
                done(data.nbytes)


def _pieces(header: Header, source: Source) -> Iterator[tuple[Source, int, int]]:
    """Slices of the tensor's rows; whole heads if rows are reordered within a head."""
    rows = source.entry.elements // source.entry.shape[-1]
    step = max(1, CHUNK // source.entry.shape[-1])
    if source.heads:
        step = max(1, step // (rows // source.heads)) * (rows // source.heads)
    for first in range(0, rows, step):
        yield source, first, min(first + step, rows)


def _convert_piece(header: Header, piece: tuple[Source, int, int], dtype: torch.dtype) -> Any:
    """Dequantise rows and undo llama.cpp's changes to them; returns their bytes."""
    source, first, last = piece
    with header.file.open("rb") as file, np.errstate(all="ignore"):
        values = _read(header, file, source.entry, first, last)
    if source.heads:
        size = source.entry.shape[0] // source.heads
        # (head, dimension, half) -> (head, half, dimension)
        values = values.reshape(-1, size // 2, 2, values.shape[-1]).swapaxes(1, 2)
    if source.offset:
        values = values - np.float32(source.offset)
    tensor = torch.from_numpy(np.ascontiguousarray(values)).to(dtype)
    return tensor.reshape(-1).view(torch.uint8).numpy()
