"""The check of `lens doctor` that hf and vLLM are the same model: both answer some items, greedily.

Two right backends add in different orders. If two tokens are nearly as likely, each backend may take another
of them, and the replies differ from there on. So hf is asked how far apart it holds the two tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lens_eval.base.errors import UserError
from lens_eval.doctor.patient import Patient, Prompter, Result, first_line

NAME = "hf and vllm"
ITEMS = 8
"""Items of each kind that both backends are asked."""
TOKENS = 32
"""Tokens of a compared reply."""
TIES = {"float32": 0.01, "bfloat16": 0.25}
"""Tokens whose logits are at most so far apart are nearly as likely, by the precision of both backends."""


@dataclass(frozen=True)
class Asked:
    """What one backend answered."""

    replies: tuple[str, ...]
    """Greedy replies."""
    choices: tuple[int, ...]
    """Index of the likeliest option of each item."""


def check_parity(patient: Patient, tasks: Sequence[Any]) -> Result:
    """hf and vLLM answer some items alike, or part only where two tokens are nearly as likely."""
    from importlib.util import find_spec

    if find_spec("vllm") is None:
        return Result(NAME, "skipped", "vLLM is not installed here")
    kinds = {task.OUTPUT_TYPE: task for task in reversed(tasks)}
    kinds = {kind: task for kind, task in kinds.items() if kind in ("generate_until", "multiple_choice")}
    if not kinds:
        return Result(NAME, "skipped", "no task with items was named")
    asked = []
    for backend in ("hf", "vllm"):
        try:
            asked.append(_ask_backend(patient, backend, list(kinds.values())))
        except (UserError, RuntimeError, ValueError) as error:
            return Result(NAME, "failed", f"{backend} does not run this model: {first_line(error)}")
    generating = kinds.get("generate_until")
    prompts = [instance.args[0] for instance in generating.instances] if generating is not None else []
    ours, theirs = asked
    gaps = _gaps(patient, prompts, ours.replies, theirs.replies)
    return judged(ours, theirs, gaps, _precision(patient))


def judged(ours: Asked, theirs: Asked, gaps: Sequence[float], precision: str) -> Result:
    """The outcome of the check.

    Args:
        gaps: for each pair of unequal replies, the difference in hf's logits of the tokens at the first
            difference.
        precision: `float32` or `bfloat16`.
    """
    parts, same, total = [], 0, 0
    for what, own, other in (
        (f"greedy replies of {TOKENS} tokens", ours.replies, theirs.replies),
        ("choices", ours.choices, theirs.choices),
    ):
        equal = sum(a == b for a, b in zip(own, other, strict=True))
        if own:
            parts.append(f"{equal} of {len(own)} {what} are equal")
        same, total = same + equal, total + len(own)
    words, tie = ", ".join(parts), TIES[precision]
    tied = sum(gap <= tie for gap in gaps)
    if gaps:
        apart = f"hf holds the two tokens at most {max(gaps):.2g} logits apart"
        words += f"; where the others part, {apart} (up to {tie} is rounding in {precision})"
    if same + tied == total:
        return Result(NAME, "ok", words)
    if same + tied >= total / 2:
        return Result(NAME, "warning", f"{words}; compare prompts, dtype and attention of the two")
    words += ": the two do not run the same model or prompt; compare prompts and dtype"
    return Result(NAME, "failed", words)


def _precision(patient: Patient) -> str:
    """The precision that the backends run in: the one given, or that of the checkpoint."""
    from lens_train.checkpoint import causal_config

    named = str(patient.backend.args.get("dtype", "auto"))
    if named == "auto":
        named = str(causal_config(patient.model).dtype).removeprefix("torch.")
    return "float32" if named == "float32" else "bfloat16"


def _ask_backend(patient: Patient, backend: str, tasks: Sequence[Any]) -> Asked:
    """Greedy replies and choices on the first items of each task."""
    from dataclasses import replace

    from lens_eval.base.paths import Paths
    from lens_eval.runs.evaluation import Evaluator
    from lens_eval.runs.recipe import ANY_BACKEND
    from lens_eval.runs.sources import model_arguments
    from lens_eval.upstream.evaluation import quiet

    kept = {key: value for key, value in patient.backend.args.items() if key in ANY_BACKEND}
    args = patient.backend.args if backend == patient.backend.model else kept
    settings = replace(patient.backend, model=backend, args=args, batch_size=1 if backend == "hf" else "auto")
    arguments = model_arguments(patient.model, patient.adapter, backend)
    evaluator = Evaluator(arguments, settings, patient.device, "doctor", 0, Paths({}))
    replies: list[str] = []
    choices: list[int] = []
    try:
        with quiet():
            for task in tasks:
                task.build_all_requests(
                    limit=ITEMS,
                    system_instruction=patient.backend.system_instruction,
                    apply_chat_template=patient.uses_template,
                    fewshot_as_multiturn=patient.uses_template,
                    chat_template=evaluator.model.apply_chat_template if patient.uses_template else None,
                    tokenizer_name="",
                )
                if task.OUTPUT_TYPE == "generate_until":
                    replies += _replies(evaluator.model, task)
                else:
                    choices += _choices(evaluator.model, task)
    finally:
        evaluator.close()
    return Asked(tuple(replies), tuple(choices))


def _replies(model: Any, task: Any) -> list[str]:
    for instance in task.instances:
        instance.args[1].update(do_sample=False, temperature=0.0, max_gen_toks=TOKENS)
    return list(model.generate_until(task.instances))


def _choices(model: Any, task: Any) -> list[int]:
    options: dict[int, list[float]] = {}
    for instance, (score, _) in zip(task.instances, model.loglikelihood(task.instances), strict=True):
        options.setdefault(instance.doc_id, []).append(score)
    return [scores.index(max(scores)) for scores in options.values()]


def _gaps(
    patient: Patient, prompts: Sequence[str], ours: Sequence[str], theirs: Sequence[str]
) -> list[float]:
    """How far apart hf holds the logits of the two tokens at which unequal replies part."""
    differing = [row for row in zip(prompts, ours, theirs, strict=True) if row[1] != row[2]]
    if not differing:
        return []
    import torch

    from lens_eval.upstream.evaluation import quiet
    from lens_train.decoder import load_model
    from lens_train.devices import resolve_device
    from lens_train.loading import load_adapter

    prompter, tokenizer = Prompter(patient), patient.tokenizer
    with quiet(), torch.no_grad():
        model = load_model(patient.model, resolve_device(patient.device), _precision(patient))
        if patient.adapter is not None:
            model = load_adapter(model, Path(patient.adapter))
        found = []
        for prompt, *texts in differing:
            one, other = (
                [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id] for text in texts
            )
            # Texts that differ can have the same tokens, if special tokens are left out.
            unequal = (position for position, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
            shared = next(unequal, None)
            if shared is None:
                found.append(math.inf)
                continue
            ids = torch.tensor([prompter.encode(prompt) + one[:shared]], device=model.device)
            logits = model(ids).logits[0, -1].float()
            found.append(float((logits[one[shared]] - logits[other[shared]]).abs()))
    return found
