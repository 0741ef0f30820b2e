"""Prompts that probing, training and diagnostics have in common are run once; probing in rounds."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tiny_lens
import torch
from torch import Tensor

from lens_train import lens, plan, probing, walk
from lens_train.checkpoint import Checkpoint
from lens_train.config import LensConfig
from lens_train.data import read_prompts
from lens_train.decoder import Decoder, load_model
from lens_train.job import Job
from lens_train.stream import StreamedDecoder
from lens_train.subspace import Subspaces
from lens_train.trunk import Trunk
from lens_train.watch.diagnostics import Watch

LANGUAGES = ("en", "zh", "sw")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_lens.save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_lens.save_prompts(tmp_path_factory.mktemp("data") / "prompts.jsonl", items=12)


@pytest.fixture(scope="module")
def settling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prompts whose directions have a finite standard error after a few items."""
    return tiny_lens.save_prompts(tmp_path_factory.mktemp("settling") / "prompts.jsonl", items=12, texts=1)


def plan_of(model: str, data: Path, output: Path, **settings: Any) -> plan.Plan:
    chosen = {"train_items": 12, "probe_items": 8, **settings}
    return lens.make_plan(Job("lens", model, data, LANGUAGES, output, device="cpu", settings=chosen))


@contextmanager
def tokens_run(decoder: Decoder) -> Iterator[list[int]]:
    """Tokens that the first layer is given, padding included."""
    counts: list[int] = []

    def count(_module: Any, inputs: tuple[Tensor, ...]) -> None:
        counts.append(inputs[0].shape[0] * inputs[0].shape[1])

    handle = decoder.layers[0].mlp.register_forward_pre_hook(count)
    try:
        yield counts
    finally:
        handle.remove()


def everything(plan: plan.Plan, decoder: Decoder, shared: bool) -> tuple[Subspaces, Trunk, Watch | None]:
    """Probe, run the trunk, and read what the diagnostics watch."""
    kept = lens.keep_states(plan, decoder) if shared else None
    subspaces = lens.find_subspaces(plan, decoder, kept)
    prepared = lens.prepare(plan, decoder, kept)
    watch = None if plan.held_out is None else lens.watch_held_out(plan, decoder, prepared, kept)
    return subspaces, prepared.trunk, watch


def close(first: Tensor, second: Tensor) -> bool:
    return float((first - second).abs().max()) < 1e-5 * max(1.0, float(second.abs().max()))


@pytest.mark.parametrize(("diagnose", "probe_items"), [(0, 8), (10, 8), (0, 12), (10, "auto")])
def test_each_prompt_is_run_once_with_the_same_result(
    model: str, data: Path, tmp_path: Path, diagnose: int, probe_items: Any
) -> None:
    """Probed: some or all of the 12 items trained on; watched: 10 of them."""
    found, run = [], []
    for shared in (True, False):
        plan = plan_of(model, data, tmp_path / str(shared), diagnose=diagnose, probe_items=probe_items)
        decoder = Decoder(load_model(model))
        with tokens_run(decoder) as counts:
            found.append(everything(plan, decoder, shared))
        run.append(sum(counts))
    (ours, part, watch), (theirs, other, apart) = found
    assert ours.identity["items"] == theirs.identity["items"] == (8 if probe_items == 8 else 12)
    assert all(close(ours.directions[code], theirs.directions[code]) for code in LANGUAGES)
    assert part.head == other.head
    assert all(torch.equal(part.hidden[row], other.hidden[row]) for row in range(36)), "to the bit"
    if watch is not None and apart is not None:
        assert close(watch.before, apart.before)
    else:
        assert watch is apart is None
    flat = [prompt for prompts in lens.train_prompts(plan).values() for prompt in prompts]
    once = sum(len(prompt) - len(part.head) for prompt in flat)
    assert once <= run[0] < 1.25 * once, "but for padding, each token once"
    passes = ours.identity["items"] / 12 + 1 + diagnose / 12
    assert run[1] > 0.9 * passes * once, "a control: without, each part runs its own"


@pytest.mark.parametrize("tokens", [20, 30])
def test_prompts_that_are_cut_for_probing_are_run_on_their_own(
    model: str, data: Path, tmp_path: Path, tokens: int
) -> None:
    """What is shared is the prompt as it is rendered, not the text."""
    found = []
    for shared in (True, False):
        settings = {"diagnose": 0, "probe_items": 12, "probe_tokens": tokens, "train_tokens": 64}
        plan = plan_of(model, data, tmp_path / str(shared), **settings)
        found.append(everything(plan, Decoder(load_model(model)), shared))
    (ours, part, _), (theirs, other, _) = found
    assert all(close(ours.directions[code], theirs.directions[code]) for code in LANGUAGES)
    assert all(torch.equal(part.hidden[row], other.hidden[row]) for row in range(36))
    probed = probing.probe_prompts(read_prompts(data, LANGUAGES), plan.tokenizer, plan.config)
    flat = {tuple(prompt) for prompts in lens.train_prompts(plan).values() for prompt in prompts}
    both = flat & {tuple(prompt) for prompts in probed.values() for prompt in prompts}
    assert 0 < len(both) < 36, "some are cut"


def test_nothing_is_shared_where_the_release_is_repeated(model: str, data: Path, tmp_path: Path) -> None:
    """It probes with another system message than it trains with."""
    plan = plan_of(model, data, tmp_path, diagnose=0, compat="official")
    assert lens.keep_states(plan, Decoder(load_model(model))) is None


def count_loads(decoder: StreamedDecoder) -> list[int]:
    """Layers read from disk from now on."""
    loaded: list[int] = []
    load = decoder._weights.load
    decoder._weights.load = lambda layer: (loaded.append(layer), load(layer))[1]  # type: ignore[method-assign]
    return loaded


def test_a_streamed_model_is_read_once_for_probe_and_trunk(model: str, data: Path, tmp_path: Path) -> None:
    """Killed after probing, what is kept is taken up from disk."""
    memory = plan_of(model, data, tmp_path / "memory", diagnose=0, probe_items=12)
    expected = everything(memory, Decoder(load_model(model)), True)[1]
    plan = plan_of(model, data, tmp_path / "streamed", diagnose=0, probe_items=12, stream="always")
    decoder = StreamedDecoder(model, CPU, torch.float32)
    loaded = count_loads(decoder)
    kept = lens.keep_states(plan, decoder)
    lens.find_subspaces(plan, decoder, kept)
    assert loaded == [0, 1, 2, 3]
    for start_again in (True, False):
        fresh = StreamedDecoder(model, CPU, torch.float32)
        loaded = count_loads(fresh)
        trunk_again = everything(plan, fresh, True)[1]
        frozen = [] if start_again else [0, 1]
        assert sorted(loaded) == [*frozen, 2, 3], (
            "a control: without the file the frozen layers are run again"
        )
        assert all(close(trunk_again.hidden[row], expected.hidden[row]) for row in range(36))
        (plan.job.output / "training" / lens.TRUNK_STATE).unlink()


def probed(
    name: str, data: Path, folder: Path | None = None, decoder: Decoder | None = None, **settings: Any
) -> Subspaces:
    config = LensConfig(LANGUAGES, **settings)
    texts = read_prompts(data, LANGUAGES, config.most_probed)
    decoder = decoder or Decoder(load_model(name))
    return probing.probe(decoder, texts, Checkpoint.open(name).tokenizer, config, {}, folder)


def test_probing_ends_once_the_directions_have_settled(
    model: str, settling: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "FIRST_ROUND", 5)
    monkeypatch.setattr(probing, "FURTHER_ROUND", 3)
    for settled, items in ((math.inf, 5), (0.0, 12)):
        monkeypatch.setattr(probing, "SETTLED", settled)
        found = probed(model, settling)
        assert found.identity["items"] == items
        expected = probed(model, settling, probe_items=items)
        assert close(found.directions["sw"], expected.directions["sw"])
        assert found.identity["standard_error"] == pytest.approx(
            expected.identity["standard_error"], rel=0.01
        )
    errors = probed(model, settling, probe_items=8).identity["standard_error"]
    monkeypatch.setattr(probing, "SETTLED", 1.01 * max(errors.values()))
    assert probed(model, settling).identity["items"] <= 8
    assert probed(model, settling, compat="official").identity["items"] == 12, "as many as there are"


def test_the_error_is_what_repeated_probing_shows() -> None:
    """Made-up states: the angle by which directions of different items differ is the error that was said."""
    generator = torch.Generator().manual_seed(0)
    true = torch.tensor([3.0, *[0.0] * 15])
    directions, errors = [], []
    for _ in range(40):
        states = torch.randn(2, 50, 1, 16, generator=generator)
        states[1] += true
        tally = probing.Tally(("en", "zh"), "en", 50, (0,), torch.zeros(2, 1, 16), states, items=50)
        directions.append((states[1] - states[0]).mean(dim=0)[0])
        errors.append(tally.errors()["zh"])
    spread = torch.stack([direction - true for direction in directions]).square().sum(dim=1).mean().sqrt()
    assert float(spread / true.norm()) == pytest.approx(sum(errors) / len(errors), rel=0.15)
    few = probing.Tally(("en", "zh"), "en", 50, (0,), torch.zeros(2, 1, 16), states, items=10)
    assert few.errors()["zh"] > 1.5 * errors[-1], "a control: fewer items, larger error"


def test_rounds_go_on_where_they_were_stopped(
    model: str, settling: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"FIRST_ROUND": 4, "FURTHER_ROUND": 4, "SETTLED": 0.0}.items():
        monkeypatch.setattr(probing, name, value)
    monkeypatch.setattr(walk, "SAVING_SHARE", 0)
    expected = probed(model, settling)

    class Killed(Exception):
        pass

    decoder, loaded = StreamedDecoder(model, CPU, torch.float32), []
    load = decoder._weights.load

    def load_six(layer: int) -> None:
        if len(loaded) == 6:
            raise Killed
        loaded.append(layer)
        load(layer)

    decoder._weights.load = load_six  # type: ignore[method-assign]
    with pytest.raises(Killed):
        probed(model, settling, tmp_path, decoder)
    assert loaded == [0, 1, 2, 3, 0, 1], "amid the second of three rounds"
    loaded.clear()
    decoder._weights.load = lambda layer: (loaded.append(layer), load(layer))[1]  # type: ignore[method-assign]
    found = probed(model, settling, tmp_path, decoder)
    assert loaded == [2, 3, 0, 1, 2, 3]
    assert close(found.directions["zh"], expected.directions["zh"])
    assert found.identity["standard_error"] == pytest.approx(expected.identity["standard_error"], rel=0.01)


def test_the_record_says_how_many_items_were_probed(model: str, data: Path, tmp_path: Path) -> None:
    plan = plan_of(model, data, tmp_path, diagnose=0, probe_items="auto")
    lens.find_subspaces(plan, Decoder(load_model(model)))
    record = json.loads((tmp_path / "training" / "subspaces" / "subspace.json").read_text())
    assert record["items"] == 12
    assert set(record["standard_error"]) == {"zh", "sw"}
    assert lens.probed_tokens(plan) == sum(
        len(prompt)
        for prompts in probing.probe_prompts(
            read_prompts(data, LANGUAGES), plan.tokenizer, plan.config
        ).values()
        for prompt in prompts
    )
