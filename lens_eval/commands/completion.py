"""What a shell offers as values of an option while it is typed."""

from __future__ import annotations

from pathlib import Path


def recipes(incomplete: str) -> list[str]:
    """Recipes by name, and YAML files and folders that begin so."""
    from lens_eval.runs.recipe import recipe_folders

    named = {file.stem for folder in recipe_folders() for file in folder.glob("*.yaml")}
    there = Path(incomplete or ".")
    above = there if incomplete.endswith("/") or not incomplete else there.parent
    files = (
        [file for file in above.glob("*") if file.suffix == ".yaml" or file.is_dir()]
        if above.is_dir()
        else []
    )
    found = [*sorted(named), *(f"{file}/" if file.is_dir() else str(file) for file in sorted(files))]
    return [name for name in found if name.startswith(incomplete)]


def methods(incomplete: str) -> list[str]:
    """Methods of `lens train`."""
    from lens_train.methods import METHODS

    return sorted(name for name in METHODS if name.startswith(incomplete))


def backends(incomplete: str) -> list[str]:
    """Backends of lm_eval."""
    from lens_eval.runs.recipe import BACKENDS

    return [name for name in BACKENDS if name.startswith(incomplete)]


def detectors(incomplete: str) -> list[str]:
    """Detectors of languages."""
    return [name for name in ("lingua", "langdetect", "fasttext:") if name.startswith(incomplete)]
