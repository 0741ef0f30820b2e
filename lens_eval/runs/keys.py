"""The key of a cell: a hash of everything that decides its numbers, and of what decides a row's weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

from lens_eval.base.errors import UserError
from lens_eval.base.files import file_hash
from lens_eval.base.identity import key_of, versions_of
from lens_eval.base.reached import libraries_of, reached, source_of
from lens_eval.base.reading import read_json
from lens_eval.mini import resolve_data
from lens_eval.runs.asking import asking_for
from lens_eval.runs.recipe import Recipe, Row
from lens_eval.runs.sources import adapter_folder, model_arguments
from lens_eval.runs.task_index import EvalTask
from lens_train.job import VARIANT_FILE
from lens_train.methods import METHODS, input_files, method_of
from lens_train.publish.base_files import is_about

CELL_FILE = "cell.json"
PATH_ARGUMENTS = ("tokenizer", "chat_template")
"""Arguments of backends that may name a folder or file without a slash."""
HOW_ASKED = ("num_concurrent", "max_retries", "timeout", "key_variable")
"""Arguments of an endpoint that decide no reply."""
SHOWING = ("lens_eval.base", "lens_train.watch")
"""Rooms that numbers do not run through: they show, count or write what others compute."""
BACKEND_MODULES: Mapping[str, Mapping[str, str]] = {
    "hf": {"checkpoint": "hf", "steering": "steered", "decoding": "decoded"},
    "endpoint": {"checkpoint": "endpoint"},
    "vllm": {"checkpoint": "vllm", "steering": "vllm_steering", "decoding": "vllm_decoding"},
}
"""By backend: the module that every model runs through, and those for what is applied to the backbone."""


class Identities:
    """The keys of cells; each part is computed once."""

    def __init__(self, recipe: Recipe, device: str) -> None:
        from lens_train.devices import resolve_device

        self.recipe = recipe
        # A device that is named may be another machine's.
        self.device = str(resolve_device(device).type) if device == "auto" else device.partition(":")[0]
        self._code: dict[tuple[tuple[str, ...], tuple[str, ...]], dict[str, Any]] = {}
        self._hashes: dict[str, str] = {}
        self._models: dict[str, Mapping[str, str]] = {}

    def cell(self, row: Row, task: EvalTask) -> str:
        """Everything that decides the numbers of one row on one task."""
        recipe = self.recipe
        if row.trained:
            model: Any = self.training(row)
        else:
            model = [self._model(row.spec.model or recipe.backbone), self._adapter(row.spec.adapter)]
        if row.spec.ask:
            asking = asking_for(recipe, row.spec, task.language, task.name) if task.language else None
            model = [*model, row.spec.ask, None if asking is None else asdict(asking)]
        return key_of(
            {
                "model": model,
                "task": task.identity,
                "backend": {**asdict(recipe.backend), "args": self._by_content(recipe.backend.args)},
                "device": self.device,
                "seed": row.seed,
                "limit": recipe.limit,
                "code": self._evaluating(row),
            }
        )

    def _evaluating(self, row: Row) -> dict[str, Any]:
        """The code of this project and the libraries that answers and their scores run through."""
        writes = method_of(row.spec.method).writes if row.spec.method else "checkpoint"
        backends = BACKEND_MODULES[self.recipe.backend.model]
        tasks = resources.files("lens_eval.tasks")
        names = {entry.name.removesuffix(".py") for entry in tasks.iterdir() if entry.name.endswith(".py")}
        entries = [f"lens_eval.tasks.{name}" for name in names - {"__init__", "generate"}]
        entries += [
            "lens_eval.upstream.evaluation",
            "lens_eval.upstream.responses",
            "lens_eval.runs.answer_language",
        ]
        entries += [
            f"lens_eval.backends.{backends[kind]}" for kind in ("checkpoint", writes) if kind in backends
        ]
        return {**self._code_of(entries, SHOWING), **versions_of(["lm-eval", "peft"])}

    def _training(self, row: Row) -> dict[str, Any]:
        """The code of this project (or the user's) and the libraries that the weights run through."""
        method = row.spec.method or ""
        module = method_of(method).function.partition(":")[0]
        # Unless they are left out, examples in another language are counted only.
        judged = method not in METHODS or row.spec.settings.get("wrong_language") == "drop"
        return self._code_of([module], SHOWING if judged else (*SHOWING, "lens_eval.language.off_target"))

    def _code_of(self, entries: Sequence[str], without: Sequence[str]) -> dict[str, Any]:
        key = tuple(sorted(entries)), tuple(without)
        if key not in self._code:
            modules = reached(entries, without)
            self._code[key] = {"source": source_of(modules), **libraries_of(modules)}
        return self._code[key]

    def training(self, row: Row) -> str:
        """Everything that decides the weights of a trained row."""
        recipe, spec = self.recipe, row.spec
        # Files count by what is in them, wherever they lie.
        files = input_files(spec.method or "", spec.settings)
        named = {key: self._hash(path) for key, path in files.items()}
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
                "code": self._training(row),
            }
        )

    def _hash(self, data: str) -> str:
        if data not in self._hashes:
            self._hashes[data] = file_hash(resolve_data(data))
        return self._hashes[data]

    def _by_content(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of a backend; files and folders among them count by what is in them."""
        paths = {
            name: Path(value).expanduser()
            for name, value in arguments.items()
            if isinstance(value, str) and ("/" in value or name in PATH_ARGUMENTS)
        }
        there = {name: file_hash(path) for name, path in paths.items() if path.exists()}
        known = {name: value for name, value in arguments.items() if name not in HOW_ASKED}
        return {**known, **there}

    def _model(self, name: str | None) -> Mapping[str, str] | None:
        """Hashes of weights, template and settings files: what the model is, wherever it lies."""
        if name is None:
            return None
        if self.recipe.backend.model == "endpoint":
            return {"endpoint": name}
        if name not in self._models:
            from lens_train.checkpoint import Checkpoint

            arguments = model_arguments(name)
            if "peft" in arguments:
                base = self._model(arguments["pretrained"]) or {}
                self._models[name] = {**base, "adapter": self._adapter(arguments["peft"]) or ""}
            else:
                identity = dict(Checkpoint.open(name, self.recipe.backend.revision).identity)
                identity.pop("name")
                self._models[name] = identity
        return self._models[name]

    def _adapter(self, name: str | None) -> str | None:
        """Hash of an adapter's files, whatever model they name; its card and licence decide no number."""
        if name is not None and name not in self._hashes:
            self._hashes[name] = file_hash_of_variant(adapter_folder(name))
        return None if name is None else self._hashes[name]


def cell_record(folder: Path) -> dict[str, Any]:
    """What a finished cell's folder says of itself: key, hash of the weights, seconds; else nothing."""
    try:
        record = read_json(folder / CELL_FILE) if (folder / CELL_FILE).is_file() else None
    except UserError:  # made again
        return {}
    return record if isinstance(record, dict) and list(folder.glob("results_*.json")) else {}


def variant_files(folder: Path) -> list[Path]:
    """Files at the top of a variant's or an adapter's folder that decide what it says, without its record."""
    kinds = (".safetensors", ".json", ".jinja", ".model", ".txt")
    return sorted(
        file
        for file in folder.iterdir()
        if file.suffix in kinds and file.is_file() and file.name != VARIANT_FILE and not is_about(file)
    )


def file_hash_of_variant(folder: Path) -> str:
    """Hash over `variant_files`."""
    return key_of({file.name: file_hash(file) for file in variant_files(folder)})
