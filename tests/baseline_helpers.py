"""A tiny random model and a few parallel pairs for the tests of the baselines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from lens_train.job import Job

LANGUAGES = ("en", "zh", "sw")
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>\\n' + message['content'] + eos_token + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
ITEMS: list[dict[str, Any]] = [
    {
        "id": "capital",
        "prompt": {
            "en": "What is the capital of Kenya?",
            "zh": "肯尼亚的首都是哪里？",
            "sw": "Mji mkuu wa Kenya ni upi?",
        },
        "response": {
            "en": "The capital of Kenya is Nairobi.",
            "zh": "肯尼亚的首都是内罗毕。",
            "sw": "Mji mkuu wa Kenya ni Nairobi.",
        },
    },
    {
        "id": "water",
        "prompt": {
            "en": "At how many degrees does water boil?",
            "zh": "水在多少度沸腾？",
            "sw": "Maji huchemka kwa digrii ngapi?",
        },
        "response": {
            "en": "Water boils at one hundred degrees.",
            "zh": "水在一百度沸腾。",
            "sw": "Maji huchemka kwa digrii mia moja.",
        },
    },
]


def many_items(count: int) -> list[dict[str, Any]]:
    """`count` short items about numbers in the three languages."""
    return [
        {
            "id": str(i),
            "prompt": {"en": f"What follows {i}?", "zh": f"{i}后面是几？", "sw": f"Nini hufuata {i}?"},
            "response": {"en": f"It is {i + 1}.", "zh": f"是{i + 1}。", "sw": f"Ni {i + 1}."},
        }
        for i in range(count)
    ]


def write_lines(file: Path, rows: list[dict[str, Any]]) -> Path:
    """Write JSON lines and return the file."""
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return file


def make_model(folder: Path) -> Path:
    """Save a random Llama (4 layers, 32 hidden units) with a byte-level tokenizer and a chat template."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>", "<|user|>", "<|assistant|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator([], trainers.BpeTrainer(special_tokens=special, initial_alphabet=alphabet))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        initializer_range=0.2,
        tie_word_embeddings=False,
        dtype="float32",
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def make_job(
    model: Path, data: Path, output: Path, method: str = "xsft", seed: int = 0, **settings: Any
) -> Job:
    """A job on the CPU in the three languages."""
    return Job(method, str(model), data, LANGUAGES, output, seed=seed, device="cpu", settings=settings)


def marked(dataset: Any, tokenizer: Any) -> str:
    """Every example as the model reads it, what is learned between ⟦ and ⟧."""
    texts = []
    for row in dataset:
        learned = [label != -100 for label in row["labels"]]
        first = learned.index(True)
        assert all(learned[first:]), "the answer is one stretch up to the end"
        assert [label for label in row["labels"] if label != -100] == row["input_ids"][first:]
        ids = row["input_ids"]
        texts.append(tokenizer.decode(ids[:first]) + "⟦" + tokenizer.decode(ids[first:]) + "⟧")
    return "\n----\n".join(texts) + "\n"


def weights(folder: Path) -> dict[str, Any]:
    """All tensors of a checkpoint or adapter folder."""
    return {key: value for file in folder.glob("*.safetensors") for key, value in load_file(file).items()}
