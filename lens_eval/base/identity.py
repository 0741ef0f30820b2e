"""What makes a run resumable: identities, a lock that dies with its holder, records without machine paths."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

from lens_eval.base.errors import UserError

PACKAGES = (
    "torch",
    "transformers",
    "lm-eval",
    "datasets",
    "tokenizers",
    "peft",
    "trl",
    "vllm",
    "lens-multilingual",
)
# Rooms that decide numbers: a change in the others only shows them, or starts the work, in another way.
_DECIDING = ("language", "mini", "tasks", "upstream", "backends")


def key_of(identity: Mapping[str, Any]) -> str:
    """A hash of everything in `identity`, the same whatever the order of its keys."""
    text = json.dumps(identity, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def versions() -> dict[str, str]:
    """Versions of the packages that decide numbers; what is not installed is left out."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def source_hash(package: str) -> str:
    """Hash of the Python sources of `lens_eval` or `lens_train` that can decide numbers."""
    import importlib

    root = Path(importlib.import_module(package).__path__[0])
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        if package != "lens_eval" or file.relative_to(root).parts[0] in _DECIDING:
            digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 over a file, or over the names and contents of the files in a folder."""
    digest = hashlib.sha256()
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        if path.is_dir():
            digest.update(file.relative_to(path).as_posix().encode() + b"\0")
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def environment() -> dict[str, Any]:
    """The machine and the commit, as a results folder records them."""
    import lens_eval

    root = Path(lens_eval.__file__).resolve().parents[1]
    return {
        "versions": versions(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, {_accelerator()}",
        "commit": _commit(root),
    }


def _accelerator() -> str:
    import torch

    if not torch.cuda.is_available():
        return "no GPU"
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return ", ".join(names)


def _commit(root: Path) -> str | None:
    """The commit of the checkout, with `+` where package code differs from it; None outside a checkout."""
    if not (root / ".git").exists():
        return None
    try:
        run = ["git", "-C", str(root)]
        commit = subprocess.run(
            [*run, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True
        )
        state = subprocess.run(
            [*run, "status", "--porcelain", "--", "lens_eval", "lens_train", "tasks", "recipes"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("+" if state.stdout.strip() else "")


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process. The kernel drops the lock when the process ends, however it ends.

    Raises:
        UserError: another process holds it.
    """
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"another run is at work in {folder} ({_holder(stream)}); wait, or name another --output"
            ) from error
        stream.truncate(0)
        stream.write(f"process {os.getpid()} on {platform.node()}\n")
        stream.flush()
        yield


def _holder(stream: IO[str]) -> str:
    stream.seek(0)
    return stream.read().strip() or "unknown process"


class Paths:
    """Takes the paths of this machine out of what is written down, so that results can be published."""

    def __init__(self, names: Mapping[str | Path, str]) -> None:
        pairs = [(os.path.abspath(path), name) for path, name in names.items()]  # noqa: PTH100
        pairs += [(os.path.realpath(path), name) for path, name in names.items()]
        pairs.sort(key=lambda pair: -len(pair[0]))
        self._pairs = dict(pairs)
        # A path ends where a name cannot go on: /a/run must not match in /a/runner.
        self._pattern = re.compile("|".join(re.escape(path) + r"(?![\w.-])" for path in self._pairs))

    def text(self, text: str) -> str:
        """`text` with each known path replaced by its name."""
        return self._pattern.sub(lambda match: self._pairs[match[0]], text)

    def clean(self, value: Any) -> Any:
        """The same for every string in nested dicts, lists and tuples."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.clean(k): self.clean(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.clean(v) for v in value]
        return value


def write_json(path: Path, document: Any) -> None:
    """Write JSON in one step: a reader sees the old file or the new one."""
    aside = path.with_name(path.name + ".partial")
    aside.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    aside.replace(path)
