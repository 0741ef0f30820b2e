"""The mathematics of the split into an agnostic line and a specific subspace, with controls."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lens_eval.base.errors import UserError
from lens_train.files import read_tensors, write_tensors
from lens_train.subspace import RECORD, TENSORS, Subspaces, project, split

WIDTH = 24


def random_means(languages: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(WIDTH, generator=generator) + torch.randn(languages, WIDTH, generator=generator)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 7), st.integers(0, 10_000), st.data())
def test_split(languages: int, seed: int, data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, languages - 1))
    means = random_means(languages, seed).double()
    common, specific = split(means, rank)

    assert torch.allclose(specific @ specific.T, torch.eye(rank, dtype=torch.float64), atol=1e-9)
    assert float((specific @ common).abs().max()) < 1e-8 * float(common.norm())
    states = torch.randn(5, WIDTH, dtype=torch.float64)
    once = project(states, specific)
    assert torch.allclose(project(once, specific), once, atol=1e-9)
    rebuilt = common + project(means - common, specific)
    if rank == languages - 1:
        assert torch.allclose(rebuilt, means, atol=1e-8), "exact at full rank"
    else:
        assert not torch.allclose(rebuilt, means, atol=1e-3), "a control: a lower rank loses something"


@given(st.integers(3, 6), st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_no_other_split_of_that_rank_fits_better(languages: int, seed: int) -> None:
    means = random_means(languages, seed).double()
    common, specific = split(means, 1)
    residual = (means - common - project(means - common, specific)).square().sum()
    values = torch.linalg.svdvals(means - means.mean(dim=0))
    assert torch.allclose(residual, values[1:].square().sum(), rtol=1e-6)


def test_the_means_are_found_again() -> None:
    """Built from a known common vector and known differences, the split finds both; means alone would not."""
    basis = torch.linalg.qr(torch.randn(WIDTH, 3, generator=torch.Generator().manual_seed(1)))[0].T.double()
    means = 5 * basis[0] + torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.5, 4.0]]).double() @ basis[1:]
    common, specific = split(means, 2)
    assert torch.allclose(common, 5 * basis[0], atol=1e-9)
    assert float((basis[1:] - project(basis[1:], specific)).norm()) < 1e-9
    assert not torch.allclose(means.mean(dim=0), 5 * basis[0], atol=1e-1)


def test_directions_are_the_specific_part_of_the_difference() -> None:
    means = {code: random_means(2, seed) for seed, code in enumerate(("en", "zh", "sw"))}
    found = Subspaces.from_means(means, "en", 2, {})
    assert float(found.directions["en"].abs().max()) == 0
    for layer in range(2):
        difference = (means["sw"][layer] - means["en"][layer]).double()
        assert torch.allclose(found.directions["sw"][layer], difference, atol=1e-8), "at full rank, all of it"
    lower = Subspaces.from_means(means, "en", 1, {})
    assert float(lower.directions["sw"][0].norm()) < float(found.directions["sw"][0].norm())


def test_save_and_load(tmp_path: Path) -> None:
    means = {code: random_means(2, seed) for seed, code in enumerate(("en", "zh"))}
    made = Subspaces.from_means(means, "en", 1, {"weights_sha256": "abc", "languages": ["en", "zh"]})
    made.save(tmp_path / "sub")
    assert sorted(file.name for file in (tmp_path / "sub").iterdir()) == [RECORD, TENSORS]
    read = Subspaces.load(tmp_path / "sub")
    assert torch.equal(read.agnostic, made.agnostic)
    assert torch.equal(read.directions["zh"], made.directions["zh"])
    read.require({"weights_sha256": "abc"})
    with pytest.raises(UserError, match="weights_sha256: made with 'abc', asked for 'def'"):
        read.require({"weights_sha256": "def"})


def test_what_is_no_subspace_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no subspaces"):
        Subspaces.load(tmp_path)
    (tmp_path / RECORD).write_text("{}")
    (tmp_path / TENSORS).write_bytes(b"\x08\0\0\0\0\0\0\0half")
    with pytest.raises(UserError, match="holds no subspaces"):
        Subspaces.load(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"agnostic": torch.zeros(2)},
        {"agnostic": torch.full((2, WIDTH), float("nan"))},
        {"specific": torch.zeros(2, 1, WIDTH + 1)},
        {"direction.zh": torch.zeros(3, WIDTH)},
        {"mean.zh": torch.zeros(2, WIDTH, dtype=torch.int64)},
        {"something.zh": torch.zeros(2, WIDTH)},
    ],
    ids=lambda changes: ", ".join(changes),
)
def test_tensors_that_do_not_belong_together_are_refused(tmp_path: Path, changes: dict[str, Tensor]) -> None:
    means = {code: random_means(2, seed) for seed, code in enumerate(("en", "zh"))}
    Subspaces.from_means(means, "en", 1, {}).save(tmp_path)
    tensors, _ = read_tensors(tmp_path / TENSORS, "file of subspaces")
    write_tensors(tmp_path / TENSORS, {**tensors, **changes})
    with pytest.raises(UserError, match="folder of subspaces"):
        Subspaces.load(tmp_path)


def test_subspaces_of_another_size_are_refused() -> None:
    means = {code: random_means(2, seed) for seed, code in enumerate(("en", "zh"))}
    made = Subspaces.from_means(means, "en", 1, {})
    made.require_fitting(2, WIDTH, ("en", "zh"), 1)
    for wrong in (
        (3, WIDTH, ("en",), 1),
        (2, 8, ("en",), 1),
        (2, WIDTH, ("en", "sw"), 1),
        (2, WIDTH, ("en",), 2),
    ):
        with pytest.raises(UserError, match="damaged"):
            made.require_fitting(*wrong)
