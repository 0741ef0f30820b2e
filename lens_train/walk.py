"""One pass of many prompts through the layers of a model, with a state file to resume from after a kill."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from lens_eval.base.errors import UserError
from lens_eval.base.progress import progress
from lens_eval.base.reading import shaped
from lens_train.batches import Batch, Prompt, Prompts, make_batches, shared_tokens
from lens_train.decoder import Decoder, Tap
from lens_train.files import read_metadata, read_tensors, write_tensors
from lens_train.past import Past, before_end, before_last
from lens_train.processes import rank

SAVING_SHARE = 20
"""A state is saved once this many times the duration of the last save has passed: at most 5% of the time."""
WHAT = "state of a run (remove it to begin anew)"


Read = Callable[[int, "Batch", Tensor], None]
"""Function of a layer, a batch, and hidden[layer] of the token that is read of each row, (batch, width)."""


Keep = Callable[["Batch | None", Tensor], None]
"""Function of a batch (None = the head) and the states of all its tokens, (batch, tokens, width)."""


def autocast(decoder: Decoder) -> AbstractContextManager[None]:
    """Compute in bfloat16 if the model was loaded in bfloat16, although its trained weights are float32."""
    low = decoder.dtype == torch.bfloat16
    return torch.autocast(decoder.device.type, dtype=torch.bfloat16, enabled=low)


@dataclass
class Kept:
    """States of training prompts: probing runs the frozen layers, and training starts from these states.

    Head and batches are those of a trunk built without probing, so the states are bit-identical to its own.
    """

    prompts: Prompts
    start: int
    """Layer whose input states are kept."""
    head: Prompt
    """Tokens that every prompt begins with."""
    batches: Sequence[Batch]
    """Batches of the tokens after the head."""
    device: torch.device
    """Device of the model; the states are kept on it."""
    lower: Tensor | None = None
    """Last token's states below `start`, (prompts, start, width), float32, on the CPU; None = not wanted."""
    hidden: dict[int, Tensor] = field(default_factory=dict)
    """Prompt -> states of the tokens after the head that enter `start`, (tokens, width)."""
    head_hidden: Tensor | None = None
    """(1, tokens of the head, width)"""

    @staticmethod
    def make(
        decoder: Decoder, prompts: Prompts, rows: Sequence[int], start: int, budget: int, lower: bool = False
    ) -> Kept:
        """Prepare to keep the prompts `rows`; `lower`: also the last token's states below `start`."""
        head = tuple(prompts[0][: shared_tokens(decoder, prompts)])
        rests = [prompt[len(head) :] for prompt in prompts]
        batches = list(make_batches(rests, rows if start else (), budget, decoder.device))
        below = torch.empty(len(prompts), start, decoder.width) if lower else None
        return Kept(prompts, start, head, batches, decoder.device, below)

    @property
    def complete(self) -> bool:
        """Whether all prompts have been run."""
        return all(row in self.hidden for batch in self.batches for row in batch.rows)

    def keep(self, batch: Batch | None, states: Tensor) -> None:
        """Keep the states that enter `start`, (batch, tokens, width), of a batch or of the head (None)."""
        if batch is None:
            self.head_hidden = states.clone()
            return
        for place, row in enumerate(batch.rows):
            length = len(self.prompts[row]) - len(self.head)
            self.hidden[row] = states[place, :length].clone()

    def read(self, layer: int, batch: Batch, states: Tensor) -> None:
        """Store hidden[layer] of the last token of each row, (batch, width), in `lower`."""
        if self.lower is not None and layer < self.start:
            self.lower[list(batch.rows), layer] = states.float().cpu()

    def tensors(self) -> dict[str, Tensor]:
        """The kept tensors, for the state file of a streamed model, which has no `lower`."""
        found = {f"kept.{row}": states for row, states in self.hidden.items()}
        return found if self.head_hidden is None else {**found, "kept.head": self.head_hidden}

    def take(self, tensors: dict[str, Tensor]) -> None:
        """Restore the kept tensors, and remove them from `tensors`."""
        for name in [name for name in tensors if name.startswith("kept.")]:
            states, which = tensors.pop(name).to(self.device), name.partition(".")[2]
            if which == "head":
                self.head_hidden = states.clone()
            else:
                self.hidden[int(which)] = states


@dataclass
class WalkState:
    """Progress of prompts through a streamed model, on disk."""

    path: Path
    run: str
    """Identity of the run; a state of another run is ignored."""
    sums: Mapping[str, Tensor] = field(default_factory=dict)
    """Further tensors of the state; loading fills them in place."""
    kept: Kept | None = None
    """States of the prompts that are kept for later passes."""
    saved_at: float = 0.0
    saving: float = 0.0

    def load(self) -> tuple[int, dict[str, Tensor]]:
        """Number of layers that the prompts have passed, and the states after them."""
        if not self.path.is_file():
            return 0, {}
        if self.owner() != self.run:
            return 0, {}
        mapped, metadata = read_tensors(self.path, WHAT)
        tensors = {name: tensor.clone() for name, tensor in mapped.items()}
        with shaped(self.path, WHAT):
            done = int(metadata["layers"])
            for name, tensor in self.sums.items():
                tensor.copy_(tensors.pop("sum." + name))
            if self.kept is not None:
                self.kept.take(tensors)
        return done, tensors

    def owner(self) -> str | None:
        """Identity of the run that wrote the file; None if there is no readable file."""
        try:
            return read_metadata(self.path, WHAT).get("run")
        except UserError:
            return None

    def save(self, layers: int, states: Mapping[str, Tensor], last: bool) -> None:
        """Write the state, unless the last save is too recent; of several processes only the first writes."""
        begun = time.monotonic()
        if rank() or (not last and begun - self.saved_at < SAVING_SHARE * self.saving):
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        sums = {"sum." + name: tensor for name, tensor in self.sums.items()}
        kept = {} if self.kept is None else self.kept.tensors()
        write_tensors(self.path, {**states, **sums, **kept}, {"layers": str(layers), "run": self.run})
        self.saved_at = time.monotonic()
        self.saving = self.saved_at - begun


@torch.no_grad()
def walk(
    decoder: Decoder,
    head: Sequence[int],
    batches: Sequence[Batch],
    stop: int,
    label: str,
    read: Read | None = None,
    state: WalkState | None = None,
    keep: tuple[int, Keep] | None = None,
) -> tuple[Tensor | None, list[Tensor]]:
    """Run batches through the layers below `stop`; a streamed model runs all batches layer by layer.

    Args:
        decoder: the model.
        head: tokens before every row.
        batches: the tokens after the head.
        stop: layer before which to stop.
        label: label of the progress bar.
        read: called for every layer with hidden[layer] of the token read of each row, (batch, width).
        state: progress file of a streamed model; not used if the model is in memory.
        keep: a layer other than the first, and the function called with the states that enter it.

    Returns:
        States that enter layer `stop`, of the head and of each batch; no batches if all layers are run.
    """
    spans = decoder.spans(stop)
    state = state if len(spans) > 1 else None
    done, saved = state.load() if state else (0, {})
    saved = {name: tensor.to(decoder.device) for name, tensor in saved.items()}
    head_hidden = saved.pop("head", None)
    hidden = {int(name.partition(".")[2]): tensor for name, tensor in saved.items()}
    count = len(batches)
    with progress(label=label, total=len(spans) * count, initial=done * count) as bar:
        for first, last in spans[done:]:
            span = _Span(decoder, head, first, last, read, keep)
            with decoder.loaded(first, last):
                head_hidden, past = span.take_head(head_hidden)
                for place, batch in enumerate(batches):
                    leaving = span.take(batch, hidden.pop(place, None), past)
                    if last < len(decoder) and leaving is not None:
                        hidden[place] = leaving
                    bar.update()
            if state:
                states_now = {f"batch.{place}": tensor for place, tensor in hidden.items()}
                if head_hidden is not None:
                    states_now["head"] = head_hidden
                state.save(last, states_now, last == stop)
    return head_hidden, [hidden[place] for place in range(len(batches)) if hidden]


@dataclass(frozen=True)
class _Span:
    """Consecutive layers that run the head and all batches while they are in memory."""

    decoder: Decoder
    head: Sequence[int]
    first: int
    last: int
    read: Read | None
    keep: tuple[int, Keep] | None

    def take_head(self, hidden: Tensor | None) -> tuple[Tensor | None, Past]:
        """Run the head through the span; returns its states, and its keys and values for the batches."""
        past = Past(note=True)
        if self.head:
            ids, mask = one_row(self.head, self.decoder.device)
            taps = _taps(None, self.keep, None, self.first, self.last)
            hidden = self.decoder(
                ids, mask, start=self.first, stop=self.last, hidden=hidden, past=past, taps=taps
            )
        return hidden, Past(past.fresh)

    def take(self, batch: Batch, hidden: Tensor | None, past: Past) -> Tensor | None:
        """Run a batch through the span; if possible, run the model's last layer only for the tokens read."""
        decoder, read, first, last = self.decoder, self.read, self.first, self.last
        alone = read and last == len(decoder) and reads_alone(decoder, batch)
        below = last - 1 if alone else last
        if below > first:
            hidden = decoder(
                batch.ids,
                with_head(batch.mask, self.head),
                start=first,
                stop=below,
                hidden=hidden,
                taps=_taps(read, self.keep, batch, first, below),
                past=past if self.head else None,
                positions=batch.positions,
            )
        if read and below < last:
            read(below, batch, read_state(decoder, batch, self.head, below, hidden, past))
        return hidden


def _taps(
    read: Read | None, keep: tuple[int, Keep] | None, batch: Batch | None, first: int, last: int
) -> dict[int, Tap]:
    taps: dict[int, Tap] = {}
    if read is not None and batch is not None:
        taps = {layer: partial(_read, read, layer, batch) for layer in range(first, last)}
    if keep is not None and first < keep[0] <= last:
        taps[keep[0] - 1] = partial(_read_and_keep, taps.get(keep[0] - 1), keep[1], batch)
    return taps


def _read_and_keep(tap: Tap | None, keep: Keep, batch: Batch | None, states: Tensor) -> None:
    keep(batch, states)
    if tap is not None:
        tap(states)


def _read(read: Read, layer: int, batch: Batch, states: Tensor) -> None:
    read(layer, batch, batch.read(states))


def reads_alone(decoder: Decoder, batch: Batch) -> bool:
    """Whether `read_state` can run a layer for one token of each row."""
    return decoder.reuses_past and batch.ids.shape[1] > 1


def read_state(
    decoder: Decoder, batch: Batch, head: Sequence[int], layer: int, hidden: Tensor | None, past: Past
) -> Tensor:
    """Run one layer for the token that is read of each row; other tokens get only their keys and values.

    Args:
        decoder: the model.
        batch: a batch for which `reads_alone` is true.
        head: tokens before every row.
        layer: the layer to run.
        hidden: states that enter the layer, (batch, tokens, width); None if it is the first.
        past: keys and values of the head.

    Returns:
        hidden[layer], (batch, width).
    """
    mask, noting = with_head(batch.mask, head), Past(past.before, stop_at=layer)
    decoder(batch.ids, mask, start=layer, hidden=hidden, past=noting, positions=batch.positions)
    shared, fresh = past.before.get(layer), noting.fresh[layer]
    if batch.reads_end:
        pair, looks_back = before_end(shared, fresh), mask
    else:
        pair, looks_back = before_last(shared, fresh, batch.mask.sum(dim=1))
    state: dict[int, Tensor] = {}
    decoder(
        batch.read(batch.ids[..., None]),
        looks_back,
        start=layer,
        stop=layer + 1,
        hidden=None if hidden is None else batch.read(hidden)[:, None],
        taps={layer: keep_in(state, layer)},
        past=Past({layer: pair}),
        positions=None if batch.positions is None else batch.positions[:, -1:],
    )
    return state[layer][:, 0]


def one_row(tokens: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
    ids = torch.tensor([list(tokens)], device=device)
    return ids, torch.ones_like(ids)


def with_head(mask: Tensor, head: Sequence[int]) -> Tensor:
    return torch.nn.functional.pad(mask, (len(head), 0), value=1)


def keep_in(caught: dict[int, Tensor], layer: int) -> Tap:
    def tap(states: Tensor) -> None:
        caught[layer] = states

    return tap
