"""Keys and values kept from an earlier pass, through the cache that every decoder of transformers takes.

Two things are done with it. Tokens that open every prompt (the head of a chat template) are run once, for a
token's state depends on what stands before it only. And where no loss reads the other positions of the last
layer, that layer gives its keys and values for all tokens, and runs whole for the last one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

Pair = tuple[Tensor, Tensor]
"""Keys and values, (batch, heads, tokens, head width) each; a batch of 1 stands for every row."""


class Noted(Exception):
    """Raised amid a layer, once its keys and values are known and nothing else of it is wanted."""


class Past(DynamicCache):
    """A cache of a fixed past: what a pass adds to it is noted aside, not kept."""

    def __init__(
        self, before: Mapping[int, Pair] | None = None, note: bool = False, stop_at: int | None = None
    ) -> None:
        """Begin from `before`, layer -> keys and values; stop in layer `stop_at` once these are known."""
        super().__init__()
        self.before = dict(before or {})
        self.length = next(iter(self.before.values()))[0].shape[2] if self.before else 0
        self.note = note
        self.stop_at = stop_at
        self.fresh: dict[int, Pair] = {}

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> Pair:
        """Give the layer its whole past, the new tokens included."""
        if self.note or layer == self.stop_at:
            self.fresh[layer] = (keys, values)
        if layer == self.stop_at:
            raise Noted
        if not self.length:
            return keys, values
        old_keys, old_values = self.before[layer]
        return _join(old_keys, keys), _join(old_values, values)

    def get_seq_length(self, layer: int = 0) -> int:
        """Tokens of the past."""
        return self.length

    def get_query_offset(self, layer: int = 0) -> int:
        """Where the new tokens begin."""
        return self.length

    def get_mask_sizes(self, query_length: int, layer: int = 0) -> tuple[int, int]:
        """Tokens that the mask covers, and where it begins; the sliding of a window is the mask's affair."""
        return self.length + query_length, 0


def before_end(shared: Pair | None, fresh: Pair) -> Pair:
    """Keys and values of all tokens but the last column, the tokens that open every prompt first."""
    keys, values = _whole(shared, fresh)
    return keys[:, :, :-1], values[:, :, :-1]


def before_last(shared: Pair | None, fresh: Pair, lengths: Tensor) -> tuple[Pair, Tensor]:
    """What the last token of each row looks back on, moved to the right end so that distances stay true.

    Args:
        shared: of the tokens that open every prompt.
        fresh: of the tokens after those, padded on the right.
        lengths: real tokens of each row of `fresh`, the last one included; (batch,).

    Returns:
        Keys and values, and the mask over them and the last token, (batch, tokens).
    """
    whole = _whole(shared, fresh)
    width = fresh[0].shape[2]
    slots = torch.arange(whole[0].shape[2] - 1, device=lengths.device)
    source = slots - (width - lengths)[:, None]
    mask = torch.nn.functional.pad((source >= 0).long(), (0, 1), value=1)
    index = source.clamp(min=0)[:, None, :, None]
    keys, values = (part.gather(2, index.expand(-1, part.shape[1], -1, part.shape[3])) for part in whole)
    return (keys, values), mask


def _whole(shared: Pair | None, fresh: Pair) -> Pair:
    if shared is None:
        return fresh
    return _join(shared[0], fresh[0]), _join(shared[1], fresh[1])


def _join(old: Tensor, new: Tensor) -> Tensor:
    return torch.cat([old.expand(len(new), -1, -1, -1).to(new.dtype), new], dim=2)
