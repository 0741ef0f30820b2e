"""Main memory and that of a GPU: the most that a run held, and giving back what it no longer uses."""

from __future__ import annotations

import contextlib
import ctypes
import resource
import sys
from pathlib import Path

import torch

PROCESS = Path("/proc/self")


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


def give_back() -> None:
    """Return what this process has freed to the system, where the C library can (glibc).

    Prompts' states lie between tensors that are freed, and the pages in between would stay resident.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
