"""What is no number is not counted as one: NaN scores, cut prompts, rates of nothing judged."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import tiny_lens
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from lens_eval.base.errors import UserError
from lens_eval.commands.cli import app
from lens_eval.mini import resolve_model
from lens_eval.upstream.responses import require_finite
from lens_train.decoder import load_model
from lens_train.generation import generate


def _eval(*arguments: str) -> tuple[int, str]:
    outcome = CliRunner().invoke(app, ["eval", "--limit", "2", *arguments])
    return outcome.exit_code, " ".join((outcome.output + outcome.stderr).split())


def _copy(tmp_path: Path, name: str, value: float | None) -> Path:
    """The built-in model with one number of `name` replaced."""
    source, folder = Path(resolve_model("builtin")), tmp_path / "model"
    folder.mkdir(parents=True)
    for file in source.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    if value is not None:
        tensors = load_file(folder / "model.safetensors")
        tensors[next(key for key in tensors if name in key)].view(-1)[0] = value
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize("task", ["lens_mini_choice_en", "lens_mini_qa_en"])
@pytest.mark.parametrize("value", [None, math.nan])
def test_a_model_of_nan_has_no_scores(task: str, value: float | None, tmp_path: Path) -> None:
    model = _copy(tmp_path, "down_proj", value)
    status, words = _eval("--model", str(model), "--tasks", task, "--output", str(tmp_path / "out"))
    if value is None:  # control: the same model as it was
        assert status == 0, words
    else:
        assert status != 0
        assert "NaN or infinite" in words


@pytest.mark.parametrize("settings", ["repetition_penalty=1.2", "num_beams=2", "no_repeat_ngram_size=3"])
def test_a_model_of_nan_has_no_replies_on_the_bare_way_either(settings: str, tmp_path: Path) -> None:
    """These settings take transformers' own `generate`."""
    for value in (None, math.nan):
        model = _copy(tmp_path / str(value), "down_proj", value)
        given = ["--model", str(model), "--tasks", "lens_mini_qa_en", "--gen-kwargs", settings]
        status, words = _eval(*given, "--output", str(tmp_path / f"out-{value}"))
        if value is None:  # control
            assert status == 0, words
        else:
            assert status != 0
            assert "logits that are NaN" in words


def test_scores_are_counted() -> None:
    require_finite([-1.0, -2.0])
    with pytest.raises(UserError, match="2 of 3 scores are NaN or infinite"):
        require_finite([-1.0, math.nan, -math.inf])


def test_greedy_replies_of_nan_are_refused(tmp_path: Path) -> None:
    model = load_model(tiny_lens.save_model(tmp_path / "model"))
    tokenizer = tiny_lens.tokenizer() if hasattr(tiny_lens, "tokenizer") else None
    assert len(generate(model, tokenizer, [[3, 4, 5]], 4, 100, label=None, ends=[1])) == 1
    with torch.no_grad():
        next(iter(model.parameters())).view(-1)[:] = math.nan
    with pytest.raises(UserError, match="1 of 1 replies have logits that are NaN"):
        generate(model, tokenizer, [[3, 4, 5]], 4, 100, label=None, ends=[1])


def test_cut_prompts_fail_the_cell_unless_allowed(tmp_path: Path) -> None:
    short = ["--model", "builtin", "--tasks", "lens_mini_qa_sw", "--model-args", "max_length=70"]
    status, words = _eval(*short, "--output", str(tmp_path / "refused"))
    assert status != 0
    assert "2 of 2 prompts do not fit in the context" in words
    status, words = _eval(*short, "--allow-cut-prompts", "--output", str(tmp_path / "allowed"))
    assert status == 0, words
    table = (tmp_path / "allowed" / "table.md").read_text(encoding="utf-8")
    assert "2 of 2 prompts were cut" in table
    # Control: the whole context.
    status, words = _eval(
        "--model", "builtin", "--tasks", "lens_mini_qa_sw", "--output", str(tmp_path / "whole")
    )
    assert status == 0, words
    assert "were cut" not in (tmp_path / "whole" / "table.md").read_text(encoding="utf-8")
