"""`lens judge`: grades for saved answers to `lens_mtbench`, from any OpenAI-compatible endpoint."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lens_eval.base.errors import UserError

if TYPE_CHECKING:
    from lens_eval.judge.endpoint import Endpoint, Message
    from lens_eval.judge.grades import Answer, Judgement, Summary

KEY_VARIABLE = "OPENAI_API_KEY"
# So many failures on end, none of them a lost connection, and the endpoint is taken to be broken.
FAILURES_ON_END = 8


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
    same command goes on after a stop, and judges only what is new or has failed.
    """
    from contextlib import ExitStack

    from lens_eval.base.files import lock
    from lens_eval.judge.endpoint import Endpoint
    from lens_eval.judge.grades import (
        JUDGEMENTS,
        find_answers,
        folder_of,
        read_judgements,
        summarise,
        write_results,
    )

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
    file = folder / JUDGEMENTS
    with ExitStack() as stack:
        stack.enter_context(lock(folder))
        known = {key: judgement for key, judgement in read_judgements(file).items() if judgement.final}
        todo = _unjudged(answers, known, model)
        typer.echo(f"{len(answers)} answers, {len(answers) - len(todo)} of them judged before")
        _judge_all(todo, target, file, concurrency)
        judgements = read_judgements(file)
        write_results(answers, judgements, model, folder_of(model))
    rows = summarise(answers, judgements, model)
    _show(rows)
    _show_tokens([judgements[key] for key in {a.key(model) for a in answers} if key in judgements], prices)
    failed = sum(row.failed for row in rows)
    typer.echo(f"grades: {folder}; `lens compare {run}` shows them with intervals")
    if failed:
        typer.echo(
            f"lens: {failed} answers have no grade (see {file}); they are left out of the means", err=True
        )


def _unjudged(answers: Sequence[Answer], known: Mapping[str, Judgement], model: str) -> list[Answer]:
    """Return what is to be judged, once each: equal answers to one question have one judgement."""
    new = {answer.key(model): answer for answer in answers}
    return [answer for key, answer in new.items() if key not in known]


def _judge_all(todo: Sequence[Answer], endpoint: Endpoint, file: Path, concurrency: int) -> None:
    """Judge answers in threads and keep each judgement as it comes.

    Raises:
        UserError: the endpoint refuses everything, cannot be reached any more, or fails again and again.
    """
    import queue
    import threading

    from lens_eval.base.progress import progress
    from lens_eval.judge.endpoint import Rejected, Unreachable
    from lens_eval.judge.grades import Judgement, append_judgement, judge_answer

    waiting: queue.SimpleQueue[Answer] = queue.SimpleQueue()
    finished: queue.SimpleQueue[Judgement | Exception] = queue.SimpleQueue()

    def ask(messages: Sequence[Message], patient: bool) -> tuple[str, int, int]:
        reply = endpoint.complete(messages, patient)
        return reply.text, reply.prompt_tokens, reply.completion_tokens

    def judged(answer: Answer, patient: bool = True) -> Judgement | Exception:
        try:
            return judge_answer(answer, endpoint.model, lambda messages: ask(messages, patient))
        except Rejected as error:
            return Judgement(answer.key(endpoint.model), None, "", error=str(error))
        except Exception as error:
            return error

    def work() -> None:
        while not endpoint.stop.is_set():
            try:
                answer = waiting.get_nowait()
            except queue.Empty:
                return
            finished.put(judged(answer))

    if not todo:
        return
    # One alone first: a wrong address, key or name is told at once.
    finished.put(judged(todo[0], patient=False))
    for answer in todo[1:]:
        waiting.put(answer)
    on_end = done = 0
    bar = progress(label="judging", total=len(todo))
    try:
        while done < len(todo):
            result = finished.get()
            if isinstance(result, Unreachable):
                raise UserError(_stopped(str(result), done, len(todo))) from result
            if isinstance(result, Exception):
                raise result
            append_judgement(file, result)
            on_end = on_end + 1 if result.error else 0
            if on_end == FAILURES_ON_END:
                raise UserError(_stopped(f"{on_end} requests on end failed; {result.error}", done, len(todo)))
            if done == 0:
                # Daemons: a stop need not wait for replies that are under way.
                for _ in range(min(concurrency, len(todo) - 1)):
                    threading.Thread(target=work, daemon=True).start()
            done += 1
            bar.update()
    finally:
        endpoint.stop.set()
        bar.close()


def _stopped(why: str, done: int, total: int) -> str:
    kept = f"; {done} of {total} judgements are kept, the same command goes on from there" if done else ""
    return why + kept


def _extra(text: str | None) -> dict[str, Any]:
    import json

    try:
        extra = json.loads(text) if text else {}
    except json.JSONDecodeError as error:
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
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, title="mean grade, 1 to 10", title_justify="left")
    for name in ("model", "turn", "language", "answers", "grade", "on target or 1", "no grade"):
        table.add_column(name, justify="left" if name in ("model", "language") else "right")
    for row in rows:
        grades = ["–" if value is None else f"{value:.2f}" for value in (row.mean, row.on_target)]
        cells = [row.model, row.turn, row.language, str(row.n), *grades, str(row.failed)]
        table.add_row(*map(Text, cells))
    Console(highlight=False).print(table)


def _show_tokens(judgements: Sequence[Judgement], prices: tuple[float, float] | None) -> None:
    read = sum(judgement.prompt_tokens for judgement in judgements)
    written = sum(judgement.completion_tokens for judgement in judgements)
    line = f"tokens of these judgements: {read:,} read, {written:,} written"
    if prices:
        line += f"; cost {(read * prices[0] + written * prices[1]) / 1e6:,.2f}"
    typer.echo(line)
