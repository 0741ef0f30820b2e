"""Every command that writes, killed at its n-th change of a file, for every n, and run again: same bytes."""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny_lens
import tiny_world
from in_process import inside, lens
from lm_eval_files import write_results

TESTS = Path(__file__).resolve().parents[1]
RENAMES = ("os.rename",)
CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "open")
"""Audit events; `open` counts where a file is opened to be written."""
_STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-[\d.]+")
_TIMES = re.compile(r"seconds|date|time|peak_memory|evaluation_seconds")

LENS = ["--model", "model", "--data", "prompts.jsonl", "--languages", "en,zh,sw", "--device", "cpu"]
SHORT = ["--set", "steps=3", "--set", "show_replies=1"]
TUNED = ["--set", "epochs=1", "--set", "batch_size=4"]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, prompts, and what commands make of them for others."""
    folder = tmp_path_factory.mktemp("inputs")
    tiny_lens.save_model(folder / "model")
    tiny_lens.save_prompts(folder / "prompts.jsonl", items=6)
    answered = [
        {
            "id": str(item),
            "prompt": {code: f"{texts[item]}" for code, texts in tiny_lens.PROMPTS.items()},
            "response": {code: f"{texts[-item]} Yes." for code, texts in tiny_lens.PROMPTS.items()},
        }
        for item in range(4)
    ]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in answered)
    (folder / "pairs.jsonl").write_text(lines, encoding="utf-8")
    rows = [{"text": "The capital of Kenya is Nairobi.", "language": "sw"}] * 3
    (folder / "said.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for name in ("a", "b"):
        write_results(folder / name, {"x_sw": {"acc": [1.0, 0.0], "off_target": [0.0, 1.0]}}, model=name)
    tiny_world.make_tasks(folder / "tasks", items=2, languages=("en", "sw"))
    with inside(folder):
        assert lens("probe", *LENS, "--output", "subspaces").status == 0
        done = lens("train", *LENS, *SHORT, "--subspaces", "subspaces", "--delta", "--output", "delta")
        assert done.status == 0, done
    return folder


def crash(
    tmp_path: Path, inputs: Path, *commands: Sequence[str], events: Sequence[str] = RENAMES, fewest: int = 1
) -> None:
    """Assert that a kill at any of the events leaves what the same commands make whole."""
    job = {"commands": commands, "inputs": str(inputs), "tries": str(tmp_path / "tries"), "events": events}
    (tmp_path / "tries").mkdir()
    (tmp_path / "job.json").write_text(json.dumps(job), encoding="utf-8")
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")]),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    done = subprocess.run(
        [sys.executable, str(TESTS / "crashing.py"), str(tmp_path / "job.json")],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["tries"] > fewest, f"nothing was ever killed: {found['faults']}"
    whole = _contents(tmp_path / "tries" / "whole")
    finished = {number for number, _, said in found["faults"] if _is_finished(said)}
    for number, status, said in found["faults"]:
        assert number in finished, f"try {number}: status {status}: {said}"
    for number in range(1, found["tries"]):
        tried = _contents(tmp_path / "tries" / str(number))
        differing = sorted(name for name in {*whole, *tried} if whole.get(name) != tried.get(name))
        if number in finished:  # nothing is lacking; what was to be removed may still be there
            differing = [name for name in differing if not _LEFT.search(name)]
        assert not differing, f"killed at change {number}: {differing}"


_LEFT = re.compile(r"(^|/)\.lock$|\.partial$|training/(state|trunk|partial)\b")


def _is_finished(said: str) -> bool:
    """Whether a command refused what it had finished itself before it was killed in tidying up."""
    return "holds a finished variant" in said or "is not empty; name another folder" in said


def _contents(folder: Path) -> dict[str, Any]:
    """What lies in a folder, without times."""
    return {
        _STAMP.sub("TIME", file.relative_to(folder).as_posix()): _content(file, str(folder))
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def _content(file: Path, folder: str) -> Any:
    data = file.read_bytes()
    if file.suffix == ".gz":
        data = gzip.decompress(data)
    text = _STAMP.sub("TIME", data.decode("utf-8", "surrogateescape")).replace(folder, "FOLDER")
    try:
        if file.suffix == ".json":
            return _timeless(json.loads(text))
        if file.name.endswith((".jsonl", ".jsonl.gz")):
            return [_timeless(json.loads(line)) for line in text.splitlines()]
    except ValueError:
        pass
    if file.name == "table.md":
        return re.sub(r"\d+\.\d \|$", "N |", text, flags=re.MULTILINE)
    if file.name == "README.md":
        return re.sub(r"\| cost \| .*", "", text)
    if file.suffix == ".csv":
        rows = csv.DictReader(text.splitlines())
        return [{name: cell for name, cell in row.items() if name != "seconds"} for row in rows]
    if file.suffix == ".html":
        return re.sub(r"\d[\d.,]*", "N", text)  # times among them; numbers are compared in the tables
    return text if file.name != "made.md" else ""


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(each) for key, each in value.items() if not _TIMES.search(key)}
    return [_timeless(each) for each in value] if isinstance(value, list) else value


def test_control_a_difference_is_seen(tmp_path: Path) -> None:
    for name, loss in (("a", 1.0), ("b", 2.0), ("c", 1.0)):
        (tmp_path / name).mkdir()
        record = {"loss": loss, "seconds": loss, "wall_seconds": len(name)}
        (tmp_path / name / "log.jsonl").write_text(json.dumps(record) + "\n")
    assert _contents(tmp_path / "a") == _contents(tmp_path / "c")
    assert _contents(tmp_path / "a") != _contents(tmp_path / "b")


def test_probe(tmp_path: Path, inputs: Path) -> None:
    crash(tmp_path, inputs, ["probe", *LENS, "--output", "out"])


def test_score(tmp_path: Path, inputs: Path) -> None:
    crash(tmp_path, inputs, ["score", "said.jsonl", "--output", "r.md", "--verdicts", "v.jsonl"])


@pytest.mark.slow
def test_train(tmp_path: Path, inputs: Path) -> None:
    crash(tmp_path, inputs, ["train", *LENS, *SHORT, "--output", "out"], fewest=5)


@pytest.mark.slow
def test_tables(tmp_path: Path, inputs: Path) -> None:
    calibrate = ["calibrate", "said.jsonl", "--languages", "en,sw", "--output", "c.md"]
    compare = ["compare", "a", "b", "--output", "both"]
    crash(tmp_path, inputs, calibrate, compare, ["report", "a", "--output", "a.html"], fewest=6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ["probe", *LENS, "--output", "out"],
        ["train", *LENS, *SHORT, "--output", "out"],
        ["train", *LENS, *SHORT, "--subspaces", "subspaces", "--delta", "--output", "out"],
        ["merge", "--delta", "delta", "--model", "model", "--output", "out"],
        ["diagnose", "delta"],
        ["score", "said.jsonl", "--output", "r.md", "--verdicts", "v.jsonl"],
        ["compare", "a", "b", "--output", "both"],
    ],
    ids=lambda command: command[0],
)
def test_any_change_of_a_file(tmp_path: Path, inputs: Path, command: list[str]) -> None:
    crash(tmp_path, inputs, command, events=CHANGES)


SWEEP = [
    "sweep",
    *LENS,
    "--dev-data",
    "prompts.jsonl",
    "--vary",
    "learning_rate=1e-4,1e-3",
    "--output",
    "out",
]


@pytest.mark.slow
@pytest.mark.parametrize("events", [RENAMES, CHANGES], ids=["renames", "changes"])
def test_sweep(tmp_path: Path, inputs: Path, events: Sequence[str]) -> None:
    short = ["--set", "steps=2", "--max-new-tokens", "4", "--dev-limit", "2"]
    crash(tmp_path, inputs, [*SWEEP, *short], events=events, fewest=5)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["xsft", "xsft_lora", "qalign", "steer", "bias", "diffmean"])
@pytest.mark.parametrize("events", [RENAMES, CHANGES], ids=["renames", "changes"])
def test_baselines(tmp_path: Path, inputs: Path, method: str, events: Sequence[str]) -> None:
    tuned = TUNED if method in ("xsft", "xsft_lora", "qalign") else []
    basic = ["--model", "model", "--data", "pairs.jsonl", "--languages", "en,zh,sw", "--device", "cpu"]
    crash(tmp_path, inputs, ["train", *basic, *tuned, "--method", method, "--output", "out"], events=events)


@pytest.mark.slow
@pytest.mark.parametrize("events", [RENAMES, CHANGES], ids=["renames", "changes"])
def test_eval(tmp_path: Path, inputs: Path, events: Sequence[str]) -> None:
    command = ["eval", "--model", "model", "--tasks", "tiny", "--include-path", "tasks", "--device", "cpu"]
    crash(tmp_path, inputs, [*command, "--output", "out"], events=events, fewest=5)
