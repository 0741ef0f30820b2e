"""Results folders read: those of lens and of plain lm_eval alike, from the samples that both keep."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from operator import itemgetter
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, NamedTuple

from lens_eval.base import reading
from lens_eval.base.errors import UserError, did_you_mean
from lens_eval.base.files import plain_name
from lens_eval.base.shapes import RUN, require_shape

if TYPE_CHECKING:
    import numpy as np


RUN_FILE = "run.json"


@dataclass(frozen=True)
class Scores:
    """The per-item results of one variant on one task, sorted by item.

    `metrics[name]` has shape (n,): one number per item, in the order of `items`.
    """

    variant: str
    task: str
    family: str
    language: str
    """Project code, or an empty string where the task does not say."""
    central: str
    items: tuple[str, ...]
    """What makes an item the same one in every language: the cluster of its interval."""
    doc_ids: tuple[int, ...]
    """lm_eval's number of each item, by which its samples are found again."""
    metrics: Mapping[str, np.ndarray]
    version: str
    shots: int
    doc_hashes: tuple[str, ...]
    prompt_hashes: tuple[str, ...]
    generation: str
    chat_template: str
    simulated: bool
    source: Path
    cut_prompts: int = 0
    """Prompts that did not fit in the model's context and were cut."""
    model: str = ""
    """The model as the results name it."""
    asked: str = ""
    """How a variant without training was asked for the language: `prompted`, `few_shot`, or not at all."""


@dataclass(frozen=True)
class Hole:
    """A cell that should be in the table and is not."""

    variant: str
    task: str
    reason: str


class Loaded(NamedTuple):
    """What results folders hold."""

    scores: list[Scores]
    run: dict[str, Any]
    """The `run.json` where exactly one run of `lens reproduce` was read; else empty."""
    holes: list[Hole]
    """What such a run should hold and does not."""


def load(runs: Sequence[str | Path]) -> Loaded:
    """Read results folders: of `lens reproduce`, `lens eval`, or of lm_eval itself.

    `NAME=FOLDER` names the variant of a folder that holds one; where it holds several, `NAME` tells them from
    those of the same name elsewhere. Without a name, the part of the path in which the folders differ does.

    Raises:
        UserError: no such folder, no results in it, or a file that is corrupt, cut short or foreign.
    """
    scores: list[Scores] = []
    documents: list[dict[str, Any]] = []
    holes: list[Hole] = []
    given = [_named(str(run)) for run in runs]
    for (name, path), tail in zip(given, _tails([path.resolve() for _, path in given]), strict=True):
        missing: list[Hole] = []
        if (path / RUN_FILE).is_file():
            document = read_json(path / RUN_FILE)
            words = "is not the record of a run of `lens reproduce`"
            require_shape(document, RUN, f"{path / RUN_FILE} {words}")
            document = _renamed(document, name)
            documents.append(document)
            found, missing = _read_run(path, document)
        else:
            found = _read_lm_eval(path, name)
        taken = {*(each.variant for each in scores), *(each.variant for each in holes)}
        own = [*(each.variant for each in found), *(each.variant for each in missing)]
        names = _told_apart(own, taken, name or tail)
        scores += [replace(each, variant=names[each.variant]) for each in found]
        holes += [replace(each, variant=names[each.variant]) for each in missing]
    return Loaded(scores, documents[0] if len(documents) == 1 else {}, holes)


def _named(given: str) -> tuple[str | None, Path]:
    name, separator, rest = given.partition("=")
    if not separator or Path(given).exists():
        return None, _existing(Path(given))
    if not name.strip():
        raise UserError(f"{given!r} names no variant; write NAME=FOLDER")
    return name.strip(), _existing(Path(rest).expanduser())


def _tails(paths: Sequence[PurePath]) -> list[str]:
    """The ends of paths, each long enough to tell it from the others."""

    def end(path: PurePath) -> str:
        others = [other for other in paths if other != path]
        length = next(
            (
                length
                for length in range(1, len(path.parts))
                if all(other.parts[-length:] != path.parts[-length:] for other in others)
            ),
            len(path.parts),
        )
        return str(PurePath(*path.parts[-length:]))

    return [end(path) for path in paths]


def _told_apart(own: Iterable[str], taken: set[str], label: str) -> dict[str, str]:
    """New names for variants of a run whose names are taken by another: with what tells the runs apart."""
    own = list(dict.fromkeys(own))
    names: dict[str, str] = {}
    for variant in own:
        candidates = chain([variant, f"{variant} ({label})"], (f"{variant} ({label} {n})" for n in count(2)))
        used = taken | set(names.values()) | (set(own) - {variant})
        names[variant] = next(name for name in candidates if name not in used)
    return names


def _renamed(document: dict[str, Any], name: str | None) -> dict[str, Any]:
    """The record of a run with its only variant called `name`; as it is where there are several."""
    cells = document["cells"]
    if name is None or len({cell["variant"] for cell in cells}) != 1:
        return document
    renamed = [{**cell, "variant": name} for cell in cells]
    return {**document, "variants": [name], "reference": name, "cells": renamed}


def _existing(path: Path) -> Path:
    if not path.exists():
        near = [str(p) for p in path.parent.glob("*") if p.is_dir()] if path.parent.is_dir() else []
        raise UserError(f"no results folder {path}{did_you_mean(str(path), near)}")
    return path


def _read_run(folder: Path, document: Mapping[str, Any]) -> tuple[list[Scores], list[Hole]]:
    scores, holes = [], []
    for cell in document["cells"]:
        if cell["state"] == "finished":
            results = _single_results(_inside(folder, cell["folder"]))
            simulated = bool(document.get("simulated"))
            judged = sorted(results.parent.glob(f"judge_*/{results.name}"))
            for file in (results, *(file for file in judged if file.is_file())):
                scores += _read_results(file, variant=cell["variant"], simulated=simulated)
        else:
            holes.append(Hole(cell["variant"], cell["task"], cell.get("reason") or "not evaluated yet"))
    return scores, holes


def _inside(folder: Path, name: str) -> Path:
    """A folder below a run's own.

    Raises:
        UserError: it lies elsewhere.
    """
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise UserError(f"{folder / RUN_FILE} names the folder {name!r}, which is outside of the run")
    return folder / name


def _single_results(folder: Path) -> Path:
    found = sorted(file for file in folder.glob("results_*.json") if file.is_file())
    if not found:
        raise UserError(f"{folder} should hold results_*.json and does not; run `lens reproduce` again")
    return found[-1]


def _read_lm_eval(path: Path, name: str | None) -> list[Scores]:
    """All results below a folder, each model a variant.

    Of several results of one task and model in one place the latest counts, as in lm_eval. Models whose names
    end alike, and one model that was evaluated on one task in several places, are told apart.
    """
    files = [path] if path.is_file() else sorted(_results_below(path), key=lambda p: (p.name, p))
    files = [p for p in files if not any(part.endswith(".partial") for part in p.parts)]
    if not files:
        raise UserError(
            f"{path} holds no lm_eval results (results_*.json); was lm_eval run with --output_path?"
        )
    places: dict[tuple[str, Path], dict[str, Scores]] = {}
    for file in files:
        for scores in _read_results(file, variant=None):
            places.setdefault((scores.model, _place_of(file, path)), {})[scores.task] = scores
    found: list[_Found] = []
    for (model, place), tasks in places.items():
        same = next((f for f in found if f.model == model and not f.tasks.keys() & tasks.keys()), None)
        if same is None:
            found.append(_Found(model, place, dict(tasks)))
        else:
            same.tasks.update(tasks)
    variants = [name] if name is not None and len(found) == 1 else _variants_of(found, path, name)
    return [
        replace(scores, variant=variant)
        for variant, each in zip(variants, found, strict=True)
        for scores in each.tasks.values()
    ]


@dataclass
class _Found:
    """What was found of one model in one place, or in several with other tasks."""

    model: str
    place: Path
    tasks: dict[str, Scores]


def _place_of(file: Path, root: Path) -> Path:
    """The folder of the run that a results file belongs to."""
    above = [folder for folder in file.parents if folder == root or folder.is_relative_to(root)]
    run = next((folder for folder in above if (folder / RUN_FILE).is_file()), None)
    return run or next(folder for folder in file.parents if not folder.name.startswith("judge_"))


def _variants_of(found: Sequence[_Found], root: Path, name: str | None) -> list[str]:
    """A name for each model: its own, with more of its path, or the place of its results, if need be."""
    labels = [model_label(each.model) for each in found]
    names = []
    for label, each in zip(labels, found, strict=True):
        alike = [other for other, own in zip(found, labels, strict=True) if own == label]
        if len(alike) > 1 and len({other.model for other in alike}) == len(alike):
            tails = _tails([PurePath(other.model) for other in alike])
            label = dict(zip([other.model for other in alike], tails, strict=True))[each.model]
        elif len(alike) > 1:
            label = (
                f"{label} ({each.place.relative_to(root) if each.place.is_relative_to(root) else each.place})"
            )
        names.append(label if name is None else f"{label} ({name})")
    return names


_STAMP = re.compile(r"_(\d{4}-\d\d-\d\dT[\d.-]+)$")


def _results_below(path: Path) -> set[Path]:
    """`results_*.json`, and what lm_eval makes of `--output_path x.json`: `x_TIME.json`."""
    named = {file for file in path.rglob("*.json") if _STAMP.search(file.stem)}
    # A pipe of that name in a folder from elsewhere would be waited for without end.
    return {file for file in named | set(path.rglob("results_*.json")) if file.is_file()}


def _read_results(file: Path, variant: str | None, simulated: bool = False) -> list[Scores]:
    results = read_json(file)
    for key in ("results", "configs", "versions", "n-shot"):
        if not isinstance(results.get(key), dict):
            raise UserError(f"{file} is no results file of lm_eval (no `{key}`)")
    model = str(results.get("model_name") or file.parent.name)
    found = _STAMP.search(file.stem)
    stamp = found[1] if found else file.stem.removeprefix("results_")
    tasks = [t for t in results["configs"] if t in results["n-shot"]]
    scores = []
    for task in tasks:
        plain_name(task, f"{file}: a task")
        samples = samples_file(file.parent, task, stamp)
        if samples is None:
            raise UserError(
                f"{file}: the per-item samples of {task} are missing; run lm_eval with --log_samples"
            )
        with reading.shaped(file, "results file of lm_eval"):
            own = _read_samples(samples, results, task, variant or model_label(model), simulated)
            scores.append(replace(own, model=model))
    return scores


def model_label(model: str) -> str:
    """A hub id as it is; of a local path the last part."""
    return Path(model).name if model.startswith(("/", ".")) or model.count("/") > 1 else model


def samples_file(folder: Path, task: str, stamp: str) -> Path | None:
    for ending in (".jsonl", ".jsonl.gz"):
        file = folder / f"samples_{task}_{stamp}{ending}"
        if file.is_file():
            return file
    return None


def read_json(file: Path) -> dict[str, Any]:
    return reading.read_object(file, "results file")


def read_lines(file: Path) -> Iterator[dict[str, Any]]:
    """The records of a `samples_*.jsonl` or `.jsonl.gz`.

    Raises:
        UserError: a record that cannot be read; names file and line.
    """
    for _, sample in reading.read_objects(file):
        yield sample


def _read_samples(file: Path, results: Mapping[str, Any], task: str, variant: str, simulated: bool) -> Scores:
    config = results["configs"][task]
    metadata = config.get("metadata") or {}
    rows: dict[int, tuple[str, str, str]] = {}
    columns = _Columns()
    with reading.shaped(file, "file of lm_eval samples"):
        for sample in read_lines(file):
            item = sample["doc_id"]
            document = sample["doc"]
            own = document.get("id") if isinstance(document, dict) else None
            hashes = sample["doc_hash"] + sample["target_hash"]
            # A second turn's prompt holds the model's own first answer: no two models have the same.
            prompt = hashes if metadata.get("turn") == 2 else sample["prompt_hash"]
            rows[item] = (str(item if own is None else own), hashes, prompt)
            columns.add(item, with_form(sample))
        expected = (results.get("n-samples") or {}).get(task, {}).get("effective", len(rows))
    if not rows or len(rows) != expected:
        raise UserError(f"{file} is cut short: {len(rows)} items of {expected}")
    if columns.only_predictions:
        raise UserError(
            f"{file} was made with --predict_only: it holds responses and no scores; `lens score` judges "
            "them, or run lm_eval without --predict_only"
        )
    order = sorted(rows)
    items = tuple(rows[i][0] for i in order)
    family, language = family_and_language(task, metadata)
    return Scores(
        variant=variant,
        task=task,
        family=family,
        language=language,
        central=str(metadata.get("central", "en")),
        items=items if len(set(items)) == len(items) else tuple(str(i) for i in order),
        doc_ids=tuple(order),
        metrics=columns.arrays(order),
        version=str(results["versions"].get(task)),
        shots=int(results["n-shot"][task]),
        doc_hashes=tuple(rows[i][1] for i in order),
        prompt_hashes=tuple(rows[i][2] for i in order),
        generation=json.dumps(config.get("generation_kwargs") or {}, sort_keys=True, ensure_ascii=False),
        chat_template=str(results.get("chat_template_sha")),
        simulated=simulated or bool(metadata.get("simulated")) or task.startswith("lens_mini"),
        source=file,
        asked=str((results.get("config") or {}).get("asked") or ""),
        cut_prompts=int((results.get("config") or {}).get("cut_prompts") or 0),
    )


def with_form(sample: dict[str, Any]) -> dict[str, Any]:
    """The sample with the form of its reply (`usable`, `echo`, `loop`), for results recorded without.

    The reply is in every sample. Where its language was not judged, nothing is added.
    """
    names = sample["metrics"]
    if "usable" in names or "on_target" not in names:
        return sample
    reply = sample["resps"][0]
    while isinstance(reply, list) and reply:
        reply = reply[0]
    if not isinstance(reply, str):
        return sample
    from lens_eval.language.reply_form import form_metrics, form_of

    document = sample["doc"]
    prompt = document.get("prompt") if isinstance(document, dict) else None
    form = form_metrics(form_of(reply, prompt if isinstance(prompt, str) else None), sample)
    return {**sample, **form, "metrics": [*names, *(name for name in form if name not in names)]}


OF_LANGUAGE = (
    *("on_target", "off_target", "central", "other", "undetermined"),
    *("usable", "echo", "loop", "empty", "foreign_words"),
)
"""Metrics of a reply as it was written: no filter of an answer changes them."""
_NUMBERS = {bool, int, float, type(None)}


class _Columns:
    """The numbers of samples by filter and metric, gathered row by row: 200,000 rows are not unusual."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, tuple[str, ...]], dict[int, tuple[Any, ...]]] = {}
        self._getters: dict[tuple[str, ...], Callable[[Mapping[str, Any]], tuple[Any, ...]]] = {}

    @property
    def only_predictions(self) -> bool:
        """Whether the samples were not scored."""
        return {name for _, names in self._rows for name in names} == {"bypass"}

    def add(self, item: int, sample: Mapping[str, Any]) -> None:
        """Note one sample's metrics."""
        names = tuple(sample["metrics"])
        if names not in self._getters:
            # With one name itemgetter returns the value itself: ask for the first twice.
            self._getters[names] = itemgetter(*names, *names[:1]) if names else lambda _: ()
        key = (sample.get("filter", "none"), names)
        self._rows.setdefault(key, {})[item] = self._getters[names](sample)

    def arrays(self, order: Sequence[int]) -> dict[str, np.ndarray]:
        """Metrics that every item has as a number, in the order of items; shape (n,) each.

        An item for which there is no number (null: a judge gave no grade) has NaN, if some item has one.
        """
        import numpy as np

        found: dict[str, np.ndarray] = {}
        for (filtered, names), rows in self._rows.items():
            if len(rows) != len(order):
                continue
            for index, name in enumerate(names):
                column = [rows[item][index] for item in order]
                if set(map(type, column)) <= _NUMBERS:
                    array = np.array(column, dtype=float)
                    if not np.isnan(array).all():
                        plain = filtered == "none" or name in OF_LANGUAGE
                        found[name if plain else f"{name},{filtered}"] = array
        return found


def family_and_language(task: str, metadata: Mapping[str, Any]) -> tuple[str, str]:
    """Family and language of a task: its metadata's word, else the language code its name ends on."""
    from lens_eval.language.languages import LANGUAGES

    stem, _, ending = task.rpartition("_")
    language = metadata.get("language")
    if language:
        return (stem if ending == language and stem else str(metadata.get("family", task))), str(language)
    if stem and ending in LANGUAGES:
        return stem, ending
    return task, ""
