"""A run at work: its cells, what is still to do, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lens_eval.base.errors import UserError
from lens_eval.base.files import make_folder, write_json, write_text
from lens_eval.base.identity import environment
from lens_eval.base.reading import read_json, shaped
from lens_eval.base.redaction import without_secrets
from lens_eval.results.compare import Comparison, compare
from lens_eval.results.read import RUN_FILE, load
from lens_eval.runs.evaluation import Evaluator, stopwatch
from lens_eval.runs.keys import Identities, cell_record
from lens_eval.runs.recipe import Recipe, Row, rows_of
from lens_eval.runs.task_index import EvalTask
from lens_eval.runs.workplace import MODELS, Result, Workplace, machine_paths


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
        self.paths = machine_paths(folder, recipe)
        self.done = 0
        self._loaded: Evaluator | None = None
        self.costs: dict[str, dict[str, Any]] = {}
        self.clock = clock
        self.seconds = {"train": 0.0, "load": 0.0, "evaluate": 0.0, "inference": 0.0}
        self.environment = environment()
        self.identities = Identities(recipe, device)
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
        from lens_eval.base.progress import progress

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
        for warning in self.costs[row.name].get("train_warnings", ()):
            self.say(f"{self.prefix(row)}: warning: {warning}")

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
        make_folder(errors, below=self.folder)
        write_text(errors / f"{name}.txt", trace, "replace")

    def _costs(self, row: Row) -> None:
        cost: dict[str, Any] = {"evaluation_seconds": sum(cell.seconds for cell in self.cells[row.name])}
        records = [cell_record(self.folder / cell.folder).get("tokens") for cell in self.cells[row.name]]
        asked = [tokens for tokens in records if isinstance(tokens, dict)]
        if asked:
            cost["tokens"] = {name: sum(each[name] for each in asked) for name in asked[0]}
        model = self.model_folder(row)
        if model is not None:
            from lens_train.job import Variant

            try:
                variant = Variant.load(model)
                cost["train_seconds"] = variant.wall_seconds
                cost["train_tokens"] = variant.tokens_seen
                cost["train_peak_memory_bytes"] = variant.peak_memory_bytes
                cost["train_warnings"] = list(variant.outcome.get("warnings", ()))
                cost["settings"] = dict(variant.settings)
            except (FileNotFoundError, TypeError):
                cost.update(self._former_costs(row))
        self.costs[row.name] = cost

    def _former_costs(self, row: Row) -> dict[str, Any]:
        """What the last run noted, where the trained model has been removed since."""
        with shaped(self.folder / RUN_FILE, "record of a run"):
            former = dict(read_json(self.folder / RUN_FILE).get("costs", {}).get(row.name, {}))
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
            "recipe": without_secrets(asdict(self.recipe)),
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
        from lens_eval.page.report import write_of_run
        from lens_eval.results.tables import write_all

        try:
            scores, document, holes = load([self.folder])
        except UserError as error:
            raise UserError(f"{error}\nRemove that cell's folder: the same command makes it anew.") from error
        comparison = compare(scores, name=self.recipe.name, holes=holes, run=document)
        write_all(comparison, self.folder)
        models = {row.name: model for row in self.rows if (model := self.model_folder(row)) is not None}
        write_of_run(self.folder, comparison, scores, models)
        return Outcome(comparison, failed, self.done)


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
