"""Fine-tuning on examples with TRL's SFTTrainer: what all trained baselines share.

The loss covers only the answers. Examples are not packed. TRL applies the chat template once, to user and
assistant turns without a system message. Items come in the same order as in Lens.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import transformers

from lens_eval.base.errors import UserError
from lens_eval.base.identity import versions_of
from lens_eval.mini import resolve_data
from lens_train import methods
from lens_train.baselines import pairs
from lens_train.baselines.pairs import Example, PairData
from lens_train.baselines.training_log import Stage, TrainingLog, quiet, read_log
from lens_train.checkpoint import Checkpoint, listed
from lens_train.job import Job, Variant
from lens_train.memory import peak_memory

STATE = Path("training") / "state"
ASIDE = Path("training") / "partial"
LOG = Path("training") / "log.jsonl"
PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "lens-multilingual")


@dataclass(frozen=True)
class TuningSettings:
    """Settings of every fine-tuned baseline. The optimizer is AdamW (betas 0.9, 0.999)."""

    train_items: int | None = 200
    """The data budget: parallel items, each in all languages; fewer if the data holds fewer. None: all."""
    epochs: int = 1
    """Passes over the training examples."""
    steps: int | None = None
    """Optimizer steps, in as many passes as they need; None: as many steps as `epochs` give."""
    batch_size: int = 8
    """Parallel items per optimizer step, as in Lens; a step holds all examples made from these items."""
    micro_batch_size: int = 8
    """Most examples per forward pass and process; it affects memory, and results only by rounding."""
    learning_rate: float = 1e-5
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: float = 0.05
    """Share of all steps."""
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    """Largest norm of the gradient."""
    max_length: int = 1024
    """Tokens of prompt and answer together; longer examples are left out and counted, never cut."""
    wrong_language: Literal["keep", "drop", "unchecked"] = "keep"
    """What happens to examples whose answer is in another language by the off-target metric: `keep` and
    count, `drop` and count, or `unchecked` (for languages that the detector does not know)."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of the weights. auto: float32 on the CPU. On a GPU: float32 under bfloat16 autocast for weights
    that are trained in full, bfloat16 for a backbone that is frozen under an adapter."""
    gradient_checkpointing: bool = False
    save_steps: int = 100
    """Optimizer steps between two saved states, from which a killed run resumes."""

    def __post_init__(self) -> None:
        for name in (
            "train_items",
            "epochs",
            "steps",
            "batch_size",
            "micro_batch_size",
            "max_length",
            "save_steps",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"setting {name} is {value}; it must be at least 1")
        if not 0 < self.learning_rate < math.inf:
            raise UserError(f"setting learning_rate is {self.learning_rate}; it must be above 0")
        require_range("warmup", self.warmup, 0, 1, below=True)
        for name in ("weight_decay", "clip_norm"):
            require_range(name, getattr(self, name), 0, math.inf, below=True)


def require_range(name: str, value: float, least: float, most: float, below: bool = False) -> None:
    """Refuse a number outside its range; NaN is outside every range.

    Raises:
        UserError: naming the setting, its value and the range.
    """
    if not (least <= value < most if below else least <= value <= most):
        bound = "" if most == math.inf else f" and {'below' if below else 'at most'} {most:g}"
        raise UserError(f"setting {name} is {value}; it must be at least {least:g}{bound}")


@dataclass(frozen=True)
class LoraSettings(TuningSettings):
    """A low-rank adapter (arXiv 2106.09685) on linear layers, by PEFT."""

    learning_rate: float = 1e-4
    rank: int = 16
    alpha: int = 32
    """The adapter's output is scaled by alpha / rank."""
    dropout: float = 0.0
    targets: tuple[str, ...] | None = None
    """Names of the adapted modules. None: every linear layer except the output layer."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("rank", "alpha"):
            if getattr(self, name) < 1:
                raise UserError(f"setting {name} is {getattr(self, name)}; it must be at least 1")
        require_range("dropout", self.dropout, 0, 1, below=True)
        if self.targets is not None and not self.targets:
            raise UserError("setting targets names no module; leave it out for every linear layer")


class Run:
    """One training run: the model in memory, its output folder, and what it has cost so far."""

    def __init__(self, job: Job, settings: TuningSettings) -> None:
        """Load model and tokenizer.

        Raises:
            UserError: the chat template is missing or faulty, the device does not exist, one process sees
                several GPUs, or the disk is too full.
        """
        from lens_eval.base.files import need_disk
        from lens_train.decoder import load_model

        self.job, self.settings = job, settings
        self._started = time.perf_counter()
        self.checkpoint = Checkpoint.open(job.model)
        adapted = isinstance(settings, LoraSettings)
        if not adapted:
            self.checkpoint.require_whole_weights(job.method)
        self.tokenizer = copy.deepcopy(self.checkpoint.tokenizer)  # the trainer changes its own
        _check_template(self.tokenizer, job.model)
        _check_devices(job.device)
        need_disk(job.output, 0 if adapted else self.checkpoint.bytes)
        with quiet():
            self.model = load_model(self.checkpoint, job.device, _weights_dtype(settings, adapted))
        # The trainer adds a padding token to them; the variant keeps those of its backbone.
        self._configs = copy.deepcopy((self.model.config, self.model.generation_config))
        self._tensors: Mapping[str, torch.Tensor] = {}
        self._tokens = 0
        self._seconds_before = 0.0

    def screen(self, found: Sequence[Example]) -> tuple[list[Example], dict[str, Any]]:
        """Leave out examples that are too long or (with `drop`) in another language; count both.

        Raises:
            UserError: no example is left.
        """
        job, settings = self.job, self.settings
        fitting = [example for example in found if _length(self.tokenizer, example) <= settings.max_length]
        right = fitting
        languages: dict[str, dict[str, int]] = {}
        if settings.wrong_language != "unchecked":
            right, languages = pairs.check_languages(fitting, job.central)
        kept = right if settings.wrong_language == "drop" else fitting
        long, wrong = len(found) - len(fitting), len(fitting) - len(right)
        if not kept:
            raise UserError(
                f"{job.data}: none of {len(found)} examples can be used ({long} are longer than "
                f"{settings.max_length} tokens, {wrong} are answered in another language)"
            )
        counts = {
            "examples": len(kept),
            "too_long": long,
            "wrong_language": wrong,
            "answer_languages": languages,
        }
        return kept, counts

    def stage(self, stage: Stage, adapter: Any = None) -> None:
        """Train on `stage`; resume from the last saved state of an interrupted run.

        Args:
            adapter: a `peft.LoraConfig` to train instead of the weights that require gradients.
        """
        if sharded() and not stage.last:
            raise UserError(
                f"{self.job.method} trains in two stages, and a model that FSDP or DeepSpeed has split over "
                "processes cannot be taken up by the second; launch it without them"
            )
        log = TrainingLog(self.job.output / LOG, stage)
        with quiet():
            trainer = self.trainer(stage, adapter, [log])
            methods.begin(self.job)
            saved = _last_state(self.job.output / STATE / stage.name)
            self._seconds_before += log.resume(saved)
            trainer.train(resume_from_checkpoint=str(saved) if saved else None)
        # TRL replaces `forward` of this one model object by its own; the next stage starts afresh.
        self.model.__dict__.pop("forward", None)
        self.model = trainer.model
        # Also if FSDP or DeepSpeed has split the weights: all processes take part in collecting them.
        self._tensors = trainer.accelerator.get_state_dict(trainer.model_wrapped)
        self._tokens += trainer.state.num_input_tokens_seen

    def trainer(self, stage: Stage, adapter: Any = None, callbacks: Sequence[Any] = ()) -> Any:
        """TRL's trainer for `stage`; `train_dataset` holds the examples, tokenized, in order of training."""
        from trl import SFTTrainer

        trainer = SFTTrainer(
            model=self.model,
            args=_arguments(self.job, self.settings, stage, adapted=adapter is not None),
            train_dataset=_dataset(stage.examples),
            processing_class=self.tokenizer,
            peft_config=adapter,
            callbacks=list(callbacks),
        )
        trainer.remove_callback(transformers.PrinterCallback)
        order = example_order(stage.examples, self.settings, self.job)
        trainer.train_dataset = trainer.train_dataset.select(order)
        return trainer

    def finish(self, data: Mapping[str, Any]) -> None:
        """Write the variant folder: weights or adapter first, `variant.json` last; delete saved states."""
        from lens_train.devices import resolve_device

        if methods.process():
            return
        job = self.job
        broken = [name for name, tensor in self._tensors.items() if not bool(tensor.isfinite().all())]
        if broken:
            raise UserError(
                f"training has made weights that are no finite numbers ({listed(broken)}); nothing is "
                "written. Lower learning_rate, or set dtype=float32"
            )
        aside = job.output / ASIDE
        shutil.rmtree(aside, ignore_errors=True)
        adapted = hasattr(self.model, "peft_config")
        found = self._outcome(adapted)  # before the weights are rounded to the type of the file
        with quiet():
            if not adapted:
                self._save_rest(aside)
            else:
                self.model.peft_config["default"].base_model_name_or_path = _base_name(self.checkpoint)
            self.model.save_pretrained(aside, state_dict=self._tensors)
        for file in sorted(aside.iterdir()):
            file.replace(job.output / file.name)
        Variant(
            method=job.method,
            kind="adapter" if adapted else "checkpoint",
            base=self.checkpoint.identity,
            languages=job.languages,
            central=job.central,
            settings=dataclasses.asdict(self.settings),
            seed=job.seed,
            data=dict(data),
            tokens_seen=self._tokens,
            wall_seconds=round(self._seconds_before + time.perf_counter() - self._started, 3),
            peak_memory_bytes=peak_memory(resolve_device(job.device)),
            versions=versions_of(PACKAGES),
            outcome=found,
        ).save(job.output)
        remove_states(job.output)

    def _outcome(self, adapted: bool) -> dict[str, Any]:
        """Losses of the last stage and, for a checkpoint, how much of the change its file holds."""
        from lens_train.export import find_tensors
        from lens_train.watch import outcome, summary

        log = read_log(self.job.output / LOG)
        found: dict[str, Any] = {}
        if terms := outcome.losses([step for step in log if step["stage"] == log[-1]["stage"]]):
            found["losses"] = terms
        free = {name for name, value in self.model.named_parameters() if value.requires_grad}
        base = find_tensors(self.checkpoint.folder)
        trained = {name: value for name, value in self._tensors.items() if name in free & base.keys()}
        if trained and not adapted:
            found["weights"] = outcome.weight_change(trained, base)
        found["warnings"] = summary.warnings(found, self.job.central, self.settings.learning_rate)
        return found

    def _save_rest(self, folder: Path) -> None:
        """Write the backbone's configuration and tokenizer, which a full checkpoint needs besides weights."""
        self.model.config, self.model.generation_config = self._configs
        stored = self._configs[0].dtype or self.model.dtype
        self._tensors = {
            name: tensor.to(stored) if tensor.is_floating_point() else tensor
            for name, tensor in self._tensors.items()
        }
        self.checkpoint.tokenizer.save_pretrained(folder)


def load_budget(job: Job, settings: TuningSettings) -> tuple[PairData, tuple[pairs.Item, ...]]:
    """Read the data of `job` and take its budget."""
    data = pairs.read_pairs(resolve_data(job.data), job.languages)
    return data, pairs.take(data, settings.train_items)


def example_order(found: Sequence[Example], settings: TuningSettings, job: Job) -> list[int]:
    """Indices into `found` for all passes: items in Lens's order (`lens_train.loop.step_items`), whole."""
    groups: dict[str, list[int]] = {}
    for index, example in enumerate(found):
        groups.setdefault(example.item, []).append(index)
    items = list(groups.values())
    wanted = settings.steps * _batch(settings, found) if settings.steps else settings.epochs * len(found)
    order: list[int] = []
    epoch = 0
    while len(order) < wanted:
        generator = torch.Generator().manual_seed(job.seed + epoch)
        order += [
            index for at in torch.randperm(len(items), generator=generator).tolist() for index in items[at]
        ]
        epoch += 1
    return order[:wanted]


def data_record(data: PairData, items: Sequence[pairs.Item], counts: Mapping[str, Any]) -> dict[str, Any]:
    """The `data` entry of `variant.json`."""
    return {"name": data.path.name, "sha256": pairs.digest(items), "items": len(items), **counts}


def remove_states(output: Path) -> None:
    """Remove what a run resumes from. Call this only after `variant.json` is written."""
    for folder in (ASIDE, STATE):
        shutil.rmtree(output / folder, ignore_errors=True)


def lora_config(settings: LoraSettings) -> Any:
    """PEFT's configuration of the adapter."""
    from peft import LoraConfig

    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(settings.targets) if settings.targets else "all-linear",
        task_type="CAUSAL_LM",
    )


def messages(example: Example) -> dict[str, list[dict[str, str]]]:
    """An example as TRL's conversational prompt and completion."""
    return {
        "prompt": [{"role": "user", "content": example.prompt}],
        "completion": [{"role": "assistant", "content": example.response}],
    }


def _arguments(job: Job, settings: TuningSettings, stage: Stage, *, adapted: bool) -> Any:
    from trl import SFTConfig

    from lens_train.devices import resolve_device

    wanted = _batch(settings, stage.examples)
    processes = methods.processes()
    micro = max(n for n in range(1, settings.micro_batch_size + 1) if wanted % (n * processes) == 0 or n == 1)
    on_cpu = resolve_device(job.device).type == "cpu"
    return SFTConfig(
        output_dir=str(job.output / STATE / stage.name),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=max(1, wanted // (micro * processes)),
        num_train_epochs=1,  # the data set holds all passes
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.schedule,
        warmup_steps=_warmup(settings, stage),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.clip_norm,
        max_length=None,  # too long examples were left out: a cut answer would teach the model not to stop
        packing=False,
        completion_only_loss=True,
        train_sampling_strategy="sequential",
        gradient_checkpointing=settings.gradient_checkpointing,
        bf16=not on_cpu and settings.dtype == "auto" and not adapted,
        use_cpu=on_cpu,
        dataloader_pin_memory=not on_cpu,
        seed=job.seed,
        logging_steps=1,
        logging_nan_inf_filter=False,  # otherwise a loss that is no number is logged as the mean before it
        include_num_input_tokens_seen="non_padding",
        save_strategy="steps",
        save_steps=settings.save_steps,
        save_total_limit=1,
        disable_tqdm=True,
        report_to="none",
        log_level="error",
    )


def _warmup(settings: TuningSettings, stage: Stage) -> float:
    """Warm-up as a share or a number of steps; the last step always has the full rate, as in Lens."""
    passed = settings.epochs * len(stage.examples) / _batch(settings, stage.examples)
    steps = settings.steps or math.ceil(passed)
    return settings.warmup if math.ceil(settings.warmup * steps) < steps else steps - 1


def _base_name(checkpoint: Checkpoint) -> str:
    """The backbone's name in an adapter: the hub id, or the folder's full path."""
    name = checkpoint.name
    return name if name.count("/") == 1 and not Path(name).exists() else str(checkpoint.folder.resolve())


def sharded() -> bool:
    """Whether `accelerate launch` was asked to split the model over its processes."""
    asked = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")
    return any(os.environ.get(name, "").lower() == "true" for name in asked)


def _weights_dtype(settings: TuningSettings, adapted: bool) -> str:
    if settings.dtype != "auto":
        return settings.dtype
    return "bfloat16" if adapted and torch.cuda.is_available() else "float32"


def _check_devices(device: str) -> None:
    """Refuse several visible GPUs in one process; TRL would fail with a traceback after loading the model."""
    alone = methods.processes() == 1
    if device != "cpu" and torch.cuda.is_available() and torch.cuda.device_count() > 1 and alone:
        raise UserError(
            f"{torch.cuda.device_count()} GPUs are visible to one process; make one visible "
            "(CUDA_VISIBLE_DEVICES=0), or use all with `accelerate launch -m lens_eval train ...`"
        )


def _dataset(found: Sequence[Example]) -> Any:
    from datasets import Dataset

    return Dataset.from_list([messages(example) for example in found])


def _length(tokenizer: Any, example: Example) -> int:
    turns = messages(example)
    return len(
        tokenizer.apply_chat_template(turns["prompt"] + turns["completion"], return_dict=True)["input_ids"]
    )


def _check_template(tokenizer: Any, model: str) -> None:
    """Refuse a chat template that makes training prompts differ from those at inference."""
    if not tokenizer.chat_template:
        raise UserError(
            f"{model} has no chat template, so the form of its prompts is unknown; "
            "use an instruction-tuned model, or add a `chat_template` to its tokenizer"
        )
    turns = messages(Example("", "", "Hello?", "Hello!"))
    asked, whole = (
        tokenizer.apply_chat_template(chat, add_generation_prompt=ask, return_dict=True)["input_ids"]
        for chat, ask in ((turns["prompt"], True), (turns["prompt"] + turns["completion"], False))
    )
    bos = tokenizer.bos_token_id
    if bos is not None and whole[:2] == [bos, bos]:
        raise UserError(f"{model}: its chat template starts with two BOS tokens; correct `chat_template`")
    if whole[: len(asked)] != asked or len(whole) == len(asked):
        raise UserError(
            f"{model}: with its chat template a prompt waiting for an answer does not begin the same prompt "
            "with its answer, so training would not show the model what it sees later; mend `chat_template`"
        )


def _batch(settings: TuningSettings, found: Sequence[Example]) -> int:
    """Examples per optimizer step; the examples per item are rounded up if some were left out."""
    return settings.batch_size * math.ceil(len(found) / len({example.item for example in found}))


def _last_state(folder: Path) -> Path | None:
    """The newest saved state that is complete (the trainer writes its own state last)."""
    states = [path for path in folder.glob("checkpoint-*") if (path / "trainer_state.json").exists()]
    return max(states, key=lambda path: int(path.name.rpartition("-")[2]), default=None)
