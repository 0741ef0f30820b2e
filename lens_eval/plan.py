"""`lens reproduce --plan`: what a run would do and need, without loading a model.

The figures are rough on purpose and say so: they tell minutes from days and one GPU from eight.
"""

from __future__ import annotations

import json
import re
import shutil
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lens_eval.recipe import Recipe
from lens_eval.runner import ADAPTER_METHODS, output_of, resolve_model, rows_of

# Tokens of one request, in the middle of what the tasks of this project send and get.
PROMPT_TOKENS = 200
ANSWER_TOKENS = 200
# Useful floating point operations per second: a data-centre GPU on batches, and one CPU core.
GPU_SPEED = 1e14
CPU_SPEED = 5e10
# Bytes per parameter while training: bf16 weights; where trained, also fp32 weight, gradient and two moments.
FROZEN_BYTES = 2
TRAINED_BYTES = 16
TRAINED_SHARE = {"lens": 0.07, "xsft_lora": 0.01, "xsft_top": 0.07, "steer": 0.0}
RESULT_BYTES = 700
"""Of one item on disk, compressed."""


@dataclass(frozen=True)
class PlannedTask:
    """One task of the plan; `items` is None where its data could not be read (`reason` says why)."""

    entry: str
    name: str
    items: int | None
    requests: int
    generates: bool
    reason: str = ""


def parameters_of(model: str) -> int | None:
    """Number of parameters: from the weight files' headers, else from a name like `Llama-3-8B`."""
    folder = _folder(model)
    if folder is not None:
        return sum(_tensor_sizes(file) for file in folder.glob("*.safetensors")) or None
    known = {"phi-3.5-mini": 3.8}
    for name, billions in known.items():
        if name in model.lower():
            return int(billions * 1e9)
    found = re.search(r"(\d+(?:\.\d+)?)\s*([bm])\b", model.lower().replace("-", " ").replace("_", " "))
    return int(float(found[1]) * (1e9 if found[2] == "b" else 1e6)) if found else None


def _folder(model: str) -> Path | None:
    """The local folder of a model, from the hub's cache too; nothing is downloaded."""
    local = Path(resolve_model(model))
    if local.is_dir():
        return local
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(model, "config.json") if model.count("/") == 1 else None
    folder = Path(found).parent if isinstance(found, str) else None
    return folder if folder is not None and any(folder.glob("*.safetensors")) else None


def _tensor_sizes(file: Path) -> int:
    """Elements of all tensors in a safetensors file, from its header alone."""
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
    shapes = [entry["shape"] for name, entry in header.items() if name != "__metadata__"]
    total = 0
    for shape in shapes:
        count = 1
        for size in shape:
            count *= size
        total += count
    return total


def planned_tasks(recipe: Recipe) -> list[PlannedTask]:
    """The tasks of a recipe with their sizes; data that cannot be read is noted, not an error.

    Raises:
        UserError: a task that does not exist.
    """
    from lens_eval.evaluation import index_tasks, load_entry, quiet

    planned = []
    with quiet():
        manager = index_tasks(recipe.tasks, recipe.include_path)
        for entry in recipe.tasks:
            try:
                for task in load_entry(manager, entry, recipe.languages, recipe.limit):
                    generates = task.task.OUTPUT_TYPE == "generate_until"
                    planned.append(PlannedTask(entry, task.name, task.items, task.requests, generates))
            except Exception as error:
                reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                planned.append(PlannedTask(entry, entry, None, 1, True, reason))
    return planned


def show_plan(recipe: Recipe, output: Path | None, device: str) -> None:
    """Print cells, disk, memory and time of a recipe."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    folder = output_of(recipe, output)
    tasks = planned_tasks(recipe)
    rows = rows_of(recipe)
    console.print(f"[bold]{escape(recipe.name)}[/bold]: {escape(recipe.description or recipe.backbone)}")
    console.print(
        escape(f"backbone {recipe.backbone}, languages {', '.join(recipe.languages)}, into {folder}")
    )
    console.print(
        f"\n[bold]cells[/bold]: {len(rows)} variants x {len(tasks)} tasks = {len(rows) * len(tasks)}"
    )
    finished = _finished(folder)
    for row in rows:
        what = (
            f"train with {row.spec.method}"
            if row.spec.method
            else f"evaluate {row.spec.model or recipe.backbone}"
        )
        done = sum((row.name, task.name) in finished for task in tasks)
        console.print(escape(f"  {row.name}: {what}; {done} of {len(tasks)} cells are there"))
    for entry in recipe.tasks:
        own = [task for task in tasks if task.entry == entry]
        items = [task.items for task in own]
        reason = next((task.reason for task in own if task.reason), "")
        size = (
            f"{len(own)} tasks, {sum(i or 0 for i in items)} items"
            if None not in items
            else f"items unknown: {reason}"
        )
        console.print(escape(f"  {entry}: {size}"))
    for line in estimates(recipe, tasks, device, folder):
        console.print(escape(line))


def _finished(folder: Path) -> set[tuple[str, str]]:
    """Cells that the last run finished; a changed recipe or package may ask for some of them again."""
    try:
        cells = json.loads((folder / "run.json").read_text(encoding="utf-8"))["cells"]
    except (FileNotFoundError, json.JSONDecodeError, KeyError):
        return set()
    return {(cell["variant"], cell["task"]) for cell in cells if cell["state"] == "finished"}


def estimates(recipe: Recipe, tasks: Sequence[PlannedTask], device: str, folder: Path) -> list[str]:
    """Lines on disk, memory and time."""
    parameters = parameters_of(recipe.backbone)
    if parameters is None:
        return ["", f"disk, memory, time: unknown, the size of {recipe.backbone} is not known here"]
    rows = [row for row in rows_of(recipe) if row.trained]
    full = [row for row in rows if row.spec.method not in ADAPTER_METHODS]
    items = sum(task.items or 0 for task in tasks) * len(rows_of(recipe))
    disk = len(full) * parameters * FROZEN_BYTES + items * RESULT_BYTES
    shares = [TRAINED_SHARE.get(row.spec.method or "", 1.0) for row in rows]
    training = parameters * (FROZEN_BYTES + TRAINED_BYTES * max(shares, default=0.0))
    evaluation = parameters * FROZEN_BYTES * 1.3
    free = shutil.disk_usage(next(p for p in (folder, *folder.resolve().parents) if p.is_dir())).free
    on_gpu = _on_gpu(device)
    seconds = len(rows_of(recipe)) * sum(_seconds(task, parameters, on_gpu) for task in tasks)
    unknown = " (without the tasks of unknown size)" if any(task.items is None for task in tasks) else ""
    place = "a GPU" if on_gpu else "this CPU"
    return [
        "",
        f"backbone: about {parameters / 1e9:.3g} billion parameters",
        f"disk: about {_bytes(disk)}, {len(full)} full and {len(rows) - len(full)} small variants among it; "
        f"{_bytes(free)} free",
        f"memory: about {_bytes(evaluation)} to evaluate, {_bytes(training)} for the largest training",
        f"time: roughly {_duration(seconds)} of evaluation on {place}{unknown}; training comes on top",
    ]


def _on_gpu(device: str) -> bool:
    if device != "auto":
        return device.startswith("cuda")
    import torch

    return torch.cuda.is_available()


def _seconds(task: PlannedTask, parameters: int, on_gpu: bool) -> float:
    tokens = PROMPT_TOKENS + (ANSWER_TOKENS if task.generates else 0)
    operations = 2.0 * parameters * tokens * task.requests * (task.items or 0)
    # A step of generation reads all weights for few tokens: a fifth of the speed, as a rule.
    slowdown = 5 if task.generates else 1
    return operations * slowdown / (GPU_SPEED if on_gpu else CPU_SPEED)


def _bytes(count: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 1e3:.0f} kB"


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400 * 2), ("hours", 5400), ("minutes", 90)):
        if seconds >= size:
            base = {"days": 86400, "hours": 3600, "minutes": 60}[unit]
            return f"{seconds / base:.0f} {unit}"
    return f"{max(1, round(seconds))} s"
