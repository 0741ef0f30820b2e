"""What vLLM cannot do is refused in words before it loads, and a CPU gets the settings it needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lens_eval import mini
from lens_eval.backends import vllm_limits
from lens_eval.base.errors import UserError

BACKBONE = {"pretrained": str(mini.backbone_path())}


def _model(folder: Path, heads: int) -> dict[str, Any]:
    settings = {"model_type": "llama", "hidden_size": 64, "num_attention_heads": heads}
    (folder / "config.json").write_text(json.dumps(settings))
    return {"pretrained": str(folder)}


def _adapter(folder: Path, **settings: Any) -> dict[str, Any]:
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 8, **settings}))
    return {**BACKBONE, "lora_local_path": str(folder)}


def test_a_cpu_gets_its_settings_and_the_users_own_stay() -> None:
    given = vllm_limits.checked(BACKBONE, cpu=True)
    assert given["enforce_eager"] is True
    assert 0 < given["kv_cache_memory_bytes"] <= 4 << 30
    own = {**BACKBONE, "enforce_eager": False, "gpu_memory_utilization": 0.5}
    assert vllm_limits.checked(own, cpu=True) == own
    # Control: on a GPU nothing is added.
    assert vllm_limits.checked(BACKBONE, cpu=False) == BACKBONE


def test_head_size_that_the_cpu_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"heads of size 16; vLLM on a CPU has 32, 64.*backend hf"):
        vllm_limits.checked(_model(tmp_path, heads=4), cpu=True)
    # Controls: the same model on a GPU, and heads of 32 on a CPU.
    vllm_limits.checked(_model(tmp_path, heads=4), cpu=False)
    vllm_limits.checked(_model(tmp_path, heads=2), cpu=True)


def test_data_parallel_on_a_cpu_is_refused() -> None:
    with pytest.raises(UserError, match="data_parallel_size=2 on a CPU"):
        vllm_limits.checked({**BACKBONE, "data_parallel_size": 2}, cpu=True)
    assert vllm_limits.checked({**BACKBONE, "data_parallel_size": 2}, cpu=False)["data_parallel_size"] == 2


STEERED = {**BACKBONE, "steering": "folder"}


@pytest.mark.parametrize("cpu", [True, False])
def test_a_steering_gets_an_engine_that_is_not_compiled_and_the_plug_in(cpu: bool) -> None:
    given = vllm_limits.checked({**STEERED, "tensor_parallel_size": 2}, cpu=cpu)
    assert given["enforce_eager"] is True
    assert given["worker_extension_cls"] == vllm_limits.EXTENSION
    # Control: what is compiled, or spread over several engines, gets no plug-in.
    assert "worker_extension_cls" not in vllm_limits.checked(BACKBONE, cpu=False)
    spread = {**BACKBONE, "enforce_eager": True, "data_parallel_size": 2}
    assert "worker_extension_cls" not in vllm_limits.checked(spread, cpu=False)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"enforce_eager": False}, "compiled models and CUDA graphs run past the hooks"),
        ({"data_parallel_size": 2}, "data_parallel_size=2: lm_eval then loads a new model for every batch"),
        ({"pipeline_parallel_size": 2}, "pipeline_parallel_size=2: no process has all the layers"),
        ({"speculative_config": {"num_speculative_tokens": 2}}, "the draft model would not be steered"),
        ({"worker_extension_cls": "other.Worker"}, "vLLM takes one such plug-in"),
    ],
)
def test_modes_in_which_vllm_cannot_steer_are_refused(more: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        vllm_limits.checked({**STEERED, **more}, cpu=False)
    # Control: without the steering there is nothing to refuse.
    vllm_limits.checked({**BACKBONE, **more}, cpu=False)


def test_one_max_lora_rank_covers_all_adapters(tmp_path: Path) -> None:
    folders = [tmp_path / str(rank) for rank in (8, 40, 4)]
    for folder in folders:
        folder.mkdir()
        _adapter(folder, r=int(folder.name))
    assert vllm_limits.largest_rank(folders) == 64
    assert vllm_limits.largest_rank(folders[:1]) == 16


@pytest.mark.parametrize(("rank", "expected"), [(4, 16), (16, 16), (17, 32), (32, 32), (200, 256)])
def test_an_adapter_gets_a_max_lora_rank_that_covers_it(rank: int, expected: int, tmp_path: Path) -> None:
    assert vllm_limits.checked(_adapter(tmp_path, r=rank), cpu=False)["max_lora_rank"] == expected


def test_a_rank_pattern_counts_and_an_own_value_stays(tmp_path: Path) -> None:
    adapter = _adapter(tmp_path, rank_pattern={"q_proj": 40})
    assert vllm_limits.checked(adapter, cpu=False)["max_lora_rank"] == 64
    assert vllm_limits.checked({**adapter, "max_lora_rank": 128}, cpu=False)["max_lora_rank"] == 128


@pytest.mark.parametrize(
    ("settings", "more", "message"),
    [
        ({}, {"data_parallel_size": 2}, "adapter with data_parallel_size=2"),
        ({"r": 32}, {"max_lora_rank": 16}, "max_lora_rank=16, but the adapter .* has rank 32"),
        ({"r": 1024}, {}, "rank 1024, vLLM goes up to 512"),
        ({"peft_type": "IA3"}, {}, "is IA3; vLLM applies LoRA only"),
        ({"modules_to_save": ["lm_head"]}, {}, "whole trained modules"),
        ({"use_dora": True}, {}, "DoRA"),
        ({"bias": "all"}, {}, "trained biases"),
        ({"r": "x"}, {}, "no LoRA adapter"),
    ],
)
def test_adapters_that_vllm_cannot_apply_are_refused(
    settings: dict[str, Any], more: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        vllm_limits.checked({**_adapter(tmp_path, **settings), **more}, cpu=False)


def test_a_folder_without_an_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no LoRA adapter"):
        vllm_limits.checked({**BACKBONE, "lora_local_path": str(tmp_path)}, cpu=False)


def test_a_decoding_adds_its_processor_and_is_refused_where_vllm_takes_none(tmp_path: Path) -> None:
    found = vllm_limits.with_decoding({"pretrained": "m"}, str(tmp_path), None)
    assert found["logits_processors"] == [vllm_limits.PROCESSOR]
    assert found["additional_config"] == {vllm_limits.FOLDER: str(tmp_path)}
    with pytest.raises(UserError, match="speculative_config"):
        vllm_limits.with_decoding({"speculative_config": {"model": "x"}}, str(tmp_path), None)
    with pytest.raises(UserError, match="at once"):
        vllm_limits.with_decoding({}, str(tmp_path), "steering")
