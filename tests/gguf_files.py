"""Small GGUF files, written as llama.cpp writes them, for the tests that read them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers
from tokenizers import pre_tokenizers

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<s>", "<|im_start|>", "<|im_end|>")
LETTERS = sorted(pre_tokenizers.ByteLevel.alphabet())
MERGES = ["t h", "th e", "Ġ the", "1 2", "a n"]
WORDS = [merge.replace(" ", "") for merge in MERGES] + ["zany"]  # no merge makes the last one
TOKENS = [*SPECIAL, *LETTERS, *WORDS]
SMALL = {
    "vocab_size": len(TOKENS),
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.1,
    "bos_token_id": 1,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
ARCHITECTURES = {"gemma3_text": "gemma3"}
"""transformers' name -> GGUF's, where they differ."""


def random_model(config: Any, seed: int = 0) -> Any:
    """A model all of whose weights matter: norms and biases are random too."""
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def llama(tied: bool = False, seed: int = 0, **changes: Any) -> Any:
    """A small Llama."""
    return random_model(transformers.LlamaConfig(**{**SMALL, "tie_word_embeddings": tied, **changes}), seed)


def write_gguf(
    path: Path,
    model: Any,
    kind: str = "F32",
    fields: Mapping[str, Any] | None = None,
    tensors: Mapping[str, np.ndarray] | None = None,
    vocabulary: Mapping[str, Any] | None = None,
) -> Path:
    """Write a model.

    Args:
        kind: type of the matrices; norms and biases are float32, as llama.cpp leaves them.
        fields: settings besides those of every file, `{"tokenizer.ggml.add_bos_token": True}`; None takes
            one away.
        tensors: more tensors.
        vocabulary: settings of the tokenizer, for another than byte-level BPE.
    """
    config = model.config
    architecture = ARCHITECTURES.get(config.model_type, config.model_type)
    writer = gguf.GGUFWriter(path, architecture)
    settings = {**_settings(config, architecture), **(vocabulary or byte_level()), **(fields or {})}
    for name, value in settings.items():
        if value is not None:
            add_field(writer, name, value)
    for name, weight in _weights(model, architecture).items():
        quantised = gguf.GGMLQuantizationType[kind] if weight.ndim > 1 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(name, gguf.quants.quantize(weight, quantised), raw_dtype=quantised)
    for name, weight in (tensors or {}).items():
        writer.add_tensor(name, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_field(writer: gguf.GGUFWriter, name: str, value: Any) -> None:
    """Add a setting in the type that its value has."""
    if isinstance(value, bool):
        writer.add_bool(name, value)
    elif isinstance(value, int):
        writer.add_uint32(name, value)
    elif isinstance(value, float):
        writer.add_float32(name, value)
    elif isinstance(value, str):
        writer.add_string(name, value)
    else:
        writer.add_array(name, value)


def byte_level() -> dict[str, Any]:
    """The vocabulary of the tests: letters of byte-level BPE and a few merges."""
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": TOKENS,
        "tokenizer.ggml.token_type": [3] * len(SPECIAL) + [1] * (len(TOKENS) - len(SPECIAL)),
        "tokenizer.ggml.merges": MERGES,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 0,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.chat_template": TEMPLATE,
    }


def _settings(config: Any, architecture: str) -> dict[str, Any]:
    rope = config.rope_parameters
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    found = {
        "context_length": config.max_position_embeddings,
        "block_count": config.num_hidden_layers,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "rope.freq_base": rope.get("full_attention", rope)["rope_theta"],
        "attention.sliding_window": getattr(config, "sliding_window", None),
    }
    if architecture in ("llama", "phi3"):
        found["rope.dimension_count"] = int(head * rope.get("partial_rotary_factor", 1.0))
    if head != config.hidden_size // config.num_attention_heads:
        found |= {"attention.key_length": head, "attention.value_length": head}
    return {f"{architecture}.{name}": value for name, value in found.items()}


def _weights(model: Any, architecture: str) -> dict[str, np.ndarray]:
    config = model.config
    key = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(key, config.num_hidden_layers)
    found = {}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        weight = tensor.float().numpy()
        if architecture == "llama" and name.endswith("q_proj.weight"):
            weight = interleave(weight, config.num_attention_heads)
        if architecture == "llama" and name.endswith("k_proj.weight"):
            weight = interleave(weight, config.num_key_value_heads)
        if architecture.startswith("gemma") and name.endswith("norm.weight"):
            weight = weight + 1
        stem, _, suffix = name.rpartition(".")
        found[f"{names.get_name(stem)}.{suffix}"] = weight
    return found


def interleave(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows as llama.cpp wants them: the two halves of a head side by side."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)
