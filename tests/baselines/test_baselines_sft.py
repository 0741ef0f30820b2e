"""Supervised fine-tuning: training text, masks, what is trained, repeatability, resuming, loading."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from baseline_helpers import ITEMS, LANGUAGES, make_job, make_model, many_items, marked, weights, write_lines

from lens_eval.base.errors import UserError
from lens_train import methods
from lens_train.baselines import pairs, training_log, tuning
from lens_train.export import merge_adapter
from lens_train.job import Variant

TEXTS = Path(__file__).parents[1] / "fixtures" / "baselines"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lines(tmp_path_factory.mktemp("data") / "pairs.jsonl", many_items(12))


@pytest.fixture(scope="module")
def trained(model: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One step of each method, with a rate that leaves no doubt about what has moved."""
    folder = tmp_path_factory.mktemp("variants")
    for method in ("xsft", "xsft_top", "xsft_lora", "xsft_large"):
        more: dict[str, Any] = {"rank": 32} if method == "xsft_lora" else {}
        if method != "xsft_large":
            more["train_items"] = 4
        methods.train(
            make_job(model, data, folder / method, method, steps=1, warmup=0.0, learning_rate=1e-2, **more)
        )
    return {path.name: path for path in folder.iterdir()}


def test_training_text_and_loss_mask_are_as_reviewed(model: Path, tmp_path: Path) -> None:
    job = make_job(model, write_lines(tmp_path / "pairs.jsonl", ITEMS), tmp_path / "out")
    _, items = tuning.load_budget(job, tuning.TuningSettings())
    run = tuning.Run(job, tuning.TuningSettings())
    trainer = run.trainer(training_log.Stage("answers", pairs.examples(items, LANGUAGES)))
    texts = marked(trainer.train_dataset, run.tokenizer)
    assert texts == (TEXTS / "xsft.txt").read_text(encoding="utf-8")


def test_batches_hold_whole_items_in_order_without_packing(model: Path, data: Path, tmp_path: Path) -> None:
    settings = tuning.TuningSettings(batch_size=2, micro_batch_size=6)
    job = make_job(model, data, tmp_path / "out")
    _, items = tuning.load_budget(job, settings)
    trainer = tuning.Run(job, settings).trainer(
        training_log.Stage("answers", pairs.examples(items, LANGUAGES))
    )
    assert (trainer.args.per_device_train_batch_size, trainer.args.gradient_accumulation_steps) == (6, 1)
    batches = list(trainer.get_train_dataloader())
    assert len(batches) == 6
    rows = trainer.train_dataset["input_ids"]
    assert batches[1]["input_ids"][0].tolist()[: len(rows[6])] == rows[6]
    assert batches[0]["attention_mask"].sum(1).tolist() == [len(row) for row in rows[:6]]
    assert (batches[0]["labels"][batches[0]["attention_mask"] == 0] == -100).all()


def test_items_come_in_the_order_lens_takes_them(model: Path, data: Path, tmp_path: Path) -> None:
    from lens_train.config import LensConfig
    from lens_train.loop import step_items

    job = make_job(model, data, tmp_path / "out", seed=3)
    made = pairs.examples(pairs.read_pairs(data, LANGUAGES).items, LANGUAGES)
    for ours, theirs in (({"epochs": 2}, {"epochs": 2}), ({"steps": 5}, {"steps": 5})):
        order = tuning.example_order(made, tuning.TuningSettings(batch_size=4, **ours), job)
        steps = step_items(LensConfig(LANGUAGES, batch_size=4, **theirs), 12, 3)
        assert [made[index].item for index in order[::3]] == [str(item) for items in steps for item in items]
        assert [made[index].language for index in order[:3]] == list(LANGUAGES)


def test_one_step_changes_what_it_should_and_nothing_else(model: Path, trained: dict[str, Path]) -> None:
    before = weights(model)
    changed = {
        method: {
            name for name, value in weights(trained[method]).items() if not torch.equal(value, before[name])
        }
        for method in ("xsft", "xsft_top", "xsft_large")
    }
    assert changed["xsft"] == changed["xsft_large"] == set(before)
    tops = {name for name in before if ".layers.2." in name or ".layers.3." in name}
    assert changed["xsft_top"] == tops
    assert len(tops) == 18


def test_lora_touches_only_adapters(model: Path, trained: dict[str, Path]) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    adapter = weights(trained["xsft_lora"])
    assert set(adapter) == {
        f"base_model.model.model.layers.{n}.{part}.lora_{side}.weight"
        for n in range(4)
        for part in (
            *(f"self_attn.{p}_proj" for p in "qkvo"),
            *(f"mlp.{p}_proj" for p in ("gate", "up", "down")),
        )
        for side in "AB"
    }
    assert all(value.abs().sum() > 0 for value in adapter.values())
    assert {value.shape[0] for name, value in adapter.items() if ".lora_A." in name} == {32}
    config = json.loads((trained["xsft_lora"] / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(model.resolve())
    base = AutoModelForCausalLM.from_pretrained(model)
    ids = torch.arange(5, 25)[None]
    plain = base(ids).logits
    adapted = PeftModel.from_pretrained(base, trained["xsft_lora"])
    assert not torch.allclose(adapted(ids).logits, plain, atol=1e-3)
    with adapted.disable_adapter():
        assert torch.equal(adapted(ids).logits, plain)


def test_the_variant_says_what_it_is(model: Path, data: Path, trained: dict[str, Path]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    for method, items in (("xsft", 4), ("xsft_top", 4), ("xsft_large", 12)):
        variant = Variant.load(trained[method])
        assert (variant.method, variant.kind, variant.languages) == (method, "checkpoint", LANGUAGES)
        assert variant.base["name"] == str(model)
        assert len(variant.base["weights_sha256"]) == 64
        assert variant.data["items"] == items
        assert variant.data["examples"] == items * 3
        assert variant.data["name"] == "pairs.jsonl"
        assert variant.tokens_seen > 0
        assert variant.wall_seconds > 0
        assert variant.peak_memory_bytes > 1 << 20
        loaded = AutoModelForCausalLM.from_pretrained(trained[method])
        assert loaded.dtype == torch.float32
        chat = [{"role": "user", "content": "jambo"}]
        ours, theirs = (
            AutoTokenizer.from_pretrained(f).apply_chat_template(chat) for f in (trained[method], model)
        )
        assert ours["input_ids"] == theirs["input_ids"]
        configs = [json.loads((folder / "config.json").read_text()) for folder in (trained[method], model)]
        assert configs[0] == configs[1]
    assert Variant.load(trained["xsft_lora"]).kind == "adapter"
    log = [json.loads(line) for line in (trained["xsft"] / "training" / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log] == [1]
    assert log[0]["tokens"] == Variant.load(trained["xsft"]).tokens_seen
    assert not (trained["xsft"] / "training" / "state").exists()


@pytest.mark.parametrize("method", ["xsft", "xsft_lora"])
def test_the_same_seed_gives_the_same_weights(model: Path, data: Path, tmp_path: Path, method: str) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        methods.train(make_job(model, data, tmp_path / name, method, seed, batch_size=4, learning_rate=1e-3))
    first, again, other = (weights(tmp_path / name) for name in "abc")
    assert all(torch.equal(first[key], again[key]) for key in first)
    if method == "xsft_lora":
        assert not all(torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("method", ["xsft", "xsft_lora"])
def test_a_killed_run_goes_on_to_the_same_weights(
    model: Path, data: Path, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"batch_size": 2, "save_steps": 2, "learning_rate": 1e-3}
    whole, parts = (make_job(model, data, tmp_path / name, method, **settings) for name in ("whole", "parts"))
    methods.train(whole)
    step_end = training_log.TrainingLog.on_step_end

    def killed(self: Any, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if state.global_step == 5:
            raise KeyboardInterrupt
        step_end(self, args, state, control, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(training_log.TrainingLog, "on_step_end", killed)
        with pytest.raises(KeyboardInterrupt):
            methods.train(parts)
    states = parts.output / "training" / "state" / "answers"
    assert [path.name for path in states.glob("checkpoint-*")] == ["checkpoint-4"]
    assert not (parts.output / "variant.json").exists()
    # A state whose writing was cut short is passed over.
    shutil.copytree(states / "checkpoint-4", states / "checkpoint-6")
    (states / "checkpoint-6" / "trainer_state.json").unlink()
    methods.train(parts)
    expected, found = weights(whole.output), weights(parts.output)
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    assert Variant.load(parts.output).tokens_seen == Variant.load(whole.output).tokens_seen
    logs = [[json.loads(line) for line in (job.output / tuning.LOG).open()] for job in (whole, parts)]
    assert [entry["step"] for entry in logs[1]] == list(range(1, 7))
    assert [entry["loss"] for entry in logs[0]] == [entry["loss"] for entry in logs[1]]


def test_tokens_trained_on_are_counted_alike_by_lens_and_by_tuning(
    model: Path, data: Path, tmp_path: Path
) -> None:
    """The same steps over the same items: prompts for Lens, prompts and answers for fine-tuning."""
    from lens_train.checkpoint import Checkpoint
    from lens_train.config import LensConfig
    from lens_train.loop import step_items

    items = pairs.read_pairs(data, LANGUAGES).items
    tokenizer = Checkpoint.open(str(model)).tokenizer
    steps = step_items(LensConfig(LANGUAGES, steps=4, batch_size=4), len(items), 0)  # a second pass begins
    chosen = [items[index] for step in steps for index in step]

    def tokens(which: list[pairs.Item], *, answers: bool) -> int:
        chats = [
            [
                {"role": "user", "content": item.prompt[code]},
                *([{"role": "assistant", "content": item.response[code]}] if answers else []),
            ]
            for item in which
            for code in LANGUAGES
        ]
        made = tokenizer.apply_chat_template(chats, add_generation_prompt=not answers, return_dict=True)
        return sum(map(len, made["input_ids"]))

    for method in ("lens", "xsft"):
        methods.train(make_job(model, data, tmp_path / method, method, steps=4, batch_size=4))
    lens, tuned = Variant.load(tmp_path / "lens"), Variant.load(tmp_path / "xsft")
    assert lens.tokens_seen == tokens(chosen, answers=False)
    assert tuned.tokens_seen == tokens(chosen, answers=True)
    assert lens.data["probe_tokens"] == tokens(list(items), answers=False)


@pytest.mark.parametrize("method", ["xsft", "xsft_lora"])
def test_gradient_checkpointing_changes_memory_only(
    model: Path, data: Path, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The layers run a second time in the backward pass, and the weights come out the same."""
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer

    passes = []
    forward = LlamaDecoderLayer.forward
    monkeypatch.setattr(
        LlamaDecoderLayer, "forward", lambda self, *a, **k: passes.append(1) or forward(self, *a, **k)
    )
    counts = {}
    for checkpointing in (False, True):
        passes.clear()
        settings = {"gradient_checkpointing": checkpointing, "steps": 2, "warmup": 0.0, "learning_rate": 1e-2}
        methods.train(make_job(model, data, tmp_path / str(checkpointing), method, **settings))
        counts[checkpointing] = len(passes)
    assert counts[True] == 2 * counts[False]
    kept, again = weights(tmp_path / "False"), weights(tmp_path / "True")
    assert all(torch.allclose(kept[key], again[key], atol=1e-6) for key in kept)


def test_two_stages_are_refused_where_the_model_is_split(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UserError, match="qalign trains in two stages"):
        methods.train(make_job(model, data, tmp_path / "out", "qalign"))
    assert not (tmp_path / "out").exists()


def test_examples_that_are_too_long_or_in_another_language(model: Path, tmp_path: Path) -> None:
    rows = json.loads(json.dumps(ITEMS))
    rows[0]["response"]["sw"] = rows[0]["response"]["zh"]
    rows[1]["response"]["en"] = "Water boils. " * 40
    data = write_lines(tmp_path / "pairs.jsonl", rows)
    settings = tuning.TuningSettings(max_length=200, wrong_language="drop")
    job = make_job(model, data, tmp_path / "out")
    _, items = tuning.load_budget(job, settings)
    kept, counts = tuning.Run(job, settings).screen(pairs.examples(items, LANGUAGES))
    assert {(e.item, e.language) for e in kept} == {
        ("capital", "en"),
        ("capital", "zh"),
        ("water", "zh"),
        ("water", "sw"),
    }
    assert (counts["examples"], counts["too_long"], counts["wrong_language"]) == (4, 1, 1)
    with pytest.raises(UserError, match="none of 6 examples can be used"):
        methods.train(make_job(model, data, tmp_path / "out", max_length=5))
    assert not (tmp_path / "out").exists()


def test_templates_that_would_spoil_training_are_refused(model: Path, data: Path, tmp_path: Path) -> None:
    for change, message in (
        (lambda template: "{{ bos_token }}" + template, "two BOS tokens"),
        (lambda template: None, "has no chat template"),
    ):
        spoiled = tmp_path / "model"
        shutil.copytree(model, spoiled, dirs_exist_ok=True)
        template = spoiled / "chat_template.jinja"
        changed = change(template.read_text())
        template.write_text(changed) if changed else template.unlink()
        with pytest.raises(UserError, match=message):
            methods.train(make_job(spoiled, data, tmp_path / "out"))
        assert not (tmp_path / "out").exists()


def test_quiet_where_output_is_no_terminal(
    model: Path, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    methods.train(make_job(model, data, tmp_path / "out", steps=2))
    assert "".join(capfd.readouterr()) == ""


def test_lm_eval_applies_checkpoint_and_adapter(model: Path, trained: dict[str, Path]) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    def likelihood(**arguments: str) -> float:
        lm = HFLM(device="cpu", dtype="float32", **arguments)
        request = Instance("loglikelihood", {}, ("What follows 3?", " It is 4."), 0)
        return lm.loglikelihood([request], disable_tqdm=True)[0][0]

    plain = likelihood(pretrained=str(model))
    assert likelihood(pretrained=str(model)) == plain
    adapted = likelihood(pretrained=str(model), peft=str(trained["xsft_lora"]))
    tuned = likelihood(pretrained=str(trained["xsft"]))
    assert abs(adapted - plain) > 0.1
    assert abs(tuned - plain) > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("method", ["xsft", "xsft_lora", "sdrrl"])
def test_two_processes_train_what_one_does(model: Path, data: Path, tmp_path: Path, method: str) -> None:
    from lens_eval.mini import backbone_path, items_path

    own = method == "sdrrl"  # needs a model that answers
    base, pairs_file = (backbone_path(), items_path("train")) if own else (model, data)
    script = (
        "import sys; from pathlib import Path\n"
        "from lens_train import methods; from lens_train.job import Job\n"
        f"methods.train(Job({method!r}, {str(base)!r}, Path({str(pairs_file)!r}), ('en', 'zh', 'sw'), "
        "Path(sys.argv[1]), device='cpu', "
        "settings={'train_items': 8, 'batch_size': 4, 'learning_rate': 1e-3, 'warmup': 0.0}))\n"
    )
    file = tmp_path / "run.py"
    file.write_text(script)
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_machines", "1"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    for name, command in (("one", [sys.executable]), ("two", [*launch, "--num_processes", "2"])):
        done = subprocess.run(
            [*command, str(file), str(tmp_path / name)],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert all(torch.allclose(one[key], two[key], atol=1e-4) for key in one)
    assert Variant.load(tmp_path / "one").tokens_seen == Variant.load(tmp_path / "two").tokens_seen


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_run_of_one_step_has_a_rate(model: Path, data: Path, tmp_path: Path, epochs: int) -> None:
    """Of one step all would be warm-up. A control: two steps begin at 0, as Lens does."""
    methods.train(make_job(model, data, tmp_path / "out", "xsft_top", train_items=8, epochs=epochs))
    log = [json.loads(line) for line in (tmp_path / "out" / tuning.LOG).read_text().splitlines()]
    assert [step["learning_rate"] for step in log] == [1e-5] if epochs == 1 else [0.0, 1e-5]


def test_a_merged_adapter_is_the_base_with_the_adapter(
    model: Path, data: Path, trained: dict[str, Path], tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    merge_adapter(trained["xsft_lora"], str(model), tmp_path / "merged")
    ids = torch.arange(9)[None]
    with torch.no_grad():
        base = AutoModelForCausalLM.from_pretrained(model)
        plain = base(ids).logits
        adapted = PeftModel.from_pretrained(base, trained["xsft_lora"])(ids).logits
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")(ids).logits
    assert torch.allclose(merged, adapted, atol=1e-4)
    assert not torch.allclose(merged, plain, atol=1e-2)
    assert Variant.load(tmp_path / "merged").kind == "checkpoint"
    assert weights(tmp_path / "merged").keys() == weights(model).keys()
    with pytest.raises(UserError, match="is not empty"):
        merge_adapter(trained["xsft_lora"], str(model), tmp_path / "merged")
    with pytest.raises(UserError, match=r"was trained from .*, not from builtin"):
        merge_adapter(trained["xsft_lora"], "builtin", tmp_path / "other")
    assert not (tmp_path / "other").exists()
