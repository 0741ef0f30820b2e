"""`liseco`: states are lifted over a linear probe's threshold, and only those below it (LiSeCo for language).

Michaelov 2026. Per layer, a logistic regression p = sigmoid(w.h + c) tells the last tokens of texts in the
target language from those in the central one. A state that the probe gives less than 1 - e, that is
w.h + c < t with t = logit(1 - e), is moved the shortest way to that border:
h <- h + (t - c - w.h) / |w|^2 w. There is no strength to tune.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lens_eval.base.errors import UserError
from lens_train import methods
from lens_train.job import Job
from lens_train.steering.steering import Edit, Steering
from lens_train.steering.texts import Corpus, TextSettings, chosen_layers, last_states, make


@dataclass(frozen=True)
class LisecoSettings(TextSettings):
    """The border, the probe, and the layers."""

    error: float = 1e-8
    """e; the paper's is 1e-8, and 1e-5 for Llama-3.1."""
    penalty: float = 1.0
    """Factor of |w|^2 / 2 beside the sum of the log losses; without one, w has no limit if texts separate."""
    layers: tuple[int, ...] | None = None
    """Counted from 0, negative from the end; None: every layer."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            UserError: `error` is no probability below one half, or `penalty` is not positive.
        """
        super().__post_init__()
        if not 0 < self.error < 0.5:
            raise UserError(f"error is {self.error}; it must be above 0 and below 0.5")
        if self.penalty <= 0:
            raise UserError(f"penalty is {self.penalty}; it must be above 0")


def train(job: Job) -> None:
    """Read the texts, fit the probes, and write the steering folder to `job.output`."""
    settings = methods.read_settings(LisecoSettings, job.settings, job.method)

    def fill(corpus: Corpus, base: Mapping[str, str]) -> Steering:
        layers = chosen_layers(settings.layers, corpus.decoder)
        states = last_states(corpus)
        directions: dict[int, dict[str, Tensor]] = {layer: {} for layer in layers}
        thresholds: dict[int, dict[str, Tensor]] = {layer: {} for layer in layers}
        for code in corpus.ids:
            for layer in layers:
                source = states[job.central][:, layer]
                target = states[code][:, layer]
                own = (torch.zeros(source.shape[1]), torch.zeros(()))  # the central language is left alone
                if code != job.central:
                    own = border(*fit_probe(target, source, settings.penalty), settings.error)
                directions[layer][code], thresholds[layer][code] = own
        edits = tuple(Edit(layer, "threshold", 1.0) for layer in layers)
        return Steering(edits, {}, directions, base, thresholds, skip=corpus.skip)

    make(job, settings, fill, "last of a text")


def fit_probe(target: Tensor, source: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """Logistic regression: minimise penalty |w|^2 / 2 + the sum of the log losses; c is not penalised.

    Args:
        target: states that are 1, (texts, width).
        source: states that are 0, (texts, width).
        penalty: above 0.

    Returns:
        w, (width,), and c, a tensor of one number; float64.
    """
    inputs = torch.cat([target, source]).double()
    labels = torch.cat([torch.ones(len(target)), torch.zeros(len(source))]).double()
    # About their middle the states are better conditioned; c takes the middle up again.
    middle = inputs.mean(dim=0)
    inputs = inputs - middle
    w = torch.zeros(inputs.shape[1], dtype=torch.float64, requires_grad=True)
    c = torch.zeros((), dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS(
        [w, c], max_iter=200, tolerance_grad=1e-8, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        search.zero_grad()
        losses = torch.nn.functional.binary_cross_entropy_with_logits(inputs @ w + c, labels, reduction="sum")
        loss = losses + penalty / 2 * w.square().sum()
        loss.backward()
        return loss

    search.step(closure)
    return w.detach(), c.detach() - w.detach() @ middle


def border(w: Tensor, c: Tensor, error: float) -> tuple[Tensor, Tensor]:
    """Unit normal of the border, and its distance from the origin along it; zeros if w is zero. float32."""
    norm = torch.linalg.vector_norm(w)
    if not norm > 0:
        return torch.zeros_like(w, dtype=torch.float32), torch.zeros(())
    t = math.log1p(-error) - math.log(error)
    return (w / norm).float(), ((t - c) / norm).float()
