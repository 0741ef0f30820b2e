"""`lens eval` typed as `lm_eval` is, and lm_eval's own tasks in it with the language of their replies."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from in_process import lens

from lens_eval.base.errors import UserError
from lens_eval.commands.lm_eval_words import model_of, template_setting
from lens_eval.commands.options import read_pairs
from lens_eval.mini import backbone_path
from lens_eval.results.read import load
from lens_eval.runs.answer_language import language_of, measure
from lens_eval.runs.task_index import count_of
from lens_eval.tasks.built_in import documents
from lens_eval.tasks.scoring import verdict_of

TASK = """\
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: generate_until
doc_to_text: "{{{{prompt}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs:
  until: ["</s>"]
  max_gen_toks: 24
  do_sample: false
filter_list:
  - name: as-it-is
    filter:
      - function: take_first
  - name: digits
    filter:
      - function: regex
        regex_pattern: "([0-9]+)"
      - function: take_first
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
"""


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """Two tasks of the same 20 Chinese items that measure no language: the name of one says which it is."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    rows = [{"prompt": doc["prompt"], "answer": doc["response"]} for doc in documents("test", "zh")[:20]]
    data = folder / "items.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for name in ("foreign_reply_zh", "foreign_reply_plain"):
        (folder / f"{name}.yaml").write_text(TASK.format(name=name, data=data), encoding="utf-8")
    return folder


def _samples(folder: Path, task: str) -> list[dict[str, Any]]:
    (file,) = folder.rglob(f"samples_{task}_*.jsonl.gz")
    return [json.loads(line) for line in gzip.decompress(file.read_bytes()).decode().splitlines()]


def test_a_command_of_lm_evals_runs_and_the_language_of_its_task_is_measured(
    tmp_path: Path, tasks: Path
) -> None:
    """Control: the same items in a task that says no language get no verdict."""
    out = tmp_path / "out"
    command = ["eval", "--model", "hf", "--model_args", f"pretrained={backbone_path()}", "dtype=float32"]
    command += ["--tasks", "foreign_reply_zh", "foreign_reply_plain", "--include_path", tasks]
    command += ["--limit", "0.3", "--batch_size", "4", "--output_path", out, "--log_samples"]
    command += ["--gen_kwargs", "max_gen_toks=16", r'until=["\n\n","##"]', "--apply_chat_template"]
    done = lens(*command, "--num_fewshot", "1", "--device", "cpu")
    assert done.status == 0, done
    samples = _samples(out, "foreign_reply_zh")
    assert len(samples) == 2 * 6  # a row per filter, and 0.3 of 20 items
    settings = samples[0]["arguments"]["gen_args_0"]["arg_1"]
    assert (settings["max_gen_toks"], settings["until"]) == (16, ["\n\n", "##"])
    assert samples[0]["arguments"]["gen_args_0"]["arg_0"].count("<|user|>") == 2  # an example before it
    for sample in samples:
        wanted = verdict_of(
            {"language": "zh", "prompt": sample["arguments"]["gen_args_0"]["arg_0"]}, sample["resps"][0][0]
        )
        assert sample["off_target"] == float(wanted.outcome in ("central", "other"))
    scores = {each.task: each for each in load([out]).scores}
    ours = [s["off_target"] for s in samples if s["filter"] == "digits"]
    assert scores["foreign_reply_zh"].metrics["off_target"].tolist() == ours
    assert sum(ours) > 0  # this model answers in English more often than not
    (file,) = out.rglob("foreign_reply_zh/results_*.json")
    entry = json.loads(file.read_text(encoding="utf-8"))["results"]["foreign_reply_zh"]
    assert entry["off_target,none"] == pytest.approx(sum(ours) / len(ours))
    assert entry["language_of_replies"] == "zh"
    assert "off_target" not in scores["foreign_reply_plain"].metrics


@pytest.mark.parametrize(
    ("given", "model", "backend", "rest", "adapter"),
    [
        (
            ("hf", "hf", {"pretrained": "org/m", "dtype": "float16"}, None),
            "org/m",
            "hf",
            {"dtype": "float16"},
            None,
        ),
        (("vllm", "hf", {"pretrained": "org/m", "lora_local_path": "a"}, None), "org/m", "vllm", {}, "a"),
        ((None, "hf", {"pretrained": "org/m", "peft": "a"}, None), "org/m", "hf", {}, "a"),
        (("org/m", "vllm", {"dtype": "float16"}, "a"), "org/m", "vllm", {"dtype": "float16"}, "a"),
    ],
)
def test_the_model_in_lm_evals_words_and_in_ours(
    given: tuple[Any, ...], model: str, backend: str, rest: dict[str, Any], adapter: str | None
) -> None:
    assert model_of(*given) == (model, backend, rest, adapter)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("org/other", "hf", {"pretrained": "org/m"}, None), "two models are named"),
        (("hf", "hf", {}, None), "is a backend and names no model"),
        ((None, "hf", {}, None), "no model is named"),
        (("org/m", "hf", {"peft": "a"}, "b"), "two adapters"),
    ],
)
def test_a_model_that_is_not_named_once_is_refused(given: tuple[Any, ...], words: str) -> None:
    with pytest.raises(UserError, match=words):
        model_of(*given)


def test_arguments_are_read_as_lm_eval_reads_them() -> None:
    assert read_pairs(["a=1,b=true", 'c=["x","y"]']) == {"a": 1, "b": True, "c": ["x", "y"]}
    assert read_pairs('{"a": {"b": 0.5}}') == {"a": {"b": 0.5}}
    for wrong in ("a", '{"a": '):
        with pytest.raises(UserError, match="is not key=value"):
            read_pairs(wrong)


def test_a_limit_below_one_is_a_share() -> None:
    """As lm_eval's own function has it."""
    from types import SimpleNamespace

    from lm_eval.evaluator_utils import get_sample_size

    for items in (1, 7, 250):
        task = SimpleNamespace(eval_docs=range(items))
        for limit in (0.1, 0.5, 1.0, 3.0, None):
            theirs = get_sample_size(task, limit)
            assert count_of(items, limit) == (items if theirs is None else min(items, theirs))


def test_a_template_by_name() -> None:
    assert [template_setting(text) for text in (None, "auto", "true", "False", "rag")] == [
        *("auto", "auto"),
        *(True, False),
        "rag",
    ]


@pytest.mark.parametrize(
    ("name", "subset", "language"),
    [
        ("mgsm_direct_sw", None, "sw"),
        ("mgsm_en_cot_sw", None, ""),
        ("mmlu_prox_sw_law", "sw", "sw"),
        ("mlqa_zh_ar", None, ""),
        ("mlqa_ar_ar", None, "ar"),
        ("agieval_lsat_ar", None, ""),
        ("wmt16_de_en", None, ""),
        ("gsm8k", "main", ""),
    ],
)
def test_the_language_of_a_task_is_taken_from_what_says_it(
    name: str, subset: str | None, language: str
) -> None:
    from types import SimpleNamespace

    config = SimpleNamespace(metadata={"version": 1}, dataset_name=subset)
    task = SimpleNamespace(OUTPUT_TYPE="generate_until", task_name=name, config=config)
    assert language_of(task) == language
    chosen = SimpleNamespace(OUTPUT_TYPE="multiple_choice", task_name=name, config=config)
    assert language_of(chosen) == ""


def test_a_language_that_no_detector_tells_is_left_unmeasured() -> None:
    """Control: the same samples in Swahili are judged."""
    from types import SimpleNamespace

    for language, judged in (("wo", False), ("sw", True)):
        sample = {"doc_id": 0, "metrics": ["acc"], "arguments": [("Swali?", {})], "resps": [["The answer."]]}
        name = f"foreign_{language}"
        results = {"samples": {name: [sample]}, "results": {name: {}}}
        config = SimpleNamespace(metadata={}, dataset_name=None)
        measure(results, SimpleNamespace(OUTPUT_TYPE="generate_until", task_name=name, config=config))
        assert ("off_target" in sample["metrics"]) is judged
        assert bool(results["results"][name]) is judged
