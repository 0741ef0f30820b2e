"""What the training benchmarks run on: random Llamas, a tokenizer, and prompts like those of the release.

Random weights cost what trained ones cost. The texts are joined from the built-in items until they have the
lengths of the released data, so that nothing from outside is needed.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lens_eval.mini import items_path

LANGUAGES = ("en", "zh")
PROBE_ITEMS, TRAIN_ITEMS = 300, 200
PROBE_LENGTH, TRAIN_LENGTH = (65, 1.0), (31, 0.35)
"""Median and spread (sigma of the logarithm) of the tokens of a text, near to the released data's."""
SPECIAL = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
TEMPLATE = (
    "{% for m in messages %}{% if loop.first %}<|begin_of_text|>{% endif %}<|start_header_id|>{{ m['role'] }}"
    "<|end_header_id|>\n\n{{ m['content'] }}<|eot_id|>{% endfor %}{% if add_generation_prompt %}"
    "<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)


def save_tokenizer(folder: Path) -> Any:
    """Train a byte-level BPE tokenizer on the built-in items and save it with a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4096,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    corpus = [text for code in LANGUAGES for text in _texts(code)]
    bpe.train_from_iterator([*corpus, "system user assistant You are a helpful assistant."], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=SPECIAL[0], eos_token=SPECIAL[3], pad_token=SPECIAL[3]
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return tokenizer


def save_data(folder: Path, tokenizer: Any, probe: int = PROBE_ITEMS, train: int = TRAIN_ITEMS) -> None:
    """Write `probe/test.jsonl` and `train/train.json` in the layouts of the release."""
    for name in ("probe", "train"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    columns = {code: list(_joined(code, tokenizer, probe, *PROBE_LENGTH, top=2000)) for code in LANGUAGES}
    rows = [dict(zip(columns, texts, strict=True)) for texts in zip(*columns.values(), strict=True)]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "probe" / "test.jsonl").write_text(lines, encoding="utf-8")
    columns = {
        f"input_{code}": list(_joined(code, tokenizer, train, *TRAIN_LENGTH, top=50)) for code in LANGUAGES
    }
    rows = [dict(zip(columns, texts, strict=True)) for texts in zip(*columns.values(), strict=True)]
    text = json.dumps({"Instances": rows}, ensure_ascii=False)
    (folder / "train" / "train.json").write_text(text, encoding="utf-8")


def save_small(folder: Path, dtype: str = "float32") -> None:
    """Save 16 layers x 768, 126 million weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=16384,
            hidden_size=768,
            intermediate_size=2048,
            num_hidden_layers=16,
            num_attention_heads=12,
            num_key_value_heads=12,
            max_position_embeddings=2048,
            bos_token_id=0,
            eos_token_id=3,
        )
    ).to(getattr(torch, dtype)).save_pretrained(folder)


def save_large(folder: Path, layers: int = 32) -> None:
    """Save the shape of an 8B Llama in bfloat16, a file per layer: 16 GB with 32 layers."""
    import torch
    from transformers import LlamaConfig

    from lens_train.files import write_tensors

    config = LlamaConfig(
        architectures=["LlamaForCausalLM"],
        vocab_size=128256,
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=layers,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=8192,
        bos_token_id=0,
        eos_token_id=3,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
        dtype="bfloat16",
    )
    folder.mkdir(parents=True, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator(device).manual_seed(0)

    def weight(*shape: int) -> torch.Tensor:
        empty = torch.empty(shape, dtype=torch.bfloat16, device=device)
        return empty.normal_(0, 0.02, generator=generator).cpu()

    ones = torch.ones(4096, dtype=torch.bfloat16)
    names = [f"model-{number:05d}-of-{layers + 1:05d}.safetensors" for number in range(1, layers + 2)]
    places: dict[str, str] = {}
    for number in range(layers + 1):
        path = folder / names[number]
        shapes = _outer_shapes() if number == layers else _layer_shapes(number)
        places |= dict.fromkeys(shapes, path.name)
        if not path.exists():
            tensors = {name: weight(*shape) if len(shape) > 1 else ones for name, shape in shapes.items()}
            write_tensors(path, {name: tensor.clone() for name, tensor in tensors.items()}, {"format": "pt"})
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    config.save_pretrained(folder)


def _outer_shapes() -> dict[str, tuple[int, ...]]:
    table = (128256, 4096)
    return {"model.embed_tokens.weight": table, "lm_head.weight": table, "model.norm.weight": (4096,)}


def _layer_shapes(layer: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "self_attn.q_proj": (4096, 4096),
        "self_attn.k_proj": (1024, 4096),
        "self_attn.v_proj": (1024, 4096),
        "self_attn.o_proj": (4096, 4096),
        "mlp.gate_proj": (14336, 4096),
        "mlp.up_proj": (14336, 4096),
        "mlp.down_proj": (4096, 14336),
        "input_layernorm": (4096,),
        "post_attention_layernorm": (4096,),
    }
    return {f"model.layers.{layer}.{name}.weight": shape for name, shape in shapes.items()}


def _texts(code: str) -> list[str]:
    rows = [json.loads(line) for line in items_path("train").read_text(encoding="utf-8").splitlines()]
    return [text for row in rows for text in (row["prompt"][code], row["response"][code])]


def _joined(code: str, tokenizer: Any, count: int, median: float, spread: float, top: int) -> Iterator[str]:
    """Texts joined and cut to random numbers of tokens."""
    draw = random.Random(code)
    pool = _texts(code)
    for _ in range(count):
        wanted = round(min(top, max(8, median * draw.lognormvariate(0, spread))))
        text = ""
        while True:
            text += draw.choice(pool) + " "
            offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
            if len(offsets) >= wanted:
                yield text[: offsets[wanted - 1][1]].strip()
                break
