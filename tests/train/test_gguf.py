"""GGUF files as models: weights to the bit, settings, tokens, what is refused, conversions cut short."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

pytest.importorskip("gguf", reason="the package gguf is not installed")

import gguf_files
from gguf_files import SMALL, TOKENS, llama, random_model, write_gguf

from lens_eval.base.errors import UserError
from lens_train.checkpoint import Checkpoint, weight_files
from lens_train.decoder import load_model
from lens_train.gguf import cache, convert, is_gguf
from lens_train.gguf.architecture import llama3_factors
from lens_train.gguf.header import read_header
from lens_train.gguf.tokenizer import writes_bos

ROOT = Path(__file__).resolve().parents[2]
IDS = torch.tensor([[1, *range(5, 60, 2)], [1, *range(6, 61, 2)]])


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LENS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "gguf"


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits.float()


def folder_of(path: Path) -> Path:
    return cache.model_folder(path)


def loaders(path: Path) -> Any:
    """What transformers makes of the file itself, dequantised."""
    return transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    ).eval()


def as_float32(path: Path, folder: Path) -> Any:
    """The converted model, written in float32 whatever the file holds."""
    folder.mkdir()
    header = read_header(path)
    convert.convert(header, *convert.prepare(header), torch.float32, folder)
    return transformers.AutoModelForCausalLM.from_pretrained(folder).eval()


# --- weights -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0"])
@pytest.mark.parametrize("tied", [True, False])
def test_weights_and_logits_are_those_of_transformers_own_loader(
    kind: str, tied: bool, tmp_path: Path
) -> None:
    model = llama(tied)
    path = write_gguf(tmp_path / "m.gguf", model, kind)
    ours, theirs = as_float32(path, tmp_path / "out"), loaders(path)
    assert ours.config.tie_word_embeddings is tied
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for name, weight in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], weight), name
    assert torch.equal(logits(ours), logits(theirs))
    if kind == "F32":
        assert torch.equal(logits(ours), logits(model))
    # A control: the rows of the query and key matrices are in another order in the file.
    entry = read_header(path).tensors["blk.0.attn_q.weight"]
    with path.open("rb") as file:
        stored = torch.from_numpy(convert._read(read_header(path), file, entry))
    ordered = ours.state_dict()["model.layers.0.self_attn.q_proj.weight"]
    assert not torch.equal(stored, ordered)
    assert torch.equal(stored.sort(0).values, ordered.sort(0).values)


@pytest.mark.parametrize(
    ("kind", "stored"),
    [("F32", torch.float32), ("F16", torch.float16), ("BF16", torch.bfloat16), ("Q8_0", torch.bfloat16)],
)
def test_the_folder_has_the_type_of_the_file_and_bfloat16_where_it_is_quantised(
    kind: str, stored: torch.dtype, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_gguf(tmp_path / "m.gguf", llama(), kind)
    folder = folder_of(path)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert str(folder) in said
    assert str(stored).removeprefix("torch.") in said
    ours = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    assert ours.dtype == stored
    for name, weight in loaders(path).state_dict().items():
        assert torch.equal(ours.state_dict()[name], weight.to(stored)), name
    capsys.readouterr()
    assert folder_of(path) == folder
    assert not capsys.readouterr().err, "converted once"


CONFIGS: dict[str, Any] = {
    "qwen2": lambda: transformers.Qwen2Config(**SMALL),
    "qwen3": lambda: transformers.Qwen3Config(**{**SMALL, "head_dim": 32}),
    "gemma2": lambda: transformers.Gemma2Config(
        **{**SMALL, "head_dim": 32, "sliding_window": 8, "query_pre_attn_scalar": 32}
    ),
    "gemma3": lambda: transformers.Gemma3TextConfig(
        **{
            **SMALL,
            "head_dim": 32,
            "sliding_window": 8,
            "query_pre_attn_scalar": 32,
            "num_hidden_layers": 7,
            "rope_parameters": {
                "full_attention": {"rope_type": "default", "rope_theta": 1e6},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            },
        }
    ),
    "phi3": lambda: transformers.Phi3Config(**{**SMALL, "sliding_window": 8}),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_every_architecture_comes_back_as_it_was(name: str, tmp_path: Path) -> None:
    model = random_model(CONFIGS[name]())
    ours = load_model(str(write_gguf(tmp_path / "m.gguf", model)), "cpu", "float32")
    assert ours.config.model_type == model.config.model_type
    assert ours.config.rms_norm_eps == model.config.rms_norm_eps, "not 9.999999974752427e-07"
    assert float((logits(ours) - logits(model)).abs().max()) < 1e-5 * float(logits(model).abs().max())


def test_scaled_rotary_angles_are_carried_over(tmp_path: Path) -> None:
    """Of Llama 3.1's scaling a file holds the factors alone; transformers' own loader drops them."""
    scaled = {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    model = llama(rope_parameters=scaled)
    factors = np.array(llama3_factors(500000.0, 16, scaled), dtype=np.float32)
    plain = write_gguf(tmp_path / "plain.gguf", model)
    assert not torch.equal(logits(load_model(str(plain))), logits(model)), "a control: it matters"
    whole = write_gguf(tmp_path / "whole.gguf", model, tensors={"rope_freqs.weight": factors})
    ours = load_model(str(whole))
    assert ours.config.rope_parameters == scaled
    assert torch.equal(logits(ours), logits(model))
    ones = write_gguf(tmp_path / "ones.gguf", llama(), tensors={"rope_freqs.weight": np.ones(8, np.float32)})
    assert torch.equal(logits(load_model(str(ones))), logits(llama()))
    odd = write_gguf(tmp_path / "odd.gguf", model, tensors={"rope_freqs.weight": factors[::-1].copy()})
    with pytest.raises(UserError, match="none of Llama's scalings"):
        folder_of(odd)


def test_llama3_factors_are_those_that_transformers_computes(tmp_path: Path) -> None:
    scaled = {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    model = llama(rope_parameters=scaled, head_dim=64)
    unscaled = 500000.0 ** -(torch.arange(0, 64, 2) / 64)
    theirs = unscaled / model.model.rotary_emb.inv_freq
    assert torch.allclose(torch.tensor(llama3_factors(500000.0, 64, scaled)), theirs, rtol=1e-5)
    assert 1.0 < sorted(theirs.tolist())[16] < 32.0, "some are in between"


def test_linear_and_long_scalings(tmp_path: Path) -> None:
    linear = {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}
    model = llama(rope_parameters=linear)
    fields = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}
    ours = load_model(str(write_gguf(tmp_path / "linear.gguf", model, fields=fields)))
    assert torch.equal(logits(ours), logits(model))
    assert not torch.equal(logits(ours), logits(llama()))
    long, short = [1.0 + 0.5 * n for n in range(8)], [1.0 + 0.25 * n for n in range(8)]
    rope = {
        "rope_type": "longrope",
        "rope_theta": 1e4,
        "long_factor": long,
        "short_factor": short,
        "attention_factor": 1.5,
        "original_max_position_embeddings": 128,
    }
    config = transformers.Phi3Config(
        **{**SMALL, "rope_parameters": rope, "original_max_position_embeddings": 128}
    )
    phi = random_model(config)
    path = write_gguf(
        tmp_path / "phi.gguf",
        phi,
        fields={"phi3.rope.scaling.original_context_length": 128, "phi3.rope.scaling.attn_factor": 1.5},
        tensors={
            "rope_factors_long.weight": np.array(long, np.float32),
            "rope_factors_short.weight": np.array(short, np.float32),
        },
    )
    assert torch.equal(logits(load_model(str(path))), logits(phi))


def test_large_files_are_cut_into_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_gguf(tmp_path / "m.gguf", llama(), "Q8_0")
    whole = folder_of(path)
    assert [file.name for file in weight_files(whole)] == ["model.safetensors"]
    monkeypatch.setattr(convert, "SHARD_BYTES", 60_000)
    monkeypatch.setattr(convert, "CHUNK", 1000)  # pieces of rows, which must not cut a head
    shutil.rmtree(whole)
    several = folder_of(path)
    sizes = [file.stat().st_size for file in weight_files(several)]
    assert len(sizes) > 2
    assert max(sizes) < 70_000
    ours = transformers.AutoModelForCausalLM.from_pretrained(several, dtype="auto")
    for name, weight in loaders(path).state_dict().items():
        assert torch.equal(ours.state_dict()[name], weight.to(torch.bfloat16)), name


# --- tokens ------------------------------------------------------------------------------------


def tokenizer_of(tmp_path: Path, name: str, **fields: Any) -> Any:
    settings = {key.replace("__", "."): value for key, value in fields.items()}
    return Checkpoint.open(str(write_gguf(tmp_path / f"{name}.gguf", llama(), fields=settings))).tokenizer


def test_bos_and_eos_stand_where_the_file_says(tmp_path: Path) -> None:
    add = "tokenizer__ggml__add_bos_token"
    silent = tokenizer_of(tmp_path, "silent")
    assert silent.bos_token == "<s>"
    plain = silent.encode("the zany")
    assert 1 not in plain, "byte-level BPE has none where the file does not say"
    assert tokenizer_of(tmp_path, "no", **{add: False}).encode("the zany") == plain
    with_bos = tokenizer_of(tmp_path, "yes", **{add: True})
    assert with_bos.encode("the zany") == [1, *plain]
    assert with_bos.encode("the zany", add_special_tokens=False) == plain
    both = tokenizer_of(tmp_path, "both", **{add: True, "tokenizer__ggml__add_eos_token": True})
    assert both.encode("the zany") == [1, *plain, 0]
    assert both.encode("the", "the") == [1, *both.encode("the")[1:-1], 0, 1, *both.encode("the")[1:-1], 0]
    assert tokenizer_of(tmp_path, "llama3", tokenizer__ggml__pre="llama-bpe").encode("the")[0] == 1


def test_sentencepiece_begins_with_bos_unless_the_file_says_otherwise(tmp_path: Path) -> None:
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{n:02X}>" for n in range(256)), "▁", "t", "h", "e", "▁t", "he"]
    vocabulary = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": pieces,
        "tokenizer.ggml.scores": [-float(n) for n in range(len(pieces))],
        "tokenizer.ggml.token_type": [2, 3, 3] + [6] * 256 + [1] * 6,
    }
    model = llama(vocab_size=len(pieces))
    found = {}
    for name, extra in {"silent": {}, "no": {"tokenizer.ggml.add_bos_token": False}}.items():
        path = write_gguf(tmp_path / f"{name}.gguf", model, vocabulary={**vocabulary, **extra})
        assert writes_bos(read_header(path)) is (name == "silent")
        found[name] = Checkpoint.open(str(path)).tokenizer
    assert found["silent"].encode("the") == [1, *found["no"].encode("the")]
    assert (found["silent"].bos_token_id, found["silent"].eos_token_id) == (1, 2), "ids it has by its kind"


def test_each_kind_of_bpe_cuts_text_as_the_model_learnt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pre = "tokenizer__ggml__pre"
    usual = tokenizer_of(tmp_path, "usual")
    assert TOKENS.index("12") in usual.encode("12"), "a control: there is a merge"
    assert TOKENS.index("12") not in tokenizer_of(tmp_path, "digits", **{pre: "smollm"}).encode("12")
    assert TOKENS.index("zany") not in usual.encode("zany"), "a control: no merge makes it"
    assert tokenizer_of(tmp_path, "words", **{pre: "llama-bpe"}).encode("zany")[1:] == [TOKENS.index("zany")]
    apart, composed = "u\u0308", "\u00fc"
    assert usual.encode(apart) != usual.encode(composed)
    qwen = tokenizer_of(tmp_path, "qwen", **{pre: "qwen2"})
    assert qwen.encode(apart) == qwen.encode(composed)
    capsys.readouterr()
    tokenizer_of(tmp_path, "unheard", **{pre: "unheard-of"})
    assert "cuts text as 'unheard-of' does" in capsys.readouterr().err


def test_template_and_every_token_that_ends_a_turn(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", llama())
    folder = folder_of(path)
    tokenizer = Checkpoint.open(str(path)).tokenizer
    assert tokenizer.chat_template == gguf_files.TEMPLATE
    assert tokenizer.pad_token_id == 0
    generation = transformers.GenerationConfig.from_pretrained(folder)
    assert generation.eos_token_id == [0, 3], "EOS, and <|im_end|> which the template ends a reply with"
    alone = write_gguf(tmp_path / "alone.gguf", llama(), fields={"tokenizer.chat_template": None})
    assert Checkpoint.open(str(alone)).tokenizer.chat_template is None
    assert transformers.GenerationConfig.from_pretrained(folder_of(alone)).eos_token_id == 0
    other = {"tokenizer.chat_template": None, "tokenizer.ggml.eot_token_id": 2}
    stated = write_gguf(tmp_path / "stated.gguf", llama(), fields=other)
    assert transformers.GenerationConfig.from_pretrained(folder_of(stated)).eos_token_id == [0, 2]


# --- refused -----------------------------------------------------------------------------------


def test_what_is_a_gguf_file(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", llama())
    blob = shutil.copy(path, tmp_path / "sha256-0123")
    other = tmp_path / "other.bin"
    other.write_bytes(b"GGML and more")
    (tmp_path / "folder.gguf").mkdir()
    assert [is_gguf(name) for name in (path, blob, tmp_path / "NOT-THERE.GGUF")] == [True] * 3
    assert [is_gguf(name) for name in (other, tmp_path / "folder.gguf", "org/model", "builtin")] == [
        False
    ] * 4
    assert torch.equal(logits(load_model(str(blob))), logits(llama())), "whatever a file is called"


def test_files_that_are_none_or_not_whole_are_refused_before_work(tmp_path: Path, own_cache: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", llama())
    data = path.read_bytes()
    first_tensor = min(entry.start for entry in read_header(path).tensors.values())
    damaged = {
        "no GGUF file": None,
        "does not begin with the letters GGUF": b"{}" + data[2:],
        "version 1 of GGUF": data[:4] + (1).to_bytes(4, "little") + data[8:],
        "big-endian": data[:4] + (3).to_bytes(4, "big") + data[8:],
        "its header does not fit": data[: first_tensor // 2],
        "its tensors reach to byte": data[:-4000],
    }
    for words, content in damaged.items():
        other = tmp_path / "other.gguf"
        if content is not None:
            other.write_bytes(content)
        with pytest.raises(UserError, match=words):
            folder_of(other)
    for length in range(0, first_tensor, 97):  # wherever it was cut
        other.write_bytes(data[:length])
        with pytest.raises(UserError):
            folder_of(other)
    rng = np.random.default_rng(0)
    for _ in range(200):  # a flipped byte anywhere in the head ends in a message or changes a name
        place = int(rng.integers(8, first_tensor))
        other.write_bytes(data[:place] + bytes([data[place] ^ int(rng.integers(1, 256))]) + data[place + 1 :])
        try:
            read_header(other)
        except UserError:
            continue
    assert not own_cache.exists(), "nothing was begun"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"general.architecture": "mamba"}, "architecture mamba; GGUF files of llama, qwen2, qwen3, gemma2"),
        ({"general.type": "adapter"}, "holds no model but: adapter"),
        ({"split.count": 3}, "one of 3 parts"),
        ({"llama.logit_scale": 0.5}, r"states llama.logit_scale = 0.5, which is not carried over"),
        ({"llama.expert_count": 8}, "llama.expert_count = 8"),
        ({"llama.rope.scaling.type": "mrope", "llama.rope.scaling.factor": 2.0}, "by 'mrope'"),
        ({"llama.rope.dimension_count": 8}, "turns 8 of 16 dimensions"),
        ({"llama.attention.head_count_kv": [2, 2, 1]}, "a different attention.head_count_kv per layer"),
        ({"llama.block_count": 4}, "needs model.layers.3"),
        ({"llama.block_count": 2}, "tensors that llama of transformers has no place for: blk.2."),
        ({"llama.embedding_length": None}, "does not state llama.embedding_length"),
        (
            {"llama.feed_forward_length": 95},
            r"of shape \(95, 64\), the file holds it in the shape \(96, 64\)",
        ),
    ],
)
def test_what_is_not_supported_is_named(
    fields: dict[str, Any], words: str, tmp_path: Path, own_cache: Path
) -> None:
    with pytest.raises(UserError, match=words):
        folder_of(write_gguf(tmp_path / "m.gguf", llama(), fields=fields))
    assert not own_cache.exists()


def test_settings_that_decide_nothing_are_let_through(tmp_path: Path) -> None:
    fields = {
        "llama.vocab_size": len(TOKENS),
        "llama.expert_count": 0,
        "llama.attention.causal": True,
        "llama.attention.head_count_kv": [2, 2, 2],
        "general.file_type": 1,
    }
    ours = load_model(str(write_gguf(tmp_path / "m.gguf", llama(), fields=fields)))
    assert torch.equal(logits(ours), logits(llama()))


def test_without_the_package_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_gguf(tmp_path / "m.gguf", llama())
    done = folder_of(write_gguf(tmp_path / "done.gguf", llama()))
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(UserError, match=r'pip install "lens-multilingual\[gguf\]"'):
        folder_of(path)
    assert folder_of(tmp_path / "done.gguf") == done, "what is converted needs it no more"


def test_no_room_is_seen_before_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    path = write_gguf(tmp_path / "m.gguf", llama())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(UserError, match="export LENS_CACHE=FOLDER"):
        folder_of(path)
    assert not list(own_cache.glob("m-*"))


def test_a_folder_of_gguf_files_names_one(tmp_path: Path) -> None:
    from lens_train.checkpoint import Checkpoint

    write_gguf(tmp_path / "m.gguf", llama())
    with pytest.raises(UserError, match=r"no config.json; name the file itself: .*m.gguf"):
        Checkpoint.open(str(tmp_path))


# --- the cache ---------------------------------------------------------------------------------


def test_a_changed_file_is_converted_anew(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", llama(seed=0))
    before, first = path.stat(), folder_of(path)
    write_gguf(path, llama(seed=1))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert path.stat().st_size == before.st_size
    second = folder_of(path)
    assert first != second
    assert not torch.equal(logits(load_model(str(first))), logits(load_model(str(second))))
    # The same content under another name, and touched, is the same model.
    os.utime(path)
    assert folder_of(path) == second
    identity = Checkpoint.open(str(path)).identity
    assert identity["name"] == str(path)
    assert identity["weights_sha256"] == Checkpoint.open(str(second)).identity["weights_sha256"]
    assert identity["weights_sha256"] != Checkpoint.open(str(first)).identity["weights_sha256"]


def test_a_folder_that_is_not_whole_is_made_again(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", llama())
    folder = folder_of(path)
    whole = (folder / "model.safetensors").read_bytes()
    for spoil in (
        lambda: (folder / "model.safetensors").unlink(),
        lambda: (folder / "model.safetensors").write_bytes(whole[:1000]),
        lambda: (folder / "gguf.record").unlink(),
        lambda: (folder / "gguf.record").write_text("{"),
    ):
        spoil()
        assert cache.converted(path) is None
        assert folder_of(path) == folder
        assert (folder / "model.safetensors").read_bytes() == whole


def start(path: Path, cache_folder: Path) -> subprocess.Popen[str]:
    code = (
        "import sys; from pathlib import Path; from lens_train.gguf.cache import model_folder\n"
        "print(model_folder(Path(sys.argv[1])))"
    )
    environment = {**os.environ, "LENS_CACHE": str(cache_folder), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=ROOT,
    )


def test_a_killed_conversion_leaves_nothing_that_counts(tmp_path: Path, own_cache: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", llama(hidden_size=512, intermediate_size=4096), "Q8_0")
    running = start(path, own_cache.parent)
    deadline = time.monotonic() + 600
    while not list(own_cache.glob("m-*.partial/*")) and time.monotonic() < deadline:
        assert running.poll() is None, running.communicate()[1]
        time.sleep(0.005)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    assert list(own_cache.glob("m-*.partial")), "it was killed at work"
    assert cache.converted(path) is None
    folder = folder_of(path)
    assert not list(own_cache.glob("*.partial"))
    ours = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    for name, weight in loaders(path).state_dict().items():
        assert torch.equal(ours.state_dict()[name], weight.to(torch.bfloat16)), name


def test_two_processes_at_once_convert_once(tmp_path: Path, own_cache: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", llama())
    running = [start(path, own_cache.parent) for _ in range(3)]
    ended = [process.communicate(timeout=600) for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], ended
    assert len({out for out, _ in ended}) == 1
    assert sum(err.count("is converted once") for _, err in ended) == 1


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """The whole model is 0.9 GB in float32; a conversion holds some rows of one tensor."""
    small = write_gguf(tmp_path / "small.gguf", llama(), "Q8_0")
    wide = llama(hidden_size=1024, intermediate_size=8192, num_hidden_layers=8)
    large = write_gguf(tmp_path / "large.gguf", wide, "Q8_0")
    weights = sum(parameter.numel() for parameter in wide.parameters())
    assert weights > 2e8
    del wide
    code = (
        "import sys, torch; from pathlib import Path; from lens_train.gguf.cache import model_folder\n"
        "from lens_train.memory import peak_memory\n"
        "model_folder(Path(sys.argv[1])); print(peak_memory(torch.device('cpu')))"
    )
    peaks = []
    for path in (small, large):
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)], cwd=ROOT, capture_output=True, text=True, check=True
        )
        peaks.append(int(done.stdout))
    assert peaks[1] - peaks[0] < weights, "a quarter of the model in float32"


# --- wherever a model is named -----------------------------------------------------------------


def test_training_and_merging_with_a_file_as_the_base(tmp_path: Path) -> None:
    import tiny_lens

    from lens_train import methods
    from lens_train.export import merge
    from lens_train.job import Job, Variant

    path = write_gguf(tmp_path / "m.gguf", llama(), "Q8_0")
    data = tiny_lens.save_prompts(tmp_path / "data.jsonl")
    settings = {"learning_rate": 1e-3, "steps": 3, "diagnose": 0}
    for output, delta in (("whole", False), ("delta", True)):
        job = Job("lens", str(path), data, ("en", "zh"), tmp_path / output, device="cpu")
        methods.train(Job(**{**job.__dict__, "settings": {**settings, "delta": delta}}))
    variant = Variant.load(tmp_path / "whole")
    assert variant.base["name"] == str(path)
    assert variant.base["weights_sha256"] == Checkpoint.open(str(folder_of(path))).identity["weights_sha256"]
    trained = load_model(str(tmp_path / "whole"))
    assert not torch.equal(logits(trained), logits(load_model(str(path))))
    merge(tmp_path / "delta", str(path), tmp_path / "merged")
    assert torch.equal(logits(load_model(str(tmp_path / "merged"))), logits(trained))
    assert not (tmp_path / "whole" / "gguf.record").exists(), "a variant is no converted file"


def lens(*arguments: str, cache_folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LENS_CACHE": str(cache_folder), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "lens_eval", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        cwd=ROOT,
        timeout=600,
    )


def test_the_commands_take_a_file(tmp_path: Path, own_cache: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", llama(), "Q8_0", {"tokenizer.ggml.add_bos_token": False})
    doctor = ("doctor", str(path), "--tasks", "lens_mini_qa_zh", "--device", "cpu")
    done = lens(*doctor, cache_folder=own_cache.parent)
    assert "is converted once" in done.stderr
    assert "one BOS" in done.stdout
    assert "can be trained" in done.stdout
    out = tmp_path / "out"
    run = (
        "eval",
        "--model",
        str(path),
        "--tasks",
        "lens_mini_qa_zh",
        "--limit",
        "2",
        "--device",
        "cpu",
    )
    done = lens(*run, "--output", str(out), cache_folder=own_cache.parent)
    assert done.returncode == 0, done.stderr
    assert "is converted once" not in done.stderr
    results = next((out / "tiny.gguf").rglob("results_*.json")).read_text(encoding="utf-8")
    assert json.loads(results)["config"]["model_args"]["pretrained"] == "tiny.gguf"
    assert str(tmp_path) not in results
    other = tmp_path / "other.gguf"
    other.write_text("no model", encoding="utf-8")
    done = lens("doctor", str(other), cache_folder=own_cache.parent)
    assert done.returncode == 2
    assert "does not begin with the letters" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_recipe_names_a_file_from_its_own_folder(tmp_path: Path) -> None:
    from lens_eval.runs.recipe import load_recipe

    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "backbone: models/m.gguf\nlanguages: [en, zh]\nvariants: {backbone: {}}\ntasks: [lens_mini]\n",
        encoding="utf-8",
    )
    assert load_recipe(recipe).backbone == str(tmp_path / "models" / "m.gguf")


# --- real files --------------------------------------------------------------------------------

REAL = {"smol": (False, [2]), "gemma": (True, [1]), "qwen": (False, [151645])}
"""Whether texts begin with BOS, and what ends a reply."""


@pytest.mark.real
@pytest.mark.parametrize("name", REAL)
def test_real_files_equal_transformers_own_loader(name: str, tmp_path: Path) -> None:
    folder = os.environ.get("LENS_REAL_MODELS")
    path = Path(folder or "") / "gguf" / f"{name}.gguf"
    if not folder or not path.is_file():
        pytest.skip(f"LENS_REAL_MODELS names no folder with gguf/{name}.gguf")
    ours, theirs = as_float32(path, tmp_path / "out"), loaders(path)
    for key, weight in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[key], weight), key
    tokenizer = Checkpoint.open(str(tmp_path / "out")).tokenizer
    begins, ends = REAL[name]
    for text in ("What is a river?", "什么是河？", "নদী কী? ১২", "Mto ni nini? 1234"):
        ids = tokenizer(text, return_tensors="pt").input_ids
        assert (int(ids[0, 0]) == tokenizer.bos_token_id) is begins
        assert tokenizer.decode(ids[0], skip_special_tokens=True) == text
        with torch.no_grad():
            assert torch.allclose(ours(ids).logits, theirs(ids).logits, atol=1e-4)
    generation = transformers.GenerationConfig.from_pretrained(tmp_path / "out")
    assert np.atleast_1d(generation.eos_token_id).tolist() == ends
