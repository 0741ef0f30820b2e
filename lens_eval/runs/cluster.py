"""`lens reproduce --ray ADDRESS`: the cells of a run as Ray tasks, on as many machines as there are.

Training a row is one task. The cells that one entry of the recipe brings to a row are another: they share
one loaded model, while different entries and rows can be at work side by side. Each task asks for its GPUs.

All machines must see the output folder under the same path: trained models of many gigabytes pass from the
node that trained to those that evaluate, and a task whose node was lost goes on elsewhere behind the last
checkpoint or batch, only by way of it. They must also have the same versions and code. Both are checked
before work starts, and again by each task, since nodes can join later.

The program that was started stays the only writer of `run.json` and the tables; tasks write whole cells.
Tasks of a lost node run again; one that ends by an exception does not: it leaves a hole with its reason.
Needs the extra `ray`; nothing here imports it before it is asked for.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lens_eval.base.errors import UserError
from lens_eval.base.files import make_folder, write_text
from lens_eval.base.identity import source_hash, versions
from lens_eval.runs.evaluation import stopwatch
from lens_eval.runs.recipe import Recipe, Row
from lens_eval.runs.task_index import EvalTask, load_tasks
from lens_eval.runs.work import Cell, Run, by_entry
from lens_eval.runs.workplace import Result, Workplace

ATTEMPTS = 4
"""Times a task is started, all in all, when its node or process is lost."""
SHARED = ".shared.partial"
"""File in the output folder by which another machine knows that it sees the same one."""
CLAIMS = ".claims.partial"
_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
_FORWARDED = ("LENS_DATA_DIR", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")


@dataclass(frozen=True)
class Same:
    """What must be the same on every machine."""

    token: str
    versions: Mapping[str, str]
    sources: tuple[str, str]
    environment: Mapping[str, str]

    @staticmethod
    def here(folder: Path) -> Same:
        """This machine's; leaves a token in the output folder for the others to find."""
        token = secrets.token_hex(16)
        write_text(folder / SHARED, token)
        forwarded = {name: os.environ[name] for name in _FORWARDED if name in os.environ}
        sources = source_hash("lens_eval"), source_hash("lens_train")
        return Same(token, versions(), sources, forwarded)

    def enter(self, folder: Path) -> None:
        """Take over the settings of the program that was started, and check that this machine is fit.

        Raises:
            UserError: another folder, other versions or other code than there.
        """
        os.environ.update(self.environment)
        node = platform.node()
        with contextlib.suppress(FileNotFoundError):
            if (folder / SHARED).read_text(encoding="utf-8") == self.token:
                self._check_code(node)
                return
        raise UserError(
            f"node {node} does not see the output folder {folder}; on several machines the output must be "
            "in a folder that all of them have under the same path"
        )

    def _check_code(self, node: str) -> None:
        own = versions()
        names = sorted(n for n in {*own, *self.versions} if own.get(n) != self.versions.get(n))
        if names:
            listed = ", ".join(
                f"{n} {own.get(n, 'missing')} (here {self.versions.get(n, '-')})" for n in names
            )
            raise UserError(f"node {node} has other versions: {listed}; install the same on every machine")
        if (source_hash("lens_eval"), source_hash("lens_train")) != self.sources:
            raise UserError(f"node {node} has another state of lens_eval or lens_train; install the same one")


@contextlib.contextmanager
def connected(address: str, recipe: Recipe, device: str, cpus: float) -> Iterator[Cluster]:
    """Connect to a Ray cluster; `local` starts one of this machine, `auto` finds the one that runs here.

    Raises:
        UserError: Ray is not installed, no cluster is there, or none of its nodes can run a task.
    """
    if address == "local":  # read by Ray when it is imported: its address is the loopback's
        os.environ[_LOOPBACK] = "0"
    try:
        import ray
    except ModuleNotFoundError:
        raise UserError("--ray needs Ray: pip install 'lens-multilingual[ray]'") from None
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options: dict[str, Any] = {}
    if address == "local":  # a cluster of this machine alone listens to nobody else
        options = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"no Ray cluster at {address} ({reason}); "
            "`ray start --head` starts one, and `--ray local` makes one of this machine alone"
        ) from error
    try:
        yield Cluster(recipe, device, cpus)
    finally:
        ray.shutdown()


class Cluster:
    """A Ray cluster that works through a run."""

    def __init__(self, recipe: Recipe, device: str, cpus: float) -> None:
        """Choose the device and check that some node can run a task.

        Args:
            device: `auto` is a GPU where some node has one.

        Raises:
            UserError: no node has what a task asks for.
        """
        if device == "auto":
            device = "cuda" if any(node["Resources"].get("GPU") for node in _nodes()) else "cpu"
        # Ray shows a task its own GPUs alone, the first of which is number 0.
        self.device = device.partition(":")[0]
        self.needs = {"CPU": cpus, "GPU": float(_gpus_per_model(recipe) if self.device == "cuda" else 0)}
        if not self.fits():
            sizes = [node["Resources"] for node in _nodes()]
            there = "; ".join(f"{size.get('CPU', 0):g} CPU and {size.get('GPU', 0):g} GPU" for size in sizes)
            raise UserError(
                f"no node of the Ray cluster has {self.wanted()}, which one task asks for; it has {there}"
            )

    def wanted(self) -> str:
        """What one task asks of its node, in words."""
        return " and ".join(f"{count:g} {name}" for name, count in self.needs.items() if count)

    def fits(self) -> list[Mapping[str, Any]]:
        """The nodes that can run a task (when nothing else is running there)."""
        return [n for n in _nodes() if all(n["Resources"].get(k, 0) >= v for k, v in self.needs.items())]

    def check(self, folder: Path) -> None:
        """Make sure that every node that can run a task sees the output folder and has the same code.

        Raises:
            UserError: one line per node that does not.
        """
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self.same = Same.here(folder.resolve())
        task = ray.remote(num_cpus=0, max_retries=0)(_visit)
        asked = []
        for node in self.fits():
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            asked.append(task.options(scheduling_strategy=there).remote(folder.resolve(), self.same))
        try:
            refused = sorted({line for line in ray.get(asked) if line})
        except ray.exceptions.RayError as error:
            raise UserError(f"a node of the Ray cluster cannot run tasks of lens: {error}") from error
        if refused:
            raise UserError("\n  ".join(refused))

    def do(self, run: Run) -> None:
        """Work through the run: as `Run.do`, many tasks at a time."""
        _Schedule(self, run).do()


def _nodes() -> list[Mapping[str, Any]]:
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def _gpus_per_model(recipe: Recipe) -> int:
    """GPUs of one model.

    Raises:
        UserError: data parallelism within vLLM, which starts and ends a Ray of its own.
    """
    if recipe.backend.model != "vllm":
        return 1
    arguments = recipe.backend.args
    if int(arguments.get("data_parallel_size", 1)) > 1:
        raise UserError(
            "backend.args: data_parallel_size and --ray exclude each other: Ray puts as many models side by "
            "side as there are GPUs; leave data_parallel_size out"
        )
    return int(arguments.get("tensor_parallel_size", 1)) * int(arguments.get("pipeline_parallel_size", 1))


# --- in the process that was started ------------------------------------------------------------


@dataclass
class _Task:
    """A task under way: the training of a row, or the evaluation of some of its cells."""

    row: Row
    cells: list[Cell]
    weights: str = ""


class _Schedule:
    """The tasks under way, and what is done when one of them ends."""

    def __init__(self, cluster: Cluster, run: Run) -> None:
        import ray

        self.cluster = cluster
        self.run = run
        # An exception comes back as a result; what Ray itself starts again is a lost process or node.
        remote = ray.remote(
            num_cpus=cluster.needs["CPU"],
            num_gpus=cluster.needs["GPU"],
            max_retries=ATTEMPTS - 1,
            retry_exceptions=False,
        )
        self.train = remote(_train)
        self.evaluate = remote(_evaluate)
        self.tasks: dict[Any, _Task] = {}
        self.waiting = False

    def do(self) -> None:
        """Start what can be started, until nothing is left."""
        import ray

        for row in self.run.rows:
            if self.run.to_do(row):
                self._start(row)
        while self.tasks:
            ready, _ = ray.wait(list(self.tasks), timeout=1.0)
            for reference in ready:
                self._end(self.tasks.pop(reference), reference)
            self._look()
        shutil.rmtree(self.run.folder / CLAIMS, ignore_errors=True)
        (self.run.folder / SHARED).unlink(missing_ok=True)

    def _start(self, row: Row) -> None:
        """Train the row first where it is trained (or find that it is)."""
        model = self.run.model_folder(row)
        if model is None:
            self._start_cells(row, "")
            return
        task = self.train.options(name=f"train {row.name}")
        self.tasks[task.remote(self.run.place, self.cluster.same, row, model)] = _Task(row, [])

    def _start_cells(self, row: Row, weights: str) -> None:
        model = self.run.model_folder(row)
        for entry, cells in by_entry(self.run.to_do(row, weights)).items():
            wanted = tuple(Wanted(cell.task.name, cell.key, cell.task.identity) for cell in cells)
            task = self.evaluate.options(name=f"evaluate {row.name} on {entry}")
            reference = task.remote(self.run.place, self.cluster.same, row, model, weights, entry, wanted)
            self.tasks[reference] = _Task(row, cells, weights)

    def _end(self, task: _Task, reference: Any) -> None:
        import ray

        try:
            found = ray.get(reference)
        except ray.exceptions.RayError as error:
            lost = RuntimeError(f"lost {ATTEMPTS} times with its process or node ({type(error).__name__})")
            found = self.run.place.failure("", lost)
        if isinstance(found, Result):  # the task as a whole failed
            self.run.row_failed(task.row, found, task.cells or self.run.cells[task.row.name])
        elif isinstance(found, Trained):
            self.run.seconds["train"] += found.seconds
            if found.new:
                self.run.trained(task.row)
            self._start_cells(task.row, found.weights)
        else:
            self.run.seconds["load"] += found.load_seconds
            for cell, result in zip(task.cells, found.results, strict=True):
                if cell.state != "finished":
                    self.run.note(cell, result)
            self.run.report(task.row, task.cells[0].task.entry, task.cells)

    def _look(self) -> None:
        """Note the cells that tasks under way have finished, so that `run.json` is true at any moment."""
        for task in self.tasks.values():
            for cell in task.cells:
                result = self.run.place.kept(task.row, cell.task.name, cell.key, task.weights)
                if cell.state != "finished" and result is not None:
                    self.run.note(cell, result)
        waiting = bool(self.tasks) and not self.cluster.fits()
        if waiting and not self.waiting:
            self.run.say(f"no node is left with {self.cluster.wanted()}; waiting for one to join the cluster")
        self.waiting = waiting


# --- on the nodes -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wanted:
    """One cell as a task is told of it."""

    task: str
    key: str
    identity: Mapping[str, Any]
    """Of the items and settings, as the program that was started sees them."""


@dataclass(frozen=True)
class Trained:
    """What a training task returns."""

    new: bool
    seconds: float
    weights: str


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation task returns: one result per cell wanted."""

    load_seconds: float
    results: tuple[Result, ...]


def _visit(folder: Path, same: Same) -> str:
    """Why this node is not fit; an empty string where it is."""
    try:
        same.enter(folder)
    except UserError as error:
        return str(error)
    return ""


def _train(place: Workplace, same: Same, row: Row, model: Path) -> Trained | Result:
    seconds = stopwatch()
    try:
        same.enter(place.folder)
        with _claim(place.folder, model.name):
            new = place.train(row, model)
            return Trained(new, seconds(), place.weights(model))
    except Exception as error:
        return place.failure("", error)


def _evaluate(
    place: Workplace,
    same: Same,
    row: Row,
    model: Path | None,
    weights: str,
    entry: str,
    wanted: Sequence[Wanted],
) -> Evaluated | Result:
    try:
        same.enter(place.folder)
        tasks = _tasks(place.recipe, entry, wanted)
        with _claim(place.folder, f"{row.name}-{entry}"):
            # What an attempt on a lost node finished is there already.
            found = {cell.task: place.kept(row, cell.task, cell.key, weights) for cell in wanted}
            seconds = stopwatch()
            evaluator = place.evaluator(row, model)
            loaded = seconds()
            try:
                results = [
                    found[cell.task] or place.evaluate(evaluator, row, tasks[cell.task], cell.key, weights)
                    for cell in wanted
                ]
            finally:
                evaluator.close()
            return Evaluated(loaded, tuple(results))
    except Exception as error:
        return place.failure("", error)


def _tasks(recipe: Recipe, entry: str, wanted: Sequence[Wanted]) -> dict[str, EvalTask]:
    """The tasks of an entry with their data, as this node sees them.

    Raises:
        UserError: other items or settings than where the run was started.
    """
    backend = recipe.backend
    loaded = load_tasks(
        (entry,),
        recipe.languages,
        recipe.include_path,
        recipe.limit,
        {},
        backend.num_fewshot,
        backend.model == "endpoint",
    )
    tasks = {task.name: task for task in loaded}
    for cell in wanted:
        if cell.task not in tasks or dict(tasks[cell.task].identity) != dict(cell.identity):
            raise UserError(f"node {platform.node()} has other items or settings of the task {cell.task}")
    return tasks


@contextlib.contextmanager
def _claim(folder: Path, name: str) -> Iterator[None]:
    """Hold a piece of work: a process that a lost node left behind is waited for, not worked against.

    The kernel drops the claim when its process ends, however it ends.
    """
    import fcntl

    make_folder(folder / CLAIMS, below=folder)
    with (folder / CLAIMS / re.sub(r"[^\w.-]", "_", name)).open("a+") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        stream.truncate(0)
        stream.write(f"process {os.getpid()} on {platform.node()}\n")
        stream.flush()
        yield
