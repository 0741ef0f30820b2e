"""A tiny random Llama, a two-language lm_eval task and a training method, for tests of the runner."""

from __future__ import annotations

import json
import time
from pathlib import Path

from lens_train.job import Job, Variant

TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
TASK = """\
task: tiny_qa_{language}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: generate_until
doc_to_text: "{{{{prompt}}}}"
doc_to_target: "{{{{answer}}}}"
process_results: !function utils.score
generation_kwargs:
  until: ["\\n"]
  max_gen_toks: 8
  do_sample: false
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
  - metric: off_target
    aggregation: mean
    higher_is_better: false
  - metric: correct_on_target
    aggregation: mean
    higher_is_better: true
metadata:
  version: {version}
  language: {language}
  central: en
  family: tiny_qa
"""
CHOICE = """\
task: tiny_choice_{language}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{prompt}}}}"
doc_to_target: 0
doc_to_choice: ["yes", "no"]
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1
  language: {language}
  central: en
  family: tiny_choice
"""
# The random model's replies are noise: what counts here is that the numbers depend on the reply alone.
UTILS = """\
def score(doc, results):
    if doc["prompt"].startswith("FAIL"):
        raise RuntimeError("this item cannot be scored")
    number = sum(results[0].encode())
    right, off = float(number % 2 == 0), float(number % 3 == 0)
    return {"acc": right, "off_target": off, "correct_on_target": right * (1.0 - off)}
"""


def make_model(folder: Path, seed: int = 0, template: str | None = TEMPLATE) -> Path:
    """Save a random two-layer Llama with a byte-level tokenizer."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<s>", "</s>", *alphabet])}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    tokenizer.chat_template = template
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_tasks(
    folder: Path, items: int = 6, version: int = 1, languages: tuple[str, ...] = ("en", "sw", "zh")
) -> Path:
    """Write the group `tiny` (a question task and a choice task per language)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "utils.py").write_text(UTILS, encoding="utf-8")
    for language in languages:
        data = folder / f"{language}.jsonl"
        rows = [{"id": f"q{i}", "prompt": f"{language} {i}: what?", "answer": str(i)} for i in range(items)]
        data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        values = {"language": language, "data": data, "version": version}
        (folder / f"qa_{language}.yaml").write_text(TASK.format(**values), encoding="utf-8")
        (folder / f"choice_{language}.yaml").write_text(CHOICE.format(**values), encoding="utf-8")
    for kind in ("qa", "choice"):
        members = "".join(f"  - tiny_{kind}_{language}\n" for language in languages)
        (folder / f"{kind}.yaml").write_text(f"group: tiny_{kind}\ntask:\n{members}", encoding="utf-8")
    (folder / "tiny.yaml").write_text("group: tiny\ntask:\n  - tiny_qa\n  - tiny_choice\n", encoding="utf-8")
    return folder


def make_recipe(folder: Path, model: Path, task_folder: Path, **changes: object) -> Path:
    """Write a recipe: the bare model and one trained variant on the group `tiny`."""
    import yaml

    data = folder / "pairs.jsonl"
    data.write_text('{"id": "1", "prompt": {"en": "a", "sw": "b", "zh": "c"}}\n', encoding="utf-8")
    recipe: dict[str, object] = {
        "name": "tiny",
        "simulated": True,
        "backbone": str(model),
        "languages": ["en", "sw", "zh"],
        "data": {"train": "pairs.jsonl"},
        "variants": {"backbone": {}, "shaken": {"method": "tiny_world:shake", "noise": 0.5}},
        "tasks": ["tiny"],
        "include_path": [str(task_folder)],
        "backend": {"batch_size": 4, "args": {"dtype": "float32"}},
    }
    recipe.update(changes)
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


def shake(job: Job) -> None:
    """A training method: the backbone with noise on its weights."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from lens_eval.base.errors import UserError

    noise = float(job.settings["noise"])
    if noise < 0:
        raise UserError(f"noise is {noise}; it cannot be negative")
    start = time.perf_counter()
    model = AutoModelForCausalLM.from_pretrained(job.model)
    generator = torch.Generator().manual_seed(job.seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight += noise * torch.randn(weight.shape, generator=generator)
    model.save_pretrained(job.output)
    AutoTokenizer.from_pretrained(job.model).save_pretrained(job.output)
    Variant(
        method=job.method,
        kind="checkpoint",
        base={"name": str(job.model), "weights_sha256": "", "template_sha256": ""},
        languages=job.languages,
        central=job.central,
        settings=dict(job.settings),
        seed=job.seed,
        data={"name": str(job.data), "sha256": "", "items": 1},
        tokens_seen=3,
        wall_seconds=time.perf_counter() - start,
        peak_memory_bytes=1,
        versions={},
    ).save(job.output)
