"""Several processes that train together, as `accelerate launch` or `torchrun` start them."""

from __future__ import annotations

import torch
from torch import distributed

from lens_train import methods


def join(device: torch.device) -> None:
    """Join the other processes of the launch, if there are any; each process has its own GPU."""
    if methods.processes() > 1 and not together():
        from accelerate import PartialState

        PartialState(cpu=device.type == "cpu")


def together() -> bool:
    """Whether this process is one of several."""
    return distributed.is_available() and distributed.is_initialized()


def rank() -> int:
    """Index of this process; 0 if there is only one."""
    return distributed.get_rank() if together() else 0


def world() -> int:
    """Number of processes."""
    return distributed.get_world_size() if together() else 1
