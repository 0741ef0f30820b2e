"""GGUF settings and tensors as transformers needs them: one table, and the differences per architecture.

transformers can read a configuration from a GGUF file, but leaves out settings that change results: the head
size of Qwen3, the scaled rotary angles of Llama 3.1, Phi-3.5 and Gemma 3, the soft caps and the attention
scale of Gemma 2. So this module reads the settings, and refuses a file with a setting that it does not
convert.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lens_eval.base.errors import UserError
from lens_train.gguf.header import Entry, Header, gguf_package

MODEL_TYPES = {
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma2": "gemma2",
    "gemma3": "gemma3_text",
    "phi3": "phi3",
}
"""Architecture in GGUF -> model type in transformers."""
WITHOUT_EFFECT = ("vocab_size", "tensor_data_layout", "rope.scaling.finetuned")
"""Settings that decide nothing here: the vocabulary is as large as the embeddings are."""
OFF = {
    "attention.causal": True,
    "expert_count": 0,
    "expert_used_count": 0,
    "pooling_type": 0,
    "rope.scaling.attn_factor": 1.0,
    "rope.scaling.yarn_beta_fast": 32.0,
    "rope.scaling.yarn_beta_slow": 1.0,
}
"""Settings that have no effect with this value."""
LOCAL_THETA = 10000.0
"""Base of the rotary angles in Gemma 3's layers with a sliding window, if a file does not state it."""
DEEPEST = {"gemma2": 46, "gemma3": 62}
"""Layers of the models (27B) whose attention is scaled by width / heads, not by the size of a head."""
SOFT_CAPS: Mapping[str, Mapping[str, float | None]] = {
    "gemma2": {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
    "gemma3": {"attn_logit_softcapping": None, "final_logit_softcapping": None},
}
"""Default if a file does not state the value."""
ROPE_FACTORS = "rope_freqs.weight"
LONG_FACTORS, SHORT_FACTORS = "rope_factors_long.weight", "rope_factors_short.weight"
OUTPUT = "output.weight"


@dataclass(frozen=True)
class Source:
    """The source tensor of a transformers weight, and how llama.cpp changed it on writing."""

    name: str
    """As the checkpoint calls it."""
    entry: Entry
    heads: int = 0
    """Number of heads within each of which the rows are interleaved; 0: they are not interleaved."""
    offset: float = 0.0
    """Number that was added to every value."""


class _Settings:
    """The file's settings of its architecture; records which settings were read."""

    def __init__(self, header: Header) -> None:
        prefix = header.architecture + "."
        self.header = header
        self._left = {
            key.removeprefix(prefix): value for key, value in header.fields.items() if key.startswith(prefix)
        }

    def get(self, name: str, otherwise: Any = None) -> Any:
        value = self._left.pop(name, otherwise)
        if isinstance(value, list) and value and len(set(value)) == 1:
            value = value[0]  # one number per layer, the same for all
        if isinstance(value, list):
            raise UserError(f"{self.header.file} has a different {name} per layer, which is not supported")
        return decimal(value) if isinstance(value, float) else value

    def need(self, name: str) -> Any:
        value = self.get(name)
        if value is None:
            raise UserError(f"{self.header.file} does not state {self.header.architecture}.{name}")
        return value

    def pattern(self, name: str) -> list[bool] | int | None:
        return self._left.pop(name, None)

    def finish(self) -> None:
        """Refuse a file with settings that were not read."""
        unknown = {
            name: value
            for name, value in self._left.items()
            if name not in WITHOUT_EFFECT and not (name in OFF and OFF[name] == value)
        }
        if unknown:
            listed = ", ".join(
                f"{self.header.architecture}.{name} = {value}" for name, value in unknown.items()
            )
            raise UserError(
                f"{self.header.file} states {listed}, which is not carried over: the converted model would "
                "compute something else. Use the model's transformers folder or hub id"
            )


def decimal(number: float) -> float:
    """The shortest decimal that is the same float32: a file holds 1e-05 as 9.999999747378752e-06."""
    stored = struct.pack("<f", number)
    shorter = (float(f"{number:.{digits}g}") for digits in range(1, 10))
    return next((short for short in shorter if struct.pack("<f", short) == stored), number)


def check_supported(header: Header) -> None:
    """Refuse an unknown architecture.

    Raises:
        UserError: the architecture is unknown (the message lists the known ones), or the file is an adapter.
    """
    if header.fields.get("general.type", "model") != "model":
        raise UserError(f"{header.file} holds no model but: {header.fields['general.type']}")
    if header.architecture not in MODEL_TYPES:
        raise UserError(
            f"{header.file} is of the architecture {header.architecture}; GGUF files of "
            f"{', '.join(MODEL_TYPES)} are read. Use the model's transformers folder or hub id"
        )


def read_config(header: Header, factors: Mapping[str, list[float]]) -> Any:
    """The transformers configuration of a file.

    Args:
        factors: values of the file's tensors that scale the rotary angles.

    Raises:
        UserError: see `check_supported`; or a setting is missing or cannot be converted.
    """
    from transformers import AutoConfig

    check_supported(header)
    given = _Settings(header)
    heads, width = int(given.need("attention.head_count")), int(given.need("embedding_length"))
    head = int(given.get("attention.key_length", width // heads))
    if int(given.get("attention.value_length", head)) != head:
        raise UserError(f"{header.file} has keys and values of unequal size, which is not supported")
    settings: dict[str, Any] = {
        "vocab_size": header.tensors["token_embd.weight"].shape[0],
        "max_position_embeddings": int(given.need("context_length")),
        "num_hidden_layers": int(given.need("block_count")),
        "hidden_size": width,
        "intermediate_size": int(given.need("feed_forward_length")),
        "num_attention_heads": heads,
        "num_key_value_heads": int(given.get("attention.head_count_kv", heads)),
        "head_dim": head,
        "rms_norm_eps": float(given.need("attention.layer_norm_rms_epsilon")),
        "tie_word_embeddings": OUTPUT not in header.tensors,
        "bos_token_id": header.token("bos"),
        "eos_token_id": header.token("eos"),
        "pad_token_id": header.token("padding"),
    }
    if not 0 < settings["num_hidden_layers"] <= len(header.tensors):
        raise UserError(
            f"{header.file} states {settings['num_hidden_layers']} layers, and holds "
            f"{len(header.tensors)} tensors; copy or download it again"
        )
    settings["rope_parameters"] = _rope(header, given, head, settings["max_position_embeddings"], factors)
    settings |= _gemma(header, given, settings) if header.architecture in DEEPEST else {}
    settings |= _phi(header, given) if header.architecture == "phi3" else {}
    given.finish()
    try:
        return AutoConfig.for_model(MODEL_TYPES[header.architecture], **settings)
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{header.file}: transformers refuses its settings: {error}") from None


def _rope(
    header: Header, given: _Settings, head: int, context: int, factors: Mapping[str, list[float]]
) -> dict[str, Any]:
    """The rotary angles: their base, and how they are scaled."""
    angles: dict[str, Any] = {"rope_type": "default", "rope_theta": float(given.get("rope.freq_base", 1e4))}
    turned = int(given.get("rope.dimension_count", head))
    if turned != head:
        if header.architecture != "phi3":
            raise UserError(f"{header.file} turns {turned} of {head} dimensions, which is not supported")
        angles["partial_rotary_factor"] = turned / head
    factor = float(given.get("rope.scaling.factor", given.get("rope.scale_linear", 0.0)))
    kind = given.get("rope.scaling.type", "linear" if factor else "none")
    original = int(given.get("rope.scaling.original_context_length", context))
    if LONG_FACTORS in factors:
        angles |= {"rope_type": "longrope", "original_max_position_embeddings": original}
        angles |= {"long_factor": factors[LONG_FACTORS], "short_factor": factors[SHORT_FACTORS]}
        # Without it, transformers derives the value from the extension of the context.
        attention = given.get("rope.scaling.attn_factor")
        return angles | ({} if attention is None else {"attention_factor": float(attention)})
    if ROPE_FACTORS in factors:
        return angles | _llama3(header, angles["rope_theta"], head, factors[ROPE_FACTORS])
    if kind == "none" or (kind in ("linear", "yarn") and factor in (0.0, 1.0)):
        return angles
    if kind == "linear":
        return angles | {"rope_type": "linear", "factor": factor}
    if kind == "yarn":
        return angles | {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original}
    raise UserError(f"{header.file} scales its rotary angles by {kind!r}, which is not supported")


def _llama3(header: Header, theta: float, head: int, factors: list[float]) -> dict[str, Any]:
    """The settings of Llama 3's rotary scaling; a file holds only the resulting factors.

    Raises:
        UserError: the factors are not those of any released model.
    """
    if all(factor == 1.0 for factor in factors):
        return {}
    for original in (8192, 4096, 16384, 32768) if len(factors) == head // 2 else ():
        found = {
            "rope_type": "llama3",
            "factor": max(factors),
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": original,
        }
        expected = llama3_factors(theta, head, found)
        if len(expected) == len(factors) and all(
            math.isclose(a, b, rel_tol=1e-3) for a, b in zip(expected, factors, strict=True)
        ):
            return found
    raise UserError(
        f"{header.file} scales its rotary angles by factors that belong to none of Llama's scalings. "
        "Use the model's transformers folder or hub id"
    )


def llama3_factors(theta: float, head: int, settings: Mapping[str, Any]) -> list[float]:
    """Stretch factor of each wavelength of the rotary angles; head / 2 numbers."""
    low, high, factor = settings["low_freq_factor"], settings["high_freq_factor"], settings["factor"]
    factors = []
    for place in range(0, head, 2):
        turns = settings["original_max_position_embeddings"] / (2 * math.pi * theta ** (place / head))
        # Short wavelengths are kept, long ones fully stretched, and those between partly stretched.
        kept = min(1.0, max(0.0, (turns - low) / (high - low)))
        factors.append(1.0 / (kept + (1.0 - kept) / factor))
    return factors


def _gemma(header: Header, given: _Settings, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Additional entries of Gemma's configurations."""
    layers, width, heads = (
        settings[name] for name in ("num_hidden_layers", "hidden_size", "num_attention_heads")
    )
    deepest = layers == DEEPEST[header.architecture]
    found: dict[str, Any] = {
        "sliding_window": int(given.need("attention.sliding_window")),
        "query_pre_attn_scalar": width // heads if deepest else settings["head_dim"],
    }
    for name, usual in SOFT_CAPS[header.architecture].items():
        found[name] = given.get(name, usual)
    pattern = given.pattern("attention.sliding_window_pattern")
    if isinstance(pattern, int):
        pattern = [(layer + 1) % pattern != 0 for layer in range(layers)]
    if pattern is not None:
        found["layer_types"] = ["sliding_attention" if local else "full_attention" for local in pattern]
    if header.architecture == "gemma3":
        local = float(given.get("rope.freq_base_swa", LOCAL_THETA))
        found["rope_parameters"] = {
            "full_attention": settings["rope_parameters"],
            "sliding_attention": {"rope_type": "default", "rope_theta": local},
        }
    return found


def _phi(header: Header, given: _Settings) -> dict[str, Any]:
    """Additional entries of Phi's configurations."""
    original = header.fields.get("phi3.rope.scaling.original_context_length")
    window = given.get("attention.sliding_window")
    found = {} if original is None else {"original_max_position_embeddings": int(original)}
    return found | {"sliding_window": None if not window else int(window)}


def sources(header: Header, config: Any) -> list[Source]:
    """The source of every weight of the model, in the model's order.

    Raises:
        UserError: the file lacks a weight, has one in another shape, or has one that the model lacks.
    """
    import torch
    from transformers import AutoModelForCausalLM

    gguf = gguf_package()
    architecture = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == header.architecture)
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    with torch.device("meta"):
        weights = AutoModelForCausalLM.from_config(config).state_dict()
    if config.tie_word_embeddings:
        weights.pop("lm_head.weight", None)
    found = []
    for name, weight in weights.items():
        stem, _, suffix = name.rpartition(".")
        entry = header.tensors.get(f"{names.get_name(stem)}.{suffix}")
        if entry is None or entry.shape != tuple(weight.shape):
            has = "lacks it" if entry is None else f"holds it in the shape {entry.shape}"
            raise UserError(
                f"{header.file} is no complete {header.architecture}: its model needs {name} of shape "
                f"{tuple(weight.shape)}, the file {has}"
            )
        found.append(_source(header, config, name, entry))
    used = {source.entry.name for source in found} | {ROPE_FACTORS, LONG_FACTORS, SHORT_FACTORS}
    unused = [name for name in header.tensors if name not in used]
    if unused:
        raise UserError(
            f"{header.file} holds tensors that {config.model_type} of transformers has no place for: "
            f"{', '.join(unused[:3])}{' and more' if unused[3:] else ''}. Use the model's transformers folder"
        )
    return found


def _source(header: Header, config: Any, name: str, entry: Entry) -> Source:
    """What llama.cpp does to a weight when it is written."""
    heads = 0
    if header.architecture == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
        # llama.cpp rotates neighbouring dimensions; transformers rotates the two halves of a head.
        heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
    added = header.architecture in DEEPEST and name.endswith("norm.weight")
    return Source(name, entry, heads, 1.0 if added else 0.0)
