"""Whether Lens suits a model: its replies to a few prompts per language, and its loss on the prompts.

Lens is for a model that understands a language and answers in another one. It changes the language of a
reply; it teaches no language. So two questions are asked per language: in which language are the replies, and
can the model write the language at all. Two signs answer the second question. One is the form of the replies
(loops, echoes). The other is `cost`: the model's total loss on the prompts of a language, divided by its
total loss on the same prompts in the central language. Translations have the same content, so a model that
knows a language well has a cost of about 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lens_eval.base.errors import UserError
from lens_eval.base.terminal import make_console
from lens_eval.mini import resolve_data
from lens_train.checkpoint import Checkpoint
from lens_train.config import LensConfig
from lens_train.devices import resolve_device, resolve_dtype
from lens_train.probing import renderer
from lens_train.stream import open_decoder
from lens_train.watch.dev import DevData, DevJudge, shown_share

REPAIRED = 0.9
"""With at least this share of usable replies there is almost nothing to repair."""
SOUND = 0.5
"""With a smaller share of usable replies in the central language the prompts do not suit the model."""
OFF_TARGET = 0.2
"""With at least this share of off-target replies Lens can help."""
BROKEN = 0.5
"""With at least this share of loops, echoes and empty replies the model cannot write the language."""
COSTLY = 3.0
"""With at least this `cost` the model hardly knows the language."""


@dataclass(frozen=True)
class Assessment:
    """One language."""

    language: str
    shares: Mapping[str, float]
    """Measures of the replies; see `lens_train.watch.dev`."""
    cost: float
    """Loss on the prompts divided by that on their central translations; 1 for the central language."""
    verdict: str
    replies: tuple[tuple[str, str], ...]
    """Prompts and replies."""


def assess(
    model: str,
    data: str | Path,
    languages: tuple[str, ...],
    central: str,
    settings: Mapping[str, Any],
    items: int = 20,
    tokens: int = 64,
    device: str = "auto",
) -> tuple[Assessment, ...]:
    """Generate and judge replies; the central language comes first.

    Args:
        model: hub id, folder or file.
        data: parallel prompts.
        languages: codes, including the central one.
        central: the language that the model presumably prefers.
        settings: fields of `LensConfig` that decide how a prompt is run (template, system prompt, precision).
        items: prompts per language.
        tokens: most tokens of a reply.
        device: `auto`, `cpu`, `cuda`, ...

    Raises:
        UserError: an argument is wrong, or the model must be streamed; raised before any work.
    """
    config = LensConfig.build(languages, central, settings)
    place = resolve_device(device)
    dev = DevData.read(resolve_data(data), languages, items)
    checkpoint = Checkpoint.open(model)
    tokenizer = checkpoint.tokenizer
    render = renderer(tokenizer, config, "train")
    decoder = open_decoder(checkpoint, place, resolve_dtype(config.dtype, place, checkpoint), config.stream)
    if len(decoder.spans(len(decoder))) > 1:
        raise UserError(f"{model} does not fit into memory, but only a model in memory can generate replies")
    decoder.model.requires_grad_(False)
    judge = DevJudge.make(decoder, tokenizer, dev, render, central, tokens, config.batch_tokens)
    measures, replies = judge.judge()
    losses = {code: text_loss(decoder.model, tokenizer, dev.prompts.texts[code]) for code in languages}
    order = sorted(languages, key=lambda code: code != central)
    sound = measures["by_language"][central]["usable"] >= SOUND
    found = []
    for code in order:
        cost = losses[code] / losses[central]
        pairs = tuple(zip(dev.prompts.texts[code], replies[code], strict=True))
        shares = measures["by_language"][code]
        found.append(Assessment(code, shares, cost, verdict(shares, cost, code == central, sound), pairs))
    return tuple(found)


@torch.no_grad()
def text_loss(model: Any, tokenizer: Any, texts: Sequence[str]) -> float:
    """Total loss of the texts, in nats."""
    from lens_train.watch.dev import token_losses

    return sum(float(losses.sum()) for losses in token_losses(model, tokenizer, texts))


def verdict(shares: Mapping[str, float], cost: float, central: bool, sound: bool = True) -> str:
    """What the measures of a language say about Lens, in a few words.

    If even the central language is not usable (`sound` is false), nothing follows for other languages.
    """
    broken = shares["loop"] + shares["echo"] + shares["empty"]
    if central:
        return "as it should be" if shares["usable"] >= REPAIRED else "too few usable replies"
    if not sound:
        return "unclear: the central language fails too"
    if shares["usable"] >= REPAIRED:
        return "nothing to repair"
    if shares["central"] >= OFF_TARGET:
        doubt = " (its cost is high: it may hardly know the language)" if cost >= COSTLY else ""
        return f"for Lens: it answers in the central language{doubt}"
    if broken >= BROKEN or shares["other"] >= OFF_TARGET:
        return "not for Lens: it does not write the language"
    return "little for Lens: few replies are off target"


def conclusion(found: Sequence[Assessment]) -> str:
    """One sentence about all languages, with the next step."""
    central, others = found[0], found[1:]
    if central.shares["usable"] < SOUND:
        return (
            f"Even in {central.language} few replies are usable: check the chat template (`lens doctor`) or "
            "give --template plain."
        )
    good = [own.language for own in others if own.verdict.startswith("for Lens")]
    if good:
        return f"Lens can help with {', '.join(good)}. Next: `lens sweep` or `lens train` on these languages."
    if all(own.verdict.startswith("nothing") for own in others):
        return "There is nothing to repair in these languages: almost every reply is usable."
    return "Lens will not help here: it changes the language of replies, and teaches no language."


def show(found: Sequence[Assessment], count: int) -> None:
    """Print `count` replies per language, the table, and the conclusion."""
    from rich.markup import escape
    from rich.table import Table

    console = make_console()
    for own in found if count else ():
        console.print(f"[bold]{own.language}[/bold]")
        for prompt, reply in own.replies[:count]:
            for words in ("> " + _one_line(prompt), "  " + (_one_line(reply) or "(empty)")):
                console.print(escape(words), overflow="ellipsis", no_wrap=True)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    heads = ("", "off target", "usable", "loops", "echoes", "cost", "verdict")
    for number, head in enumerate(heads):
        left = number in (0, len(heads) - 1)
        table.add_column(head, justify="left" if left else "right")
    for own in found:
        names = ("off_target", "usable", "loop", "echo")
        shares = [shown_share(own.shares, name).removesuffix(".0") for name in names]
        table.add_row(own.language, *shares, f"{own.cost:.1f}", escape(own.verdict))
    console.print(table)
    items = len(found[0].replies)
    console.print(
        f"Percent of the replies to {items} prompts per language; one reply is {100 / items:g} points. cost: "
        f"the model's loss on these prompts over that on the same prompts in {found[0].language}."
    )
    console.print(escape(conclusion(found)))


def _one_line(text: str) -> str:
    return "".join(sign for sign in " ".join(text.split()) if sign.isprintable())
