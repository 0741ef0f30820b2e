"""The log of a fine-tuning: TRL's reports in the format of this project's logs."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers

from lens_eval.base.errors import UserError
from lens_eval.base.files import append_text, write_text
from lens_eval.base.progress import progress
from lens_eval.base.reading import parse_json, read_text, shaped
from lens_train import methods
from lens_train.baselines.pairs import Example


class TrainingLog(transformers.TrainerCallback):
    """One line per optimizer step in `log.jsonl`, and the progress shown."""

    def __init__(self, file: Path, stage: Stage) -> None:
        self.file, self.stage = file, stage
        self._started = time.perf_counter()
        self._before = 0.0
        self._bar: Any = None

    def resume(self, saved: Path | None) -> float:
        """Drop the lines of steps that will be repeated; returns the seconds that the kept steps took."""
        done = int(saved.name.rpartition("-")[2]) if saved else 0
        entries = read_log(self.file) if self.file.exists() else []
        kept = [entry for entry in entries if entry["stage"] != self.stage.name or entry["step"] <= done]
        self._before = max(
            (entry["seconds"] for entry in kept if entry["stage"] == self.stage.name), default=0.0
        )
        if not methods.process():
            write_text(self.file, "".join(json.dumps(entry) + "\n" for entry in kept))
        self._started = time.perf_counter()
        return self._before

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            label, done = f"training ({self.stage.name})", state.global_step
            self._bar = progress(label=label, total=state.max_steps, initial=done)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._bar is not None:
            self._bar.update(1)
        if self.stage.last and state.global_step >= state.max_steps:
            control.should_save = False  # the variant itself is about to be written

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "loss" not in (logs or {}):
            return
        broken = [name for name in ("loss", "grad_norm") if not math.isfinite(float(logs.get(name, 0.0)))]
        if broken:
            raise UserError(
                f"step {state.global_step}: {' and '.join(broken)} is no finite number; lower learning_rate, "
                "or set dtype=float32. At the first step, it is the model's weights: see `lens doctor`"
            )
        if not state.is_world_process_zero:
            return
        entry = {
            "stage": self.stage.name,
            "step": state.global_step,
            **{key: logs[key] for key in ("loss", "grad_norm", "learning_rate") if key in logs},
            "tokens": state.num_input_tokens_seen,
            "seconds": round(self._before + time.perf_counter() - self._started, 3),
        }
        append_text(self.file, json.dumps(entry) + "\n")

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._bar is not None:
            self._bar.close()


def read_log(file: Path) -> list[dict[str, Any]]:
    """The lines of a log; one that a kill cut short is left out.

    Raises:
        UserError: a line is something else.
    """
    what = "log of training (remove the folder's training/ to begin anew)"
    whole, _, _ = read_text(file).rpartition("\n")
    entries = [parse_json(line, str(file)) for line in whole.split("\n") if line]
    with shaped(file, what):
        for entry in entries:
            if not isinstance(entry["stage"], str) or not math.isfinite(entry["step"] + entry["seconds"]):
                raise ValueError("a line without stage, step and seconds")
    return entries


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide the progress bars of datasets and transformers; this project's own bar shows the progress."""
    import datasets
    from transformers.utils import logging as transformers_logging

    bars = datasets.utils.logging.is_progress_bar_enabled()
    model_bars = transformers_logging.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if bars:
            datasets.enable_progress_bars()
        if model_bars:
            transformers_logging.enable_progress_bar()


@dataclass(frozen=True)
class Stage:
    """Training on `examples`; each pass has its own order."""

    name: str
    examples: Sequence[Example]
    last: bool = True
    """Whether this is the last stage, so that its end need not be saved for a resume."""
