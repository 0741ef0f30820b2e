"""`lens card` and `lens push`: what was trained or measured, made fit to be handed on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lens_eval.base.errors import UserError, did_you_mean
from lens_eval.base.files import check_outputs, write_text
from lens_eval.base.terminal import say
from lens_eval.commands.options import say_next

if TYPE_CHECKING:
    from lens_eval.results.compare import Comparison

_SHOWN_STAYING = 8


def card(
    folder: Annotated[Path, typer.Argument(help="A trained variant, or the folder of a run's results.")],
    results: Annotated[
        Path | None, typer.Option("--results", help="For a variant: a run whose results go into the card.")
    ] = None,
    variant: Annotated[
        str | None,
        typer.Option("--variant", help="Its name among those results [default: the folder's name]."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="For results: write the card here instead of printing it.")
    ] = None,
) -> None:
    """Write the model card of a trained variant, or a card of a run's results.

    A variant's card is its README.md. What you add outside of the marked parts stays.
    """
    from lens_train.job import VARIANT_FILE

    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; name a trained variant, or the results of a run")
    if not (folder / VARIANT_FILE).is_file():
        if results is not None or variant is not None:
            raise UserError(f"{folder} is no trained variant; --results and --variant are for one")
        _card_of_results(folder, output)
        return
    if output is not None:
        raise UserError("the card of a variant is its README.md; --output is for the card of results")
    from lens_train.publish.card import write_card

    text = "" if results is None else _results(results, variant or folder.resolve().name)
    say(f"written: {write_card(folder, text)}")
    say_next(f"lens push {folder} OWNER/NAME --dry-run")


def push(
    folder: Annotated[Path, typer.Argument(help="A trained variant with its card.")],
    repo: Annotated[str, typer.Argument(help="Where on the hub: OWNER/NAME.")],
    base: Annotated[
        str | None, typer.Option("--base", help="The base's hub id, if it was trained from a folder.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Only you can see a new repository.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go; send nothing.")] = False,
) -> None:
    """Put a trained variant on the Hugging Face hub, without anything that tells of this machine."""
    from lens_train.publish.upload import plan
    from lens_train.publish.upload import push as send

    chosen = plan(folder, repo, base)
    for file in chosen.files:
        say(f"{file.size:>14,}  {file.name}")
    say(f"{chosen.size:>14,}  bytes in {len(chosen.files)} files to {repo}")
    if chosen.stays:
        more = len(chosen.stays) - _SHOWN_STAYING
        say(
            f"stays here: {', '.join(chosen.stays[:_SHOWN_STAYING])}{f' and {more} more' if more > 0 else ''}"
        )
    if dry_run:
        say("nothing was sent")
        say_next(f"lens push {folder} {repo}{f' --base {base}' if base else ''}")
        return
    say(f"written: {send(chosen, private)}")


def _card_of_results(folder: Path, output: Path | None) -> None:
    from lens_eval.results.card import of_results

    check_outputs((output,))
    text = of_results(_comparison(folder))
    if output is None:
        say(text, nl=False)
        return
    write_text(output, text)
    say(f"written: {output}")


def _results(folder: Path, variant: str) -> str:
    from lens_eval.results.card import of_variant

    comparison = _comparison(folder)
    if variant not in comparison.variants:
        raise UserError(
            f"the results in {folder} have no {variant!r}{did_you_mean(variant, comparison.variants)}; "
            f"they have {', '.join(comparison.variants)}; name it with --variant"
        )
    return of_variant(comparison, variant)


def _comparison(folder: Path) -> Comparison:
    from lens_eval.results.compare import compare
    from lens_eval.results.read import load

    scores, document, holes = load([folder])
    name = str(document.get("name") or folder.resolve().name)
    return compare(scores, name=name, holes=holes, run=document)
