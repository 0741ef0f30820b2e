"""docs/metrics.md: its code runs, its commands exist, its table is the stored calibration."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lens_eval.commands.cli import app
from lens_eval.language.calibrate import MEASURED, MEASURED_NEAR
from lens_eval.language.files.report import calibration_table, near_table
from lens_eval.language.identify import MIN_CONFIDENCE_INSIDE, MIN_LETTERS, confidence_needed
from lens_eval.language.sentences import UNIT_LETTERS

TEXT = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("code", [block for kind, block in BLOCKS if kind == "python"])
def test_python_runs(code: str) -> None:
    exec(compile(code, "docs/metrics.md", "exec"), {})


def test_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    row = {"resps": [["Mvua itanyesha kesho."]], "doc": {}, "doc_id": 0}
    sample = "samples_x_sw_2026-01-02T03-04-05.678901.jsonl"
    Path(sample).write_text(json.dumps(row) + "\n", encoding="utf-8")
    Path("replies.csv").write_text("answer,lang\nMvua itanyesha kesho.,sw\n", encoding="utf-8")
    Path("logs").mkdir()
    (Path("logs") / "a.jsonl").write_text('{"text": "Mvua itanyesha kesho."}\n', encoding="utf-8")
    piped = json.dumps({"text": "Mvua itanyesha kesho."}) + "\n"
    shells = [block for kind, block in BLOCKS if kind == "bash"]
    for line in "\n".join(shell.strip() for shell in shells).splitlines():
        command = line.split("#")[0].split("|")[-1]
        words = [sample if "*" in word else word for word in shlex.split(command)]
        assert words[0] == "lens"
        if words[1] == "calibrate":
            words += ["--languages", "en,sw", "--lengths", "0"]
        if "|" in line.split("#")[0]:
            here = [sys.executable, "-m", "lens_eval", *words[1:]]
            subprocess.run(here, input=piped.encode(), check=True, capture_output=True)
            continue
        done = CliRunner().invoke(app, words[1:], catch_exceptions=False)
        assert done.exit_code == 0, done.output


def test_the_table_is_the_stored_calibration() -> None:
    record = json.loads(MEASURED.read_text(encoding="utf-8"))
    assert calibration_table(record).strip() in TEXT


def test_the_table_of_near_languages_is_the_stored_one() -> None:
    record = json.loads(MEASURED_NEAR.read_text(encoding="utf-8"))
    assert near_table(record["near"]).strip() in TEXT


def test_thresholds_are_those_of_the_code() -> None:
    assert f"Fewer than {MIN_LETTERS} letters are undetermined" in TEXT
    assert f"Sentences under {UNIT_LETTERS} letters" in TEXT
    needed = (confidence_needed(10), confidence_needed(20), MIN_CONFIDENCE_INSIDE)
    assert needed == pytest.approx((0.8, 0.5, 0.95))
