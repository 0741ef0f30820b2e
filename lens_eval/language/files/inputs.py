"""The files to read: those that are named, and those in the folders that are named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lens_eval.base.errors import UserError
from lens_eval.language.files.column_rows import ENDINGS

TEXT_ENDINGS = (".jsonl", ".ndjson", ".csv", ".tsv")
_SAMPLES = "samples_"


def files_of(names: Sequence[str]) -> dict[str, bool]:
    """Each file to read, and whether it was found in a folder. "-" is standard input.

    Of a folder, and the folders in it, these are the files of responses by their endings, in the order of
    their names; only lm_eval's samples, if there are any. Hidden files are passed over.

    Raises:
        UserError: a file is named twice, or a folder holds no file of responses.
    """
    found: dict[str, bool] = {}
    for name in names:
        inside = name != "-" and Path(name).is_dir()
        for file in _in_folder(Path(name)) if inside else [name]:
            if file in found:
                raise UserError(f"{file} is named twice; name it once")
            found[file] = inside
    return found


def _in_folder(folder: Path) -> list[str]:
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.name.lower().removesuffix(".gz").endswith((*TEXT_ENDINGS, *ENDINGS))
    ]
    samples = [path for path in files if path.name.startswith(_SAMPLES)]
    if not files:
        raise UserError(
            f"the folder {folder} holds no files of responses: {', '.join((*TEXT_ENDINGS, *ENDINGS))}, "
            "text files also as .gz"
        )
    return [str(path) for path in samples or files]
