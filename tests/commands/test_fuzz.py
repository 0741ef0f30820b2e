"""Every file that a command reads, spoilt: a result, or one line and status 2; nothing written elsewhere."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hostile_inputs import MODEL_FILES, make_inputs
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from in_process import inside, lens
from mutations import Change, changes, spoilt

from lens_train.memory import peak_memory, reset_peak

CPU = torch.device("cpu")
MOST_MEMORY = 1 << 30
"""Bytes that a command may take more than the tests before it."""


@dataclass(frozen=True)
class Case:
    """A command, the files of its that are spoilt, and where it may write."""

    command: Sequence[str]
    spoilt: Sequence[str]
    outputs: Sequence[str] = ("out",)


BASIC = ["--model", "model", "--languages", "en,zh,sw", "--device", "cpu"]
DATA = ["--data", "prompts.jsonl"]
LENS = [*BASIC, *DATA, "--set", "steps=1", "--set", "show_replies=0", "--output", "out"]
JUDGED = ["answers/results_2026-01-01T00-00-00.000000.json", "answers/judge_m/judgements.jsonl"]

CASES = {
    "score": Case(["score", "said.jsonl"], ["said.jsonl"]),
    "score csv": Case(["score", "said.csv"], ["said.csv"]),
    "score tsv": Case(["score", "said.tsv"], ["said.tsv"]),
    "score gz": Case(["score", "said.jsonl.gz", "--verdicts", "out"], ["said.jsonl.gz"]),
    "score samples": Case(["score", "a/samples_x_sw_T.jsonl"], ["a/samples_x_sw_T.jsonl"]),
    "score words": Case(["score", "said.jsonl", "--protocol", "lcb", "--words", "words.txt"], ["words.txt"]),
    "calibrate": Case(["calibrate", "said.jsonl", "--languages", "en,sw"], ["said.jsonl"]),
    "compare": Case(["compare", "a", "b", "--output", "out"], ["a/results_T.json", "a/samples_x_sw_T.jsonl"]),
    "compare run": Case(
        ["compare", "run", "--output", "out", "--checks"], ["run/run.json", "run/training.json"]
    ),
    "compare paper": Case(["compare", "a", "--paper", "paper.csv"], ["paper.csv"]),
    "report": Case(["report", "run", "--output", "out"], ["run/run.json", "run/training.json"]),
    "diagnose": Case(
        ["diagnose", "trained"],
        ["trained/training/diagnostics.json", "trained/training/log.jsonl"],
        ["trained/training/plots"],
    ),
    "merge": Case(
        ["merge", "--delta", "delta", "--model", "model", "--output", "out"],
        ["delta/variant.json", "delta/delta.safetensors"],
    ),
    "bake": Case(
        ["bake", "adding", "--language", "sw", "--model", "model", "--output", "out"],
        ["adding/steering.json", "adding/steering.safetensors", "adding/variant.json"],
    ),
    "probe data": Case(["probe", *BASIC, *DATA, "--output", "out"], ["prompts.jsonl"]),
    "probe list": Case(["probe", *BASIC, "--data", "list.json", "--output", "out"], ["list.json"]),
    "probe settings": Case(
        ["probe", *BASIC, *DATA, "--config", "settings.yaml", "--output", "out"], ["settings.yaml"]
    ),
    "probe model": Case(["probe", *BASIC, *DATA, "--output", "out"], MODEL_FILES),
    "train subspaces": Case(
        ["train", *LENS, "--subspaces", "subspaces"],
        ["subspaces/subspace.json", "subspaces/subspace.safetensors"],
    ),
    "train again": Case(
        ["train", *LENS[:-1], "begun"],
        [
            "begun/training/job.json",
            "begun/training/log.jsonl",
            "begun/training/subspaces/subspace.json",
            "begun/training/subspaces/subspace.safetensors",
        ],
        ["begun"],
    ),
    "sweep points": Case(
        ["sweep", *LENS, "--dev-data", "prompts.jsonl", "--points", "points.yaml", "--max-new-tokens", "2"],
        ["points.yaml"],
    ),
    "plan": Case(["reproduce", "recipe.yaml", "--plan"], ["recipe.yaml", "tasks/qa_sw.yaml"]),
    "doctor": Case(["doctor", "model", "--quick", "--tasks", "lens_mini_qa_sw"], MODEL_FILES),
    "doctor adapter": Case(
        ["doctor", "adapter", "--quick", "--tasks", "lens_mini_qa_sw"], ["adapter/adapter_config.json"]
    ),
    "chat steering": Case(
        ["chat", "steering", "-q", "sw: x", "--max-new-tokens", "2", "--device", "cpu"],
        ["steering/steering.json", "steering/steering.safetensors", "steering/variant.json"],
    ),
    "chat adapter": Case(
        ["chat", "adapter", "-q", "x", "--max-new-tokens", "2", "--device", "cpu"],
        ["adapter/adapter_config.json", "adapter/adapter_model.safetensors"],
    ),
    "gguf": Case(["probe", *DATA, "--model", "small.gguf", *BASIC[2:], "--output", "out"], ["small.gguf"]),
    "judge": Case(
        ["judge", "answers", "--endpoint", "http://127.0.0.1:9/v1", "--model", "m", "--retries", "0"],
        JUDGED,
        ["answers/judge_m"],
    ),
}
COSTLY = {"chat steering", "chat adapter", "train again", "sweep points", "gguf", "plan", "diagnose"}
"""Cases that take longer than a second."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One valid file of every kind, in a folder of which every example has a copy."""
    return make_inputs(tmp_path_factory.mktemp("inputs"))


def _budget(case: str) -> int:
    return (3 if case in COSTLY else 8) * int(os.environ.get("LENS_FUZZ", "1"))


def _fuzz(inputs: Path, name: str, examples: int) -> None:
    case = CASES[name]

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],  # the first example that fails is small enough
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(case.spoilt), changes)
    def check(file: str, change: Change) -> None:
        with tempfile.TemporaryDirectory() as folder:
            _check(inputs, Path(folder) / "copy", case, file, change)

    check()


def _check(inputs: Path, folder: Path, case: Case, file: str, change: Change) -> None:
    shutil.copytree(inputs, folder, copy_function=os.link)
    target = folder / file
    data = target.read_bytes()
    target.unlink()  # the link, not what it names
    target.write_bytes(spoilt(data, change))
    before = _seen(folder, case.outputs)
    reset_peak()
    memory = peak_memory(CPU)
    with inside(folder):
        done = lens(*case.command)
    done.require_words()
    assert _seen(folder, case.outputs) == before, "a file outside of the output was written"
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    assert peak_memory(CPU) - memory < MOST_MEMORY


def _seen(folder: Path, outputs: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Size and time of every file that the command has no business to write."""
    found = {}
    for file in folder.rglob("*"):
        name = file.relative_to(folder).as_posix()
        if not any(name == own or name.startswith(own + "/") for own in (*outputs, "cache")):
            about = file.lstat()
            found[name] = (about.st_size, about.st_mtime_ns) if file.is_file() else (0, 0)
    return found


@pytest.mark.parametrize("name", CASES)
def test_spoilt_inputs_end_in_a_result_or_in_one_line(
    inputs: Path, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LENS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LENS_TRACEBACK", "1")
    _fuzz(inputs, name, _budget(name))


@pytest.mark.parametrize("name", CASES)
def test_control_the_inputs_are_good(
    inputs: Path, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LENS_CACHE", str(tmp_path / "cache"))
    shutil.copytree(inputs, tmp_path / "copy")
    with inside(tmp_path / "copy"):
        done = lens(*CASES[name].command)
    assert done.status == 0, done


def test_control_an_unforeseen_error_is_seen(inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lens_eval.results import tables

    def fail(*_: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr(tables, "show", fail)
    with inside(inputs), pytest.raises(AssertionError):
        lens("compare", "a").require_words()
