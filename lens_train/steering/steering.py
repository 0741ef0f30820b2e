"""A steering: what is added to the hidden states of any causal model of transformers, layer by layer."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from lens_eval.base.errors import UserError
from lens_eval.base.files import write_text
from lens_eval.base.reading import read_object, shaped
from lens_train.files import read_tensors, write_tensors

TENSORS, RECORD = "steering.safetensors", "steering.json"
FORMAT = 2


Kind = Literal["specific", "direction", "kept_norm", "threshold"]
Change = Callable[[Tensor], Tensor]
"""States (..., width) -> what is added to them, (..., width) or a shape that broadcasts to it."""


@dataclass(frozen=True)
class Edit:
    """One change to the output of one layer."""

    layer: int
    kind: Kind
    """What is added to the state h, with the direction d of the answer's language:

    - `specific`: s P h, the state's part in the specific subspace;
    - `direction`: s d;
    - `kept_norm`: (h + s d) |h| / |h + s d| - h, so that the state keeps its norm;
    - `threshold`: max(0, t - d.h) d, so that no state lies below the threshold t; s is not used.
    """
    strength: float
    """s; 0 leaves the edit out."""


@dataclass(frozen=True)
class Steering:
    """Edits, the tensors that they need, and where those come from.

    Attributes:
        specific: layer -> orthonormal rows, (rank, width).
        directions: layer -> language -> direction, (width,).
        base: identity of the model that the tensors were computed from.
        thresholds: layer -> language -> t, a tensor of one number.
        source: the texts behind the tensors: `name`, `sha256`, `items`, and which `positions` were read.
        settings: those of the method that made it.
        skip: token at whose positions nothing is changed, as a rule the BOS token; None = no such token.
    """

    edits: tuple[Edit, ...]
    specific: Mapping[int, Tensor]
    directions: Mapping[int, Mapping[str, Tensor]]
    base: Mapping[str, str]
    thresholds: Mapping[int, Mapping[str, Tensor]] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    skip: int | None = None

    @property
    def by_language(self) -> bool:
        """Whether the steering depends on the answer's language."""
        return any(edit.kind != "specific" for edit in self.edits)

    @property
    def layers(self) -> list[int]:
        """Layers whose output is changed; a layer whose edits all have strength 0 is not changed."""
        return sorted({edit.layer for edit in self.edits if edit.strength})

    def to(self, device: torch.device, dtype: torch.dtype) -> Steering:
        """The same steering with its tensors on `device`, in `dtype`."""

        def moved(tensors: Mapping[int, Mapping[str, Tensor]]) -> dict[int, dict[str, Tensor]]:
            return {
                layer: {code: tensor.to(device, dtype) for code, tensor in own.items()}
                for layer, own in tensors.items()
            }

        specific = {layer: basis.to(device, dtype) for layer, basis in self.specific.items()}
        return replace(
            self, specific=specific, directions=moved(self.directions), thresholds=moved(self.thresholds)
        )

    def require(self, *, depth: int, width: int, name: str) -> None:
        """Check that the steering fits a model of `depth` layers with hidden states of `width` numbers.

        Raises:
            UserError: the steering does not fit; the message names the model as `name`.
        """
        for edit in self.edits:
            if not 0 <= edit.layer < depth:
                raise UserError(
                    f"this steering changes layer {edit.layer}; {name} has layers 0 to {depth - 1}"
                )
        tensors = [*self.specific.values(), *(d for own in self.directions.values() for d in own.values())]
        for tensor in tensors:
            if tensor.shape[-1] != width:
                raise UserError(
                    f"this steering is for hidden states of {tensor.shape[-1]} numbers; {name} has {width}"
                )

    def require_language(self, language: str | None) -> None:
        """Check that the steering can be used for answers in `language`.

        Raises:
            UserError: the steering needs a direction, and `language` has none.
        """
        for edit in self.edits:
            if edit.kind == "specific" or not edit.strength:
                continue
            known = self.directions[edit.layer]
            if language is None or language not in known:
                raise UserError(
                    f"this steering needs the direction of a language, but has none for {language!r}; "
                    f"it has {', '.join(known)}"
                )

    def change(self, layer: int, language: str | None) -> Change:
        """The function of a layer: states (..., width) -> tensor to add to them, (..., width) or a scalar 0.

        Raises:
            UserError: the steering needs a direction, and `language` has none.
        """
        self.require_language(language)
        changes = [self._edit(edit, str(language)) for edit in self.edits if edit.layer == layer]

        def change(hidden: Tensor) -> Tensor:
            total = torch.zeros((), dtype=hidden.dtype, device=hidden.device)
            for one in changes:
                total = total + one(hidden)
            return total

        return change

    def _edit(self, edit: Edit, language: str) -> Change:
        if not edit.strength:
            return lambda hidden: hidden.new_zeros(())
        if edit.kind == "specific":
            return partial(_add_part, edit.strength, self.specific[edit.layer])
        direction = self.directions[edit.layer][language]
        if edit.kind == "threshold":
            return partial(_lift, self.thresholds[edit.layer][language], direction)
        shift = direction * edit.strength
        return partial(_turn if edit.kind == "kept_norm" else _add, shift)

    def on(self, model: Any, language: str | None = None) -> AbstractContextManager[dict[int, int]]:
        """Steer every forward pass of any causal model of transformers until the `with` block ends.

        Args:
            model: a model of `AutoModelForCausalLM`; its weights do not change.
            language: code of the answer's language; only directions need it.

        Returns:
            A context manager that yields layer -> number of times steered so far, once per forward pass.

        Raises:
            UserError: the layers cannot be found or do not fit, or there is no direction for `language`.
        """
        return Steerer(model, self).active(language)

    def save(self, folder: Path) -> None:
        """Write `steering.safetensors` and `steering.json`."""
        tensors = {f"specific.{layer}": basis for layer, basis in self.specific.items()}
        for layer, directions in self.directions.items():
            tensors |= {f"direction.{layer}.{code}": tensor for code, tensor in directions.items()}
        for layer, thresholds in self.thresholds.items():
            tensors |= {f"threshold.{layer}.{code}": tensor for code, tensor in thresholds.items()}
        write_tensors(folder / TENSORS, {name: tensor.float() for name, tensor in tensors.items()})
        record = {
            "base": dict(self.base),
            "edits": [asdict(edit) for edit in self.edits],
            "source": dict(self.source),
            "settings": dict(self.settings),
            "skip": self.skip,
            "format": FORMAT,
        }
        write_text(folder / RECORD, json.dumps(record, indent=2, sort_keys=True) + "\n")

    @staticmethod
    def load(folder: Path) -> Steering:
        """Read a steering folder.

        Raises:
            UserError: the folder holds no steering.
        """
        try:
            record = read_object(folder / RECORD, "record of a steering")
            tensors, _ = read_tensors(folder / TENSORS, "file of a steering")
        except UserError as error:
            raise UserError(
                f"{folder} holds no steering ({error}); make it with `lens train --method steer`"
            ) from None
        if record.get("format") != FORMAT:
            raise UserError(
                f"{folder} holds a steering of format {record.get('format')}, this version reads {FORMAT}; "
                "make it again with `lens train`"
            )
        with shaped(folder / RECORD, "record of a steering"):
            return _read(record, tensors)


def _read(record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Steering:
    """A steering from its two files; `KeyError`, `TypeError` or `ValueError` if they do not fit together."""
    specific: dict[int, Tensor] = {}
    named: dict[str, dict[int, dict[str, Tensor]]] = {"direction": {}, "threshold": {}}
    for name, tensor in tensors.items():
        kind, layer, *code = name.split(".")
        if (
            not tensor.is_floating_point()
            or tensor.ndim != {"specific": 2, "direction": 1, "threshold": 0}[kind]
        ):
            raise ValueError(f"{name} has the shape {tuple(tensor.shape)}")
        if kind == "specific":
            specific[int(layer)] = tensor
        else:
            named[kind].setdefault(int(layer), {})[code[0]] = tensor
    edits = tuple(_edit(edit) for edit in record["edits"])
    for edit in edits:
        _ = specific[edit.layer] if edit.kind == "specific" else named["direction"][edit.layer]
        if edit.kind == "threshold":
            for language in named["direction"][edit.layer]:
                float(named["threshold"][edit.layer][language])
    skip = record["skip"]
    if not (skip is None or isinstance(skip, int)):
        raise ValueError(f"skip is {skip!r}")
    return Steering(
        edits,
        specific,
        named["direction"],
        dict(record["base"]),
        named["threshold"],
        dict(record["source"]),
        dict(record["settings"]),
        skip,
    )


def _edit(raw: Mapping[str, Any]) -> Edit:
    kind, layer, strength = raw["kind"], raw["layer"], raw["strength"]
    if kind not in get_args(Kind) or type(layer) is not int or not math.isfinite(strength):
        raise ValueError(f"an edit is {dict(raw)!r}")
    return Edit(layer, kind, float(strength))


class Positions:
    """The positions of one forward pass that are changed: all but those of one token."""

    def __init__(self, skip: int | None) -> None:
        """Leave out the positions of the token `skip`; None = leave out none."""
        self.skip = skip
        self._changed: Tensor | None = None

    def see(self, ids: Tensor | None) -> None:
        """Take the tokens of the pass that begins, any shape; None = they are not known, all are changed."""
        self._changed = None if ids is None or self.skip is None else ids.ne(self.skip).unsqueeze(-1)

    def only(self, change: Tensor) -> Tensor:
        """`change`, with zeros at the positions that are left alone."""
        return change if self._changed is None else change * self._changed.to(change)


class Steerer:
    """Applies a steering to a loaded model inside a `with` block of `active`."""

    def __init__(self, model: Any, steering: Steering) -> None:
        """Find the layers.

        Raises:
            UserError: the model's layers cannot be found, or do not fit the steering.
        """
        from lens_train.decoder import Decoder

        decoder = Decoder(model)
        steering.require(depth=len(decoder), width=decoder.width, name=decoder.name)
        self.steering = steering.to(decoder.device, next(model.parameters()).dtype)
        # hidden[-1] is taken after the final norm, so the last layer is steered where the decoder ends.
        self._places: list[nn.Module] = [*decoder.layers[:-1], decoder.base]

    @contextmanager
    def active(self, language: str | None = None) -> Iterator[dict[int, int]]:
        """Steer every forward pass of the model until the block ends.

        Args:
            language: code of the answer's language; only directions need it.

        Yields:
            Layer -> number of times steered so far, once per forward pass.

        Raises:
            UserError: the steering needs a direction, and `language` has none.
        """
        fired: dict[int, int] = {}
        positions = Positions(self.steering.skip)
        with ExitStack() as stack:
            if positions.skip is not None:
                seen = self._places[-1].register_forward_pre_hook(_seeing(positions), with_kwargs=True)
                stack.callback(seen.remove)
            for layer in self.steering.layers:
                fired[layer] = 0
                change = self.steering.change(layer, language)
                hook = _changing(layer, change, positions, fired)
                stack.callback(self._places[layer].register_forward_hook(hook).remove)
            yield fired


def _changing(layer: int, change: Change, positions: Positions, fired: dict[int, int]) -> Callable[..., Any]:
    """A hook that changes the output of a layer, or of the decoder, and counts."""

    def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        fired[layer] += 1
        if isinstance(output, Tensor):
            return output + positions.only(change(output))
        if isinstance(output, tuple):
            return (output[0] + positions.only(change(output[0])), *output[1:])
        state = output.last_hidden_state
        output.last_hidden_state = state + positions.only(change(state))
        return output

    return hook


def _seeing(positions: Positions) -> Callable[..., None]:
    """A hook in front of the decoder that reads which tokens it is given."""

    def hook(_module: nn.Module, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        positions.see(named.get("input_ids", inputs[0] if inputs else None))

    return hook


def _add_part(strength: float, basis: Tensor, hidden: Tensor) -> Tensor:
    rows = basis.to(hidden)
    return strength * (hidden @ rows.T @ rows)


def _add(shift: Tensor, hidden: Tensor) -> Tensor:
    return shift.to(hidden)


def _turn(shift: Tensor, hidden: Tensor) -> Tensor:
    """Add and scale back to the norm before; norms in float32, since bfloat16 has three digits."""
    state = hidden.float()
    moved = state + shift.to(state)
    norm = torch.linalg.vector_norm
    scale = norm(state, dim=-1, keepdim=True) / norm(moved, dim=-1, keepdim=True).clamp(min=1e-12)
    return (moved * scale - state).to(hidden.dtype)


def _lift(threshold: Tensor, direction: Tensor, hidden: Tensor) -> Tensor:
    state, along = hidden.float(), direction.to(hidden.device, torch.float32)
    missing = (threshold.to(along) - state @ along).clamp(min=0)
    return (missing.unsqueeze(-1) * along).to(hidden.dtype)
