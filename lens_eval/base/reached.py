"""The code that a number runs through: modules reached by imports, their data, and libraries they import."""

from __future__ import annotations

import ast
import hashlib
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

from lens_eval.base.identity import versions_of

OWN = ("lens_eval", "lens_train")
BEHIND = (
    *("tokenizers", "safetensors", "accelerate", "numpy", "jinja2", "sentencepiece", "tiktoken", "protobuf"),
    *("flash-attn", "flash-linear-attention", "causal-conv1d", "mamba-ssm", "kernels", "bitsandbytes"),
)
"""Libraries that decide numbers behind the ones imported: tokens, templates, tensors, products."""


def reached(entries: Iterable[str], without: Iterable[str] = ()) -> dict[str, Path]:
    """Modules that `entries` import, directly or not, and themselves: name -> file.

    Imports inside functions count. Modules of this project and of the entries' own top packages are followed,
    and of a user's module whatever it imports that is no installed library; the front doors `lens_eval` and
    `lens_train` are not.

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
        top = name.partition(".")[0]
        stopped = any(name == stop or name.startswith(stop + ".") for stop in stops)
        if name in found or name in OWN or top not in own or stopped:
            continue
        file = _file_of(name)
        if file is not None:
            found[name] = file
            imported = _imports(file, file.stat().st_mtime_ns, name)
            todo += imported
            if top not in OWN:
                own |= {each for each in {name.partition(".")[0] for name in imported} if _is_the_users(each)}
    return found


def source_of(modules: Mapping[str, Path]) -> str:
    """Hash of the sources of modules, and of the data files beside them that they name."""
    digest = hashlib.sha256()
    for name in sorted(modules):
        digest.update(Path(name).name.encode() + b"\0" + modules[name].read_bytes())
        for data in _data_of(modules[name], modules[name].stat().st_mtime_ns):
            digest.update(data.name.encode() + b"\0" + data.read_bytes())
    return digest.hexdigest()


def helpers(file: Path) -> dict[str, Path]:
    """A file of functions that no module's name leads to, and the files it imports: path -> file.

    Followed are the files in its folder, as `helper` or `.helper`, and modules elsewhere. What is installed
    as a library counts by its version, and what is of this project by its rooms: both are left out.
    """
    found: dict[str, Path] = {}
    todo = [] if _installed(file) else [file.resolve()]
    while todo:
        own = todo.pop()
        if str(own) in found or not own.is_file():
            continue
        found[str(own)] = own
        for name in _imports(own, own.stat().st_mtime_ns, f"folder.{own.stem}"):
            parts = name.removeprefix("folder.").split(".")
            beside = [own.parent.joinpath(*parts[:end]) for end in range(1, len(parts) + 1)]
            places = [place for path in beside for place in (path.with_suffix(".py"), path / "__init__.py")]
            todo += [place for place in places if place.is_file()]
            if parts[0] not in OWN and (elsewhere := _file_of(name)) and not _installed(elsewhere):
                todo.append(elsewhere)
    return found


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


def _installed(file: Path) -> bool:
    """Whether a file is a library's: its version stands for it."""
    libraries = {sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    inside = any(file.is_relative_to(library) for library in libraries)
    return inside or not {"site-packages", "dist-packages"}.isdisjoint(file.parts)


def _is_the_users(top: str) -> bool:
    """Whether a module or package at the top is neither of this project nor an installed library."""
    try:
        spec = None if top in OWN else find_spec(top)
    except (ImportError, ValueError):
        return False
    places = [*(spec.submodule_search_locations or ()), spec.origin or ""] if spec is not None else []
    paths = [Path(place) for place in places if Path(place).exists() and place]
    return bool(paths) and not any(map(_installed, paths))


@lru_cache(maxsize=1024)
def _data_of(file: Path, _changed: int) -> tuple[Path, ...]:
    """Files in a module's folder, or in one below, whose names stand in it as texts."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    texts = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and 0 < len(node.value) < 80
    }
    texts = {text for text in texts if "/" not in text and "\0" not in text}
    folders = [
        file.parent,
        *(file.parent / text for text in texts if text.strip(".") and (file.parent / text).is_dir()),
    ]
    found = {folder / text for folder in folders for text in texts if (folder / text).is_file()}
    return tuple(sorted(path for path in found if path.suffix != ".py"))


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
