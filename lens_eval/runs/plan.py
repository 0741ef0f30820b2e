"""`lens reproduce --plan`: what a run would do and need, without loading a model or asking the network.

The figures are rough on purpose and say so: they tell minutes from days and one GPU from eight. What is not
known here (the size of a model without one in its name, items on the hub) is said to be unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lens_eval.base.errors import UserError
from lens_eval.base.files import free_bytes
from lens_eval.base.reading import read_object, shaped
from lens_eval.base.terminal import make_console
from lens_eval.mini import resolve_data
from lens_eval.runs.costs import (
    ANSWER_TOKENS,
    BF16_BYTES,
    PROMPT_TOKENS,
    SAMPLE,
    TEMPLATE_TOKENS,
    Load,
    Machine,
    Shape,
    evaluation_seconds,
    is_here,
    mean_tokens,
    shape_of,
    token_counter,
    training_bytes,
    training_seconds,
)
from lens_eval.runs.preflight import available, whole_rows
from lens_eval.runs.recipe import Recipe, Row, output_of, rows_of, unset_variable
from lens_eval.runs.sources import paths_of
from lens_eval.runs.task_index import count_of
from lens_eval.tasks.families import POLYMATH_FAMILIES

LM_EVAL_LIMIT = 256
"""Tokens of a reply where neither task nor recipe says."""
CACHE = 1.3
"""Memory for keys and values, as a factor on the weights."""
RESULT_BYTES = 700
"""Of one item on disk, compressed."""
OFFLINE = "the hub may not be asked (HF_HUB_OFFLINE is set)"

# Items that a family publishes to be evaluated, per language; for where they cannot be read here.
PUBLISHED: Mapping[str, int | Mapping[str, int]] = {
    "global_mgsm": 250,
    "belebele": 900,
    **dict.fromkeys(POLYMATH_FAMILIES, 125),
    "xnli": 5010,
    "mgsm": 250,
    "xcopa": 500,
    "xwinograd": {"en": 2325, "ja": 959, "zh": 504, "ru": 315, "pt": 263, "fr": 83},
    "xstorycloze": 1511,
    "mmlu": 14042,
    "kmmlu": 35030,
    "mtbench": 80,
}


@dataclass(frozen=True)
class PlannedTask:
    """One task of the plan."""

    entry: str
    """The name in the recipe that brought it in."""
    name: str
    items: int | None
    """None: unknown here."""
    requests: int = 1
    """Passes through the model per item; the letters of one item share one."""
    answer_tokens: int = 0
    """Tokens generated per item, as a rule; 0: options are scored."""
    answer_limit: int = 0
    """Most tokens generated per item: a small model often writes on to the limit."""
    source: str = "read"
    """`read`, `published` (a known size; the items were not seen) or `unknown`."""
    reason: str = ""
    """Why the items could not be read."""
    examples: tuple[str, ...] = ()
    """A few of its prompts, from which their length is known."""


# --- tasks -------------------------------------------------------------------------------------


def planned_tasks(recipe: Recipe) -> list[PlannedTask]:
    """The tasks of a recipe with their sizes; items that cannot be read here are noted, not an error.

    Raises:
        UserError: a task that does not exist, or none in the recipe's languages.
    """
    from lens_eval.runs.task_index import index_tasks, leaf_names
    from lens_eval.upstream.evaluation import quiet

    planned: dict[str, PlannedTask] = {}
    with quiet():
        manager = index_tasks(recipe.tasks, recipe.include_path)
        for entry in recipe.tasks:
            for leaf in leaf_names(manager, entry, recipe.languages):
                for task in _planned(manager, entry, leaf, recipe):
                    planned.setdefault(task.name, task)
    return list(planned.values())


def _planned(manager: Any, entry: str, leaf: str, recipe: Recipe) -> list[PlannedTask]:
    config = manager.task_index[leaf].cfg or {}
    try:
        found = manager.load([leaf])["tasks"].values()
    except Exception as error:  # whatever a task's own code says of items that are not here
        text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        reason = text.partition("; go online")[0].replace(OFFLINE, "a plan does not ask the hub")
        items = _published(config.get("metadata"), recipe.limit)
        source = "unknown" if items is None else "published"
        return [PlannedTask(entry, leaf, items, 1, *_answer_tokens(config, recipe), source, reason)]
    tasks = []
    for task in found:
        documents = task.eval_docs
        items = count_of(len(documents), recipe.limit)
        settings = {"output_type": task.OUTPUT_TYPE, "generation_kwargs": task.config.generation_kwargs}
        tasks.append(
            PlannedTask(
                entry,
                task.task_name,
                items,
                _requests(task, documents),
                *_answer_tokens(settings, recipe),
                examples=_examples(task, documents, items),
            )
        )
    return tasks


def _examples(task: Any, documents: Any, items: int) -> tuple[str, ...]:
    """Evenly spaced prompts, each once more for every example that the task shows before it."""
    shots = task.config.num_fewshot or 0
    step = max(1, items // SAMPLE)
    texts = [str(task.doc_to_text(documents[at])) for at in range(0, items, step)]
    return tuple("\n\n".join([text] * (1 + shots)) for text in texts)


def _requests(task: Any, documents: Any) -> int:
    if task.OUTPUT_TYPE != "multiple_choice":
        return 1
    choices = [str(choice) for choice in task.doc_to_choice(documents[0])]
    return 1 if all(len(choice) == 1 for choice in choices) else len(choices)


def _published(metadata: Any, limit: float | None) -> int | None:
    if not isinstance(metadata, Mapping):
        return None
    sizes = PUBLISHED.get(str(metadata.get("family")))
    size = sizes.get(str(metadata.get("language"))) if isinstance(sizes, Mapping) else sizes
    if size is None:
        return None
    return count_of(min(size, metadata.get("sample") or size), limit)


def _answer_tokens(config: Mapping[str, Any], recipe: Recipe) -> tuple[int, int]:
    """Tokens of a reply as a rule, and at most."""
    if config.get("output_type") == "multiple_choice":
        return 0, 0
    settings = {**(config.get("generation_kwargs") or {}), **recipe.backend.gen_kwargs}
    limit = int(settings.get("max_gen_toks") or LM_EVAL_LIMIT)
    return min(ANSWER_TOKENS, limit), limit


# --- time, memory, disk ------------------------------------------------------------------------


def estimates(
    recipe: Recipe, tasks: Sequence[PlannedTask], device: str, folder: Path, on_gpu: bool | None = None
) -> list[str]:
    """Lines on disk, memory and time of a recipe without its left-out variants."""
    shape = shape_of(recipe.backbone)
    free = free_bytes(folder)
    if shape is None:
        return [
            f"disk, memory, time: unknown, the size of {recipe.backbone} is not known here; "
            f"{_bytes(free)} of disk are free"
        ]
    here, parameters = _on_gpu(device), shape.total
    on_gpu = (here or recipe.backend.model == "vllm" or parameters > 1e9) if on_gpu is None else on_gpu
    rows = rows_of(recipe)
    return [
        f"backbone: about {_count(parameters)} parameters",
        _disk_line(recipe, rows, tasks, parameters, free),
        _memory_line(rows, parameters, on_gpu),
        *_time_lines(recipe, rows, tasks, shape, Machine.gpu() if on_gpu else Machine.cpu()),
        *(
            []
            if here or not on_gpu
            else ["no GPU is visible here: the figures are for a machine that has one"]
        ),
    ]


def _disk_line(
    recipe: Recipe, rows: Sequence[Row], tasks: Sequence[PlannedTask], parameters: int, free: int
) -> str:
    trained = [row for row in rows if row.trained]
    full = whole_rows(recipe)
    items = sum(task.items or 0 for task in tasks) * len(rows)
    disk = len(full) * parameters * BF16_BYTES + items * RESULT_BYTES
    here = is_here(recipe.backbone)
    download = "" if here else f", {_bytes(parameters * BF16_BYTES)} for the backbone"
    return (
        f"disk: about {_bytes(disk)} for {len(full)} full and {len(trained) - len(full)} small variants and "
        f"the results{download}; {_bytes(free)} free{'' if disk < free else ', not enough'}"
    )


def _memory_line(rows: Sequence[Row], parameters: int, on_gpu: bool) -> str:
    evaluation = parameters * BF16_BYTES * CACHE
    line = f"{'GPU memory' if on_gpu else 'memory'}: about {_bytes(evaluation)} to evaluate"
    needs = [(training_bytes(row, parameters, on_gpu), row.name) for row in rows if row.trained]
    if needs:
        most, name = max(needs)
        line += f", {_bytes(most)} for the largest training ({name})"
    return line


def _time_lines(
    recipe: Recipe, rows: Sequence[Row], tasks: Sequence[PlannedTask], shape: Shape, machine: Machine
) -> list[str]:
    count = token_counter(recipe.backbone)
    loads = [
        Load(
            task.items or 0,
            mean_tokens(task.examples, count) + TEMPLATE_TOKENS if task.examples else PROMPT_TOKENS,
            task.requests,
            task.answer_tokens,
        )
        for task in tasks
    ]
    evaluation = len(rows) * evaluation_seconds(recipe, loads, shape, machine)
    longest = [
        replace(load, answer_tokens=task.answer_limit) for load, task in zip(loads, tasks, strict=True)
    ]
    most = len(rows) * evaluation_seconds(recipe, longest, shape, machine)
    training = {row.name: training_seconds(recipe, row, shape, machine, count) for row in rows if row.trained}
    known = sum(seconds for seconds in training.values() if seconds is not None)
    unknown = [name for name, seconds in training.items() if seconds is None]
    unread = [task.name for task in tasks if task.items is None]
    lines = [f"time, if every reply runs to its limit of tokens: {_duration(most + known)}"]
    gaps = [f"training of {', '.join(unknown)} unknown"] if unknown else []
    gaps += [f"without {len(unread)} tasks of unknown size"] if unread else []
    where = "one GPU" if machine.kind == "gpu" else "this CPU"
    line = f"time: roughly {_duration(evaluation + known)} on {where}"
    line += f": {_duration(evaluation)} of evaluation, {_duration(known)} of training"
    return [line + (f" ({'; '.join(gaps)})" if gaps else ""), *(lines if most > evaluation else [])]


def _on_gpu(device: str) -> bool:
    if device != "auto":
        return device.startswith("cuda")
    import torch

    return torch.cuda.is_available()


# --- shown -------------------------------------------------------------------------------------


def show_plan(recipe: Recipe, output: Path | None, device: str) -> None:
    """Print cells, disk, memory and time of a recipe, and what has to be there before it can run."""
    from rich.markup import escape

    if recipe.backend.model == "endpoint":
        raise UserError("a plan counts the time and memory of this machine; it knows neither of an endpoint")
    console = make_console(soft_wrap=True)
    folder = output_of(recipe, output)
    tasks = planned_tasks(recipe)
    recipe, left_out = available(recipe)
    rows = rows_of(recipe)
    console.print(f"[bold]{escape(recipe.name)}[/bold]: {escape(recipe.description or recipe.backbone)}")
    console.print(
        escape(f"backbone {recipe.backbone}, languages {', '.join(recipe.languages)}, into {folder}")
    )
    console.print(
        f"\n[bold]cells[/bold]: {len(rows)} variants x {len(tasks)} tasks = {len(rows) * len(tasks)}"
    )
    for line in (*_row_lines(recipe, rows, tasks, folder), *_left_out_lines(left_out)):
        console.print(escape(line))
    console.print("\n[bold]tasks[/bold]")
    for line in _task_lines(recipe, tasks):
        console.print(escape(line))
    console.print("\n[bold]needs[/bold]")
    for line in (*estimates(recipe, tasks, device, folder), *missing(recipe)):
        console.print(escape(f"  {line}"))


def _row_lines(recipe: Recipe, rows: Sequence[Row], tasks: Sequence[PlannedTask], folder: Path) -> list[str]:
    finished = _finished(folder)
    lines = []
    for row in rows:
        what = (
            f"train with {row.spec.method}"
            if row.spec.method
            else f"evaluate {row.spec.model or recipe.backbone}"
            + (f", {row.spec.ask}" if row.spec.ask else "")
        )
        done = sum((row.name, task.name) in finished for task in tasks)
        lines.append(f"  {row.name}: {what}; {done} of {len(tasks)} cells are there")
    return lines


def _left_out_lines(left_out: Mapping[str, str]) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for name, reason in left_out.items():
        reasons.setdefault(reason, []).append(name)
    return [f"  left out: {', '.join(names)}: {reason}" for reason, names in reasons.items()]


def _task_lines(recipe: Recipe, tasks: Sequence[PlannedTask]) -> list[str]:
    lines = []
    for entry in recipe.tasks:
        own = [task for task in tasks if task.entry == entry]
        items = sum(task.items or 0 for task in own)
        lines.append(f"  {entry}: {len(own)} tasks, {items} items" if own else f"  {entry}: named before")
        for source, words in (("published", "published sizes, not read here"), ("unknown", "size unknown")):
            part = [task for task in own if task.source == source]
            if part:
                names = ", ".join(task.name for task in part)
                lines.append(f"    {words}: {names} ({part[0].reason})")
    return lines


def missing(recipe: Recipe) -> list[str]:
    """What a run would be refused for, as far as that can be seen without a model."""
    users: dict[str, list[str]] = {}
    for spec in recipe.variants:
        for path in paths_of(recipe, spec):
            if unset_variable(path) or not resolve_data(path).exists():
                users.setdefault(path, []).append(spec.name)
    lines = [
        f"missing: the model {model}: no such file or folder"
        for model in dict.fromkeys([recipe.backbone, *(spec.model for spec in recipe.variants if spec.model)])
        if model.startswith((".", "/")) and not Path(model).exists()
    ]
    for path, names in users.items():
        variable = unset_variable(path)
        what = f"the environment variable {variable} ({path})" if variable else path
        lines.append(f"missing: {what}, for {', '.join(names)}")
    from importlib.util import find_spec

    if recipe.backend.model == "vllm" and find_spec("vllm") is None:
        lines.append("missing: vLLM; pip install 'lens-multilingual[vllm]', or --backend hf")
    return lines


def _finished(folder: Path) -> set[tuple[str, str]]:
    """Cells that the last run finished; a changed recipe or package may ask for some of them again."""
    file = folder / "run.json"
    try:
        cells: Any = read_object(file, "record of a run").get("cells")
        with shaped(file, "record of a run"):
            return {(cell["variant"], cell["task"]) for cell in cells if cell["state"] == "finished"}
    except UserError:
        return set()


def _bytes(count: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 1e3:.0f} kB"


def _count(number: int) -> str:
    return f"{number / 1e9:.3g} billion" if number >= 1e8 else f"{number / 1e6:.3g} million"


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400 * 2), ("hours", 5400), ("minutes", 90)):
        if seconds >= size:
            base = {"days": 86400, "hours": 3600, "minutes": 60}[unit]
            return f"{seconds / base:.0f} {unit}"
    return f"{max(1, round(seconds))} s"
