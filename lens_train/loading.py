"""Weights loaded whole or not at all: transformers and PEFT load what fits and only log what does not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from lens_eval.base.errors import UserError
from lens_train.checkpoint import ADAPTER_CONFIG, Checkpoint, first_line, in_a_line, listed
from lens_train.files import tensor_entries

ADAPTER_WEIGHTS = "adapter_model.safetensors"
FAULTS = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    ImportError,
    RuntimeError,
    SafetensorError,
)
"""What transformers raises for a folder that it cannot load."""
SAFE = {"use_safetensors": True, "output_loading_info": True, "ignore_mismatched_sizes": True}
"""Arguments of `from_pretrained`: no pickled file is read; what does not fit is told, not logged."""


@contextmanager
def said_by_us() -> Iterator[None]:
    """Keep transformers' report of weights that do not fit off the terminal: the error says it."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def load_causal(checkpoint: Checkpoint, **settings: Any) -> Any:
    """Load a causal model with every tensor of its files, from safetensors alone.

    Args:
        checkpoint: the model on disk.
        settings: further arguments of `AutoModelForCausalLM.from_pretrained`.

    Raises:
        UserError: the architecture is unknown or no causal decoder; a tensor of the architecture is not in
            the files or has another shape; a tensor of the files is none of the architecture's.
    """
    from transformers import AutoModelForCausalLM

    try:
        with said_by_us():
            model, info = AutoModelForCausalLM.from_pretrained(
                checkpoint.folder,
                config=checkpoint.config,
                trust_remote_code=False,
                **SAFE,
                **settings,
            )
    except FAULTS as error:
        raise UserError(
            f"cannot load {checkpoint.name} as a causal language model: {first_line(error)}"
        ) from None
    require_whole(checkpoint.name, info)
    return model


class Whole:
    """A class of transformers whose `from_pretrained` loads safetensors alone, and refuses what does not fit.

    For code that calls `from_pretrained` itself, as lm_eval does.
    """

    def __init__(self, auto: Any) -> None:
        self._auto = auto

    def from_pretrained(self, name: Any, **settings: Any) -> Any:
        """Load a model; raises `UserError` as `load_causal` does for tensors."""
        if Path(name).is_dir():
            _ = Checkpoint.open(str(name)).config  # refuses sizes and types that no model has
        with said_by_us():
            model, info = self._auto.from_pretrained(name, **{**settings, **SAFE})
        require_whole(str(name), info)
        return model


def require_whole(name: str, info: Mapping[str, Any]) -> None:
    """Refuse a model that was loaded in part.

    Args:
        name: the model, for the message.
        info: what transformers says of its loading (`output_loading_info`).

    Raises:
        UserError: as `refuse`.
    """
    mismatched = [f"{each[0]}: {_shapes(each)}" for each in info.get("mismatched_keys") or ()]
    errors = [*map(str, info.get("error_msgs") or ()), *map(str, info.get("conversion_errors") or ())]
    refuse(name, info.get("missing_keys") or (), info.get("unexpected_keys") or (), [*mismatched, *errors])


def refuse(name: str, missing: Any, unexpected: Any, unfit: Any) -> None:
    """Refuse weights that do not belong to the architecture.

    Args:
        name: model or adapter, for the message.
        missing: tensors that the architecture wants and the files lack.
        unexpected: tensors of the files that the architecture does not know.
        unfit: tensors of another shape, or that could not be read, in words.

    Raises:
        UserError: one of them is not empty; the message names the first tensors of each.
    """
    faults = [
        f"{words}: {listed(sorted(map(str, tensors)))}"
        for words, tensors in (
            ("missing from the files", missing),
            ("in the files and not known to the architecture", unexpected),
            ("of another shape or unreadable", unfit),
        )
        if tensors
    ]
    if faults:
        raise UserError(
            f"the weights of {name} do not fit its configuration. Tensors {'; '.join(faults)}. The files are "
            "damaged, or of another model: get them again, or save the model anew with save_pretrained(...)"
        )


def adapter_weights(folder: Path) -> Path:
    """The weights of a PEFT adapter.

    Raises:
        UserError: the folder holds no adapter, or one with pickled weights only.
    """
    if not (folder / ADAPTER_CONFIG).is_file():
        raise UserError(f"{folder} is no adapter: it holds no {ADAPTER_CONFIG}")
    file = folder / ADAPTER_WEIGHTS
    if not file.is_file():
        raise UserError(
            f"{folder} holds no {ADAPTER_WEIGHTS} (pickled weights are not read); "
            "save the adapter once with model.save_pretrained(...)"
        )
    return file


def load_adapter(model: Any, folder: Path) -> Any:
    """Put a PEFT adapter on a model, whose vocabulary is resized if the adapter was trained on a resized one.

    Raises:
        UserError: as `adapter_weights`, and as `require_adapter`; or tokens were added and the adapter does
            not hold their embeddings.
    """
    from peft import PeftModel

    adapter_weights(folder)
    try:
        rows = _vocabulary(model, folder)
        if rows is not None and rows != model.get_input_embeddings().weight.shape[0]:
            model.resize_token_embeddings(rows, mean_resizing=False)
        adapted = PeftModel.from_pretrained(model, folder)
    except FAULTS as error:
        raise UserError(f"cannot load the adapter {folder}: {in_a_line(error)}") from None
    require_adapter(adapted, folder)
    return adapted


def require_adapter(adapted: Any, folder: Path) -> None:
    """Refuse an adapter that PEFT put on a model in part.

    Raises:
        UserError: a tensor of the file has no place on the model, or one of the adapter is not in the file.
    """
    from peft import get_peft_model_state_dict

    wanted = _shapes_of(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    found = _shapes_in(folder)
    # PEFT writes embeddings and output matrix beside the adapter if the vocabulary was resized.
    every = _shapes_of(adapted.state_dict())
    beside = {name: every[name] for name in found.keys() & every.keys() - wanted.keys()}
    wanted |= beside
    unfit = [
        f"{name}: {wanted[name]} in the model, {found[name]} in the file"
        for name in sorted(wanted.keys() & found.keys())
        if wanted[name] != found[name]
    ]
    refuse(f"the adapter {folder}", wanted.keys() - found.keys(), found.keys() - wanted.keys(), unfit)


def _vocabulary(model: Any, folder: Path) -> int | None:
    """Rows of the embeddings that an adapter was trained on, if its file tells."""
    embeddings = model.get_input_embeddings()
    name = next(name for name, module in model.named_modules() if module is embeddings)
    whole, low_rank = None, None
    for key, shape in _shapes_in(folder).items():
        if f"{name}." in key and "lora_" not in key:
            whole = shape[0]
        elif f"{name}.lora_embedding_A" in key:
            low_rank = shape[1]
    if whole is None and low_rank is not None and low_rank > embeddings.weight.shape[0]:
        raise UserError(
            f"the adapter {folder} was trained with a vocabulary of {low_rank} tokens, the model has "
            f"{embeddings.weight.shape[0]}, and the file does not hold the embeddings of the others; save it "
            "with save_pretrained(..., save_embedding_layers=True)"
        )
    return whole


def _shapes_in(folder: Path) -> dict[str, tuple[int, ...]]:
    try:
        entries = tensor_entries(adapter_weights(folder))[1]
    except (OSError, ValueError, json.JSONDecodeError) as error:
        raise UserError(f"cannot read the adapter {folder}: {first_line(error)}") from None
    return {name: tuple(entry["shape"]) for name, entry in entries.items()}


def _shapes_of(tensors: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in tensors.items()}


def _shapes(mismatch: Any) -> str:
    """The two shapes of an entry of `mismatched_keys`."""
    shapes = [tuple(shape) for shape in mismatch[1:]]
    return f"{shapes[0]} in the files, {shapes[1]} in the model" if len(shapes) == 2 else str(shapes)
