"""The `lens` command as it is typed, in a process of its own, and what it leaves behind."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 1800
"""Seconds."""
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # vLLM: no compiler for the one function that it compiles even in eager mode; not tied to one core.
    "TORCHDYNAMO_DISABLE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}

CHECK = re.compile(r"^(\S.*?) {2,}(ok|warning|failed|skipped)(?: |$)")
"""A line of what `lens doctor` prints."""


@dataclass(frozen=True)
class Lens:
    """Calling it runs one command to its end."""

    data: Path
    """Real items, as `LENS_DATA_DIR` names them."""

    def start(self, *arguments: Any, **environment: str) -> subprocess.Popen[str]:
        """Start a command; its output is kept."""
        return subprocess.Popen(
            [sys.executable, "-m", "lens_eval", *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, **ENVIRONMENT, "LENS_DATA_DIR": str(self.data), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __call__(self, *arguments: Any, status: tuple[int, ...] = (0,), **environment: str) -> str:
        """Run a command, see that it ends with a `status`, and return what it wrote to standard output."""
        process = self.start(*arguments, **environment)
        try:
            out, err = process.communicate(timeout=TIMEOUT)
        except BaseException:
            # vLLM's engine outlives its parent.
            os.killpg(process.pid, signal.SIGKILL)
            raise
        ended = f"{arguments} ended with status {process.returncode}"
        assert process.returncode in status, f"{ended}\n{out[-3000:]}\n{err[-3000:]}"
        return out


def samples(run: Path) -> dict[str, list[dict[str, Any]]]:
    """Saved samples by task, in the order of their items."""
    found: dict[str, list[dict[str, Any]]] = {}
    for file in [*run.rglob("samples_*.jsonl"), *run.rglob("samples_*.jsonl.gz")]:
        task = file.name.removeprefix("samples_").rsplit("_", 1)[0]
        raw = file.read_bytes()
        lines = (gzip.decompress(raw) if file.suffix == ".gz" else raw).decode().splitlines()
        found[task] = sorted(map(json.loads, lines), key=lambda row: int(row["doc_id"]))
    return found


def replies(rows: list[dict[str, Any]]) -> list[str]:
    """What was generated for each item."""
    return [row["resps"][0][0] for row in rows]


def scores(rows: list[dict[str, Any]]) -> list[list[float]]:
    """Log-likelihood of each option of each item."""
    return [[float(str(option[0][0])) for option in row["resps"]] for row in rows]


def means(folder: Path, metric: str) -> dict[tuple[str, str], float]:
    """One metric of a comparison, by variant and language; shares from 0 to 1."""
    table = json.loads((folder / "table.json").read_text(encoding="utf-8"))
    return {
        (row["variant"], row["language"]): row["mean"] for row in table["rows"] if row["metric"] == metric
    }


def outcomes(table: str) -> dict[str, set[str]]:
    """How each check of `lens doctor` came out, over all tasks, read off what it printed."""
    found: dict[str, set[str]] = {}
    for line in table.splitlines():
        if match := CHECK.match(line):
            found.setdefault(match[1], set()).add(match[2])
    return found
