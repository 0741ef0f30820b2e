"""The README's commands run as they stand, its table is the demo's, and it lists every page."""

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


def test_every_page_is_listed() -> None:
    """The map of the code is on one of them, docs/architecture.md (tests/test_architecture.py)."""
    listed = set(
        re.findall(r"\((docs/\w+\.md)\)", README.partition("## Documentation\n")[2].partition("\n## ")[0])
    )
    assert listed == {page.relative_to(ROOT).as_posix() for page in (ROOT / "docs").glob("*.md")}


def test_the_first_screen_is_a_user_s() -> None:
    """What it does, to which real model, how to install it, one command; nothing of the code before."""
    screen = README.splitlines()[:35]
    assert any(line.startswith("## Install") for line in screen)
    assert BLOCKS[0] == "make demo\n"
    assert any(line.startswith("| usable |") for line in screen)
    assert not any(word in line for line in screen for word in ("lens_eval/", "lens_train/", "tests/"))
