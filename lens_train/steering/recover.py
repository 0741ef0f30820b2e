"""`recover`: language vectors in every layer, the norm of each state kept (ReCoVeR, arXiv 2509.14814).

m[l, c] is the mean state of language c after layer l over all tokens but BOS, less the mean over the
languages. d = (m[l, target] - b m[l, central]) / its norm. At every layer and every position but BOS,
h <- h + a d, and then h is scaled back to the norm that it had.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lens_eval.base.errors import UserError
from lens_train import methods
from lens_train.job import Job
from lens_train.steering.steering import Edit, Steering
from lens_train.steering.texts import Corpus, TextSettings, chosen_layers, make, mean_states, unit


@dataclass(frozen=True)
class RecoverSettings(TextSettings):
    """Strengths, and the layers."""

    strength: float = 1.0
    """a; the paper's is 1."""
    source_share: float = 1.0
    """b, how much of the central language's vector is taken away; the paper's is 1."""
    layers: tuple[int, ...] | None = None
    """Counted from 0, negative from the end; None: every layer."""


def train(job: Job) -> None:
    """Read the texts and write the steering folder to `job.output`.

    Raises:
        UserError: the strength is 0; there is then nothing to add.
    """
    settings = methods.read_settings(RecoverSettings, job.settings, job.method)
    if not settings.strength:
        raise UserError("this steering would change nothing: set strength to another number than 0")

    def fill(corpus: Corpus, base: Mapping[str, str]) -> Steering:
        layers = chosen_layers(settings.layers, corpus.decoder)
        vectors = language_vectors(mean_states(corpus), job.central, settings.source_share)
        directions = {layer: {code: vector[layer] for code, vector in vectors.items()} for layer in layers}
        edits = tuple(Edit(layer, "kept_norm", settings.strength) for layer in layers)
        return Steering(edits, {}, directions, base, skip=corpus.skip)

    make(job, settings, fill, "all but BOS")


def language_vectors(means: Mapping[str, Tensor], central: str, share: float) -> dict[str, Tensor]:
    """Unit vectors of every layer, (layers, width); zeros for the central language."""
    middle = torch.stack(list(means.values())).mean(dim=0)
    own = {code: mean - middle for code, mean in means.items()}
    found = {code: unit(vector - share * own[central]) for code, vector in own.items()}
    return {**found, central: torch.zeros_like(middle)}
