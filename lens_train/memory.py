"""Main memory and GPU memory: a run's peak, and the return of memory that it no longer uses."""

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
"""Bytes. For a block of this size, a system call costs far less than the computation in the block."""


def reset_peak() -> None:
    """Reset the peak of this process, so that a run does not count the memory of an earlier run.

    Only Linux can reset it for main memory; elsewhere the peak counts from the start of the process.
    """
    with contextlib.suppress(OSError):
        (PROCESS / "clear_refs").write_text("5", encoding="ascii")
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory(device: torch.device) -> int:
    """Peak in bytes: of tensors on the GPU `device`, or of resident main memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with contextlib.suppress(OSError, StopIteration):
        lines = (PROCESS / "status").read_text(encoding="ascii").splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def free_at_once() -> None:
    """Return every freed block of at least `LARGE` bytes to the system (glibc only).

    glibc raises its own limit up to 32 MB as blocks are freed. Smaller states and gradients then share one
    heap, and the free pages between them stay resident. This does nothing with another C library.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE)
