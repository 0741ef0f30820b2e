"""`lens tasks` lists what can be asked; `lens fetch` refuses what it does not know."""

from __future__ import annotations

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
