"""The checks of `lens doctor` that load the model: layers, adapter, hf against vLLM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lens_eval.base.errors import UserError
from lens_eval.doctor.patient import Patient, Prompter, Result, first_line
from lens_eval.doctor.task_checks import requests

PARITY_ITEMS = 8
"""Items that hf and vLLM are both asked."""
PARITY_TOKENS = 32
"""Tokens of a compared answer."""
NAMES = ("layers", "adapter", "hf and vllm")


def check_weights(patient: Patient, tasks: Sequence[Any]) -> list[Result]:
    """All of them; `tasks` give the prompts."""
    return [check_layers(patient), check_adapter(patient, tasks), check_parity(patient, tasks)]


def check_layers(patient: Patient) -> Result:
    """Lens finds the layers by structure, can run a part of them, and can write what it trains."""
    from lens_train import export
    from lens_train.checkpoint import checkpoint_folder
    from lens_train.config import LensConfig
    from lens_train.devices import resolve_device, resolve_dtype
    from lens_train.lens import parameters_of
    from lens_train.loop import trained_layers
    from lens_train.stream import open_decoder

    device = resolve_device(patient.device)
    config = LensConfig(("en", "zh"))
    try:
        dtype = resolve_dtype("auto", device, patient.model)
        decoder = open_decoder(patient.model, device, dtype, "auto", 2)
        layers = trained_layers(config, len(decoder))
        parameters = parameters_of(decoder, layers)
        base = export.find_tensors(checkpoint_folder(patient.model))
        export.checkpoint_tensors(decoder.model, parameters, base)
    except UserError as error:
        return Result("layers", "failed", str(error))
    whole = [p for p in parameters.values() if not p.dtype.is_floating_point]
    if whole:
        return Result("layers", "failed", "the weights are quantised; train the unquantised model")
    count = sum(p.numel() for p in parameters.values())
    numbers = " and ".join(map(str, layers))
    return Result(
        "layers", "ok", f"{numbers} of {len(decoder)} can be trained: {count / 1e6:.3g} million weights"
    )


def check_adapter(patient: Patient, tasks: Sequence[Any]) -> Result:
    """The adapter changes what the model says."""
    if patient.adapter is None:
        return Result("adapter", "skipped", "none was given")
    import torch

    from lens_eval.upstream.evaluation import quiet
    from lens_train.decoder import load_model
    from lens_train.devices import resolve_device, resolve_dtype

    device = resolve_device(patient.device)
    texts = [requests(patient, task, patient.uses_template)[0].text for task in tasks[:4]] or ["Hello"]
    batch = [torch.tensor([Prompter(patient).encode(text)[-512:]], device=device) for text in texts]
    with quiet(), torch.no_grad():
        from peft import PeftModel

        model = load_model(patient.model, device, resolve_dtype("auto", device, patient.model))
        before = [model(ids).logits[0, -1].float() for ids in batch]
        try:
            model = PeftModel.from_pretrained(model, patient.adapter)
        except (RuntimeError, ValueError, KeyError, OSError) as error:
            return Result(
                "adapter", "failed", f"{patient.adapter} does not fit this model: {first_line(error)}"
            )
        after = [model(ids).logits[0, -1].float() for ids in batch]
    change = max(float((a - b).abs().max()) for a, b in zip(after, before, strict=True))
    if not change:
        words = f"{patient.adapter} changes no logit: it was not trained, or is not applied"
        return Result("adapter", "failed", words)
    return Result("adapter", "ok", f"logits of the next token change by up to {change:.3g}")


def check_parity(patient: Patient, tasks: Sequence[Any]) -> Result:
    """hf and vLLM answer some items alike, greedily."""
    from importlib.util import find_spec

    name = "hf and vllm"
    if find_spec("vllm") is None:
        return Result(name, "skipped", "vLLM is not installed here")
    kinds = {task.OUTPUT_TYPE: task for task in reversed(tasks)}
    kinds = {kind: task for kind, task in kinds.items() if kind in ("generate_until", "multiple_choice")}
    if not kinds:
        return Result(name, "skipped", "no task with items was named")
    answers = []
    for backend in ("hf", "vllm"):
        try:
            answers.append(_answered(patient, backend, list(kinds.values())))
        except (UserError, RuntimeError, ValueError) as error:
            return Result(name, "failed", f"{backend} does not run this model: {first_line(error)}")
    return _compared(*answers)


def _answered(patient: Patient, backend: str, tasks: Sequence[Any]) -> dict[str, list[Any]]:
    """Greedy answers and choices on the first items of each task, by kind."""
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
    found: dict[str, list[Any]] = {}
    try:
        with quiet():
            for task in tasks:
                task.build_all_requests(
                    limit=PARITY_ITEMS,
                    system_instruction=patient.backend.system_instruction,
                    apply_chat_template=patient.uses_template,
                    fewshot_as_multiturn=patient.uses_template,
                    chat_template=evaluator.model.apply_chat_template if patient.uses_template else None,
                    tokenizer_name="",
                )
                found[task.OUTPUT_TYPE] = _ask(evaluator.model, task)
    finally:
        evaluator.close()
    return found


def _ask(model: Any, task: Any) -> list[Any]:
    if task.OUTPUT_TYPE == "generate_until":
        for instance in task.instances:
            instance.args[1].update(do_sample=False, temperature=0.0, max_gen_toks=PARITY_TOKENS)
        return list(model.generate_until(task.instances))
    options: dict[int, list[float]] = {}
    for instance, (score, _) in zip(task.instances, model.loglikelihood(task.instances), strict=True):
        options.setdefault(instance.doc_id, []).append(score)
    return [scores.index(max(scores)) for scores in options.values()]


def _compared(ours: Mapping[str, list[Any]], theirs: Mapping[str, list[Any]]) -> Result:
    name = "hf and vllm"
    parts, same, total = [], 0, 0
    for kind, answers in ours.items():
        equal = sum(a == b for a, b in zip(answers, theirs[kind], strict=True))
        what = f"greedy answers of {PARITY_TOKENS} tokens" if kind == "generate_until" else "choices"
        parts.append(f"{equal} of {len(answers)} {what} are equal")
        same, total = same + equal, total + len(answers)
    words = ", ".join(parts)
    if same == total:
        return Result(name, "ok", words)
    if same >= total / 2:
        return Result(
            name,
            "warning",
            f"{words}; in bfloat16 some may differ, in float32 only where two tokens are nearly as likely",
        )
    return Result(
        name, "failed", f"{words}: the two do not run the same model or prompt; compare prompts and dtype"
    )
