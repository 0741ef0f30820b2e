"""`lens probe`, `lens train` and `lens merge` as a user meets them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_lens
import typer
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

from lens_eval.base.errors import UserError
from lens_eval.commands import train, weights
from lens_train.job import Variant
from lens_train.subspace import Subspaces

app = typer.Typer()
for _name in ("probe", "train", "sweep"):
    app.command(_name)(getattr(train, _name))
app.command("merge")(weights.merge)


def lens(*arguments: Any) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, UserError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_lens.save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_lens.save_prompts(tmp_path_factory.mktemp("data") / "prompts.jsonl", items=6)


def test_probe_train_merge(model: str, data: Path, tmp_path: Path) -> None:
    basic = ["--model", model, "--data", data, "--languages", "en,zh-cn,swh", "--device", "cpu"]
    lens("probe", *basic, "--output", tmp_path / "sub")
    subspaces = Subspaces.load(tmp_path / "sub")
    assert subspaces.specific.shape == (4, 2, 32)
    assert subspaces.identity["languages"] == ["en", "zh", "sw"]
    settings = tmp_path / "settings.yaml"
    settings.write_text("learning_rate: 1.0e-3\ndisplacement: {zh: 0.5}\n")
    options = ["--config", settings, "--set", "steps=2", "--subspaces", tmp_path / "sub"]
    lens("train", *basic, *options, "--output", tmp_path / "whole")
    lens("train", *basic, *options, "--delta", "--output", tmp_path / "delta")
    lens("merge", "--delta", tmp_path / "delta", "--model", model, "--output", tmp_path / "merged")
    files = [tmp_path / folder / "model.safetensors" for folder in ("whole", "merged")]
    assert files[0].read_bytes() == files[1].read_bytes()
    record = Variant.load(tmp_path / "whole")
    assert record.settings["displacement"] == {"zh": 0.5}
    assert record.settings["batch_size"] == 8  # defaults are settings too
    log = (tmp_path / "whole" / "training" / "log.jsonl").read_text().splitlines()
    assert {"loss", "retain", "separate.zh", "align.sw", "learning_rate", "grad_norm"} <= json.loads(
        log[1]
    ).keys()


def test_given_subspaces_and_own_probe_agree(model: str, data: Path, tmp_path: Path) -> None:
    basic = ["--model", model, "--data", data, "--languages", "en,zh", "--set", "steps=2", "--device", "cpu"]
    lens("probe", *basic, "--output", tmp_path / "sub")
    lens("train", *basic, "--subspaces", tmp_path / "sub", "--output", tmp_path / "given")
    lens("train", *basic, "--output", tmp_path / "own")
    # A run of its own probes in the batches it trains on, where sums round otherwise.
    given, own = (load_file(tmp_path / folder / "model.safetensors") for folder in ("given", "own"))
    base = load_file(Path(model) / "model.safetensors")
    moved = sum(float((given[name] - base[name]).square().sum()) for name in given) ** 0.5
    apart = sum(float((given[name] - own[name]).square().sum()) for name in given) ** 0.5
    assert moved > 1e-2
    # Adam divides by the size of a gradient, so single weights whose gradient is near 0 may part further.
    assert apart < 1e-4 * moved


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--languages": "en,klingon"}, "klingon"),
        ({"--languages": "en zh,sw"}, "separate codes with commas: en,zh"),
        ({"--languages": "en,zh.sw"}, "separate codes with commas: zh,sw"),
        ({"--central": "en zh"}, "separate codes with commas: en,zh"),
        ({"--languages": "zh,sw"}, "the central language 'en' is not among"),
        ({"--languages": "en"}, "at least two languages"),
        ({"--languages": "en,zh,de"}, r"line 1: no prompt in 'de'"),
        ({"--device": "cuda:7"}, "PyTorch sees"),
        ({"--model": "no/such"}, "no model 'no/such'"),
        ({"--data": "absent.jsonl"}, r"no parallel data at absent\.jsonl"),
        ({"--set": "learning_rat=1"}, "did you mean learning_rate"),
        ({"--set": "learning_rate=fast"}, "learning_rate must be a number"),
        ({"--set": "rank=3"}, "rank 3 is not between 1 and 2"),
        ({"--set": "displacement={de: 1}"}, r"displacement names \['de'\]"),
        ({"--set": "schedule=sine"}, "possible: cosine, linear, constant"),
        ({"--set": "trained_layers=9"}, "the model has 4 layers"),
        ({"--set": "loss_layers=[0]"}, "below the first trained layer"),
        ({"--set": "loss_layers=[4]"}, "the model has layers 0 to 3"),
        ({"--method": "lenz"}, "did you mean lens"),
        ({"--config": "absent.yaml"}, "cannot read the settings"),
        ({"--subspaces": "absent"}, "holds no subspaces"),
    ],
    ids=str,
)
def test_mistakes_are_named_and_nothing_is_written(
    model: str, data: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    given = {"--model": model, "--data": data, "--languages": "en,zh,sw", "--device": "cpu"}
    given |= {"--output": tmp_path / "out", **changes}
    with pytest.raises(UserError, match=message):
        lens("train", *[part for pair in given.items() for part in pair])
    assert not (tmp_path / "out").exists()


def test_a_model_without_chat_template(data: Path, tmp_path: Path) -> None:
    bare = tiny_lens.save_model(tmp_path / "bare", template=False)
    basic = ["--model", bare, "--data", data, "--languages", "en,zh", "--device", "cpu"]
    for command in ("probe", "train"):
        with pytest.raises(UserError, match=r"has no chat template.*plain"):
            lens(command, *basic, "--output", tmp_path / command)
        assert not (tmp_path / command).exists()
    lens("train", *basic, "--template", "plain", "--output", tmp_path / "out")


def test_a_sweep_of_a_model_without_chat_template(data: Path, tmp_path: Path) -> None:
    bare = tiny_lens.save_model(tmp_path / "bare", template=False)
    basic = ["--model", bare, "--data", data, "--dev-data", data, "--languages", "en,zh", "--device", "cpu"]
    basic += ["--vary", "learning_rate=1e-4", "--output", tmp_path / "out", "--max-new-tokens", "4"]
    with pytest.raises(UserError, match=r"has no chat template.*plain"):
        lens("sweep", *basic)
    assert not (tmp_path / "out").exists()
    lens("sweep", *basic, "--template", "plain")
    chosen = json.loads((tmp_path / "out" / "sweep.json").read_text())["rows"]
    assert [row["settings"] for row in chosen] == [{"learning_rate": 1e-4}]


@pytest.mark.parametrize("limit", ["0", "-1"])
def test_no_items_are_not_all_items(model: str, data: Path, tmp_path: Path, limit: str) -> None:
    for command in ("probe", "train"):
        given = ["--model", model, "--data", data, "--languages", "en,zh", "--output", tmp_path / "out"]
        result = CliRunner().invoke(app, list(map(str, [command, *given, "--limit", limit])))
        assert result.exit_code == 2
        assert "--limit" in result.output
        assert not (tmp_path / "out").exists()


def test_subspaces_of_something_else_are_refused(model: str, data: Path, tmp_path: Path) -> None:
    basic = ["--data", data, "--languages", "en,zh", "--device", "cpu"]
    lens("probe", "--model", model, *basic, "--output", tmp_path / "sub")
    other = tiny_lens.save_model(tmp_path / "other", seed=1)
    bare = tiny_lens.save_model(tmp_path / "bare", template=False)
    given = [*basic, "--subspaces", tmp_path / "sub", "--output", tmp_path / "out"]
    with pytest.raises(UserError, match="weights_sha256"):
        lens("train", "--model", other, *given)
    with pytest.raises(UserError, match="template_sha256"):
        lens("train", "--model", bare, *given, "--template", "plain")
    with pytest.raises(UserError, match="languages: made with"):
        lens("train", "--model", model, *given, "--languages", "en,sw")
    assert not (tmp_path / "out").exists()


def test_an_output_folder_in_use_is_left_alone(model: str, data: Path, tmp_path: Path) -> None:
    basic = ["--model", model, "--data", data, "--languages", "en,zh", "--device", "cpu", "--set", "steps=1"]
    used = tmp_path / "used"
    used.mkdir()
    (used / "thesis.tex").write_text("mine")
    for command in ("probe", "train"):
        with pytest.raises(UserError, match="is not empty"):
            lens(command, *basic, "--output", used)
    assert [file.name for file in used.iterdir()] == ["thesis.tex"]
    lens("train", *basic, "--output", tmp_path / "done")
    with pytest.raises(UserError, match="finished variant"):
        lens("train", *basic, "--output", tmp_path / "done")


def test_the_command_exits_with_2_and_no_traceback(model: str, data: Path, tmp_path: Path) -> None:
    given = [
        "--model",
        model,
        "--data",
        str(data),
        "--languages",
        "en,xx1",
        "--output",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "lens_eval", "train", *given], capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("lens: ")


def test_importing_the_commands_loads_no_torch() -> None:
    heavy = {"torch", "transformers", "datasets"}
    code = f"import sys, lens_eval.commands.train; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_golden_model_with_the_released_data(shared: Path, tmp_path: Path) -> None:
    official = shared / "data" / "lens_official"
    model, train = shared / "golden" / "model", official / "language_pull_data_alpaca_safe_200"
    probing = {"en,zh": "aya_en_zh_300", "en,zh,ja,ko,ar,sw,bn": "aya_en_zh_ja_ar_ko_bn_sw_300"}
    for number, (languages, folder) in enumerate(probing.items()):
        basic = ["--model", model, "--languages", languages, "--device", "cpu"]
        lens("probe", *basic, "--data", official / folder, "--output", tmp_path / f"sub{number}")
        given = ["--subspaces", tmp_path / f"sub{number}", "--output", tmp_path / f"out{number}"]
        lens("train", *basic, "--data", train, *given)
        lines = (tmp_path / f"out{number}" / "training" / "log.jsonl").read_text().splitlines()
        separate = [sum(v for k, v in json.loads(line).items() if k.startswith("separate")) for line in lines]
        assert len(separate) == 100
        assert separate[-1] < 0.95 * separate[0]
