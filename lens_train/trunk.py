"""Run the frozen layers once per prompt, and keep the hidden states that enter the first trained layer.

The reference (the untrained top layers) and every training step start from the kept states. So no second
model is needed, and a further run on the same prompts costs only its top layers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lens_train.batches import Batch, Prompts, last_token, make_batches
from lens_train.decoder import Decoder
from lens_train.past import Past
from lens_train.walk import (
    Kept,
    WalkState,
    autocast,
    keep_in,
    one_row,
    read_state,
    reads_alone,
    walk,
    with_head,
)


@dataclass(frozen=True)
class Trunk:
    """Hidden states that enter layer `start`, per prompt."""

    decoder: Decoder
    prompts: Prompts
    start: int
    head: tuple[int, ...]
    """Tokens that every prompt begins with; their states are kept once."""
    head_hidden: Tensor | None
    """(1, tokens of the head, width); None if `start` is 0 or there is no head."""
    hidden: Mapping[int, Tensor]
    """Prompt -> states of the tokens after the head, (tokens, width); empty if `start` is 0."""
    budget: int

    @staticmethod
    @torch.no_grad()
    def build(
        decoder: Decoder,
        prompts: Prompts,
        rows: Sequence[int],
        start: int,
        budget: int,
        state: WalkState | None = None,
        kept: Kept | None = None,
    ) -> Trunk:
        """Run the layers below `start` on the prompts `rows`, unless an earlier pass has `kept` their states.

        A streamed model resumes from `state`.
        """
        if kept is None:
            kept = Kept.make(decoder, prompts, rows, start, budget)
        if state is not None and len(decoder.spans(start)) > 1:
            state.kept = kept
            state.load()
        if not kept.complete:
            read = None if kept.lower is None else kept.read
            kept.head_hidden, states = walk(
                decoder, kept.head, kept.batches, start, "frozen layers", read, state
            )
            for batch in reversed(kept.batches):
                kept.keep(batch, states.pop())
        return Trunk(decoder, prompts, start, tuple(kept.head), kept.head_hidden, kept.hidden, budget)

    def top(
        self, rows: Sequence[int], layers: Sequence[int], last_only: Collection[int] = ()
    ) -> dict[int, Tensor]:
        """Run the layers from `start` on, with gradients.

        Args:
            rows: prompts to run.
            layers: layers whose states are wanted, counted from 0.
            last_only: prompts for which only the state of the last token is wanted.

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
        """States of the head, (layers, tokens, width), and its keys and values for the rest of a prompt."""
        if not self.head:
            return None, Past()
        past = Past(note=True)
        ids, mask = one_row(self.head, self.decoder.device)
        caught: dict[int, Tensor] = {}
        taps = {layer: keep_in(caught, layer) for layer in layers}
        stop = max(layers) + 1
        self.decoder(ids, mask, start=self.start, stop=stop, hidden=self.head_hidden, taps=taps, past=past)
        return torch.cat([caught[layer] for layer in layers]).float(), Past(past.fresh)

    def _run(self, batch: Batch, layers: Sequence[int], past: Past) -> Tensor:
        """States of every token after the head; (layers, batch, tokens, width)."""
        caught: dict[int, Tensor] = {}
        taps = {layer: keep_in(caught, layer) for layer in layers}
        mask, hidden, stop = with_head(batch.mask, self.head), self._entering(batch), max(layers) + 1
        self.decoder(
            batch.ids, mask, start=self.start, stop=stop, hidden=hidden, taps=taps, past=self._past(past)
        )
        return torch.stack([caught[layer].float() for layer in layers])

    def _run_to_last(self, batch: Batch, layers: Sequence[int], past: Past) -> Tensor:
        """States of the last token; (layers, batch, width).

        The highest of `layers` computes only keys and values for the tokens before the last one.
        """
        top = max(layers)
        if top < self.start or not reads_alone(self.decoder, batch):
            states = self._run(batch, layers, past)
            return torch.stack([last_token(layer, batch.mask) for layer in states])
        decoder, mask = self.decoder, with_head(batch.mask, self.head)
        caught: dict[int, Tensor] = {}
        taps = {layer: keep_in(caught, layer) for layer in layers if layer != top}
        hidden = self._entering(batch)
        if top > self.start:
            hidden = decoder(
                batch.ids, mask, start=self.start, stop=top, hidden=hidden, taps=taps, past=self._past(past)
            )
        parts = {layer: last_token(states, batch.mask) for layer, states in caught.items()}
        parts[top] = read_state(decoder, batch, self.head, top, hidden, past)
        return torch.stack([parts[layer].float() for layer in layers])

    def _past(self, past: Past) -> Past | None:
        return past if self.head else None

    def _entering(self, batch: Batch) -> Tensor | None:
        if not self.start:
            return None
        return torch.nn.utils.rnn.pad_sequence([self.hidden[row] for row in batch.rows], batch_first=True)
