"""Layers read from disk one at a time: the numbers of the model in memory, whatever its family."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_families import FAMILIES, PROMPTS, assert_close, build

from lens_eval.base.errors import UserError
from lens_train import stream
from lens_train import walk as walking
from lens_train.batches import Batch, make_batches
from lens_train.decoder import Decoder, load_model
from lens_train.stream import StreamedDecoder, open_decoder
from lens_train.trunk import Trunk
from lens_train.walk import WalkState, walk

CPU = torch.device("cpu")


def save(family: str, folder: Path) -> str:
    build(family).save_pretrained(folder)
    return str(folder)


def all_states(decoder: Decoder) -> torch.Tensor:
    """States entering every layer, at every token, and those read after every layer; in a fixed order."""
    batches = list(make_batches(PROMPTS, range(len(PROMPTS)), 20, CPU))
    found: list[torch.Tensor] = []
    for layers in range(1, len(decoder)):
        _, states = walk(decoder, (), batches, layers, "test")
        found += [part[batch.mask.bool()].flatten() for part, batch in zip(states, batches, strict=True)]
    read: dict[tuple[int, tuple[int, ...]], torch.Tensor] = {}

    def keep(layer: int, batch: Batch, hidden: torch.Tensor) -> None:
        read[layer, batch.rows] = hidden.flatten()

    walk(decoder, (), batches, len(decoder), "test", keep)
    return torch.cat(found + [read[key] for key in sorted(read)])


@pytest.mark.parametrize("family", FAMILIES)
def test_streamed_equals_in_memory(family: str, tmp_path: Path) -> None:
    name = save(family, tmp_path)
    whole, streamed = Decoder(load_model(name)), StreamedDecoder(name, CPU, torch.float32)
    assert all(weight.is_meta for weight in streamed.layers.parameters())
    assert streamed.reuses_past == whole.reuses_past
    states = all_states(whole)
    assert float((all_states(streamed) - states).abs().max()) < 1e-6 * float(states.abs().max())
    assert all(weight.is_meta for weight in streamed.layers.parameters()), "every layer is dropped again"


@pytest.mark.parametrize("family", FAMILIES)
def test_top_of_a_streamed_model_trains_without_the_rest(family: str, tmp_path: Path) -> None:
    name = save(family, tmp_path)
    tops, gradients = [], []
    for decoder in (Decoder(load_model(name)), StreamedDecoder(name, CPU, torch.float32)):
        trunk = Trunk.build(decoder, PROMPTS, range(3), 2, budget=64)
        decoder.hold(2)
        decoder.free_embeddings()
        decoder.layers[2:].requires_grad_(True)
        states = trunk.top(range(3), [3], last_only=[1])
        tops.append(states)
        loss = sum(part.square().sum() for part in states.values())
        gradients.append(torch.autograd.grad(loss, list(decoder.layers[2:].parameters())))
    for row in range(3):
        assert_close(tops[0][row], tops[1][row])
    for first, second in zip(*gradients, strict=True):
        assert_close(first, second)
    assert decoder.model.get_input_embeddings().weight.is_meta
    assert all(weight.is_meta for weight in decoder.layers[:2].parameters())


def test_a_walk_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walking, "SAVING_SHARE", 0)
    name = save("llama", tmp_path / "model")
    expected = Trunk.build(StreamedDecoder(name, CPU, torch.float32), PROMPTS, range(3), 3, 64)

    class Killed(Exception):
        pass

    decoder = StreamedDecoder(name, CPU, torch.float32)
    load, loaded = decoder._weights.load, []

    def load_two(layer: int) -> None:
        if len(loaded) == 2:
            raise Killed
        loaded.append(layer)
        load(layer)

    decoder._weights.load = load_two  # type: ignore[method-assign]
    path = tmp_path / "state.safetensors"
    with pytest.raises(Killed):
        Trunk.build(decoder, PROMPTS, range(3), 3, 64, WalkState(path, "run"))
    assert loaded == [0, 1]
    decoder._weights.load = lambda layer: (loaded.append(layer), load(layer))[1]  # type: ignore[method-assign]
    again = Trunk.build(decoder, PROMPTS, range(3), 3, 64, WalkState(path, "run"))
    assert loaded == [0, 1, 2], "the layers behind the state are not run again"
    assert all(torch.equal(again.hidden[row], expected.hidden[row]) for row in range(3))
    loaded.clear()
    Trunk.build(decoder, PROMPTS, range(3), 3, 64, WalkState(path, "another run"))
    assert loaded == [0, 1, 2], "a control: the state of another run is not taken up"


def test_a_model_is_streamed_where_it_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = save("llama", tmp_path)
    assert not isinstance(open_decoder(name, CPU, torch.float32), StreamedDecoder)
    assert isinstance(open_decoder(name, CPU, torch.float32, "always"), StreamedDecoder)
    monkeypatch.setattr(stream, "free_memory", lambda device: 100_000)
    assert isinstance(open_decoder(name, CPU, torch.float32), StreamedDecoder)
    assert not isinstance(open_decoder(name, CPU, torch.float32, "never"), StreamedDecoder)


def test_free_memory_is_that_of_this_machine() -> None:
    free = stream.free_memory(CPU)
    assert free is None or 1 << 20 < free < 1 << 50


def test_a_checkpoint_that_lacks_a_weight_is_refused_by_name(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    name = save("llama", tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"missing from the files: model\.layers\.1\.mlp\.up_proj\.weight"):
        StreamedDecoder(name, CPU, torch.float32)


FREED = """
import resource, sys
from pathlib import Path
import torch
from lens_train.memory import free_at_once

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

if sys.argv[1] == "at once":
    free_at_once()
del [torch.ones(7 << 20)][0]  # 28 MB: glibc now keeps whatever is smaller
before = resident()
blocks = [torch.ones(512 << 10) for _ in range(128)]  # 2 MB each, 256 MB in all
kept = blocks[::16]
del blocks
assert all(bool((block == 1).all()) for block in kept)
print((resident() - before) >> 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has this setting")
def test_freed_memory_goes_back_to_the_system() -> None:
    def held(when: str) -> int:
        command = [sys.executable, "-c", FREED, when]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert held("later") > 128, "a control: what is kept holds the blocks between"
    assert held("at once") < 32
