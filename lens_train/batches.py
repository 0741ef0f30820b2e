"""Batches of prompts: sorted by length, padded, and sized for the lowest cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal

import torch
from torch import Tensor

from lens_train.decoder import Decoder

CPU_TOKENS = 1024
"""Most tokens of a batch on a CPU. More tokens do not speed up matrix products. Their larger
buffers are returned to the system after each operation; to get them back can take as long as the products."""


CPU_LAUNCH = 16
"""Fixed cost of a batch on a CPU, in tokens: dozens of small operations per layer."""


Prompts = Sequence[Sequence[int]]
"""Token ids per prompt, without padding."""


Prompt = tuple[int, ...]


@dataclass(frozen=True)
class Batch:
    """Prompts of about one length, padded."""

    rows: tuple[int, ...]
    """Indices of the prompts."""
    ids: Tensor
    """(batch, tokens)"""
    mask: Tensor
    """1 for real tokens, 0 for padding; (batch, tokens)."""
    positions: Tensor | None = None
    """Position id of each token, (batch, tokens); None = derived from `mask`."""
    reads_end: bool = False
    """The token that is read of a row is the last column, not the last real token."""

    def read(self, states: Tensor) -> Tensor:
        """States of the token that is read of each row: (batch, tokens, width) -> (batch, width)."""
        # Contiguous, because a product of a strided tensor can copy its matrix once per row: see
        # `generation`.
        return states[:, -1].contiguous() if self.reads_end else last_token(states, self.mask)


def make_batches(
    prompts: Prompts | Mapping[int, Sequence[int]],
    rows: Sequence[int],
    budget: int,
    device: torch.device,
    side: Literal["left", "right"] = "right",
) -> Iterator[Batch]:
    """Sort `rows` by length and pad them into batches of at most `budget` tokens, padding included.

    On a CPU, a batch padded on the right is also split if that saves more padding than a batch costs. A batch
    padded on the left is not split: it is for generation, where each batch costs one pass per token.
    """
    ordered = sorted(rows, key=lambda row: (-len(prompts[row]), row))
    launch = budget
    if device.type == "cpu" and side == "right":
        budget, launch = min(budget, CPU_TOKENS), CPU_LAUNCH
    for size in batch_sizes([len(prompts[row]) for row in ordered], budget, launch):
        yield pad(prompts, ordered[:size], device, side)
        ordered = ordered[size:]


def batch_sizes(lengths: Sequence[int], budget: int, launch: int) -> list[int]:
    """Split prompts, longest first, into the batches with the lowest total cost.

    Args:
        lengths: tokens of each prompt, in descending order.
        budget: most tokens of a batch, padding included; a longer prompt is a batch of its own.
        launch: fixed cost of a batch, in tokens.

    Returns:
        Number of prompts of each batch.
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
    """Pad prompts into one batch, as wide as the longest prompt, or as `width` if that is more."""
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
    """Hidden state of the last real token of each row, for padding on either side.

    Args:
        states: (batch, tokens, width).
        mask: (batch, tokens).

    Returns:
        (batch, width)
    """
    last = mask.shape[1] - 1 - mask.flip(1).argmax(dim=1)
    return states[torch.arange(len(states), device=states.device), last]


def shared_tokens(decoder: Decoder, prompts: Prompts) -> int:
    """Number of tokens that every prompt begins with; at most the length of the shortest prompt - 1."""
    if not decoder.reuses_past or len(prompts) < 2:
        return 0
    shortest = min(map(len, prompts))
    alike = (len(set(tokens)) == 1 for tokens in zip(*prompts, strict=False))
    return min(sum(1 for _ in takewhile(bool, alike)), shortest - 1)
