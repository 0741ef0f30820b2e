"""The command `lens doctor`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lens_eval.base.errors import UserError
from lens_eval.base.redaction import visible
from lens_eval.base.terminal import make_console

if TYPE_CHECKING:
    from rich.console import Console

    from lens_eval.doctor.examination import Examination
    from lens_eval.doctor.patient import Result

SHOWN = 500
"""Characters of a prompt that are shown without --full."""


def doctor(
    model: Annotated[
        str, typer.Argument(help="Hub id, checkpoint or adapter folder, GGUF file, or `builtin`.")
    ],
    tasks: Annotated[str, typer.Option(help="lm_eval tasks or groups, separated by commas.")] = "lens_mini",
    languages: Annotated[str | None, typer.Option(help="Only tasks in these languages, e.g. en,zh.")] = None,
    adapter: Annotated[str | None, typer.Option(help="PEFT adapter to load on the model.")] = None,
    backend: Annotated[str, typer.Option(help="What the run will use: hf or vllm.")] = "hf",
    model_args: Annotated[
        str | None, typer.Option(help="More lm_eval model arguments: dtype=bfloat16,...")
    ] = None,
    system_instruction: Annotated[str | None, typer.Option(help="System message of the run.")] = None,
    gen_kwargs: Annotated[str | None, typer.Option(help="For all generation: max_gen_toks=256,...")] = None,
    data: Annotated[str | None, typer.Option(help="Parallel training data to look at too.")] = None,
    include_path: Annotated[list[Path] | None, typer.Option(help="Another folder with task files.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Show whole prompts.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Leave out what loads the weights.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
) -> None:
    """Look for what would spoil a long run: BOS, templates, stop strings, lengths, adapter, machine.

    Shows the first prompt of each task as it is fed. Ends with status 1 where a check fails.
    """
    from lens_eval.base.progress import progress
    from lens_eval.commands.options import read_backend, read_codes, read_pairs, say_next
    from lens_eval.doctor.examination import examine
    from lens_eval.doctor.patient import admit
    from lens_eval.runs.recipe import Backend
    from lens_eval.upstream.evaluation import only_own_bars

    if backend == "endpoint":
        raise UserError("the doctor looks at a model that is here; behind an endpoint it sees none")
    settings = Backend(
        read_backend(backend),
        read_pairs(model_args),
        gen_kwargs=read_pairs(gen_kwargs, "--gen-kwargs"),
        system_instruction=system_instruction,
    )
    names = [part.strip() for part in tasks.split(",") if part.strip()]
    if not names:
        raise UserError("--tasks names no task")
    codes = read_codes(languages)
    patient = admit(model, adapter, settings, device)
    with progress(label="doctor") as bar, only_own_bars():
        found = examine(
            patient, names, codes, [str(p) for p in include_path or ()], data, not quick, bar.set_description
        )
    show(found, full)
    if found.failed:
        say_next("mend what failed, and ask again")
        raise typer.Exit(1)
    say_next(f"lens eval --model {model} --tasks {tasks} --output FOLDER")


def show(found: Examination, full: bool = False, console: Console | None = None) -> None:
    """Print the prompts, then a line per check; tasks with the same finding share one."""
    from rich.table import Table
    from rich.text import Text

    console = console or make_console()
    for task, prompt in found.prompts.items():
        console.print(Text(visible(task), style="bold"))
        console.print(Text(_visible(prompt if full else _cut(prompt))), soft_wrap=True)
        console.print()
    styles = {"ok": "green", "warning": "yellow", "failed": "bold red", "skipped": "dim"}
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for result, words in lines(found.results):
        table.add_row(
            Text(result.check), Text(result.outcome, style=styles[result.outcome]), Text(visible(words))
        )
    console.print(table)


def lines(results: Sequence[Result]) -> Iterator[tuple[Result, str]]:
    """One result and its words per line of the table."""
    groups: dict[tuple[str, str, str], list[Result]] = {}
    for result in results:
        # What is well with every task is said once; lengths differ, and the longest stands for them.
        words = "" if result.task and result.outcome == "ok" else result.words
        groups.setdefault((result.check, result.outcome, words), []).append(result)
    order = list(dict.fromkeys(check for check, _, _ in groups))
    for (_, outcome, _), own in sorted(groups.items(), key=lambda group: order.index(group[0][0])):
        first = own[0]
        tasks = [result.task for result in own if result.task]
        if not tasks:
            yield first, first.words
        elif outcome == "ok" and len(tasks) > 1:
            differ = len({result.words for result in own}) > 1
            yield first, f"{len(tasks)} tasks" + ("" if differ else f": {first.words}")
        else:
            names = ", ".join(tasks[:3]) + (f" and {len(tasks) - 3} more" if len(tasks) > 3 else "")
            yield first, f"{names}: {first.words}"


def _cut(prompt: str) -> str:
    if len(prompt) <= SHOWN:
        return prompt
    half = SHOWN // 2
    gap = f"[... {len(prompt) - SHOWN} characters more, --full shows them ...]"
    return f"{prompt[:half]}\n{gap}\n{prompt[-half:]}"


def _visible(prompt: str) -> str:
    """Control characters, which could move the cursor, as escapes; a space at the end as a dot."""
    text = visible(prompt)
    return f"{text}·" if text.endswith(" ") else text
