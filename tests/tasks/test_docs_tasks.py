"""What docs/tasks.md and the families' READMEs state is what the code does."""

from __future__ import annotations

import re

import pytest
from task_items import TASKS

from benchmarks.extraction import markdown, ours, responses, table, theirs
from lens_eval.tasks.families import HUB, LANGUAGES
from lens_eval.tasks.generate import FAMILIES, render

DOCS = (TASKS.parent / "docs" / "tasks.md").read_text(encoding="utf-8")


def block(name: str) -> str:
    match = re.search(rf"<!-- {name}: .*?-->\n(.*?)<!-- end of {name} -->", DOCS, re.DOTALL)
    assert match
    return match[1]


def test_hub_table() -> None:
    rows = [f"| {name} | `{hub.repo}` | `{hub.revision}` |" for name, hub in HUB.items()]
    assert block("hub").splitlines()[2:] == rows


def test_extraction_table() -> None:
    assert block("extraction") == markdown(table())


@pytest.mark.parametrize("language", LANGUAGES["mgsm"])
def test_every_hand_made_response_is_read(language: str) -> None:
    kinds = [response.kind for response in responses(language)]
    assert len(kinds) == len(set(kinds)) >= 12
    for response in responses(language):
        assert ours(response), response
    # The control: lm_eval's own filters do get some of them, and not all.
    scored = [theirs(response) for response in responses(language)]
    for name in ("strict-match", "flexible-extract"):
        assert 0 < sum(found[name] for found in scored) < len(scored)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_family_has_a_readme_with_its_versions(family: object) -> None:
    name, folder, version = family.name, family.folder, family.version  # type: ignore[attr-defined]
    text = (TASKS / folder / "README.md").read_text(encoding="utf-8")
    assert f"lens_{name}" in text
    assert re.search(rf"^Versions:.*\b{re.escape(str(version))},", text, re.MULTILINE)
    assert "docs/tasks.md" in text or "official" in text


def test_every_group_is_documented() -> None:
    groups = {name.rsplit("/", 1)[-1][1:-5] for name in render() if re.search(r"/?_lens_\w+\.yaml$", name)}
    for group in groups:
        own = group.replace("_official", "")
        assert f"`{own}`" in DOCS, group


def test_counts_in_the_table() -> None:
    for family, codes in LANGUAGES.items():
        row = next(line for line in DOCS.splitlines() if line.startswith(f"| `lens_{family}`"))
        assert family == "kmmlu" or str(len(codes)) in row, row
