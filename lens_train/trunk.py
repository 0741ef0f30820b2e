"""The frozen layers run once per prompt; what enters the first trained layer is kept.

Both the reference (the untrained top) and every training step start from the kept states, so there is no
second model, and a further run on the same prompts costs only its top layers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal

import torch
from torch import Tensor

from lens_eval.progress import progress
from lens_train.layers import Decoder, Tap
from lens_train.past import Past, before_last

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
    prompts: Prompts | Mapping[int, Sequence[int]],
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


def autocast(decoder: Decoder) -> AbstractContextManager[None]:
    """Arithmetic in bfloat16 where the model was loaded so, though its trained weights are float32."""
    low = decoder.dtype == torch.bfloat16
    return torch.autocast(decoder.device.type, dtype=torch.bfloat16, enabled=low)


def shared_tokens(decoder: Decoder, prompts: Prompts) -> int:
    """Number of tokens that open every prompt, at least one token less than the shortest has."""
    if not decoder.reuses_past or len(prompts) < 2:
        return 0
    shortest = min(map(len, prompts))
    alike = (len(set(tokens)) == 1 for tokens in zip(*prompts, strict=False))
    return min(sum(1 for _ in takewhile(bool, alike)), shortest - 1)


@dataclass(frozen=True)
class Trunk:
    """States that enter layer `start`, per prompt."""

    decoder: Decoder
    prompts: Prompts
    start: int
    head: tuple[int, ...]
    """Tokens that open every prompt; their states are kept once."""
    head_hidden: Tensor | None
    """(1, tokens of the head, width); None where `start` is 0 or there is no head."""
    hidden: Mapping[int, Tensor]
    """Prompt -> states after the head, (tokens, width); empty where `start` is 0."""
    budget: int

    @staticmethod
    @torch.no_grad()
    def build(decoder: Decoder, prompts: Prompts, rows: Sequence[int], start: int, budget: int) -> Trunk:
        """Run the layers below `start` on the prompts `rows`."""
        head = tuple(prompts[0][: shared_tokens(decoder, prompts)])
        hidden: dict[int, Tensor] = {}
        head_hidden, past = None, None
        if start:
            if head:
                past = Past(note=True)
                ids, mask = _one_row(head, decoder.device)
                head_hidden = decoder(ids, mask, stop=start, past=past)
                past = Past(past.fresh)
            with progress(label="frozen layers", total=len(rows)) as bar:
                rests = [prompt[len(head) :] for prompt in prompts]
                for batch in make_batches(rests, rows, budget, decoder.device):
                    states = decoder(batch.ids, _with_head(batch.mask, head), stop=start, past=past)
                    for place, row in enumerate(batch.rows):
                        hidden[row] = states[place, : len(rests[row])].clone()
                    bar.update(len(batch.rows))
        return Trunk(decoder, prompts, start, head, head_hidden, hidden, budget)

    def top(
        self, rows: Sequence[int], layers: Sequence[int], last_only: Collection[int] = ()
    ) -> dict[int, Tensor]:
        """Run the layers from `start` on, with gradients.

        Args:
            rows: prompts.
            layers: layers whose states are wanted, counted from 0.
            last_only: prompts of which the state of the last token only is wanted.

        Returns:
            Prompt -> hidden[layers], (layers, tokens or 1, width), float32.
        """
        found: dict[int, Tensor] = {}
        with autocast(self.decoder):
            head, past = self._run_head(layers)
            for batch in self._batches([row for row in rows if row not in last_only]):
                states = self._run(batch, layers, past)
                for place, row in enumerate(batch.rows):
                    own = states[:, place, : int(batch.mask[place].sum())]
                    found[row] = own if head is None else torch.cat([head, own], dim=1)
            for batch in self._batches([row for row in rows if row in last_only]):
                states = self._run_to_last(batch, layers, past)
                found |= {row: states[:, place, None] for place, row in enumerate(batch.rows)}
        return found

    def _batches(self, rows: Sequence[int]) -> Iterator[Batch]:
        rests = {row: self.prompts[row][len(self.head) :] for row in rows}
        return make_batches(rests, rows, self.budget, self.decoder.device)

    def _run_head(self, layers: Sequence[int]) -> tuple[Tensor | None, Past]:
        """States of the head, (layers, tokens, width), and a past to run the rest from."""
        if not self.head:
            return None, Past()
        past = Past(note=True)
        ids, mask = _one_row(self.head, self.decoder.device)
        caught: dict[int, Tensor] = {}
        taps = {layer: _keep(caught, layer) for layer in layers}
        stop = max(layers) + 1
        self.decoder(ids, mask, start=self.start, stop=stop, hidden=self.head_hidden, taps=taps, past=past)
        return torch.cat([caught[layer] for layer in layers]).float(), Past(past.fresh)

    def _run(self, batch: Batch, layers: Sequence[int], past: Past) -> Tensor:
        """States of every token after the head; (layers, batch, tokens, width)."""
        caught: dict[int, Tensor] = {}
        taps = {layer: _keep(caught, layer) for layer in layers}
        mask, hidden, stop = _with_head(batch.mask, self.head), self._entering(batch), max(layers) + 1
        self.decoder(
            batch.ids, mask, start=self.start, stop=stop, hidden=hidden, taps=taps, past=self._past(past)
        )
        return torch.stack([caught[layer].float() for layer in layers])

    def _run_to_last(self, batch: Batch, layers: Sequence[int], past: Past) -> Tensor:
        """States of the last token; (layers, batch, width).

        The last layer whose state is wanted gives only keys and values for the tokens before it.
        """
        top = max(layers)
        if not self.decoder.reuses_past or top < self.start or batch.ids.shape[1] < 2:
            states = self._run(batch, layers, past)
            return torch.stack([last_token(layer, batch.mask) for layer in states])
        decoder, mask, lengths = self.decoder, _with_head(batch.mask, self.head), batch.mask.sum(dim=1)
        caught: dict[int, Tensor] = {}
        taps = {layer: _keep(caught, layer) for layer in layers if layer != top}
        hidden = self._entering(batch)
        if top > self.start:
            hidden = decoder(
                batch.ids, mask, start=self.start, stop=top, hidden=hidden, taps=taps, past=self._past(past)
            )
        noting = Past(past.before, stop_at=top)
        decoder(batch.ids, mask, start=top, hidden=hidden, past=noting)
        pair, looks_back = before_last(past.before.get(top), noting.fresh[top], lengths)
        last = None if hidden is None else last_token(hidden, batch.mask)[:, None]
        ids = last_token(batch.ids[..., None], batch.mask)
        state: dict[int, Tensor] = {}
        tap = {top: _keep(state, top)}
        decoder(ids, looks_back, start=top, stop=top + 1, hidden=last, taps=tap, past=Past({top: pair}))
        parts = {layer: last_token(states, batch.mask) for layer, states in caught.items()}
        parts[top] = state[top][:, 0]
        return torch.stack([parts[layer].float() for layer in layers])

    def _past(self, past: Past) -> Past | None:
        return past if self.head else None

    def _entering(self, batch: Batch) -> Tensor | None:
        if not self.start:
            return None
        return torch.nn.utils.rnn.pad_sequence([self.hidden[row] for row in batch.rows], batch_first=True)


def _one_row(tokens: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
    ids = torch.tensor([list(tokens)], device=device)
    return ids, torch.ones_like(ids)


def _with_head(mask: Tensor, head: Sequence[int]) -> Tensor:
    return torch.nn.functional.pad(mask, (len(head), 0), value=1)


def _keep(caught: dict[int, Tensor], layer: int) -> Tap:
    def tap(states: Tensor) -> None:
        caught[layer] = states

    return tap
