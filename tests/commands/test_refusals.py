"""What no command does to the user's files, and what the system refuses: in words, before the work."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny_lens
from in_process import Done, inside, lens
from lm_eval_files import write_results

BASIC = ["--model", "model", "--languages", "en,zh,sw", "--device", "cpu"]
DATA = ["--data", "prompts.jsonl"]
SWEEP = ["--dev-data", "prompts.jsonl", "--vary", "learning_rate=1e-4"]
EVAL = ["eval", "--model", "model", "--tasks", "lens_mini_qa_sw", "--device", "cpu"]
FOLDERS = {
    "probe": ["probe", *BASIC, *DATA],
    "train": ["train", *BASIC, *DATA],
    "baseline": ["train", *BASIC, *DATA, "--method", "xsft"],
    "steer": ["train", *BASIC, *DATA, "--method", "steer"],
    "sweep": ["sweep", *BASIC, *DATA, *SWEEP],
    "merge": ["merge", "--delta", "delta", "--model", "model"],
    "eval": EVAL,
    "compare": ["compare", "a", "b"],
}
"""Commands that write a folder."""
FILES = {
    "score": ["score", "said.jsonl", "--format", "md"],
    "verdicts": ["score", "said.jsonl", "--verdicts"],
    "calibrate": ["calibrate", "said.jsonl", "--languages", "en,sw", "--format", "md"],
    "report": ["report", "a"],
}
"""Commands that write a file."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    tiny_lens.save_model(folder / "model")
    tiny_lens.save_prompts(folder / "prompts.jsonl")
    line = json.dumps({"text": "Mji mkuu wa Kenya ni Nairobi.", "language": "sw"}) + "\n"
    (folder / "said.jsonl").write_text(line * 3, encoding="utf-8")
    for name in ("a", "b"):
        write_results(folder / name, {"x_sw": {"acc": [1.0, 0.0]}}, model=name)
    with inside(folder):
        done = lens("train", *BASIC, *DATA, "--set", "steps=1", "--delta", "--output", "delta")
        assert done.status == 0, done
    return folder


@pytest.fixture
def at_inputs(inputs: Path) -> Iterator[Path]:
    """The folder of inputs as the current one; nothing in it may change."""
    before = _seen(inputs)
    with inside(inputs):
        yield inputs
    assert _seen(inputs) == before


def _seen(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def refused(*command: Any) -> Done:
    done = lens(*command)
    assert done.status == 2, done
    done.require_words()
    return done


def into(command: Sequence[str], output: Any) -> list[Any]:
    """The command with its output."""
    return [*command, output] if command[-1] == "--verdicts" else [*command, "--output", output]


EVERY = {**FOLDERS, **FILES}


@pytest.mark.parametrize("name", EVERY)
def test_an_output_that_is_an_input_is_refused(at_inputs: Path, name: str) -> None:
    given = {"report": "a/results_2026-01-01T00-00-00.000000.json", "compare": "a", "merge": "delta"}
    usual = "said.jsonl" if name in FILES else "model"
    refused(*into(EVERY[name], given.get(name, usual)))


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("device", ["/dev/null", "/dev/full"])
def test_a_device_is_no_output(at_inputs: Path, name: str, device: str) -> None:
    refused(*into(EVERY[name], device))
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("name", EVERY)
def test_outputs_that_cannot_be_written(at_inputs: Path, name: str) -> None:
    for output in ("x" * 300, "prompts.jsonl/out", "/proc/none/out", "/proc/self/status"):
        refused(*into(EVERY[name], output))


@pytest.mark.parametrize("name", EVERY)
def test_a_link_is_never_written_through(at_inputs: Path, name: str, tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(at_inputs / "model" / "config.json")
    done = lens(*into(EVERY[name], tmp_path / "out"))
    done.require_words()
    assert done.status == (0 if name in FILES else 2), done
    assert (tmp_path / "out").is_symlink() == (name not in FILES)


def test_two_outputs_of_one_name(at_inputs: Path, tmp_path: Path) -> None:
    same = tmp_path / "r.md"
    refused("score", "said.jsonl", "--output", same, "--verdicts", tmp_path / "." / "r.md")
    (tmp_path / "link.md").symlink_to(same)
    refused("score", "said.jsonl", "--output", same, "--verdicts", tmp_path / "link.md")
    assert not same.exists()


# `compare` writes each of its tables in one step, so that two cannot meet.
@pytest.mark.parametrize("name", [name for name in FOLDERS if name != "compare"])
def test_a_folder_in_which_another_is_at_work(at_inputs: Path, name: str, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from lens_eval.base.files import lock\n"
        f"with lock(Path({str(tmp_path / 'out')!r})): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert "another run is at work" in refused(*into(FOLDERS[name], tmp_path / "out")).err
        other.stdin.close()
    assert not (tmp_path / "out").exists()


# --- pipes ------------------------------------------------------------------------------------------


def fed(pipe: Path, content: str) -> Path:
    """A pipe that somebody writes this into."""
    os.mkfifo(pipe)
    threading.Thread(target=lambda: pipe.write_text(content, encoding="utf-8"), daemon=True).start()
    return pipe


ROW = json.dumps({"text": "Mji mkuu wa Kenya ni Nairobi, na ni mji mkubwa.", "language": "sw"}) + "\n"


def test_a_pipe_is_scored_whole(tmp_path: Path) -> None:
    done = lens("score", fed(tmp_path / "pipe", ROW * 1000), "--format", "json", "--processes", "1")
    assert json.loads(done.out)["overall"]["n"] == 1000
    done = lens("calibrate", fed(tmp_path / "gold", ROW * 200), "--languages", "en,sw", "--format", "json")
    assert done.status == 0, done
    assert json.loads(done.out)["languages"]["sw"][0]["n"] == 200


def test_standard_input_is_scored_whole_by_any_name(tmp_path: Path) -> None:
    for name in ("-", "/dev/stdin", "/dev/fd/0"):
        command = [sys.executable, "-m", "lens_eval", "score", name, "--format", "json"]
        done = subprocess.run(command, input=ROW * 1000, capture_output=True, text=True)
        assert json.loads(done.stdout)["overall"]["n"] == 1000, done.stderr


def test_settings_may_come_through_a_pipe(at_inputs: Path, tmp_path: Path) -> None:
    settings = fed(tmp_path / "settings", "probe_items: 2\nno_such: 1\n")
    assert "no_such" in refused("probe", *BASIC, *DATA, "--config", settings, "--output", tmp_path / "o").err
    points = fed(tmp_path / "points", "grid: {no_such: [1]}\n")
    command = ["sweep", *BASIC, *DATA, *SWEEP[:2], "--points", points]
    assert "no_such" in refused(*command, "--output", tmp_path / "o").err
    recipe = fed(tmp_path / "recipe", "no_such: 1\n")
    assert "no_such" in refused("reproduce", recipe, "--plan").err
    paper = fed(tmp_path / "paper", "no_such\n")
    assert "no_such" in refused("compare", "a", "--paper", paper).err


def test_what_is_read_twice_is_no_pipe(at_inputs: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # nobody writes: whoever opens it waits for ever
    for command in (
        ["probe", *BASIC, "--data", tmp_path / "pipe", "--output", tmp_path / "o"],
        ["train", *BASIC, "--data", tmp_path / "pipe", "--output", tmp_path / "o"],
        ["assess", "model", "--data", tmp_path / "pipe", "--languages", "en,sw", "--device", "cpu"],
        ["sweep", *BASIC, "--data", tmp_path / "pipe", *SWEEP, "--output", tmp_path / "o"],
        ["score", "said.jsonl", "--protocol", "lcb", "--words", tmp_path / "pipe"],
    ):
        assert "is a pipe or a device" in refused(*command).err


def test_a_pipe_inside_of_a_folder_is_not_waited_for(inputs: Path, tmp_path: Path) -> None:
    write_results(tmp_path / "a", {"x_sw": {"acc": [1.0]}})
    os.mkfifo(tmp_path / "a" / "results_2027-01-01T00-00-00.000000.json")
    assert lens("compare", tmp_path / "a").status == 0
    (tmp_path / "out" / "training").mkdir(parents=True)
    os.mkfifo(tmp_path / "out" / "training" / "job.json")
    with inside(inputs):
        assert "not empty" in refused("train", *BASIC, *DATA, "--output", tmp_path / "out").err


# --- the system refuses -----------------------------------------------------------------------------


def limited(kind: int, size: int, *command: Any) -> subprocess.CompletedProcess[str]:
    """The command in a process with a limit of the system."""
    return subprocess.run(
        [sys.executable, "-m", "lens_eval", *map(str, command)],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(kind, (size, size)),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def require_words(done: subprocess.CompletedProcess[str], words: str) -> None:
    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr, done.stderr
    assert "not foreseen" not in done.stderr, done.stderr
    assert words in done.stderr, done.stderr


@pytest.mark.parametrize("name", ["train", "probe", "merge", "verdicts"])
def test_a_full_disk_is_told_in_words(at_inputs: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "many.jsonl").write_text(ROW * 500, encoding="utf-8")
    commands = {**EVERY, "verdicts": ["score", str(tmp_path / "many.jsonl"), "--verdicts"]}
    size = 2_000 if name == "probe" else 20_000
    done = limited(resource.RLIMIT_FSIZE, size, *into(commands[name], tmp_path / "out"))
    require_words(done, "File too large")


SCARCE = """
import os, resource, sys
from lens_eval.commands.cli import main
if "probe" in sys.argv:
    import torch, transformers, lens_train.lens
limit = len(os.listdir("/proc/self/fd")) - 1 + int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
main()
"""


@pytest.mark.parametrize("name", ["score", "probe"])
def test_no_file_descriptors(at_inputs: Path, tmp_path: Path, name: str) -> None:
    for more in (0, 1, 2):
        command = [sys.executable, "-c", SCARCE, str(more), *into(EVERY[name], tmp_path / f"out{more}")]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        if done.returncode or not more:
            require_words(done, "open files")


MISSING = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
from lens_eval.commands.cli import main
for command in {commands!r}:
    sys.argv = ["lens", *command]
    try:
        main()
        print("ended", command)
    except SystemExit as end:
        print(end.code, file=sys.stderr)
"""


def without(absent: Sequence[str], commands: Sequence[Sequence[str]]) -> list[str]:
    """What commands say where packages are missing, a line each, and the status behind it."""
    code = MISSING.format(absent=tuple(absent), commands=[list(map(str, each)) for each in commands])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "Traceback" not in done.stderr, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("lens: ") or line == "2"]
    assert len(lines) == 2 * len(commands), done.stderr + done.stdout
    return lines[::2]


TRAIN = ("torch", "transformers", "accelerate", "safetensors", "peft", "trl", "datasets", "tokenizers")


def test_without_an_extra_every_command_names_it(at_inputs: Path, tmp_path: Path) -> None:
    out = ["--output", str(tmp_path / "out")]
    commands = [
        ["probe", *BASIC, *DATA, *out],
        ["train", *BASIC, *DATA, *out],
        ["train", *BASIC, *DATA, "--method", "xsft", *out],
        ["sweep", *BASIC, *DATA, *SWEEP, *out],
        ["merge", "--delta", "delta", "--model", "model", *out],
        ["bake", "steering", "--language", "sw", "--model", "model", *out],
        ["assess", "model", *DATA, "--languages", "en,sw"],
        ["diagnose", "delta"],
        ["doctor", "model"],
        [*EVAL, *out],
        ["chat", "model", "-q", "x"],
        ["reproduce", "demo", "--plan"],
    ]
    for line in without(TRAIN, commands):
        assert "pip install" in line, line
        assert "[train]" in line, line
    assert not (tmp_path / "out").exists()


def test_without_matplotlib_or_ray_their_extras_are_named(at_inputs: Path) -> None:
    (line,) = without(["matplotlib"], [["diagnose", "delta"]])
    assert "[report]" in line
