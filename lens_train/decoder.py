"""Any causal model as a stack of decoder layers, found by structure, without code per model family.

The model's own forward pass computes embeddings, attention masks, rotary angles and so on. Layers that are
not wanted return their input unchanged, and the first of them can return a cached hidden state instead. So a
part of the stack can run on states computed earlier, whatever else the family passes from layer to layer.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from lens_eval.base.errors import UserError
from lens_eval.base.progress import waiting
from lens_train.checkpoint import Checkpoint, first_line
from lens_train.devices import resolve_device, resolve_dtype
from lens_train.loading import load_causal
from lens_train.past import Noted, Past

Tap = Callable[[Tensor], None]


class Decoder:
    """A causal model without its output head, which can be cut between any two layers.

    `hidden[i]` is the output of layer i, counted from 0; `hidden[n - 1]` is taken after the final norm.
    """

    def __init__(self, model: Any, device: torch.device | None = None) -> None:
        """Find the layers and check that the model can be cut; the model runs on `device`.

        Raises:
            UserError: the layers cannot be found, or share more than the hidden state.
        """
        self.model = model
        self.name = f"{model.name_or_path or type(model).__name__} ({model.config.model_type})"
        self.config = model.config.get_text_config()
        self.base = model.get_decoder() if hasattr(model, "get_decoder") else model.base_model
        self.layers = find_layers(self.base, self.config.num_hidden_layers, self.name)
        self.takes_positions = "position_ids" in inspect.signature(self.base.forward).parameters
        """Whether the model takes position ids."""
        self._dtype: torch.dtype = model.dtype
        self._wraps: list[int] = [0] * len(self.layers)
        self.device: torch.device = device or model.device
        self.reuses_past = False
        """Whether the model gives the same result with the keys and values of earlier tokens from a cache."""
        self._prepare()
        self._check()

    def _prepare(self) -> None:
        """Read the weights that must be in memory before any layer runs."""

    def spans(self, stop: int) -> list[tuple[int, int]]:
        """Spans (first, last + 1) of the layers below `stop`; each runs all prompts before the next span."""
        return [(0, stop)] if stop else []

    def loaded(self, first: int, last: int) -> AbstractContextManager[None]:
        """Hold the layers from `first` to `last - 1` in memory."""
        return nullcontext()

    def hold(self, first: int) -> None:
        """Load the layers from `first` on into memory permanently."""

    def free_embeddings(self) -> None:
        """Free the weights that only tokens need (embeddings), if that saves memory."""

    def __len__(self) -> int:
        return len(self.layers)

    @property
    def dtype(self) -> torch.dtype:
        """Type that the model was loaded in; trained layers may be float32 since."""
        return self._dtype

    @property
    def width(self) -> int:
        """Size of a hidden state."""
        return self.config.hidden_size

    def index(self, layer: int) -> int:
        """Layer index counted from 0.

        Raises:
            UserError: there is no such layer.
        """
        if not -len(self) <= layer < len(self):
            raise UserError(
                f"{self.name} has layers 0 to {len(self) - 1} (or -{len(self)} to -1); there is no {layer}"
            )
        return layer % len(self)

    def __call__(
        self,
        ids: Tensor,
        mask: Tensor,
        *,
        start: int = 0,
        stop: int | None = None,
        hidden: Tensor | None = None,
        taps: Mapping[int, Tap] | None = None,
        past: Past | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Run layers `start` to `stop - 1`.

        Args:
            ids: token ids, (batch, tokens); unused if `start` is not 0.
            mask: 1 for real tokens, 0 for padding on either side, (batch, tokens of `past` + tokens).
            start: first layer to run.
            stop: layer before which to stop; None = run all layers and the final norm.
            hidden: states that enter layer `start`, (batch, tokens, width); needed unless `start` is 0.
            taps: layer -> function called with hidden[layer], (batch, tokens, width).
            past: keys and values of earlier tokens; may end the pass early.
            positions: position ids, (batch, tokens); None = counted from `mask`.

        Returns:
            States that enter layer `stop`, or hidden[n - 1]; (batch, tokens, width).
        """
        end = len(self) if stop is None else stop
        taps = dict(taps or {})
        last_tap = taps.pop(len(self) - 1, None)
        caught: list[Tensor] = []
        with ExitStack() as stack:
            for number, layer in enumerate(self.layers[:start]):
                stack.enter_context(_passing(layer, self._wraps[number], hidden if number == 0 else None))
            for number, tap in taps.items():
                stack.enter_context(_tapped(self.layers[number], tap))
            if end < len(self):
                stack.enter_context(_halting(self.layers[end], caught))
            try:
                output = self.base(**self._inputs(ids, mask, hidden, past, positions)).last_hidden_state
            except Noted:
                return caught[0] if caught else mask.new_empty(0)
        if last_tap is not None:
            last_tap(output)
        return output

    def _inputs(
        self, ids: Tensor, mask: Tensor, hidden: Tensor | None, past: Past | None, positions: Tensor | None
    ) -> dict[str, Any]:
        # If states are given, the embeddings are not needed, and may have been freed.
        tokens = {"input_ids": ids} if hidden is None else {"inputs_embeds": hidden}
        inputs: dict[str, Any] = {**tokens, "attention_mask": mask, "use_cache": False}
        if past is not None:
            inputs["past_key_values"] = past
        if positions is not None:
            inputs["position_ids"] = positions
        elif self.takes_positions and not bool(mask[:, 0].all()):
            # Left padding: count positions from the first token.
            new = ids if hidden is None else hidden
            inputs["position_ids"] = (mask.long().cumsum(-1) - 1).clamp(min=0)[:, -new.shape[1] :]
        return inputs

    @torch.no_grad()
    def _check(self) -> None:
        """Check on a few tokens that cut and whole model agree; record how each layer wraps its output."""
        ids = torch.arange(6, device=self.device).view(2, 3) % self.config.vocab_size
        mask = torch.ones_like(ids)
        depth = self.spans(len(self))[:2][-1][1]  # of a streamed model only two layers are checked
        with self.loaded(0, depth):
            with ExitStack() as stack:
                for number, layer in enumerate(self.layers):
                    handle = layer.register_forward_hook(self._note_wrap(number))
                    stack.callback(handle.remove)
                whole = self(ids, mask, stop=depth)
            self._wraps[depth:] = self._wraps[depth - 1 : depth] * (len(self) - depth)
            if not bool(whole.isfinite().all()):
                raise UserError(
                    f"{self.name} gives states that are not finite numbers: its weights are damaged"
                )
            middle = depth // 2
            try:
                hidden = self(ids, mask, stop=middle) if middle else None
                cut = self(ids, mask, start=middle, stop=depth, hidden=hidden)
            except (RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
                raise UserError(f"{self.name} cannot be cut between layers: {first_line(error)}") from None
            if not self._alike(cut, whole):
                raise UserError(
                    f"{self.name} cannot be cut between layers: running it in two parts gives another result "
                    "(its layers share more than the hidden state)"
                )
            self.reuses_past = self._check_past(ids, mask, depth, whole)

    @torch.no_grad()
    def final_norm(self) -> tuple[Tensor, Tensor] | None:
        """Gain and offset of the final norm, (width,) each, float64, on the CPU.

        They satisfy hidden[n - 1] = gain * u + offset. u is the normed state, which has mean square 1 for
        every token and model. They are computed from the norm's output for inputs of mean 0 and mean square
        1. This works for any norm that divides by root mean square or by standard deviation. None if the
        model does not end in such a norm.
        """
        signs = torch.ones(self.width, dtype=self.dtype, device=self.device)
        signs[1::2] = -1
        random = 7 * torch.randn(self.width, generator=torch.Generator().manual_seed(0)).to(signs)
        mask = torch.ones(1, 3, dtype=torch.long, device=self.device)
        rows = torch.stack([signs, -signs, random])[None]
        output = self(mask, mask, start=len(self), hidden=rows)[0].double().cpu()
        plus, minus, probe = output
        offset = (plus + minus) / 2
        gain = (plus - minus) / 2 / signs.double().cpu()
        if not bool(gain.abs().max() > 0):
            return None
        # A dimension with gain 0 carries no information; dividing by its gain would only give noise.
        dead = gain.abs() < 1e-6 * gain.abs().max()
        normed = torch.where(dead, 0.0, (probe - offset) / torch.where(dead, 1.0, gain))
        if abs(float(normed.square().sum() / (~dead).sum()) - 1) > 0.1:
            return None
        return torch.where(dead, torch.inf, gain), offset

    def _check_past(self, ids: Tensor, mask: Tensor, depth: int, whole: Tensor) -> bool:
        past = Past(note=True)
        try:
            self(ids[:, :1], mask[:, :1], stop=depth, past=past)
            rest = self(ids[:, 1:], mask, stop=depth, past=Past(past.fresh))
        except (RuntimeError, TypeError, ValueError, IndexError, KeyError, AttributeError):
            return False
        return set(past.fresh) == set(range(depth)) and self._alike(rest, whole[:, 1:])

    def _alike(self, first: Tensor, second: Tensor) -> bool:
        tolerance = max(1e-3, 4 * torch.finfo(self.dtype).eps)
        return torch.allclose(first, second, rtol=tolerance, atol=tolerance * float(second.abs().max()))

    def _note_wrap(self, number: int) -> Callable[..., None]:
        def note(_module: nn.Module, _inputs: Any, output: Any) -> None:
            self._wraps[number] = len(output) if isinstance(output, tuple) else 0

        return note


def find_layers(base: nn.Module, count: int, name: str) -> nn.ModuleList:
    """The only outermost list of `count` layers.

    Raises:
        UserError: there is none, or more than one; the message names the model as `name`.
    """
    found = {
        path: module
        for path, module in base.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count
    }
    outermost = [path for path in found if not any(path.startswith(other + ".") for other in found)]
    if len(outermost) != 1:
        lists = ", ".join(outermost) or "none"
        raise UserError(f"cannot find the {count} decoder layers of {name}: lists of that length: {lists}")
    layers = found[outermost[0]]
    assert isinstance(layers, nn.ModuleList)
    return layers


@contextmanager
def _passing(layer: nn.Module, wrap: int, instead: Tensor | None) -> Iterator[None]:
    """Make `layer` return its input, or `instead`, until the block ends."""

    def forward(*args: Any, **kwargs: Any) -> Any:
        hidden = _first_input(args, kwargs) if instead is None else instead
        return (hidden, *[None] * (wrap - 1)) if wrap else hidden

    with instead_of(layer, forward):
        yield


@contextmanager
def _halting(layer: nn.Module, caught: list[Tensor]) -> Iterator[None]:
    """End the pass before `layer`, and append the layer's input to `caught`."""

    def forward(*args: Any, **kwargs: Any) -> Any:
        caught.append(_first_input(args, kwargs))
        raise Noted

    with instead_of(layer, forward):
        yield


def _first_input(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    return args[0] if args else kwargs["hidden_states"]


@contextmanager
def instead_of(layer: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Run `forward` instead of the layer's own forward, until the block ends."""
    own = layer.__dict__.get("forward")
    layer.forward = forward
    try:
        yield
    finally:
        if own is None:
            del layer.forward
        else:
            layer.forward = own


@contextmanager
def _tapped(layer: nn.Module, tap: Tap) -> Iterator[None]:
    def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
        tap(output[0] if isinstance(output, tuple) else output)

    handle = layer.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def load_model(
    name: str | Checkpoint, device: str | torch.device = "cpu", dtype: str | torch.dtype = "float32"
) -> Any:
    """Load a causal model for evaluation or training, on `device`, in `dtype`.

    Raises:
        UserError: as `Checkpoint.open` and `lens_train.loading.load_causal`.
    """
    from transformers.utils import logging as transformers_logging

    checkpoint = name if isinstance(name, Checkpoint) else Checkpoint.open(name)
    place = resolve_device(device) if isinstance(device, str) else device
    kind = resolve_dtype(dtype, place) if isinstance(dtype, str) else dtype
    if not sys.stderr.isatty():
        transformers_logging.disable_progress_bar()
    # On a GPU, tensors are loaded one by one, without a full copy of the model in main memory.
    placed = {"device_map": {"": place}} if place.type == "cuda" else {}
    with waiting("loading the model"):
        model = load_causal(checkpoint, dtype=kind, **placed)
    return model.to(place).eval()
