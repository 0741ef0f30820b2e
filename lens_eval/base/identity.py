"""Identities: hashes of everything that decides a number, and the machine it was made on."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lens_eval.base.project import ROOT

PACKAGES = (
    "torch",
    "transformers",
    "lm-eval",
    "datasets",
    "tokenizers",
    "peft",
    "lingua-language-detector",
    "trl",
    "vllm",
    "lens-multilingual",
)


def key_of(identity: Mapping[str, Any]) -> str:
    """A hash of everything in `identity`, the same whatever the order of its keys."""
    text = json.dumps(identity, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def version_of(package: str) -> str | None:
    """The version of an installed package; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """Versions of packages; what is not installed is left out."""
    return {name: found for name in packages if (found := version_of(name)) is not None}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide numbers."""
    return {"python": platform.python_version(), **versions_of(PACKAGES)}


def source_hash(package: str) -> str:
    """Hash of all Python sources of `lens_eval` or `lens_train`; what one number runs through: `reached`."""
    import importlib

    root = Path(importlib.import_module(package).__path__[0])
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def environment() -> dict[str, Any]:
    """The machine and the commit, as a results folder records them."""
    return {
        "versions": versions(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, {_accelerator()}",
        "commit": _commit(ROOT),
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
