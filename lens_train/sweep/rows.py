"""What a sweep is asked for, and what comes of it: a row per setting, and the choice among them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lens_train.job import Job


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


@dataclass(frozen=True)
class Choice:
    """The outcome of a sweep."""

    ranking: tuple[int, ...]
    """Places of the settings, best first: those that gain and keep the central language, those that gain, the
    others. Settings that were stopped are left out."""
    kept: frozenset[int]
    """Places of the settings that keep the central language."""
    chosen: int | None
    """The first of the ranking, if it improves on the untrained model."""
    gentle: int | None
    """The gentlest setting with at least half of the chosen one's gain; None if that is the chosen one."""
    rule: str
    words: tuple[str, ...]
    """What was found, a sentence each."""
