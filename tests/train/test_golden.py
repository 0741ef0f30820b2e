"""The released code's own numbers (../shared/golden), reproduced."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lens_train import methods
from lens_train.checkpoint import Checkpoint
from lens_train.config import LensConfig
from lens_train.data import read_prompts
from lens_train.decoder import Decoder, load_model
from lens_train.job import Job
from lens_train.probing import probe_prompts, read_states
from lens_train.subspace import Subspaces

SETTINGS = {
    "bilingual": (("en", "zh"), "aya_en_zh_300"),
    "multilingual": (("en", "zh", "ja", "ko", "ar", "sw", "bn"), "aya_en_zh_ja_ar_ko_bn_sw_300"),
}
TRAIN = "language_pull_data_alpaca_safe_200"


@pytest.fixture(scope="module", params=list(SETTINGS))
def setting(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def golden(shared: Path, setting: str) -> dict[str, np.ndarray]:
    with np.load(shared / "golden" / f"{setting}.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}


@pytest.fixture(scope="module")
def official(shared: Path, setting: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The released recipe on the CPU."""
    return run_released_recipe(shared, setting, tmp_path_factory.mktemp(setting) / "variant", "cpu")


def run_released_recipe(shared: Path, setting: str, output: Path, device: str) -> Path:
    """Train from probing to the checkpoint, through the public entry point."""
    languages, probing = SETTINGS[setting]
    data = shared / "data" / "lens_official"
    settings = {"compat": "official", "probe_data": str(data / probing), "dtype": "float32"}
    model = str(shared / "golden" / "model")
    methods.train(
        Job("lens", model, data / TRAIN, languages, output, seed=42, device=device, settings=settings)
    )
    return output


def sine_of_largest_angle(first: torch.Tensor, second: torch.Tensor) -> float:
    """Of two subspaces given by orthonormal rows."""
    return float(torch.linalg.matrix_norm(first - first @ second.T @ second, ord=2))


def assert_subspaces_agree(found: Subspaces, golden: dict[str, np.ndarray], tolerance: float) -> None:
    shared_space, specific = torch.tensor(golden["shared"]), torch.tensor(golden["specific"])
    for layer in range(len(shared_space)):
        ours = found.agnostic[layer] / found.agnostic[layer].norm()
        theirs = shared_space[layer] / shared_space[layer].norm()
        assert float((ours - theirs * torch.sign(ours @ theirs)).abs().max()) < tolerance
        assert sine_of_largest_angle(specific[layer], found.specific[layer]) < tolerance
    for language, direction in found.directions.items():
        theirs = torch.tensor(golden[f"direction.{language}"])
        assert float((direction - theirs).abs().max()) < tolerance


def test_golden_decomposition(golden: dict[str, np.ndarray], setting: str) -> None:
    languages = SETTINGS[setting][0]
    means = {code: torch.tensor(golden[f"hidden.{code}"]).double().mean(dim=1) for code in languages}
    found = Subspaces.from_means(means, "en", len(languages) - 1, {})
    assert_subspaces_agree(found, golden, 1e-5)


def test_golden_decomposition_control(golden: dict[str, np.ndarray], setting: str) -> None:
    """The first half of the texts gives subspaces that the comparison tells apart."""
    languages = SETTINGS[setting][0]
    means = {code: torch.tensor(golden[f"hidden.{code}"][:, :150]).double().mean(dim=1) for code in languages}
    found = Subspaces.from_means(means, "en", len(languages) - 1, {})
    with pytest.raises(AssertionError):
        assert_subspaces_agree(found, golden, 1e-3)


def test_golden_probe_reading(shared: Path, golden: dict[str, np.ndarray], setting: str) -> None:
    """The model read as the released probe reads it; the default reading is another one."""
    languages, probing = SETTINGS[setting]
    model = str(shared / "golden" / "model")
    decoder, tokenizer = Decoder(load_model(model)), Checkpoint.open(model).tokenizer
    data = read_prompts(shared / "data" / "lens_official" / probing, languages, 300)
    config = LensConfig(languages=languages, compat="official")
    for code, prompts in probe_prompts(data, tokenizer, config).items():
        states = read_states(decoder, prompts, config, tokenizer.pad_token_id)
        theirs = torch.tensor(golden[f"hidden.{code}"]).transpose(0, 1)
        assert float((states - theirs).abs().max()) < 1e-4
    default = LensConfig(languages=languages)
    prompts = probe_prompts(data, tokenizer, default)["en"]
    states = read_states(decoder, prompts, default)
    assert float((states - torch.tensor(golden["hidden.en"]).transpose(0, 1)).abs().max()) > 0.1


def test_golden_subspaces_from_the_model(official: Path, golden: dict[str, np.ndarray]) -> None:
    assert_subspaces_agree(Subspaces.load(official / "training" / "subspaces"), golden, 1e-5)


def test_golden_training(shared: Path, official: Path, golden: dict[str, np.ndarray], setting: str) -> None:
    log = [json.loads(line) for line in (official / "training" / "log.jsonl").read_text().splitlines()]
    assert [item for step in log for item in step["items"]] == golden["train.order"].tolist()
    losses = np.array([loss for step in log for loss in step["item_losses"]])
    np.testing.assert_allclose(losses, golden["train.loss_per_example"], rtol=1e-5)
    np.testing.assert_allclose([step["grad_norm"] for step in log], golden["train.grad_norm"], rtol=1e-4)
    rates = [step["learning_rate"] for step in log]
    np.testing.assert_allclose(rates[1:], golden["train.lr_after_step"][:-1], rtol=1e-9)

    ours = load_file(official / "model.safetensors")
    theirs = load_file(shared / "golden" / f"{setting}_trained.safetensors")
    base = load_file(shared / "golden" / "model" / "model.safetensors")
    assert ours.keys() == theirs.keys()
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 1e-6
    moved = {name for name in ours if not torch.equal(ours[name], base[name])}
    assert moved == {name for name in ours if ".layers.4." in name or ".layers.5." in name}
    assert max(float((ours[name] - base[name]).abs().max()) for name in ours) > 1e-5, (
        "a control: training moves"
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_golden_training_on_a_gpu(
    shared: Path, golden: dict[str, np.ndarray], setting: str, tmp_path: Path
) -> None:
    """Ten times the CPU's tolerance: products are summed in another order."""
    output = run_released_recipe(shared, setting, tmp_path / "variant", "cuda")
    log = [json.loads(line) for line in (output / "training" / "log.jsonl").read_text().splitlines()]
    losses = np.array([loss for step in log for loss in step["item_losses"]])
    np.testing.assert_allclose(losses, golden["train.loss_per_example"], rtol=1e-4)
    ours = load_file(output / "model.safetensors")
    theirs = load_file(shared / "golden" / f"{setting}_trained.safetensors")
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 1e-5
