"""The checks of `lens doctor` that load the model: layers, adapter, hf against vLLM."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lens_eval.base.errors import UserError
from lens_eval.doctor.parity import check_parity
from lens_eval.doctor.patient import Patient, Prompter, Result, first_line, isolated
from lens_eval.doctor.task_checks import requests
from lens_eval.doctor.template_checks import beginning

NAMES = ("layers", "BOS", "adapter", "hf and vllm")
EXPECTED = 0.3
"""Nats per token by which texts are likelier behind a BOS if the weights expect one; else likelier without.
Measured: Gemma-3-270m 2.9, SmolLM2-135M-Instruct -0.1, Qwen2.5-0.5B-Instruct -0.6."""
KNOWN = 0.7
"""Texts whose loss is a larger share of that of guessing say nothing of what the weights expect."""
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
    """Prompts begin with a BOS if the weights expect one, which is measured: is a text likelier behind it?

    The texts are plain ones. In a chat, the user's words were not trained on: their likelihood says little.
    """
    import torch

    from lens_eval.upstream.evaluation import quiet
    from lens_train.decoder import load_model
    from lens_train.devices import resolve_device, resolve_dtype

    name, tokenizer = "BOS", patient.tokenizer
    bos = tokenizer.bos_token_id
    if bos is None:
        return Result(name, "skipped", "this model has none")
    texts = [tokenizer.encode(text, add_special_tokens=False)[:512] for text in _plain(patient, tasks)]
    device = resolve_device(patient.device)
    with quiet(), torch.no_grad():
        model = load_model(patient.checkpoint, device, resolve_dtype("auto", device, patient.checkpoint))
        pairs = [(_loss(model, ids, 0), _loss(model, [bos, *ids], 1)) for ids in texts if len(ids) > 8]
    if not all(math.isfinite(loss) for pair in pairs for loss in pair):
        return Result(name, "failed", "the weights give no numbers for plain texts (NaN or infinite)")
    guessing = math.log(patient.config.get_text_config().vocab_size)
    known = [pair for pair in pairs if min(pair) < KNOWN * guessing]
    if not known:
        return Result(name, "skipped", "the weights know none of the texts: whether they expect one is open")
    without, behind = (sum(losses) / len(known) for losses in zip(*known, strict=True))
    fed = beginning(tokenizer, _fed(patient))[0]
    words = (
        f"prompts begin with {fed} {tokenizer.bos_token}; a token of plain text costs {without:.2f} nats "
        f"without and {behind:.2f} behind one"
    )
    if without > behind + EXPECTED and not fed:
        return Result(name, "failed", f"{words}: the weights expect it; say add_bos_token=True")
    if behind > without + EXPECTED and fed:
        return Result(name, "warning", f"{words}: the weights expect none; say add_bos_token=False")
    return Result(name, "ok", words)


def _plain(patient: Patient, tasks: Sequence[Any]) -> Iterator[str]:
    """Texts without a template."""
    yield from TEXTS
    for task in tasks[:4]:
        try:
            yield requests(patient, task, template=False)[0].text
        except UserError:  # a task of chats
            continue


def _fed(patient: Patient) -> list[int]:
    """A prompt as a run feeds it."""
    prompter, text = Prompter(patient), TEXTS[0]
    if patient.uses_template:
        text = prompter.apply_chat_template([{"role": "user", "content": text}])
    return prompter.encode(text, backend=patient.backend.model)


def _loss(model: Any, ids: Sequence[int], skipped: int) -> float:
    """Nats per token behind the BOS and the first token of the text, which nothing foretells without BOS."""
    import torch

    batch = torch.tensor([list(ids)], device=model.device)
    logits = model(batch).logits[0, skipped:-1].float()
    return float(torch.nn.functional.cross_entropy(logits, batch[0, skipped + 1 :]))


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
