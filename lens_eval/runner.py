"""`lens reproduce`: train what a recipe names, evaluate every cell through lm_eval, compare, write tables.

A cell is one variant on one lm_eval task. Its key is a hash of everything that decides its numbers;
a cell whose key is unchanged is kept, any other is evaluated again. Each cell appears on disk complete
or not at all, so a run that was killed goes on behind the last finished one.

    <output>/<variant>/<task>/   results_*.json, samples_*.jsonl.gz (lm_eval's format), cell.json (the key)
    <output>/models/             trained variants, by name and key
    <output>/run.json            recipe, environment, state and cost of every cell
    <output>/table.*             the comparison
    <output>/report.html         the same as a page, with answers and training curves (training.json)
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lens_eval.cells import Paths, environment, file_hash, key_of, lock, source_hash, versions, write_json
from lens_eval.compare import RUN_FILE, Comparison, compare, load
from lens_eval.errors import UserError
from lens_eval.evaluation import EvalTask, Evaluator, load_tasks, only_own_bars, stopwatch
from lens_eval.recipe import PATH_SETTINGS, Recipe, VariantSpec, require_set, unset_variable

if TYPE_CHECKING:
    from lens_eval.cluster import Cluster
    from lens_train.job import Job

CELL_FILE = "cell.json"
MODELS = "models"
_IGNORED = "models/\nerrors/\n.lock\ncell.json\n*.partial\n"
_ANY_BACKEND = ("dtype", "revision", "enable_thinking", "think_end_token", "chat_template_args")
ADAPTER_METHODS = ("xsft_lora", "steer")
"""Methods that leave a small file instead of a whole checkpoint; only for estimates of disk."""


@dataclass(frozen=True)
class Row:
    """One row of the table: a variant, and the seed it is trained with."""

    name: str
    spec: VariantSpec
    seed: int

    @property
    def trained(self) -> bool:
        """Whether a method makes this variant."""
        return self.spec.method is not None


@dataclass(frozen=True)
class Result:
    """How the evaluation of one cell ended; a cell that failed has a reason and the whole traceback."""

    task: str
    seconds: float = 0.0
    inference_seconds: float = 0.0
    reason: str = ""
    trace: str = ""


@dataclass(frozen=True)
class Workplace:
    """What a part of a run has to know wherever it is done: a plain value, to be sent to another machine."""

    recipe: Recipe
    folder: Path
    device: str

    def train(self, row: Row, model: Path) -> bool:
        """Train a row into the folder `model`; False where that was done before."""
        from lens_train.job import VARIANT_FILE
        from lens_train.methods import train

        if (model / VARIANT_FILE).is_file():
            return False
        with only_own_bars():
            train(job_of(self.recipe, row, model, self.device))
        return True

    def weights(self, model: Path | None) -> str:
        """Hash of a trained row's weights, computed once; an empty string for a row that is not trained."""
        if model is None:
            return ""
        return _once(model.with_name(model.name + ".sha256"), lambda: file_hash_of_weights(model))

    def evaluator(
        self, row: Row, model: Path | None, loaded: Evaluator | None = None, adapters: Sequence[Path] = ()
    ) -> Evaluator:
        """Load a row's model; `model` is its folder where it was trained.

        Args:
            loaded: goes on as the row's model where it can (an adapter or a steering of its backbone under
                vLLM); closed where it cannot.
            adapters: of all rows, for which vLLM makes room.
        """
        label = row.name if row.trained else row.spec.model or self.recipe.backbone
        paths = _paths(self.folder, self.recipe)
        arguments = self._arguments(row, model)
        if loaded is not None:
            with ExitStack() as otherwise:
                otherwise.callback(loaded.close)
                if loaded.go_on_as(arguments, paths.text(label), row.seed):
                    otherwise.pop_all()
                    return loaded
        if "lora_local_path" in arguments:
            from lens_eval.vllm_limits import largest_rank

            rank = largest_rank([Path(arguments["lora_local_path"]), *adapters])
            arguments = {**arguments, "max_lora_rank": str(rank)}
        return Evaluator(arguments, self.recipe.backend, self.device, paths.text(label), row.seed, paths)

    def _arguments(self, row: Row, model: Path | None) -> dict[str, str]:
        """lm_eval's arguments for the row's model."""
        backend = self.recipe.backend.model
        if model is None:
            return model_arguments(row.spec.model or self.recipe.backbone, row.spec.adapter, backend)
        from lens_train.job import Variant

        variant = Variant.load(model)
        if variant.kind == "adapter":
            return model_arguments(self.recipe.backbone, str(model), backend)
        if variant.kind == "steering":
            return {**model_arguments(self.recipe.backbone, None, backend), "steering": str(model)}
        return model_arguments(str(model), None, backend)

    def evaluate(
        self,
        evaluator: Evaluator,
        row: Row,
        task: EvalTask,
        key: str,
        weights: str,
        on_progress: Callable[[float], None] = lambda _: None,
    ) -> Result:
        """Evaluate one cell and note its key with the results; an exception becomes the reason of a hole."""
        seconds = stopwatch()
        folder = self.folder / row.name / task.name
        try:
            # The old key goes first: a cell is only ever kept with the results that belong to it.
            (folder / CELL_FILE).unlink(missing_ok=True)
            of_weights = key_of({"cell": key, "weights": weights})
            inference = evaluator.evaluate(task, folder, self.recipe.limit, of_weights, on_progress)
            result = Result(task.name, seconds(), inference)
            record = {
                "key": key,
                "seconds": result.seconds,
                "inference_seconds": inference,
                "weights": weights,
            }
            write_json(folder / CELL_FILE, record)
            return result
        except Exception as error:
            return self.failure(task.name, error)

    def kept(self, row: Row, task: str, key: str, weights: str) -> Result | None:
        """The result of a cell that is there with this key and these weights."""
        record = cell_record(self.folder / row.name / task)
        if record.get("key") != key or record.get("weights") != weights:
            return None
        return Result(task, float(record["seconds"]), float(record.get("inference_seconds", 0.0)))

    def failure(self, task: str, error: Exception) -> Result:
        """The result of a cell that could not be evaluated."""
        reason = _paths(self.folder, self.recipe).text(_first_line(error))
        return Result(task, reason=reason, trace="".join(traceback.format_exception(error)))


@dataclass
class Cell:
    """One row on one task, and how far it is."""

    row: Row
    task: EvalTask
    key: str
    state: str = "to do"
    """`to do`, `finished` or `failed`."""
    seconds: float = 0.0
    reason: str = ""

    @property
    def folder(self) -> str:
        """Relative to the output folder."""
        return f"{self.row.name}/{self.task.name}"


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    comparison: Comparison | None
    """None where no cell at all could be evaluated."""
    failed: tuple[str, ...]
    """Reasons, one line per failed cell."""
    done: int
    """Cells evaluated by this run; the others were kept."""

    @property
    def status(self) -> int:
        """Exit status: 1 where a cell failed."""
        return 1 if self.failed else 0


def rows_of(recipe: Recipe) -> list[Row]:
    """Rows in the order of the recipe; a trained variant has one per seed, any other one in all."""
    rows = []
    for spec in recipe.variants:
        seeds = recipe.seeds if spec.method else recipe.seeds[:1]
        for seed in seeds:
            name = f"{spec.name}-seed{seed}" if len(seeds) > 1 else spec.name
            rows.append(Row(name, spec, seed))
    return rows


def output_of(recipe: Recipe, output: Path | None) -> Path:
    """The folder of a run."""
    return output or Path(recipe.output or f"results/{recipe.name}")


def run(
    recipe: Recipe,
    output: Path | None = None,
    *,
    device: str = "auto",
    ray: str | None = None,
    cpus: float = 1.0,
    command: str = "",
    say: Callable[[str], None] = print,
) -> Outcome:
    """Do what of `recipe` is not done yet, then compare.

    Args:
        ray: address of a Ray cluster that does the work (`local`: this machine as one); None: this process.
        cpus: what each task asks of the cluster; only with `ray`.
        say: called with one line per finished step.

    Raises:
        UserError: a mistake in what was asked, before any work; or another run is at work in the folder.
    """
    clock = stopwatch()
    folder = output_of(recipe, output)
    recipe, left_out = available(recipe)
    check(recipe, folder, None if ray else device)
    tasks = load_tasks(recipe.tasks, recipe.languages, recipe.include_path, recipe.limit, left_out)
    for reason in dict.fromkeys(left_out.values()):
        names = [name for name, why in left_out.items() if why == reason]
        say(f"left out: {', '.join(names)}: {reason}")
    with _cluster(ray, recipe, device, cpus) as cluster, lock(folder), _full_disk_in_words(folder):
        _prepare(folder, recipe)
        if cluster is not None:
            device = cluster.device
            cluster.check(folder)
        work = Run(recipe, folder, tasks, device, command, say, left_out, clock)
        with work.bar():
            work.do() if cluster is None else cluster.do(work)
        return work.finish()


@contextmanager
def _full_disk_in_words(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise UserError(
            f"cannot write to {folder}: {error.strerror}; make room, and the same command goes on from here"
        ) from error


def _cluster(
    ray: str | None, recipe: Recipe, device: str, cpus: float
) -> AbstractContextManager[Cluster | None]:
    if ray is None:
        return nullcontext()
    from lens_eval.cluster import connected

    return connected(ray, recipe, device, cpus)


def available(recipe: Recipe) -> tuple[Recipe, dict[str, str]]:
    """The recipe without its optional variants whose data nobody named; those with the reason.

    Raises:
        UserError: no variant is left.
    """
    left_out = {}
    for spec in recipe.variants:
        variables = [unset_variable(path) for path in paths_of(recipe, spec)]
        unset = next((name for name in variables if name), None)
        if spec.optional and unset:
            left_out[spec.name] = f"the environment variable {unset}, which names its data, is not set"
    variants = tuple(spec for spec in recipe.variants if spec.name not in left_out)
    if not variants:
        raise UserError(f"recipe {recipe.name}: no variant is left, {next(iter(left_out.values()))}")
    return replace(recipe, variants=variants), left_out


def paths_of(recipe: Recipe, spec: VariantSpec) -> list[str]:
    """Data that a variant is trained with: paths and `builtin...` names, as the recipe gives them."""
    if spec.method is None:
        return []
    settings = [spec.settings[key] for key in PATH_SETTINGS if spec.settings.get(key)]
    return [spec.data or recipe.train_data or "", *settings]


def check(recipe: Recipe, folder: Path, device: str | None) -> None:
    """Everything that can be refused before work starts; `device` is None where it is not this machine's.

    Raises:
        UserError: as the name says.
    """
    _check_folder(folder, recipe)
    if device is not None:
        _check_device(device)
    if recipe.backend.model == "vllm":
        _check_vllm(recipe)
    if recipe.include_path:
        from lens_eval.evaluation import task_folders

        task_folders(recipe.include_path)
    for spec in recipe.variants:
        if spec.method is None:
            _check_model(spec.model or recipe.backbone, spec.adapter)
    if any(spec.method for spec in recipe.variants):
        _check_training(recipe, folder)


def _check_model(model: str, adapter: str | None) -> None:
    """The model is there, or on the hub and to be had; it is asked for now, not after hours of other work."""
    from lens_train.layers import checkpoint_folder

    arguments = model_arguments(model, adapter)
    checkpoint_folder(arguments["pretrained"])
    if "peft" in arguments:
        adapter_folder(arguments["peft"])


def adapter_folder(name: str) -> Path:
    """The folder of a PEFT adapter: a local one, or a hub id's snapshot.

    Raises:
        UserError: there is none, or it is no adapter.
    """
    folder = Path(name)
    if not folder.is_dir():
        if name.startswith((".", "/")):
            raise UserError(f"no adapter folder {name}")
        from lens_train.layers import download

        folder = download(name)
    if not (folder / "adapter_config.json").is_file():
        raise UserError(f"{name} is no adapter: it holds no adapter_config.json")
    return folder


def _check_folder(folder: Path, recipe: Recipe) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"output {folder} is a file; name a folder")
    if not folder.is_dir() or not any(p.name != ".lock" for p in folder.iterdir()):
        return
    if not (folder / RUN_FILE).is_file():
        raise UserError(f"output {folder} is not empty and holds no run; name another folder")
    try:
        name = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))["name"]
    except (json.JSONDecodeError, KeyError, TypeError):
        raise UserError(
            f"{folder / RUN_FILE} is corrupt; remove that file, or name another --output"
        ) from None
    if name != recipe.name:
        raise UserError(
            f"output {folder} holds another run ({name}); name another --output for {recipe.name}"
        )


def _check_device(device: str) -> None:
    from lens_train.layers import resolve_device

    resolve_device(device)


def _check_vllm(recipe: Recipe) -> None:
    from importlib.util import find_spec

    if find_spec("vllm") is None:
        raise UserError(
            "the backend vllm is not installed; pip install 'lens-multilingual[vllm]', or say `model: hf`"
        )
    from lens_eval import vllm_limits

    for spec in recipe.variants:
        model = model_arguments(spec.model or recipe.backbone, spec.adapter, "vllm")
        # The folder of a steering is there after training; that there will be one decides what can be done.
        steering = {"steering": "to be made"} if spec.method == "steer" else {}
        vllm_limits.checked({**recipe.backend.args, **model, **steering}, vllm_limits.is_cpu())


def _check_training(recipe: Recipe, folder: Path) -> None:
    from lens_train.layers import checkpoint_folder, load_tokenizer
    from lens_train.methods import load, read_settings, settings_of

    for row in rows_of(recipe):
        spec = row.spec
        if spec.method is None:
            continue
        for path in paths_of(recipe, spec):
            require_set(path, f"variants.{spec.name}")
            if not data_path(path).exists():
                raise UserError(f"variants.{spec.name}: no parallel data {data_path(path)}")
        kind = settings_of(spec.method)
        if kind is not None:
            read_settings(kind, spec.settings, spec.method)
        # A method may know more to check: languages of the data, empty prompts, subspaces of another model.
        method_check = getattr(load(spec.method)[0], "check", None)
        if method_check is not None:
            method_check(job_of(recipe, row, folder / MODELS / f"{row.name}.check", "cpu"))
    if not load_tokenizer(recipe.backbone).chat_template:
        raise UserError(
            f"{recipe.backbone} has no chat template; the training methods need one (an instruct model)"
        )
    size = sum(f.stat().st_size for f in checkpoint_folder(recipe.backbone).glob("*.safetensors"))
    full = [row for row in rows_of(recipe) if row.trained and row.spec.method not in ADAPTER_METHODS]
    there = len(list(folder.glob(f"{MODELS}/*/variant.json")))
    check_disk(folder, size * max(0, len(full) - there))


def job_of(recipe: Recipe, row: Row, output: Path, device: str) -> Job:
    """The training job of a row."""
    from lens_train.job import Job

    assert row.spec.method is not None
    # The diagnostics watch the dev data; no weight depends on them, so no key does.
    watched = {"dev_data": recipe.dev_data} if recipe.dev_data and row.spec.method == "lens" else {}
    return Job(
        method=row.spec.method,
        model=recipe.backbone,
        data=data_path(row.spec.data or recipe.train_data or ""),
        languages=recipe.languages,
        output=output,
        central=recipe.central,
        seed=row.seed,
        device=device,
        settings={**watched, **row.spec.settings},
    )


def check_disk(folder: Path, needed: int) -> None:
    """Refuse a run that cannot fit.

    Raises:
        UserError: less than `needed` bytes (and a little air) are free where `folder` is or would be.
    """
    place = next(p for p in (folder, *folder.resolve().parents) if p.is_dir())
    free = shutil.disk_usage(place).free
    wanted = int(needed * 1.05) + (50 << 20)
    if free < wanted:
        raise UserError(
            f"not enough disk for {folder}: about {wanted / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free"
        )


def data_path(name: str) -> Path:
    """Parallel data by path or `builtin...` name."""
    if name.partition(":")[0] == "builtin":
        from lens_eval.mini import resolve_data

        return resolve_data(name)
    return Path(name)


def resolve_model(name: str) -> str:
    """`builtin` as its folder, anything else as it is."""
    if name == "builtin":
        from lens_eval.mini import resolve_model as resolve

        return resolve(name)
    return name


def model_arguments(model: str, adapter: str | None = None, backend: str = "hf") -> dict[str, str]:
    """lm_eval's arguments for a hub id, a checkpoint folder, or a PEFT adapter folder.

    Raises:
        UserError: a folder that is neither, or an adapter that does not name its model.
    """
    folder = Path(resolve_model(model))
    if adapter is None and (folder / "adapter_config.json").is_file():
        base = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8")).get(
            "base_model_name_or_path"
        )
        if not base:
            raise UserError(f"the adapter {folder} does not name its base model; give both")
        return model_arguments(base, str(folder), backend)
    if adapter is not None:
        key = "lora_local_path" if backend == "vllm" else "peft"
        return {**model_arguments(model, None, backend), key: adapter}
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise UserError(f"{folder} is no model: it holds neither config.json nor adapter_config.json")
    if not folder.is_dir() and model.startswith((".", "/")):
        raise UserError(f"no model folder {model}")
    return {"pretrained": str(folder) if folder.is_dir() else model}


def _prepare(folder: Path, recipe: Recipe) -> None:
    (folder / ".gitignore").write_text(_IGNORED, encoding="utf-8")
    shutil.rmtree(folder / "errors", ignore_errors=True)
    if not (folder / RUN_FILE).exists():
        write_json(folder / RUN_FILE, {"name": recipe.name, "simulated": recipe.simulated, "cells": []})


class Run:
    """State of one run; all of it is in the folder too."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        tasks: Sequence[EvalTask],
        device: str,
        command: str,
        say: Callable[[str], None],
        left_out: Mapping[str, str],
        clock: Callable[[], float],
    ) -> None:
        self.recipe = recipe
        self.left_out = left_out
        self.folder = folder.resolve()
        self.tasks = tasks
        self.device = device
        self.command = command
        self.say = say
        self.place = Workplace(recipe, self.folder, device)
        self.paths = _paths(folder, recipe)
        self.done = 0
        self._loaded: Evaluator | None = None
        self.costs: dict[str, dict[str, Any]] = {}
        self.clock = clock
        self.seconds = {"train": 0.0, "load": 0.0, "evaluate": 0.0, "inference": 0.0}
        self.environment = environment()
        self.identities = _Identities(recipe, device)
        self.rows = rows_of(recipe)
        self.cells = {
            row.name: [Cell(row, task, self.identities.cell(row, task)) for task in tasks]
            for row in self.rows
        }
        for cells in self.cells.values():
            for cell in cells:
                self._recall(cell)

    @contextmanager
    def bar(self) -> Iterator[None]:
        """Show the progress of what is to do meanwhile, and record the state that the work starts from."""
        from lens_eval.progress import progress

        todo = [cell for cells in self.cells.values() for cell in cells if cell.state != "finished"]
        for row in self.rows:
            self._costs(row)
        self._record()
        with progress(label="evaluate", total=sum(_effort(cell) for cell in todo)) as self._bar:
            yield

    def do(self) -> None:
        """Work through the rows; a row that fails leaves holes, the others go on.

        For vLLM, whose engine stays loaded from row to row and fills a GPU, all rows are trained first.
        """
        shared = self.recipe.backend.model == "vllm"
        rows = [row for row in self.rows if self.to_do(row) and (not shared or self._trained_ahead(row))]
        try:
            for row in rows:
                self._do_row(row, keep=shared)
        finally:
            if self._loaded is not None:
                self._loaded.close()

    def to_do(self, row: Row, weights: str | None = None) -> list[Cell]:
        """Cells of a row that are not finished, or (where `weights` are given) not with these weights."""
        cells = self.cells[row.name]
        if weights is None and all(cell.state == "finished" for cell in cells):
            self.say(f"{self.prefix(row)}: nothing changed, {len(cells)} cells kept")
        for cell in cells:
            if (
                weights
                and cell.state == "finished"
                and cell_record(self.folder / cell.folder).get("weights") != weights
            ):
                cell.state = "to do"
        return [cell for cell in cells if cell.state != "finished"]

    def prefix(self, row: Row) -> str:
        """What lines about a row begin with."""
        return f"[{self.rows.index(row) + 1}/{len(self.rows)}] {row.name}"

    def _trained_ahead(self, row: Row) -> bool:
        try:
            self._trained(row)
        except Exception as error:
            self.row_failed(row, self.place.failure("", error), self.cells[row.name])
            return False
        return True

    def _do_row(self, row: Row, keep: bool) -> None:
        """Train and evaluate a row; with `keep` its model stays loaded for the next one."""
        try:
            model = self._trained(row)
            weights = self.place.weights(model)
            cells = self.to_do(row, weights)
            self._bar.set_description(f"{row.name}: loading")
            loaded, self._loaded = self._loaded, None
            with self._timed("load"):
                evaluator = self.place.evaluator(row, model, loaded, self._adapters())
        except Exception as error:
            self.row_failed(row, self.place.failure("", error), self.cells[row.name])
            return
        try:
            for entry, own in by_entry(cells).items():
                for cell in own:
                    self._evaluate(evaluator, cell, weights)
                self.report(row, entry, own)
        finally:
            if keep:
                self._loaded = evaluator
            else:
                evaluator.close()

    def _adapters(self) -> list[Path]:
        """Folders of the LoRA adapters of all rows, as far as they are there."""
        given = [Path(row.spec.adapter) for row in self.rows if row.spec.adapter]
        trained = [folder for row in self.rows if (folder := self.model_folder(row))]
        return [folder for folder in (*given, *trained) if (folder / "adapter_config.json").is_file()]

    def _trained(self, row: Row) -> Path | None:
        model = self.model_folder(row)
        if model is not None:
            with self._timed("train"):
                new = self.place.train(row, model)
            if new:
                self.trained(row)
        return model

    def trained(self, row: Row) -> None:
        """Note that a row has been trained."""
        self._costs(row)
        self._record()
        seconds = self.costs[row.name].get("train_seconds", 0.0)
        self.say(f"{self.prefix(row)}: trained with {row.spec.method}, {seconds:.1f} s")

    def _evaluate(self, evaluator: Evaluator, cell: Cell, weights: str) -> None:
        start, effort = self._bar.n, _effort(cell)
        self._bar.set_description(f"{cell.row.name}: {cell.task.name}")
        result = self.place.evaluate(
            evaluator,
            cell.row,
            cell.task,
            cell.key,
            weights,
            lambda share: _advance(self._bar, start + share * effort),
        )
        _advance(self._bar, start + effort)
        self.note(cell, result)

    def note(self, cell: Cell, result: Result) -> None:
        """Note how the evaluation of a cell ended."""
        if result.reason:
            self._note_error(f"{cell.row.name}-{cell.task.name}", result.trace)
            cell.state, cell.reason = "failed", result.reason
        else:
            cell.state, cell.reason, cell.seconds = "finished", "", result.seconds
            self.seconds["evaluate"] += result.seconds
            self.seconds["inference"] += result.inference_seconds
            self.done += 1
        self._costs(cell.row)
        self._record()

    def row_failed(self, row: Row, result: Result, cells: Sequence[Cell]) -> None:
        """Note that a row could not be trained or loaded: those of `cells` that are open become holes."""
        self._note_error(row.name, result.trace)
        for cell in cells:
            if cell.state != "finished":
                cell.state, cell.reason = "failed", result.reason
        self._record()
        self.say(f"{self.prefix(row)}: failed: {result.reason}")

    def report(self, row: Row, entry: str, cells: Sequence[Cell]) -> None:
        """Say how the cells of one entry of the recipe ended."""
        finished = [cell for cell in cells if cell.state == "finished"]
        seconds = sum(cell.seconds for cell in finished)
        items = sum(cell.task.items for cell in finished)
        if finished:
            tasks = _count(len(finished), "task")
            self.say(f"{self.prefix(row)}: {entry}: {tasks}, {items} items, {seconds:.1f} s")
        for cell in cells:
            if cell.state == "failed":
                self.say(f"{self.prefix(row)}: {cell.task.name}: failed: {cell.reason}")

    def model_folder(self, row: Row) -> Path | None:
        """Where a trained row's model is or will be; None for a row that is not trained."""
        if not row.trained:
            return None
        return self.folder / MODELS / f"{row.name}-{self.identities.training(row)[:12]}"

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        seconds = stopwatch()
        try:
            yield
        finally:
            self.seconds[what] += seconds()

    def _recall(self, cell: Cell) -> None:
        """Find out whether a cell of this key is there already."""
        record = cell_record(self.folder / cell.folder)
        if record.get("key") == cell.key:
            cell.state, cell.seconds = "finished", float(record.get("seconds", 0.0))

    def _note_error(self, name: str, trace: str) -> None:
        """The whole traceback, for whoever has to find out; the table gets its first line."""
        errors = self.folder / "errors"
        errors.mkdir(exist_ok=True)
        (errors / f"{name}.txt").write_text(trace, encoding="utf-8")

    def _costs(self, row: Row) -> None:
        cost: dict[str, Any] = {"evaluation_seconds": sum(cell.seconds for cell in self.cells[row.name])}
        model = self.model_folder(row)
        if model is not None:
            from lens_train.job import Variant

            try:
                variant = Variant.load(model)
                cost["train_seconds"] = variant.wall_seconds
                cost["train_tokens"] = variant.tokens_seen
                cost["train_peak_memory_bytes"] = variant.peak_memory_bytes
                cost["settings"] = dict(variant.settings)
            except (FileNotFoundError, TypeError):
                cost.update(self._former_costs(row))
        self.costs[row.name] = cost

    def _former_costs(self, row: Row) -> dict[str, Any]:
        """What the last run noted, where the trained model has been removed since."""
        former = (
            json.loads((self.folder / RUN_FILE).read_text(encoding="utf-8"))
            .get("costs", {})
            .get(row.name, {})
        )
        return {key: value for key, value in former.items() if key.startswith("train_") or key == "settings"}

    def _record(self) -> None:
        """Write `run.json`: at any moment it says truly what is in the folder."""
        cells = [
            {
                "variant": cell.row.name,
                "task": cell.task.name,
                "state": cell.state,
                "folder": cell.folder,
                "items": cell.task.items,
                "seconds": round(cell.seconds, 3),
                **({"reason": cell.reason} if cell.reason else {}),
            }
            for own in self.cells.values()
            for cell in own
        ]
        document = {
            "name": self.recipe.name,
            "simulated": self.recipe.simulated,
            "reference": self.recipe.reference,
            "variants": [row.name for row in self.rows],
            "command": self.command,
            "recipe": asdict(self.recipe),
            "device": self.device,
            "environment": self.environment,
            "costs": self.costs,
            "seconds": {name: round(seconds, 3) for name, seconds in self._seconds().items()},
            "left_out": [{"what": what, "reason": reason} for what, reason in self.left_out.items()],
            "cells": cells,
        }
        write_json(self.folder / RUN_FILE, self.paths.clean(document))

    def _seconds(self) -> dict[str, float]:
        """Where the time of this run went: all of it up to now, and its parts; evaluation holds inference."""
        return {"all": self.clock(), **self.seconds}

    def finish(self) -> Outcome:
        """Compare what there is and write the tables."""
        self._record()
        failed = tuple(
            f"{cell.row.name}, {cell.task.name}: {cell.reason}"
            for cells in self.cells.values()
            for cell in cells
            if cell.state == "failed"
        )
        if not any(cell.state == "finished" for cells in self.cells.values() for cell in cells):
            return Outcome(None, failed, self.done)
        from lens_eval.report import write_of_run
        from lens_eval.tables import write_all

        try:
            scores, document, holes = load([self.folder])
        except UserError as error:
            raise UserError(f"{error}\nRemove that cell's folder: the same command makes it anew.") from error
        comparison = compare(scores, name=self.recipe.name, holes=holes, run=document)
        write_all(comparison, self.folder)
        models = {row.name: model for row in self.rows if (model := self.model_folder(row)) is not None}
        write_of_run(self.folder, comparison, scores, models)
        return Outcome(comparison, failed, self.done)


class _Identities:
    """The keys of cells; each part is computed once."""

    def __init__(self, recipe: Recipe, device: str) -> None:
        from lens_train.layers import resolve_device

        self.recipe = recipe
        # A device that is named may be another machine's.
        self.device = str(resolve_device(device).type) if device == "auto" else device.partition(":")[0]
        self.versions = versions()
        self._sources: dict[str, str] = {}
        self._hashes: dict[str, str] = {}
        self._models: dict[str, Mapping[str, str]] = {}

    def cell(self, row: Row, task: EvalTask) -> str:
        """Everything that decides the numbers of one row on one task."""
        recipe = self.recipe
        if row.trained:
            model: Any = self.training(row)
        else:
            model = [self._model(row.spec.model or recipe.backbone), self._adapter(row.spec.adapter)]
        return key_of(
            {
                "model": model,
                "task": task.identity,
                "backend": asdict(recipe.backend),
                "device": self.device,
                "seed": row.seed,
                "limit": recipe.limit,
                "versions": self.versions,
                "source": self._source("lens_eval"),
            }
        )

    def training(self, row: Row) -> str:
        """Everything that decides the weights of a trained row."""
        recipe, spec = self.recipe, row.spec
        # Files count by what is in them, wherever they lie.
        named = {key: self._hash(spec.settings[key]) for key in PATH_SETTINGS if spec.settings.get(key)}
        return key_of(
            {
                "method": spec.method,
                "settings": {**spec.settings, **named},
                "backbone": self._model(recipe.backbone),
                "data": self._hash(spec.data or recipe.train_data or ""),
                "languages": recipe.languages,
                "central": recipe.central,
                "seed": row.seed,
                "device": self.device,
                "versions": self.versions,
                "source": self._source("lens_train"),
            }
        )

    def _hash(self, data: str) -> str:
        if data not in self._hashes:
            self._hashes[data] = file_hash(data_path(data))
        return self._hashes[data]

    def _model(self, name: str | None) -> Mapping[str, str] | None:
        """Hashes of weights, template and settings files: what the model is, wherever it lies."""
        if name is None:
            return None
        if name not in self._models:
            from lens_train.layers import checkpoint_folder, model_identity

            arguments = model_arguments(name)
            if "peft" in arguments:
                base = self._model(arguments["pretrained"]) or {}
                self._models[name] = {**base, "adapter": self._adapter(arguments["peft"]) or ""}
            else:
                identity = dict(model_identity(name))
                identity.pop("name")
                folder = checkpoint_folder(name)
                small = [folder / n for n in ("config.json", "generation_config.json", "tokenizer.json")]
                identity.update({f.name: file_hash(f) for f in small if f.is_file()})
                self._models[name] = identity
        return self._models[name]

    def _adapter(self, name: str | None) -> str | None:
        """Hash of an adapter's files, whatever model they name."""
        if name is not None and name not in self._hashes:
            self._hashes[name] = file_hash(adapter_folder(name))
        return None if name is None else self._hashes[name]

    def _source(self, package: str) -> str:
        if package not in self._sources:
            self._sources[package] = source_hash(package)
        return self._sources[package]


def _paths(folder: Path, recipe: Recipe) -> Paths:
    """Names for the paths that results would otherwise carry; what the recipe names keeps its last part."""
    import lens_eval

    given = [recipe.backbone, recipe.train_data, recipe.dev_data, *recipe.include_path]
    for spec in recipe.variants:
        given += [spec.model, spec.adapter, spec.data, *paths_of(recipe, spec)]
    names: dict[str | Path, str] = {Path.home(): "~", Path.cwd(): ".", folder: "RUN"}
    names.update({path: Path(path).name for path in given if path and Path(path).is_absolute()})
    names[Path(sys.prefix)] = "ENVIRONMENT"
    names[Path(lens_eval.__file__).resolve().parents[1]] = "PROJECT"
    names[Path.cwd()] = "."
    names[resolve_model("builtin")] = "builtin"
    if os.environ.get("LENS_DATA_DIR"):
        names[os.environ["LENS_DATA_DIR"]] = "LENS_DATA_DIR"
    return Paths({path: name for path, name in names.items() if str(path) != "/"})


def cell_record(folder: Path) -> dict[str, Any]:
    """What a finished cell's folder says of itself: key, hash of the weights, seconds; else nothing."""
    try:
        record = json.loads((folder / CELL_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return {}
    return record if isinstance(record, dict) and list(folder.glob("results_*.json")) else {}


def file_hash_of_weights(folder: Path) -> str:
    """Hash over the weight files at the top of a variant folder."""
    files = sorted([*folder.glob("*.safetensors"), *folder.glob("steering.json")])
    return key_of({file.name: file_hash(file) for file in files})


def _once(file: Path, make: Callable[[], str]) -> str:
    """The text in `file`, made and written where it is not there yet."""
    if not file.is_file():
        text = make()
        aside = file.with_name(file.name + ".partial")
        aside.write_text(text, encoding="utf-8")
        aside.replace(file)
    return file.read_text(encoding="utf-8")


def by_entry(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Cells by the name in the recipe that brought them in."""
    entries: dict[str, list[Cell]] = {}
    for cell in cells:
        entries.setdefault(cell.task.entry, []).append(cell)
    return entries


def _effort(cell: Cell) -> int:
    return cell.task.items * cell.task.requests


def _advance(bar: Any, to: float) -> None:
    if to > bar.n:
        bar.update(to - bar.n)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _first_line(error: BaseException) -> str:
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    if isinstance(error, UserError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def with_changes(
    recipe: Recipe,
    *,
    limit: int | None = None,
    backbone: str | None = None,
    backend: str | None = None,
    gen_kwargs: Mapping[str, Any] | None = None,
) -> Recipe:
    """The recipe with what the command line says otherwise.

    Another backend keeps `dtype` and what concerns the chat template; the other arguments are words that
    only the first one knows.
    """
    changes: dict[str, Any] = {}
    if limit is not None:
        if limit < 1:
            raise UserError(f"--limit is {limit}; name a number of items per task, at least 1")
        changes["limit"] = limit
    if backbone is not None:
        changes["backbone"] = backbone
    changed = recipe.backend
    if backend is not None and backend != changed.model:
        kept = {key: value for key, value in changed.args.items() if key in _ANY_BACKEND}
        # hf's `auto` tries out what a GPU holds; on a CPU that costs more than it saves.
        batch = changed.batch_size if backend == "vllm" or changed.batch_size != "auto" else 8
        changed = replace(changed, model=backend, args=kept, batch_size=batch)
    if gen_kwargs:
        changed = replace(changed, gen_kwargs={**changed.gen_kwargs, **gen_kwargs})
    return replace(recipe, backend=changed, **changes)
