"""`lens fetch` brings what a recipe needs, and `lens reproduce --offline` asks nobody for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import hub_server
import pytest
import yaml
from task_items import write_hub_copies
from typer.testing import CliRunner

from lens_eval.base.errors import UserError
from lens_eval.commands.cli import app
from lens_eval.mini import backbone_path

ROOT = Path(__file__).resolve().parents[2]


def _lens(home: Path, hub: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    left = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "LENS_DATA_DIR", "HF_HUB_CACHE")
    environment = {name: value for name, value in os.environ.items() if name not in left}
    environment.update(HF_HOME=str(home), HF_ENDPOINT=hub, PYTHONPATH=str(ROOT), HF_HUB_DISABLE_XET="1")
    command = [sys.executable, "-m", "lens_eval", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, cwd=ROOT)


@pytest.mark.slow
def test_a_recipe_fetched_runs_without_a_hub(tmp_path: Path) -> None:
    write_hub_copies(tmp_path / "copies")
    recipe = tmp_path / "small.yaml"
    recipe.write_text(
        yaml.safe_dump(
            {
                "backbone": "org/tiny",
                "languages": ["en", "sw"],
                "variants": {"backbone": {}},
                "tasks": ["lens_belebele"],
                "limit": 1,
                "backend": {"args": {"dtype": "float32"}},
            }
        )
    )
    run = ("reproduce", str(recipe), "--offline", "--device", "cpu", "--output", str(tmp_path / "out"))
    repos = {
        "models/org/tiny": backbone_path(),
        "datasets/facebook/belebele": tmp_path / "copies" / "facebook" / "belebele",
    }
    with hub_server.serving(repos) as hub:
        before = _lens(tmp_path / "home", hub.url, *run)
        assert before.returncode == 2
        assert "org/tiny" in before.stderr
        assert not hub.asked
        assert not (tmp_path / "out").exists()

        fetched = _lens(tmp_path / "home", hub.url, "fetch", str(recipe))
        assert fetched.returncode == 0, fetched.stderr
        assert "model\torg/tiny\t" in fetched.stdout
        assert "task\tlens_belebele_sw\t3 items" in fetched.stdout
        assert "lens_belebele_de" not in fetched.stdout
        asked = len(hub.asked)
        assert asked > 0

        after = _lens(tmp_path / "home", hub.url, *run)
        assert after.returncode == 0, after.stderr
        assert len(hub.asked) == asked
    assert "lens_belebele" in (tmp_path / "out" / "table.md").read_text(encoding="utf-8")


def test_what_cannot_be_fetched_is_said() -> None:
    def lens(*arguments: str) -> None:
        CliRunner().invoke(app, arguments, catch_exceptions=False)

    with pytest.raises(UserError, match=r"--output is for lens_lcb"):
        lens("fetch", "lens_mini", "--output", "x")
    with pytest.raises(UserError, match=r"no recipe .*nowhere\.yaml"):
        lens("fetch", "nowhere.yaml")


def test_a_group_of_items_that_come_along_is_listed() -> None:
    done = CliRunner().invoke(app, ["fetch", "lens_mini", "--languages", "sw"], catch_exceptions=False)
    lines = done.stdout.splitlines()
    assert "task\tlens_mini_qa_sw\t204 items" in lines
    assert not [line for line in lines if "_zh" in line]
