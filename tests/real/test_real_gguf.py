"""A GGUF file named where a model is: examined, probed, and the numbers of transformers' own loader."""

from __future__ import annotations

from pathlib import Path

import items
import pytest
from commands import Lens, outcomes

pytestmark = pytest.mark.real

TEXTS = (
    "What is the capital of Kenya? Answer in one sentence, and say how many people live there.",
    "请用三句话介绍北京的历史。",
    "Eleza kwa ufupi jinsi ya kupika wali.",
)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where converted files are kept: made once, used by every command."""
    return tmp_path_factory.mktemp("cache")


def test_doctor_and_probe_take_the_file(
    smol_gguf: Path, smol: Path, kept: Path, shared: Path, lens: Lens, tmp_path: Path
) -> None:
    from lens_train.subspace import Subspaces

    cache = {"LENS_CACHE": str(kept)}
    quick = ["--tasks", "lens_xcopa_en", "--quick"]
    found = [outcomes(lens("doctor", model, *quick, status=(0, 1), **cache)) for model in (smol_gguf, smol)]
    assert found[0] == found[1] != {}
    data = items.parallel(shared, tmp_path / "train.jsonl", items.TRAINED[:12])
    given = ["--model", smol_gguf, "--data", data, "--languages", "en,zh,sw", "--output", tmp_path / "out"]
    lens("probe", *given, **cache)
    subspaces = Subspaces.load(tmp_path / "out")
    assert subspaces.specific.shape == (30, 2, 576)
    assert len(list(kept.rglob("model.safetensors"))) == 1


def test_logits_are_those_of_the_loader_of_transformers(
    smol_gguf: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from lens_train.checkpoint import Checkpoint
    from lens_train.decoder import load_model

    monkeypatch.setenv("LENS_CACHE", str(kept))
    theirs = AutoModelForCausalLM.from_pretrained(
        smol_gguf.parent, gguf_file=smol_gguf.name, dtype=torch.bfloat16
    )
    # Its weights are dequantised by now, and transformers casts nothing that it calls quantised.
    theirs.hf_quantizer, theirs.is_quantized = None, False
    theirs = theirs.float().eval()
    ours = load_model(str(smol_gguf), "cpu", "float32").eval()
    tokenizers = [
        Checkpoint.open(str(smol_gguf)).tokenizer,
        AutoTokenizer.from_pretrained(smol_gguf.parent, gguf_file=smol_gguf.name),
    ]
    for text in TEXTS:
        own, other = (tokenizer.encode(text, add_special_tokens=False) for tokenizer in tokenizers)
        assert own == other
        ids = torch.tensor([own])
        with torch.inference_mode():
            difference = (ours(ids).logits - theirs(ids).logits).abs().max()
        assert float(difference) < 1e-3
