"""Trained weights to disk: a whole checkpoint, or a delta that can be merged into one.

A checkpoint is made from the base's files: they are copied, and the bytes of the changed tensors are replaced
in place. So every name, type and file of the base is kept, and no model is held in memory.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lens_eval.base.errors import UserError
from lens_eval.base.files import PARTIAL, holds_nothing, lock, need_disk, written_aside
from lens_eval.base.progress import progress
from lens_train.checkpoint import (
    INDEX,
    WHOLE,
    Checkpoint,
    first_line,
    listed,
    weight_files,
)
from lens_train.files import TYPES, read_tensors, tensor_entries, write_tensors
from lens_train.job import VARIANT_FILE, Variant

DELTA = "delta.safetensors"
CHECK_TOKENS = 32
"""On which two forms of a model are compared."""
Complete = Callable[[Path, str], object]
"""Adds to a folder that is prepared; it is told the name that the folder will have."""
WRITERS = 4
"""Files of a checkpoint that are copied at once."""


@dataclass(frozen=True)
class Place:
    """The location of a tensor in a safetensors file."""

    file: Path
    start: int
    """Offset in bytes from the beginning of the file."""
    length: int
    """Bytes."""
    dtype: torch.dtype
    shape: tuple[int, ...]


def find_tensors(folder: Path) -> dict[str, Place]:
    """Locate every floating-point tensor of a checkpoint, from the headers of its files."""
    places: dict[str, Place] = {}
    for file in weight_files(folder):
        try:
            begin, entries = tensor_entries(file)
        except (OSError, ValueError, struct.error, OverflowError, MemoryError) as error:
            raise UserError(f"{file} is no safetensors file, or is cut short: {first_line(error)}") from None
        for name, entry in entries.items():
            if name in places:
                raise UserError(f"the tensor {name} lies in {places[name].file} and in {file}; remove one")
            if entry["dtype"] in TYPES:
                start, end = entry["data_offsets"]
                kind = TYPES[entry["dtype"]]
                places[name] = Place(file, begin + start, end - start, kind, tuple(entry["shape"]))
    return places


def checkpoint_tensors(
    model: Any, parameters: Mapping[int, nn.Parameter], base: Mapping[str, Place]
) -> dict[str, Tensor]:
    """The model's trained parameters under the names of its checkpoint.

    Args:
        model: the whole causal model.
        parameters: `id` -> parameter.
        base: tensors of the checkpoint that the model was loaded from.

    Raises:
        UserError: the checkpoint does not hold a parameter with this name and shape.
    """
    from transformers.core_model_loading import revert_weight_conversion

    changed = {name: value.detach() for name, value in model.named_parameters() if id(value) in parameters}
    found: dict[str, Tensor] = {}
    for name, tensor in revert_weight_conversion(model, changed).items():
        prefix = model.base_model_prefix + "."
        # A checkpoint of the bare model (as GPT-2's on the hub) lacks the prefix.
        known = next(
            (form for form in (name, name.removeprefix(prefix), prefix + name) if form in base), None
        )
        if known is None or base[known].shape != tuple(tensor.shape):
            raise UserError(
                f"{model.name_or_path}: the checkpoint lacks a tensor {name} of shape {tuple(tensor.shape)}; "
                "trained weights could not be written back. Save it once with model.save_pretrained(...)"
            )
        found[known] = tensor
    return found


def merge_tensors(base: Path, changed: Mapping[str, Tensor], output: Path) -> None:
    """Copy the checkpoint `base` to `output` with some tensors replaced, in the types of the base.

    Each file is written under a temporary name and renamed when it is complete.
    """
    output.mkdir(parents=True, exist_ok=True)
    places = find_tensors(base)
    weights = weight_files(base)
    sharded = any(file.name != WHOLE for file in weights)
    for file in sorted(base.iterdir()):
        if (
            file.is_file()
            and file.suffix in (".json", ".txt", ".model", ".jinja")
            and file.name != VARIANT_FILE
            and not (file.name == INDEX and not sharded)  # left by an earlier, larger save
        ):
            _copy(file, output / file.name, {})

    def write(file: Path) -> None:
        here = {places[name]: tensor for name, tensor in changed.items() if places[name].file == file}
        _copy(file, output / file.name, here)

    with ThreadPoolExecutor(WRITERS) as pool:
        for _ in progress(pool.map(write, weights), label="writing checkpoint", total=len(weights)):
            pass


def _copy(source: Path, target: Path, changed: Mapping[Place, Tensor]) -> None:
    with written_aside(target) as aside:
        shutil.copyfile(source, aside)
        with aside.open("r+b") as file:
            for place, tensor in changed.items():
                file.seek(place.start)
                file.write(tensor.to(place.dtype).contiguous().cpu().view(torch.uint8).numpy().tobytes())


def save_delta(changed: Mapping[str, Tensor], base: Mapping[str, Place], output: Path) -> None:
    """Write only the changed tensors, in the types of the base."""
    output.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.to(base[name].dtype).cpu() for name, tensor in changed.items()}
    write_tensors(output / DELTA, tensors, {"format": "pt"})


def merge(delta: Path, base: str, output: Path, complete: Complete | None = None) -> None:
    """Merge a delta into the checkpoint it was made from.

    Raises:
        UserError: there is no delta, `base` is not its base, the output folder is in use, or the disk is
            full.
    """
    try:
        variant = Variant.load(delta)
        changed, _ = read_tensors(delta / DELTA, "delta")
    except (OSError, UserError) as error:
        raise UserError(f"{delta} holds no delta ({error}); `lens train --delta` makes one") from None
    checkpoint = Checkpoint.open(base)
    require_base(delta, variant.base, checkpoint)
    folder = checkpoint.folder
    require_fitting(delta, changed, find_tensors(folder))
    need_disk(output, checkpoint.bytes)
    with folder_aside(output, complete) as aside:
        merge_tensors(folder, changed, aside)
        Variant(**{**variant.__dict__, "kind": "checkpoint"}).save(aside)


def merge_adapter(adapter: Path, base: str, output: Path, complete: Complete | None = None) -> None:
    """Merge an adapter of PEFT into the model it was trained on; computed in float32, on the CPU.

    Raises:
        UserError: there is no adapter made by `lens train`, `base` is not its base or is quantised, PEFT
            cannot merge it, the output folder is in use, or the disk is full.
    """
    from peft import PeftModel

    from lens_train.decoder import load_model

    try:
        variant = Variant.load(adapter)
    except FileNotFoundError:
        raise UserError(
            f"{adapter} was not made by `lens train`, so its base is not known; merge it with "
            "merge_and_unload of peft"
        ) from None
    checkpoint = Checkpoint.open(base)
    require_base(adapter, variant.base, checkpoint)
    checkpoint.require_whole_weights("a merge")
    need_disk(output, checkpoint.bytes)
    with folder_aside(output, complete) as aside:
        model = load_model(checkpoint)
        try:
            whole = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload(safe_merge=True)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise UserError(f"{adapter} cannot be merged into {base}: {first_line(error)}") from None
        parameters = {id(value): value for value in whole.parameters()}
        changed = checkpoint_tensors(whole, parameters, find_tensors(checkpoint.folder))
        merge_tensors(checkpoint.folder, changed, aside)
        Variant(**{**variant.__dict__, "kind": "checkpoint"}).save(aside)


def check_tokens(model: Any) -> Tensor:
    """Tokens from all over the vocabulary, (1, `CHECK_TOKENS`), to compare two forms of a model on."""
    return torch.arange(CHECK_TOKENS)[None] * 7 % model.config.get_text_config().vocab_size


def require_base(made: Path, wanted: Mapping[str, str], checkpoint: Checkpoint) -> None:
    """Refuse a base that `made` was not made from.

    Raises:
        UserError: naming both, and the hashes of their weights.
    """
    found = checkpoint.identity["weights_sha256"]
    expected = wanted.get("weights_sha256", "unknown")
    if found != expected:
        raise UserError(
            f"{made} was trained from {wanted.get('name')} (weights {expected[:12]}), "
            f"not from {checkpoint.name} (weights {found[:12]})"
        )


def require_free(output: Path) -> Path:
    """The folder inside `output` where a new one is prepared, until the last file is in its place.

    Raises:
        UserError: `output` holds something else.
    """
    aside = output / f"merge{PARTIAL}"
    if not holds_nothing(output) and not aside.is_dir():
        raise UserError(f"output {output} is not empty; name another folder")
    return aside


@contextmanager
def folder_aside(output: Path, complete: Complete | None = None) -> Iterator[Path]:
    """A folder inside `output` whose files are moved there when the block ends, `variant.json` last.

    What a killed run has left in it is removed first. `complete` is called when the block has ended, with
    this folder and the name of `output`: what it adds is moved with the rest.

    Raises:
        UserError: `output` holds other files, or another run writes there.
    """
    aside = require_free(output)
    with lock(output):
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        try:
            yield aside
        except UserError:
            shutil.rmtree(aside)
            raise
        if complete is not None:
            complete(aside, output.resolve().name)
        for file in sorted(aside.iterdir(), key=lambda file: file.name == VARIANT_FILE):
            file.replace(output / file.name)
        aside.rmdir()


def require_fitting(delta: Path, changed: Mapping[str, Tensor], base: Mapping[str, Place]) -> None:
    """Refuse a delta whose tensors are not those of its base in name, shape and type.

    Raises:
        UserError: naming the first tensors that differ.
    """
    wrong = [
        f"{name}: {_words(tensor.shape, tensor.dtype)} in the delta, "
        + (_words(base[name].shape, base[name].dtype) if name in base else "absent")
        + " in the base"
        for name, tensor in sorted(changed.items())
        if name not in base or (base[name].shape, base[name].dtype) != (tuple(tensor.shape), tensor.dtype)
    ]
    if wrong or not changed:
        raise UserError(
            f"{delta / DELTA} does not fit its base: {listed(wrong) or 'it holds no tensor'}. "
            "The file is damaged or was made by something else; train it again"
        )


def _words(shape: Sequence[int], dtype: torch.dtype) -> str:
    return f"{tuple(shape)} {str(dtype).removeprefix('torch.')}"
