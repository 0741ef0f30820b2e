"""The tasks of lm_eval that a run names, found and loaded with their items."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lens_eval.base.errors import UserError, did_you_mean
from lens_eval.base.files import plain_name
from lens_eval.base.progress import progress
from lens_eval.base.project import ROOT
from lens_eval.base.reached import OWN, helpers, source_of
from lens_eval.upstream.evaluation import quiet


@dataclass(frozen=True)
class EvalTask:
    """One lm_eval task with its data loaded."""

    name: str
    entry: str
    """The name in the recipe that brought it in: itself, or a group."""
    language: str
    items: int
    requests: int
    """Model calls per item: answer options of a multiple choice, otherwise 1."""
    identity: Mapping[str, Any]
    """Version, settings and hash of the items: what decides its numbers besides the model."""
    task: Any = field(repr=False, compare=False)


def task_folders(include_path: Sequence[str] = ()) -> list[str]:
    """Folders with task files: this project's own, then those of the recipe (later ones win).

    Raises:
        UserError: a folder that does not exist.
    """
    for folder in include_path:
        if not Path(folder).is_dir():
            raise UserError(f"include_path: no folder {folder}")
    return [str(own_tasks()), *include_path]


def own_tasks() -> Path:
    """The task files in this checkout, or those that the installed package put under lm_eval's own."""
    checkout = ROOT / "tasks"
    if checkout.is_dir():
        return checkout
    from importlib.util import find_spec

    spec = find_spec("lm_eval")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "tasks" / "lens"


def load_tasks(
    names: Sequence[str],
    languages: Sequence[str],
    include_path: Sequence[str] = (),
    limit: float | None = None,
    left_out: dict[str, str] | None = None,
    shots: int | None = None,
    written: bool = False,
) -> list[EvalTask]:
    """Load the tasks named, groups and tags opened and narrowed to `languages` (all if empty).

    With `written` the model only writes: options are chosen by writing their letter, not by likelihood.

    `shots` is the number of examples in a prompt where the run says one; None = what each task says.

    What the user's own data folder lacks is left out where the group allows it (`skip_missing`), and noted
    in `left_out` by task with the reason.

    Raises:
        UserError: an unknown task, or no data for it, or for any of them.
    """
    missing: dict[str, str] = {} if left_out is None else left_out
    with quiet(), progress(label="reading the tasks"):
        manager = index_tasks(names, include_path)
        tasks: dict[str, EvalTask] = {}
        for name in names:
            for task in _load_entry(manager, name, languages, limit, missing, shots, written):
                tasks.setdefault(task.name, task)
    if not tasks:
        raise UserError(f"no items for any task: {next(iter(missing.values()))}")
    return list(tasks.values())


def _load_entry(
    manager: Any,
    name: str,
    languages: Sequence[str],
    limit: float | None,
    left_out: dict[str, str],
    shots: int | None,
    written: bool,
) -> list[EvalTask]:
    from lens_eval.tasks.finding import MissingItems
    from lens_eval.tasks.items import may_leave_out

    loaded, entry = [], manager.task_index[name]
    skip = (entry.cfg or {}).get("skip_missing", False) if entry.kind.name == "GROUP" else False
    for leaf in leaf_names(manager, name, languages):
        try:
            with _in_words(f"the task {leaf}"):
                found = manager.load([leaf])["tasks"].values()
        except MissingItems as error:
            if not may_leave_out(_metadata(manager, leaf).get("family", ""), skip):
                raise
            left_out.setdefault(leaf, str(error).partition("; go online")[0])
            continue
        # A task named itself is wanted in whatever language it is.
        single = leaf == name and entry.kind.name in ("TASK", "PY_TASK")
        loaded += [
            _eval_task(_as_written(task) if written else task, name, limit, shots)
            for task in found
            if single or _wanted(task.config.metadata, languages)
        ]
    if not loaded and not left_out:
        raise UserError(f"no task in {name} is in one of the languages {', '.join(languages)}")
    return loaded


def _as_written(task: Any) -> Any:
    """The task for a model that gives no likelihoods.

    Raises:
        UserError: it compares those of texts.
    """
    from lens_eval.tasks.lens_task import LensTask, WrittenLetter

    if task.OUTPUT_TYPE == "generate_until":
        return task
    if isinstance(task, LensTask) and task.OUTPUT_TYPE == "multiple_choice":
        options = [str(option).strip() for option in task.doc_to_choice(task.eval_docs[0])]
        if all(len(option) == 1 for option in options):
            return WrittenLetter.of(task)
    raise UserError(
        f"the task {task.task_name} compares likelihoods, which a server of chat completions does not give; "
        "take a task that generates, or one of this project that is answered by a letter"
    )


def index_tasks(names: Sequence[str], include_path: Sequence[str]) -> Any:
    """lm_eval's task index; its own 14,000 tasks (seconds to read) only where one of them is asked for.

    Raises:
        UserError: a name that is in neither.
    """
    from lm_eval.tasks import TaskManager

    folders = task_folders(include_path)
    with _in_words("the task files in " + ", ".join(folders)):
        manager = TaskManager(include_path=folders, include_defaults=False)
    if all(name in manager.all_tasks for name in names):
        return manager
    unknown = [name for name in names if name not in manager.all_tasks and not _is_written(name)]
    if not unknown:
        with _in_words("its task files"):
            manager = TaskManager(include_path=folders)
        unknown = [name for name in names if name not in manager.all_tasks]
    for name in unknown:
        ours = [t for t in manager.all_tasks if t.startswith("lens_")]
        hint = did_you_mean(name, manager.all_tasks) or f"; among others: {', '.join(ours[:12])}"
        raise UserError(f"lm_eval knows no task {name!r}{hint}")
    return manager


@contextmanager
def _in_words(what: str) -> Iterator[None]:
    """Say in one line why lm_eval cannot read a task: its files, and code they name, can fail in any way."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        words = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        raise UserError(f"lm_eval cannot load {what}: {type(error).__name__}: {words[:300]}") from error


def _is_written(name: str) -> bool:
    """Whether a name is anywhere in lm_eval's own task files, which take long to parse."""
    from importlib.util import find_spec

    spec = find_spec("lm_eval")
    assert spec is not None
    assert spec.origin is not None
    wanted = name.encode()
    files = (Path(spec.origin).parent / "tasks").rglob("*")
    return any(wanted in file.read_bytes() for file in files if file.suffix in (".yaml", ".py", ".yml"))


def leaf_names(manager: Any, name: str, languages: Sequence[str]) -> list[str]:
    """Names of the tasks under one name of `index_tasks`, in the languages wanted; no data is read.

    A group whose members carry settings of the group is one name: it can only be loaded whole.

    Raises:
        UserError: none of them is in one of `languages`.
    """
    names = _leaf_names(manager, name)
    if names is None or names == [name]:
        return [name]
    wanted = [leaf for leaf in names if _wanted(_metadata(manager, leaf), languages)]
    if not wanted:
        raise UserError(f"no task in {name} is in one of the languages {', '.join(languages)}")
    return wanted


def _metadata(manager: Any, name: str) -> Mapping[str, Any]:
    """What the index shows of a task's metadata."""
    found = (manager.task_index[name].cfg or {}).get("metadata")
    return found if isinstance(found, Mapping) else {}


def _leaf_names(manager: Any, name: str) -> list[str] | None:
    """Task names under a group; None where its members carry settings of the group."""
    entry = manager.task_index[name]
    if entry.kind.name in ("TASK", "PY_TASK"):
        return [name]
    if entry.kind.name == "TAG":
        return sorted(entry.tags)
    config = entry.cfg or {}
    plain = {"group", "group_alias", "task", "aggregate_metric_list", "metadata", "tag", "skip_missing"}
    members = config.get("task")
    if not isinstance(members, list) or set(config) - plain:
        return None
    found: list[str] = []
    for member in members:
        inner = (
            _leaf_names(manager, member) if isinstance(member, str) and member in manager.task_index else None
        )
        if inner is None:
            return None
        found += inner
    return list(dict.fromkeys(found))


def _wanted(metadata: Any, languages: Sequence[str]) -> bool:
    language = metadata.get("language") if isinstance(metadata, Mapping) else None
    return not languages or language is None or language in languages


def _eval_task(task: Any, entry: str, limit: float | None, shots: int | None) -> EvalTask:
    config = task.config.to_dict()
    # Where files lie decides no number, and the items are hashed below.
    metadata = {k: v for k, v in (config.get("metadata") or {}).items() if k not in ("config_source", "rows")}
    config["metadata"] = metadata
    documents = task.eval_docs
    count = count_of(len(documents), limit)
    digest = hashlib.sha256()
    choices = 1
    for index in range(count):
        document = documents[index]
        digest.update(_as_bytes(document))
        if index == 0 and task.OUTPUT_TYPE == "multiple_choice":
            choices = len(task.doc_to_choice(document))
    # A function without source is printed with its address, which differs from run to run.
    settings = re.sub(
        r" at 0x[0-9a-f]+", "", json.dumps(config, sort_keys=True, ensure_ascii=False, default=str)
    )
    identity = {
        "task": task.task_name,
        "version": str(task.VERSION if task.VERSION is not None else metadata.get("version")),
        "settings": hashlib.sha256(settings.encode()).hexdigest(),
        "items": digest.hexdigest(),
        "examples": _examples_hash(task, task.config.num_fewshot if shots is None else shots),
        "functions": source_of(_function_files(task)),
    }
    plain_name(str(task.task_name), "a task")
    return EvalTask(task.task_name, entry, str(metadata.get("language", "")), count, choices, identity, task)


def count_of(items: int, limit: float | None) -> int:
    """How many of a task's items are evaluated; lm_eval takes a limit below 1 for a share of them."""
    if limit is None:
        return items
    return min(items, math.ceil(items * limit) if limit < 1 else int(limit))


def _as_bytes(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True, ensure_ascii=False, default=str).encode()


def _examples_hash(task: Any, shots: int | None) -> str:
    """Hash of the items that examples in prompts are taken from; empty where there are none in them."""
    if not shots:
        return ""
    digest = hashlib.sha256()
    for document in task.fewshot_docs() or ():
        digest.update(_as_bytes(document))
    return digest.hexdigest()


def _function_files(task: Any) -> dict[str, Path]:
    """The files that a task's own functions and class stand in, and what these import: path -> file.

    lm_eval's hash of a task holds the functions that its file names, and none of those that they call.
    """
    found: dict[str, Path] = {}
    for each in [*type(task).__mro__, *_functions(vars(task.config))]:
        module = str(getattr(each, "__module__", ""))
        if module.partition(".")[0] in OWN:
            continue
        try:
            file = inspect.getsourcefile(each)
        except TypeError:  # built in
            continue
        if file is not None and Path(file) not in found.values():
            found |= helpers(Path(file))
    return found


def _functions(value: Any) -> Iterator[Any]:
    """Functions anywhere in the settings of a task."""
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _functions(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _functions(inner)
    elif isinstance(value, functools.partial):
        yield from _functions([value.func, value.args, value.keywords])
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from _functions(vars(value))
    elif inspect.isroutine(value) or isinstance(value, type):
        yield inspect.unwrap(value)
