"""Probing: hidden states of the last token of many prompts, and the language subspaces they span."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lens_eval.progress import progress
from lens_train.config import LensConfig
from lens_train.data import ParallelPrompts, Renderer
from lens_train.layers import Decoder
from lens_train.subspace import Subspaces
from lens_train.trunk import Batch, Prompts, last_token, make_batches, pad

OFFICIAL_PROBE_SYSTEM = "You are a helpful assistant."
OFFICIAL_TRAIN_SYSTEM = ""


def renderer(tokenizer: Any, config: LensConfig, stage: str) -> Renderer:
    """The renderer of a stage (`probe`, `train`); one and the same but in the released code."""
    if not config.official:
        return Renderer(tokenizer, config.template, config.system_prompt)
    system = OFFICIAL_PROBE_SYSTEM if stage == "probe" else OFFICIAL_TRAIN_SYSTEM
    return Renderer(tokenizer, config.template, system, cut_after=True)


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
) -> Subspaces:
    """Read the hidden states of every language's prompts and split their means.

    Equations: Lens section 3.1; see `lens_train.subspace.split`.
    """
    prompts = probe_prompts(data, tokenizer, config)
    means: dict[str, Tensor] = {}
    with progress(label="probing", total=sum(map(len, prompts.values()))) as bar:
        for code, texts in prompts.items():
            states = read_states(decoder, texts, config, tokenizer.pad_token_id or 0, bar.update)
            means[code] = states.double().mean(dim=0)
    return Subspaces.from_means(means, config.central, config.subspace_rank, identity)


@torch.no_grad()
def read_states(
    decoder: Decoder,
    prompts: Prompts,
    config: LensConfig,
    pad_token: int = 0,
    done: Callable[[int], Any] = lambda count: None,
) -> Tensor:
    """Hidden states of the last real token of each prompt, after every layer.

    With `compat: official`, those at position -1 of the batch padded on the right to the longest prompt: for
    all shorter prompts the states of a padding token, as the released code reads them.

    Returns:
        (prompts, layers, width), float32, on the CPU.
    """
    states = torch.empty(len(prompts), len(decoder), decoder.width)
    for batch in _batches(decoder, prompts, config, pad_token):
        rows = torch.tensor(batch.rows)

        def store(layer: int, hidden: Tensor, batch: Batch = batch, rows: Tensor = rows) -> None:
            read = hidden[:, -1] if config.official else last_token(hidden, batch.mask)
            states[rows, layer] = read.float().cpu()

        taps = {layer: (lambda hidden, layer=layer: store(layer, hidden)) for layer in range(len(decoder))}
        decoder(batch.ids, batch.mask, taps=taps)
        done(len(batch.rows))
    return states


def _batches(decoder: Decoder, prompts: Prompts, config: LensConfig, pad_token: int) -> list[Batch]:
    if not config.official:
        return list(make_batches(prompts, range(len(prompts)), config.batch_tokens, decoder.device))
    width = max(map(len, prompts))
    chunks = [range(at, min(at + 50, len(prompts))) for at in range(0, len(prompts), 50)]
    return [pad(prompts, chunk, decoder.device, fill=pad_token, width=width) for chunk in chunks]


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
        "dtype": str(dtype).removeprefix("torch."),
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
        "languages": list(config.languages),
        "central": config.central,
        "rank": config.subspace_rank,
        "compat": config.compat,
    }


def save_folder(output: Path) -> Path:
    """Where the subspaces of a training run lie."""
    return output / "training" / "subspaces"
