"""Probing: read the hidden states of the last token of many prompts, and compute the language subspaces."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lens_train.batches import Batch, Prompt, Prompts, make_batches, pad, shared_tokens
from lens_train.config import LensConfig
from lens_train.data import ParallelPrompts, Renderer
from lens_train.decoder import Decoder
from lens_train.devices import dtype_name
from lens_train.subspace import Subspaces
from lens_train.walk import Kept, WalkState, walk

STATE = "probing.safetensors"
SETTLED = 0.1
"""Probing ends once the standard error of every direction is at most this share of its length."""
FIRST_ROUND, FURTHER_ROUND = 60, 20
"""Items of the first round and of each further round with `probe_items: auto`."""


def renderer(tokenizer: Any, config: LensConfig, stage: str) -> Renderer:
    """The renderer of a stage (`probe`, `train`); the same for both unless `compat: official` is set."""
    system = config.protocol.system(stage, config.system_prompt)
    return Renderer(tokenizer, config.template, system, config.protocol.cut_after, config.template_args)


def probe_prompts(data: ParallelPrompts, tokenizer: Any, config: LensConfig) -> dict[str, list[list[int]]]:
    """Render the prompts to be probed; language -> token ids per prompt."""
    render = renderer(tokenizer, config, "probe")
    # The released code strips the texts it probes, but not the texts it trains on.
    return {
        code: render([text.strip() for text in data.texts[code]], config.probe_tokens)
        for code in config.languages
    }


def probe(
    decoder: Decoder,
    data: ParallelPrompts,
    tokenizer: Any,
    config: LensConfig,
    identity: Mapping[str, Any],
    folder: Path | None = None,
    kept: Kept | None = None,
) -> Subspaces:
    """Read the hidden states of every language's prompts and split the means per language.

    Equations: Lens section 3.1; see `lens_train.subspace.split`. If `folder` is given, the probing of a
    streamed model can resume from a state file there. Training prompts that are also probed are run once: see
    `Kept`.

    With `probe_items: auto` the items are run in rounds. The rounds end once the standard error of every
    language's direction is at most `SETTLED` of its length, in each layer that the losses read; see
    `Tally.errors`. The subspaces of the other layers come from the same items. The error of the directions
    decides because training aims at the directions. The angle between the subspaces of two halves of the
    items does not decide: the largest angle belongs to the smallest difference between languages, and needs
    many times as many items to settle.
    """
    prompts = probe_prompts(data, tokenizer, config)
    flat = [prompt for code in prompts for prompt in prompts[code]]
    tally = Tally.make(decoder, prompts, config)
    common = _common(flat, kept, len(data))
    rounds = _rounds(len(data), config, common)
    passes = [(True, rounds[0]), *((False, items) for items in rounds)][0 if common else 1 :]
    runs = [_run_id(identity, [flat, shared, list(items)], config) for shared, items in passes]
    state = folder and WalkState(folder / STATE, "", tally.tensors(), kept)
    begin = runs.index(owner) if state and (owner := state.owner()) in runs else 0
    head = flat[0][: shared_tokens(decoder, flat)]
    for place, (shared, items) in list(enumerate(passes))[begin:]:
        if state:
            state.run = runs[place]
        ours = {row for rows in common.values() for row in rows if row % len(data) in rounds[0]}
        if shared and kept is not None:
            read = partial(_read_common, tally, kept, common, items)
            keep = (kept.start, kept.keep)
            walk(decoder, kept.head, kept.batches, len(decoder), "probing", read, state or None, keep)
            continue
        batches = tally.batches(decoder, flat, items, ours, len(head), config, tokenizer.pad_token_id or 0)
        if batches:
            walk(decoder, head, batches, len(decoder), "probing", tally.read, state or None)
        tally.items = items.stop
        if items.stop < len(data) and max(tally.errors().values()) <= SETTLED:
            break
    errors = {code: round(error, 4) if isfinite(error) else None for code, error in tally.errors().items()}
    found = {"items": tally.items, "standard_error": errors}
    return Subspaces.from_means(tally.means(), config.central, config.subspace_rank, {**identity, **found})


def _common(flat: Prompts, kept: Kept | None, items: int) -> dict[int, list[int]]:
    """Row of a training prompt -> rows of the probed prompts equal to it; empty if too few are equal.

    To read them, all batches of training prompts must go through the top layers. That pays only if at least
    half of the training prompts are also probed.
    """
    if kept is None or not kept.batches:
        return {}
    places: dict[Prompt, list[int]] = {}
    for row, prompt in enumerate(flat):
        places.setdefault(tuple(prompt), []).append(row)
    found = {row: places.pop(tuple(prompt), []) for row, prompt in enumerate(kept.prompts)}
    found = {row: same for row, same in found.items() if same}
    return found if 2 * len(found) >= len(kept.prompts) else {}


def _read_common(
    tally: Tally,
    kept: Kept,
    common: Mapping[int, Sequence[int]],
    items: range,
    layer: int,
    batch: Batch,
    states: Tensor,
) -> None:
    """Add hidden[layer] of a batch of training prompts, (batch, width), for the equal prompts of `items`."""
    kept.read(layer, batch, states)
    pairs = [
        (place, row)
        for place, trained in enumerate(batch.rows)
        for row in common.get(trained, ())
        if row % tally.per_language in items
    ]
    if pairs:
        places, rows = zip(*pairs, strict=True)
        tally.add(layer, rows, states[list(places)])


def _rounds(items: int, config: LensConfig, common: Mapping[int, Sequence[int]]) -> list[range]:
    """Items of each round. The first round includes all leading items that training runs anyway."""
    if not config.protocol.probes_in_rounds or config.probe_items != "auto":
        return [range(items)]
    trained = {row % items for rows in common.values() for row in rows}
    run_anyway = next((item for item in range(items) if item not in trained), items)
    ends = [*range(max(FIRST_ROUND, run_anyway), items, FURTHER_ROUND), items]
    return [range(begin, end) for begin, end in zip([0, *ends[:-1]], ends, strict=True)]


@dataclass
class Tally:
    """Sums of the states probed so far, and the states of the layers that the losses read."""

    languages: tuple[str, ...]
    central: str
    per_language: int
    """Number of items; row r of all prompts is item r % per_language of language r // per_language."""
    layers: tuple[int, ...]
    """Layers that the losses read."""
    sums: Tensor
    """(languages, layers, width), float64."""
    states: Tensor
    """(languages, items, layers that the losses read, width)"""
    items: int = 0
    """Items per language that have been added."""

    @staticmethod
    def make(decoder: Decoder, prompts: Mapping[str, Prompts], config: LensConfig) -> Tally:
        """Make an empty tally."""
        layers = tuple(sorted({decoder.index(layer) for layer in config.loss_layers}))
        count = len(next(iter(prompts.values())))
        sums = torch.zeros(len(prompts), len(decoder), decoder.width, dtype=torch.float64)
        states = torch.zeros(len(prompts), count, len(layers), decoder.width)
        return Tally(tuple(prompts), config.central, count, layers, sums, states)

    def tensors(self) -> dict[str, Tensor]:
        """The tensors that must be saved so that probing can resume."""
        return {"probe": self.sums, "read": self.states}

    def batches(
        self,
        decoder: Decoder,
        flat: Prompts,
        items: range,
        known: Collection[int],
        head: int,
        config: LensConfig,
        pad_token: int,
    ) -> list[Batch]:
        """Batches of the prompts of `items`, language by language, without the rows in `known`."""
        found: list[Batch] = []
        for place in range(len(self.languages)):
            own = [place * self.per_language + item for item in items]
            rows = [row for row in own if row not in known]
            if rows:
                found += _batches(decoder, flat, rows, head, config, pad_token)
        return found

    def read(self, layer: int, batch: Batch, states: Tensor) -> None:
        """Add hidden[layer] of the token that is read of each row of a batch, (batch, width)."""
        self.add(layer, batch.rows, states)

    def add(self, layer: int, rows: Sequence[int], states: Tensor) -> None:
        """Add hidden[layer] of the token that is read of each of `rows`, (rows, width)."""
        where = torch.tensor(rows)
        language, item = where // self.per_language, where % self.per_language
        self.sums[:, layer].index_add_(0, language, states.double().cpu())
        if layer in self.layers:
            self.states[language, item, self.layers.index(layer)] = states.float().cpu()

    def means(self) -> dict[str, Tensor]:
        """Language -> (layers, width)."""
        return {code: self.sums[place] / self.items for place, code in enumerate(self.languages)}

    def errors(self) -> dict[str, float]:
        """Standard error of each language's direction, divided by its length; the largest of all layers read.

        The direction is the mean over items of (the language's state - the central state). Its squared error
        is the trace of the covariance of these differences, divided by the number of items. This also holds
        if the texts of an item are unrelated. The squared error is subtracted from the squared length.
        """
        central = self.states[self.languages.index(self.central), : self.items]
        found: dict[str, float] = {}
        for place, code in enumerate(self.languages):
            if code == self.central or self.items < 2:
                continue
            apart = self.states[place, : self.items] - central
            error = apart.var(dim=0).sum(dim=-1) / self.items
            length = (apart.mean(dim=0).square().sum(dim=-1) - error).clamp(min=0)
            found[code] = float((error / length).sqrt().max())
        return found


def read_states(decoder: Decoder, prompts: Prompts, config: LensConfig, pad_token: int = 0) -> Tensor:
    """Hidden states of the last real token of each prompt, after every layer.

    With `compat: official`, the states at position -1 of the batch, padded on the right to the longest
    prompt. For all shorter prompts these are the states of a padding token, as in the released code.

    Returns:
        (prompts, layers, width), float32, on the CPU.
    """
    states = torch.empty(len(prompts), len(decoder), decoder.width)

    def store(layer: int, batch: Batch, hidden: Tensor) -> None:
        states[list(batch.rows), layer] = hidden.float().cpu()

    head = shared_tokens(decoder, prompts)
    batches = _batches(decoder, prompts, range(len(prompts)), head, config, pad_token)
    walk(decoder, prompts[0][:head], batches, len(decoder), "probing", store)
    return states


def _batches(
    decoder: Decoder, prompts: Prompts, rows: Sequence[int], head: int, config: LensConfig, pad_token: int
) -> list[Batch]:
    """Batches of the tokens after the head."""
    rests = {row: prompts[row][head:] for row in rows}
    if config.protocol.reads_last_column:
        return list(_released_batches(decoder, rests, head, config.batch_tokens, pad_token))
    return list(make_batches(rests, rows, config.batch_tokens, decoder.device))


def _released_batches(
    decoder: Decoder, rests: Mapping[int, Sequence[int]], head: int, budget: int, pad_token: int
) -> Iterator[Batch]:
    """Batches whose last column is position -1 of the language's prompts, all padded to the longest prompt.

    A padding token attends to the prompt and to no other padding token. So only the last padding token is
    run, with its own position id. All padding is run if the model takes no position ids, or if the padded
    prompt exceeds the sliding window, because a window counts columns.
    """
    width, rows = max(map(len, rests.values())), list(rests)
    window = getattr(decoder.config, "sliding_window", None)
    if not decoder.takes_positions or (window and head + width > window):
        size = max(1, budget // width)
        for at in range(0, len(rows), size):
            chunk = rows[at : at + size]
            yield replace(pad(rests, chunk, decoder.device, fill=pad_token, width=width), reads_end=True)
        return
    longest = [row for row in rows if len(rests[row]) == width]
    shorter = [row for row in rows if len(rests[row]) < width]
    yield from make_batches(rests, longest, budget, decoder.device)
    for batch in make_batches(rests, shorter, budget, decoder.device):
        positions = torch.arange(head, head + batch.ids.shape[1] + 1, device=decoder.device)
        positions[-1] = head + width - 1
        yield Batch(
            batch.rows,
            nn.functional.pad(batch.ids, (0, 1), value=pad_token),
            nn.functional.pad(batch.mask, (0, 1)),
            positions.expand(len(batch.rows), -1),
            reads_end=True,
        )


def _run_id(identity: Mapping[str, Any], prompts: Any, config: LensConfig) -> str:
    facts = [dict(identity), prompts, config.batch_tokens]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def probe_identity(
    model: Mapping[str, str], data: ParallelPrompts, config: LensConfig, dtype: torch.dtype
) -> dict[str, Any]:
    """What the subspaces were computed from; stored with them."""
    import transformers

    return {
        "model": model["name"],
        **expected_identity(model, config),
        "data": data.name,
        "data_sha256": data.sha256,
        "items": len(data),
        "probe_tokens": config.probe_tokens,
        "dtype": dtype_name(dtype),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "format": 1,
    }


def expected_identity(model: Mapping[str, str], config: LensConfig) -> dict[str, Any]:
    """The identity entries that must match if subspaces are used for training."""
    return {
        "weights_sha256": model["weights_sha256"],
        "template_sha256": model["template_sha256"],
        "template": config.template,
        "system_prompt": config.protocol.system("probe", config.system_prompt),
        "template_args": dict(config.template_args),
        "languages": list(config.languages),
        "central": config.central,
        "rank": config.subspace_rank,
        "compat": config.compat,
    }


def save_folder(output: Path) -> Path:
    """The folder that holds the subspaces of a training run."""
    return output / "training" / "subspaces"
