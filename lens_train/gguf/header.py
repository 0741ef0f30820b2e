"""The header of a GGUF file: its facts about the model, and the offsets of its tensors. No tensor is read.

The reader of the `gguf` package takes seconds for a large vocabulary, because it keeps one array per token.
For a file that is cut short it reports only that an array has the wrong shape.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from lens_eval.base.errors import UserError
from lens_train.gguf import MAGIC

VERSIONS = (2, 3)
ALIGNMENT = 32
"""Alignment in bytes, if a file does not state one."""
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""GGUF's number types as `struct` formats."""
TEXT, ARRAY = 8, 9


@dataclass(frozen=True)
class Entry:
    """One tensor, as the file lists it."""

    name: str
    shape: tuple[int, ...]
    """Shape in torch's order: rows first."""
    kind: int
    """Number of its type."""
    start: int
    """Bytes from the beginning of the file."""

    @property
    def elements(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Header:
    """The contents of a file's header."""

    file: Path
    size: int
    """Bytes of the file."""
    fields: Mapping[str, Any]
    tensors: Mapping[str, Entry]

    @property
    def architecture(self) -> str:
        """As the file calls it: `llama`, `qwen2`, ..."""
        return str(self.fields["general.architecture"])

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(entry.elements for entry in self.tensors.values())

    def token(self, name: str) -> int | None:
        """Id of a special token (`bos`, `eos`, `eot`, `unknown`, `padding`), if the file names one."""
        number = self.fields.get(f"tokenizer.ggml.{name}_token_id")
        return None if number is None else int(number)


class _Short(Exception):
    """The file ends too early."""


class _Reader:
    """Reads the values of a header in their order."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._size = file, size

    @property
    def position(self) -> int:
        return self._file.tell()

    def take(self, count: int) -> bytes:
        # A damaged length can be any number, so a length beyond the file's size is not read.
        data = self._file.read(count) if count <= self._size else b""
        if len(data) != count:
            raise _Short
        return data

    def number(self, code: str) -> Any:
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0]

    def text(self) -> str:
        return self.take(self.number("Q")).decode("utf-8", errors="replace")

    def value(self, kind: int) -> Any:
        if kind in NUMBERS:
            return self.number(NUMBERS[kind])
        if kind == TEXT:
            return self.text()
        if kind != ARRAY:
            raise _Short
        kind, count = self.number("I"), self.number("Q")
        if kind in NUMBERS:
            code = NUMBERS[kind]
            return list(struct.unpack(f"<{count}{code}", self.take(count * struct.calcsize("<" + code))))
        return [self.value(kind) for _ in range(count)]


def read_header(file: Path) -> Header:
    """Read the header of a file.

    Raises:
        UserError: there is no such file, it is no GGUF file, its version is not supported, it is cut short
            within its header, or it is one part of a model in several files.
    """
    if not file.is_file():
        raise UserError(
            f"no GGUF file {file}; one on the hub is fetched with `hf download ORG/NAME FILE --local-dir .`"
        )
    size = file.stat().st_size
    with file.open("rb") as stream:
        reader = _Reader(stream, size)
        try:
            _check_start(file, reader)
            header = _read(file, size, reader)
            _check(header)
        except (
            _Short,
            struct.error,
            OverflowError,
            ZeroDivisionError,
            ValueError,
            TypeError,
            RecursionError,
            MemoryError,
        ):
            raise UserError(
                f"{file} is damaged or cut short: its header does not fit into its {size:,} bytes; "
                "copy or download it again"
            ) from None
    return header


def _check_start(file: Path, reader: _Reader) -> None:
    if reader.take(4) != MAGIC:
        raise UserError(f"{file} is no GGUF file: it does not begin with the letters GGUF")
    version = reader.number("I")
    if version not in VERSIONS:
        turned = struct.unpack(">I", struct.pack("<I", version))[0] in VERSIONS
        what = "is written for big-endian machines" if turned else f"is of version {version} of GGUF"
        raise UserError(f"{file} {what}; little-endian files of the versions 2 and 3 are read")


def _read(file: Path, size: int, reader: _Reader) -> Header:
    tensor_count, field_count = reader.number("Q"), reader.number("Q")
    fields: dict[str, Any] = {}
    for _ in range(field_count):
        name = reader.text()
        fields[name] = reader.value(reader.number("I"))
    found = []
    for _ in range(tensor_count):
        name, dimensions = reader.text(), reader.number("I")
        shape = tuple(reader.number("Q") for _ in range(dimensions))
        found.append((name, shape[::-1], reader.number("I"), reader.number("Q")))
    alignment = int(fields.get("general.alignment", ALIGNMENT))
    start = -(-reader.position // alignment) * alignment
    entries = [Entry(name, shape, kind, start + offset) for name, shape, kind, offset in found]
    return Header(file, size, fields, {entry.name: entry for entry in entries})


def _check(header: Header) -> None:
    parts = int(header.fields.get("split.count", 0))
    if parts > 1:
        raise UserError(
            f"{header.file} is one of {parts} parts of a model; join them into one file first: "
            "llama-gguf-split --merge FIRST_PART JOINED.gguf"
        )
    if "general.architecture" not in header.fields or not header.tensors:
        raise UserError(f"{header.file} holds no model: it names no architecture, or has no tensors")


def check_whole(header: Header) -> None:
    """Refuse a file that ends before its last tensor.

    Raises:
        UserError: the file is cut short, or has a tensor type that the installed `gguf` does not know.
    """
    end = max(entry.start + stored_bytes(header, entry) for entry in header.tensors.values())
    if end > header.size:
        raise UserError(
            f"{header.file} is cut short: its tensors reach to byte {end:,}, it ends at {header.size:,}; "
            "copy or download it again"
        )


def stored_bytes(header: Header, entry: Entry) -> int:
    """Size of a tensor in the file, in bytes.

    Raises:
        UserError: the installed `gguf` does not know the tensor type.
    """
    gguf = gguf_package()
    try:
        block, width = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(entry.kind)]
    except (ValueError, KeyError):
        raise UserError(
            f"{header.file}: the tensor {entry.name} is of type {entry.kind}, which the installed gguf does "
            "not know; pip install --upgrade gguf"
        ) from None
    return entry.elements // block * width


def gguf_package() -> Any:
    """The `gguf` package.

    Raises:
        UserError: it is not installed.
    """
    try:
        import gguf
    except ImportError:
        raise UserError('a GGUF file needs the package gguf: pip install "lens-multilingual[gguf]"') from None
    return gguf
