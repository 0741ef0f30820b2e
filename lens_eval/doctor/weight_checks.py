"""The checks of `lens doctor` that load the model: layers, adapter, hf against vLLM."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lens_eval.base.errors import UserError
from lens_eval.doctor.parity import check_parity
from lens_eval.doctor.patient import Patient, Prompter, Result, first_line, isolated
from lens_eval.doctor.task_checks import requests
from lens_eval.doctor.template_checks import beginning

NAMES = ("layers", "BOS", "adapter", "hf and vllm")
MISSED = 0.1
"""Nats per token by which another number of BOS must be better, to be the one that the weights expect."""
TEXTS = (
    "The ferry leaves the old harbour every morning at seven and comes back in the evening. In winter, if "
    "the wind is too strong, it stays on the island, and the letters wait until the next day.",
    "To bake bread you need flour, water, salt and yeast. Knead the dough for ten minutes, let it rest until "
    "it has doubled, and put it into a hot oven. How long does it take until the crust is brown?",
)
"""Plain English, so that the likelihood of a text can be measured where no task is named."""


def check_weights(patient: Patient, tasks: Sequence[Any]) -> list[Result]:
    """All of them; `tasks` give the prompts."""
    return [
        isolated("layers", lambda: check_layers(patient)),
        isolated("BOS", lambda: check_bos_by_weights(patient, tasks)),
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


def check_bos_by_weights(patient: Patient, tasks: Sequence[Any]) -> Result:
    """Prompts begin with as many BOS as the weights expect: with them, the rest of a prompt is likeliest."""
    import torch

    from lens_eval.upstream.evaluation import quiet
    from lens_train.decoder import load_model
    from lens_train.devices import resolve_device, resolve_dtype

    name, tokenizer = "BOS", patient.tokenizer
    bos = tokenizer.bos_token_id
    if bos is None:
        return Result(name, "skipped", "this model has none")
    prompts = [ids for ids in _fed(patient, tasks) if len(ids) > 8]
    fed = beginning(tokenizer, prompts[0])[0]
    rests = [ids[beginning(tokenizer, ids)[1] :] for ids in prompts]
    device = resolve_device(patient.device)
    with quiet(), torch.no_grad():
        model = load_model(patient.checkpoint, device, resolve_dtype("auto", device, patient.checkpoint))
        nats = {
            count: _mean_loss(model, [[bos] * count + rest for rest in rests], count) for count in (0, 1, 2)
        }
    best = min(nats, key=lambda count: nats[count])
    words = (
        f"prompts begin with {fed} {tokenizer.bos_token}; nats per token of their text with 0, 1 and 2: "
        + ", ".join(f"{nats[count]:.2f}" for count in sorted(nats))
    )
    if not all(map(math.isfinite, nats.values())):
        return Result(name, "failed", f"{words}: the weights give no numbers")
    if fed in nats and nats[fed] <= nats[best] + MISSED:
        return Result(name, "ok", words)
    advice = f"add_bos_token={fed < best}" if best < 2 else "a template that writes it twice"
    return Result(name, "failed", f"{words}: the weights expect {best}; say {advice}")


def _fed(patient: Patient, tasks: Sequence[Any]) -> list[list[int]]:
    """Prompts as a run feeds them: plain texts, and the first of some tasks, cut to 512 tokens."""
    prompter = Prompter(patient)
    own = list(TEXTS)
    if patient.uses_template:
        own = [prompter.apply_chat_template([{"role": "user", "content": text}]) for text in TEXTS]
    asked = [requests(patient, task, patient.uses_template)[0].text for task in tasks[:4]]
    return [prompter.encode(text)[:512] for text in (*own, *asked)]


def _mean_loss(model: Any, prompts: Sequence[Sequence[int]], skipped: int) -> float:
    """Nats per token behind the BOS and the first token of the text, which nothing foretells without BOS."""
    import torch

    total, count = 0.0, 0
    for ids in prompts:
        batch = torch.tensor([list(ids)], device=model.device)
        logits = model(batch).logits[0, skipped:-1].float()
        losses = torch.nn.functional.cross_entropy(logits, batch[0, skipped + 1 :], reduction="none")
        total, count = total + float(losses.sum()), count + len(losses)
    return total / max(count, 1)


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
