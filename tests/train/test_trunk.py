"""Batches by length, padding, and the last real token."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lens_train.batches import batch_sizes, last_token, make_batches, pad

CPU = torch.device("cpu")


@given(st.lists(st.integers(1, 30), min_size=1, max_size=40), st.integers(10, 100))
def test_every_prompt_is_in_one_batch_within_the_budget(lengths: list[int], budget: int) -> None:
    prompts = [[number + 1] * length for number, length in enumerate(lengths)]
    batches = list(make_batches(prompts, range(len(prompts)), budget, CPU))
    assert sorted(row for batch in batches for row in batch.rows) == list(range(len(prompts)))
    for batch in batches:
        assert batch.ids.numel() <= budget or len(batch.rows) == 1
        for place, row in enumerate(batch.rows):
            assert batch.ids[place][batch.mask[place].bool()].tolist() == prompts[row]
    padded = sum(batch.ids.numel() for batch in batches)
    assert padded <= len(prompts) * max(lengths), "never worse than one batch as wide as the longest"


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_last_real_token_through_the_mask(side: str) -> None:
    prompts = [[5, 6, 7], [8], [9, 10]]
    batch = pad(prompts, range(3), CPU, side, fill=3)  # type: ignore[arg-type]
    states = batch.ids.unsqueeze(-1).float()
    assert last_token(states, batch.mask).flatten().tolist() == [7, 8, 10]
    at_the_end = states[:, -1].flatten().tolist()
    assert (at_the_end == [7, 8, 10]) == (side == "left"), "a control: position -1 is wrong on the right"


def cost(lengths: list[int], sizes: list[int], launch: int) -> int:
    begins = [sum(sizes[:at]) for at in range(len(sizes))]
    return sum(lengths[begin] * size + launch for begin, size in zip(begins, sizes, strict=True))


@given(st.lists(st.integers(1, 30), min_size=1, max_size=9), st.integers(10, 100), st.integers(0, 40))
def test_no_other_cut_costs_less(lengths: list[int], budget: int, launch: int) -> None:
    lengths = sorted(lengths, reverse=True)
    sizes = batch_sizes(lengths, budget, launch)
    found = []
    for cuts in itertools.product([False, True], repeat=len(lengths) - 1):
        bounds = [0, *(at + 1 for at, cut in enumerate(cuts) if cut), len(lengths)]
        each = [(lengths[begin], end - begin) for begin, end in itertools.pairwise(bounds)]
        if all(size == 1 or width * size <= budget for width, size in each):
            found.append(cost(lengths, [size for _, size in each], launch))
    assert cost(lengths, sizes, launch) == min(found)


def test_padding_is_saved_where_it_costs_more_than_a_batch() -> None:
    lengths = [100, 98, 20, 19, 18]
    assert batch_sizes(lengths, 1000, launch=16) == [2, 3]
    assert batch_sizes(lengths, 1000, launch=1000) == [5]
    prompts = [[1] * length for length in lengths]
    assert [len(batch.rows) for batch in make_batches(prompts, range(5), 1000, CPU)] == [2, 3]
    together = [len(batch.rows) for batch in make_batches(prompts, range(5), 1000, CPU, "left")]
    assert together == [5], "a control: what is generated from stays in one batch"
