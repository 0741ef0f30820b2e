"""Loading models, their identity, devices, and what is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_lens
import torch
import transformers

from lens_eval.base.errors import UserError
from lens_train.checkpoint import Checkpoint
from lens_train.decoder import Decoder, load_model
from lens_train.devices import multiplies_in_bfloat16, resolve_device, resolve_dtype


def test_load(tmp_path: Path) -> None:
    name = tiny_lens.save_model(tmp_path / "model")
    model = load_model(name, "cpu", "bfloat16")
    assert model.dtype == torch.bfloat16
    assert not model.training
    decoder = Decoder(model)
    assert len(decoder) == 4
    assert decoder.index(-1) == 3
    with pytest.raises(UserError, match=r"layers 0 to 3 .* there is no 4"):
        decoder.index(4)
    assert Checkpoint.open(name).tokenizer.chat_template == tiny_lens.TEMPLATE


def test_identity_follows_weights_and_template(tmp_path: Path) -> None:
    first = Checkpoint.open(tiny_lens.save_model(tmp_path / "first")).identity
    again = Checkpoint.open(tiny_lens.save_model(tmp_path / "again")).identity
    other = Checkpoint.open(tiny_lens.save_model(tmp_path / "other", seed=1)).identity
    bare = Checkpoint.open(tiny_lens.save_model(tmp_path / "bare", template=False)).identity
    assert first["weights_sha256"] == again["weights_sha256"] == bare["weights_sha256"]
    assert first["weights_sha256"] != other["weights_sha256"]
    assert first["template_sha256"] == other["template_sha256"] != bare["template_sha256"]


def test_encoder_decoders_are_refused_by_name(tmp_path: Path) -> None:
    config = transformers.T5Config(vocab_size=32, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path / "t5")
    with pytest.raises(UserError, match=r"t5.*encoder-decoder"):
        load_model(str(tmp_path / "t5"))


def test_folders_that_hold_no_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no model 'no/such-model'"):
        Checkpoint.open("no/such-model")
    with pytest.raises(UserError, match=r"has no config\.json"):
        Checkpoint.open(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(UserError, match="pickled weights are not read"):
        Checkpoint.open(str(tmp_path))


def test_devices() -> None:
    assert resolve_device("cpu").type == "cpu"
    with pytest.raises(UserError, match="unknown device 'gpu'"):
        resolve_device("gpu")
    absent = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(UserError, match=rf"'{absent}' was asked for.*--device cpu"):
        resolve_device(absent)
    assert resolve_dtype("auto", torch.device("cpu")) == torch.float32


def test_auto_is_bfloat16_where_stored_so_and_no_slower(tmp_path: Path) -> None:
    name = tiny_lens.save_model(tmp_path / "float32")
    low = str(tmp_path / "bfloat16")
    load_model(name, "cpu", "bfloat16").save_pretrained(low)
    cpu, threads = torch.device("cpu"), torch.get_num_threads()
    fast = multiplies_in_bfloat16()
    assert torch.get_num_threads() == threads, "timing leaves the threads as they were"
    assert resolve_dtype("auto", cpu, Checkpoint.open(low)) == (torch.bfloat16 if fast else torch.float32)
    assert resolve_dtype("auto", cpu, Checkpoint.open(name)) == torch.float32, "a control: not stored so"
    assert resolve_dtype("bfloat16", cpu, Checkpoint.open(name)) == torch.bfloat16, (
        "what is asked for is done"
    )
