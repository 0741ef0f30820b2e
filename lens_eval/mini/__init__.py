"""The built-in simulated world: where its backbone and items lie.

Everything in this package is self-written and tiny. It shows the mechanism (a model that understands
other languages, yet answers in English) and nothing about real models.
"""

from __future__ import annotations

from pathlib import Path

from lens_eval.base.errors import UserError

BUILTIN = "builtin"
SPLITS = ("train", "dev", "test")


def backbone_path() -> Path:
    """Folder of the built-in backbone, a checkpoint that `transformers` loads."""
    return Path(__file__).parent / "backbone"


def items_path(split: str = "train") -> Path:
    """JSONL file with the parallel items of `split`.

    Raises:
        UserError: no such split.
    """
    if split not in SPLITS:
        raise UserError(f"built-in data has no split {split!r}; there are {', '.join(SPLITS)}")
    return Path(__file__).parent / "items" / f"{split}.jsonl"


def resolve_model(name: str) -> str:
    """The folder of the built-in backbone for `builtin`; every other name as it is."""
    return str(backbone_path()) if name == BUILTIN else name


def resolve_data(name: str | Path) -> Path:
    """The items' file for `builtin` (train) and `builtin:SPLIT`; every other name as a path.

    Raises:
        UserError: no such split.
    """
    head, _, split = str(name).partition(":")
    if head == BUILTIN:
        return items_path(split or "train")
    return Path(name)
