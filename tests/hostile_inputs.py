"""One valid file of every format that a command reads, to be spoilt."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import gguf_files
import tiny_lens
import tiny_world
from in_process import inside, lens
from lm_eval_files import write_results
from report_run import make_run, make_training

MODEL_FILES = tuple(
    f"model/{name}"
    for name in (
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    )
)
SPOKEN = (
    ("The capital of Kenya is the city of Nairobi.", "sw"),
    ("Mji mkuu wa Kenya ni Nairobi, na ni mji mkubwa.", "sw"),
    ("北京是中国的首都。", "zh"),
    ('He said: "so be it", and left.', "en"),
)
BASIC = ["--model", "model", "--data", "prompts.jsonl", "--languages", "en,zh,sw", "--device", "cpu"]


def make_inputs(folder: Path) -> Path:
    """Write them below `folder`."""
    tiny_lens.save_model(folder / "model")
    tiny_lens.save_prompts(folder / "prompts.jsonl")
    rows = [json.loads(line) for line in (folder / "prompts.jsonl").read_text("utf-8").splitlines()]
    _json(folder / "list.json", rows)
    _responses(folder)
    _results(folder)
    _settings(folder)
    write_judged(folder / "answers")
    _adapter(folder / "adapter", folder / "model")
    gguf_files.write_gguf(folder / "small.gguf", gguf_files.llama())
    with inside(folder):
        _made_by_commands()
    return folder


def _responses(folder: Path) -> None:
    lines = "".join(
        json.dumps({"id": n, "text": text, "language": code}, ensure_ascii=False) + "\n"
        for n, (text, code) in enumerate(SPOKEN)
    )
    (folder / "said.jsonl").write_text(lines, encoding="utf-8")
    (folder / "said.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    for ending, sign in (("csv", ","), ("tsv", "\t")):
        quoted = [f'"{text.replace(chr(34), chr(34) * 2)}"{sign}{code}\n' for text, code in SPOKEN]
        (folder / f"said.{ending}").write_text(f"text{sign}language\n" + "".join(quoted), encoding="utf-8")
    (folder / "words.txt").write_text("the\ncapital\ncity\n", encoding="utf-8")


def _results(folder: Path) -> None:
    for name in ("a", "b"):
        columns = {"acc": [1.0, 0.0, 1.0], "off_target": [0.0, 1.0, 0.0], "on_target": [1.0, 0.0, 1.0]}
        write_results(folder / name, {"x_sw": columns, "x_en": columns}, model=name, stamp="T")
    make_run(folder / "run", items=4, codes=("en", "sw"))
    curve = {"stage": "", "term": "loss", "averaged": 1, "steps": [1, 2], "values": [2.0, 1.0]}
    _json(folder / "run" / "training.json", {"lens": {"model": "m", "curves": [curve], "diagnostics": {}}})
    make_training(folder / "trained", steps=4)
    (folder / "paper.csv").write_text(
        "model,variant,task,language,metric,value,source\nm,a,x,sw,acc,61.2,Table 1\n", encoding="utf-8"
    )


def _settings(folder: Path) -> None:
    (folder / "settings.yaml").write_text(
        "probe_items: 2\nrank: 1\ndisplacement: {zh: 0.5}\ntemplate_args: {}\n", encoding="utf-8"
    )
    (folder / "points.yaml").write_text(
        "grid:\n  learning_rate: [1e-4]\nlist:\n- {displacement: 0.5}\n", encoding="utf-8"
    )
    tiny_world.make_tasks(folder / "tasks", items=2, languages=("en", "sw"))
    tiny_world.make_recipe(
        folder,
        folder / "model",
        folder / "tasks",
        backbone="./model",
        include_path=["tasks"],
        languages=["en", "sw"],
        data={"train": "prompts.jsonl"},
        variants={"backbone": {}, "lens": {"method": "lens", "steps": 1}},
    ).rename(folder / "recipe.yaml")


def write_judged(folder: Path) -> None:
    """What lm_eval leaves of one answer to `lens_mtbench_sw`, and a grade for it."""
    from lens_eval.judge.grades import Judgement, append_judgement, find_answers

    folder.mkdir()
    stamp = "2026-01-01T00-00-00.000000"
    task = "lens_mtbench_sw"
    metadata = {"family": "mtbench", "language": "sw", "central": "en", "version": 1.0}
    sample = {
        "doc_id": 0,
        "doc": {"id": "0", "turns": ["Nini?", "Na sasa?"], "language": "sw", "references": []},
        "target": "",
        "arguments": {"gen_args_0": {"arg_0": "Nini?", "arg_1": {}}},
        "resps": [["Ndiyo."]],
        "filtered_resps": ["Ndiyo."],
        "filter": "none",
        "metrics": ["on_target"],
        "on_target": 1.0,
        **dict.fromkeys(("doc_hash", "prompt_hash", "target_hash"), "0" * 64),
    }
    results = {
        "results": {task: {}},
        "configs": {task: {"task": task, "metadata": metadata, "generation_kwargs": {}}},
        "versions": {task: 1.0},
        "n-shot": {task: 0},
        "n-samples": {task: {"original": 1, "effective": 1}},
        "model_name": "org/model",
    }
    _json(folder / f"results_{stamp}.json", results)
    (folder / f"samples_{task}_{stamp}.jsonl").write_text(json.dumps(sample) + "\n", encoding="utf-8")
    (answer,) = find_answers(folder)
    (folder / "judge_m").mkdir()
    append_judgement(folder / "judge_m" / "judgements.jsonl", Judgement(answer.key("m"), 7.0, "Grade: 7"))


def _adapter(folder: Path, model: Path) -> None:
    import peft
    import transformers

    base = transformers.AutoModelForCausalLM.from_pretrained(model)
    settings = peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    peft.get_peft_model(base, settings).save_pretrained(folder)
    file = folder / "adapter_config.json"
    _json(file, {**json.loads(file.read_text("utf-8")), "base_model_name_or_path": "model"})


def _made_by_commands() -> None:
    import pytest

    from lens_train import export

    _run("probe", *BASIC, "--output", "subspaces")
    train = ["train", *BASIC, "--set", "steps=1", "--set", "show_replies=0"]
    _run(*train, "--subspaces", "subspaces", "--delta", "--output", "delta")
    _run("train", *BASIC, "--method", "steer", "--set", "subspaces=subspaces", "--output", "steering")
    _run("train", *BASIC, "--method", "diffmean", "--set", "layer=1", "--output", "adding")

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:  # everything but the checkpoint is there
        patch.setattr(export, "merge_tensors", stop)
        assert lens(*train, "--output", "begun").status == 130


def _run(*arguments: str) -> None:
    done = lens(*arguments)
    assert done.status == 0, done


def _json(file: Path, document: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
