"""Checkpoints and deltas: what is written, what loads it, what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny_lens
import torch
import transformers
from safetensors.torch import load_file

from lens_eval.base.errors import UserError
from lens_eval.base.files import need_disk
from lens_train import export, lens, methods
from lens_train.export import find_tensors, merge
from lens_train.job import Job, Variant

LANGUAGES = ("en", "zh", "sw")
CONFIGS: dict[str, Any] = {
    "llama": lambda: tiny_lens.config(),
    "tied": lambda: tiny_lens.config(tie_word_embeddings=True),
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=260, n_embd=32, n_layer=4, n_head=4, bos_token_id=1, eos_token_id=2
    ),
    "mixtral": lambda: transformers.MixtralConfig(
        vocab_size=260,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=4,
    ),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_lens.save_prompts(tmp_path_factory.mktemp("data") / "prompts.jsonl", items=6)


def train(model: str, data: Path, output: Path, **settings: Any) -> None:
    settings = {"learning_rate": 1e-3, "batch_size": 3, **settings}
    methods.train(Job("lens", model, data, LANGUAGES, output, device="cpu", settings=settings))


def load(folder: Path, **options: Any) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, **options)


def logits(folder: Path) -> torch.Tensor:
    with torch.no_grad():
        return load(folder)(input_ids=torch.arange(9)[None]).logits


@pytest.mark.parametrize("family", CONFIGS)
def test_a_checkpoint_loads_and_is_the_base_but_for_the_trained_layers(
    family: str, data: Path, tmp_path: Path
) -> None:
    model = tiny_lens.save_model(tmp_path / "base", CONFIGS[family]())
    train(model, data, tmp_path / "out", trained_layers=1)
    base, ours = load_file(tmp_path / "base/model.safetensors"), load_file(tmp_path / "out/model.safetensors")
    assert base.keys() == ours.keys()
    last = load(tmp_path / "base").config.num_hidden_layers - 1
    moved = {name for name in base if not torch.equal(base[name], ours[name])}
    assert moved
    assert all(f".{last}." in name for name in moved)
    assert not torch.equal(logits(tmp_path / "out"), logits(tmp_path / "base"))
    words = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert words.chat_template == tiny_lens.TEMPLATE
    record = Variant.load(tmp_path / "out")
    assert record.kind == "checkpoint"
    assert record.base["name"] == model
    assert record.data["items"] == 6
    assert record.tokens_seen > 0
    assert record.peak_memory_bytes > 1e6


def test_the_written_weights_are_the_trained_ones(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names of a mixture-of-experts checkpoint are not the module's; the state says what was trained."""
    monkeypatch.setattr(lens, "remove_states", lambda _: None)
    model = tiny_lens.save_model(tmp_path / "base", CONFIGS["mixtral"]())
    train(model, data, tmp_path / "out", trained_layers=1)
    state = load_file(tmp_path / "out/training/state.safetensors")
    layer = load(tmp_path / "out").model.layers[2]
    for name, parameter in layer.named_parameters():
        assert torch.equal(parameter, state[f"weight.2.{name}"]), name


def test_a_bare_and_sharded_checkpoint_keeps_names_and_files(data: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    folder = tmp_path / "base"
    whole = transformers.AutoModelForCausalLM.from_config(CONFIGS["gpt2"]())
    whole.transformer.save_pretrained(folder, max_shard_size="60KB")
    tiny_lens.tokenizer().save_pretrained(folder)
    files = sorted(file.name for file in folder.glob("*.safetensors"))
    assert len(files) > 1
    assert not any(name.startswith("transformer.") for name in find_tensors(folder)), "as GPT-2 on the hub"
    train(str(folder), data, tmp_path / "out", trained_layers=1)
    assert sorted(file.name for file in (tmp_path / "out").glob("*.safetensors")) == files
    assert not torch.equal(logits(tmp_path / "out"), logits(folder))


def test_types_of_the_base_are_kept(data: Path, tmp_path: Path) -> None:
    model = tiny_lens.save_model(tmp_path / "whole")
    load(Path(model), dtype=torch.bfloat16).save_pretrained(tmp_path / "base")
    tiny_lens.tokenizer().save_pretrained(tmp_path / "base")
    train(str(tmp_path / "base"), data, tmp_path / "out")
    written = load_file(tmp_path / "out" / "model.safetensors")
    assert {tensor.dtype for tensor in written.values()} == {torch.bfloat16}


def test_delta_and_merge_give_the_checkpoint(data: Path, tmp_path: Path) -> None:
    model = tiny_lens.save_model(tmp_path / "base")
    train(model, data, tmp_path / "whole")
    train(model, data, tmp_path / "delta", delta=True)
    changed = load_file(tmp_path / "delta" / export.DELTA)
    assert all(".layers.2." in name or ".layers.3." in name for name in changed)
    assert Variant.load(tmp_path / "delta").kind == "delta"
    assert not (tmp_path / "delta" / "model.safetensors").exists()
    merge(tmp_path / "delta", model, tmp_path / "merged")
    for file in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (tmp_path / "merged" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    assert Variant.load(tmp_path / "merged").kind == "checkpoint"

    other = tiny_lens.save_model(tmp_path / "other", seed=1)
    with pytest.raises(UserError, match=r"was trained from .*base.*not from .*other"):
        merge(tmp_path / "delta", other, tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()
    with pytest.raises(UserError, match="is not empty"):
        merge(tmp_path / "delta", model, tmp_path / "merged")
    with pytest.raises(UserError, match="holds no delta"):
        merge(tmp_path / "whole", model, tmp_path / "wrong")


def test_too_little_room_is_refused_before_any_work(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_disk(tmp_path / "not" / "yet" / "there", 1000)
    with pytest.raises(UserError, match=r"needs 1000000\.00 GB on disk"):
        need_disk(tmp_path / "out", 10**15)
    model = tiny_lens.save_model(tmp_path / "base")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(UserError, match="make room"):
        train(model, data, tmp_path / "out")
    assert not (tmp_path / "out").exists()
