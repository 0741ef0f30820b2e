"""`lens judge`: grades for saved answers to `lens_mtbench`, from any OpenAI-compatible endpoint."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lens_eval.base.errors import UserError
from lens_eval.base.reading import parse_json
from lens_eval.base.terminal import make_console, say
from lens_eval.commands.options import say_next
from lens_eval.judge.judging import judge_what_is_new

if TYPE_CHECKING:
    from lens_eval.judge.grades import Judgement, Summary

KEY_VARIABLE = "OPENAI_API_KEY"


def judge(
    run: Annotated[Path, typer.Argument(help="Results folder of lm_eval, lens eval or lens reproduce.")],
    endpoint: Annotated[str, typer.Option(help="Base address of the server, e.g. http://localhost:8000/v1.")],
    model: Annotated[str, typer.Option(help="Name of the judge model at that endpoint.")],
    key_variable: Annotated[
        str, typer.Option(help="Environment variable that holds the API key.")
    ] = KEY_VARIABLE,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests under way at once.")] = 8,
    max_tokens: Annotated[int, typer.Option(min=16, help="Longest reply of the judge.")] = 1024,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for a reply.")] = 120.0,
    retries: Annotated[int, typer.Option(min=0, help="Further tries of a request, with backoff.")] = 6,
    extra: Annotated[
        str | None,
        typer.Option(help="JSON object laid over every request; null takes a field away."),
    ] = None,
    price: Annotated[
        str | None, typer.Option(help="Price per million tokens, IN,OUT: shows what was spent.")
    ] = None,
) -> None:
    """Have the saved answers to lens_mtbench graded from 1 to 10 by a judge model.

    Grades are written beside the samples; `lens compare` shows them. What was judged is kept as it comes: the
    same command goes on after a stop, and judges only what is new or has failed. Ends with status 1 where no
    answer got a grade.
    """
    from lens_eval.base.endpoint import Endpoint
    from lens_eval.judge.grades import find_answers, folder_of, summarise

    prices = _prices(price)
    target = Endpoint(
        endpoint,
        model,
        key=os.environ.get(key_variable) or None,
        max_tokens=max_tokens,
        timeout=timeout,
        retries=retries,
        extra=_extra(extra),
    )
    answers = find_answers(run)
    folder = run / folder_of(model)
    file, judgements = judge_what_is_new(answers, folder, target, concurrency, say)
    rows = summarise(answers, judgements, model)
    _show(rows)
    _show_tokens([judgements[key] for key in {a.key(model) for a in answers} if key in judgements], prices)
    failed = sum(row.failed for row in rows)
    say(f"grades: {folder}")
    if failed:
        say(f"lens: {failed} answers have no grade (see {file}); they are left out of the means", err=True)
        own = {answer.key(model) for answer in answers}
        causes = Counter(judgements[key].error for key in own if key in judgements and judgements[key].error)
        for cause, count in causes.most_common(3):
            say(f"lens: {count} of them: {cause}", err=True)
    if answers and failed == len(answers):
        raise typer.Exit(1)
    say_next(f"lens compare {run} shows the grades with intervals")


def _extra(text: str | None) -> dict[str, Any]:
    try:
        extra = parse_json(text, "--extra") if text else {}
    except UserError as error:
        raise UserError(f"--extra is no JSON: {error}") from None
    if not isinstance(extra, dict):
        raise UserError(f'--extra takes a JSON object such as {{"seed": 1}}, not {text}')
    return extra


def _prices(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        read, written = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--price takes two numbers, IN,OUT, not {text!r}") from None
    return read, written


def _show(rows: Sequence[Summary]) -> None:
    """Print mean grades by model, turn and language."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, title="mean grade, 1 to 10", title_justify="left")
    for name in ("model", "turn", "language", "answers", "grade", "on target or 1", "no grade"):
        table.add_column(name, justify="left" if name in ("model", "language") else "right")
    for row in rows:
        grades = ["–" if value is None else f"{value:.2f}" for value in (row.mean, row.on_target)]
        cells = [row.model, row.turn, row.language, str(row.n), *grades, str(row.failed)]
        table.add_row(*map(Text, cells))
    make_console().print(table)


def _show_tokens(judgements: Sequence[Judgement], prices: tuple[float, float] | None) -> None:
    read = sum(judgement.prompt_tokens for judgement in judgements)
    written = sum(judgement.completion_tokens for judgement in judgements)
    line = f"tokens of these judgements: {read:,} read, {written:,} written"
    if prices:
        line += f"; cost {(read * prices[0] + written * prices[1]) / 1e6:,.2f}"
    say(line)
