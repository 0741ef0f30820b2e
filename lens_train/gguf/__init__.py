"""Support for GGUF files as models: a file is converted once into an ordinary transformers folder.

`header.py` reads the file's header, `architecture.py` translates it for transformers, `tokenizer.py` builds
the tokenizer, `convert.py` writes the folder, and `cache.py` keeps it. None of them is imported here, because
every command calls `is_gguf` for every model name.
"""

from __future__ import annotations

from pathlib import Path

MAGIC = b"GGUF"


def is_gguf(name: str | Path) -> bool:
    """Whether a model's name means a GGUF file: by its suffix, or by the file's first bytes."""
    path = Path(name)
    if path.is_dir():
        return False
    if path.suffix.lower() == ".gguf":
        return True
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == MAGIC
