"""Lens (arXiv 2410.04407): language subspaces, three losses, training of the top layers (docs/python.md)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lens_train.config import LensConfig as LensConfig
    from lens_train.job import Job as Job
    from lens_train.job import Variant as Variant
    from lens_train.lens import probe_folder as probe
    from lens_train.publish.trained import train as train
    from lens_train.steering.steering import Steering as Steering
    from lens_train.subspace import Subspaces as Subspaces
    from lens_train.watch.reply_callback import ReplyCallback as ReplyCallback

__all__ = [
    "Job",
    "LensConfig",
    "ReplyCallback",
    "Steering",
    "Subspaces",
    "Variant",
    "probe",
    "train",
]

_WHERE = {
    "Job": "lens_train.job",
    "LensConfig": "lens_train.config",
    "ReplyCallback": "lens_train.watch.reply_callback",
    "Steering": "lens_train.steering.steering",
    "Subspaces": "lens_train.subspace",
    "Variant": "lens_train.job",
    "probe": "lens_train.lens:probe_folder",
    "train": "lens_train.publish.trained",
}
"""Name -> its module (and its name there, if that differs). The module is imported on first use."""


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, own = _WHERE[name].partition(":")
    return getattr(import_module(module), own or name)


def __dir__() -> list[str]:
    return list(__all__)
