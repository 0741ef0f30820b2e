"""Prompts in batches: sorted by length, padded, and as large as pays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal

import torch
from torch import Tensor

from lens_train.decoder import Decoder

CPU_TOKENS = 1024
"""Tokens of a batch at most on a CPU. More bring its matrix products no speed, but buffers that the C library
returns to the system after each operation: getting them back can take as long as the products."""


CPU_LAUNCH = 16
"""Tokens in whose time a CPU begins and ends a batch: dozens of small operations per layer."""


Prompts = Sequence[Sequence[int]]
"""Token ids per prompt, without padding."""


Prompt = tuple[int, ...]


@dataclass(frozen=True)
class Batch:
    """Prompts of about one length, padded."""

    rows: tuple[int, ...]
    """Which prompts."""
    ids: Tensor
    """(batch, tokens)"""
    mask: Tensor
    """1 for real tokens, 0 for padding; (batch, tokens)."""
    positions: Tensor | None = None
    """Where each token stands in its prompt, (batch, tokens); None = as `mask` says."""
    reads_end: bool = False
    """The token that is read of a row is that of the last column, not the last real one."""

    def read(self, states: Tensor) -> Tensor:
        """States of the token that is read of each row: (batch, tokens, width) -> (batch, width)."""
        # Contiguous: a product of a strided tensor can copy its matrix once per row, see `generation`.
        return states[:, -1].contiguous() if self.reads_end else last_token(states, self.mask)


def make_batches(
    prompts: Prompts | Mapping[int, Sequence[int]],
    rows: Sequence[int],
    budget: int,
    device: torch.device,
    side: Literal["left", "right"] = "right",
) -> Iterator[Batch]:
    """Sort `rows` by length and pad them into batches of at most `budget` tokens, padding included.

    On a CPU, batches that are padded on the right are also cut where that saves more padding than a batch
    costs. Those padded on the left are generated from, where a batch costs a pass per token: they stay whole.
    """
    ordered = sorted(rows, key=lambda row: (-len(prompts[row]), row))
    launch = budget
    if device.type == "cpu" and side == "right":
        budget, launch = min(budget, CPU_TOKENS), CPU_LAUNCH
    for size in batch_sizes([len(prompts[row]) for row in ordered], budget, launch):
        yield pad(prompts, ordered[:size], device, side)
        ordered = ordered[size:]


def batch_sizes(lengths: Sequence[int], budget: int, launch: int) -> list[int]:
    """Cut prompts, longest first, into the batches that cost least.

    Args:
        lengths: tokens of each prompt, falling.
        budget: tokens of a batch at most, padding included; a longer prompt is a batch of its own.
        launch: what a batch costs besides its tokens, in tokens.

    Returns:
        Prompts of each batch.
    """
    costs = [0, *[-1] * len(lengths)]
    begins = [0] * (len(lengths) + 1)
    for begin, width in enumerate(lengths):
        most = max(1, budget // width)
        for end in range(begin + 1, min(begin + most, len(lengths)) + 1):
            cost = costs[begin] + (end - begin) * width + launch
            if costs[end] < 0 or cost <= costs[end]:
                costs[end], begins[end] = cost, begin
    sizes: list[int] = []
    end = len(lengths)
    while end:
        sizes.append(end - begins[end])
        end = begins[end]
    return sizes[::-1]


def pad(
    prompts: Prompts | Mapping[int, Sequence[int]],
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


def shared_tokens(decoder: Decoder, prompts: Prompts) -> int:
    """Number of tokens that open every prompt, at least one token less than the shortest has."""
    if not decoder.reuses_past or len(prompts) < 2:
        return 0
    shortest = min(map(len, prompts))
    alike = (len(set(tokens)) == 1 for tokens in zip(*prompts, strict=False))
    return min(sum(1 for _ in takewhile(bool, alike)), shortest - 1)
