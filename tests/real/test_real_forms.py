"""A steering written into SmolLM2, which plain transformers then loads as any other checkpoint."""

from __future__ import annotations

import re
from pathlib import Path

import items
import pytest
from commands import Lens

pytestmark = pytest.mark.real


def test_a_baked_steering_moves_logits_as_the_hooks_do(
    smol: Path, shared: Path, lens: Lens, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    data = items.parallel(shared, tmp_path / "train.jsonl", items.TRAINED)
    job = ["--method", "diffmean", "--model", smol, "--data", data, "--languages", "en,zh,sw"]
    lens("train", *job, "--set", "text_items=4", "--set", "strength=40", "--output", tmp_path / "steering")
    target = ["--language", "zh", "--model", smol, "--output", tmp_path / "baked"]
    said = lens("bake", tmp_path / "steering", *target)
    numbers = re.search(r"steered base by (\S+) at most; steering itself changes them by (\S+) ", said)
    assert numbers, said
    # The constants are rounded to bfloat16, the type of the base.
    assert float(numbers[1]) < float(numbers[2]) / 50
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "baked")
    steered = [number for number, layer in enumerate(loaded.model.layers) if layer.mlp.down_proj.bias.any()]
    assert steered == [18], "62.5% of the depth"
