"""`lens doctor` on real models in float32: nothing fails, hf and vLLM are one model, BOS is right."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Lens, outcomes

pytestmark = pytest.mark.real

TASKS = "lens_xcopa_en,lens_xcopa_zh,lens_mgsm_zh"


@pytest.mark.parametrize("model", ["smol", "qwen"])
def test_nothing_fails(model: str, lens: Lens, request: pytest.FixtureRequest) -> None:
    found = examine(lens, request.getfixturevalue(model))
    assert found["layers"] == {"ok"}
    if vllm_is_here():
        # Unequal replies are accepted only if they part at two tokens that hf holds nearly as likely.
        assert found["hf and vllm"] == {"ok"}, found


BEGINNINGS = {
    "smol": "prompts begin with 1 <|im_start|>",  # the mark that opens every turn
    "qwen": "prompts begin with 0 <|endoftext|>",  # never fed, and nothing is missed
    "english": "prompts begin with 1 <bos>",  # by the template; the tokenizer writes none
}
"""What the template of each model, its only chat format, writes at the beginning."""


@pytest.mark.parametrize("model", sorted(BEGINNINGS))
def test_the_bos_and_the_template_of_each_model_are_right(
    model: str, lens: Lens, request: pytest.FixtureRequest
) -> None:
    table = weighed(lens, request.getfixturevalue(model))
    found = outcomes(table)
    assert (found["chat template"], found["one BOS"], found["BOS"]) == ({"ok"}, {"ok"}, {"ok"}), table
    assert BEGINNINGS[model] in table


def test_a_bos_that_the_weights_miss_is_told_by_them(english: Path, lens: Lens, tmp_path: Path) -> None:
    """Control: neither template nor backend writes the BOS that Gemma's weights cannot do without."""
    silent = respoken(english, tmp_path, lambda text: text.replace("{{ bos_token }}", ""))
    table = weighed(lens, silent, 1, ",add_bos_token=False")
    assert outcomes(table)["BOS"] == {"failed"}, table
    assert "prompts begin with 0 <bos>" in table
    without, behind = map(float, re.findall(r"([\d.]+) nats without and ([\d.]+) behind", table)[0])
    assert without > 1.5 * behind


def weighed(lens: Lens, folder: Path, status: int = 0, more: str = "") -> str:
    """What doctor prints of one task, on lines that are not folded."""
    options = ("--tasks", "lens_xcopa_en", "--model-args", "dtype=float32" + more)
    return lens("doctor", folder, *options, status=(status,), COLUMNS="250")


def examine(lens: Lens, folder: Path, *options: str) -> dict[str, set[str]]:
    """How each check came out; none fails, and those of template and prompts are there."""
    table = lens("doctor", folder, "--tasks", TASKS, "--model-args", "dtype=float32", *options)
    found = outcomes(table)
    assert {"chat template", "special tokens", "training prompt", "length", "layers"} <= found.keys(), table
    assert not [check for check, how in found.items() if "failed" in how], table
    assert found["training prompt"] == {"ok"}
    return found


def respoken(model: Path, folder: Path, change: Callable[[str], str]) -> Path:
    """The same model with another template."""
    for file in model.iterdir():
        (folder / file.name).symlink_to(file)
    template = folder / "chat_template.jinja"
    text = template.read_text(encoding="utf-8")
    template.unlink()
    template.write_text(change(text), encoding="utf-8")
    return folder


def vllm_is_here() -> bool:
    """Whether both backends can be asked."""
    from importlib.util import find_spec

    return find_spec("vllm") is not None


def test_a_template_that_writes_bos_twice_fails(english: Path, lens: Lens, tmp_path: Path) -> None:
    """Control: the same model with a spoilt template."""
    spoilt = respoken(english, tmp_path, lambda text: "{{ bos_token }}" + text)
    table = lens("doctor", spoilt, "--tasks", TASKS, "--quick", status=(1,))
    assert "failed" in outcomes(table)["chat template"], table
