"""What a sweep is asked for, and what comes of it: a row per setting, and the choice among them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lens_train.job import Job
from lens_train.sweep.choice import Choice


@dataclass(frozen=True)
class Request:
    """A sweep as asked for."""

    job: Job
    """What all settings share; its output is the folder of the sweep."""
    data: str
    """The training data as the user named them; for the command that trains the chosen setting."""
    dev_data: Path
    points: tuple[Point, ...]
    margin: float = 0.02
    """How much of the central language the chosen setting may lose; see `lens_train.sweep.choice`."""
    dev_limit: int | None = None
    max_new_tokens: int = 64


@dataclass(frozen=True)
class Row:
    """One setting and what came of it."""

    settings: Point
    measures: Mapping[str, Any] = field(default_factory=dict)
    """See `lens_train.watch.dev`; shares from 0 to 1. Empty where training was stopped."""
    losses: Mapping[str, float] = field(default_factory=dict)
    """Terms of the last step."""
    weights_sha256: str = ""
    """Of the trained tensors as `lens train` writes them; see `hash_weights`."""
    reason: str = ""
    """Why training was stopped."""
    seconds: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """A finished sweep."""

    backbone: Row
    rows: tuple[Row, ...]
    choice: Choice
    document: Mapping[str, Any]


Point = dict[str, Any]
"""Setting -> value, of those that vary."""
