"""Steering: fires once per layer and pass, does what it says, is gone afterwards, and runs under lm_eval."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from baseline_helpers import LANGUAGES, make_job, make_model, many_items, write_lines

from lens_eval.base.errors import UserError
from lens_train import methods
from lens_train.checkpoint import Checkpoint
from lens_train.decoder import load_model
from lens_train.job import Variant
from lens_train.steering.steering import Edit, Steerer, Steering
from lens_train.subspace import project


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lines(tmp_path_factory.mktemp("data") / "prompts.jsonl", many_items(6))


@pytest.fixture(scope="module")
def variant(folder: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("variant") / "steer"
    methods.train(
        make_job(folder, data, output, "steer", remove_strength=0.4, restore_strength=0.4, restore_layers=[3])
    )
    return output


@pytest.fixture(scope="module")
def adding(folder: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("adding") / "steer"
    off = {"remove_strength": 0, "restore_strength": 0}
    methods.train(make_job(folder, data, output, "steer", add_strength=3, add_layers=[1, -2], **off))
    return output


@pytest.fixture
def model(folder: Path) -> Iterator[Any]:
    loaded = load_model(str(folder))
    yield loaded
    assert not [name for name, module in loaded.named_modules() if module._forward_hooks], "hooks are gone"


def batch(folder: Path, count: int = 8) -> Any:
    tokenizer = Checkpoint.open(str(folder)).tokenizer
    tokenizer.padding_side = "left"
    chats = [[{"role": "user", "content": f"What follows {10**i}?"}] for i in range(count)]
    return tokenizer.apply_chat_template(
        chats, add_generation_prompt=True, return_tensors="pt", padding=True, return_dict=True
    )


def test_the_folder_says_what_it_is(folder: Path, data: Path, variant: Path) -> None:
    found = Variant.load(variant)
    assert (found.kind, found.method, found.data["items"]) == ("steering", "steer", 6)
    assert found.tokens_seen == 0, "nothing is trained"
    assert found.data["probe_tokens"] > 0
    steering = Steering.load(variant)
    assert steering.base["weights_sha256"] == Checkpoint.open(str(folder)).identity["weights_sha256"]
    assert steering.edits == (
        Edit(2, "specific", -0.4),
        Edit(3, "specific", 0.4),
    )
    assert not steering.by_language
    basis = steering.specific[2]
    assert torch.allclose(basis @ basis.T, torch.eye(2), atol=1e-5)


def test_a_steered_pass_is_the_equation(folder: Path, variant: Path, model: Any) -> None:
    """h - s P h after layer 2, then layer 3, the norm, and h + s P h before the output layer."""
    steering = Steering.load(variant)
    ids = batch(folder, 1)["input_ids"]
    states: dict[int, torch.Tensor] = {}
    handles = [
        model.model.layers[2].register_forward_hook(
            lambda _m, _i, o: o - 0.4 * project(o, steering.specific[2])
        ),
        model.model.norm.register_forward_hook(lambda _m, _i, o: states.update({3: o})),
    ]
    model(ids)
    for handle in handles:
        handle.remove()
    last = states[3] + 0.4 * project(states[3], steering.specific[3])
    expected = model.lm_head(last)
    with Steerer(model, steering).active():
        found = model(ids).logits
    assert torch.allclose(found, expected, atol=1e-5)
    assert not torch.allclose(model(ids).logits, expected, atol=1e-2)


def test_every_layer_fires_once_per_pass_in_prefill_and_decoding(
    folder: Path, variant: Path, model: Any
) -> None:
    steerer = Steerer(model, Steering.load(variant))
    inputs = batch(folder, 3)
    with steerer.active() as fired:
        model(**inputs)
        assert fired == {2: 1, 3: 1}
        model(**inputs)
        assert fired == {2: 2, 3: 2}
    for new in (1, 7):
        with steerer.active() as fired:
            model.generate(**inputs, max_new_tokens=new, min_new_tokens=new, do_sample=False)
        assert fired == {2: new, 3: new}


def test_every_decoding_step_is_steered(folder: Path, variant: Path, model: Any) -> None:
    """Decoding with the cache gives what one pass over the whole text gives, steered in all positions."""
    inputs = batch(folder, 1)
    with Steerer(model, Steering.load(variant)).active():
        out = model.generate(
            **inputs, max_new_tokens=8, do_sample=False, output_logits=True, return_dict_in_generate=True
        )
        whole = model(out.sequences).logits[0, inputs["input_ids"].shape[1] - 1 : -1]
    plain = model(out.sequences).logits[0, inputs["input_ids"].shape[1] - 1 : -1]
    assert torch.allclose(torch.cat(out.logits), whole, atol=1e-4)
    assert not torch.allclose(plain[1:], whole[1:], atol=1e-2)


def test_one_at_a_time_equals_eight_at_a_time(folder: Path, variant: Path, model: Any) -> None:
    inputs = batch(folder, 8)
    length = inputs["input_ids"].shape[1]
    assert inputs["attention_mask"].sum() < inputs["attention_mask"].numel(), "there is padding"
    with Steerer(model, Steering.load(variant)).active():
        together = model.generate(**inputs, max_new_tokens=12, do_sample=False)[:, length:]
        for row in range(8):
            real = inputs["attention_mask"][row].bool()
            ids = inputs["input_ids"][row][real][None]
            alone = model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False
            )[0, ids.shape[1] :]
            assert together[row].tolist()[: len(alone)] == alone.tolist()


def test_strength_zero_is_the_identity_to_the_bit(folder: Path, variant: Path, model: Any) -> None:
    steering = Steering.load(variant)
    edits = tuple(Edit(edit.layer, edit.kind, 0.0) for edit in steering.edits)
    none = Steering(edits, steering.specific, steering.directions, steering.base)
    inputs = batch(folder)
    plain = model(**inputs).logits
    with Steerer(model, none).active() as fired:
        assert torch.equal(model(**inputs).logits, plain)
    assert fired == {}


def test_hooks_are_gone_after_use_and_after_an_error(folder: Path, variant: Path, model: Any) -> None:
    inputs = batch(folder)
    plain = model(**inputs).logits
    steerer = Steerer(model, Steering.load(variant))
    with steerer.active():
        assert not torch.equal(model(**inputs).logits, plain)
    assert torch.equal(model(**inputs).logits, plain)
    with pytest.raises(RuntimeError, match="oops"), steerer.active():
        raise RuntimeError("oops")
    assert torch.equal(model(**inputs).logits, plain)


def test_a_direction_is_added_for_the_language_asked_for(folder: Path, adding: Path, model: Any) -> None:
    steering = Steering.load(adding)
    assert steering.by_language
    assert {edit.layer for edit in steering.edits} == {1, 2}
    steerer = Steerer(model, steering)
    inputs = batch(folder, 2)
    plain = model(**inputs).logits
    logits = {}
    for code in LANGUAGES:
        with steerer.active(code):
            logits[code] = model(**inputs).logits
    assert torch.equal(logits["en"], plain), "the central language's own direction is zero"
    assert not torch.allclose(logits["zh"], logits["sw"], atol=1e-3)
    assert not torch.allclose(logits["zh"], plain, atol=1e-3)
    with pytest.raises(UserError, match="has none for 'fr'; it has en, sw, zh"), steerer.active("fr"):
        pass


def test_settings_that_cannot_be_met(folder: Path, data: Path, tmp_path: Path) -> None:
    for settings, message in (
        ({"remove_layers": [7]}, "has layers 0 to 3"),
        ({"strength": 1}, "no setting strength"),
        ({"remove_strength": 0, "restore_strength": 0}, "would change nothing"),
        ({"subspaces": str(tmp_path)}, "holds no subspaces"),
        ({"rank": 5}, "rank 5 is not between 1 and 2"),
    ):
        with pytest.raises(UserError, match=message):
            methods.train(make_job(folder, data, tmp_path / "out", "steer", **settings))
        assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="holds no steering"):
        Steering.load(tmp_path)


def test_subspaces_of_lens_probe_are_taken(folder: Path, data: Path, variant: Path, tmp_path: Path) -> None:
    from lens_train.config import LensConfig
    from lens_train.lens import probe_folder

    probe_folder(str(folder), data, LensConfig(tuple(LANGUAGES)), tmp_path / "space", "cpu")
    methods.train(
        make_job(
            folder,
            data,
            tmp_path / "out",
            "steer",
            subspaces=str(tmp_path / "space"),
            remove_strength=0.4,
            restore_strength=0.4,
        )
    )
    found, expected = Steering.load(tmp_path / "out"), Steering.load(variant)
    assert all(torch.equal(found.specific[layer], expected.specific[layer]) for layer in (2, 3))
    assert Variant.load(tmp_path / "out").data["probe_tokens"] == 0


def answers(model: Path, steering: Path | None, **arguments: Any) -> dict[str, Any]:
    """Likelihoods and replies through lm_eval, one request per language."""
    from lm_eval.api.instance import Instance
    from lm_eval.api.registry import get_model

    import lens_eval.backends.steered  # noqa: F401

    more = {"steering": str(steering), **arguments} if steering else arguments
    lm = get_model("lens_steered" if steering else "hf")(
        pretrained=str(model), device="cpu", dtype="float32", **more
    )
    docs = [{"language": code} for code in ("sw", "en", "zh", "sw")]
    prompts = ["What follows 3?", "What follows 3?", "What follows 3?", "What follows 4?"]
    scored = [
        Instance("loglikelihood", doc, (prompt, " It is 5."), 0)
        for doc, prompt in zip(docs, prompts, strict=True)
    ]
    replied = [
        Instance("generate_until", doc, (prompt, {"until": [], "max_gen_toks": 6, "do_sample": False}), 0)
        for doc, prompt in zip(docs, prompts, strict=True)
    ]
    return {
        "scores": [round(score, 4) for score, _ in lm.loglikelihood(scored, disable_tqdm=True)],
        "replies": lm.generate_until(replied, disable_tqdm=True),
    }


def test_lm_eval_steers_likelihoods_and_replies(folder: Path, variant: Path, adding: Path) -> None:
    plain = answers(folder, None)
    steered = answers(folder, variant, batch_size=4)
    assert steered["scores"] != plain["scores"]
    assert steered["scores"] == answers(folder, variant, batch_size=1)["scores"]
    added = answers(folder, adding, batch_size=4)
    assert added["scores"][1] == plain["scores"][1], "English is left alone"
    assert len({added["scores"][n] for n in range(3)}) == 3, "one prompt, three languages, three numbers"
    fixed = answers(folder, adding, batch_size=4, language="zh")
    assert fixed["scores"][0] == fixed["scores"][1] == fixed["scores"][2] == added["scores"][2]


def test_lm_eval_refuses_the_steering_of_another_model(folder: Path, variant: Path, tmp_path: Path) -> None:
    other = make_model(tmp_path / "other")
    tensors = load_model(str(other))
    with torch.no_grad():
        tensors.lm_head.weight.add_(1.0)
    tensors.save_pretrained(other)
    with pytest.raises(UserError, match=r"was made for .*, not for"):
        answers(other, variant)


@pytest.mark.slow
def test_the_command_line_of_lm_eval(folder: Path, variant: Path, tmp_path: Path) -> None:
    import subprocess
    import sys

    tasks = Path(__file__).resolve().parents[2] / "tasks"
    arguments = {
        "--model": "lens_steered",
        "--model_args": f"pretrained={folder},steering={variant}",
        "--tasks": "lens_mini_choice_en",
        "--limit": "4",
        "--device": "cpu",
        "--include_path": str(tasks),
        "--output_path": str(tmp_path),
    }
    words = [word for pair in arguments.items() for word in pair]
    done = subprocess.run(
        [sys.executable, "-m", "lens_eval.backends.steered", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(next(tmp_path.rglob("results_*.json")).read_text())
    assert "lens_mini_choice_en" in results["results"]
