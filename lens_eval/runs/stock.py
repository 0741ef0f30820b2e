"""What a recipe needs from elsewhere, brought onto this machine: `lens fetch`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lens_eval.base.errors import UserError
from lens_eval.runs.preflight import available
from lens_eval.runs.recipe import Recipe
from lens_eval.runs.sources import adapter_folder, model_arguments
from lens_eval.runs.task_index import load_tasks


def stock_tasks(
    names: Sequence[str],
    languages: Sequence[str],
    say: Callable[[str], None],
    include_path: Sequence[str] = (),
) -> None:
    """Load the items of tasks and groups, which keeps them in the cache of the hub.

    Raises:
        UserError: a task that does not exist, or whose items cannot be had.
    """
    left_out: dict[str, str] = {}
    for task in load_tasks(names, languages, include_path, left_out=left_out):
        say(f"task\t{task.name}\t{task.items} items")
    for task_name, reason in left_out.items():
        say(f"left out\t{task_name}\t{reason}")


def stock_recipe(recipe: Recipe, languages: Sequence[str], say: Callable[[str], None]) -> None:
    """Find or download the models and adapters of a recipe, then the items of its tasks.

    What can be had is brought although something else cannot.

    Raises:
        UserError: something cannot be had; names all of it.
    """
    recipe, left_out = available(recipe)
    for name, reason in left_out.items():
        say(f"left out\t{name}\t{reason}")
    missing = []
    if recipe.backend.model != "endpoint":
        for model, adapter in _models(recipe):
            try:
                say(f"model\t{adapter or model}\t{_brought(model, adapter, recipe.backend.revision)}")
            except UserError as error:
                missing.append(str(error))
    try:
        stock_tasks(recipe.tasks, languages, say, recipe.include_path)
    except UserError as error:
        missing.append(str(error))
    if missing:
        raise UserError("; ".join(missing))


def _models(recipe: Recipe) -> list[tuple[str, str | None]]:
    """Models and adapters, each once: the backbone first."""
    named: list[tuple[str, str | None]] = [(recipe.backbone, None)]
    named += [(spec.model or recipe.backbone, spec.adapter) for spec in recipe.variants if not spec.method]
    return list(dict.fromkeys(named))


def _brought(model: str, adapter: str | None, revision: str | None) -> str:
    from lens_train.checkpoint import Checkpoint

    arguments = model_arguments(model, adapter)
    folder = Checkpoint.open(arguments["pretrained"], revision).folder
    return str(adapter_folder(arguments["peft"]) if "peft" in arguments else folder)
