"""The three losses against their equations, and the weights that switch them off."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lens_eval.errors import UserError
from lens_train.config import LensConfig
from lens_train.losses import Objective, align_loss, retain_loss, separate_loss
from lens_train.subspace import Subspaces

WIDTH = 12
LANGUAGES = ("en", "zh", "sw")


def make(**settings: Any) -> Objective:
    generator = torch.Generator().manual_seed(0)
    means = {code: torch.randn(3, WIDTH, generator=generator) for code in LANGUAGES}
    config = LensConfig(languages=LANGUAGES, **settings)
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
