"""Main memory and that of a GPU: the most that a run held, and returning what it no longer uses."""

from __future__ import annotations

import contextlib
import ctypes
import resource
import sys
from pathlib import Path

import torch

PROCESS = Path("/proc/self")
M_MMAP_THRESHOLD = -3
"""Number of the setting in malloc.h."""
LARGE = 1 << 20
"""Bytes; a system call for a block of this size is nothing beside what is computed in it."""


def reset_peak() -> None:
    """Forget the peak of what this process did before, so that runs in one process do not count each other's.

    Only Linux can do that for main memory; elsewhere the peak is that since the process started.
    """
    with contextlib.suppress(OSError):
        (PROCESS / "clear_refs").write_text("5", encoding="ascii")
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory(device: torch.device) -> int:
    """Bytes at the peak: tensors on the GPU `device`, or what was resident in main memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with contextlib.suppress(OSError, StopIteration):
        lines = (PROCESS / "status").read_text(encoding="ascii").splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def free_at_once() -> None:
    """Have every block from `LARGE` bytes on returned to the system when it is freed (glibc only).

    glibc raises its own limit to 32 MB as blocks are freed; states and gradients below it then lie between
    one another, and the pages in between stay resident. Does nothing with another C library.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE)
