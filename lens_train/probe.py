"""Probing: hidden states of the last token of many prompts, and the language subspaces they span."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lens_train.config import LensConfig
from lens_train.data import ParallelPrompts, Renderer
from lens_train.layers import Decoder, dtype_name
from lens_train.subspace import Subspaces
from lens_train.trunk import Batch, Prompts, WalkState, make_batches, pad, shared_tokens, walk

STATE = "probing.safetensors"
OFFICIAL_PROBE_SYSTEM = "You are a helpful assistant."
OFFICIAL_TRAIN_SYSTEM = ""


def renderer(tokenizer: Any, config: LensConfig, stage: str) -> Renderer:
    """The renderer of a stage (`probe`, `train`); one and the same but in the released code."""
    if not config.official:
        return Renderer(tokenizer, config.template, config.system_prompt, template_args=config.template_args)
    # The release trains Llama with an empty system message, Phi with the one it probes with.
    training = OFFICIAL_TRAIN_SYSTEM if config.system_prompt is None else config.system_prompt
    system = OFFICIAL_PROBE_SYSTEM if stage == "probe" else training
    return Renderer(tokenizer, config.template, system, True, config.template_args)


def probe_prompts(data: ParallelPrompts, tokenizer: Any, config: LensConfig) -> dict[str, list[list[int]]]:
    """Render the prompts to be probed, language -> token ids per prompt."""
    render = renderer(tokenizer, config, "probe")
    # The released code strips these texts, though not those it trains on.
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
) -> Subspaces:
    """Read the hidden states of every language's prompts and split their means.

    Equations: Lens section 3.1; see `lens_train.subspace.split`. With a `folder`, the probing of a streamed
    model is resumable: its state is kept there.
    """
    prompts = probe_prompts(data, tokenizer, config)
    flat = [prompt for code in prompts for prompt in prompts[code]]
    language = torch.tensor([place for place, code in enumerate(prompts) for _ in prompts[code]])
    sums = torch.zeros(len(prompts), len(decoder), decoder.width, dtype=torch.float64)
    head = shared_tokens(decoder, flat)
    batches: list[Batch] = []
    for place in range(len(prompts)):
        rows = torch.nonzero(language == place).flatten().tolist()
        batches += _batches(decoder, flat, rows, head, config, tokenizer.pad_token_id or 0)

    def add(layer: int, batch: Batch, hidden: Tensor) -> None:
        sums[:, layer].index_add_(0, language[list(batch.rows)], hidden.double().cpu())

    state = folder and WalkState(folder / STATE, _run_id(identity, flat, config), {"probe": sums})
    walk(decoder, flat[0][:head], batches, len(decoder), "probing", add, state or None)
    means = {code: sums[place] / len(prompts[code]) for place, code in enumerate(prompts)}
    return Subspaces.from_means(means, config.central, config.subspace_rank, identity)


def read_states(decoder: Decoder, prompts: Prompts, config: LensConfig, pad_token: int = 0) -> Tensor:
    """Hidden states of the last real token of each prompt, after every layer.

    With `compat: official`, those at position -1 of the batch padded on the right to the longest prompt: for
    all shorter prompts the states of a padding token, as the released code reads them.

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
    """Batches of what follows the head."""
    rests = {row: prompts[row][head:] for row in rows}
    if config.official:
        return list(_released_batches(decoder, rests, head, config.batch_tokens, pad_token))
    return list(make_batches(rests, rows, config.batch_tokens, decoder.device))


def _released_batches(
    decoder: Decoder, rests: Mapping[int, Sequence[int]], head: int, budget: int, pad_token: int
) -> Iterator[Batch]:
    """Batches whose last column is position -1 of the language's prompts, all padded to the longest.

    A padding token sees the prompt and no other padding, so of all padding the last token is run alone, and
    is told where it stands. A window is counted in columns, so that there all padding stays.
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


def _run_id(identity: Mapping[str, Any], prompts: Prompts, config: LensConfig) -> str:
    facts = [dict(identity), [list(prompt) for prompt in prompts], config.batch_tokens]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def probe_identity(
    model: Mapping[str, str], data: ParallelPrompts, config: LensConfig, dtype: torch.dtype
) -> dict[str, Any]:
    """What a set of subspaces was made from, as stored with it."""
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
    """The entries that must agree where subspaces are used for training."""
    return {
        "weights_sha256": model["weights_sha256"],
        "template_sha256": model["template_sha256"],
        "template": config.template,
        "system_prompt": OFFICIAL_PROBE_SYSTEM if config.official else config.system_prompt,
        "template_args": dict(config.template_args),
        "languages": list(config.languages),
        "central": config.central,
        "rank": config.subspace_rank,
        "compat": config.compat,
    }


def save_folder(output: Path) -> Path:
    """Where the subspaces of a training run lie."""
    return output / "training" / "subspaces"
