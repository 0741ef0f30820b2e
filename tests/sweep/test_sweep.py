"""Sweeps: the points, the choice, training to the same bits, resuming, and what is refused."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_lens
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from lens_eval.base.errors import UserError
from lens_eval.commands.cli import app
from lens_train import methods
from lens_train.job import Job
from lens_train.sweep.rows import Outcome, Request, Row
from lens_train.sweep.run import choose, hash_weights, make_points, sweep
from lens_train.watch.dev import as_written

LANGUAGES = ("zh", "en", "sw")
SHARED = {"steps": 2, "train_items": 6, "batch_size": 3, "learning_rate": 1e-3}


def test_points_are_the_grid_and_the_list_each_once() -> None:
    spec = {
        "grid": {"learning_rate": [1e-5, 3e-5], "displacement": [{"zh": 0.5}, 1.0]},
        "list": [{"learning_rate": 1e-5, "displacement": 1.0}, {"retain_over": "tokens"}],
    }
    points = make_points(spec, {"seed": [0, 1]})
    assert len(points) == 2 * 2 * 2 + 2
    assert {"learning_rate": 3e-5, "displacement": {"zh": 0.5}, "seed": 1} in points
    assert len(make_points({**spec, "list": [{"learning_rate": 3e-5, "displacement": 1.0}]})) == 4


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, "nothing to vary"),
        ({"gird": {}}, "did you mean grid"),
        ({"grid": {"learning_rate": 1e-5}}, "list of values"),
        ({"list": [1e-5]}, "list must hold mappings"),
        ({"grid": {"learning_rat": [1e-5]}}, "did you mean learning_rate"),
        *[
            (
                {"list": [{name: 1}]},
                f"{name} cannot vary within a sweep: it would need another probe or trunk",
            )
            for name in (
                "trained_layers",
                "template",
                "languages",
                "train_items",
                "rank",
                "dtype",
                "probe_data",
            )
        ],
    ],
    ids=str,
)
def test_points_that_are_refused(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_points(spec)


def row(off: float, usable: float, rate: float = 1e-5, **changes: Any) -> Row:
    measures = {"off_target": off, "usable": usable, "undetermined": 0.0, "loop": 0.0, "first": 1.0}
    measures |= {"central_usable": 1.0, "central_right": 0.9, "central_loss": 3.0, **changes}
    return Row({"learning_rate": rate}, measures)


BACKBONE = row(0.7, 0.3)


@pytest.mark.parametrize(
    ("rows", "chosen"),
    [
        ([row(0.3, 0.6), row(0.1, 0.8), row(0.2, 0.7)], 1),
        ([row(0.3, 0.6), row(0.0, 0.9, central_loss=3.2)], 0),
        ([row(0.1, 0.8, 1e-3), row(0.1, 0.8, 1e-4), row(0.1, 0.8, 1e-2)], 1),
        ([row(0.3, 0.6), row(0.0, 0.3, loop=0.6)], 0),
        ([row(0.3, 0.6), row(0.0, 0.3, undetermined=0.5)], 0),
        ([row(0.2, 0.6), row(0.1, 0.6, undetermined=0.7)], 0),
        ([row(0.4, 0.6), row(0.0, 0.6, undetermined=1.0)], 0),
        ([row(0.3, 0.6), row(0.0, 0.9, central_right=0.8)], 0),
        ([row(0.3, 0.6), row(0.0, 0.9, central_usable=0.9)], 0),
        ([row(0.3, 0.6), row(0.0, 0.9, central_usable=0.95)], 1),
        ([row(0.3, 0.6), Row({}, reason="step 3: not a finite number: loss")], 0),
        ([row(0.0, 0.9, central_loss=4.0), Row({}, reason="stopped")], 0),
        ([row(0.0, 0.3, loop=0.7), Row({}, reason="stopped")], None),
    ],
    ids=[
        "most usable",
        "central text lost",
        "smaller rate",
        "a gain of loops",
        "undetermined",
        "silence is not on target",
        "nothing judged",
        "wrong",
        "central replies lost",
        "one reply of twenty is let through",
        "stopped",
        "none keeps the central language",
        "none improves",
    ],
)
def test_the_rule_of_choice(rows: list[Row], chosen: int | None) -> None:
    found = choose(rows, BACKBONE, 0.02, "en", 20)
    assert found.chosen == chosen
    assert sorted(found.ranking) == [place for place, own in enumerate(rows) if not own.reason]
    assert "usable and right replies at most 5 points below" in found.rule
    assert "the loss on held-back en text at most 2% above it" in found.rule


def test_a_wider_margin_lets_more_through() -> None:
    rows = [row(0.3, 0.6), row(0.0, 0.9, central_loss=3.1)]
    assert [choose(rows, BACKBONE, margin, "en", 20).chosen for margin in (0.02, 0.05)] == [0, 1]


def test_the_trade_off_is_said_in_words() -> None:
    rows = [row(0.4, 0.65, 1e-5), row(0.1, 0.85, 1e-4, first=0.85, central_loss=3.03), row(0.7, 0.3, 1e-7)]
    found = choose(rows, BACKBONE, 0.02, "en", 20)
    assert found.ranking == (1, 0, 2)
    assert found.gentle == 0
    assert "off-target 70.0 -> 10.0%, usable 30.0 -> 85.0%" in found.words[0]
    assert "17 of 20 begin alike, loss on en text +1.0%" in found.words[0]
    assert "gentlest setting with half the gain is 1 (40.0% off target, 65.0% usable)" in found.words[1]


def test_a_rate_over_nothing_judged_is_a_dash() -> None:
    silent = row(0.0, 0.6, 1e-4, undetermined=1.0)
    found = choose([silent], BACKBONE, 0.02, "en", 20)
    assert "off-target 70.0 -> –%" in found.words[0]
    # Control: a rate over something is a number, also if it is 0.
    assert "70.0 -> 0.0%" in choose([row(0.0, 0.6, undetermined=0.9)], BACKBONE, 0.02, "en", 20).words[0]


def test_a_loss_of_the_central_language_is_said_and_ranked_behind() -> None:
    rows = [row(0.0, 0.95, central_loss=3.3), row(0.1, 0.25)]
    found = choose(rows, BACKBONE, 0.02, "en", 20)
    assert found.ranking == (0, 1)
    assert found.chosen == 0
    assert "No setting keeps en within the margin" in " ".join(found.words)
    assert "loses the loss on en text" in " ".join(found.words)
    better = choose([*rows, row(0.5, 0.5)], BACKBONE, 0.02, "en", 20)
    assert better.ranking == (2, 0, 1), "a smaller gain comes first if it keeps the central language"
    assert "No setting" not in " ".join(better.words)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([row(0.68, 0.3)], "larger learning rates"),
        ([row(0.0, 0.1, loop=0.9)], "took their place"),
        ([Row({}, reason="stopped")], "Every setting was stopped"),
    ],
)
def test_why_nothing_improved(rows: list[Row], words: str) -> None:
    assert words in choose(rows, BACKBONE, 0.02, "en", 20).words[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("sweep")
    tiny_lens.save_model(place / "model")
    tiny_lens.save_prompts(place / "train.jsonl", items=8)
    tiny_lens.save_prompts(place / "dev.jsonl", items=3)
    return place


def job(folder: Path, output: Path, **settings: Any) -> Job:
    data = folder / "train.jsonl"
    shared = {**SHARED, **settings}
    return Job("lens", str(folder / "model"), data, LANGUAGES, output, device="cpu", settings=shared)


def run(folder: Path, output: Path, points: list[dict[str, Any]], **shared: Any) -> tuple[Outcome, list[str]]:
    said: list[str] = []
    asked = make_points({"list": points})
    request = Request(job(folder, output, **shared), "train", folder / "dev.jsonl", asked, max_new_tokens=8)
    return sweep(request, said.append), said


POINTS: list[dict[str, Any]] = [
    {"learning_rate": 1e-3},
    {"learning_rate": 3e-3, "displacement": 0.5, "steps": 3},
    {"retain_over": "tokens", "seed": 7, "schedule": "linear"},
    {"align_weight": 0.0, "retain_weight": 0.0, "loss_layers": [2, -1]},
    {"learning_rate": 1e30, "schedule": "constant", "clip_norm": 0.0, "steps": 40},
    {"batch_size": 2, "micro_batch_size": 1, "weight_decay": 0.0},
]


@pytest.fixture(scope="module")
def swept(folder: Path) -> tuple[Outcome, list[str]]:
    return run(folder, folder / "swept", POINTS)


@pytest.mark.parametrize("place", [0, 1, 2, 3, 5])
def test_weights_are_those_of_lens_train(
    swept: tuple[Outcome, list[str]], folder: Path, tmp_path: Path, place: int
) -> None:
    """Bit for bit, after other settings were trained on the same trunk, and with a probe of its own."""
    point = dict(POINTS[place])
    seed = point.pop("seed", 0)
    alone = job(folder, tmp_path / "alone", diagnose=0, **point)
    methods.train(Job(**{**alone.__dict__, "seed": seed}))
    weights = load_file(tmp_path / "alone" / "model.safetensors")
    trained = {name: own for name, own in weights.items() if ".layers.2." in name or ".layers.3." in name}
    assert hash_weights(trained) == swept[0].rows[place].weights_sha256
    assert len({own.weights_sha256 for own in swept[0].rows}) == len(POINTS), "and every setting gives others"


def test_a_setting_that_explodes_leaves_its_reason(swept: tuple[Outcome, list[str]], folder: Path) -> None:
    outcome, said = swept
    assert "not a finite number" in outcome.rows[4].reason
    assert all(not own.reason for place, own in enumerate(outcome.rows) if place != 4)
    assert outcome.choice.chosen != 4
    assert any("stopped: step" in line for line in said)
    table = (folder / "swept" / "table.md").read_text()
    assert "Setting 5 was stopped: step" in table


def test_the_outcome_on_disk(swept: tuple[Outcome, list[str]], folder: Path) -> None:
    files = {path.name for path in (folder / "swept").iterdir()}
    assert {"sweep.json", "table.md", "table.csv", "tradeoff.png", "points", "training"} <= files
    document = json.loads((folder / "swept" / "sweep.json").read_text())
    assert [own["settings"] for own in document["rows"]] == POINTS
    assert document["simulated"] is False
    lines = (folder / "swept" / "table.csv").read_text().splitlines()
    assert len(lines) == 2 + len(POINTS)
    assert lines[0].startswith("setting,chosen,learning_rate,displacement,steps,")
    assert swept[0].backbone.measures["first"] == 1, "the untrained model agrees with itself"
    points = [json.loads(path.read_text()) for path in (folder / "swept" / "points").iterdir()]
    assert all(set(point["replies"]) == set(LANGUAGES) for point in points if not point["row"]["reason"])


def stripped(outcome: Outcome) -> list[tuple[Any, ...]]:
    return [(own.settings, own.measures, own.losses, own.weights_sha256, own.reason) for own in outcome.rows]


KILLED = """
import json, sys, time
from pathlib import Path
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/sweep"]
import test_sweep
from lens_train.sweep import run as sweep
write = sweep.write_json
def slow(path, document):
    if path.parent.name == "points":
        print(path.name, flush=True)
        time.sleep(0.5)
    write(path, document)
sweep.write_json = slow
test_sweep.run(Path(sys.argv[2]), Path(sys.argv[3]), test_sweep.POINTS)
"""


@pytest.mark.parametrize("stop", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_stopped_and_started_again_gives_the_same_table(
    swept: tuple[Outcome, list[str]], folder: Path, tmp_path: Path, stop: int
) -> None:
    command = [
        sys.executable,
        "-c",
        KILLED,
        str(Path(__file__).parents[1]),
        str(folder),
        str(tmp_path / "out"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    names = [process.stdout.readline().strip() for _ in range(4)]  # untrained, 1, 2, amid the writing of 3
    process.send_signal(stop)
    process.communicate()
    assert process.returncode != 0
    there = {path.name for path in (tmp_path / "out" / "points").glob("*.json")}
    assert there == set(names[:3])
    outcome, said = run(folder, tmp_path / "out", POINTS)
    assert "2 of 6 settings were there already" in said
    assert len([line for line in said if line.startswith("[")]) == 4
    assert stripped(outcome) == stripped(swept[0])
    assert outcome.choice == swept[0].choice


def test_a_folder_may_get_further_settings(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "out", POINTS[:1])
    outcome, said = run(folder, tmp_path / "out", POINTS[:2])
    assert len(outcome.rows) == 2
    assert "1 of 2 settings were there already" in said


def test_what_is_refused_before_work(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="learning_rate must be a number"):
        run(folder, tmp_path / "out", [{"learning_rate": "fast"}])
    with pytest.raises(UserError, match="below the first trained layer"):
        run(folder, tmp_path / "out", [{"loss_layers": [0]}])
    with pytest.raises(UserError, match="seed must be a whole number"):
        run(folder, tmp_path / "out", [{"seed": 0.5}])
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="would be streamed from disk"):
        run(folder, tmp_path / "streamed", POINTS[:1], stream="always")
    used = tmp_path / "used"
    used.mkdir()
    (used / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="is not empty and holds no sweep"):
        run(folder, used, POINTS[:1])
    assert [path.name for path in used.iterdir()] == ["thesis.tex"]


def test_another_sweep_in_the_folder_is_refused(swept: tuple[Outcome, list[str]], folder: Path) -> None:
    before = (folder / "swept" / "sweep.json").read_bytes()
    with pytest.raises(UserError, match=r"holds another sweep \(it differs in settings\)"):
        run(folder, folder / "swept", POINTS, steps=5)
    assert (folder / "swept" / "sweep.json").read_bytes() == before


def test_weights_are_judged_in_the_type_they_are_written_in() -> None:
    weight = torch.nn.Parameter(torch.full((2, 2), 1.0001))
    with as_written({"weight": weight}, torch.bfloat16):
        assert weight.dtype == torch.bfloat16
        assert weight.data[0, 0].item() == 1.0
    assert weight.dtype == torch.float32
    assert weight.data[0, 0].item() == pytest.approx(1.0001)


def test_the_built_in_world_end_to_end(tmp_path: Path) -> None:
    """A learning rate of next to nothing changes nothing; a real one mends what Lens is for."""
    output = tmp_path / "sweep"
    given = [
        "--model",
        "builtin",
        "--data",
        "builtin:train",
        "--dev-data",
        "builtin:dev",
        "--dev-limit",
        "24",
    ]
    given += ["--languages", "en,zh,sw", "--vary", "learning_rate=1e-12,1e-3", "--set", "displacement=0.5"]
    given += ["--device", "cpu", "--output", str(output)]
    done = CliRunner().invoke(app, ["sweep", *given])
    assert done.exit_code == 0, (done.output, done.exception)
    document = json.loads((output / "sweep.json").read_text())
    untouched, trained = document["rows"]
    assert untouched["measures"] == document["backbone"]["measures"]
    assert document["backbone"]["measures"]["off_target"] > 0.4
    assert trained["measures"]["off_target"] < 0.1
    assert trained["measures"]["central_right"] > 0.9
    assert document["chosen"] == 1
    assert document["simulated"] is True
    assert "Setting 2 (*) is chosen" in " ".join(done.output.split())
    command = shlex.split(document["command"])
    assert CliRunner().invoke(app, [*command[1:], "--device", "cpu"]).exit_code == 0
    weights = load_file(tmp_path / "sweep-chosen" / "model.safetensors")
    top = {name: own for name, own in weights.items() if ".layers.4." in name or ".layers.5." in name}
    assert hash_weights(top) == trained["weights_sha256"]
