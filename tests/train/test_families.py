"""Every family of decoders: frozen layers run once plus the top equals the model's plain forward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from lens_eval.base.errors import UserError
from lens_train.batches import last_token, pad
from lens_train.config import LensConfig
from lens_train.decoder import Decoder
from lens_train.probing import read_states
from lens_train.trunk import Trunk

SMALL = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
ALL_HEADS = {**SMALL, "num_key_value_heads": 4}
ROPE = {"rope_type": "default", "rope_theta": 10000.0}
FAMILIES: dict[str, Callable[[], Any]] = {
    "llama": lambda: transformers.LlamaConfig(**SMALL),
    "mistral": lambda: transformers.MistralConfig(**SMALL, sliding_window=4),
    "qwen2": lambda: transformers.Qwen2Config(
        **SMALL, use_sliding_window=True, sliding_window=4, max_window_layers=2
    ),
    "qwen3": lambda: transformers.Qwen3Config(**SMALL, head_dim=8),
    "gemma2": lambda: transformers.Gemma2Config(**SMALL, head_dim=8, sliding_window=4),
    "gemma3": lambda: transformers.Gemma3TextConfig(
        **SMALL, head_dim=8, sliding_window=4, layer_types=["sliding_attention", "full_attention"] * 2
    ),
    "phi3": lambda: transformers.Phi3Config(**SMALL, sliding_window=4),
    "olmo2": lambda: transformers.Olmo2Config(**SMALL),
    "gpt_neox": lambda: transformers.GPTNeoXConfig(**ALL_HEADS),
    "gpt2": lambda: transformers.GPT2Config(vocab_size=96, n_embd=32, n_layer=4, n_head=4, n_positions=64),
    "bloom": lambda: transformers.BloomConfig(vocab_size=96, hidden_size=32, n_layer=4, n_head=4),
    "mixtral": lambda: transformers.MixtralConfig(**SMALL, num_local_experts=4, num_experts_per_tok=2),
    "qwen2_moe": lambda: transformers.Qwen2MoeConfig(
        **SMALL, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, decoder_sparse_step=1
    ),
}
PROMPTS = [
    [*range(3, 3 + length), 7, 8, 9]  # more tokens than the sliding windows hold
    for length in (11, 2, 6)
]


def build(family: str) -> Any:
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(FAMILIES[family]()).eval()
    with torch.no_grad():  # larger than the usual initialisation, so that layers and positions matter
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def plain(model: Any, prompt: list[int]) -> list[Tensor]:
    """The states of one prompt alone, by the model's own forward pass; per layer (tokens, width)."""
    with torch.no_grad():
        output = model(input_ids=torch.tensor([prompt]), output_hidden_states=True)
    return [states[0] for states in output.hidden_states[1:]]


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    assert float((ours - theirs).detach().abs().max()) < 1e-5 * max(1.0, float(theirs.abs().max()))


@pytest.mark.parametrize("family", FAMILIES)
def test_released_probing_reads_the_last_column_of_the_padded_prompts(family: str) -> None:
    model, fill = build(family), 5
    prompts = [*PROMPTS, [3, 4, 30], [3, 4]]
    config = LensConfig(("en", "zh"), compat="official")
    ours = read_states(Decoder(model), prompts, config, fill)
    whole = pad(prompts, range(len(prompts)), torch.device("cpu"), fill=fill)
    with torch.no_grad():
        output = model(input_ids=whole.ids, attention_mask=whole.mask, output_hidden_states=True)
    theirs = torch.stack([states[:, -1] for states in output.hidden_states[1:]], dim=1)
    assert_close(ours, theirs)
    right = read_states(Decoder(model), prompts, LensConfig(("en", "zh")))
    assert float((right - theirs)[1].abs().max()) > 1e-3, "a control: no state of a real token"
    assert_close(right[0], theirs[0])


@pytest.mark.parametrize("family", FAMILIES)
def test_trunk_and_top_equal_the_plain_forward_pass(family: str) -> None:
    model = build(family)
    decoder = Decoder(model)
    expected = [plain(model, prompt) for prompt in PROMPTS]
    for start in (0, 1, 2, 3):
        trunk = Trunk.build(decoder, PROMPTS, range(len(PROMPTS)), start, budget=64)
        tops = trunk.top(range(len(PROMPTS)), range(start, 4))
        for row, states in enumerate(expected):
            for place, layer in enumerate(range(start, 4)):
                assert_close(tops[row][place], states[layer])


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", FAMILIES)
def test_padding_on_either_side_changes_nothing(family: str, side: Any) -> None:
    model = build(family)
    decoder = Decoder(model)
    batch = pad(PROMPTS, range(len(PROMPTS)), torch.device("cpu"), side)
    found: dict[int, Tensor] = {}
    taps = {layer: (lambda states, layer=layer: found.__setitem__(layer, states)) for layer in range(4)}
    with torch.no_grad():
        middle = decoder(batch.ids, batch.mask, stop=2)
        whole = decoder(batch.ids, batch.mask, taps=taps)
        cut = decoder(batch.ids, batch.mask, start=2, hidden=middle)
    real = batch.mask.bool()
    assert_close(cut[real], whole[real])
    for row, prompt in enumerate(PROMPTS):
        states = plain(model, prompt)
        for layer in range(4):
            assert_close(found[layer][row][real[row]], states[layer])
            assert_close(last_token(found[layer], batch.mask)[row], states[layer][-1])


def test_the_sliding_window_matters_here() -> None:
    """A control: without its window the same Mistral gives other states, so the windows above were used."""
    model = build("mistral")
    windowed = plain(model, PROMPTS[0])[-1]
    model.config.sliding_window = None
    assert float((plain(model, PROMPTS[0])[-1] - windowed).abs().max()) > 1e-2


def test_the_forward_pass_is_left_as_it_was() -> None:
    model = build("llama")
    before = plain(model, PROMPTS[0])[-1]
    decoder = Decoder(model)
    Trunk.build(decoder, PROMPTS, [0], 2, budget=64).top([0], [3])
    assert torch.equal(plain(model, PROMPTS[0])[-1], before)
    assert not any("forward" in layer.__dict__ for layer in decoder.layers)


@pytest.mark.parametrize("family", ["llama", "gpt2", "mixtral"])
def test_gradients_equal_those_of_the_plain_forward_pass(family: str) -> None:
    model = build(family)
    decoder = Decoder(model)
    top = list(decoder.layers[2:].parameters())
    whole = sum(
        model(input_ids=torch.tensor([prompt]), output_hidden_states=True)
        .hidden_states[-1][0, -1]
        .square()
        .sum()
        for prompt in PROMPTS
    )
    expected = torch.autograd.grad(whole, top)
    trunk = Trunk.build(decoder, PROMPTS, range(3), 2, budget=64)
    ours = sum(states[0, -1].square().sum() for states in trunk.top(range(3), [3]).values())
    for first, second in zip(torch.autograd.grad(ours, top), expected, strict=True):
        assert_close(first, second)


def test_models_whose_layers_cannot_be_found_are_refused_by_name() -> None:
    model = build("llama")
    model.model.layers = model.model.layers[:3]
    with pytest.raises(UserError, match=r"cannot find the 4 decoder layers of .*llama.*: none"):
        Decoder(model)
    model = build("llama")
    model.model.second = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(4))
    with pytest.raises(UserError, match=r"llama.*: layers, second"):
        Decoder(model)


def test_layers_that_share_more_than_the_hidden_state_are_refused_by_name() -> None:
    model = build("llama")
    first, last = model.model.layers[0], model.model.layers[3]
    seen: list[Tensor] = []
    first.register_forward_hook(lambda _m, _i, output: seen.append(output))
    last.register_forward_hook(lambda _m, _i, output: output + seen[-1].norm() * len(seen))
    with pytest.raises(UserError, match=r"llama.* cannot be cut between layers"):
        Decoder(model)
