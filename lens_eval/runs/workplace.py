"""What one part of a run is, wherever it is done: training a row, loading its model, evaluating one cell."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lens_eval.base.errors import UserError
from lens_eval.base.files import write_json, write_text
from lens_eval.base.identity import key_of
from lens_eval.base.paths import Paths
from lens_eval.base.project import ROOT
from lens_eval.mini import resolve_data, resolve_model
from lens_eval.runs.asking import asking_for
from lens_eval.runs.evaluation import Evaluator, stopwatch
from lens_eval.runs.keys import CELL_FILE, cell_record, file_hash_of_variant, variant_files
from lens_eval.runs.recipe import Recipe, Row
from lens_eval.runs.sources import model_arguments, paths_of
from lens_eval.runs.task_index import EvalTask
from lens_eval.upstream.evaluation import only_own_bars
from lens_train.gguf import is_gguf
from lens_train.gguf.cache import converted

if TYPE_CHECKING:
    from lens_train.job import Job

MODELS = "models"


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
        from lens_train.publish.trained import train

        if (model / VARIANT_FILE).is_file():
            return False
        with only_own_bars():
            train(job_of(self.recipe, row, model, self.device))
        return True

    def weights(self, model: Path | None) -> str:
        """Hash of what a trained row's folder holds; an empty string for a row that is not trained.

        It is kept beside the folder, and computed again if a file's size or time has changed.
        """
        if model is None:
            return ""
        note = model.with_name(model.name + ".sha256")
        stamp = key_of({file.name: _stamp(file) for file in variant_files(model)})
        known = note.read_text(encoding="utf-8").split() if note.is_file() else []
        if known[1:] != [stamp]:
            known = [file_hash_of_variant(model), stamp]
            write_text(note, "\n".join(known) + "\n")
        return known[0]

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
        paths = machine_paths(self.folder, self.recipe)
        arguments = self._arguments(row, model)
        if loaded is not None:
            with ExitStack() as otherwise:
                otherwise.callback(loaded.close)
                if loaded.go_on_as(arguments, paths.text(label), row.seed):
                    otherwise.pop_all()
                    return loaded
        if "lora_local_path" in arguments:
            from lens_eval.backends.vllm_limits import largest_rank

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
        if variant.kind in ("steering", "decoding"):
            return {**model_arguments(self.recipe.backbone, None, backend), variant.kind: str(model)}
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
            evaluator.ask = asking_for(self.recipe, row.spec, task.language, task.name)
            evaluator.asked = row.spec.ask or ""
            of_weights = key_of({"cell": key, "weights": weights})
            inference = evaluator.evaluate(task, folder, self.recipe.limit, of_weights, on_progress)
            result = Result(task.name, seconds(), inference)
            record = {
                "key": key,
                "seconds": result.seconds,
                "inference_seconds": inference,
                "weights": weights,
                **({"tokens": evaluator.tokens} if evaluator.tokens else {}),
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
        reason = machine_paths(self.folder, self.recipe).text(_first_line(error))
        return Result(task, reason=reason, trace="".join(traceback.format_exception(error)))


def job_of(recipe: Recipe, row: Row, output: Path, device: str) -> Job:
    """The training job of a row."""
    from lens_train.job import Job

    assert row.spec.method is not None
    # The diagnostics watch the dev data; no weight depends on them, so no key does.
    watched = {"dev_data": recipe.dev_data} if recipe.dev_data and row.spec.method == "lens" else {}
    return Job(
        method=row.spec.method,
        model=recipe.backbone,
        data=resolve_data(row.spec.data or recipe.train_data or ""),
        languages=recipe.languages,
        output=output,
        central=recipe.central,
        seed=row.seed,
        device=device,
        settings={**watched, **row.spec.settings},
    )


def machine_paths(folder: Path, recipe: Recipe) -> Paths:
    """Names for the paths that results would otherwise carry; what the recipe names keeps its last part."""
    given = [recipe.backbone, recipe.train_data, recipe.dev_data, *recipe.include_path]
    for spec in recipe.variants:
        given += [spec.model, spec.adapter, spec.data, *paths_of(recipe, spec)]
    names: dict[str | Path, str] = {Path.home(): "~", Path.cwd(): ".", folder: "RUN"}
    names.update({path: Path(path).name for path in given if path and Path(path).is_absolute()})
    # A GGUF file is loaded from the folder it was converted to: that goes by the name of the file.
    for path in filter(None, given):
        folder_of_file = converted(Path(path)) if is_gguf(path) else None
        if folder_of_file is not None:
            names[folder_of_file] = Path(path).name
    names[Path(sys.prefix)] = "ENVIRONMENT"
    names[ROOT] = "PROJECT"
    names[Path.cwd()] = "."
    names[resolve_model("builtin")] = "builtin"
    if os.environ.get("LENS_DATA_DIR"):
        names[os.environ["LENS_DATA_DIR"]] = "LENS_DATA_DIR"
    return Paths({path: name for path, name in names.items() if str(path) != "/"})


def _stamp(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_size, found.st_mtime_ns


def _first_line(error: BaseException) -> str:
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    if isinstance(error, UserError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
