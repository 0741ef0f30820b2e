"""States of running text: what the methods that steer from texts (`diffmean`, `recover`, `liseco`) read.

The texts are read as they are, without a chat template, and after the BOS token if the tokenizer writes one.
The state of the BOS token is never read: it is many times as long as the others, whatever the language.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from lens_eval.base.errors import UserError
from lens_eval.base.progress import progress
from lens_eval.mini import resolve_data
from lens_train import methods
from lens_train.batches import Batch, make_batches
from lens_train.checkpoint import Checkpoint
from lens_train.data import Renderer, read_prompts
from lens_train.decoder import Decoder, load_model
from lens_train.devices import resolve_device, resolve_dtype
from lens_train.job import Job, Variant
from lens_train.memory import peak_memory
from lens_train.steering.steering import Steering
from lens_train.subspace import require_finite

BATCH_TOKENS = 4096


@dataclass(frozen=True)
class TextSettings:
    """The texts whose states are read."""

    text: str | None = None
    """Parallel running text, in any layout of `lens_train.data`; None: the prompts of the data."""
    text_items: int = 300
    """Texts per language."""
    text_tokens: int = 128
    """Tokens read of each text at most."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            UserError: no text or no token would be read.
        """
        for name in ("text_items", "text_tokens"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least 1")


@dataclass(frozen=True)
class Corpus:
    """The rendered texts, and the loaded model that reads them."""

    decoder: Decoder
    ids: Mapping[str, list[list[int]]]
    """Language -> token ids per text."""
    skip: int | None
    """The BOS token; None = the model has none."""


def make(
    job: Job,
    settings: TextSettings,
    fill: Callable[[Corpus, Mapping[str, str]], Steering],
    positions: str,
) -> None:
    """Read the texts, let `fill` make the steering of them, and write the variant folder.

    Args:
        job: the run.
        settings: of the method.
        fill: corpus and identity of the model -> steering, without source and settings.
        positions: which positions are read, for the record.

    Raises:
        UserError: texts or settings cannot be used; nothing is written then.
    """
    begun = time.perf_counter()
    device = resolve_device(job.device)
    texts = read_prompts(resolve_data(settings.text or job.data), job.languages, settings.text_items)
    checkpoint = Checkpoint.open(job.model)
    identity, tokenizer = checkpoint.identity, checkpoint.tokenizer
    render = Renderer(tokenizer, "plain", None)
    ids = {code: render(texts.texts[code], settings.text_tokens) for code in job.languages}
    decoder = Decoder(load_model(checkpoint, device, resolve_dtype(settings.dtype, device)))
    steering = fill(Corpus(decoder, ids, tokenizer.bos_token_id), identity)
    source = {"name": texts.name, "sha256": texts.sha256, "items": len(texts), "positions": positions}
    methods.begin(job)
    replace(steering, source=source, settings=asdict(settings)).save(job.output)
    Variant.untrained(
        job,
        "steering",
        identity,
        asdict(settings),
        {
            "name": texts.name,
            "sha256": texts.sha256,
            "items": len(texts),
            "probe_tokens": sum(len(row) for rows in ids.values() for row in rows),
        },
        begun,
        peak_memory(device),
    ).save(job.output)


def mean_states(corpus: Corpus) -> dict[str, Tensor]:
    """Mean state over all tokens but BOS; language -> (layers, width), float32, on the CPU.

    Raises:
        UserError: a language has no token but BOS.
    """
    decoder = corpus.decoder
    found: dict[str, Tensor] = {}
    for code, rows in corpus.ids.items():
        sums = torch.zeros(len(decoder), decoder.width, dtype=torch.float64)
        count = sum(token != corpus.skip for row in rows for token in row)
        if not count:
            raise UserError(f"the texts in {code!r} hold no token")

        def add(layer: int, batch: Batch, states: Tensor, sums: Tensor = sums) -> None:
            read = batch.mask.bool() & (batch.ids != (-1 if corpus.skip is None else corpus.skip))
            sums[layer] += states[read].double().sum(dim=0).cpu()

        _read(decoder, rows, add, code)
        found[code] = (sums / count).float()
        require_finite(found[code], code)
    return found


def last_states(corpus: Corpus) -> dict[str, Tensor]:
    """States of the last token of each text; language -> (texts, layers, width), float32, on the CPU."""
    decoder = corpus.decoder
    found: dict[str, Tensor] = {}
    for code, rows in corpus.ids.items():
        states = torch.empty(len(rows), len(decoder), decoder.width)

        def store(layer: int, batch: Batch, hidden: Tensor, states: Tensor = states) -> None:
            states[list(batch.rows), layer] = batch.read(hidden).float().cpu()

        _read(decoder, rows, store, code)
        require_finite(states, code)
        found[code] = states
    return found


@torch.no_grad()
def _read(
    decoder: Decoder,
    rows: Sequence[Sequence[int]],
    read: Callable[[int, Batch, Tensor], None],
    label: str,
) -> None:
    """Run texts through the model; `read` is called with the states after each layer."""
    batches = list(make_batches(rows, range(len(rows)), BATCH_TOKENS, decoder.device))
    with progress(label=f"reading {label}", total=len(batches)) as bar:
        for batch in batches:
            taps = {layer: partial(read, layer, batch) for layer in range(len(decoder))}
            decoder(batch.ids, batch.mask, taps=taps)
            bar.update()


def unit(vector: Tensor) -> Tensor:
    """`vector` to norm 1, (..., width); a zero stays a zero."""
    norm = torch.linalg.vector_norm(vector, dim=-1, keepdim=True)
    return torch.where(norm > 1e-8, vector / norm.clamp(min=1e-8), torch.zeros_like(vector))


def chosen_layers(named: tuple[int, ...] | None, decoder: Any) -> list[int]:
    """Layers counted from 0; None = all.

    Raises:
        UserError: the model does not have one of them, or none is named.
    """
    if named is not None and not named:
        raise UserError("layers names no layer; leave it out for all of them")
    return list(range(len(decoder))) if named is None else sorted({decoder.index(layer) for layer in named})
