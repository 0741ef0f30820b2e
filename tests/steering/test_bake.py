"""Steering written into a checkpoint: it does what the hooks do, and is refused where it cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_lens
import torch
import transformers
from baseline_helpers import make_job, many_items, write_lines
from in_process import lens

from lens_eval.base.errors import UserError
from lens_train import methods
from lens_train.checkpoint import Checkpoint
from lens_train.decoder import load_model
from lens_train.job import Variant
from lens_train.steering.bake import bake, compare
from lens_train.steering.steering import Edit, Steering

SIZES = {
    "vocab_size": 260,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_hidden_layers": 4,
    "initializer_range": 0.1,
}
MLP = {**SIZES, "intermediate_size": 48, "num_key_value_heads": 2}
FAMILIES: dict[str, Any] = {
    "llama": lambda: tiny_lens.config(),
    "tied": lambda: tiny_lens.config(tie_word_embeddings=True),
    "qwen2": lambda: transformers.Qwen2Config(**MLP),
    "mistral": lambda: transformers.MistralConfig(**MLP, sliding_window=None),
    "gpt2": lambda: transformers.GPT2Config(vocab_size=260, n_embd=32, n_layer=4, n_head=4),
    "gpt_neox": lambda: transformers.GPTNeoXConfig(**SIZES, intermediate_size=48),
    "starcoder2": lambda: transformers.Starcoder2Config(**MLP, sliding_window=None),
    "phi": lambda: transformers.PhiConfig(**SIZES, intermediate_size=48),
}
ALIKE = 1e-5


def base_of(folder: Path, family: str) -> str:
    """A random model whose biases are no zeros, so that one that got lost is missed."""
    name = tiny_lens.save_model(folder, FAMILIES[family]())
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        for key, value in model.named_parameters():
            if key.endswith("bias"):
                value.normal_(std=0.1)
    model.save_pretrained(folder)
    return name


def steering_of(model: str, data: Path, output: Path) -> Path:
    methods.train(make_job(Path(model), data, output, "diffmean", layer=1, strength=3.0))
    return output


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lines(tmp_path_factory.mktemp("data") / "prompts.jsonl", many_items(4))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_checkpoint_does_what_the_hooks_do(family: str, data: Path, tmp_path: Path) -> None:
    model = base_of(tmp_path / "base", family)
    steering = steering_of(model, data, tmp_path / "steering")
    bake(steering, "sw", model, tmp_path / "baked")
    found = compare(steering, "sw", model, tmp_path / "baked")
    assert found.most < ALIKE * max(1.0, found.size)
    assert found.effect > 100 * found.most, "the steering does something"
    # Control: another language's is another checkpoint.
    assert compare(steering, "zh", model, tmp_path / "baked").most > 100 * found.most

    record = Variant.load(tmp_path / "baked")
    assert (record.kind, record.method) == ("checkpoint", "diffmean")
    assert record.settings["baked_language"] == "sw"
    ours, theirs = (Checkpoint.open(str(tmp_path / name)).tokenizer for name in ("baked", "base"))
    text = "Nairobi ni mji. 肯尼亚的首都"
    assert ours(text)["input_ids"] == theirs(text)["input_ids"]
    assert ours.chat_template == theirs.chat_template


def test_replies_are_those_under_hooks_with_the_cache(data: Path, tmp_path: Path) -> None:
    model = base_of(tmp_path / "base", "qwen2")
    steering = steering_of(model, data, tmp_path / "steering")
    bake(steering, "sw", model, tmp_path / "baked")
    ids = torch.tensor([[1, 40, 41, 42]])
    settings = {"max_new_tokens": 12, "do_sample": False}
    base, baked = load_model(model), load_model(str(tmp_path / "baked"))
    plain = base.generate(ids, **settings)
    with Steering.load(steering).on(base, "sw"):
        hooked = base.generate(ids, **settings)
    assert torch.equal(baked.generate(ids, **settings), hooked)
    assert not torch.equal(plain, hooked)


def test_a_sharded_base_keeps_its_types(data: Path, tmp_path: Path) -> None:
    whole = base_of(tmp_path / "whole", "llama")
    half = transformers.AutoModelForCausalLM.from_pretrained(whole, dtype=torch.bfloat16)
    half.save_pretrained(tmp_path / "base", max_shard_size="40KB")
    tiny_lens.tokenizer().save_pretrained(tmp_path / "base")
    steering = steering_of(str(tmp_path / "base"), data, tmp_path / "steering")
    bake(steering, "sw", str(tmp_path / "base"), tmp_path / "baked")
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "baked", dtype="auto")
    assert {value.dtype for value in loaded.parameters()} == {torch.bfloat16}
    added = Steering.load(steering).directions[1]["sw"] * 3.0
    assert torch.equal(loaded.model.layers[1].mlp.down_proj.bias, added.bfloat16())
    assert not loaded.model.layers[2].mlp.down_proj.bias.any()
    assert len(list((tmp_path / "baked").glob("*.safetensors"))) > 2


def test_what_cannot_be_written_is_refused_in_words(data: Path, tmp_path: Path) -> None:
    model = base_of(tmp_path / "base", "llama")
    steering = steering_of(model, data, tmp_path / "steering")
    for method, settings, message in (
        ("recover", {}, "this one is kept_norm"),
        ("liseco", {}, "this one is threshold"),
        ("diffmean", {"layer": -1}, "behind the final norm"),
    ):
        other = tmp_path / f"{method}{len(settings)}"
        methods.train(make_job(Path(model), data, other, method, **settings))
        with pytest.raises(UserError, match=message):
            bake(other, "sw", model, tmp_path / "out")
    with pytest.raises(UserError, match="has none for 'fr'"):
        bake(steering, "fr", model, tmp_path / "out")
    with pytest.raises(UserError, match="leaves answers in 'en' alone"):
        bake(steering, "en", model, tmp_path / "out")
    with pytest.raises(UserError, match=r"was trained from .*base.* not from .*else"):
        bake(steering, "sw", tiny_lens.save_model(tmp_path / "else", seed=1), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_families_without_such_a_bias_are_named(data: Path, tmp_path: Path) -> None:
    for config, message in (
        (transformers.Qwen3Config(**MLP, head_dim=8), "of the family qwen3"),
        (transformers.MistralConfig(**MLP, sliding_window=16), "looks back 16 tokens"),
    ):
        model = tiny_lens.save_model(tmp_path / config.model_type, config)
        steering = tmp_path / f"steering-{config.model_type}"
        steering_of(model, data, steering)
        with pytest.raises(UserError, match=message):
            bake(steering, "sw", model, tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_edits_of_one_layer_add_up(data: Path, tmp_path: Path) -> None:
    model = base_of(tmp_path / "base", "llama")
    steering = steering_of(model, data, tmp_path / "steering")
    made = Steering.load(steering)
    twice = (Edit(1, "direction", 1.0), Edit(1, "direction", 2.0))
    Steering(twice, {}, made.directions, made.base).save(steering)
    bake(steering, "sw", model, tmp_path / "baked")
    found = compare(steering, "sw", model, tmp_path / "baked")
    assert found.most < ALIKE * max(1.0, found.size) < found.effect


def test_the_command_measures_what_it_wrote(data: Path, tmp_path: Path) -> None:
    model = base_of(tmp_path / "base", "llama")
    steering = steering_of(model, data, tmp_path / "steering")
    done = lens("bake", steering, "--language", "sw", "--model", model, "--output", tmp_path / "baked")
    assert done.status == 0, done.err
    assert "logits differ from the steered base by" in done.out
    assert "diffmean" in (tmp_path / "baked" / "README.md").read_text(encoding="utf-8")
    again = lens("bake", steering, "--language", "sw", "--model", model, "--output", tmp_path / "baked")
    assert again.status == 2
    assert "is not empty" in again.said
