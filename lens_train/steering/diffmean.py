"""`diffmean`: the difference of two languages' mean states, added in one layer.

CLaS-Bench, arXiv 2601.08331. d = (m[target] - m[central]) / its norm, of one layer;
h <- h + a d at every position, prompt and answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from lens_eval.base.errors import UserError
from lens_train import methods
from lens_train.job import Job
from lens_train.steering.steering import Edit, Steering
from lens_train.steering.texts import Corpus, TextSettings, make, mean_states, unit

DEPTH = 0.625
"""Layer 20 of 32, the paper's, as a share of the depth."""


@dataclass(frozen=True)
class DiffMeanSettings(TextSettings):
    """One layer and a strength; choose both on held-back prompts."""

    layer: int | None = None
    """Counted from 0, negative from the end; None: at 62.5% of the depth."""
    strength: float = 5.0
    """a, the length of what is added. 5 is the paper's, for Llama-3.1-8B; other models' states are longer."""


def train(job: Job) -> None:
    """Read the texts and write the steering folder to `job.output`.

    Raises:
        UserError: the strength is 0; there is then nothing to add.
    """
    settings = methods.read_settings(DiffMeanSettings, job.settings, job.method)
    if not settings.strength:
        raise UserError("this steering would change nothing: set strength to another number than 0")

    def fill(corpus: Corpus, base: Mapping[str, str]) -> Steering:
        decoder = corpus.decoder
        layer = math.floor(DEPTH * len(decoder)) if settings.layer is None else decoder.index(settings.layer)
        directions = difference(mean_states(corpus), job.central, layer)
        return Steering((Edit(layer, "direction", settings.strength),), {}, {layer: directions}, base)

    make(job, settings, fill, "all but BOS")


def difference(means: Mapping[str, Tensor], central: str, layer: int) -> dict[str, Tensor]:
    """Unit direction of every language, (width,); zero for the central one."""
    return {code: unit(mean[layer] - means[central][layer]) for code, mean in means.items()}
