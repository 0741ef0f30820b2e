"""A steering: tensors that are added to the hidden states of any causal model of transformers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from lens_eval.base.errors import UserError
from lens_eval.base.files import write_text
from lens_eval.base.reading import read_object
from lens_train.files import write_tensors

TENSORS, RECORD = "steering.safetensors", "steering.json"


@dataclass(frozen=True)
class Edit:
    """One change to the output of one layer."""

    layer: int
    kind: Literal["specific", "direction"]
    """What is added, times `strength`: the state's specific part, or the direction of a language."""
    strength: float


@dataclass(frozen=True)
class Steering:
    """Edits and the tensors that they need.

    Attributes:
        specific: layer -> orthonormal rows, (rank, width).
        directions: layer -> language -> direction, (width,).
        base: identity of the model that the tensors were computed from.
    """

    edits: tuple[Edit, ...]
    specific: Mapping[int, Tensor]
    directions: Mapping[int, Mapping[str, Tensor]]
    base: Mapping[str, str]

    @property
    def by_language(self) -> bool:
        """Whether the steering depends on the answer's language."""
        return any(edit.kind == "direction" for edit in self.edits)

    @property
    def layers(self) -> list[int]:
        """Layers whose output is changed; a layer whose edits all have strength 0 is not changed."""
        return sorted({edit.layer for edit in self.edits if edit.strength})

    def to(self, device: torch.device, dtype: torch.dtype) -> Steering:
        """The same steering with its tensors on `device`, in `dtype`."""
        return replace(
            self,
            specific={layer: basis.to(device, dtype) for layer, basis in self.specific.items()},
            directions={
                layer: {code: direction.to(device, dtype) for code, direction in own.items()}
                for layer, own in self.directions.items()
            },
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
            UserError: directions are added, and `language` has none.
        """
        for edit in self.edits:
            if edit.kind != "direction" or not edit.strength:
                continue
            known = self.directions[edit.layer]
            if language is None or language not in known:
                raise UserError(
                    f"this steering adds the direction of a language, but has none for {language!r}; "
                    f"it has {', '.join(known)}"
                )

    def change(self, layer: int, language: str | None) -> Callable[[Tensor], Tensor]:
        """The function of a layer: states (..., width) -> tensor to add to them, (..., width) or a scalar 0.

        Raises:
            UserError: directions are added, and `language` has none.
        """
        self.require_language(language)
        edits = [edit for edit in self.edits if edit.layer == layer]
        scale = sum(edit.strength for edit in edits if edit.kind == "specific")
        shift = sum(edit.strength for edit in edits if edit.kind == "direction")
        basis = self.specific[layer] if scale else None
        direction = self.directions[layer][str(language)] * shift if shift else None

        def change(hidden: Tensor) -> Tensor:
            total = torch.zeros((), dtype=hidden.dtype, device=hidden.device)
            if basis is not None:
                rows = basis.to(hidden)
                total = total + scale * (hidden @ rows.T @ rows)
            if direction is not None:
                total = total + direction.to(hidden)
            return total

        return change

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
        write_tensors(folder / TENSORS, {name: tensor.float() for name, tensor in tensors.items()})
        record = {"base": dict(self.base), "edits": [asdict(edit) for edit in self.edits], "format": 1}
        write_text(folder / RECORD, json.dumps(record, indent=2, sort_keys=True) + "\n")

    @staticmethod
    def load(folder: Path) -> Steering:
        """Read a steering folder.

        Raises:
            UserError: the folder holds no steering.
        """
        try:
            record = read_object(folder / RECORD, "record of a steering")
            tensors = load_file(folder / TENSORS)
        except (OSError, SafetensorError, UserError) as error:
            raise UserError(
                f"{folder} holds no steering ({error}); make it with `lens train --method steer`"
            ) from None
        specific: dict[int, Tensor] = {}
        directions: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            kind, layer, *code = name.split(".")
            if kind == "specific":
                specific[int(layer)] = tensor
            else:
                directions.setdefault(int(layer), {})[code[0]] = tensor
        return Steering(tuple(Edit(**edit) for edit in record["edits"]), specific, directions, record["base"])


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
            UserError: directions are added, and `language` has none.
        """
        fired: dict[int, int] = {}
        with ExitStack() as stack:
            for layer in self.steering.layers:
                fired[layer] = 0
                hook = self._hook(layer, self.steering.change(layer, language), fired)
                stack.callback(self._places[layer].register_forward_hook(hook).remove)
            yield fired

    def _hook(
        self, layer: int, change: Callable[[Tensor], Tensor], fired: dict[int, int]
    ) -> Callable[..., Any]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            fired[layer] += 1
            if isinstance(output, Tensor):
                return output + change(output)
            if isinstance(output, tuple):
                return (output[0] + change(output[0]), *output[1:])
            output.last_hidden_state = output.last_hidden_state + change(output.last_hidden_state)
            return output

        return hook
