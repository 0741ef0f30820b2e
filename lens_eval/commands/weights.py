"""The commands `lens merge`, `lens bake` and `lens export`: a variant in another form."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lens_eval.base.errors import UserError
from lens_eval.base.terminal import say
from lens_eval.commands.options import say_next

Base = Annotated[str, typer.Option("--model", help="The base it was trained from.")]
Output = Annotated[Path, typer.Option("--output", help="Folder to be written.")]


def merge(
    delta: Annotated[
        Path,
        typer.Option("--delta", "--adapter", help="Folder made by `lens train --delta`, or an adapter's."),
    ],
    model: Base,
    output: Output,
) -> None:
    """Merge a delta or a LoRA adapter into its base, giving a whole checkpoint."""
    from lens_train.checkpoint import ADAPTER_CONFIG
    from lens_train.export import merge as merge_delta
    from lens_train.export import merge_adapter
    from lens_train.publish.card import complete

    (merge_adapter if (delta / ADAPTER_CONFIG).is_file() else merge_delta)(delta, model, output, complete)
    say(f"written: {output}")
    say_next(f"lens chat {output} --versus {model}")


def bake(
    steering: Annotated[Path, typer.Argument(help="Folder of a steering that adds: diffmean, or steer.")],
    language: Annotated[str, typer.Option("--language", help="Of the answers; a checkpoint has one.")],
    model: Base,
    output: Output,
    check: Annotated[
        bool, typer.Option(help="Compare logits with the steered base: both are loaded in float32.")
    ] = True,
) -> None:
    """Write additive steering into a checkpoint, so that vLLM and others run it at full speed."""
    from lens_eval.runs.recipe import language_code
    from lens_train.publish.card import complete
    from lens_train.steering import bake as baking

    code = language_code(language)
    baking.bake(steering, code, model, output, complete)
    say(f"written: {output}")
    if check:
        found = baking.compare(steering, code, model, output)
        say(
            f"logits differ from the steered base by {found.most:.2g} at most; steering itself changes them "
            f"by {found.effect:.2g} (the largest logit: {found.size:.2g})"
        )
        if found.most > found.effect / 10:
            raise UserError(f"{output} does not do what the steering does; do not use it")
    say_next(f"lens chat {output} --versus {model}")


def export(
    variant: Annotated[Path, typer.Argument(help="A trained checkpoint: the output folder of `lens train`.")],
    lora: Annotated[int, typer.Option("--lora", help="Rank of the LoRA adapter to be made.", min=1)],
    model: Base,
    output: Output,
) -> None:
    """Write what training has changed as a LoRA adapter of the base; says how much of it a rank keeps."""
    from lens_train.low_rank import export_lora
    from lens_train.publish.card import complete

    found = export_lora(variant, lora, model, output, complete)
    for layer, share in sorted(found.layers.items()):
        say(f"layer {layer}: {share:.1%} of the squared change kept")
    if found.left_out:
        say(f"left out: {found.left_out} changed tensors that are no linear layer of a decoder layer")
    say(
        f"logits differ from the checkpoint's by {found.most:.2g} at most; training changed them by "
        f"{found.effect:.2g}"
    )
    say(f"written: {output}")
    say_next(f"lens chat {output} --versus {variant}")
