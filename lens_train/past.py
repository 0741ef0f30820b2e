"""A KV cache from an earlier pass, as the cache class that every decoder of transformers takes.

It has two uses. First, tokens that every prompt begins with (the head of a chat template) are run once,
because a token's state depends only on the tokens before it. Second, if the losses read only the last token,
the last layer computes keys and values for all tokens and the rest of the layer for the last token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

Pair = tuple[Tensor, Tensor]
"""Keys and values, (batch, heads, tokens, head width) each; a batch of 1 is used for every row."""


class Noted(Exception):
    """Raised inside a layer to end the pass, once all that is wanted is known."""


class Past(DynamicCache):
    """A KV cache of fixed earlier tokens; a pass does not change it. New entries can be noted in `fresh`."""

    def __init__(
        self, before: Mapping[int, Pair] | None = None, note: bool = False, stop_at: int | None = None
    ) -> None:
        """Start from `before`, layer -> keys and values; stop in layer `stop_at` once its own are known."""
        super().__init__()
        self.before = dict(before or {})
        self.length = next(iter(self.before.values()))[0].shape[2] if self.before else 0
        self.note = note
        self.stop_at = stop_at
        self.fresh: dict[int, Pair] = {}

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> Pair:
        """Return the keys and values of all tokens to the layer, including the new tokens."""
        if self.note or layer == self.stop_at:
            self.fresh[layer] = (keys, values)
        if layer == self.stop_at:
            raise Noted
        if not self.length:
            return keys, values
        old_keys, old_values = self.before[layer]
        return _join(old_keys, keys), _join(old_values, values)

    def get_seq_length(self, layer: int = 0) -> int:
        """Number of earlier tokens."""
        return self.length

    def get_query_offset(self, layer: int = 0) -> int:
        """Position of the first new token."""
        return self.length

    def get_mask_sizes(self, query_length: int, layer: int = 0) -> tuple[int, int]:
        """Number of tokens in the attention mask, and its offset; windows are handled by the mask alone."""
        return self.length + query_length, 0


def before_end(shared: Pair | None, fresh: Pair) -> Pair:
    """Keys and values of all tokens except the last column; those of the head come first."""
    keys, values = _whole(shared, fresh)
    return keys[:, :, :-1], values[:, :, :-1]


def before_last(shared: Pair | None, fresh: Pair, lengths: Tensor) -> tuple[Pair, Tensor]:
    """Keys and values that the last token of each row attends to, shifted right so that distances stay true.

    Args:
        shared: keys and values of the head.
        fresh: keys and values of the tokens after the head, padded on the right.
        lengths: real tokens of each row of `fresh`, including the last one; (batch,).

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
