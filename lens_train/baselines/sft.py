"""Multilingual supervised fine-tuning: `xsft`, `xsft_top`, `xsft_lora`, `xsft_large`.

Every item of the budget is asked and answered in every language. The four methods train, in this order: all
weights, only the layers that Lens trains, a low-rank adapter, and all weights on the whole data set instead
of the budget.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lens_eval.base.errors import UserError
from lens_train import methods
from lens_train.baselines import pairs, tuning
from lens_train.baselines.training_log import Stage
from lens_train.baselines.tuning import LoraSettings, TuningSettings
from lens_train.job import Job


@dataclass(frozen=True)
class TopSettings(TuningSettings):
    """Only the top layers are trained; embeddings, final norm and output layer are frozen."""

    trained_layers: int = 2
    """Number of top layers to train; the default is that of Lens."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.trained_layers < 1:
            raise UserError(f"setting trained_layers is {self.trained_layers}; it must be at least 1")


@dataclass(frozen=True)
class LargeSettings(TuningSettings):
    """The whole data set."""

    train_items: int | None = None


def train(job: Job) -> None:
    """Fine-tune on the pairs of `job.data` and leave a checkpoint, or an adapter, in `job.output`."""
    kind = methods.settings_of(job.method)
    assert kind is not None
    settings: TuningSettings = methods.read_settings(kind, job.settings, job.method)
    data, items = tuning.load_budget(job, settings)
    run = tuning.Run(job, settings)
    kept, counts = run.screen(pairs.examples(items, job.languages))
    if isinstance(settings, TopSettings):
        freeze_below(run.model, settings.trained_layers)
    adapter = tuning.lora_config(settings) if isinstance(settings, LoraSettings) else None
    run.stage(Stage("answers", kept), adapter)
    run.finish(tuning.data_record(data, items, counts))


def freeze_below(model: Any, layers: int) -> None:
    """Make only the `layers` topmost decoder layers require gradients.

    Raises:
        UserError: the model does not have as many.
    """
    from lens_train.decoder import Decoder

    model.requires_grad_(False)
    every = Decoder(model).layers
    if not 1 <= layers <= len(every):
        raise UserError(
            f"trained_layers is {layers}, but the model has {len(every)} layers; give 1 to {len(every)}"
        )
    for layer in every[-layers:]:
        layer.requires_grad_(True)
