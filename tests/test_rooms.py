"""Each room imports only what lies below it, and no module or function outgrows a reader."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("lens_eval", "lens_train")

# Lowest first; rooms on one floor do not import each other. The longest name that begins that of a module is
# its room.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("lens_eval.base",),
    ("lens_eval.upstream", "lens_eval.language"),
    ("lens_eval.mini", "lens_eval.rewards"),
    ("lens_train.files",),
    ("lens_train.gguf",),
    ("lens_train",),
    ("lens_train.watch",),
    ("lens_train.lens",),
    (
        "lens_train.steering",
        "lens_train.decoding",
        "lens_train.baselines",
        "lens_train.sweep",
        "lens_eval.tasks",
        "lens_eval.results",
    ),
    ("lens_eval.backends", "lens_eval.page", "lens_eval.judge", "lens_train.publish"),
    ("lens_eval.runs",),
    ("lens_eval.doctor", "lens_eval.chat"),
    ("lens_eval.commands", "lens_eval.face"),
    ("lens_eval.__main__",),
)
HEIGHT = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# The front door of each package hands out what is behind it; no room goes through it.
DOORS = frozenset(PACKAGES)

LONGEST_MODULE, LONGEST_FUNCTION = 500, 60
HEAVY = ("torch", "lm_eval", "transformers", "vllm", "datasets")


@dataclass(frozen=True)
class Import:
    """One name that a module imports, wherever in the module: at its top, in a function, for types alone."""

    module: str
    """The module that is imported from, or that is imported."""
    name: str
    """The name taken out of it; empty where the module itself is imported."""
    line: int


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of both packages: dotted name -> syntax tree."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imports(tree: ast.Module) -> Iterator[Import]:
    """What a module imports of this project."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] in PACKAGES:
                    yield Import(alias.name, "", node.lineno)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name the whole path"
            if node.module and node.module.split(".")[0] in PACKAGES:
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    named = whole in modules()
                    yield Import(whole if named else node.module, "" if named else alias.name, node.lineno)


def room_of(module: str) -> str:
    """The room that a module stands in.

    Raises:
        AssertionError: it stands in none.
    """
    fitting = [room for room in HEIGHT if module == room or module.startswith(room + ".")]
    assert fitting, f"{module} stands in no room: name its room in FLOORS"
    return max(fitting, key=len)


def rooms_of_imports() -> Iterator[tuple[str, Import, str, str]]:
    """Each import between two rooms: module, what it imports, its own room, the other's."""
    for module, tree in modules().items():
        if module in DOORS:
            continue
        for found in imports(tree):
            own, other = room_of(module), room_of(found.module)
            if own != other:
                yield module, found, own, other


def test_each_room_imports_only_what_lies_below() -> None:
    up = [
        f"{module}:{found.line} imports {found.module} {found.name}: {other} is not below {own}"
        for module, found, own, other in rooms_of_imports()
        if HEIGHT[other] >= HEIGHT[own]
    ]
    assert not up, "\n".join(up)


def test_nothing_goes_in_by_the_front_door() -> None:
    through = [
        f"{module}:{found.line} imports {found.name} of {found.module}"
        for module, tree in modules().items()
        for found in imports(tree)
        if found.module in DOORS and module not in DOORS
    ]
    assert not through, "\n".join(through)


def test_modules_import_each_other_in_no_circle() -> None:
    below = {
        module: {found.module for found in imports(tree)} - DOORS - {module}
        for module, tree in modules().items()
        if module not in DOORS
    }
    while free := [module for module, needs in below.items() if not needs & below.keys()]:
        for module in free:
            del below[module]
    assert not below, f"these import each other, or stand on a circle: {sorted(below)}"


def test_no_room_takes_a_private_name_of_another() -> None:
    taken = []
    for module, tree in modules().items():
        whole = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PACKAGES:
                for alias in node.names:
                    if alias.name.startswith("_"):
                        taken.append(f"{module}:{node.lineno} imports {node.module}.{alias.name}")
                    if f"{node.module}.{alias.name}" in modules():
                        whole[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id in whole
            ):
                private = node.attr.startswith("_") and not node.attr.startswith("__")
                if private:
                    taken.append(f"{module}:{node.lineno} takes {whole[node.value.id]}.{node.attr}")
    assert not taken, "\n".join(taken)


def test_no_module_and_no_function_is_too_long() -> None:
    long = []
    for module, tree in modules().items():
        lines = max((getattr(node, "end_lineno", 0) or 0 for node in tree.body), default=0)
        if lines > LONGEST_MODULE:
            long.append(f"{module}: {lines} lines")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > LONGEST_FUNCTION:
                    long.append(f"{module}.{node.name}: {lines} lines")
    assert not long, "\n".join(long)


def test_the_protocol_of_the_release_is_known_in_one_file() -> None:
    knowing = [
        f"{module}:{node.lineno}"
        for module, tree in modules().items()
        if module.split(".")[0] == "lens_train" and module != "lens_train.released"
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and node.attr == "official")
        or (isinstance(node, ast.Compare) and "'official'" in ast.unparse(node))
    ]
    assert not knowing, "\n".join(knowing)


@pytest.mark.parametrize("room", ["lens_eval.base", "lens_eval", "lens_train"])
def test_a_light_room_loads_nothing_heavy(room: str) -> None:
    names = [name for name in modules() if name == room or (room not in DOORS and name.startswith(room))]
    code = f"import sys\nimport {', '.join(names)}\nprint(sorted({set(HEAVY)!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
