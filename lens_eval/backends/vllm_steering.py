"""Steering inside vLLM: what `lens_train.steering.steer` does to hidden states, done in vLLM's workers.

vLLM runs the model in processes of its own. `SteeringWorker` is the plug-in that it adds to each of them
(`worker_extension_cls`); `lens_eval.backends` calls its methods through `collective_rpc`.

vLLM's decoder layers differ from transformers' in one thing: most of them hand on a pair (hidden, residual),
whose sum is the hidden state, because the next layer's norm adds the two up. A steered layer hands on
(change, hidden + residual), which is that same state, changed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lens_eval.base.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lens_train.steering.steering import Positions, Steering

EXTENSION = "lens_eval.backends.vllm_steering.SteeringWorker"


class SteeringWorker:
    """Methods that vLLM adds to each worker; nothing is changed before `lens_steer` is called."""

    get_model: Callable[[], nn.Module]
    """vLLM's own."""
    vllm_config: Any
    """vLLM's own."""

    def lens_steer(self, folder: str | None, language: str | None = None, share: float = 1.0) -> str | None:
        """Steer every forward pass from now on; without a folder, none.

        Args:
            folder: made by `lens train --method steer`.
            language: code of the answers wanted; only directions need it.
            share: factor on every change. With 0 all is done as otherwise, and nothing may change.

        Returns:
            Why this model cannot be steered so; None where it can (an exception would end vLLM).
        """
        running = self.__dict__.pop("_lens_hooks", None)
        if running is not None:
            running.remove()
        if folder is None:
            return None
        from lens_train.steering.steering import Steering

        try:
            settings = self.vllm_config.model_config.hf_text_config
            steering = Steering.load(Path(folder))
            self.__dict__["_lens_hooks"] = _Hooks.on(self.get_model(), settings, steering, language, share)
        except UserError as error:
            return str(error)
        return None

    def lens_fired(self) -> dict[str, int]:
        """Forward passes since `lens_steer` (`passes`), and how often each layer was steered in them."""
        hooks = self.__dict__.get("_lens_hooks")
        return {"passes": 0} if hooks is None else dict(hooks.fired)


@dataclass
class _Hooks:
    """A steering at work in a model, until `remove`."""

    fired: dict[str, int] = field(default_factory=lambda: {"passes": 0})
    stack: ExitStack = field(default_factory=ExitStack)

    @staticmethod
    def on(model: nn.Module, settings: Any, steering: Steering, language: str | None, share: float) -> _Hooks:
        """Hook the layers that the steering names.

        Raises:
            UserError: the layers cannot be found or do not fit, or there is no direction for `language`.
        """
        from lens_train.decoder import find_layers, instead_of
        from lens_train.steering.steering import Positions

        name = f"{type(model).__name__} in vLLM"
        layers = find_layers(model, settings.num_hidden_layers, name)
        base = next(module for module in model.modules() if layers in list(module.children()))
        steering.require(depth=len(layers), width=settings.hidden_size, name=name)
        first = next(model.parameters())
        placed = steering.to(first.device, first.dtype)
        changes = {layer: _scaled(placed.change(layer, language), share) for layer in steering.layers}
        hooks = _Hooks()
        positions = Positions(steering.skip)
        changes = {layer: _on(positions, change) for layer, change in changes.items()}
        last = len(layers) - 1
        for layer, change in changes.items():
            hooks.fired[str(layer)] = 0
            if layer != last:
                handle = layers[layer].register_forward_hook(hooks._hook(layer, change))
                hooks.stack.callback(handle.remove)
        # hidden[-1] is taken after the final norm: where the decoder ends. vLLM calls its `forward` past
        # PyTorch's hooks, so that is replaced; it also tells how many passes there were.
        forward = hooks._forward(base.forward, positions, last, changes.get(last))
        hooks.stack.enter_context(instead_of(base, forward))
        return hooks

    def remove(self) -> None:
        """Leave the model as it was."""
        self.stack.close()

    def _hook(self, layer: int, change: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            self.fired[str(layer)] += 1
            return changed(output, change)

        return hook

    def _forward(
        self,
        forward: Callable[..., Any],
        positions: Positions,
        layer: int,
        change: Callable[[Tensor], Tensor] | None,
    ) -> Callable[..., Any]:
        def replaced(*args: Any, **kwargs: Any) -> Any:
            self.fired["passes"] += 1
            positions.see(kwargs.get("input_ids", args[0] if args else None))
            output = forward(*args, **kwargs)
            if change is None:
                return output
            self.fired[str(layer)] += 1
            if isinstance(output, tuple):  # with the states of other layers, which some methods ask for
                return (output[0] + change(output[0]), *output[1:])
            return output + change(output)

        return replaced


def changed(output: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Output of one of vLLM's decoder layers, steered: (tokens, width), or a pair of such that adds up.

    The pair that is handed on holds the change in one half and the whole state in the other, so that the next
    layer adds them as transformers would: state + change.
    """
    if not isinstance(output, tuple):
        return output + change(output)
    hidden, residual, *rest = output
    if residual is None:
        return (hidden + change(hidden), None, *rest)
    state = hidden + residual
    # The next norm may write into both halves.
    return (change(state).expand_as(state).contiguous(), state, *rest)


def _scaled(change: Callable[[Tensor], Tensor], share: float) -> Callable[[Tensor], Tensor]:
    return change if share == 1.0 else lambda hidden: share * change(hidden)


def _on(positions: Positions, change: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """`change` at the positions that are changed."""
    return lambda hidden: positions.only(change(hidden))
