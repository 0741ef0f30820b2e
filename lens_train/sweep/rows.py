"""The request and the result of a sweep: one row per setting, and the choice among them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lens_train.job import Job


@dataclass(frozen=True)
class Request:
    """The request of a sweep."""

    job: Job
    """The job that all settings share; its output is the folder of the sweep."""
    data: str
    """The training data as the user named them; for the command that trains the chosen setting."""
    dev_data: Path
    points: tuple[Point, ...]
    margin: float = 0.02
    """Allowed loss of the chosen setting in the central language; see `lens_train.sweep.choice`."""
    dev_limit: int | None = None
    max_new_tokens: int = 64


@dataclass(frozen=True)
class Row:
    """One setting and its result."""

    settings: Point
    measures: Mapping[str, Any] = field(default_factory=dict)
    """Measures of `lens_train.watch.dev`, shares from 0 to 1; empty if training was stopped."""
    losses: Mapping[str, float] = field(default_factory=dict)
    """Loss terms of the last step."""
    weights_sha256: str = ""
    """Hash of the trained tensors as `lens train` writes them; see `hash_weights`."""
    reason: str = ""
    """Reason why training was stopped."""
    seconds: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """A finished sweep."""

    backbone: Row
    rows: tuple[Row, ...]
    choice: Choice
    document: Mapping[str, Any]


Point = dict[str, Any]
"""Setting -> value, for the settings that vary."""


@dataclass(frozen=True)
class Choice:
    """The outcome of a sweep."""

    ranking: tuple[int, ...]
    """Indices of the settings, best first: those that gain and keep the central language, then those that
    gain, then the others. Stopped settings are left out."""
    kept: frozenset[int]
    """Indices of the settings that keep the central language."""
    chosen: int | None
    """The first of the ranking, if it improves on the untrained model."""
    gentle: int | None
    """The gentlest setting with at least half of the chosen one's gain; None if that is the chosen one."""
    rule: str
    words: tuple[str, ...]
    """The findings, one sentence each."""
