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

import json
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lens_eval.cells import Paths, environment, file_hash, key_of, lock, source_hash, versions, write_json
from lens_eval.compare import RUN_FILE, Comparison, compare, load
from lens_eval.errors import UserError
from lens_eval.evaluation import EvalTask, Evaluator, load_tasks, only_own_bars, stopwatch
from lens_eval.recipe import PATH_SETTINGS, Recipe, VariantSpec, require_set, unset_variable

if TYPE_CHECKING:
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
    command: str = "",
    say: Callable[[str], None] = print,
) -> Outcome:
    """Do what of `recipe` is not done yet, then compare.

    Args:
        say: called with one line per finished step.

    Raises:
        UserError: a mistake in what was asked, before any work; or another run is at work in the folder.
    """
    folder = output_of(recipe, output)
    recipe, left_out = available(recipe)
    check(recipe, folder, device)
    tasks = load_tasks(recipe.tasks, recipe.languages, recipe.include_path, recipe.limit, left_out)
    for name, reason in left_out.items():
        say(f"left out: {name}: {reason}")
    with lock(folder):
        _prepare(folder, recipe)
        work = _Run(recipe, folder, tasks, device, command, say, left_out)
        work.do()
        return work.finish()


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


def check(recipe: Recipe, folder: Path, device: str) -> None:
    """Everything that can be refused before work starts.

    Raises:
        UserError: as the name says.
    """
    _check_folder(folder, recipe)
    _check_device(device)
    if recipe.backend.model == "vllm":
        _check_vllm(recipe)
    if recipe.include_path:
        from lens_eval.evaluation import task_folders

        task_folders(recipe.include_path)
    for spec in recipe.variants:
        if spec.method is None:
            model_arguments(spec.model or recipe.backbone, spec.adapter)
    if any(spec.method for spec in recipe.variants):
        _check_training(recipe, folder)


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
        if spec.method == "steer":
            raise UserError(
                f"variants.{spec.name}: steering hooks PyTorch's modules; vLLM's compiled graphs pass it by; "
                "say `model: hf` under `backend`"
            )
        model = model_arguments(spec.model or recipe.backbone, spec.adapter, "vllm")
        vllm_limits.checked({**recipe.backend.args, **model}, vllm_limits.is_cpu())


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
    return Job(
        method=row.spec.method,
        model=recipe.backbone,
        data=data_path(row.spec.data or recipe.train_data or ""),
        languages=recipe.languages,
        output=output,
        central=recipe.central,
        seed=row.seed,
        device=device,
        settings=row.spec.settings,
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


class _Run:
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
    ) -> None:
        self.recipe = recipe
        self.left_out = left_out
        self.folder = folder
        self.tasks = tasks
        self.device = device
        self.command = command
        self.say = say
        self.paths = _paths(folder, recipe)
        self.done = 0
        self.costs: dict[str, dict[str, Any]] = {}
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

    def do(self) -> None:
        """Work through the rows; a row that fails leaves holes, the others go on."""
        from lens_eval.progress import progress

        todo = [cell for cells in self.cells.values() for cell in cells if cell.state != "finished"]
        self._record()
        with progress(label="evaluate", total=sum(_effort(cell) for cell in todo)) as bar:
            for number, row in enumerate(self.rows, 1):
                self._do_row(row, f"[{number}/{len(self.rows)}] {row.name}", bar)

    def _do_row(self, row: Row, prefix: str, bar: Any) -> None:
        cells = self.cells[row.name]
        self._costs(row)
        if all(cell.state == "finished" for cell in cells):
            self.say(f"{prefix}: nothing changed, {len(cells)} cells kept")
            return
        try:
            model_args, weights = self._model(row, prefix)
            for cell in cells:
                if cell.state == "finished" and row.trained and self._weights_of(cell) != weights:
                    cell.state = "to do"
            label = row.name if row.trained else row.spec.model or self.recipe.backbone
            bar.set_description(f"{row.name}: loading")
            evaluator = Evaluator(
                model_args, self.recipe.backend, self.device, self.paths.text(label), row.seed, self.paths
            )
        except Exception as error:
            self._note_error(row.name, error)
            for cell in cells:
                if cell.state != "finished":
                    self._fail(cell, error)
            self._record()
            self.say(f"{prefix}: failed: {_first_line(error)}")
            return
        try:
            self._evaluate(
                evaluator, [cell for cell in cells if cell.state != "finished"], weights, prefix, bar
            )
        finally:
            evaluator.close()

    def _evaluate(self, evaluator: Evaluator, cells: list[Cell], weights: str, prefix: str, bar: Any) -> None:
        entries: dict[str, list[Cell]] = {}
        for cell in cells:
            entries.setdefault(cell.task.entry, []).append(cell)
        for entry, own in entries.items():
            for cell in own:
                bar.set_description(f"{cell.row.name}: {cell.task.name}")
                self._evaluate_cell(evaluator, cell, weights, bar)
            finished = [cell for cell in own if cell.state == "finished"]
            seconds = sum(cell.seconds for cell in finished)
            items = sum(cell.task.items for cell in finished)
            if finished:
                self.say(
                    f"{prefix}: {entry}: {_count(len(finished), 'task')}, {items} items, {seconds:.1f} s"
                )
            for cell in own:
                if cell.state == "failed":
                    self.say(f"{prefix}: {cell.task.name}: failed: {cell.reason}")

    def _evaluate_cell(self, evaluator: Evaluator, cell: Cell, weights: str, bar: Any) -> None:
        seconds = stopwatch()
        start, effort = bar.n, _effort(cell)
        folder = self.folder / cell.folder
        try:
            # The old key goes first: a cell is only ever kept with the results that belong to it.
            (folder / CELL_FILE).unlink(missing_ok=True)
            evaluator.evaluate(
                cell.task, folder, self.recipe.limit, lambda share: _advance(bar, start + share * effort)
            )
            cell.seconds = seconds()
            write_json(folder / CELL_FILE, {"key": cell.key, "seconds": cell.seconds, "weights": weights})
            cell.state = "finished"
            self.done += 1
        except Exception as error:
            self._note_error(f"{cell.row.name}-{cell.task.name}", error)
            self._fail(cell, error)
        _advance(bar, start + effort)
        self._costs(cell.row)
        self._record()

    def _model(self, row: Row, prefix: str) -> tuple[dict[str, str], str]:
        """lm_eval's arguments for the row's model, and the hash of its weights; trains it if need be."""
        backend = self.recipe.backend.model
        if not row.trained:
            model = row.spec.model or self.recipe.backbone
            return model_arguments(model, row.spec.adapter, backend), ""
        folder = self._trained(row, prefix)
        from lens_train.job import Variant

        variant = Variant.load(folder)
        weights = _once(folder.with_name(folder.name + ".sha256"), lambda: file_hash_of_weights(folder))
        if variant.kind == "adapter":
            return model_arguments(self.recipe.backbone, str(folder), backend), weights
        if variant.kind == "steering":
            return {**model_arguments(self.recipe.backbone, None, backend), "steering": str(folder)}, weights
        return model_arguments(str(folder), None, backend), weights

    def _trained(self, row: Row, prefix: str) -> Path:
        from lens_train.job import VARIANT_FILE
        from lens_train.methods import train

        folder = self._model_folder(row)
        if (folder / VARIANT_FILE).is_file():
            return folder
        seconds = stopwatch()
        with only_own_bars():
            train(job_of(self.recipe, row, folder, self.device))
        self._costs(row)
        self._record()
        self.say(f"{prefix}: trained with {row.spec.method}, {seconds():.1f} s")
        return folder

    def _model_folder(self, row: Row) -> Path:
        return self.folder / MODELS / f"{row.name}-{self.identities.training(row)[:12]}"

    def _recall(self, cell: Cell) -> None:
        """Find out whether a cell of this key is there already."""
        record = self._cell_record(cell)
        if record.get("key") == cell.key and list((self.folder / cell.folder).glob("results_*.json")):
            cell.state, cell.seconds = "finished", float(record.get("seconds", 0.0))

    def _weights_of(self, cell: Cell) -> str:
        return str(self._cell_record(cell).get("weights"))

    def _cell_record(self, cell: Cell) -> dict[str, Any]:
        try:
            return json.loads((self.folder / cell.folder / CELL_FILE).read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return {}

    def _fail(self, cell: Cell, error: Exception) -> None:
        cell.state, cell.reason = "failed", self.paths.text(_first_line(error))

    def _note_error(self, name: str, error: Exception) -> None:
        """The whole traceback, for whoever has to find out; the table gets its first line."""
        errors = self.folder / "errors"
        errors.mkdir(exist_ok=True)
        (errors / f"{name}.txt").write_text("".join(traceback.format_exception(error)), encoding="utf-8")

    def _costs(self, row: Row) -> None:
        cost: dict[str, Any] = {"evaluation_seconds": sum(cell.seconds for cell in self.cells[row.name])}
        if row.trained:
            from lens_train.job import Variant

            try:
                variant = Variant.load(self._model_folder(row))
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
            "left_out": [{"what": what, "reason": reason} for what, reason in self.left_out.items()],
            "cells": cells,
        }
        write_json(self.folder / RUN_FILE, self.paths.clean(document))

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

        scores, document, holes = load([self.folder])
        comparison = compare(scores, name=self.recipe.name, holes=holes, run=document)
        write_all(comparison, self.folder)
        models = {row.name: self._model_folder(row) for row in self.rows if row.trained}
        write_of_run(self.folder, comparison, scores, models)
        return Outcome(comparison, failed, self.done)


class _Identities:
    """The keys of cells; each part is computed once."""

    def __init__(self, recipe: Recipe, device: str) -> None:
        from lens_train.layers import resolve_device

        self.recipe = recipe
        self.device = str(resolve_device(device).type)
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
            model = [self._model(row.spec.model or recipe.backbone), self._model(row.spec.adapter)]
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
                self._models[name] = {**base, "adapter": file_hash(Path(arguments["peft"]))}
            else:
                identity = dict(model_identity(name))
                identity.pop("name")
                folder = checkpoint_folder(name)
                small = [folder / n for n in ("config.json", "generation_config.json", "tokenizer.json")]
                identity.update({f.name: file_hash(f) for f in small if f.is_file()})
                self._models[name] = identity
        return self._models[name]

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
