"""Hooks of mkdocs: README.md is the first page of the site, so that there is one source.

The reference of both packages is made from their docstrings by mkdocstrings: it is no file of the project.

What a page links to beside the documentation (sources, results) is not part of the site; there the name of
the file stands in place of the link.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
_LINK = re.compile(r"(?<!!)\[([^\]\[]+)\]\(([^)\s]+)\)")


def first_page() -> str:
    """README.md with its links seen from the folder of the documentation."""

    def moved(link: re.Match[str]) -> str:
        outside = link[2].startswith(("https://", "#"))
        page = link[2].startswith("docs/") and ".md" in link[2]
        target = link[2] if outside else link[2].removeprefix("docs/") if page else f"../{link[2]}"
        return f"[{link[1]}]({target})"

    return _LINK.sub(moved, (ROOT / "README.md").read_text(encoding="utf-8"))


def inside(markdown: str) -> str:
    """A page as the site shows it: without links to what is not part of it."""

    def shown(link: re.Match[str]) -> str:
        words, target = link[1], link[2]
        if not target.startswith("../"):
            return link[0]
        path = (DOCS / target.partition("#")[0]).resolve().relative_to(ROOT).as_posix()
        return f"`{path}`" if Path(words).name in path else f"{words} (`{path}`)"

    # Tables inside of what can be unfolded are Markdown too, which the site has to be told.
    return _LINK.sub(shown, markdown).replace("<details>", '<details markdown="1">')


REFERENCE = """# Python reference

The public names of the two packages, from their docstrings; [python.md](python.md) shows them at work.

::: lens_eval

::: lens_train
"""


def on_files(files: Any, config: Any) -> Any:
    """Add the first page and the reference."""
    from mkdocs.structure.files import File

    for name, content in {"index.md": first_page(), "reference.md": REFERENCE}.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Take out the links that lead out of the site."""
    return inside(markdown)
