"""Limits of `lens score`, and the action that sets them in somebody's checks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from lens_eval.base.errors import UserError
from lens_eval.commands.cli import app
from lens_eval.language.files.gates import Gate, failures
from lens_eval.language.files.tally import Tally

ROOT = Path(__file__).resolve().parents[2]
ENGLISH = "The farmers are waiting for the rain to come."
SWAHILI = "Wakulima wanasubiri mvua inyeshe, kwa sababu mashamba yamekauka."
LOOP = "Nifanye nini sasa. " * 12


def replies(path: Path, *texts: str, language: str = "sw") -> Path:
    path.write_text(
        "".join(json.dumps({"text": text, "language": language}) + "\n" for text in texts), encoding="utf-8"
    )
    return path


def score(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, ["score", *map(str, arguments)], catch_exceptions=False)


def test_a_rate_over_its_limit_ends_with_status_1_and_one_line(tmp_path: Path) -> None:
    file = replies(tmp_path / "r.jsonl", *[SWAHILI] * 9, ENGLISH)
    assert score(file, "--fail-above", "10").exit_code == 0  # the limit itself is kept
    done = score(file, "--fail-above", "9.9", "--format", "json")
    assert done.exit_code == 1
    assert done.stderr == "lens: over the limit: off-target of sw is 10.0% > 9.9% (1 of 10)\n"
    assert json.loads(done.stdout)["overall"]["off_target"] == 0.1  # the report is there all the same


def test_every_language_must_keep_the_limit(tmp_path: Path) -> None:
    file = replies(tmp_path / "r.jsonl", *[ENGLISH] * 99, language="en")
    bad = replies(tmp_path / "s.jsonl", ENGLISH)
    assert score(file, "--fail-above", "5").exit_code == 0
    done = score(file, bad, "--fail-above", "5")  # 1% over all, and Swahili wholly wrong
    assert done.exit_code == 1
    assert "off-target of sw is 100.0% > 5%" in done.stderr


def test_loops_and_silence_have_limits_of_their_own(tmp_path: Path) -> None:
    loops = replies(tmp_path / "loops.jsonl", *[SWAHILI] * 9, LOOP)
    assert score(loops, "--fail-above", "0").exit_code == 0
    done = score(loops, "--fail-loops", "2")
    assert (done.exit_code, "loop of sw is 10.0% > 2%" in done.stderr) == (1, True)
    silent = replies(tmp_path / "silent.jsonl", *[SWAHILI] * 3, "12")
    assert score(silent, "--fail-above", "0").exit_code == 0
    done = score(silent, "--max-undetermined", "20")
    assert (done.exit_code, "language undetermined of sw is 25.0% > 20%" in done.stderr) == (1, True)


def test_a_rate_over_nothing_judged_never_passes(tmp_path: Path) -> None:
    nothing = replies(tmp_path / "nothing.jsonl", "12", "", "?")
    assert score(nothing).exit_code == 0
    done = score(nothing, "--fail-above", "100", "--max-undetermined", "100")
    assert done.exit_code == 1
    assert "off-target of sw: none of 3 could be judged" in done.stderr
    assert failures([Gate("loop", 100)], {}) == ["loop: there is no response"]


@pytest.mark.parametrize("limit", ["nan", "inf", "-1", "101"])
def test_a_limit_that_nothing_could_exceed_is_refused(tmp_path: Path, limit: str) -> None:
    file = replies(tmp_path / "r.jsonl", ENGLISH)
    with pytest.raises(UserError, match="give a percentage, 0 to 100"):
        score(file, f"--fail-above={limit}")
    with pytest.raises(UserError, match="limits hold for the rates of --protocol lens"):
        score(file, "--fail-above", "5", "--protocol", "lcb")


@given(st.integers(1, 60), st.integers(0, 60), st.integers(0, 100))
def test_a_limit_is_exact(n: int, hits: int, percent: int) -> None:
    hits = min(hits, n)
    tally = Tally()
    for number in range(n):
        tally.add(["off_target"] if number < hits else ["on_target"], None)
    assert bool(failures([Gate("off_target", percent)], {"sw": tally})) == (hits * 100 > percent * n)


# --- the action --------------------------------------------------------------------------------


def run_action(tmp_path: Path, **given: str) -> subprocess.CompletedProcess[str]:
    """The scoring step of action.yml, in the shell that GitHub names for `shell: bash`."""
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    [step] = [step for step in action["runs"]["steps"] if step["name"] == "Score"]
    inputs = {name: str(each.get("default", "")) for name, each in action["inputs"].items()} | given
    names = {
        name: inputs[value.removeprefix("${{ inputs.").removesuffix(" }}")]
        for name, value in step["env"].items()
    }
    bin_ = tmp_path / "bin"
    bin_.mkdir(exist_ok=True)
    (bin_ / "lens").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m lens_eval "$@"\n', encoding="utf-8")
    (bin_ / "lens").chmod(0o755)
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
        env={
            **os.environ,
            **names,
            "PATH": f"{bin_}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )


def test_the_action_passes_and_fails_and_shows_its_report(tmp_path: Path) -> None:
    replies(tmp_path / "good.jsonl", *[SWAHILI] * 4)
    done = run_action(tmp_path, files="good.jsonl", language="sw")
    assert done.returncode == 0, done.stderr
    assert "| sw " in (tmp_path / "summary.md").read_text(encoding="utf-8")
    replies(tmp_path / "bad.jsonl", ENGLISH)
    done = run_action(tmp_path, files="good.jsonl bad.jsonl", report="report.json")
    assert done.returncode == 1
    assert "over the limit: off-target of sw is 20.0% > 5%" in done.stderr
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["overall"]["n"] == 5


def test_an_input_of_the_action_is_no_command(tmp_path: Path) -> None:
    replies(tmp_path / "good.jsonl", SWAHILI)
    done = run_action(tmp_path, files="good.jsonl", language="$(touch owned)sw")
    assert done.returncode == 2
    assert not (tmp_path / "owned").exists()
    text = (ROOT / "action.yml").read_text(encoding="utf-8")
    assert "${{" not in text.partition("      run: |\n")[2]  # inputs reach the shell as variables alone


def test_the_workflow_names_files_that_are_there() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    [step] = [s for job in workflow["jobs"].values() for s in job["steps"] if s.get("uses") == "./"]
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    assert step["with"].keys() <= action["inputs"].keys()
    assert all((ROOT / name).is_dir() for name in step["with"]["files"].split())
