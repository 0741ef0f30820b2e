"""The baseline of the speed benchmarks: Lens trained the plain way, as the released run does it.

Two whole models in memory (the trained one and its frozen copy), a full forward pass of both for every
prompt with all hidden states and the logits, one prompt a time, gradients accumulated over eight. Nothing
is cached or shared, so a run of `lens_train` can be held against what it replaces. Written from the
algorithm; `tests/test_benchmarks.py` shows that it gives the released code's numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

PROBE_BATCH = 50
ACCUMULATE = 8


@dataclass(frozen=True)
class PlainSettings:
    """Settings of the released bilingual and multilingual runs."""

    trained_layers: int = 2
    learning_rate: float = 1e-5
    weight_decay: float = 0.1
    warmup_ratio: float = 0.05
    clip: float = 1.0
    displacement: float = 1.0
    align_weight: float = 1.0
    retain_weight: float = 1.0
    total_steps: int | None = None
    """Optimizer steps that the schedule is laid out for; as many as the prompts give when None."""
    low: bool = False
    """Arithmetic in bfloat16 with float32 trained weights, for a model that was loaded in bfloat16."""


@torch.no_grad()
def plain_probe(model: nn.Module, batches: Mapping[str, Sequence[Mapping[str, Tensor]]]) -> dict[str, Tensor]:
    """Read position -1 after every layer of padded batches: language -> (layers, texts, hidden)."""
    read: dict[str, Tensor] = {}
    for language, language_batches in batches.items():
        parts = []
        for batch in language_batches:
            states = model(**batch, output_hidden_states=True).hidden_states[1:]
            parts.append(torch.stack(states)[:, :, -1, :].cpu())
        read[language] = torch.cat(parts, dim=1)
    return read


def plain_train(
    model: nn.Module,
    reference: nn.Module,
    layers: nn.ModuleList,
    prompts: Sequence[Mapping[str, Tensor]],
    agnostic: Tensor,
    specific: Tensor,
    directions: Mapping[str, Tensor],
    settings: PlainSettings,
    central: str = "en",
) -> list[float]:
    """Train the top layers in place and return the loss of every micro-batch before its backward pass.

    Args:
        model: the model to train; `reference` is its frozen copy.
        layers: the decoder layers of `model`.
        prompts: one mapping language -> token ids (1, length) per micro-batch, in the order to train.
        agnostic: (hidden,), not normalised. specific: (rank, hidden), orthonormal rows.
        directions: language -> (hidden,), displacement of the specific part from the central language.
    """
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    trained = list(layers[-settings.trained_layers :].named_parameters())
    for _, parameter in trained:
        parameter.data = parameter.data.float()
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for n, p in trained if "norm" not in n], "weight_decay": settings.weight_decay},
            {"params": [p for n, p in trained if "norm" in n], "weight_decay": 0.0},
        ],
        lr=settings.learning_rate,
    )
    steps = settings.total_steps or len(prompts) // ACCUMULATE
    warmup = math.ceil(settings.warmup_ratio * steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _cosine(step, warmup, steps))
    model.train()
    reference.eval()
    losses = []
    for index, prompt in enumerate(prompts):
        loss = _loss(model, reference, prompt, agnostic, specific, directions, settings, central)
        losses.append(loss.item())
        (loss / ACCUMULATE).backward()
        if (index + 1) % ACCUMULATE == 0:
            nn.utils.clip_grad_norm_([p for _, p in trained], settings.clip)
            optimizer.step()
            schedule.step()
            model.zero_grad()
    return losses


def _cosine(step: int, warmup: int, steps: int) -> float:
    if step < warmup:
        return step / max(1, warmup)
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _final_states(model: nn.Module, ids: Tensor, low: bool) -> Tensor:
    with torch.autocast(ids.device.type, dtype=torch.bfloat16, enabled=low):
        output: Any = model(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True)
    return output.hidden_states[-1].float()


def _loss(
    model: nn.Module,
    reference: nn.Module,
    prompt: Mapping[str, Tensor],
    agnostic: Tensor,
    specific: Tensor,
    directions: Mapping[str, Tensor],
    settings: PlainSettings,
    central: str,
) -> Tensor:
    states = {language: _final_states(model, ids, settings.low) for language, ids in prompt.items()}
    with torch.no_grad():
        before = {language: _final_states(reference, ids, settings.low) for language, ids in prompt.items()}
    mse = nn.functional.mse_loss
    loss = settings.retain_weight * mse(states[central].mean(dim=1), before[central].mean(dim=1))
    shared = agnostic / agnostic.norm()
    central_shared = (states[central][:, -1] @ shared)[:, None] * shared
    for language in prompt:
        if language == central:
            continue
        moved = (states[language][:, -1] - before[language][:, -1]) @ specific.T @ specific
        loss = loss + mse(moved, settings.displacement * directions[language].expand_as(moved))
        own_shared = (states[language][:, -1] @ shared)[:, None] * shared
        loss = loss + settings.align_weight * mse(central_shared, own_shared)
    return loss
