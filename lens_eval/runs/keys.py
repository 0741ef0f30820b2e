"""The key of a cell: a hash of everything that decides its numbers, and of what decides a row's weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lens_eval.base.errors import UserError
from lens_eval.base.files import file_hash
from lens_eval.base.identity import key_of, source_hash, versions
from lens_eval.base.reading import read_json
from lens_eval.mini import resolve_data
from lens_eval.runs.recipe import PATH_SETTINGS, Recipe, Row
from lens_eval.runs.sources import adapter_folder, model_arguments
from lens_eval.runs.task_index import EvalTask

CELL_FILE = "cell.json"


class Identities:
    """The keys of cells; each part is computed once."""

    def __init__(self, recipe: Recipe, device: str) -> None:
        from lens_train.devices import resolve_device

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
                "replies": self._replies(),
            }
        )

    def _replies(self) -> str | None:
        """Hash of the code that generates for the backend hf."""
        from lens_train import generation

        return file_hash(Path(generation.__file__)) if self.recipe.backend.model == "hf" else None

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
            self._hashes[data] = file_hash(resolve_data(data))
        return self._hashes[data]

    def _model(self, name: str | None) -> Mapping[str, str] | None:
        """Hashes of weights, template and settings files: what the model is, wherever it lies."""
        if name is None:
            return None
        if name not in self._models:
            from lens_train.checkpoint import checkpoint_folder, model_identity

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


def cell_record(folder: Path) -> dict[str, Any]:
    """What a finished cell's folder says of itself: key, hash of the weights, seconds; else nothing."""
    try:
        record = read_json(folder / CELL_FILE) if (folder / CELL_FILE).is_file() else None
    except UserError:  # made again
        return {}
    return record if isinstance(record, dict) and list(folder.glob("results_*.json")) else {}


def file_hash_of_weights(folder: Path) -> str:
    """Hash over the weight files at the top of a variant folder."""
    files = sorted([*folder.glob("*.safetensors"), *folder.glob("steering.json")])
    return key_of({file.name: file_hash(file) for file in files})
