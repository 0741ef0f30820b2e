"""A tiny random model with a tokenizer of its own, and parallel prompts, for the tests of lens_train."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
PROMPTS = {
    "en": ["Give three tips for staying healthy.", "What is a cat?", "Name a river.", "How far is the moon?"],
    "zh": ["给出三个保持健康的秘诀。", "猫是什么？", "说出一条河的名字。", "月亮有多远？"],
    "sw": [
        "Toa vidokezo vitatu vya afya.",
        "Paka ni nini?",
        "Taja mto mmoja.",
        "Mwezi uko mbali kiasi gani?",
    ],
}


def tokenizer() -> Any:
    """Bytes as tokens, and a chat template."""
    special = ["<pad>", "<s>", "</s>"]
    vocabulary = {
        token: number for number, token in enumerate([*special, *pre_tokenizers.ByteLevel.alphabet()])
    }
    fast = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    wrapped = transformers.PreTrainedTokenizerFast(
        tokenizer_object=fast, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    wrapped.chat_template = TEMPLATE
    return wrapped


def config(**changes: Any) -> Any:
    """A Llama of four layers."""
    settings = {
        "vocab_size": 260,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.1,
    }
    return transformers.LlamaConfig(**{**settings, **changes})


def save_model(folder: Path, model_config: Any = None, seed: int = 0, template: bool = True) -> str:
    """Write a random model and its tokenizer; returns the folder's name."""
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(model_config or config())
    model.save_pretrained(folder)
    words = tokenizer()
    if not template:
        words.chat_template = None
    words.save_pretrained(folder)
    return str(folder)


def save_prompts(
    path: Path, items: int = 4, languages: tuple[str, ...] = ("en", "zh", "sw"), texts: int = 4
) -> Path:
    """Write parallel prompts as JSON lines; beyond `texts` items they repeat with a number.

    With one text, what tells the items of a language apart is the number alone. The languages then lie far
    apart compared with the spread of their items, whatever random weights a machine draws.
    """
    with path.open("w", encoding="utf-8") as file:
        for item in range(items):
            prompt = {code: f"{PROMPTS[code][item % texts]} {item}" for code in languages}
            file.write(json.dumps({"id": str(item), "prompt": prompt}, ensure_ascii=False) + "\n")
    return path
