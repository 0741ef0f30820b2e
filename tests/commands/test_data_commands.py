"""`lens tasks` lists what can be asked; `lens fetch` refuses what it does not know."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from task_items import write_hub_copies
from typer.testing import CliRunner

from lens_eval.base.errors import UserError
from lens_eval.commands.cli import app


def lines(*arguments: str) -> list[list[str]]:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    return [line.split("\t") for line in result.stdout.splitlines()]


def test_tasks_of_a_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_hub_copies(tmp_path)
    monkeypatch.setenv("LENS_DATA_DIR", str(tmp_path))
    head, *rows = lines("tasks", "--languages", "sw")
    assert head == ["task", "language", "items", "words", "data"]
    found = {row[0]: row for row in rows}
    assert {row[1] for row in rows} == {"sw"}
    assert found["lens_belebele_sw"][2:] == ["3", "unreviewed", "facebook/belebele@main"]
    assert {"lens_mgsm_sw", "lens_polymath_top_sw", "lens_mmlu_prox_lite_sw"} <= set(found)
    for path in tmp_path.rglob("swh_Latn.jsonl"):
        path.unlink()
    gone = {row[0]: row for row in lines("tasks", "--languages", "sw")[1:]}
    assert gone["lens_belebele_sw"][2:] == ["-", "unreviewed", "facebook/belebele@main"]


def test_fetch_of_what_is_not_known() -> None:
    with pytest.raises(UserError, match="did you mean lens_lcb"):
        lines("fetch", "lens_lbc")


def test_what_a_recipe_needs_is_brought_or_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: with a model that is nowhere, the rest is brought all the same, and the model is named."""
    write_hub_copies(tmp_path / "items")
    monkeypatch.setenv("LENS_DATA_DIR", str(tmp_path / "items"))
    recipe = tmp_path / "small.yaml"
    text = (
        "backbone: builtin\nlanguages: [en, sw]\nvariants: {backbone: {}, other: {model: MODEL}}\n"
        "tasks: [lens_belebele, lens_mini]\n"
    )
    recipe.write_text(text.replace("MODEL", "builtin"), encoding="utf-8")
    found = lines("fetch", str(recipe))
    assert [row[1] for row in found if row[0] == "model"] == ["builtin"]
    tasks = {row[1]: row[2] for row in found if row[0] == "task"}
    assert tasks["lens_belebele_sw"] == "3 items"
    assert "lens_mini_qa_en" in tasks
    assert "lens_belebele_fr" not in tasks
    assert {row[1] for row in lines("fetch", "lens_belebele", "--languages", "fr")} == {"lens_belebele_fr"}
    recipe.write_text(text.replace("MODEL", str(tmp_path / "nowhere")), encoding="utf-8")
    result = CliRunner().invoke(app, ["fetch", str(recipe)])
    assert "no model folder" in str(result.exception)
    assert "lens_belebele_sw" in result.stdout
    with pytest.raises(UserError, match="--output is for lens_lcb"):
        lines("fetch", str(recipe), "--output", str(tmp_path))


def test_offline_asks_nobody(tmp_path: Path) -> None:
    """Any attempt to open a connection ends the process, as it does without the option."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, socket\n"
        "def refuse(*a, **k): os._exit(77)\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n",
        encoding="utf-8",
    )
    recipe = tmp_path / "far.yaml"
    recipe.write_text(
        "backbone: nobody/has-this\nlanguages: [en]\nvariants: {backbone: {}}\ntasks: [lens_mini]\n",
        encoding="utf-8",
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")}
    environment["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{environment.get('PYTHONPATH', '')}"
    environment["HF_HOME"] = str(tmp_path / "hub")
    command = [sys.executable, "-m", "lens_eval", "reproduce", str(recipe), "--output", str(tmp_path / "out")]
    done = {}
    for name, more in (("online", []), ("offline", ["--offline"])):
        done[name] = subprocess.run(
            [*command, *more], capture_output=True, text=True, timeout=200, env=environment
        )
    assert done["online"].returncode == 77
    assert done["offline"].returncode == 2, done["offline"].stderr
    assert "nobody/has-this" in done["offline"].stderr
