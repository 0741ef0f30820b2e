"""A Lens job after all its parts have been checked, before any work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from lens_train.checkpoint import Checkpoint
from lens_train.config import LensConfig
from lens_train.data import ParallelPrompts
from lens_train.job import Job
from lens_train.subspace import Subspaces


@dataclass(frozen=True)
class HeldOut:
    """Prompts for diagnostics or replies, and their source."""

    texts: ParallelPrompts
    source: Literal["dev", "rest", "train"]
    text: str
    """The source in words."""


@dataclass(frozen=True)
class Plan:
    """A Lens job after all its parts have been checked."""

    job: Job
    config: LensConfig
    checkpoint: Checkpoint
    identity: Mapping[str, str]
    """Of the checkpoint, as it was when the job was checked."""
    train_data: ParallelPrompts
    probe_data: ParallelPrompts | None
    """None if subspaces are given."""
    subspaces: Subspaces | None
    held_out: HeldOut | None
    """None if no diagnostics are wanted."""
    delta: bool
    trained: tuple[int, ...]
    """Layers that are trained, counted from 0."""
    read: tuple[int, ...]
    """Layers that the losses read, counted from 0."""
    device: torch.device
    dtype: torch.dtype
    shown: HeldOut | None = None
    """Prompts that are answered before and after training; None if no replies are wanted."""

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of the checkpoint."""
        return self.checkpoint.tokenizer
