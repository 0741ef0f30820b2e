"""Hooks of mkdocs: README.md is the first page of the site, so that there is one source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def first_page() -> str:
    """README.md with its links seen from the folder of the documentation."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return (
        text.replace("](docs/", "](").replace("](lens_", "](../lens_").replace("](results/", "](../results/")
    )


def on_files(files: Any, config: Any) -> Any:
    """Add the first page."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, "index.md", content=first_page()))
    return files
