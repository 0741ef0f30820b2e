"""What a variant takes over from its base when it is handed on: the licence, and the files that state it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from lens_eval.base.errors import UserError
from lens_eval.base.files import written_aside
from lens_eval.base.reading import read_text
from lens_eval.mini import resolve_model
from lens_train.publish.front_matter import read_card

CARD = "README.md"
STATED = re.compile(r"(?i)(licen[cs]e|notice|copying|use_policy)([._-].*)?")
"""Names of files that state a licence."""
_LARGEST = 1 << 20
_FIELDS = ("license", "license_name", "license_link")


def is_about(file: Path) -> bool:
    """Whether a file says something about a model and decides nothing: its card, or a licence."""
    return file.name == CARD or STATED.fullmatch(file.name) is not None


def base_folder(name: str) -> Path | None:
    """The folder of a base, with its card and the files that state its licence; None if it is not there.

    A hub id is looked up in the cache, and on the hub where that can be asked.
    """
    folder = Path(resolve_model(name))
    if folder.is_dir():
        return folder
    if folder.is_file():  # a GGUF file
        return folder.parent
    from huggingface_hub import snapshot_download

    patterns = [CARD, "LICEN[CS]E*", "NOTICE*", "COPYING*", "USE_POLICY*"]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except Exception:  # the hub cannot be asked, or has no such model: then nothing is known of a licence
        return None


def licence_files(folder: Path) -> list[Path]:
    """The files of a folder that state a licence."""
    return [
        path
        for path in sorted(folder.iterdir())
        if STATED.fullmatch(path.name) and path.is_file() and path.stat().st_size <= _LARGEST
    ]


def take_over(base: str, output: Path) -> dict[str, str]:
    """Copy the files that state the licence of `base` into `output`; what is there already stays.

    Returns the licence as the base's card names it: `license`, `license_name`, `license_link`; empty if it
    names none.
    """
    folder = base_folder(base)
    if folder is None:
        return {}
    for file in licence_files(folder):
        if not (output / file.name).exists():
            with written_aside(output / file.name) as aside:
                shutil.copyfile(file, aside)
    return licence_of(folder)


def licence_of(folder: Path) -> dict[str, str]:
    """The licence that a model's card names."""
    try:
        matter: Mapping[str, object] = read_card(read_text(folder / CARD)).matter
    except UserError:
        return {}
    named = {name: matter.get(name) for name in _FIELDS}
    return {
        name: value[:200] for name, value in named.items() if isinstance(value, str) and value.isprintable()
    }
