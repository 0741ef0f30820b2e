"""The code that a number runs through: modules reached by imports, and the libraries that these import."""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

from lens_eval.base.identity import versions_of

OWN = ("lens_eval", "lens_train")
BEHIND = ("tokenizers", "safetensors", "accelerate", "numpy", "jinja2", "sentencepiece", "tiktoken")
"""Libraries that decide numbers behind the ones imported: tokens, templates, tensors."""


def reached(entries: Iterable[str], without: Iterable[str] = ()) -> dict[str, Path]:
    """Modules that `entries` import, directly or not, and themselves: name -> file.

    Imports inside functions count. Only modules of this project and of the entries' own top packages are
    followed; the front doors `lens_eval` and `lens_train` are not.

    Args:
        entries: names of modules.
        without: rooms or modules that are not followed, since they decide no number.
    """
    entries, stops = list(entries), tuple(without)
    own = {*OWN, *(name.partition(".")[0] for name in entries)}
    found: dict[str, Path] = {}
    todo = entries
    while todo:
        name = todo.pop()
        stopped = any(name == stop or name.startswith(stop + ".") for stop in stops)
        if name in found or name in OWN or name.partition(".")[0] not in own or stopped:
            continue
        file = _file_of(name)
        if file is not None:
            found[name] = file
            todo += _imports(file, file.stat().st_mtime_ns, name)
    return found


def source_of(modules: Mapping[str, Path]) -> str:
    """Hash of the sources of modules."""
    digest = hashlib.sha256()
    for name in sorted(modules):
        digest.update(name.encode() + b"\0" + modules[name].read_bytes())
    return digest.hexdigest()


def libraries_of(modules: Mapping[str, Path]) -> dict[str, str]:
    """Versions of the libraries that modules import, of those behind them, and of Python."""
    own = {name.partition(".")[0] for name in modules}
    tops = {
        name.partition(".")[0]
        for module, file in modules.items()
        for name in _imports(file, file.stat().st_mtime_ns, module)
    }
    known = _distributions()
    packages = {package for top in tops - own for package in known.get(top, ())}
    return {"python": sys.version.partition(" ")[0], **versions_of(sorted(packages | set(BEHIND)))}


@lru_cache(maxsize=1)
def _distributions() -> Mapping[str, list[str]]:
    return packages_distributions()


def _file_of(module: str) -> Path | None:
    """The source of a module; None for what is no module (a name in one) or has no source."""
    try:
        spec = find_spec(module)
    except (ImportError, ValueError, AttributeError):
        return None
    file = Path(spec.origin) if spec is not None and spec.origin else None
    return file if file is not None and file.suffix == ".py" and file.is_file() else None


@lru_cache(maxsize=1024)
def _imports(file: Path, _changed: int, module: str) -> tuple[str, ...]:
    """Names that a file imports, which are modules or names in modules."""
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    names: list[str] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return tuple(names)
