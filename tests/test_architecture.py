"""docs/architecture.md is true: its names exist, its map is that of the rooms, its walks are calls."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import pytest
from test_rooms import DOORS, HEIGHT, PACKAGES, ROOT, modules, room_of

from lens_train.methods import METHODS

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
MAP = PAGE.partition("<!-- map")[2].partition("<!-- end of map -->")[0]
ROWS = re.findall(r"^\| +(\d+) \| `([\w.]+)` \| (.+) \|$", MAP, flags=re.MULTILINE)
WALKS = re.findall(r"^<!-- walk -->\n```\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
TITLES = re.findall(r"^### (.+)$", PAGE, flags=re.MULTILINE)
BY_NAME, BY_LM_EVAL = "(by name)", "(lm_eval)"


@dataclass(frozen=True)
class Step:
    """One line of a walk."""

    floor: int
    depth: int
    name: str
    words: str


def steps(walk: str) -> list[Step]:
    found = []
    for line in walk.splitlines():
        match = re.fullmatch(r" ?(\d+) ( *)([\w.]+) *(.*)", line)
        assert match, line
        found.append(Step(int(match[1]), len(match[2]), match[3], match[4]))
    return found


def pairs(walk: str) -> Iterator[tuple[Step, Step]]:
    """Each step with the line that calls it."""
    above: list[Step] = []
    for step in steps(walk):
        above = [earlier for earlier in above if earlier.depth < step.depth]
        if above:
            yield above[-1], step
        above.append(step)


def module_of(name: str) -> str:
    """The longest beginning of a dotted name that is a module."""
    fitting = [module for module in modules() if name == module or name.startswith(module + ".")]
    assert fitting, f"{name} is in no module"
    return max(fitting, key=len)


@cache
def defined(module: str) -> frozenset[str]:
    """Functions, classes, methods, fields and constants of a module, by the names under which it has them."""

    def inside(body: list[ast.stmt], prefix: str) -> Iterator[str]:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield prefix + node.name
                if isinstance(node, ast.ClassDef):
                    yield from inside(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                yield prefix + node.target.id
            elif isinstance(node, ast.Assign):
                yield from (prefix + target.id for target in node.targets if isinstance(target, ast.Name))

    return frozenset(inside(modules()[module].body, ""))


@cache
def used(module: str) -> frozenset[str]:
    """Every name that the code of a module reads, alone or behind a dot."""
    found = set()
    for node in ast.walk(modules()[module]):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
    return frozenset(found)


def exists(name: str) -> bool:
    if name in modules():
        return True
    module = module_of(name)
    return name[len(module) + 1 :] in defined(module)


def test_control_a_name_that_is_not_there_would_be_seen() -> None:
    assert exists("lens_eval.language.off_target.Judge.judge")
    assert not exists("lens_eval.language.off_target.Judge.guess")
    assert not exists("lens_eval.language.guesses")


def test_every_dotted_name_exists() -> None:
    names = {
        name for name in re.findall(r"\blens_(?:eval|train)(?:\.\w+)+", PAGE) if not name.endswith(".py")
    }
    assert len(names) > 60
    assert [name for name in sorted(names) if not exists(name)] == []


def test_every_file_exists() -> None:
    named = {
        file
        for file in re.findall(r"`([\w./]+)`", PAGE)
        if ("/" in file or file.endswith((".toml", ".md"))) and "NAME" not in file
    }
    assert len(named) > 40
    assert [file for file in sorted(named) if not (ROOT / file).exists()] == []


def test_constants_stand_in_the_file_named_beside_them() -> None:
    """In the lists: what is in capitals, or a private name, is in a file that the same item names."""
    lists = PAGE.partition("## Where to put a new thing")[2]
    items = re.split(r"^(?:- |\*\*)", lists, flags=re.MULTILINE)
    seen = 0
    for item in items:
        files = [ROOT / file for file in re.findall(r"`([\w/]+\.py)`", item) if (ROOT / file).is_file()]
        texts = [file.read_text(encoding="utf-8") for file in files]
        for constant in re.findall(r"`(_?[A-Z][A-Z_]+|_[a-z]+)`", item):
            if constant in ("NAME", "SETTINGS", "WORDS"):
                continue
            seen += 1
            wanted = r"^(?:def )?" + constant + r"\b"
            # A constant may be said without its file where the bullet before has named it.
            assert any(re.search(wanted, text, re.MULTILINE) for text in texts or [_everything()]), constant
    assert seen >= 15


@cache
def _everything() -> str:
    return "\n".join(
        file.read_text(encoding="utf-8") for package in PACKAGES for file in (ROOT / package).rglob("*.py")
    )


def test_the_map_has_every_room_on_its_floor() -> None:
    assert {room: int(floor) for floor, room, _ in ROWS} == HEIGHT
    assert [int(floor) for floor, _, _ in ROWS] == sorted(HEIGHT.values(), reverse=True)


@pytest.mark.parametrize("room", HEIGHT)
def test_the_map_names_every_module_of_a_room(room: str) -> None:
    own = {name for name in modules() if name not in DOORS and name != room and room_of(name) == room}
    words = next(words for _, name, words in ROWS if name == room)
    named = {f"{room}.{word}" for word in re.findall(r"`([a-z_]+(?:\.[a-z_]+)*)`", words)} - {f"{room}.lens"}
    assert named == own


def test_there_are_two_walks() -> None:
    assert TITLES == ["A prompt from file to loss", "A response from sample to table"]
    assert [len(steps(walk)) > 20 for walk in WALKS] == [True, True]


@pytest.mark.parametrize("walk", WALKS, ids=TITLES)
def test_every_step_stands_on_its_floor(walk: str) -> None:
    for step in steps(walk):
        assert step.floor == HEIGHT[room_of(module_of(step.name))], step.name


@pytest.mark.parametrize("walk", WALKS, ids=TITLES)
def test_no_call_goes_up_but_that_of_a_method_by_its_name(walk: str) -> None:
    for caller, step in pairs(walk):
        if step.words.startswith(BY_NAME):
            module, _, function = step.name.rpartition(".")
            assert f"{module}:{function}" in {method.function for method in METHODS.values()}
            assert caller.name.startswith("lens_train.methods.")
        else:
            assert step.floor <= caller.floor, f"{caller.name} -> {step.name}"


@pytest.mark.parametrize("walk", WALKS, ids=TITLES)
def test_every_step_is_called_where_the_walk_says(walk: str) -> None:
    texts = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "tasks").rglob("_*_yaml"))
    for caller, step in pairs(walk):
        if step.words.startswith(BY_NAME):
            continue
        if step.words.startswith(BY_LM_EVAL):
            source = (ROOT / (module_of(step.name).replace(".", "/") + ".py")).read_text(encoding="utf-8")
            own = step.name.rpartition(".")[2]
            registered = re.search(rf"^@register_model\(.*\)\nclass {own}\b", source, re.MULTILINE)
            assert registered or f"'{step.name}'" in texts, step.name
            continue
        assert step.name.rpartition(".")[2] in used(module_of(caller.name)), f"{caller.name} -> {step.name}"


def test_the_test_of_calls_sees_a_call_that_is_not_there() -> None:
    with pytest.raises(AssertionError, match="align_loss"):
        test_every_step_is_called_where_the_walk_says(
            "12 lens_eval.commands.train.train\n 5   lens_train.losses.align_loss\n"
        )


def test_the_test_of_floors_sees_a_call_that_goes_up() -> None:
    with pytest.raises(AssertionError, match="probe_folder"):
        test_no_call_goes_up_but_that_of_a_method_by_its_name(
            " 5 lens_train.probing.probe\n 7   lens_train.lens.probe_folder\n"
        )
