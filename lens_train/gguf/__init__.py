"""A GGUF file wherever a model is named: converted once into an ordinary transformers folder.

`header.py` reads what a file says, `architecture.py` says what that means to transformers, `tokenizer.py`
builds the tokenizer, `convert.py` writes the folder, `cache.py` keeps it. Nothing of them is imported here:
every command asks `is_gguf` of every model's name.
"""

from __future__ import annotations

from pathlib import Path

MAGIC = b"GGUF"


def is_gguf(name: str | Path) -> bool:
    """Whether a model's name means a GGUF file: it ends so, or is a file that begins so."""
    path = Path(name)
    if path.is_dir():
        return False
    if path.suffix.lower() == ".gguf":
        return True
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == MAGIC
