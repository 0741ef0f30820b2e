"""The README's commands run as they stand, its table is the demo's, and its map is true."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```bash\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def test_make_targets_exist() -> None:
    for line in BLOCKS[0].splitlines():
        done = subprocess.run([*line.split(), "--dry-run"], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", BLOCKS[1:], ids=lambda block: " ".join(block.split()[:2]))
def test_commands_run(block: str, tmp_path: Path) -> None:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert done.stdout.strip()


def test_the_tables_are_those_that_the_demo_made() -> None:
    shown = (
        README.partition("<!-- demo table")[2].partition("-->\n")[2].partition("<!-- end of demo table")[0]
    )
    made = (ROOT / "results" / "demo" / "table.md").read_text(encoding="utf-8")
    rows = [line for line in shown.splitlines() if line.startswith("| ")]
    summaries = [part.partition("\n#")[0] for part in made.split("### summary")[1:]]
    assert rows == [line for part in summaries for line in part.splitlines() if line.startswith("| ")]


def test_every_file_of_the_map_exists() -> None:
    mapped = README.partition("## Map\n\n```\n")[2].partition("```")[0]
    folder = Path()
    for line in mapped.splitlines():
        first = line.split()[0]
        if not line.startswith(" "):
            folder = Path(first)
            assert (ROOT / folder).is_dir(), first
        for name in re.findall(
            r"\b[\w]+\.(?:py|md)\b|\b\w+/(?=\s)", line if line.startswith(" ") else line[len(first) :]
        ):
            assert (ROOT / folder / name).exists(), f"{folder}/{name}"


def test_every_room_and_every_module_outside_of_one_is_on_the_map() -> None:
    mapped = README.partition("## Map\n\n```\n")[2].partition("```")[0]
    for package in (ROOT / "lens_eval", ROOT / "lens_train"):
        names = [f"{room.parent.name}/" for room in package.glob("*/__init__.py")]
        names += [module.name for module in package.glob("*.py") if module.name != "__init__.py"]
        for name in names:
            assert name in mapped, f"{package.name}/{name} is not on the README's map"
