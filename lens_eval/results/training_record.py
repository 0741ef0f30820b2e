"""What a report shows of training: loss curves and subspace diagnostics, kept in the run's own folder.

Trained models are large and are not published with a run's results; their logs are small and are. So a run
copies out of `models/<variant>/training/` what its report draws, and the report needs no model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lens_eval.base import reading
from lens_eval.base.errors import UserError
from lens_eval.base.files import write_json
from lens_eval.base.shapes import TRAINING, require_diagnostics, require_shape

FILE = "training.json"
POINTS = 200
"""Points of a curve, at most; longer logs are averaged over runs of steps."""
PROJECTED = 60
"""Prompts per language in a picture of the states, at most."""
_NO_CURVE = {"stage", "step", "items", "item_losses", "seconds", "tokens"}


def collect(run: Path, models: Mapping[str, Path]) -> dict[str, Any]:
    """Bring `training.json` of a run up to date and return it.

    Args:
        models: folder of each trained variant; of one removed since, what was noted stays.
    """
    try:
        before = load(run)
    except UserError:  # about to be made anew
        before = {}
    record = {}
    for variant, folder in models.items():
        curves = read_curves(folder / "training" / "log.jsonl")
        if curves:
            subspaces = read_diagnostics(folder / "training" / "diagnostics.json")
            record[variant] = {"model": folder.name, "curves": curves, "diagnostics": subspaces}
        elif before.get(variant, {}).get("model") == folder.name:
            record[variant] = before[variant]
    if record or before:
        write_json(run / FILE, record)
    return record


def load(run: Path) -> dict[str, Any]:
    """Read `training.json` of a run folder; empty where there is none.

    Raises:
        UserError: a file that is corrupt or something else.
    """
    path = run / FILE
    if not path.is_file():
        return {}
    where = f"{path} is corrupt; remove it to do without training curves"
    try:
        record = reading.read_object(path, "record of training")
    except UserError as error:
        raise UserError(f"{where} ({error})") from None
    require_shape(record, TRAINING, where)
    for variant in record.values():
        if not variant["curves"]:
            raise UserError(f"{where}: a variant without curves")
        for curve in variant["curves"]:
            if not curve["steps"] or len(curve["steps"]) != len(curve["values"]):
                raise UserError(f"{where}: a curve with other numbers of steps and values")
        if variant["diagnostics"]:
            require_diagnostics(variant["diagnostics"], where)
    return record


def read_curves(log: Path) -> list[dict[str, Any]]:
    """The terms in a training log over its steps.

    Returns:
        One record per stage and term, in the log's order: `stage`, `term`, `steps`, `values` (means over
        `averaged` steps each).
    """
    if not log.is_file():
        return []
    columns: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for line in reading.read_text(log).split("\n"):
        record = _step(line)
        for term, value in record.items():
            number = isinstance(value, (int, float)) and math.isfinite(value)
            if term not in _NO_CURVE and number:
                columns.setdefault((str(record.get("stage", "")), term), []).append((record["step"], value))
    return [{"stage": stage, "term": term, **_averaged(points)} for (stage, term), points in columns.items()]


def _step(line: str) -> dict[str, Any]:
    """One line of a log; empty where it is no step: a method of somebody else's writes what it likes."""
    try:
        record = reading.parse_json(line, "it")
    except UserError:
        return {}
    return record if isinstance(record, dict) and isinstance(record.get("step"), int) else {}


def _averaged(points: list[tuple[int, float]]) -> dict[str, Any]:
    size = math.ceil(len(points) / POINTS)
    parts = [points[at : at + size] for at in range(0, len(points), size)]
    means = [math.fsum(value for _, value in part) / len(part) for part in parts]
    return {
        "averaged": size,
        "steps": [part[-1][0] for part in parts],
        "values": [float(f"{mean:.5g}") for mean in means],
    }


def read_diagnostics(file: Path) -> dict[str, Any]:
    """What is drawn of the diagnostics that `lens_train.watch.diagnostics` left; empty where it left none.

    Of the projection the first `PROJECTED` items of each language; numbers have four digits.
    """
    if not file.is_file():
        return {}
    found = reading.read_object(file, "record of diagnostics")
    if found.get("format") != 1:
        return {}
    found.pop("seconds", None)
    require_diagnostics(found, f"{file} is damaged")
    for time in ("before", "after"):
        points = found.get("projection", {}).get(time, {})
        for language in points:
            points[language] = points[language][:PROJECTED]
    return _rounded(found)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list) else value
