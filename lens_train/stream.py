"""A model larger than memory: each layer is read from the checkpoint when it runs, and freed afterwards.

All prompts run through one layer before the next is read, so a checkpoint is read once per pass. Memory holds
only the embeddings, one layer and, for training, the top layers. Layers that are not loaded have their
weights on the meta device. `Decoder` and its users load the layers that they run through `spans` and
`loaded`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lens_eval.base.errors import UserError
from lens_train.checkpoint import Checkpoint
from lens_train.decoder import Decoder, load_model
from lens_train.export import Place, find_tensors
from lens_train.loading import refuse
from lens_train.memory import free_at_once

MEMORY_SHARE = 0.75
"""Share of the free memory that a model may take before it is streamed."""
BYTES_PER_TRAINED = 16
"""Float32 weight, gradient and two moments of AdamW."""

Stream = Literal["auto", "always", "never"]


def open_decoder(
    model: str | Checkpoint,
    device: torch.device,
    dtype: torch.dtype,
    stream: Stream = "auto",
    trained: int = 0,
) -> Decoder:
    """Open a model: in memory if it fits (see `MEMORY_SHARE`), else streamed from its checkpoint.

    Args:
        model: the model, or its name.
        device: device that the model runs on.
        dtype: type of the frozen weights.
        stream: `auto`, or `always` or `never` to decide it.
        trained: number of layers that will be trained.
    """
    checkpoint = model if isinstance(model, Checkpoint) else Checkpoint.open(model)
    if stream == "always" or (stream == "auto" and not fits(checkpoint, device, dtype, trained)):
        return StreamedDecoder(checkpoint, device, dtype)
    return Decoder(load_model(checkpoint, device, dtype))


def fits(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype, trained: int) -> bool:
    """Whether weights and training states take at most `MEMORY_SHARE` of the free memory."""
    places = find_tensors(checkpoint.folder)
    numbers = sum(place.length // place.dtype.itemsize for place in places.values())
    layers = checkpoint.config.get_text_config().num_hidden_layers
    need = numbers * dtype.itemsize + trained * numbers / layers * BYTES_PER_TRAINED
    free = free_memory(device)
    return free is None or need <= MEMORY_SHARE * free


def free_memory(device: torch.device) -> int | None:
    """Free memory of the device, in bytes; None if it is unknown."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    info = Path("/proc/meminfo")
    found = re.search(r"MemAvailable:\s+(\d+) kB", info.read_text()) if info.exists() else None
    return min(int(found[1]) * 1024, _allowance()) if found else None


def _allowance() -> int:
    """Memory that the container's control group has left, in bytes."""
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
    except (OSError, ValueError):
        return 1 << 62
    return (1 << 62) if limit == "max" else int(limit) - used


class StreamedDecoder(Decoder):
    """A decoder whose layers are read from the checkpoint one at a time."""

    def __init__(self, checkpoint: str | Checkpoint, device: torch.device, dtype: torch.dtype) -> None:
        """Build the model without weights and read its embeddings and final norm.

        Raises:
            UserError: as in `Decoder`; or the checkpoint lacks weights of the model, or holds others.
        """
        free_at_once()
        if isinstance(checkpoint, str):
            checkpoint = Checkpoint.open(checkpoint)
        model = _skeleton(checkpoint, dtype)
        self._weights = _Weights(model, find_tensors(checkpoint.folder), device)
        self._weights.require_whole()
        super().__init__(model, device)

    def _prepare(self) -> None:
        self._weights.attach(self.base, self.layers)

    def spans(self, stop: int) -> list[tuple[int, int]]:
        """Spans of the layers below `stop`; each runs all prompts before the next span."""
        return [(layer, layer + 1) for layer in range(stop)]

    @contextmanager
    def loaded(self, first: int, last: int) -> Iterator[None]:
        """Hold the layers from `first` to `last - 1` in memory."""
        absent = [layer for layer in range(first, last) if not self._weights.held(layer)]
        for layer in absent:
            self._weights.load(layer)
        try:
            yield
        finally:
            for layer in absent:
                self._weights.drop(layer)

    def hold(self, first: int) -> None:
        """Load the layers from `first` on into memory permanently."""
        for layer in range(first, len(self)):
            if not self._weights.held(layer):
                self._weights.load(layer)

    def free_embeddings(self) -> None:
        """Free the weights that only tokens need (embeddings)."""
        self._weights.drop_embeddings()


def _skeleton(checkpoint: Checkpoint, dtype: torch.dtype) -> Any:
    """The model with buffers but no weights."""
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    name, config = checkpoint.name, checkpoint.config
    with init_empty_weights(include_buffers=False):
        try:
            model = AutoModelForCausalLM.from_config(config, dtype=dtype)
        except (ValueError, KeyError) as error:
            raise UserError(f"cannot load {name} as a causal language model: {error}") from None
    model.name_or_path = name
    return model.eval()


class _Lazy:
    """A tensor of a checkpoint that is read only when transformers' loader indexes it."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def __getitem__(self, _: Any) -> Tensor:
        tensor = torch.empty(self.place.shape, dtype=self.place.dtype)
        with self.place.file.open("rb") as file:  # no memory map: its pages would count as used memory
            file.seek(self.place.start)
            file.readinto(tensor.view(-1).view(torch.uint8).numpy().data)
        return tensor


class _Weights:
    """Maps the checkpoint's tensors to layers, and loads them into the model."""

    def __init__(self, model: Any, places: Mapping[str, Place], device: torch.device) -> None:
        from transformers.conversion_mapping import get_model_conversion_mapping

        self.model = model
        self.device = device
        self.places = places
        self.conversions = get_model_conversion_mapping(model)
        self._converted: set[str] = set()
        """Tensors that transformers takes apart or puts together."""

    def require_whole(self) -> None:
        """Refuse files that lack a tensor of the model, or hold one that the model does not know or fit.

        Raises:
            UserError: as `lens_train.loading.refuse`.
        """
        known = self.model.state_dict()
        targets = self._targets()
        tied = set(getattr(self.model, "all_tied_weights_keys", None) or ())
        unknown = {source for source, target in targets.items() if target not in known}
        absent = known.keys() - targets.values() - tied
        # A converter may make several parameters of one tensor: what it makes is checked where it runs.
        found = SimpleNamespace(unexpected_keys=unknown, missing_keys=set() if self._converted else absent)
        self.model._adjust_missing_and_unexpected_keys(found)
        unfit = [
            f"{source}: {self.places[source].shape} in the files, {tuple(known[target].shape)} in the model"
            for source, target in targets.items()
            if target in known
            and source not in self._converted
            and self.places[source].shape != known[target].shape
        ]
        refuse(self.model.name_or_path, found.missing_keys, found.unexpected_keys, unfit)

    def attach(self, base: nn.Module, layers: nn.ModuleList) -> None:
        """Sort the checkpoint's tensors by layer, and read the decoder's tensors that belong to no layer."""
        names = {id(module): path for path, module in self.model.named_modules()}
        self.base, self.layers = base, layers
        prefix, outer = names[id(layers)] + ".", names[id(base)] + "."
        self.of_layer: dict[int, list[str]] = defaultdict(list)
        outside: list[str] = []
        for source, target in self._targets().items():
            if target.startswith(prefix):
                self.of_layer[int(target[len(prefix) :].partition(".")[0])].append(source)
            elif target.startswith(outer):
                outside.append(source)
        self._read(outside)
        inside = {id(parameter) for parameter in layers.parameters()}
        self._require(
            name for name, value in base.named_parameters() if id(value) not in inside and value.is_meta
        )

    def held(self, layer: int) -> bool:
        """Whether all weights of a layer are in memory."""
        return not any(parameter.is_meta for parameter in self.layers[layer].parameters())

    def load(self, layer: int) -> None:
        """Read a layer.

        Raises:
            UserError: the checkpoint lacks a weight of the layer.
        """
        self._read(self.of_layer[layer])
        self._require(name for name, value in self.layers[layer].named_parameters() if value.is_meta)

    def drop(self, layer: int) -> None:
        """Free the weights of a layer; its buffers stay."""
        _to_meta(self.layers[layer])

    def drop_embeddings(self) -> None:
        """Free the token embeddings."""
        _to_meta(self.model.get_input_embeddings())

    def _targets(self) -> dict[str, str]:
        """Tensor of the checkpoint -> parameter of the model that it is, or is a part of."""
        from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

        known = self.model.state_dict()
        renamings = [entry for entry in self.conversions if isinstance(entry, WeightRenaming)]
        converters = [entry for entry in self.conversions if isinstance(entry, WeightConverter)]
        prefix = self.model.base_model_prefix
        found = {}
        for source in self.places:
            target, converter = rename_source_key(source, renamings, converters, prefix, known)
            if converter is not None:
                self._converted.add(source)
            if target not in known and source in known:
                target = rename_source_key(source, [], [], prefix, known)[0]
            found[source] = target
        return found

    def _read(self, names: Iterable[str]) -> None:
        from transformers.core_model_loading import convert_and_load_state_dict_in_model
        from transformers.modeling_utils import LoadStateDictConfig

        settings = LoadStateDictConfig(
            device_map={"": self.device}, dtype=self.model.dtype, weight_mapping=self.conversions
        )
        lazy = {name: _Lazy(self.places[name]) for name in names}
        convert_and_load_state_dict_in_model(self.model, lazy, settings)

    def _require(self, absent: Iterable[str]) -> None:
        names = list(absent)
        if names:
            raise UserError(f"the checkpoint of {self.model.name_or_path} lacks weights: {', '.join(names)}")


def _to_meta(module: nn.Module) -> None:
    for part in module.modules():
        for name, parameter in list(part._parameters.items()):
            if parameter is not None:
                part._parameters[name] = nn.Parameter(parameter.data.to("meta"), requires_grad=False)
