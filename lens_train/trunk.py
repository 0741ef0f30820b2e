"""The frozen layers run once per prompt; what enters the first trained layer is kept.

Both the reference (the untrained top) and every training step start from the kept states, so there is no
second model, and a further run on the same prompts costs only its top layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lens_eval.progress import progress
from lens_train.layers import Decoder, Tap

Prompts = Sequence[Sequence[int]]
"""Token ids per prompt, without padding."""


@dataclass(frozen=True)
class Batch:
    """Prompts of about one length, padded."""

    rows: tuple[int, ...]
    """Which prompts."""
    ids: Tensor
    """(batch, tokens)"""
    mask: Tensor
    """1 for real tokens, 0 for padding; (batch, tokens)."""


def make_batches(
    prompts: Prompts,
    rows: Sequence[int],
    budget: int,
    device: torch.device,
    side: Literal["left", "right"] = "right",
) -> Iterator[Batch]:
    """Sort `rows` by length and pad them into batches of at most `budget` tokens, padding included."""
    ordered = sorted(rows, key=lambda row: (-len(prompts[row]), row))
    while ordered:
        size = max(1, budget // len(prompts[ordered[0]]))
        yield pad(prompts, ordered[:size], device, side)
        ordered = ordered[size:]


def pad(
    prompts: Prompts,
    rows: Sequence[int],
    device: torch.device,
    side: Literal["left", "right"] = "right",
    fill: int = 0,
    width: int = 0,
) -> Batch:
    """Pad some prompts into one batch, as wide as the longest or `width`."""
    width = max(width, *(len(prompts[row]) for row in rows))
    ids = torch.full((len(rows), width), fill)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for place, row in enumerate(rows):
        length = len(prompts[row])
        span = slice(0, length) if side == "right" else slice(width - length, width)
        ids[place, span] = torch.tensor(prompts[row])
        mask[place, span] = 1
    return Batch(tuple(rows), ids.to(device), mask.to(device))


def last_token(states: Tensor, mask: Tensor) -> Tensor:
    """State of the last real token of each row, whichever side is padded.

    Args:
        states: (batch, tokens, width).
        mask: (batch, tokens).

    Returns:
        (batch, width)
    """
    last = mask.shape[1] - 1 - mask.flip(1).argmax(dim=1)
    return states[torch.arange(len(states), device=states.device), last]


def autocast(decoder: Decoder) -> AbstractContextManager[None]:
    """Arithmetic in bfloat16 where the model was loaded so, though its trained weights are float32."""
    low = decoder.dtype == torch.bfloat16
    return torch.autocast(decoder.device.type, dtype=torch.bfloat16, enabled=low)


@dataclass(frozen=True)
class Trunk:
    """States that enter layer `start`, per prompt."""

    decoder: Decoder
    prompts: Prompts
    start: int
    hidden: Mapping[int, Tensor]
    """Prompt -> (tokens, width); empty where `start` is 0."""
    budget: int

    @staticmethod
    @torch.no_grad()
    def build(decoder: Decoder, prompts: Prompts, rows: Sequence[int], start: int, budget: int) -> Trunk:
        """Run the layers below `start` on the prompts `rows`."""
        hidden: dict[int, Tensor] = {}
        if start:
            with progress(label="frozen layers", total=len(rows)) as bar:
                for batch in make_batches(prompts, rows, budget, decoder.device):
                    states = decoder(batch.ids, batch.mask, stop=start)
                    for place, row in enumerate(batch.rows):
                        hidden[row] = states[place, : len(prompts[row])].clone()
                    bar.update(len(batch.rows))
        return Trunk(decoder, prompts, start, hidden, budget)

    def top(self, rows: Sequence[int], layers: Sequence[int]) -> dict[int, Tensor]:
        """Run the layers from `start` on, with gradients.

        Args:
            rows: prompts.
            layers: layers whose states are wanted, counted from 0.

        Returns:
            Prompt -> hidden[layers], (layers, tokens, width), float32.
        """
        found: dict[int, Tensor] = {}
        for batch in make_batches(self.prompts, rows, self.budget, self.decoder.device):
            caught: dict[int, Tensor] = {}
            taps = {layer: _keep(caught, layer) for layer in layers}
            with autocast(self.decoder):
                self.decoder(batch.ids, batch.mask, start=self.start, hidden=self._entering(batch), taps=taps)
            states = torch.stack([caught[layer].float() for layer in layers])
            for place, row in enumerate(batch.rows):
                found[row] = states[:, place, : len(self.prompts[row])]
        return found

    def _entering(self, batch: Batch) -> Tensor | None:
        if not self.start:
            return None
        return torch.nn.utils.rnn.pad_sequence([self.hidden[row] for row in batch.rows], batch_first=True)


def _keep(caught: dict[int, Tensor], layer: int) -> Tap:
    def tap(states: Tensor) -> None:
        caught[layer] = states

    return tap
