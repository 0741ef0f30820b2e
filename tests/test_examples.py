"""docs/examples: the notebooks run from their first cell to their last, and hold no output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "examples").glob("*.ipynb"))


def code_of(notebook: Path) -> list[str]:
    document = json.loads(notebook.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in document["cells"] if cell["cell_type"] == "code"]


def run(notebook: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    script = folder / "cells.py"
    script.write_text("\n".join(code_of(notebook)), encoding="utf-8")
    return subprocess.run(
        [sys.executable, str(script)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_there_are_two_and_they_are_kept_without_outputs() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["measure_your_logs", "repair_a_model"]
    for path in NOTEBOOKS:
        document = json.loads(path.read_text(encoding="utf-8"))
        assert document["nbformat"] == 4
        cells = [cell for cell in document["cells"] if cell["cell_type"] == "code"]
        assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
        assert len({cell["id"] for cell in document["cells"]}) == len(document["cells"])


def test_the_notebook_on_logs_runs(tmp_path: Path) -> None:
    done = run(NOTEBOOKS[0], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "sw usable 1 of 2" in done.stdout


@pytest.mark.slow
def test_the_notebook_that_repairs_a_model_runs(tmp_path: Path) -> None:
    done = run(NOTEBOOKS[1], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "# lens" in done.stdout
