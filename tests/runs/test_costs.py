"""Costs: what is counted of a model and of texts, and what follows for time and memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_lens
from hypothesis import given
from hypothesis import strategies as st
from plan_recipes import planned_recipe

from lens_eval.runs import costs
from lens_eval.runs.costs import Load, Machine, Shape
from lens_eval.runs.recipe import Recipe, rows_of

BILLION = 1_000_000_000
LARGE = Shape(32, 7 * BILLION, BILLION // 2, 8 * BILLION)
EVEN = Machine("cpu", {"float32": 1e11, "bfloat16": 1e11}, 1e10)
LENGTH: Callable[[str], float] = len


def _train(recipe: Recipe | None = None, **spec: Any) -> float | None:
    recipe = recipe or planned_recipe(variants={"a": spec})
    return costs.training_seconds(recipe, rows_of(recipe)[0], LARGE, EVEN, LENGTH)


def _seconds(recipe: Recipe | None = None, **spec: Any) -> float:
    found = _train(recipe=recipe, **spec)
    assert found is not None
    return found


def test_the_size_of_a_model(tmp_path: Path) -> None:
    for name, count in {
        "meta-llama/Meta-Llama-3-8B-Instruct": 8e9,
        "meta-llama/Llama-3.1-8B-Instruct": 8e9,
        "microsoft/Phi-3.5-mini-instruct": 3.8e9,
        "Qwen/Qwen2.5-7B-Instruct": 7e9,
        "Qwen/Qwen3-8B": 8e9,
        "org/tiny-125m": 125e6,
    }.items():
        named = costs.shape_of(name)
        assert named is not None
        assert named.total == count
    assert costs.shape_of("org/unheard-of") is None
    assert costs.shape_of(str(tmp_path / "none")) is None
    # A folder is counted, not guessed: only the headers of its weight files are read.
    folder = tiny_lens.save_model(tmp_path / "model-8b")
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder)
    shape = costs.shape_of(folder)
    assert shape is not None
    assert shape.total == sum(p.numel() for p in model.parameters())
    assert shape.layers == model.config.num_hidden_layers
    assert shape.inner == sum(p.numel() for p in model.model.layers.parameters())
    assert shape.output == model.lm_head.weight.numel()


def test_reading_takes_two_operations_per_weight_and_token() -> None:
    start = costs.evaluation_seconds(planned_recipe(), [], LARGE, EVEN)
    found = costs.evaluation_seconds(planned_recipe(), [Load(1000, 200, 4)], LARGE, EVEN)
    assert found - start == pytest.approx(1000 * 200 * 4 * 2 * 7.5e9 / 1e11)


def test_a_step_of_generation_reads_all_weights_or_computes_all_rows() -> None:
    def seconds(rows: int, speed: float) -> float:
        machine = Machine("cpu", {"float32": speed, "bfloat16": speed}, 1e10)
        return costs.write_seconds(8, 100, rows, LARGE, machine, "bfloat16")

    between = 32 * costs.STEP_SECONDS["cpu"]
    assert seconds(8, 1e15) == pytest.approx(100 * (7.5e9 * 2 / 1e10 + between))
    assert seconds(8, 1e10) == pytest.approx(100 * (7.5e9 * 2 * 8 / 1e10 + between))
    # One by one, all weights are read for each row.
    assert seconds(1, 1e15) == pytest.approx(8 * seconds(8, 1e15))


def test_more_passes_layers_and_steps_of_lens_take_longer() -> None:
    once = _seconds(method="lens", epochs=1)

    def more(**settings: Any) -> float:
        return _seconds(method="lens", **{"epochs": 1, **settings}) - once

    per_pass = 6 * 200 * 2 * 60 * 2 * LARGE.layer / 1e11
    assert more(epochs=4) == pytest.approx(3 * per_pass)
    assert more(trained_layers=4) == pytest.approx(per_pass)
    assert more(steps=50, batch_size=8) == pytest.approx(per_pass)
    assert more(show_replies=0) < 0
    assert _seconds(method="lens") == pytest.approx(once + more(epochs=4))


def test_a_fast_bfloat16_counts_for_models_stored_in_it(tmp_path: Path) -> None:
    fast = Machine("cpu", {"float32": 1e11, "bfloat16": 4e11}, 1e10)
    shape = costs.shape_of(tiny_lens.save_model(tmp_path / "float32"))
    assert shape is not None
    assert not shape.bfloat16
    (tmp_path / "half").mkdir()
    half = costs.shape_of(tiny_lens.save_model(tmp_path / "half", tiny_lens.config(dtype="bfloat16")))
    assert half is not None
    assert half.bfloat16
    recipe = planned_recipe(variants={"a": {"method": "lens"}})

    def seconds(**changes: Any) -> float:
        shape = replace(LARGE, **changes)
        return costs.training_seconds(recipe, rows_of(recipe)[0], shape, fast, LENGTH) or 0

    assert seconds(bfloat16=True) < 0.8 * seconds(bfloat16=False)


def test_prompts_are_measured_where_they_are_here(tmp_path: Path) -> None:
    few = tiny_lens.save_prompts(tmp_path / "few.jsonl", items=4)
    recipe = planned_recipe(data={"train": str(few)}, variants={"a": {"method": "lens"}})
    tokens, items = costs.prompt_tokens(recipe, rows_of(recipe)[0], LENGTH)
    assert items == 4
    assert 5 < tokens - costs.TEMPLATE_TOKENS < 60
    assert _seconds(recipe=recipe) < _seconds(method="lens")


def test_what_is_not_known_is_none() -> None:
    assert _train(method="xsft_large") is None
    assert _train(method="xsft_large", train_items=50)
    assert _train(method="mine:train") is None
    assert _seconds(method="xsft_lora") < _seconds(method="xsft")


def test_training_memory_by_what_is_trained() -> None:
    def billions(on_gpu: bool = True, **spec: Any) -> float:
        row = rows_of(planned_recipe(variants={"a": spec}))[0]
        return costs.training_bytes(row, BILLION, on_gpu=on_gpu) / costs.ACTIVATIONS / BILLION

    assert billions(method="xsft") == pytest.approx(16)  # float32 weight, gradient, two moments
    assert billions(method="xsft", dtype="bfloat16") == pytest.approx(8)
    assert billions(method="lens") == pytest.approx(0.93 * 2 + 0.07 * 16)
    assert billions(method="xsft_lora") == pytest.approx(0.99 * 2 + 0.01 * 16)
    assert billions(False, method="lens") == pytest.approx(0.93 * 4 + 0.07 * 16)


def test_this_machine_is_measured() -> None:
    machine = Machine.cpu()
    assert all(1e8 < speed < 1e14 for speed in machine.speed.values())
    assert 1e8 < machine.bandwidth < 1e13


@given(st.lists(st.text(max_size=20), min_size=1, max_size=200))
def test_the_mean_of_a_sample_lies_between_the_shortest_and_the_longest(texts: list[str]) -> None:
    assert min(map(len, texts)) <= costs.mean_tokens(texts, LENGTH) <= max(map(len, texts))
