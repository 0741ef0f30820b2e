"""`lens doctor` on real models in float32: nothing fails, and hf and vLLM are the same model.

Of `english` one check loads the weights here, that of BOS: the other tests train and evaluate it.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from commands import Lens, outcomes

from lens_eval.doctor.patient import Result, admit
from lens_eval.doctor.weight_checks import check_bos_by_weights
from lens_eval.runs.recipe import Backend

pytestmark = pytest.mark.real

TASKS = "lens_xcopa_en,lens_xcopa_zh,lens_mgsm_zh"


@pytest.mark.parametrize("model", ["smol", "qwen"])
def test_nothing_fails(model: str, lens: Lens, request: pytest.FixtureRequest) -> None:
    found = examine(lens, request.getfixturevalue(model))
    assert found["layers"] == {"ok"}
    if vllm_is_here():
        # Unequal replies are accepted only if they part at two tokens that hf holds nearly as likely.
        assert found["hf and vllm"] == {"ok"}, found


def test_nothing_fails_in_prompts_and_template(english: Path, lens: Lens) -> None:
    examine(lens, english, "--quick")


BEGINS = {"smol": "1 <|im_start|>", "qwen": "0 <|endoftext|>", "english": "1 <bos>"}
"""How often the prompt of a chat begins with BOS, and what that is."""


@pytest.mark.parametrize("model", BEGINS)
def test_bos_is_as_the_weights_expect_it(model: str, request: pytest.FixtureRequest) -> None:
    """SmolLM2 opens every turn with its BOS, Qwen none; the weights of Gemma alone expect one."""
    found = bos_of(request.getfixturevalue(model))
    assert found.outcome == "ok", found
    assert found.words.startswith(f"prompts begin with {BEGINS[model]}; "), found
    without, behind = map(float, re.findall(r"([\d.]+) nats without and ([\d.]+) behind", found.words)[0])
    assert (without > behind + 1) == (model == "english"), found


def test_a_bos_that_the_weights_expect_and_nobody_writes_fails(english: Path) -> None:
    """Control: Gemma fed as its tokenizer is told not to begin."""
    patient = admit(
        str(english), None, Backend(apply_chat_template=False, args={"add_bos_token": False}), "cpu"
    )
    found = check_bos_by_weights(patient, ())
    assert found.outcome == "failed", found
    assert "add_bos_token=True" in found.words


def examine(lens: Lens, folder: Path, *options: str) -> dict[str, set[str]]:
    """How each check came out; none fails, and those of template and prompts are there."""
    table = lens("doctor", folder, "--tasks", TASKS, "--model-args", "dtype=float32", *options)
    found = outcomes(table)
    assert {"chat template", "special tokens", "training prompt", "length", "layers"} <= found.keys(), table
    assert not [check for check, how in found.items() if "failed" in how], table
    assert found["chat template"] == found["special tokens"] == found["training prompt"] == {"ok"}, table
    return found


def bos_of(folder: Path) -> Result:
    """What doctor says of the first token of a chat's prompt."""
    return check_bos_by_weights(admit(str(folder), None, Backend(), "cpu"), ())


def vllm_is_here() -> bool:
    """Whether both backends can be asked."""
    from importlib.util import find_spec

    return find_spec("vllm") is not None


def test_a_template_that_writes_bos_twice_fails(english: Path, lens: Lens, tmp_path: Path) -> None:
    """Control: the same model with a spoilt template."""
    for file in english.iterdir():
        (tmp_path / file.name).symlink_to(file)
    template = tmp_path / "chat_template.jinja"
    text = template.read_text(encoding="utf-8")
    template.unlink()
    template.write_text("{{ bos_token }}{{ bos_token }}" + text, encoding="utf-8")
    table = lens("doctor", tmp_path, "--tasks", TASKS, "--quick", status=(1,))
    assert "failed" in outcomes(table)["chat template"], table
