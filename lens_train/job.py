"""The input and the output of every training method.

A method is one function `train(job: Job) -> None` that fills `job.output` with a variant folder.
`transformers` (full checkpoint) or `peft` (adapter) loads that folder directly. Its `variant.json` says what
the folder is and how it was made.
"""

from __future__ import annotations

import errno
import json
import math
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from lens_eval.base.files import write_text
from lens_eval.base.reading import read_object, shaped

VARIANT_FILE = "variant.json"
Kind = Literal["checkpoint", "adapter", "delta", "steering", "decoding"]


@dataclass(frozen=True)
class Job:
    """One training run: a method applied to one model with one data budget."""

    method: str
    model: str
    """Hub id or local folder of the backbone."""
    data: Path
    """Parallel data; see `lens_train.data` for the layouts that are read."""
    languages: tuple[str, ...]
    """Normalised language codes, including the central one."""
    output: Path
    """Variant folder to write; it must not exist, or must hold an interrupted run of the same job."""
    central: str = "en"
    seed: int = 0
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`; a device that does not exist is an error."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The method's own settings; an unknown key is an error that lists the known ones."""


@dataclass(frozen=True)
class Variant:
    """Identity and cost of a variant folder, stored as `variant.json`."""

    method: str
    kind: Kind
    base: Mapping[str, str]
    """`name`, `weights_sha256` and `template_sha256` of the backbone."""
    languages: tuple[str, ...]
    central: str
    settings: Mapping[str, Any]
    seed: int
    data: Mapping[str, Any]
    """`name`, `sha256` and number of `items` used, and what the method made of them."""
    tokens_seen: int
    """Tokens trained on: those of prompts, and those of answers if the method learns from them. Every pass
    counts, padding does not. Tokens that were only read or generated (probing, own answers) count in
    `data`."""
    wall_seconds: float
    peak_memory_bytes: int
    """Peak memory of this run, in bytes; see `lens_train.memory`."""
    versions: Mapping[str, str]
    format: int = 1
    outcome: Mapping[str, Any] = field(default_factory=dict)
    """What training did; see `lens_train.watch.outcome`. Empty if the method records nothing."""

    @staticmethod
    def untrained(
        job: Job,
        kind: Literal["steering", "decoding"],
        base: Mapping[str, str],
        settings: Mapping[str, Any],
        data: Mapping[str, Any],
        begun: float,
        peak_memory_bytes: int = 0,
    ) -> Variant:
        """What a method that trains nothing has made; `begun` is its first `time.perf_counter()`."""
        return Variant(
            method=job.method,
            kind=kind,
            base=base,
            languages=job.languages,
            central=job.central,
            settings=settings,
            seed=job.seed,
            data=data,
            tokens_seen=0,
            wall_seconds=round(time.perf_counter() - begun, 3),
            peak_memory_bytes=peak_memory_bytes,
            versions=versions(),
        )

    def save(self, folder: Path) -> None:
        """Write `variant.json` atomically: a reader sees the old file or the new one."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False, sort_keys=True)
        write_text(folder / VARIANT_FILE, text + "\n")

    @staticmethod
    def load(folder: Path) -> Variant:
        """Read `variant.json` of a finished variant folder.

        Raises:
            FileNotFoundError: the folder holds no finished variant.
        """
        file = folder / VARIANT_FILE
        if not file.is_file():
            raise FileNotFoundError(errno.ENOENT, "no finished variant", str(file))
        raw = read_object(file, "record of a variant")
        with shaped(file, "record of a variant"):
            raw["languages"] = tuple(raw["languages"])
            found = Variant(**raw)
            found._check()
        return found

    def _check(self) -> None:
        """Raise `TypeError` or `ValueError` if a value is none of its kind."""
        mappings = (self.base, self.settings, self.data, self.versions, self.outcome)
        texts = (self.method, self.central, *self.languages, *self.base.values())
        if not all(isinstance(each, dict) for each in mappings):
            raise TypeError("a part that is no mapping")
        if not all(isinstance(each, str) for each in texts):
            raise TypeError("a name that is no text")
        if self.kind not in get_args(Kind):
            raise ValueError(f"the kind {self.kind!r}")
        for number in (self.seed, self.tokens_seen, self.wall_seconds, self.peak_memory_bytes):
            if not math.isfinite(number):
                raise ValueError(f"the number {number}")


def versions() -> dict[str, str]:
    """Versions of Python and the libraries that computed the numbers."""
    import torch
    import transformers

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
