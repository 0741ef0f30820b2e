"""The three losses against their equations, and the weights that switch them off."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from lens_eval.base.errors import UserError
from lens_train.config import LensConfig
from lens_train.decoder import Decoder
from lens_train.losses import Objective, Units, align_loss, retain_loss, separate_loss
from lens_train.subspace import Subspaces

WIDTH = 12
LANGUAGES = ("en", "zh", "sw")


def make(**settings: Any) -> Objective:
    generator = torch.Generator().manual_seed(0)
    means = {code: torch.randn(3, WIDTH, generator=generator) for code in LANGUAGES}
    config = LensConfig(languages=LANGUAGES, scale_free=False, **settings)
    return Objective.make(config, Subspaces.from_means(means, "en", 2, {}), [2], torch.device("cpu"))


def states(seed: int, tokens: int = 5) -> Tensor:
    return torch.randn(1, tokens, WIDTH, generator=torch.Generator().manual_seed(seed))


def read(objective: Objective, seed: int) -> dict[str, list[Any]]:
    return {
        code: [objective.keep(states(seed + 7 * item + number), code) for item in range(2)]
        for number, code in enumerate(objective.languages)
    }


def test_separate_is_zero_where_the_specific_part_moved_by_the_target() -> None:
    objective = make()
    before = torch.randn(4, 1, WIDTH)
    target = objective.targets["zh"]
    outside = torch.randn(4, 1, WIDTH)
    outside -= torch.einsum("blw,lrw,lrv->blv", outside, objective.basis, objective.basis)
    assert float(separate_loss(before + target + outside, before, objective.basis, target).max()) < 1e-10
    expected = target.square().mean()
    assert torch.allclose(separate_loss(before, before, objective.basis, target), expected.expand(4))


def test_align_sees_only_the_agnostic_line() -> None:
    objective = make()
    first = torch.randn(4, 1, WIDTH)
    along = first + 2 * objective.line
    across = first + torch.einsum("br,lrw->blw", torch.randn(4, 2), objective.basis)
    assert torch.allclose(align_loss(first, along, objective.line), torch.tensor(4 / WIDTH).expand(4))
    assert float(align_loss(first, across, objective.line).max()) < 1e-10


def test_retain() -> None:
    assert float(retain_loss(torch.ones(1, 3), torch.zeros(1, 3))) == 1


def test_displacement_scales_the_target_and_weight_the_loss() -> None:
    plain, doubled, weighted = make(), make(displacement={"zh": 2.0}), make(separate_weight=2.0)
    assert torch.equal(doubled.targets["zh"], 2 * plain.targets["zh"])
    assert torch.equal(doubled.targets["sw"], plain.targets["sw"])
    now, before = read(plain, 0), read(plain, 100)
    terms = plain.terms(now, before)
    assert torch.equal(terms["separate.zh"], weighted.terms(now, before)["separate.zh"])
    extra = weighted.total(terms) - plain.total(terms)
    assert torch.allclose(extra, terms["separate.zh"] + terms["separate.sw"])
    assert torch.allclose(plain.total(terms), torch.stack(list(terms.values())).sum(dim=0))


@pytest.mark.parametrize(
    ("off", "languages"),
    [
        (["retain_weight"], LANGUAGES),
        (["separate_weight"], LANGUAGES),
        (["align_weight"], LANGUAGES),
        (["align_weight", "retain_weight"], ("zh", "sw")),
        (["align_weight", "separate_weight"], ("en",)),
    ],
)
def test_weight_zero_leaves_a_term_out(off: list[str], languages: tuple[str, ...]) -> None:
    objective = make(**dict.fromkeys(off, 0.0))
    assert objective.languages == languages, "prompts that no loss reads are not run"
    terms = objective.terms(read(objective, 0), read(objective, 100))
    left = {"retain", "separate", "align"} - {name.removesuffix("_weight") for name in off}
    assert {name.partition(".")[0] for name in terms} == left
    assert objective.total(terms).shape == (2,)


def test_all_weights_zero_is_refused() -> None:
    with pytest.raises(UserError, match="nothing to train"):
        make(align_weight=0, separate_weight=0, retain_weight=0)


def test_retain_over_tokens_sees_what_the_mean_does_not() -> None:
    mean, tokens = make(), make(retain_over="tokens")
    before = states(1)
    shift = torch.randn(1, 1, WIDTH)
    now = before + torch.cat([shift, -shift, torch.zeros(1, 3, WIDTH)], dim=1)
    kept = [objective.keep(now, "en")[1] for objective in (mean, tokens)]
    then = [objective.keep(before, "en")[1] for objective in (mean, tokens)]
    assert float(retain_loss(kept[0], then[0])) < 1e-10
    assert float(retain_loss(kept[1], then[1])) > 1e-3


FAMILIES: dict[str, Any] = {
    "llama": transformers.LlamaConfig(),
    "gemma3": transformers.Gemma3TextConfig(head_dim=8),
    "gpt2": transformers.GPT2Config(n_inner=48, n_positions=64),
    "gpt_neox": transformers.GPTNeoXConfig(),
}


def decoder(family: str, seed: int = 0) -> Decoder:
    """A random decoder whose final norm has gains of very different size."""
    config = FAMILIES[family]
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 64}
    for name, value in {**sizes, "intermediate_size": 48, "num_key_value_heads": 4}.items():
        if hasattr(config, name):
            setattr(config, name, value)
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    made = Decoder(model)
    norm = next(getattr(made.base, name) for name in NORMS if hasattr(made.base, name))
    norm.weight.data = torch.exp(1.5 * torch.randn(32))
    return made


NORMS = ("norm", "ln_f", "final_layer_norm")


@pytest.mark.parametrize("family", FAMILIES)
def test_measured_states_have_mean_square_one(family: str) -> None:
    """Whatever the gain of the final norm; the states themselves, the control, are far from it."""
    made = decoder(family)
    ids = torch.arange(1, 13).view(2, 6)
    states = made(ids, torch.ones_like(ids))[None].detach()
    units = Units.of(made, [1], {"en": torch.ones(2, 32)})
    sizes = units(states).square().mean(dim=-1)
    assert torch.allclose(sizes, torch.ones_like(sizes), atol=0.05)
    assert abs(float(states.square().mean()) - 1) > 1


def test_a_model_without_a_final_norm_is_measured_by_its_mean_states() -> None:
    made = decoder("llama")
    made.base.norm = torch.nn.Identity()
    assert made.final_norm() is None
    units = Units.of(made, [1], {"en": torch.full((2, 32), 5.0)})
    assert torch.allclose(units.gain, torch.tensor(5.0, dtype=torch.float64))


def test_a_dimension_that_the_norm_switches_off_counts_for_nothing() -> None:
    made = decoder("llama")
    made.base.norm.weight.data[3] = 0
    units = Units.of(made, [1], {"en": torch.ones(2, 32)})
    states = torch.randn(1, 5, 32)
    assert bool((units(states)[..., 3] == 0).all())
    assert bool(units(states).isfinite().all())


def test_what_is_moved_does_not_depend_on_the_gain_of_the_final_norm() -> None:
    """A control: in the released objective it does."""
    generator = torch.Generator().manual_seed(1)
    normed = {code: torch.randn(1, 6, WIDTH, generator=generator) for code in LANGUAGES}
    later = {code: own + 0.1 * torch.randn(1, 6, WIDTH, generator=generator) for code, own in normed.items()}
    means = {code: own.mean(dim=1) for code, own in normed.items()}

    def loss(gain: Tensor, measured: bool) -> Tensor:
        units = Units(gain[None].double(), torch.zeros(1, WIDTH).double()) if measured else None
        found = Subspaces.from_means({code: own * gain for code, own in means.items()}, "en", 2, {})
        config = LensConfig(LANGUAGES)
        objective = Objective.make(config, found, [0], torch.device("cpu"), units)
        parts = [
            {code: [objective.keep(own * gain, code)] for code, own in states.items()}
            for states in (later, normed)
        ]
        terms = objective.terms(parts[0], parts[1])
        return torch.stack([term for name, term in terms.items() if name != "retain"])

    gains = torch.ones(WIDTH), torch.exp(2 * torch.randn(WIDTH, generator=generator))
    plain, scaled = (loss(gain, True) for gain in gains)
    assert torch.allclose(plain, scaled, rtol=1e-4)
    plain, scaled = (loss(gain, False) for gain in gains)
    assert float((scaled / plain).log().abs().max()) > 0.5


def test_a_direction_of_middle_length_is_a_loss_of_one() -> None:
    """In every model: a term that nothing was done for yet is 1 for the language in the middle."""
    generator = torch.Generator().manual_seed(2)
    codes = ("en", "zh", "sw", "ar")
    means = {code: 40 * torch.randn(1, WIDTH, generator=generator) for code in codes}
    found = Subspaces.from_means(means, "en", 3, {})
    units = Units(torch.full((1, WIDTH), 7.0), torch.zeros(1, WIDTH))
    objective = Objective.make(LensConfig(codes), found, [0], torch.device("cpu"), units)
    kept = {code: [objective.keep(mean[None], code)] for code, mean in means.items()}
    terms = objective.terms(kept, kept)
    separate = sorted(float(terms[f"separate.{code}"]) for code in ("zh", "sw", "ar"))
    assert separate[1] == pytest.approx(1, rel=1e-3)
    assert separate[0] < 1 < separate[2]


def test_the_place_where_a_reply_begins_is_retained_as_much_as_all_tokens() -> None:
    before = torch.zeros(1, 4, WIDTH)
    first, last = before.clone(), before.clone()
    first[0, 0], last[0, -1] = 1.0, 1.0
    found = {}
    for over in ("tokens", "reply"):
        objective = make(retain_over=over)
        found[over] = [float(objective.retained(now, before)) for now in (first, last)]
    assert found["tokens"] == pytest.approx([1 / 4, 1 / 4])
    assert found["reply"] == pytest.approx([1 / 4, 1 / 4 + 1])


def test_subspaces_of_an_older_version_are_refused() -> None:
    units = Units(torch.ones(1, WIDTH), torch.zeros(1, WIDTH))
    old = Subspaces.from_means({code: torch.randn(1, WIDTH) for code in LANGUAGES}, "en", 2, {})
    old = dataclasses.replace(old, means={})
    with pytest.raises(UserError, match="Run `lens probe` again"):
        Objective.make(LensConfig(LANGUAGES), old, [0], torch.device("cpu"), units)
