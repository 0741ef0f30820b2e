"""diffmean, recover, liseco: their equations on constructed cases, then on a model, then under lm_eval."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from baseline_helpers import LANGUAGES, make_job, make_model, many_items, write_lines

from lens_eval.base.errors import UserError
from lens_train import methods
from lens_train.checkpoint import Checkpoint
from lens_train.decoder import Decoder, load_model
from lens_train.job import Variant
from lens_train.steering.diffmean import difference
from lens_train.steering.liseco import border, fit_probe
from lens_train.steering.recover import language_vectors
from lens_train.steering.steering import Edit, Steering
from lens_train.steering.texts import Corpus, last_states, mean_states

BASE = {"name": "none", "weights_sha256": "0"}
METHODS = {"diffmean": {"layer": 1, "strength": 2.0}, "recover": {}, "liseco": {"error": 1e-3}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lines(tmp_path_factory.mktemp("data") / "prompts.jsonl", many_items(8))


@pytest.fixture(scope="module")
def variants(folder: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("variants")
    for method, settings in METHODS.items():
        methods.train(make_job(folder, data, root / method, method, **settings))
    return {method: root / method for method in METHODS}


@pytest.fixture
def model(folder: Path) -> Iterator[Any]:
    loaded = load_model(str(folder))
    yield loaded
    hooks = [
        h for m in loaded.modules() for h in (*m._forward_hooks.values(), *m._forward_pre_hooks.values())
    ]
    assert not [hook for hook in hooks if "lens_train" in str(hook.__module__)], "hooks are gone"


def corpus(model: Any, ids: dict[str, list[list[int]]], skip: int | None = 1) -> Corpus:
    return Corpus(Decoder(model), ids, skip)


def only(kind: Any, direction: list[float], strength: float = 1.0, threshold: float = 0.0) -> Any:
    """The change of a layer that has one edit."""
    tensors = {0: {"sw": torch.tensor(direction)}}
    thresholds = {0: {"sw": torch.tensor(threshold)}}
    return Steering((Edit(0, kind, strength),), {}, tensors, BASE, thresholds).change(0, "sw")


def test_a_difference_of_means_is_a_unit_direction_and_zero_for_the_central_language() -> None:
    means = {"en": torch.tensor([[0.0, 0.0], [1.0, 1.0]]), "sw": torch.tensor([[9.0, 9.0], [4.0, 5.0]])}
    found = difference(means, "en", 1)
    assert found["sw"].tolist() == pytest.approx([0.6, 0.8])
    assert found["en"].tolist() == [0.0, 0.0]


def test_language_vectors_are_taken_about_the_mean_of_all_languages() -> None:
    means = {
        "en": torch.tensor([[3.0, 0.0]]),
        "sw": torch.tensor([[0.0, 3.0]]),
        "zh": torch.tensor([[0.0, 0.0]]),
    }
    # The mean is (1, 1): en is (2, -1), sw is (-1, 2).
    assert language_vectors(means, "en", 0.0)["sw"][0].tolist() == pytest.approx([-1 / 5**0.5, 2 / 5**0.5])
    assert language_vectors(means, "en", 1.0)["sw"][0].tolist() == pytest.approx([-(0.5**0.5), 0.5**0.5])
    assert language_vectors(means, "en", 0.0)["en"][0].tolist() == [0.0, 0.0]


def test_an_added_direction_with_the_norm_kept() -> None:
    state = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    moved = state + only("kept_norm", [0.0, 1.0], strength=2.0)(state)
    assert moved[0].tolist() == pytest.approx([5 * 3 / 45**0.5, 5 * 6 / 45**0.5])
    assert moved[1].tolist() == [0.0, 0.0]
    # Control: plain addition does not keep the norm.
    plain = state + only("direction", [0.0, 1.0], strength=2.0)(state)
    assert plain[0].tolist() == [3.0, 6.0]


def test_only_states_below_the_threshold_are_lifted_and_just_to_it() -> None:
    state = torch.tensor([[1.0, 7.0], [5.0, 7.0], [3.0, 7.0]])
    moved = state + only("threshold", [1.0, 0.0], threshold=3.0)(state)
    assert moved.tolist() == [[3.0, 7.0], [5.0, 7.0], [3.0, 7.0]]


def test_the_border_is_where_the_probe_gives_one_minus_the_error() -> None:
    torch.manual_seed(0)
    target, source = torch.randn(40, 6) + 1.5, torch.randn(40, 6) - 1.5
    w, c = fit_probe(target, source, penalty=1.0)
    normal, distance = border(w, c, 1e-3)
    point = (normal * distance).double()
    assert torch.sigmoid(point @ w + c).item() == pytest.approx(1 - 1e-3, abs=1e-5)
    # The minimum: the gradient of the penalised loss is zero.
    inputs, labels = torch.cat([target, source]).double(), torch.cat([torch.ones(40), torch.zeros(40)])
    errors = torch.sigmoid(inputs @ w + c) - labels.double()
    assert torch.allclose(errors @ inputs + w, torch.zeros(6, dtype=torch.float64), atol=1e-4)
    assert abs(errors.sum()) < 1e-4
    assert math.isclose(float(torch.linalg.vector_norm(normal)), 1.0, rel_tol=1e-6)


def test_means_leave_bos_and_padding_out(model: Any) -> None:
    """Texts of unequal length, read together, give what each gives alone."""
    rows = [[1, 20, 21, 22, 23, 24], [1, 30, 31]]
    expected = torch.zeros(4, 32)
    for row in rows:
        states = model(torch.tensor([row]), output_hidden_states=True).hidden_states[1:]
        expected += torch.stack([layer[0, 1:].sum(dim=0) for layer in states]).detach()
    found = mean_states(corpus(model, {"en": rows}))["en"]
    assert torch.allclose(found, expected / 7, atol=1e-5)
    assert not torch.allclose(mean_states(corpus(model, {"en": rows}, skip=None))["en"], found, atol=1e-3)
    last = last_states(corpus(model, {"en": rows}))["en"]
    alone = model(torch.tensor([rows[1]]), output_hidden_states=True).hidden_states[1:]
    assert torch.allclose(last[1], torch.stack([layer[0, -1] for layer in alone]), atol=1e-5)
    with pytest.raises(UserError, match="texts in 'en' hold no token"):
        mean_states(corpus(model, {"en": [[1]]}))


def test_the_folder_says_what_it_was_made_of(variants: dict[str, Path], folder: Path) -> None:
    for method, place in variants.items():
        variant, steering = Variant.load(place), Steering.load(place)
        assert (variant.kind, variant.method, variant.tokens_seen) == ("steering", method, 0)
        assert variant.data["probe_tokens"] > 0
        assert steering.source["items"] == 8
        assert steering.source["positions"] == ("last of a text" if method == "liseco" else "all but BOS")
        assert steering.settings["text_items"] == 300
        assert steering.by_language
        assert set(steering.directions[1]) == set(LANGUAGES)
    assert Steering.load(variants["diffmean"]).layers == [1]
    assert Steering.load(variants["recover"]).layers == [0, 1, 2, 3]
    assert Steering.load(variants["recover"]).skip == Checkpoint.open(str(folder)).tokenizer.bos_token_id


@pytest.mark.parametrize("method", METHODS)
def test_each_layer_fires_once_per_pass_and_the_central_language_is_left_alone(
    method: str, variants: dict[str, Path], model: Any
) -> None:
    steering = Steering.load(variants[method])
    ids = torch.tensor([[1, 40, 41, 42]])
    plain = model(ids).logits
    with steering.on(model, "sw") as fired:
        steered = model(ids).logits
        assert fired == dict.fromkeys(steering.layers, 1)
    assert not torch.allclose(steered, plain, atol=1e-3)
    with steering.on(model, "zh") as fired:
        model.generate(ids, max_new_tokens=5, min_new_tokens=5, do_sample=False)
        assert fired == dict.fromkeys(steering.layers, 5)
    with steering.on(model, "en"):
        assert torch.allclose(model(ids).logits, plain, atol=1e-5)
    assert torch.equal(model(ids).logits, plain)


@pytest.mark.parametrize("method", METHODS)
def test_decoding_with_the_cache_is_steered_as_the_whole_text(
    method: str, variants: dict[str, Path], model: Any
) -> None:
    ids = torch.tensor([[1, 40, 41, 42]])
    with Steering.load(variants[method]).on(model, "sw"):
        out = model.generate(
            ids, max_new_tokens=6, do_sample=False, output_logits=True, return_dict_in_generate=True
        )
        whole = model(out.sequences).logits[0, 3:-1]
    assert torch.allclose(torch.cat(out.logits), whole, atol=1e-4)


def test_recover_leaves_the_first_token_alone_and_keeps_every_norm(
    variants: dict[str, Path], model: Any
) -> None:
    steering = Steering.load(variants["recover"])
    ids = torch.tensor([[1, 40, 41, 42]])
    states: dict[str, torch.Tensor] = {}

    def after(name: str) -> Any:
        return lambda _m, _i, output: states.update({name: output})

    first = model.model.layers[0]
    # A hook that is older than the steering sees the layer's own state; a later one sees the steered one.
    with torch.no_grad():
        before = first.register_forward_hook(after("before"))
        with steering.on(model, "sw"):
            later = first.register_forward_hook(after("after"))
            model(ids)
        before.remove()
        later.remove()
    old, new = states["before"][0], states["after"][0]
    assert torch.equal(old[0], new[0])
    assert not torch.allclose(old[1:], new[1:], atol=1e-3)
    assert torch.allclose(old.norm(dim=-1), new.norm(dim=-1), atol=1e-5)


def test_every_state_is_over_the_border_after_liseco(variants: dict[str, Path], model: Any) -> None:
    steering = Steering.load(variants["liseco"])
    ids = torch.tensor([[40, 41, 42]])
    states: list[torch.Tensor] = []
    along, threshold = steering.directions[2]["sw"], steering.thresholds[2]["sw"]
    with torch.no_grad():
        assert (model(ids, output_hidden_states=True).hidden_states[3] @ along < threshold).any()
        with steering.on(model, "sw"):
            handle = model.model.layers[2].register_forward_hook(lambda _m, _i, o: states.append(o))
            model(ids)
        handle.remove()
    assert (states[0] @ along >= threshold - 1e-4).all()


def test_settings_that_cannot_be_met(folder: Path, data: Path, tmp_path: Path) -> None:
    for method, settings, message in (
        ("diffmean", {"layer": 9}, "has layers 0 to 3"),
        ("diffmean", {"strength": 0}, "would change nothing"),
        ("recover", {"strength": 0}, "would change nothing"),
        ("recover", {"layers": []}, "names no layer"),
        ("recover", {"text_items": 0}, "text_items is 0"),
        ("liseco", {"error": 0.5}, "below 0.5"),
        ("liseco", {"penalty": 0}, "above 0"),
        ("liseco", {"strength": 1}, "no setting strength"),
        ("diffmean", {"text": str(tmp_path / "none.jsonl")}, "no parallel data"),
    ):
        with pytest.raises(UserError, match=message):
            methods.train(make_job(folder, data, tmp_path / "out", method, **settings))
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("method", METHODS)
def test_lm_eval_steers_towards_the_language_of_each_item(
    method: str, folder: Path, variants: dict[str, Path]
) -> None:
    from lm_eval.api.instance import Instance

    from lens_eval.backends.steered import SteeredLM

    lm = SteeredLM(str(folder), str(variants[method]), device="cpu", dtype="float32", batch_size=4)
    scored = [
        Instance("loglikelihood", {"language": code}, ("What follows 3?", " It is 5."), 0)
        for code in ("sw", "en", "zh", "sw")
    ]
    found = [round(score, 4) for score, _ in lm.loglikelihood(scored, disable_tqdm=True)]
    assert found[0] == found[3]
    assert len(set(found)) == 3
