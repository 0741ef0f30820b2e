"""A trained checkpoint as an adapter: the best of its rank, what it keeps, and what it loses."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_lens
import torch
import transformers
from in_process import lens

from lens_eval.base.errors import UserError
from lens_train import methods
from lens_train.job import Job, Variant
from lens_train.low_rank import cut, export_lora

LANGUAGES = ("en", "zh", "sw")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_lens.save_model(tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(scope="module")
def trained(base: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    data = tiny_lens.save_prompts(folder / "prompts.jsonl", items=6)
    settings = {"learning_rate": 1e-3, "batch_size": 3, "show_replies": 0}
    methods.train(Job("lens", base, data, LANGUAGES, folder / "lens", device="cpu", settings=settings))
    return folder / "lens"


def test_a_matrix_of_a_rank_is_found_again_and_a_higher_one_is_cut_at_its_smallest_values() -> None:
    torch.manual_seed(0)
    exact = torch.randn(7, 2) @ torch.randn(2, 5)
    down, up = cut(exact, 2)
    assert (down.shape, up.shape) == ((2, 5), (7, 2))
    assert torch.allclose(up @ down, exact, atol=1e-5)
    # Singular values 3, 2, 1: cut to two, what is lost is the 1.
    full = torch.diag(torch.tensor([1.0, 3.0, 2.0]))
    down, up = cut(full, 2)
    assert torch.allclose(full - up @ down, torch.diag(torch.tensor([1.0, 0.0, 0.0])), atol=1e-6)
    down, up = cut(full, 5)
    assert down.shape == (5, 3)
    assert torch.allclose(up @ down, full, atol=1e-6)


def test_more_rank_keeps_more_and_full_rank_all_but_the_norms(
    base: str, trained: Path, tmp_path: Path
) -> None:
    small = export_lora(trained, 1, base, tmp_path / "small")
    large = export_lora(trained, 32, base, tmp_path / "large")
    assert set(small.layers) == set(large.layers) == {2, 3}, "the trained layers"
    for layer in (2, 3):
        assert 0 < small.layers[layer] < large.layers[layer] <= 1
    assert large.most < small.most < small.effect
    assert large.left_out > 0, "norms are trained, and are no linear layer"
    assert min(large.layers.values()) > 0.9


def test_peft_loads_the_adapter_and_gives_the_measured_logits(
    base: str, trained: Path, tmp_path: Path
) -> None:
    from peft import PeftModel

    found = export_lora(trained, 32, base, tmp_path / "adapter")
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    whole = transformers.AutoModelForCausalLM.from_pretrained(trained)
    ids = torch.arange(32)[None] * 7 % 260
    with torch.no_grad():
        plain = model(ids).logits
        adapted = PeftModel.from_pretrained(model, tmp_path / "adapter")(ids).logits
        wanted = whole(ids).logits
    assert float((adapted - wanted).abs().max()) == pytest.approx(found.most, abs=1e-5)
    assert float((plain - wanted).abs().max()) == pytest.approx(found.effect, abs=1e-5)
    record = Variant.load(tmp_path / "adapter")
    assert (record.kind, record.method, record.settings["lora_rank"]) == ("adapter", "lens", 32)
    assert record.outcome["low_rank"]["layers"].keys() == {"2", "3"}


def test_what_cannot_be_an_adapter_is_refused(base: str, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for folder, rank, model, message in (
        (trained, 0, base, "at least 1"),
        (tmp_path, 4, base, "no trained variant"),
        (trained, 4, tiny_lens.save_model(tmp_path / "else", seed=1), "was trained from"),
    ):
        with pytest.raises(UserError, match=message):
            export_lora(folder, rank, model, out)
    assert not out.exists()


def test_the_command_says_what_is_kept(base: str, trained: Path, tmp_path: Path) -> None:
    done = lens("export", trained, "--lora", "4", "--model", base, "--output", tmp_path / "adapter")
    assert done.status == 0, done.err
    assert "layer 3: " in done.out
    assert "logits differ from the checkpoint's by" in done.out
    assert "PeftModel" in (tmp_path / "adapter" / "README.md").read_text(encoding="utf-8")
    again = lens("export", trained, "--lora", "4", "--model", base, "--output", tmp_path / "adapter")
    assert again.status == 2
    assert "is not empty" in again.said
