"""ReplyCallback in transformers' Trainer and TRL's: what it logs, and that training is as without it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

from lens_eval.base.errors import UserError
from lens_eval.mini import backbone_path, items_path
from lens_eval.rewards import usable_reward
from lens_train import ReplyCallback

LANGUAGES = ("en", "zh", "sw")


def rows(count: int = 8) -> list[dict[str, Any]]:
    lines = items_path("train").read_text(encoding="utf-8").splitlines()[:count]
    return [json.loads(line) for line in lines]


def make_trainer(folder: Path, steps: int = 4, rate: float = 1e-3) -> Trainer:
    """The built-in backbone learns a few Swahili prompts by heart."""
    tokenizer = AutoTokenizer.from_pretrained(backbone_path())
    model = AutoModelForCausalLM.from_pretrained(backbone_path())
    texts = [row["prompt"]["sw"] for row in rows()]
    data = [{"input_ids": ids, "labels": ids} for text in texts for ids in [tokenizer(text)["input_ids"][:8]]]
    data = [row for row in data if len(row["input_ids"]) == 8]
    torch.manual_seed(0)
    return Trainer(
        model,
        TrainingArguments(
            str(folder),
            max_steps=steps,
            per_device_train_batch_size=2,
            learning_rate=rate,
            logging_steps=1,
            report_to=[],
            use_cpu=True,
            save_strategy="no",
            disable_tqdm=True,
            seed=3,
        ),
        train_dataset=data,  # type: ignore[arg-type]
        processing_class=tokenizer,
    )


def losses(trainer: Trainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def test_it_measures_before_between_and_after_and_training_is_as_without_it(tmp_path: Path) -> None:
    plain = make_trainer(tmp_path / "plain")
    plain.train()
    trainer = make_trainer(tmp_path / "watched")
    callback = ReplyCallback(trainer, "builtin:dev", LANGUAGES, every=2, limit=3, max_new_tokens=24)
    trainer.add_callback(callback)
    trainer.train()
    assert [entry["step"] for entry in callback.history] == [0, 2, 4]
    logged = [entry for entry in trainer.state.log_history if "eval_off_target" in entry]
    assert [entry["step"] for entry in logged] == [0, 2, 4]
    first = logged[0]
    assert first["eval_off_target"] == (first["eval_off_target_zh"] + first["eval_off_target_sw"]) / 2
    assert first["eval_off_target"] > 0.4  # the backbone answers in English
    assert first["eval_usable_en"] == 1.0
    assert losses(trainer) == losses(plain)
    assert len(losses(plain)) == 4
    assert trainer.model.training


def test_it_sees_a_model_that_learns_to_write_nothing_else(tmp_path: Path) -> None:
    """The control of the measure: a rate that destroys the model ends its usable replies."""
    trainer = make_trainer(tmp_path, steps=6, rate=0.5)
    callback = ReplyCallback(trainer, {"en": [row["prompt"]["en"] for row in rows(3)]}, max_new_tokens=16)
    trainer.add_callback(callback)
    trainer.train()
    assert callback.history[0]["eval_usable"] == 1.0
    assert callback.history[-1]["eval_usable"] < 0.5


def test_what_it_logs_reaches_the_reporters(tmp_path: Path) -> None:
    from transformers import TrainerCallback

    class Reporter(TrainerCallback):
        seen: list[dict[str, float]] = []  # noqa: RUF012

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            self.seen.append(dict(logs))

    trainer = make_trainer(tmp_path, steps=1)
    trainer.add_callback(Reporter())
    trainer.add_callback(ReplyCallback(trainer, "builtin:dev", ("sw",), limit=1, max_new_tokens=4))
    trainer.train()
    assert sum("eval_usable_sw" in logs for logs in Reporter.seen) == 2


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        ("builtin:dev", {}, "in which languages should the prompts"),
        ({}, {}, "there are no prompts"),
        ({"sw": []}, {}, "there are no prompts in sw"),
        ({"klingon": ["x"]}, {}, "unknown language code 'klingon'"),
        ({"sw": ["x"]}, {"every": 0}, "must be at least 1"),
    ],
)
def test_mistakes_are_found_before_training(
    tmp_path: Path, prompts: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        ReplyCallback(make_trainer(tmp_path), prompts, **options)


def test_a_few_steps_of_grpo_with_our_reward_and_the_callback(tmp_path: Path) -> None:
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    asked = [
        {"prompt": [{"role": "user", "content": row["prompt"][code]}], "language": code}
        for row in rows(4)
        for code in ("zh", "sw")
    ]
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(backbone_path()),
        processing_class=AutoTokenizer.from_pretrained(backbone_path()),
        reward_funcs=[usable_reward()],
        train_dataset=Dataset.from_list(asked),
        args=GRPOConfig(
            str(tmp_path),
            max_steps=3,
            per_device_train_batch_size=4,
            num_generations=4,
            max_completion_length=16,
            learning_rate=1e-4,
            temperature=1.0,
            logging_steps=1,
            report_to=[],
            use_cpu=True,
            bf16=False,
            save_strategy="no",
            disable_tqdm=True,
        ),
    )
    callback = ReplyCallback(trainer, "builtin:dev", LANGUAGES, every=2, limit=2, max_new_tokens=16)
    trainer.add_callback(callback)
    trainer.train()
    rewards = [entry["reward"] for entry in trainer.state.log_history if "reward" in entry]
    assert len(rewards) == 3
    assert all(0 <= reward <= 1 for reward in rewards)
    assert [entry["step"] for entry in callback.history] == [0, 2, 3]
    assert not any("reward" in entry for entry in trainer.state.log_history if "eval_usable" in entry)
