"""An adapter is evaluated as it was saved: with its tokenizer, template and vocabulary, or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny_lens
import torch

from lens_eval.backends import vllm_limits
from lens_eval.base.errors import UserError
from lens_eval.doctor import patient
from lens_eval.runs.recipe import Backend
from lens_eval.runs.sources import model_arguments

OTHER = tiny_lens.TEMPLATE.replace("<|assistant|>", "<|helper|>")
MESSAGES = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(tiny_lens.save_model(tmp_path_factory.mktemp("base") / "model"))


def _adapter(base: Path, folder: Path, more_tokens: int = 0) -> Path:
    """A LoRA adapter, for a vocabulary of so many more tokens."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_pretrained(base)
    if more_tokens:
        model.resize_token_embeddings(model.config.vocab_size + more_tokens)
    wrapped = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    wrapped.save_pretrained(folder, save_embedding_layers=bool(more_tokens))
    return folder


def _loaded(base: Path, adapter: Path | None = None, **arguments: Any) -> Any:
    from lens_eval.backends.hf import LensHF

    given = {} if adapter is None else {"peft": str(adapter)}
    return LensHF(pretrained=str(base), device="cpu", dtype="float32", batch_size=2, **given, **arguments)


def _examined(base: Path, adapter: Path) -> Any:
    return patient.Prompter(patient.admit(str(base), str(adapter), Backend(), "cpu"))


def test_the_template_of_an_adapter_is_used(base: Path, tmp_path: Path) -> None:
    adapter = _adapter(base, tmp_path / "adapter")
    assert "<|assistant|>" in _loaded(base, adapter).apply_chat_template(MESSAGES), (
        "a control: it has none yet"
    )
    (adapter / "chat_template.jinja").write_text(OTHER, encoding="utf-8")
    for feeding in (_loaded(base, adapter), _examined(base, adapter)):
        assert "<|helper|>" in feeding.apply_chat_template(MESSAGES)
    # With the whole tokenizer, as TRL saves it.
    words = tiny_lens.tokenizer()
    words.chat_template = OTHER
    words.save_pretrained(adapter)
    for feeding in (_loaded(base, adapter), _examined(base, adapter)):
        assert "<|helper|>" in feeding.apply_chat_template(MESSAGES)
    # What the user names wins.
    assert "<|assistant|>" in _loaded(base, adapter, tokenizer=str(base)).apply_chat_template(MESSAGES)


def test_a_resized_vocabulary_is_applied(base: Path, tmp_path: Path) -> None:
    adapter = _adapter(base, tmp_path / "adapter", more_tokens=4)
    lm = _loaded(base, adapter)
    assert lm.model.get_input_embeddings().weight.shape[0] == 264
    # The embeddings are those of the adapter's file, not new ones.
    again = _loaded(base, adapter)
    ids = torch.tensor([[5, 261, 7]])
    with torch.no_grad():
        assert torch.equal(lm.model(ids).logits, again.model(ids).logits)


def test_an_adapter_that_does_not_fit_is_told_with_the_whole_reason(base: Path, tmp_path: Path) -> None:
    wide = Path(tiny_lens.save_model(tmp_path / "wide", tiny_lens.config(hidden_size=64)))
    adapter = _adapter(wide, tmp_path / "adapter")
    with pytest.raises(UserError, match=r"cannot load the adapter.*q_proj.*shape"):
        _loaded(base, adapter)


def test_a_base_that_has_moved_is_named(base: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "old")
    adapter = _adapter(tmp_path / "old", tmp_path / "adapter")
    assert model_arguments(str(adapter))["peft"] == str(adapter)
    (tmp_path / "old").rename(tmp_path / "new")
    with pytest.raises(
        UserError, match=r"made for the model .*old, which is not there any more.*--model MODEL"
    ):
        model_arguments(str(adapter))
    assert model_arguments(str(tmp_path / "new"), str(adapter))["peft"] == str(adapter)


def test_vllm_refuses_whole_weights_beside_an_adapter(base: Path, tmp_path: Path) -> None:
    vllm_limits.adapter_rank(_adapter(base, tmp_path / "plain"))
    with pytest.raises(UserError, match="resized vocabulary"):
        vllm_limits.adapter_rank(_adapter(base, tmp_path / "more", more_tokens=4))


def test_vllm_is_refused_a_folder_of_which_it_reads_other_weights(base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(base, folder)
    vllm_limits.require_same_files({"pretrained": str(folder)})
    for name in ("stray.safetensors", "consolidated.safetensors"):
        shutil.copy(folder / "model.safetensors", folder / name)
        with pytest.raises(UserError, match=rf"it would read {name}"):
            vllm_limits.require_same_files({"pretrained": str(folder)})
        (folder / name).unlink()
    index = {"weight_map": {"lm_head.weight": "model-00001-of-00001.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"it would not read model\.safetensors"):
        vllm_limits.require_same_files({"pretrained": str(folder)})
