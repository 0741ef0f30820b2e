"""Weights that are no numbers for one language alone: every method refuses them and leaves no variant."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from baseline_helpers import make_job, make_model, many_items, write_lines
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from lens_eval.base.errors import UserError
from lens_train import methods
from lens_train.job import VARIANT_FILE

SETTINGS: dict[str, dict[str, Any]] = {
    "lens": {"show_replies": 0, "diagnose": 0},
    "xsft": {"steps": 1},
    "xsft_lora": {"steps": 1},
    "qalign": {"steps": 1},
    "steer": {},
    "diffmean": {},
    "recover": {},
    "liseco": {},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def broken(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedding of `N`, which only Swahili prompts hold (`Nini hufuata`), is NaN."""
    folder = tmp_path_factory.mktemp("broken") / "model"
    shutil.copytree(model, folder)
    tensors = load_file(folder / "model.safetensors")
    token = AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids("N")
    tensors["model.embed_tokens.weight"][token, 0] = math.nan
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize("method", SETTINGS)
def test_no_variant_is_made_of_weights_that_are_no_numbers(
    model: Path, broken: Path, tmp_path: Path, method: str
) -> None:
    data = write_lines(tmp_path / "pairs.jsonl", many_items(4))
    with pytest.raises(UserError, match=r"NaN|finite"):
        methods.train(make_job(broken, data, tmp_path / "out", method, **SETTINGS[method]))
    assert not (tmp_path / "out" / VARIANT_FILE).exists()
    # Control: the same model as it was.
    methods.train(make_job(model, data, tmp_path / "control", method, **SETTINGS[method]))
    assert (tmp_path / "control" / VARIANT_FILE).exists()
