"""Order, schedule, training itself, and what stops it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_lens
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lens_eval.base.errors import UserError
from lens_train import lens, loop, methods
from lens_train.config import LensConfig
from lens_train.job import Job

LANGUAGES = ("en", "zh", "sw")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_lens.save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_lens.save_prompts(tmp_path_factory.mktemp("data") / "prompts.jsonl", items=11)


def run(model: str, data: Path, output: Path, seed: int = 0, **settings: Any) -> list[dict[str, Any]]:
    methods.train(Job("lens", model, data, LANGUAGES, output, seed=seed, device="cpu", settings=settings))
    return [json.loads(line) for line in (output / "training" / "log.jsonl").read_text().splitlines()]


def weights(output: Path) -> dict[str, torch.Tensor]:
    return load_file(output / "model.safetensors")


def same(first: Path, second: Path) -> bool:
    one, two = weights(first), weights(second)
    return all(torch.equal(one[name], two[name]) for name in one)


def test_every_item_is_used_once_per_pass_and_no_batch_is_dropped() -> None:
    config = LensConfig(languages=LANGUAGES, batch_size=4, epochs=2)
    steps = loop.step_items(config, 11, seed=5)
    assert [len(step) for step in steps] == [4, 4, 3, 4, 4, 3]
    passes = [[item for step in part for item in step] for part in (steps[:3], steps[3:])]
    assert [sorted(items) for items in passes] == [list(range(11))] * 2
    assert passes[0] != passes[1]
    assert steps == loop.step_items(config, 11, seed=5) != loop.step_items(config, 11, seed=6)
    assert len(loop.step_items(LensConfig(languages=LANGUAGES, steps=9), 11, 0)) == 9


def test_schedules() -> None:
    rates = {
        name: [
            loop.learning_rate(LensConfig(languages=LANGUAGES, schedule=name, learning_rate=1.0), step, 25)  # type: ignore[arg-type]
            for step in range(25)
        ]
        for name in ("cosine", "linear", "constant")
    }
    for values in rates.values():
        assert values[:3] == [0, 0.5, 1], "two warm-up steps of 25, as released"
    assert rates["constant"][2:] == [1.0] * 23
    assert rates["cosine"][-1] < rates["linear"][-1] < 0.05


def rates(steps: int, **settings: Any) -> list[float]:
    config = LensConfig(languages=LANGUAGES, learning_rate=1.0, **settings)
    return [loop.learning_rate(config, step, steps) for step in range(steps)]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_a_warm_up_leaves_the_last_step_its_whole_rate(schedule: Any) -> None:
    assert rates(1, schedule=schedule) == [1.0]
    assert rates(1, schedule=schedule, compat="official") == [0.0], "the release: nothing is trained"
    assert rates(3, schedule=schedule, warmup=0.9) == [0.0, 0.5, 1.0]
    for steps in (2, 8, 25, 100):
        assert rates(steps, schedule=schedule) == rates(steps, schedule=schedule, compat="official")


def test_one_step_trains(model: str, data: Path, tmp_path: Path) -> None:
    (step,) = run(model, data, tmp_path / "out", train_items=8, epochs=1, learning_rate=1e-3)
    assert step["learning_rate"] == 1e-3
    assert not same_as(Path(model), tmp_path / "out")


def same_as(base: Path, output: Path) -> bool:
    one, two = load_file(base / "model.safetensors"), weights(output)
    return all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train_items": 8, "compat": "official"}, "8 items make 1 step"),
        ({"learning_rate": 0}, "learning_rate is 0: nothing would be trained"),
    ],
)
def test_a_run_that_would_change_nothing_is_refused(
    model: str, data: Path, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run(model, data, tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_trained_layers() -> None:
    assert loop.trained_layers(LensConfig(languages=LANGUAGES, trained_layers=2), 6) == (4, 5)
    assert loop.trained_layers(LensConfig(languages=LANGUAGES, trained_layers=(-1, 2)), 6) == (2, 5)
    with pytest.raises(UserError, match="the model has 6 layers"):
        loop.trained_layers(LensConfig(languages=LANGUAGES, trained_layers=7), 6)
    with pytest.raises(UserError, match="layers 0 to 5"):
        loop.trained_layers(LensConfig(languages=LANGUAGES, trained_layers=(6,)), 6)


def test_the_losses_fall_and_only_trained_layers_move(model: str, data: Path, tmp_path: Path) -> None:
    settings = {"learning_rate": 3e-3, "epochs": 15, "trained_layers": (2, 3), "retain_weight": 1.0}
    log = run(model, data, tmp_path / "out", **settings)
    assert log[-1]["separate.zh"] < 0.5 * log[0]["separate.zh"]
    assert log[-1]["loss"] < 0.5 * log[0]["loss"]
    base = load_file(Path(model) / "model.safetensors")
    moved = {
        name for name, tensor in weights(tmp_path / "out").items() if not torch.equal(tensor, base[name])
    }
    assert moved == {name for name in base if ".layers.2." in name or ".layers.3." in name}


@pytest.mark.parametrize(
    "settings",
    [
        {"retain_over": "tokens", "loss_layers": [2, -1]},
        {"align_weight": 0.0},
        {"separate_weight": 0.0},
        {"retain_weight": 0.0},
        {"trained_layers": [1, 3], "displacement": {"zh": 2.0, "sw": 0.5}, "rank": 1},
        {"trained_layers": 4},
        {"dtype": "bfloat16"},
        {"template": "plain", "schedule": "linear", "clip_norm": 0.0},
        {"trained_layers": [2, 3], "loss_layers": [2]},
    ],
    ids=str,
)
def test_settings_run(model: str, data: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    log = run(model, data, tmp_path / "out", steps=2, **settings)
    assert len(log) == 2
    assert log[-1]["loss"] >= 0


def test_micro_batches_change_nothing_but_memory(model: str, data: Path, tmp_path: Path) -> None:
    for size in (1, 3, 8):
        run(
            model,
            data,
            tmp_path / str(size),
            micro_batch_size=size,
            batch_tokens=100 * size,
            learning_rate=1e-3,
        )
    for size in (1, 3):
        one, two = weights(tmp_path / str(size)), weights(tmp_path / "8")
        assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-5


def test_same_seed_same_bits(model: str, data: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        run(model, data, tmp_path / name, seed=seed, learning_rate=1e-3)
    assert same(tmp_path / "a", tmp_path / "b")
    assert not same(tmp_path / "a", tmp_path / "c")


def test_exploding_losses_stop_with_step_term_and_advice(model: str, data: Path, tmp_path: Path) -> None:
    message = r"step \d+: (retain|align|separate)\S* is .*untrained states .*Try a lower learning_rate"
    with pytest.raises(UserError, match=message):
        run(model, data, tmp_path / "out", learning_rate=10.0, epochs=40, schedule="constant", clip_norm=0.0)
    assert not (tmp_path / "out" / "variant.json").exists()


def test_losses_that_are_no_numbers_stop(model: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"step \d+: .*not a finite number.*Try a lower learning_rate"):
        run(model, data, tmp_path / "out", learning_rate=1e30, epochs=40, schedule="constant", clip_norm=0.0)


def test_damaged_weights_are_named(data: Path, tmp_path: Path) -> None:
    name = tiny_lens.save_model(tmp_path / "model")
    tensors = load_file(Path(name) / "model.safetensors")
    tensors["model.layers.3.mlp.down_proj.weight"][0, 0] = float("nan")
    save_file(tensors, Path(name) / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="its weights are damaged"):
        run(name, data, tmp_path / "out")


KILLED = """
import json, sys, time
from pathlib import Path
from lens_train import loop, methods
from lens_train.job import Job
slow = loop.TopTrainer._append_log
def append(self, record):
    slow(self, record)
    print(record["step"], flush=True)
    time.sleep(0.02)
loop.TopTrainer._append_log = append
loop.SAVE_AT_LEAST = 0.05
job = json.loads(sys.argv[1])
job |= {"data": Path(job["data"]), "output": Path(job["output"]), "languages": tuple(job["languages"])}
methods.train(Job(**job))
"""


def start(model: str, data: Path, output: Path, settings: dict[str, Any]) -> subprocess.Popen[str]:
    job = {"method": "lens", "model": model, "data": str(data), "languages": LANGUAGES, "output": str(output)}
    job |= {"device": "cpu", "settings": settings}
    return subprocess.Popen(
        [sys.executable, "-c", KILLED, json.dumps(job)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # The number of threads changes the last bits.
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
    )


@pytest.mark.parametrize(
    ("stop", "dtype"),
    [(signal.SIGKILL, "float32"), (signal.SIGINT, "float32"), (signal.SIGKILL, "bfloat16")],
)
def test_stopped_and_started_again_gives_the_same_bits(
    model: str, data: Path, tmp_path: Path, stop: int, dtype: str
) -> None:
    settings = {"learning_rate": 1e-3, "steps": 24, "dtype": dtype}
    whole = run(model, data, tmp_path / "whole", **settings)
    process = start(model, data, tmp_path / "stopped", settings)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) == 12:
            process.send_signal(stop)
            break
    _, errors = process.communicate()
    assert process.returncode == -stop or "KeyboardInterrupt" in errors, errors
    folder = tmp_path / "stopped"
    assert not (folder / "variant.json").exists()
    with safe_open(str(folder / "training" / "state.safetensors"), framework="pt") as state:
        saved = int(state.metadata()["step"])
    assert 0 < saved < 24
    if stop == signal.SIGINT:
        assert saved >= 12, "Ctrl-C leaves the step it met behind it"
    log = run(model, data, folder, **settings)
    assert same(tmp_path / "whole", folder)
    assert [step["loss"] for step in log] == [step["loss"] for step in whole]


class Killed(Exception):
    """In place of a signal at a chosen moment."""


def run_to_the_export(model: str, data: Path, output: Path, **settings: Any) -> None:
    """A run that is killed when its checkpoint is written and `variant.json` is not."""

    def killed(*_: Any) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lens, "finish", killed)
        with pytest.raises(Killed):
            run(model, data, output, **settings)
    assert (output / "model.safetensors").is_file()
    assert not (output / "variant.json").exists()


def test_a_finished_run_keeps_no_state(model: str, data: Path, tmp_path: Path) -> None:
    run_to_the_export(model, data, tmp_path / "out", steps=2)
    assert (tmp_path / "out" / "training" / "state.safetensors").is_file(), "a control: needed until then"
    run(model, data, tmp_path / "out", steps=2)
    assert not list((tmp_path / "out" / "training").glob("*.safetensors"))


def test_a_state_of_another_run_is_not_taken_up(model: str, data: Path, tmp_path: Path) -> None:
    run_to_the_export(model, data, tmp_path / "out", steps=2)
    with pytest.raises(UserError, match="interrupted run of another job"):
        run(model, data, tmp_path / "out", steps=3)
    other = tiny_lens.save_prompts(tmp_path / "data.jsonl", items=5)
    copy = tmp_path / "prompts.jsonl"
    copy.write_bytes(data.read_bytes())
    run_to_the_export(model, copy, tmp_path / "second", steps=2)
    copy.write_bytes(other.read_bytes())
    with pytest.raises(UserError, match="belongs to another run"):
        run(model, copy, tmp_path / "second", steps=2)


def test_a_run_goes_on_only_in_its_precision(
    model: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`auto` may come to something else on the machine where a killed run is started again."""
    run_to_the_export(model, data, tmp_path / "out", steps=2)
    monkeypatch.setattr(lens, "resolve_dtype", lambda *_: torch.bfloat16)
    with pytest.raises(UserError, match="precision"):
        run(model, data, tmp_path / "out", steps=2)
    monkeypatch.undo()
    run(model, data, tmp_path / "out", steps=2)
    record = json.loads((tmp_path / "out" / "variant.json").read_text())
    assert record["settings"]["dtype"] == "float32", "what auto came to"


def test_time_is_not_needed_to_finish_a_finished_training(model: str, data: Path, tmp_path: Path) -> None:
    """Killed after the last step and before the export: nothing is trained again."""
    run_to_the_export(model, data, tmp_path / "out", steps=3)
    before = weights(tmp_path / "out")
    (tmp_path / "out" / "model.safetensors").unlink()
    written = (tmp_path / "out" / "training" / "log.jsonl").read_text()
    log = run(model, data, tmp_path / "out", steps=3)
    assert len(log) == 3
    assert (tmp_path / "out" / "training" / "log.jsonl").read_text() == written, "seconds and all"
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(tmp_path / "out").items())


@pytest.mark.slow
def test_two_processes_give_the_result_of_one(model: str, data: Path, tmp_path: Path) -> None:
    """11 items in steps of 8 and 3: neither divides by two. A control: each process did only its part."""
    settings = {"learning_rate": 1e-3, "epochs": 3}
    one = run(model, data, tmp_path / "one", **settings)
    job = {"method": "lens", "model": model, "data": str(data), "languages": LANGUAGES, "device": "cpu"}
    job |= {"output": str(tmp_path / "two"), "settings": settings}
    script = tmp_path / "launched.py"
    script.write_text(LAUNCHED)
    # On a CPU `--cpu` would start one process only; `--multi_gpu` starts as many as it is told, GPU or not.
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += [
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
        "--main_process_port",
        "0",
    ]
    done = subprocess.run([*launch, str(script), json.dumps(job)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert sorted(line for line in done.stdout.splitlines() if line.startswith("process")) == [
        "process 0 of 2 took up 18 of 33 items",
        "process 1 of 2 took up 15 of 33 items",
    ]
    log = [
        json.loads(line) for line in (tmp_path / "two" / "training" / "log.jsonl").read_text().splitlines()
    ]
    assert [step["items"] for step in log] == [step["items"] for step in one]
    for name in ("loss", "grad_norm"):
        assert [step[name] for step in log] == pytest.approx([step[name] for step in one], rel=1e-5)
    first, second = weights(tmp_path / "one"), weights(tmp_path / "two")
    base = load_file(Path(model) / "model.safetensors")
    assert max(float((first[name] - second[name]).abs().max()) for name in first) < 1e-5
    assert max(float((first[name] - base[name]).abs().max()) for name in first) > 1e-3


LAUNCHED = """
import json, sys
from pathlib import Path
from lens_train import loop, methods, processes
from lens_train.job import Job
count = 0
backward = loop.TopTrainer._backward
def counted(self, items, steps):
    global count
    count += len(items)
    return backward(self, items, steps)
loop.TopTrainer._backward = counted
job = json.loads(sys.argv[1])
job |= {"data": Path(job["data"]), "output": Path(job["output"]), "languages": tuple(job["languages"])}
methods.train(Job(**job))
print(f"process {processes.rank()} of {processes.world()} took up {count} of 33 items", flush=True)
"""
