"""`--report-to`: what training logs reaches accelerate's trackers, and cannot change or end the training."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from accelerate import tracking
from accelerate.tracking import GeneralTracker
from tiny_lens import save_model, save_prompts
from typer.testing import CliRunner

from lens_eval.base.errors import UserError
from lens_eval.commands.cli import app
from lens_train import Job, Variant, train
from lens_train.watch import trackers


class Kept(GeneralTracker):
    """A tracker as users write their own: it keeps what it is told."""

    name = "kept"
    requires_logging_directory = False
    last: Kept

    def __init__(self, run_name: str) -> None:
        super().__init__()
        self.run_name = run_name
        self.rows: list[tuple[int, dict[str, Any]]] = []
        self.configuration: dict[str, Any] = {}
        self.finished = False
        Kept.last = self

    @property
    def tracker(self) -> Kept:
        return self

    def start(self) -> None:
        pass

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.configuration = values

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        self.rows.append((step or 0, values))

    def finish(self) -> None:
        self.finished = True


class Failing(Kept):
    """One whose server is gone."""

    name = "failing"

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        raise ConnectionError("the server is gone")


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    before = dict(tracking.LOGGER_TYPE_TO_CLASS)
    tracking.register_tracker_class(Kept)
    tracking.register_tracker_class(Failing)
    yield
    tracking.LOGGER_TYPE_TO_CLASS.clear()
    tracking.LOGGER_TYPE_TO_CLASS.update(before)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("tracked")
    settings = {"probe_items": 4, "train_items": 3, "epochs": 1, "show_replies": 1}
    data = save_prompts(folder / "prompts.jsonl", items=6)
    model = save_model(folder / "base")
    return Job("lens", model, data, ("en", "zh", "sw"), folder / "out", device="cpu", settings=settings)


def with_output(job: Job, output: Path) -> Job:
    return Job(**{**job.__dict__, "output": output})


def log_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / trackers.LOG).read_text(encoding="utf-8").splitlines()]


def test_every_line_of_the_log_and_the_outcome_are_handed_on(job: Job, tmp_path: Path) -> None:
    train(with_output(job, tmp_path / "out"), report_to=["kept"])
    kept, log = Kept.last, log_of(tmp_path / "out")
    assert kept.finished
    steps = [(step, values) for step, values in kept.rows if "loss" in values]
    assert [(step, values["loss"]) for step, values in steps] == [(row["step"], row["loss"]) for row in log]
    replies = Variant.load(tmp_path / "out").outcome["replies"]
    [after] = [values for _, values in kept.rows if "after/usable.sw" in values]
    assert after["after/usable.sw"] == replies["after"]["sw"]["usable"] / replies["items"]
    assert kept.configuration["settings.train_items"] == 3
    assert kept.configuration["model"] == "base"
    assert str(tmp_path) not in json.dumps(kept.configuration)


def test_the_weights_are_those_of_an_untracked_run(job: Job, tmp_path: Path) -> None:
    train(with_output(job, tmp_path / "a"))
    train(with_output(job, tmp_path / "b"), report_to=["kept"])
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b"))
    assert one == other


def test_a_tracker_that_fails_ends_no_training(
    job: Job, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train(with_output(job, tmp_path / "out"), report_to=["failing"])
    assert Variant.load(tmp_path / "out").method == "lens"
    assert "the trackers stopped, the training did not: the server is gone" in capfd.readouterr().err


def test_a_stage_stands_before_its_numbers() -> None:
    kept = Kept("x")
    assert trackers.send([kept], {"stage": "questions", "step": 3, "loss": 0.5, "item": "a", "ok": True}) == 3
    assert kept.rows == [(3, {"questions/loss": 0.5})]


def test_an_unknown_or_absent_tracker_is_said_before_work(job: Job, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown tracker 'tensorbord' \(did you mean tensorboard"):
        train(with_output(job, tmp_path / "out"), report_to=["tensorbord"])
    absent = {"aim", "comet_ml", "swanlab", "clearml"} - {
        str(each) for each in tracking.get_available_trackers()
    }
    name = sorted(absent)[0]
    arguments = ["train", "--model", job.model, "--data", str(job.data), "--languages", "en,zh,sw"]
    arguments += ["--output", str(tmp_path / "out"), "--report-to", name]
    with pytest.raises(UserError, match=f"--report-to {name} needs the package .*: pip install '{name}'"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert not (tmp_path / "out").exists()


def test_several_processes_are_refused_in_words(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(UserError, match="for training in one process"):
        train(with_output(job, tmp_path / "out"), report_to=["kept"])


def test_tensorboard_gets_the_losses(job: Job, tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX", reason="the package tensorboardX (extra dev) is not installed")
    train(with_output(job, tmp_path / "out"), report_to=["tensorboard"])
    events = list((tmp_path / "out" / trackers.FOLDER).rglob("events.out.tfevents.*"))
    assert events
    assert any(b"loss" in file.read_bytes() for file in events)
