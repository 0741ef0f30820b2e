"""Keys and values reused: the same states and gradients as without, for every family."""

from __future__ import annotations

import pytest
import torch
from test_families import FAMILIES, assert_close, build, plain

from lens_train.batches import shared_tokens
from lens_train.decoder import Decoder
from lens_train.trunk import Trunk

HEAD = [3, 4, 5, 6, 7, 8]  # longer than the sliding windows
PROMPTS = [[*HEAD, *rest] for rest in ([11, 12, 13, 14, 15, 16, 17, 18], [21, 22], [31, 32, 33, 34, 35])]


@pytest.mark.parametrize("family", FAMILIES)
def test_last_states_and_gradients_equal_those_of_whole_prompts(family: str) -> None:
    model = build(family)
    decoder = Decoder(model)
    assert decoder.reuses_past
    assert shared_tokens(decoder, PROMPTS) == len(HEAD)
    top = list(decoder.layers[2:].parameters())
    expected = [plain(model, prompt) for prompt in PROMPTS]
    loss = sum(
        model(input_ids=torch.tensor([prompt]), output_hidden_states=True)
        .hidden_states[-1][0, -1]
        .square()
        .sum()
        for prompt in PROMPTS
    )
    gradients = torch.autograd.grad(loss, top, allow_unused=True)
    trunk = Trunk.build(decoder, PROMPTS, range(3), 2, budget=64)
    assert {len(states) for states in trunk.hidden.values()} == {8, 2, 5}, "the head is kept once"
    tops = trunk.top(range(3), [2, 3], last_only=range(3))
    for row, states in enumerate(expected):
        assert tops[row].shape[1] == 1
        assert_close(tops[row][0, 0], states[2][-1])
        assert_close(tops[row][1, 0], states[3][-1])
    ours = torch.autograd.grad(sum(t[1, 0].square().sum() for t in tops.values()), top, allow_unused=True)
    for first, second in zip(ours, gradients, strict=True):
        assert (first is None) == (second is None)
        if first is not None and second is not None:
            assert_close(first, second)


def test_a_lower_layer_can_be_the_last_one_read() -> None:
    model = build("mistral")
    trunk = Trunk.build(Decoder(model), PROMPTS, range(3), 1, budget=64)
    tops = trunk.top(range(3), [2], last_only=[0, 2])
    for row, prompt in enumerate(PROMPTS):
        states = plain(model, prompt)[2]
        assert_close(tops[row][0], states if row == 1 else states[-1:])


def test_nothing_is_shared_where_prompts_differ_from_the_start() -> None:
    decoder = Decoder(build("llama"))
    assert shared_tokens(decoder, [[3, 4, 5], [4, 4, 5]]) == 0
    assert shared_tokens(decoder, [[3, 4, 5], [3, 4, 5]]) == 2, "a token is left to run"
    assert shared_tokens(decoder, [[3, 4, 5], [3]]) == 0


def test_a_model_that_takes_no_past_runs_without() -> None:
    """A control: the plain way gives the same."""
    model = build("llama")
    decoder = Decoder(model)
    decoder.reuses_past = False
    trunk = Trunk.build(decoder, PROMPTS, range(3), 2, budget=64)
    assert trunk.head == ()
    tops = trunk.top(range(3), [3], last_only=[1])
    assert tops[0].shape[1] == len(PROMPTS[0])
    for row, prompt in enumerate(PROMPTS):
        assert_close(tops[row][0, -1], plain(model, prompt)[3][-1])
