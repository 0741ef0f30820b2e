"""The lm_eval side of a run: find tasks, load a model once, evaluate one task into one folder."""

from __future__ import annotations

import contextlib
import gc
import gzip
import hashlib
import io
import json
import logging
import os
import re
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from lens_eval.base.errors import UserError, did_you_mean
from lens_eval.base.identity import environment
from lens_eval.base.paths import Paths
from lens_eval.base.progress import progress
from lens_eval.base.project import ROOT
from lens_eval.run.recipe import Backend
from lens_eval.upstream.responses import Keep, keeping


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
    limit: int | None = None,
    left_out: dict[str, str] | None = None,
) -> list[EvalTask]:
    """Load the tasks named, groups and tags opened and narrowed to `languages` (all if empty).

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
            for task in _load_entry(manager, name, languages, limit, missing):
                tasks.setdefault(task.name, task)
    if not tasks:
        raise UserError(f"no items for any task: {next(iter(missing.values()))}")
    return list(tasks.values())


def _load_entry(
    manager: Any, name: str, languages: Sequence[str], limit: int | None, left_out: dict[str, str]
) -> list[EvalTask]:
    from lens_eval.tasks.items import MissingItems, may_leave_out

    loaded, entry = [], manager.task_index[name]
    skip = (entry.cfg or {}).get("skip_missing", False) if entry.kind.name == "GROUP" else False
    for leaf in leaf_names(manager, name, languages):
        try:
            found = manager.load([leaf])["tasks"].values()
        except MissingItems as error:
            if not may_leave_out(_metadata(manager, leaf).get("family", ""), skip):
                raise
            left_out.setdefault(leaf, str(error).partition("; go online")[0])
            continue
        # A task named itself is wanted in whatever language it is.
        single = leaf == name and entry.kind.name in ("TASK", "PY_TASK")
        loaded += [
            _eval_task(task, name, limit)
            for task in found
            if single or _wanted(task.config.metadata, languages)
        ]
    if not loaded and not left_out:
        raise UserError(f"no task in {name} is in one of the languages {', '.join(languages)}")
    return loaded


def index_tasks(names: Sequence[str], include_path: Sequence[str]) -> Any:
    """lm_eval's task index; its own 14,000 tasks (seconds to read) only where one of them is asked for.

    Raises:
        UserError: a name that is in neither.
    """
    from lm_eval.tasks import TaskManager

    folders = task_folders(include_path)
    manager = TaskManager(include_path=folders, include_defaults=False)
    if all(name in manager.all_tasks for name in names):
        return manager
    manager = TaskManager(include_path=folders)
    for name in names:
        if name not in manager.all_tasks:
            ours = [t for t in manager.all_tasks if t.startswith("lens_")]
            hint = did_you_mean(name, manager.all_tasks) or f"; among others: {', '.join(ours[:12])}"
            raise UserError(f"lm_eval knows no task {name!r}{hint}")
    return manager


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


def _eval_task(task: Any, entry: str, limit: int | None) -> EvalTask:
    config = task.config.to_dict()
    # Where files lie decides no number, and the items are hashed below.
    metadata = {k: v for k, v in (config.get("metadata") or {}).items() if k not in ("config_source", "rows")}
    config["metadata"] = metadata
    documents = task.eval_docs
    count = len(documents) if limit is None else min(limit, len(documents))
    digest = hashlib.sha256()
    choices = 1
    for index in range(count):
        document = documents[index]
        digest.update(json.dumps(document, sort_keys=True, ensure_ascii=False, default=str).encode())
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
    }
    return EvalTask(task.task_name, entry, str(metadata.get("language", "")), count, choices, identity, task)


class Evaluator:
    """One model loaded once, evaluated on one task after the other."""

    def __init__(
        self,
        model_args: Mapping[str, Any],
        backend: Backend,
        device: str,
        label: str,
        seed: int,
        paths: Paths,
    ) -> None:
        """Load the model.

        Args:
            model_args: lm_eval's arguments that name the model (`pretrained`, `peft`).
            label: the name of the model in results files, in place of its path.
        """
        from lm_eval.api.registry import get_model

        self.backend = backend
        self.label = label
        self.seed = seed
        self.paths = paths
        self.device = _device(device) if backend.model == "hf" else None
        self.model_args = {**backend.args, **model_args}
        name = backend.model
        if name == "hf":
            name = "lens_steered" if "steering" in model_args else "lens_hf"
            import lens_eval.backends.steered
        if name == "vllm":
            name = "lens_vllm"
            # Its processes write to the terminal over the one live line of this program.
            os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
            with quiet():
                import lens_eval.backends.vllm  # noqa: F401
        backend_class = keeping(get_model(name))
        # So that `close`, looking for what the model leaves behind, need not look through all libraries too.
        gc.freeze()
        with quiet():
            self._lm = backend_class.create_from_arg_obj(
                dict(self.model_args),
                {"batch_size": backend.batch_size, "max_batch_size": None, "device": self.device},
            )

    def go_on_as(self, model_args: Mapping[str, Any], label: str, seed: int) -> bool:
        """Be another variant of the loaded backbone, with another adapter or steering; see `__init__`.

        Returns whether that can be done without loading it anew. Nothing is changed where it cannot.
        """
        wanted = {**self.backend.args, **model_args}
        adapter, steering = wanted.get("lora_local_path"), wanted.get("steering")
        if _without_variant(wanted) != _without_variant(self.model_args):
            return False
        if not hasattr(self._lm, "use") or not self._lm.fits(adapter, steering):
            return False
        with quiet():
            self._lm.use(adapter, steering)
        self.model_args, self.label, self.seed = wanted, label, seed
        return True

    def evaluate(
        self,
        task: EvalTask,
        folder: Path,
        limit: int | None,
        key: str,
        on_progress: Callable[[float], None] = lambda _: None,
    ) -> float:
        """Evaluate one task; `folder` then holds lm_eval's `results_*.json` and `samples_*.jsonl.gz`.

        The folder appears complete or not at all. Meanwhile generated responses are kept beside it, batch by
        batch, under `key`: what decides them. `on_progress` is told the share done.

        Returns the seconds spent in the model.
        """
        from lm_eval import simple_evaluate
        from lm_eval.loggers import EvaluationTracker

        aside = folder.with_name(folder.name + ".partial")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        tracker = EvaluationTracker(output_path=str(aside / "results.json"))
        keep = Keep(folder.with_name(folder.name + ".responses.partial"), key, self.seed)
        before = self._lm.seconds
        with quiet(on_progress), _no_work_twice(), self._lm.keeping(keep):
            results = simple_evaluate(
                model=self._lm,
                model_args=dict(self.model_args),
                tasks=[task.task],
                task_manager=_NoManager(),
                num_fewshot=self.backend.num_fewshot,
                batch_size=self.backend.batch_size,
                device=self.device,
                limit=limit,
                evaluation_tracker=tracker,
                system_instruction=self.backend.system_instruction,
                apply_chat_template=self._uses_template(),
                gen_kwargs=dict(self.backend.gen_kwargs) or None,
                random_seed=self.seed,
                numpy_random_seed=self.seed,
                torch_random_seed=self.seed,
            )
            assert results is not None
            self._save(results, tracker, task, aside)
        old = folder.with_name(folder.name + ".old.partial")
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        aside.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
        keep.file.unlink(missing_ok=True)
        return self._lm.seconds - before

    def _save(self, results: Any, tracker: Any, task: EvalTask, folder: Path) -> None:
        samples = results.pop("samples")[task.name]
        results["config"]["model"] = self.backend.model
        config = tracker.general_config_tracker
        config.model_source = self.backend.model
        config.model_name = self.label
        config.model_name_sanitized = re.sub(r"[^\w.-]", "_", self.label)
        tracker.save_results_aggregated(results=self.paths.clean(results), samples={task.name: samples})
        tracker.save_results_samples(task_name=task.name, samples=samples)
        _check_and_pack(folder, task, len(samples))

    @property
    def model(self) -> Any:
        """lm_eval's model."""
        return self._lm

    def _uses_template(self) -> bool:
        if self.backend.apply_chat_template != "auto":
            return bool(self.backend.apply_chat_template)
        return bool(getattr(getattr(self._lm, "tokenizer", None), "chat_template", None))

    def close(self) -> None:
        """Give the model's memory back."""
        import torch

        # vLLM's processes end here and not at exit, where they can abort this one.
        getattr(self._lm, "close", lambda: None)()
        del self._lm
        gc.collect()
        gc.unfreeze()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _without_variant(model_args: Mapping[str, Any]) -> dict[str, Any]:
    """What names the backbone and how it is loaded."""
    own = ("lora_local_path", "max_lora_rank", "steering")
    return {key: value for key, value in model_args.items() if key not in own}


def _device(device: str) -> str:
    from lens_train.devices import resolve_device

    return str(resolve_device(device))


class _NoManager:
    """Tasks are handed over loaded; an index of lm_eval's 14,000 is not needed for that."""

    task_index: Mapping[str, Any] = {}

    def load(self, tasks: list[Any]) -> dict[str, Any]:
        return {"tasks": {task.task_name: task for task in tasks}, "groups": {}, "group_map": {}}


def _check_and_pack(folder: Path, task: EvalTask, count: int) -> None:
    """lm_eval logs a failed write and goes on: make sure that all is there; then compress the samples.

    Raises:
        OSError: a file is missing or short (a full disk, as a rule).
    """
    results = list(folder.glob("results_*.json"))
    samples = list(folder.glob("samples_*.jsonl"))
    if len(results) != 1 or len(samples) != 1:
        raise OSError(f"lm_eval could not save the results of {task.name} (is the disk full?)")
    json.loads(results[0].read_text(encoding="utf-8"))
    raw = samples[0].read_bytes()
    saved = raw.count(b"\n")
    if saved != count:
        raise OSError(f"lm_eval saved {saved} samples of {count} of {task.name} (is the disk full?)")
    # Neither time nor name in the header: the same samples are the same file on every run.
    packed = gzip.compress(raw, mtime=0)
    samples[0].with_name(samples[0].name + ".gz").write_bytes(packed)
    samples[0].unlink()


@contextlib.contextmanager
def _no_work_twice() -> Iterator[None]:
    """Spare lm_eval what it would do over and over with the same result.

    It asks torch and git about the machine after every evaluation (three seconds, CPU flags and all): the run
    notes its environment once, and results files get that in one line. And it compiles the templates of a
    task anew for every item, which takes longer than all scoring.
    """
    import lm_eval.evaluator
    import lm_eval.utils
    import torch.utils.collect_env as collect_env

    known = _environment()
    templates = lm_eval.utils.env
    compiled = lru_cache(maxsize=256)(templates.from_string)
    describe, commit = collect_env.get_pretty_env_info, lm_eval.evaluator.get_git_commit_hash
    collect_env.get_pretty_env_info = lambda: json.dumps(known)
    lm_eval.evaluator.get_git_commit_hash = lambda: known["commit"]
    templates.from_string = compiled
    try:
        yield
    finally:
        collect_env.get_pretty_env_info = describe
        lm_eval.evaluator.get_git_commit_hash = commit
        del templates.from_string  # the class's own again


@lru_cache(maxsize=1)
def _environment() -> dict[str, Any]:
    return environment()


class _Relay(io.TextIOBase):
    """Stands in for standard error: keeps the last lines, and reads the share done from lm_eval's bars."""

    _BAR = re.compile(r"requests:.*?(\d+)/(\d+) \[")

    def __init__(self, on_progress: Callable[[float], None], below: Any) -> None:
        self._on_progress = on_progress
        self.below = below  # where `lens_eval.base.progress` writes its lines
        self.tail = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.tail = (self.tail + text)[-4000:]
        for done, total in self._BAR.findall(text):
            self._on_progress(int(done) / max(int(total), 1))
        return len(text)


@contextlib.contextmanager
def only_own_bars() -> Iterator[None]:
    """For training: this project's bars on a terminal, and nothing of the libraries' anywhere."""
    if not sys.stderr.isatty():
        with quiet():
            yield
        return
    import transformers.utils.logging  # noqa: F401

    _bars(False)
    yield


@contextlib.contextmanager
def quiet(on_progress: Callable[[float], None] = lambda _: None) -> Iterator[None]:
    """Keep lm_eval, transformers and datasets from writing over the one live line of this program."""
    relay = _Relay(on_progress, sys.stderr)
    loggers = [logging.getLogger(name) for name in ("lm_eval", "transformers", "datasets", "httpx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(relay), contextlib.redirect_stdout(relay):
            warnings.simplefilter("ignore")
            _bars(False)
            yield
    except Exception as error:
        if relay.tail.strip() and hasattr(error, "add_note"):
            error.add_note("last output before the error:\n" + relay.tail[-2000:])
        raise
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _bars(shown: bool) -> None:
    """transformers and datasets hold their own handles of standard error."""
    transformers_logging = sys.modules.get("transformers.utils.logging")
    if transformers_logging is not None:
        (transformers_logging.enable_progress_bar if shown else transformers_logging.disable_progress_bar)()
    datasets = sys.modules.get("datasets")
    if datasets is not None:
        (datasets.enable_progress_bars if shown else datasets.disable_progress_bars)()


def stopwatch() -> Callable[[], float]:
    """Seconds since the call."""
    start = time.perf_counter()
    return lambda: time.perf_counter() - start
