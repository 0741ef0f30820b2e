"""The command to run next after training, to be copied."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from lens_eval.mini import backbone_path
from lens_train.job import Job, Variant
from lens_train.watch.summary import has_few_changes

TASKS = (("mgsm", "mtbench"), ("mmlu",))
"""Task families to be named: those with replies in words, and for languages that none of them has."""


def next_commands(job: Job, variant: Variant) -> list[str]:
    """What to run next with the variant in `job.output`; each in one line, to be copied.

    Args:
        job: the run; its `data` and `model` as the user named them.
        variant: what came of it.
    """
    output = Path(job.output)
    if variant.kind in ("steering", "decoding") or not variant.outcome:
        return []
    if job.method == "lens" and has_few_changes(variant.outcome.get("weights")):
        return [sweep_command(job, float(variant.settings["learning_rate"]))]
    if variant.kind == "delta":
        merged = output.with_name(output.name + "-merged")
        return [_shell("lens", "merge", "--delta", output, "--model", job.model, "--output", merged)]
    if not (tasks := find_tasks(job)):
        return []
    codes = ",".join([job.central, *(code for code in job.languages if code != job.central)])
    where = output.with_name(output.name + "-eval")
    parts = ["lens", "eval", "--model", output, "--tasks", ",".join(tasks), "--languages", codes]
    return [_shell(*parts, "--output", where)]


def sweep_command(job: Job, rate: float) -> str:
    """The sweep that finds a rate for this job, from `rate` upwards."""
    dev = job.settings.get("dev_data") or "DEV_PROMPTS"
    parts: list[Any] = ["lens", "sweep", "--model", job.model, "--data", job.data, "--dev-data", dev]
    parts += ["--languages", ",".join(job.languages)]
    parts += ["--central", job.central] if job.central != "en" else []
    for option in ("subspaces", "probe_data"):
        if job.settings.get(option):
            parts += ["--" + option.replace("_", "-"), job.settings[option]]
    rates = ",".join(f"{rate * factor:g}" for factor in (1, 3, 10))
    output = Path(job.output)
    return _shell(
        *parts, "--vary", f"learning_rate={rates}", "--output", output.with_name(output.name + "-sweep")
    )


def find_tasks(job: Job) -> list[str]:
    """Few tasks that cover the languages of a job, those with replies in words first."""
    from lens_eval.tasks.families import LANGUAGES
    from lens_train.checkpoint import Checkpoint

    if Checkpoint.open(job.model).folder.resolve() == backbone_path().resolve():
        return ["lens_mini"]
    open_ = {code for code in job.languages if code != job.central}
    named: list[str] = []
    for families in TASKS:
        while open_ & {code for family in families for code in LANGUAGES[family]}:
            best = max(families, key=lambda family: len(open_ & set(LANGUAGES[family])))
            named.append(f"lens_{best}")
            open_ -= set(LANGUAGES[best])
    return named


def _shell(*parts: Any) -> str:
    return " ".join(shlex.quote(str(part)) for part in parts)
