"""Measures on made-up states, and the document that a run leaves."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_lens
import torch
from safetensors.torch import load_file
from torch import Tensor
from typer.testing import CliRunner

from lens_eval.base.errors import UserError
from lens_eval.commands.cli import app
from lens_train import methods
from lens_train.data import ParallelPrompts, read_prompts
from lens_train.decoder import Decoder, load_model
from lens_train.job import Job
from lens_train.plan import HeldOut
from lens_train.subspace import Subspaces
from lens_train.watch import diagnostics
from lens_train.watch.diagnostics import About, Watch

LANGUAGES = ("en", "zh", "sw")
ITEMS, WIDTH = 40, 16


def states(seed: int = 0, languages: int = 3) -> Tensor:
    """Items that mean the same in every language, (languages, items, width)."""
    meaning = torch.randn(ITEMS, WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return meaning.expand(languages, -1, -1).clone()


def shifts(size: float) -> Tensor:
    shift = torch.zeros(3, 1, WIDTH, dtype=torch.float64)
    shift[1, 0, 0] = shift[2, 0, 1] = size
    return shift


def about(layers: tuple[int, ...] = (0,)) -> About:
    held = HeldOut(
        ParallelPrompts.make(dict.fromkeys(LANGUAGES, ("x",) * ITEMS), "made up"), "dev", "made up"
    )
    return About(held, LANGUAGES, "en", layers, layers, layers[-1:])


def subspaces_of(moment: Tensor) -> Subspaces:
    means = {code: moment[place].mean(dim=0)[None] for place, code in enumerate(LANGUAGES)}
    return Subspaces.from_means(means, "en", 2, {})


def test_languages_shifted_apart_are_told_apart() -> None:
    noise = torch.stack([states(seed, 1)[0] for seed in range(3)])
    together, apart = noise, noise + shifts(20.0)
    assert diagnostics.separability(apart) == 1.0
    assert diagnostics.separability(together) < 0.55, "a third is what guessing gives"
    basis = subspaces_of(apart)
    line = basis.agnostic[0] / basis.agnostic[0].norm()
    measures = [diagnostics.variance_shares(moment, basis.specific[0], line) for moment in (together, apart)]
    assert measures[0]["language_variance"] < 0.1 < 0.9 < measures[1]["language_variance"]
    assert measures[1]["means_explained"] == pytest.approx(1.0)
    assert measures[1]["specific_share"] > 0.9 > measures[0]["specific_share"]


def test_separability_of_one_item_per_language_holds_nobody_against_himself() -> None:
    """Translations that equal one another cannot be told apart, however different the items are."""
    assert diagnostics.separability(states() * 100) <= 0.4


def test_retrieval_finds_translations() -> None:
    moment = states() + shifts(50.0)
    centred = moment - moment.mean(dim=1, keepdim=True)
    assert diagnostics.retrieval(centred[1], centred[0]) == 1.0
    assert diagnostics.retrieval(moment[1], moment[0]) < 0.5, "the difference of languages hides the meaning"
    order = torch.randperm(ITEMS, generator=torch.Generator().manual_seed(1))
    assert diagnostics.retrieval(centred[1][order], centred[0]) < 0.2


def test_effective_rank_counts_directions() -> None:
    whole = states(languages=1)[0]
    flat = whole.clone()
    flat[:, 2:] = 0
    assert diagnostics.effective_rank(whole) == pytest.approx(WIDTH, rel=0.3)
    assert diagnostics.effective_rank(flat) == pytest.approx(2, rel=0.1)
    assert diagnostics.effective_rank(torch.ones(5, WIDTH, dtype=torch.float64)) == 0.0
    assert diagnostics.effective_rank(whole * 100) == pytest.approx(diagnostics.effective_rank(whole))


@pytest.mark.parametrize("degrees", [0.0, 5.0, 60.0, 90.0])
def test_angle(degrees: float) -> None:
    first = torch.eye(4, dtype=torch.float64)[:2]
    turned = first.clone()
    turned[1] = math.cos(math.radians(degrees)) * first[1] + math.sin(math.radians(degrees)) * torch.eye(4)[3]
    assert diagnostics.angle(first, turned) == pytest.approx(degrees, abs=1e-4)


def document(before: Tensor, after: Tensor) -> dict[str, Any]:
    return diagnostics.diagnose(before[:, :, None], after[:, :, None], about(), subspaces_of(before))


def test_a_collapse_is_warned_about_and_its_absence_is_not() -> None:
    before = states() + shifts(3.0)
    moved = before + shifts(2.0)
    assert document(before, moved)["warnings"] == []
    one_point = before.clone()
    one_point[1] = before[1].mean(dim=0) + 0.01 * (before[1] - before[1].mean(dim=0))
    warnings = document(before, one_point)["warnings"]
    assert any("spread" in warning and "of zh at layer 0" in warning for warning in warnings)
    one_line = before.clone()
    one_line[2, :, 2:] = before[2].mean(dim=0)[2:]
    assert any(
        "effective rank" in warning and "of sw" in warning
        for warning in document(before, one_line)["warnings"]
    )
    assert any(warning.startswith("explosion: norm") for warning in document(before, 9 * before)["warnings"])


def test_projection_has_the_same_axes_before_and_after() -> None:
    before = states() + shifts(8.0)
    found = document(before, before + shifts(30.0))["projection"]
    assert [len(found["before"][code]) for code in LANGUAGES] == [ITEMS] * 3
    means = {m: {c: torch.tensor(found[m][c]).mean(dim=0) for c in LANGUAGES} for m in ("before", "after")}
    gaps = {m: float((own["zh"] - own["sw"]).norm()) for m, own in means.items()}
    assert gaps["after"] == pytest.approx(gaps["before"] * 38 / 8, rel=0.05)
    assert sum(found["explained"]) > 0.9


def test_too_few_prompts_are_said_to_be_too_few() -> None:
    moment = states()[:, :3]
    found = diagnostics.diagnose(moment[:, :, None], moment[:, :, None], about(), subspaces_of(states()))
    assert "fewer than 4 prompts per language (3)" in found["skipped"]
    assert diagnostics.summary(found) == [f"no diagnostics: {found['skipped']}"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_lens.save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_lens.save_prompts(tmp_path_factory.mktemp("data") / "prompts.jsonl", items=14)


def run(model: str, data: Path, output: Path, **settings: Any) -> dict[str, Any]:
    chosen = {"train_items": 8, "probe_items": 8, "steps": 2, "learning_rate": 1e-3, **settings}
    methods.train(Job("lens", model, data, LANGUAGES, output, device="cpu", settings=chosen))
    return json.loads((output / "training" / "diagnostics.json").read_text())


@pytest.fixture(scope="module")
def trained(model: str, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("runs") / "out"
    run(model, data, output)
    return output


def test_a_run_leaves_its_diagnostics(trained: Path, model: str, data: Path) -> None:
    path = trained / "training" / "diagnostics.json"
    found = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert found["layers"] == [0, 1, 2, 3]
    assert found["trained_layers"] == [2, 3]
    assert found["held_out"]["source"] == "rest"
    assert found["held_out"]["text"] == "items 9 to 14 of prompts.jsonl, neither probed nor trained on"
    assert path.stat().st_size < 200_000
    assert str(data.parent) not in path.read_text()
    for measure, before in found["before"].items():
        after = found["after"][measure]
        lists = [(before, after)] if isinstance(before, list) else [(before[c], after[c]) for c in before]
        assert all(len(was) == len(now) == 4 for was, now in lists), measure
        assert all(was[:2] == now[:2] for was, now in lists), "layers below the trained ones do not change"
    assert found["before"]["norm"]["zh"][2:] != found["after"]["norm"]["zh"][2:]
    assert max(found["angles"]["specific"][:2]) < 1e-3 < min(found["angles"]["specific"][2:])


def test_prompts_probed_under_another_name_are_not_held_out(model: str, data: Path, tmp_path: Path) -> None:
    """The same prompts in another file were probed: none of them is called new."""
    from lens_train.config import LensConfig
    from lens_train.lens import probe_folder

    copy = tmp_path / "other.jsonl"
    copy.write_bytes(data.read_bytes())
    probe_folder(model, copy, LensConfig(LANGUAGES, probe_items=12), tmp_path / "subspaces", "cpu")
    settings = {"train_items": 4, "probe_items": 12}
    found = run(model, data, tmp_path / "given", subspaces=str(tmp_path / "subspaces"), **settings)
    assert found["held_out"]["text"] == "the first 4 training items: none were held out"
    found = run(model, data, tmp_path / "probed", probe_data=str(copy), **settings)
    assert found["held_out"]["text"] == "the first 4 training items: none were held out"
    # Control: other prompts were probed.
    other = tmp_path / "new.jsonl"
    other.write_text(
        "".join(data.read_text(encoding="utf-8").splitlines(keepends=True)[9:]), encoding="utf-8"
    )
    found = run(model, data, tmp_path / "control", probe_data=str(other), **settings)
    assert found["held_out"]["text"].startswith("items 5 to 14 of prompts.jsonl")


def test_states_are_those_of_the_held_out_prompts(trained: Path, model: str, data: Path) -> None:
    """Norms before and after, against plain forward passes of the two checkpoints."""
    from lens_train.checkpoint import Checkpoint
    from lens_train.data import Renderer

    found = json.loads((trained / "training" / "diagnostics.json").read_text())
    texts = read_prompts(data, LANGUAGES).part(8)
    prompts = Renderer(Checkpoint.open(model).tokenizer, "chat", None)(texts.texts["zh"], 128)
    for name, moment in ((model, "before"), (str(trained), "after")):
        plain = load_model(name)
        with torch.no_grad():
            hidden = [plain(torch.tensor([ids]), output_hidden_states=True).hidden_states for ids in prompts]
        for layer in range(4):
            norm = torch.stack([states[layer + 1][0, -1] for states in hidden]).norm(dim=-1).mean()
            assert found[moment]["norm"]["zh"][layer] == pytest.approx(float(norm), rel=1e-3)


def test_where_held_out_prompts_come_from(model: str, data: Path, tmp_path: Path) -> None:
    dev = tiny_lens.save_prompts(tmp_path / "dev.jsonl", items=5)
    given = run(model, data, tmp_path / "dev", dev_data=str(dev), diagnose=4)
    assert (given["held_out"]["source"], given["held_out"]["items"]) == ("dev", 4)
    every = run(model, data, tmp_path / "all", train_items=14)
    assert (every["held_out"]["source"], every["held_out"]["items"]) == ("train", 14)
    with pytest.raises(UserError, match="no parallel data at"):
        run(model, data, tmp_path / "absent", dev_data="absent.jsonl")
    with pytest.raises(UserError, match="diagnose is -1"):
        run(model, data, tmp_path / "absent", diagnose=-1)
    assert not (tmp_path / "absent").exists()


def test_a_damaged_item_that_only_diagnostics_would_read_stops_nothing(
    model: str, data: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_text(data.read_text() + '{"prompt": {"en": "only English"}}\n')
    found = run(model, broken, tmp_path / "out", train_items=12, probe_items=12)
    assert found["held_out"]["source"] == "train"


def test_diagnostics_change_no_weight_and_can_be_left_out(
    trained: Path, model: str, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError):
        run(model, data, tmp_path / "out", diagnose=0)
    with_them, without = (load_file(folder / "model.safetensors") for folder in (trained, tmp_path / "out"))
    assert all(torch.equal(with_them[name], without[name]) for name in with_them)


def test_a_streamed_model_is_watched_on_its_trunk(model: str, data: Path, tmp_path: Path) -> None:
    whole = run(model, data, tmp_path / "whole", train_items=14, probe_items=14, diagnose=10)
    streamed = run(
        model, data, tmp_path / "streamed", train_items=14, probe_items=14, diagnose=10, stream="always"
    )
    assert streamed["layers"] == [2, 3]
    assert "streamed" in streamed["held_out"]["text"]
    assert streamed["held_out"]["sha256"] == whole["held_out"]["sha256"]
    for moment in ("before", "after"):
        expected = whole[moment]["effective_rank"]["sw"][2:]
        assert streamed[moment]["effective_rank"]["sw"] == pytest.approx(expected, rel=1e-3)


def test_a_collapse_of_a_real_model_is_said_on_standard_error(
    model: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    decoder = Decoder(load_model(model))
    texts = read_prompts(data, LANGUAGES)
    held = HeldOut(texts, "dev", "some")
    what = About(held, LANGUAGES, "en", (0, 1, 2, 3), (2, 3), (3,))
    prompts = {code: [list(text.encode()) for text in own] for code, own in texts.texts.items()}
    watch = Watch.on_prompts(decoder, prompts, what, 256)
    means = {code: watch.before[place].mean(dim=0) for place, code in enumerate(LANGUAGES)}
    subspaces = Subspaces.from_means(means, "en", 2, {})
    assert watch.write(tmp_path, subspaces)["warnings"] == []
    assert capsys.readouterr().err == ""
    decoder.model.model.norm.weight.data[1:] = 0
    assert watch.write(tmp_path, subspaces)["warnings"]
    assert "lens: warning: collapse: effective rank" in capsys.readouterr().err


def test_lens_diagnose_shows_and_draws(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = CliRunner().invoke(app, ["diagnose", str(trained)])
    assert shown.exit_code == 0, shown.output
    assert "effective rank zh" in shown.output
    for name in ("losses", "layers", "projection"):
        picture = trained / "training" / "plots" / f"{name}.png"
        assert picture.read_bytes().startswith(b"\x89PNG")
    nothing = CliRunner().invoke(app, ["diagnose", str(tmp_path)])
    assert isinstance(nothing.exception, UserError)
    assert "holds no training/diagnostics.json" in str(nothing.exception)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    without = CliRunner().invoke(app, ["diagnose", str(trained)])
    assert isinstance(without.exception, UserError)
    assert "lens-multilingual[report]" in str(without.exception)
    assert CliRunner().invoke(app, ["diagnose", str(trained), "--no-plots"]).exit_code == 0
