"""What a steered layer of vLLM hands on is the changed hidden state, in either form that its layers have."""

from __future__ import annotations

import torch
from torch import Tensor

from lens_eval.backends.vllm_steering import changed


def _itself(state: Tensor) -> Tensor:
    return state.clone()


def test_a_layer_that_hands_on_the_state_itself() -> None:
    state = torch.randn(5, 8)
    assert torch.equal(changed(state, _itself), 2 * state)


def test_a_layer_that_hands_on_two_halves_is_changed_in_their_sum() -> None:
    hidden, residual = torch.randn(5, 8), torch.randn(5, 8)
    change, state = changed((hidden, residual), _itself)
    assert torch.equal(change + state, 2 * (hidden + residual))
    # Control: it is not the first half alone that is changed.
    assert not torch.allclose(change + state, 2 * hidden + residual)
    assert torch.equal(changed((hidden, None), _itself)[0], 2 * hidden)


def test_the_halves_can_be_written_into_without_touching_each_other() -> None:
    """The next norm of vLLM writes into both; a change of nothing is a zero that stands for all numbers."""
    hidden, residual = torch.randn(5, 8), torch.randn(5, 8)
    change, state = changed((hidden, residual), lambda state: torch.zeros((), dtype=state.dtype))
    assert change.shape == state.shape
    before = state.clone()
    change[0, 0] = 1.0
    assert change.count_nonzero() == 1
    assert torch.equal(state, before)
