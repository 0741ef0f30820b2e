"""What every benchmark states: the machine, the versions, the commit; and where its table goes."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from lens_eval.base.files import write_text
from lens_eval.base.identity import version_of

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results" / "bench"
PACKAGES = (
    "torch",
    "transformers",
    "lm_eval",
    "lingua-language-detector",
    "langdetect",
    "trl",
    "peft",
    "vllm",
)


class Phases:
    """Seconds of the named parts of a run, on a GPU until its work is done."""

    def __init__(self, device: str) -> None:
        """Begin to count."""
        self.seconds: dict[str, float] = {}
        self._device = device
        self._begun = self._now()

    def whole(self) -> float:
        """Seconds since the beginning."""
        return self._now() - self._begun

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add what the block takes to the part `name`."""
        begun = self._now()
        try:
            yield
        finally:
            self._add(name, self._now() - begun)

    def wrap(self, owner: Any, function: str, name: str) -> None:
        """Let every call of a function or method count to the part `name`."""
        timed(owner, function, partial(self._add, name), self._now)

    def _add(self, name: str, seconds: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def _now(self) -> float:
        if self._device == "cuda":
            import torch

            torch.cuda.synchronize()
        return time.monotonic()


def timed(
    owner: Any, function: str, note: Callable[[float], None], clock: Callable[[], float] = time.monotonic
) -> None:
    """Put in place of a function or method one that tells `note` the seconds of each call, failed or not."""
    plain: Callable[..., Any] = getattr(owner, function)

    def run(*positional: Any, **named: Any) -> Any:
        begun = clock()
        try:
            return plain(*positional, **named)
        finally:
            note(clock() - begun)

    setattr(owner, function, run)


def environment() -> dict[str, Any]:
    """Machine, versions and commit of this run; no name or path of the machine."""
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "commit": _commit(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "gpu": _gpu(),
        "python": platform.python_version(),
        **{name: version_of(name) or "" for name in PACKAGES},
    }


def write_table(name: str, title: str, rows: Sequence[dict[str, Any]], notes: Sequence[str] = ()) -> None:
    """Write `results/bench/<name>.json` and `.md`, and print the Markdown table."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    facts = environment()
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [f"# {title}", "", "| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(_cell(row.get(column)) for column in columns) + " |" for row in rows]
    lines += ["", *[f"- {note}" for note in notes], ""]
    lines += [
        "Measured with: " + ", ".join(f"{key} {value}" for key, value in facts.items() if value) + ".",
        "",
    ]
    text = "\n".join(lines)
    write_text(RESULTS / f"{name}.md", text)
    record = {"title": title, "rows": list(rows), "notes": list(notes), "environment": facts}
    write_text(RESULTS / f"{name}.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    print(text, flush=True)


def _cell(value: Any) -> str:
    if value is None:
        return "not measured"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _commit() -> str:
    """The commit, marked where code differs from it; earlier results may differ, this writes some."""
    try:
        commit, changed = (
            subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True, check=True).stdout
            for command in (
                ("rev-parse", "--short", "HEAD"),
                ("status", "--porcelain", "--untracked-files=no", "--", ".", ":!results"),
            )
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit.strip() + ("-dirty" if changed.strip() else "")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _gpu() -> str:
    try:
        import torch
    except ImportError:
        return ""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else ""
