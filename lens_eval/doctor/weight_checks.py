"""The checks of `lens doctor` that load the model: layers, adapter, hf against vLLM."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lens_eval.base.errors import UserError
from lens_eval.doctor.parity import check_parity
from lens_eval.doctor.patient import Patient, Prompter, Result, first_line, isolated
from lens_eval.doctor.task_checks import requests

NAMES = ("layers", "adapter", "hf and vllm")


def check_weights(patient: Patient, tasks: Sequence[Any]) -> list[Result]:
    """All of them; `tasks` give the prompts."""
    return [
        isolated("layers", lambda: check_layers(patient)),
        isolated("adapter", lambda: check_adapter(patient, tasks)),
        isolated("hf and vllm", lambda: check_parity(patient, tasks)),
    ]


def check_layers(patient: Patient) -> Result:
    """Lens finds the layers by structure, can run a part of them, and can write what it trains."""
    from lens_train import export
    from lens_train.config import LensConfig
    from lens_train.devices import resolve_device, resolve_dtype
    from lens_train.lens import parameters_of
    from lens_train.loop import trained_layers
    from lens_train.stream import open_decoder

    device = resolve_device(patient.device)
    config = LensConfig(("en", "zh"))
    try:
        dtype = resolve_dtype("auto", device, patient.checkpoint)
        decoder = open_decoder(patient.checkpoint, device, dtype, "auto", 2)
        layers = trained_layers(config, len(decoder))
        parameters = parameters_of(decoder, layers)
        base = export.find_tensors(patient.checkpoint.folder)
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
    from lens_train.loading import load_adapter

    device = resolve_device(patient.device)
    texts = [requests(patient, task, patient.uses_template)[0].text for task in tasks[:4]] or ["Hello"]
    batch = [torch.tensor([Prompter(patient).encode(text)[-512:]], device=device) for text in texts]
    with quiet(), torch.no_grad():
        model = load_model(patient.checkpoint, device, resolve_dtype("auto", device, patient.checkpoint))
        before = [model(ids).logits[0, -1].float() for ids in batch]
        try:
            model = load_adapter(model, Path(patient.adapter))
        except (UserError, RuntimeError, ValueError, KeyError, OSError) as error:
            return Result(
                "adapter", "failed", f"{patient.adapter} does not fit this model: {first_line(error)}"
            )
        after = [model(ids).logits[0, -1].float() for ids in batch]
    change = max(float((a - b).abs().max()) for a, b in zip(after, before, strict=True))
    if not change:
        words = f"{patient.adapter} changes no logit: it was not trained, or is not applied"
        return Result("adapter", "failed", words)
    return Result("adapter", "ok", f"logits of the next token change by up to {change:.3g}")
