"""Probe, train, merge, sweep and a kill on SmolLM2-135M, with real prompts: what holds on any model."""

from __future__ import annotations

import json
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import items
import pytest
from commands import Lens

pytestmark = pytest.mark.real

LANGUAGES = "en,zh,sw"
RATE = 1e-4
STEPS = 12
REPLY_TOKENS = 32
TIE = 1e-3
"""Logits that differ by less are equal: the two ways add up in another order."""


@dataclass(frozen=True)
class Made:
    """What the commands made of one model; every run has the same data, settings and subspaces."""

    data: Path
    dev: Path
    subspaces: Path
    whole: Path
    """Trained to a whole checkpoint."""
    model: Path

    @property
    def top(self) -> tuple[str, str]:
        """How the names of trained weights begin: those of the last two layers."""
        settings = json.loads((self.model / "config.json").read_text(encoding="utf-8"))
        count = settings["num_hidden_layers"]
        return f"model.layers.{count - 2}.", f"model.layers.{count - 1}."

    def job(self, output: Path) -> list[Any]:
        """Arguments of a training run."""
        given = ["--model", self.model, "--data", self.data, "--languages", LANGUAGES, "--limit", 24]
        given += ["--subspaces", self.subspaces, "--set", "dtype=float32", "--set", "epochs=4"]
        return [*given, "--set", "diagnose=8", "--output", output]


@pytest.fixture(scope="module")
def made(smol: Path, shared: Path, lens: Lens, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Subspaces, and a checkpoint trained with them."""
    folder = tmp_path_factory.mktemp("smol")
    data = items.parallel(shared, folder / "train.jsonl", items.TRAINED)
    dev = items.parallel(shared, folder / "dev.jsonl", items.DEV)
    made = Made(data, dev, folder / "subspaces", folder / "whole", smol)
    probing = ["--model", smol, "--data", data, "--languages", LANGUAGES, "--limit", 24]
    lens("probe", *probing, "--set", "dtype=float32", "--output", made.subspaces)
    lens("train", *made.job(made.whole), "--set", f"learning_rate={RATE}")
    return made


def test_a_merged_delta_is_the_whole_checkpoint_and_only_the_top_has_changed(
    made: Made, lens: Lens, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    delta, merged = tmp_path / "delta", tmp_path / "merged"
    lens("train", *made.job(delta), "--set", f"learning_rate={RATE}", "--delta")
    lens("merge", "--delta", delta, "--model", made.model, "--output", merged)
    assert (merged / "model.safetensors").read_bytes() == (made.whole / "model.safetensors").read_bytes()
    before, after = (load_file(folder / "model.safetensors") for folder in (made.model, made.whole))
    assert before.keys() == after.keys()
    changed = {name for name in before if not before[name].equal(after[name])}
    trained = {name for name in before if name.startswith(made.top)}
    assert changed <= trained
    # Norms may move by less than bfloat16 tells apart; matrices do not.
    assert changed >= {name for name in trained if before[name].ndim > 1}
    assert load_file(delta / "delta.safetensors").keys() == trained


def test_plain_transformers_answers_with_the_checkpoint_as_the_own_loop_does(made: Made) -> None:
    """Rows of unequal length in one batch, frozen; and one by one, as transformers loads it."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    prompts, ours = _own_replies(made.whole, made.dev)
    tokenizer = AutoTokenizer.from_pretrained(made.whole)
    model = AutoModelForCausalLM.from_pretrained(made.whole, dtype=torch.float32).eval()
    asked = items.read_lines(made.dev)[0]["en"]
    first = tokenizer.apply_chat_template([{"role": "user", "content": asked}], add_generation_prompt=True)
    assert first["input_ids"] == prompts[0], "the own prompts are those of the chat template"
    differing = 0
    for prompt, reply in zip(prompts, ours, strict=True):
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            output = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=REPLY_TOKENS, do_sample=False
            )
        theirs = output[0, len(prompt) :].tolist()
        if theirs[-1] == model.generation_config.eos_token_id:
            theirs.pop()
        if reply != theirs:
            differing += 1
            _assert_tie(model, prompt, reply, theirs)
    assert differing <= len(ours) // 10


def _own_replies(model: Path, dev: Path) -> tuple[list[list[int]], list[list[int]]]:
    """Token ids of dev prompts in three languages, and of the replies that the project generates to them."""
    import torch

    from lens_train.checkpoint import Checkpoint
    from lens_train.config import LensConfig
    from lens_train.data import read_prompts
    from lens_train.decoder import load_model
    from lens_train.generation import generate
    from lens_train.probing import renderer

    config = LensConfig(tuple(LANGUAGES.split(",")))
    tokenizer = Checkpoint.open(str(model)).tokenizer
    render = renderer(tokenizer, config, "train")
    texts = read_prompts(dev, config.languages, 4).texts
    prompts = [ids for code in config.languages for ids in render(texts[code], 256)]
    loaded = load_model(str(model), torch.device("cpu"), torch.float32).requires_grad_(False)
    found = generate(loaded, tokenizer, prompts, REPLY_TOKENS, 8192, stop_loops=False)
    return prompts, [reply.tokens for reply in found]


def _assert_tie(model: Any, prompt: list[int], ours: list[int], theirs: list[int]) -> None:
    """Where two replies part, the model finds both tokens equally likely."""
    import torch

    end = model.generation_config.eos_token_id
    first, second = [*ours, end], [*theirs, end]
    at = next(i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)
    with torch.inference_mode():
        logits = model(torch.tensor([prompt + first[:at]])).logits[0, -1]
    assert abs(float(logits[first[at]] - logits[second[at]])) < TIE


def test_a_killed_training_goes_on_to_the_same_bits(made: Made, lens: Lens, tmp_path: Path) -> None:
    output = tmp_path / "killed"
    job = ["train", *made.job(output), "--set", f"learning_rate={RATE}"]
    state, log = output / "training" / "state.safetensors", output / "training" / "log.jsonl"
    process = lens.start(*job)
    # A state is saved each second, so steps are done when the first one is there.
    while process.poll() is None and not state.is_file():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = len(log.read_text(encoding="utf-8").splitlines())
    assert 0 < done < STEPS, "the kill was to come in the middle of the steps"
    assert not (output / "variant.json").exists()
    lens(*job)
    assert len(log.read_text(encoding="utf-8").splitlines()) == STEPS
    assert (output / "model.safetensors").read_bytes() == (made.whole / "model.safetensors").read_bytes()


def test_a_sweep_of_two_points_trains_what_lens_train_does(made: Made, lens: Lens, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    from lens_train.sweep.run import hash_weights

    output = tmp_path / "sweep"
    judged = ["--dev-data", made.dev, "--dev-limit", 4, "--max-new-tokens", REPLY_TOKENS]
    said = lens("sweep", *made.job(output), *judged, "--vary", f"learning_rate=1e-6,{RATE}")
    document = json.loads((output / "sweep.json").read_text(encoding="utf-8"))
    rows = document["rows"]
    assert [row["settings"] for row in rows] == [{"learning_rate": 1e-6}, {"learning_rate": RATE}]
    weights = load_file(made.whole / "model.safetensors")
    top = {name: own for name, own in weights.items() if name.startswith(made.top)}
    assert rows[1]["weights_sha256"] == hash_weights(top)
    assert rows[0]["weights_sha256"] != rows[1]["weights_sha256"]
    losses = [own["losses"]["loss"] for own in rows]
    assert losses[1] < losses[0], "the larger rate is to get further"
    for row in (document["backbone"], *rows):
        shares = row["measures"]
        assert 0 <= shares["off_target"] + shares["undetermined"] <= 1
        assert 0 <= shares["usable"] <= 1 - shares["off_target"] - shares["undetermined"] + 1e-9
    # SmolLM2 speaks English: what it says there is usable before and after.
    assert document["backbone"]["measures"]["central_usable"] >= 3 / 4
    assert "learning_rate" in said
