"""`lens doctor` on real models in float32: nothing fails, and hf and vLLM are the same model.

Of `english` the weights are not loaded here: the other tests train and evaluate it.
"""

from __future__ import annotations

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


def test_nothing_fails_in_prompts_and_template(english: Path, lens: Lens) -> None:
    examine(lens, english, "--quick")


def examine(lens: Lens, folder: Path, *options: str) -> dict[str, set[str]]:
    """How each check came out; none fails, and those of template and prompts are there."""
    table = lens("doctor", folder, "--tasks", TASKS, "--model-args", "dtype=float32", *options)
    found = outcomes(table)
    assert {"chat template", "special tokens", "training prompt", "length", "layers"} <= found.keys(), table
    assert not [check for check, how in found.items() if "failed" in how], table
    assert found["training prompt"] == {"ok"}
    return found


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
