"""The frozen layers run once per prompt; what enters the first trained layer is kept.

Both the reference (the untrained top) and every training step start from the kept states, so there is no
second model, and a further run on the same prompts costs only its top layers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lens_eval.base.errors import UserError
from lens_eval.base.progress import progress
from lens_train.files import write_tensors
from lens_train.layers import Decoder, Tap
from lens_train.past import Past, before_end, before_last
from lens_train.processes import rank

SAVING_SHARE = 20
"""A state is saved once this many times the duration of the last save has gone by: 5% of the time at most."""

CPU_TOKENS = 1024
"""Tokens of a batch at most on a CPU. More bring its matrix products no speed, but buffers that the C library
returns to the system after each operation: getting them back can take as long as the products."""
CPU_LAUNCH = 16
"""Tokens in whose time a CPU begins and ends a batch: dozens of small operations per layer."""

Prompts = Sequence[Sequence[int]]
"""Token ids per prompt, without padding."""
Prompt = tuple[int, ...]
Read = Callable[[int, "Batch", Tensor], None]
"""Is given a layer, a batch, and hidden[layer] of the token that is read of each row, (batch, width)."""
Keep = Callable[["Batch | None", Tensor], None]
"""Is given the states of all tokens of a batch, (batch, tokens, width), or of the head (None)."""


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


@dataclass
class Kept:
    """Training prompts that probing runs through the frozen layers, and training then starts from.

    Head and batches are those of a trunk that shares nothing, so the states are the same to the bit.
    """

    prompts: Prompts
    start: int
    """Layer whose entering states are kept."""
    head: Prompt
    """Tokens that open every prompt."""
    batches: Sequence[Batch]
    """Of what follows the head."""
    device: torch.device
    """Of the model, where the states lie."""
    lower: Tensor | None = None
    """States of the last token, (prompts, start, width), float32, on the CPU; None = not wanted."""
    hidden: dict[int, Tensor] = field(default_factory=dict)
    """Prompt -> states after the head that enter `start`, (tokens, width)."""
    head_hidden: Tensor | None = None
    """(1, tokens of the head, width)"""

    @staticmethod
    def make(
        decoder: Decoder, prompts: Prompts, rows: Sequence[int], start: int, budget: int, lower: bool = False
    ) -> Kept:
        """Nothing kept yet of the prompts `rows`; `lower`: of all layers the last token's state is wanted."""
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
        """Take the states entering `start` of a batch, (batch, tokens, width), or of the head."""
        if batch is None:
            self.head_hidden = states.clone()
            return
        for place, row in enumerate(batch.rows):
            length = len(self.prompts[row]) - len(self.head)
            self.hidden[row] = states[place, :length].clone()

    def read(self, layer: int, batch: Batch, states: Tensor) -> None:
        """Take hidden[layer] of the last tokens of a batch, (batch, width)."""
        if self.lower is not None and layer < self.start:
            self.lower[list(batch.rows), layer] = states.float().cpu()

    def tensors(self) -> dict[str, Tensor]:
        """What is kept, for the file of a streamed model; `lower` is not for these."""
        found = {f"kept.{row}": states for row, states in self.hidden.items()}
        return found if self.head_hidden is None else {**found, "kept.head": self.head_hidden}

    def take(self, tensors: dict[str, Tensor]) -> None:
        """Take up what `tensors` gave, out of `tensors`."""
        for name in [name for name in tensors if name.startswith("kept.")]:
            states, which = tensors.pop(name).to(self.device), name.partition(".")[2]
            if which == "head":
                self.head_hidden = states.clone()
            else:
                self.hidden[int(which)] = states


@dataclass
class WalkState:
    """How far prompts have come through a streamed model, on disk."""

    path: Path
    run: str
    """Identity of the run; a state of another run is not taken up."""
    sums: Mapping[str, Tensor] = field(default_factory=dict)
    """Further tensors that belong to the state; filled in place when it is taken up."""
    kept: Kept | None = None
    """What is kept of the prompts for later passes."""
    saved_at: float = 0.0
    saving: float = 0.0

    def load(self) -> tuple[int, dict[str, Tensor]]:
        """Number of layers behind the states, and the states."""
        if not self.path.is_file():
            return 0, {}
        try:
            with safe_open(str(self.path), framework="pt") as file:
                if file.metadata()["run"] != self.run:
                    return 0, {}
                done = int(file.metadata()["layers"])
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise UserError(f"{self.path} is damaged ({error}); remove it to begin anew") from None
        for name, tensor in self.sums.items():
            tensor.copy_(tensors.pop("sum." + name))
        if self.kept is not None:
            self.kept.take(tensors)
        return done, tensors

    def owner(self) -> str | None:
        """Identity of the run that left the file; None where there is none that can be read."""
        try:
            with safe_open(str(self.path), framework="pt") as file:
                return file.metadata()["run"]
        except (OSError, SafetensorError):
            return None

    def save(self, layers: int, states: Mapping[str, Tensor], last: bool) -> None:
        """Write the state, unless the last writing is too recent; of several processes the first one does."""
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
    """Take batches through the layers below `stop`; of a streamed model, all of them layer by layer.

    Args:
        decoder: the model.
        head: tokens that stand before every row.
        batches: what follows.
        stop: layer before which to stop.
        label: of the progress bar.
        read: is given hidden[layer] of the token that is read of each row, (batch, width), for every layer.
        state: where to keep the way of a streamed model; not used for one in memory.
        keep: a layer, not the first, and what is given the states that enter it.

    Returns:
        States entering layer `stop`, of the head and of each batch; of batches none where all layers are run.
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
            with decoder.loaded(first, last):
                past = Past(note=True)
                if head:
                    ids, mask = _one_row(head, decoder.device)
                    taps = _taps(None, keep, None, first, last)
                    head_hidden = decoder(
                        ids, mask, start=first, stop=last, hidden=head_hidden, past=past, taps=taps
                    )
                past = Past(past.fresh)
                for place, batch in enumerate(batches):
                    entering = hidden.pop(place, None)
                    alone = read and last == len(decoder) and reads_alone(decoder, batch)
                    below = last - 1 if alone else last
                    if below > first:
                        entering = decoder(
                            batch.ids,
                            _with_head(batch.mask, head),
                            start=first,
                            stop=below,
                            hidden=entering,
                            taps=_taps(read, keep, batch, first, below),
                            past=past if head else None,
                            positions=batch.positions,
                        )
                    if read and below < last:
                        read(below, batch, read_state(decoder, batch, head, below, entering, past))
                    if last < len(decoder) and entering is not None:
                        hidden[place] = entering
                    bar.update()
            if state:
                states_now = {f"batch.{place}": tensor for place, tensor in hidden.items()}
                if head_hidden is not None:
                    states_now["head"] = head_hidden
                state.save(last, states_now, last == stop)
    return head_hidden, [hidden[place] for place in range(len(batches)) if hidden]


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
    """Whether a layer can be run for one token of each row, by `read_state`."""
    return decoder.reuses_past and batch.ids.shape[1] > 1


def read_state(
    decoder: Decoder, batch: Batch, head: Sequence[int], layer: int, hidden: Tensor | None, past: Past
) -> Tensor:
    """Run one layer for the token that is read of each row; the others give only their keys and values.

    Args:
        decoder: the model.
        batch: one that this model `reads_alone`.
        head: tokens that stand before every row.
        layer: which one.
        hidden: states that enter it, (batch, tokens, width); None where it is the first.
        past: keys and values of the head.

    Returns:
        hidden[layer], (batch, width).
    """
    mask, noting = _with_head(batch.mask, head), Past(past.before, stop_at=layer)
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
        taps={layer: _keep(state, layer)},
        past=Past({layer: pair}),
        positions=None if batch.positions is None else batch.positions[:, -1:],
    )
    return state[layer][:, 0]


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

        A streamed model goes on from `state`.
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
        if top < self.start or not reads_alone(self.decoder, batch):
            states = self._run(batch, layers, past)
            return torch.stack([last_token(layer, batch.mask) for layer in states])
        decoder, mask = self.decoder, _with_head(batch.mask, self.head)
        caught: dict[int, Tensor] = {}
        taps = {layer: _keep(caught, layer) for layer in layers if layer != top}
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


def _one_row(tokens: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
    ids = torch.tensor([list(tokens)], device=device)
    return ids, torch.ones_like(ids)


def _with_head(mask: Tensor, head: Sequence[int]) -> Tensor:
    return torch.nn.functional.pad(mask, (len(head), 0), value=1)


def _keep(caught: dict[int, Tensor], layer: int) -> Tap:
    def tap(states: Tensor) -> None:
        caught[layer] = states

    return tap
