"""A model is what transformers loads of its folder: which files, whole or not at all, and its identity."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_lens
import torch
from safetensors.torch import load_file, save_file

from lens_eval.base.errors import UserError
from lens_train import export, methods
from lens_train.checkpoint import Checkpoint
from lens_train.decoder import load_model
from lens_train.job import Job
from lens_train.stream import StreamedDecoder

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(tiny_lens.save_model(tmp_path / "model"))


def _streamed(name: str) -> None:
    StreamedDecoder(name, CPU, torch.float32)


def _change(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _renamed(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.norn.weight"] = tensors.pop("model.norm.weight")


def _narrowed(tensors: dict[str, torch.Tensor]) -> None:
    name = "model.layers.0.mlp.down_proj.weight"
    tensors[name] = tensors[name][:, :-1].contiguous()


@pytest.mark.parametrize("load", [load_model, _streamed], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_renamed, ["model.norm.weight", "model.norn.weight"]),
        (lambda tensors: tensors.pop("model.norm.weight"), ["missing", "model.norm.weight"]),
        (lambda tensors: tensors.update(more=torch.zeros(2)), ["not known", "more"]),
        (_narrowed, ["shape", "model.layers.0.mlp.down_proj.weight"]),
    ],
    ids=["renamed", "missing", "more", "narrower"],
)
def test_weights_that_do_not_fit_are_refused_by_name(
    folder: Path, load: Callable[[str], Any], change: Callable[[Any], Any], words: list[str]
) -> None:
    load(str(folder))  # the control
    _change(folder, change)
    with pytest.raises(UserError) as refused:
        load(str(folder))
    assert all(word in str(refused.value) for word in words)


def test_an_index_left_by_an_earlier_save_is_not_read_and_not_copied(folder: Path, tmp_path: Path) -> None:
    index = {"metadata": {}, "weight_map": {"model.norm.weight": "model-00001-of-00001.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    save_file({"model.norm.weight": torch.zeros(3)}, folder / "model-00001-of-00001.safetensors")
    opened = Checkpoint.open(str(folder))
    assert [file.name for file in opened.weights] == ["model.safetensors"]
    load_model(opened)
    export.merge_tensors(folder, {}, tmp_path / "out")
    assert not (tmp_path / "out" / "model.safetensors.index.json").exists()
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == opened.weights[0].read_bytes()


def test_shards_are_read_by_their_index_and_one_that_is_absent_is_named(folder: Path) -> None:
    model = load_model(str(folder))
    shutil.copytree(folder, folder.with_name("shards"), ignore=shutil.ignore_patterns("*.safetensors"))
    shards = folder.with_name("shards")
    model.save_pretrained(shards, max_shard_size="20KB")
    opened = Checkpoint.open(str(shards))
    assert len(opened.weights) > 1
    with torch.no_grad():
        ids = torch.tensor([[1, 2, 3]])
        assert torch.equal(load_model(opened)(ids).logits, model(ids).logits)
    opened.weights[1].unlink()
    with pytest.raises(UserError, match=f"not there: {opened.weights[1].name}"):
        Checkpoint.open(str(shards))


def test_pickled_weights_are_not_read_whatever_lies_beside_them(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").rename(folder / "x.safetensors")
    with pytest.raises(UserError, match=r"pytorch_model\.bin, x\.safetensors.*not read"):
        load_model(str(folder))


def test_an_adapter_beside_a_model_is_not_taken_for_the_model(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match="holds an adapter"):
        Checkpoint.open(str(folder))


DECIDING = ["config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json"]


@pytest.mark.parametrize("name", DECIDING)
def test_each_file_that_decides_what_is_fed_or_chosen_is_in_the_identity(folder: Path, name: str) -> None:
    opened = Checkpoint.open(str(folder))
    before = opened.identity
    content = (folder / name).read_text() if (folder / name).is_file() else "{}"
    (folder / name).write_text(content + " ")
    assert Checkpoint.open(str(folder)).identity != before
    assert opened.identity != before, "an opened one looks at its files again"


def test_what_decides_nothing_is_not_in_the_identity(folder: Path) -> None:
    before = Checkpoint.open(str(folder)).identity
    for name in ("README.md", "LICENSE.txt", "variant.json", "stray.safetensors"):
        (folder / name).write_text("{}")
    assert Checkpoint.open(str(folder)).identity == before
    (folder / "special_tokens_map.json").write_text("{}")
    assert Checkpoint.open(str(folder)).identity != before


def test_weights_changed_within_a_process_have_another_hash_and_unchanged_ones_are_read_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lens_train import checkpoint

    before = Checkpoint.open(str(folder)).identity
    read: list[Path] = []
    hashing = checkpoint._hash_file
    monkeypatch.setattr(checkpoint, "_hash_file", lambda file, bar: read.append(file) or hashing(file, bar))
    assert Checkpoint.open(str(folder)).identity == before
    assert not read
    state = (folder / "model.safetensors").stat()
    _change(folder, lambda tensors: tensors["model.norm.weight"].add_(1))
    os.utime(folder / "model.safetensors", ns=(state.st_atime_ns, state.st_mtime_ns))
    after = Checkpoint.open(str(folder)).identity
    assert read == [folder / "model.safetensors"]
    assert after["weights_sha256"] != before["weights_sha256"]


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("lens", {"show_replies": 0, "diagnose": 0}),
        ("xsft", {}),
        ("steer", {}),
        ("diffmean", {}),
        ("bias", {}),
    ],
)
def test_a_run_opens_its_model_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, settings: dict[str, Any]
) -> None:
    from transformers import AutoTokenizer

    from lens_train import methods
    from lens_train.job import Job, Variant

    loads: list[Any] = []
    load = AutoTokenizer.from_pretrained
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda *a, **k: loads.append(a) or load(*a, **k))
    rows = [
        {
            "prompt": {"en": f"What is {n}?", "zh": f"{n} 是什么？"},
            "response": {"en": "A number.", "zh": "数字。"},
        }
        for n in ("one", "two", "three", "four")
    ]
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    job = Job(method, str(folder), data, ("en", "zh"), tmp_path / "out", device="cpu", settings=settings)
    methods.train(job)
    assert len(loads) == 1
    kind = Variant.load(tmp_path / "out").kind
    assert kind == methods.METHODS[method].writes


def test_a_delta_of_another_shape_or_type_is_refused(folder: Path) -> None:
    places = export.find_tensors(folder)
    fits = {"model.norm.weight": load_file(folder / "model.safetensors")["model.norm.weight"]}
    export.require_fitting(folder, fits, places)
    for tensor in (torch.zeros(3), fits["model.norm.weight"].half()):
        with pytest.raises(UserError, match=r"model\.norm\.weight"):
            export.require_fitting(folder, {"model.norm.weight": tensor}, places)
    with pytest.raises(UserError, match="absent"):
        export.require_fitting(folder, {"other": torch.zeros(3)}, places)


def test_an_adapter_is_applied_whole_or_refused(folder: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    from lens_train.loading import load_adapter

    adapted = get_peft_model(load_model(str(folder)), LoraConfig(r=2, target_modules="all-linear"))
    adapted.save_pretrained(tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    load_adapter(load_model(str(folder)), tmp_path / "adapter")
    tensors = load_file(file)
    name = next(iter(tensors))
    save_file({**{k: v for k, v in tensors.items() if k != name}, name + "x": tensors[name]}, file)
    with pytest.raises(UserError, match="missing from the files"):
        load_adapter(load_model(str(folder)), tmp_path / "adapter")
    file.rename(file.with_name("adapter_model.bin"))
    with pytest.raises(UserError, match="pickled"):
        load_adapter(load_model(str(folder)), tmp_path / "adapter")


@pytest.mark.parametrize("load", [load_model, _streamed], ids=["whole", "streamed"])
@pytest.mark.parametrize("kind", [torch.int32, torch.int8, torch.bool])
def test_weights_of_whole_numbers_are_refused(
    folder: Path, load: Callable[[str], Any], kind: torch.dtype
) -> None:
    load(str(folder))  # the control
    name = "model.layers.0.mlp.down_proj.weight"
    _change(folder, lambda tensors: tensors.update({name: tensors[name].to(kind)}))
    with pytest.raises(UserError, match=rf"{name} holds whole numbers .*quantization_config"):
        load(str(folder))


QUANTISED = (
    {"quant_method": "gptq", "bits": 4, "group_size": 128},
    {"quant_method": "awq", "bits": 4},
    {"quant_method": "bitsandbytes", "load_in_4bit": True},
    {"quant_method": "fp8"},
)


@pytest.mark.parametrize("quantised", QUANTISED, ids=lambda given: given["quant_method"])
@pytest.mark.parametrize("method", ["lens", "xsft", "xsft_top"])
def test_whole_weights_are_not_trained_on_a_quantised_base(
    folder: Path, tmp_path: Path, quantised: dict[str, Any], method: str
) -> None:
    languages, output = ("en", "zh", "sw"), tmp_path / "out"
    job = Job(method, str(folder), Path("builtin:train"), languages, output, device="cpu")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": quantised}))
    with pytest.raises(UserError, match=rf"quantised \({quantised['quant_method']}\).*xsft_lora"):
        methods.train(job)
    assert not (output / "model.safetensors").exists()
