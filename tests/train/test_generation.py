"""Greedy replies: the tokens of `generate`, in little memory; loops are stopped, whoever has ended leaves."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
import torch
import transformers
from test_families import FAMILIES, build

from lens_train import generation
from lens_train.generation import Reply, loop_period

MORE = {
    "opt": lambda: transformers.OPTConfig(
        vocab_size=96,
        hidden_size=32,
        ffn_dim=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=64,
        word_embed_proj_dim=32,
    ),
    "mamba": lambda: transformers.MambaConfig(
        vocab_size=96, hidden_size=32, num_hidden_layers=4, state_size=8
    ),
}
CHANCE = random.Random(0)
PROMPTS = [[CHANCE.randrange(3, 96) for _ in range(length)] for length in (3, 12, 7, 5, 1, 9, 4, 20)]
TOKENS = 24


def make(family: str) -> Any:
    if family in FAMILIES:
        model = build(family)
    else:
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(MORE[family]()).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.requires_grad_(False)
    model.generation_config.eos_token_id = None
    return model


def alone(model: Any, prompt: list[int], ends: list[int], **settings: Any) -> Reply:
    """What `generate` of transformers gives for one prompt."""
    ids = torch.tensor([prompt])
    output = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=TOKENS,
        do_sample=False,
        eos_token_id=ends,
        pad_token_id=0,
        **settings,
    )
    tokens = output[0, len(prompt) :].tolist()
    end = next((place for place, token in enumerate(tokens) if token in ends), None)
    return Reply(tokens[:end], end is not None, False)


def frequent(replies: list[Reply]) -> list[int]:
    """Tokens that end some of these replies early, but not at once."""
    return [token for token, _ in Counter(t for reply in replies for t in reply.tokens[2:]).most_common(4)]


@pytest.mark.parametrize("family", [*FAMILIES, *MORE])
def test_replies_are_those_of_generate(family: str) -> None:
    model = make(family)
    assert generation.steps_by_hand(model) == (family != "mamba")
    ends = frequent([alone(model, prompt, [95]) for prompt in PROMPTS])
    expected = [alone(model, prompt, ends) for prompt in PROMPTS]
    assert any(reply.ended for reply in expected), "a control: rows leave the batch"
    assert len({len(reply.tokens) for reply in expected}) > 1 or family == "opt"
    for budget in (10_000, 90, 1):
        assert generation.generate(model, None, PROMPTS, TOKENS, budget, ends=ends) == expected


@pytest.mark.parametrize(
    ("setting", "by_hand"),
    [({"repetition_penalty": 1.5}, True), ({"no_repeat_ngram_size": 2}, False)],
    ids=["penalty", "n-grams"],
)
def test_settings_that_change_greedy_replies_are_honoured(setting: dict[str, Any], by_hand: bool) -> None:
    model = make("llama")
    prompts = [prompt[:1] + prompt for prompt in PROMPTS]
    plain = [alone(model, prompt, [95]) for prompt in prompts]
    expected = [alone(model, prompt, [95], **setting) for prompt in prompts]
    assert expected != plain, "a control: the setting changes replies"
    for name, value in setting.items():
        setattr(model.generation_config, name, value)
    assert generation.steps_by_hand(model) == by_hand
    assert generation.generate(model, None, prompts, TOKENS, 10_000, ends=[95]) == expected


@pytest.mark.parametrize("period", [1, 2, 5, 8, 9, 32])
def test_a_loop_is_a_passage_repeated_eight_times_over_64_tokens(period: int) -> None:
    passage = list(range(period))
    least = max(8 * period, 64)
    repeated = (passage * 64)[:least]
    assert loop_period(repeated) == period
    assert loop_period([90, 91, *repeated]) == period
    assert loop_period(repeated[1:]) is None, "one token less"
    assert loop_period([*repeated, 99]) is None, "not at the end"
    assert loop_period([*repeated[:20], 99, *repeated[21:]]) is None


def test_a_longer_period_is_no_loop() -> None:
    assert loop_period(list(range(33)) * 20) is None


@pytest.mark.parametrize("period", [1, 3, 32])
def test_loops_are_found_step_by_step_where_the_whole_tells_them(period: int) -> None:
    torch.manual_seed(period)
    streams = torch.randint(0, 3, (5, 400))
    streams[0, 7:] = torch.arange(393) % period
    streams[3, 100:] = torch.arange(300) % period
    loops = generation._Loops(5, torch.device("cpu"))
    for place in range(400):
        found = loops.add(streams[:, place]).tolist()
        assert found == [loop_period(row[: place + 1].tolist()) is not None for row in streams]
    assert found == [True, False, False, True, False]


def looping() -> Any:
    """A model that repeats itself: each token brings about the next one, in cycles of 3."""
    config = transformers.LlamaConfig(
        vocab_size=96, hidden_size=96, intermediate_size=8, num_hidden_layers=1, num_attention_heads=4
    )
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.model.norm.weight.fill_(1.0)
        model.model.embed_tokens.weight.copy_(torch.eye(96))
        following = torch.arange(96)
        following[:3] = torch.tensor([1, 2, 0])
        following[3:90] += 1  # 3, 4, 5 ... count up to 90, which stays
        model.lm_head.weight[following, torch.arange(96)] = 1.0
    model.requires_grad_(False)
    return model


def test_a_row_in_a_loop_is_stopped_and_says_so() -> None:
    model = looping()
    prompts = [[0], [5, 6], [60]]
    stopped = generation.generate(model, None, prompts, 200, 10_000, ends=[89])
    assert stopped[0] == Reply(([1, 2, 0] * 40)[:64], False, True)
    assert stopped[1] == Reply([*range(7, 89)], True, False)
    assert stopped[2] == Reply([*range(61, 89)], True, False)
    whole = generation.generate(model, None, prompts, 200, 10_000, ends=[89], stop_loops=False)
    assert whole[0] == Reply(([1, 2, 0] * 100)[:200], False, True), "a control: it would go on"
    assert whole[1:] == stopped[1:]


def test_a_row_that_has_ended_is_computed_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    model = looping()
    rows: list[int] = []
    model.model.layers[0].register_forward_hook(lambda _m, _i, output: rows.append(len(output)))
    generation.generate(model, None, [[0], [5], [60]], 200, 10_000, ends=[89])
    assert rows == [3] * 29 + [2] * 35 + [1] * 20  # 60..89 ends after 29 steps, the loop after 64, 5..89 last


def test_frozen_rows_are_handed_over_contiguous() -> None:
    model = make("llama")
    seen: list[bool] = []
    model.lm_head.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0].is_contiguous()))
    model(input_ids=torch.ones(2, 3, dtype=torch.long), logits_to_keep=1)
    assert seen == [False], "a control: transformers hands over a strided tensor"
    with generation.contiguous_output(model):
        model(input_ids=torch.ones(2, 3, dtype=torch.long), logits_to_keep=1)
    model(input_ids=torch.ones(2, 3, dtype=torch.long), logits_to_keep=1)
    assert seen == [False, True, False]


def test_batches_are_sized_by_tokens_and_by_the_vocabulary() -> None:
    small, large = make("llama"), make("llama")
    assert generation.batch_rows(small, 100, 4096) == 40
    assert generation.batch_rows(small, 5000, 4096) == 1
    large.config.vocab_size = 262_144
    by_logits = generation.MEMORY // (
        262_144 * (4 + 8) + 10 * generation._cache_bytes(large.config, large.dtype)
    )
    assert generation.batch_rows(large, 10, 10**6) == by_logits < 200
    large.config.num_hidden_layers = 4_000
    assert generation.batch_rows(large, 1000, 10**6) < by_logits, "keys and values count"


MEASURE = """
import json, sys, torch, transformers
from lens_train import generation
from lens_train.memory import peak_memory
way, dtype = sys.argv[1], getattr(torch, sys.argv[2])
torch.manual_seed(0)
config = transformers.LlamaConfig(
    vocab_size=262_144, hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4
)
model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
model.requires_grad_(way == "trainable")
ids = torch.randint(0, 1000, (20, 8))
if way == "ours":
    replies = generation.generate(model, None, ids.tolist(), 4, 10_000, ends=[1])
else:
    with torch.no_grad():
        model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=4, do_sample=False,
            pad_token_id=0, eos_token_id=1)
print(json.dumps(peak_memory(torch.device("cpu"))))
"""


def peak(way: str, dtype: str) -> int:
    command = [sys.executable, "-c", MEASURE, way, dtype]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_frozen_weights_take_no_more_memory_than_trainable_ones(dtype: str) -> None:
    plain = peak("trainable", dtype)
    assert peak("ours", dtype) < 1.1 * plain
    if dtype == "bfloat16":
        assert peak("frozen", dtype) - plain > 10 * 262_144 * 64 * 2, "a control: copies of the output matrix"
