"""Answers judged in threads; each judgement is kept as it comes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from lens_eval.base.endpoint import Endpoint, Message, Rejected, Reply, Unreachable
from lens_eval.base.errors import UserError
from lens_eval.base.files import lock, make_folder
from lens_eval.base.progress import progress
from lens_eval.judge.grades import (
    JUDGEMENTS,
    Answer,
    Judgement,
    append_judgement,
    folder_of,
    judge_answer,
    read_judgements,
    write_results,
)

# So many failures on end, none of them a lost connection, and the endpoint is taken to be broken.
FAILURES_ON_END = 8


def judge_what_is_new(
    answers: Sequence[Answer],
    folder: Path,
    endpoint: Endpoint,
    concurrency: int,
    say: Callable[[str], object],
) -> tuple[Path, dict[str, Judgement]]:
    """Judge what `folder` has no final judgement of and write the results.

    Returns:
        The file of judgements, and all in it by key.
    """
    model, file = endpoint.model, folder / JUDGEMENTS
    make_folder(folder, below=folder.parent)
    with lock(folder):
        known = {key: judgement for key, judgement in read_judgements(file).items() if judgement.final}
        # Equal answers to one question have one judgement.
        new = {answer.key(model): answer for answer in answers}
        todo = [answer for key, answer in new.items() if key not in known]
        say(f"{len(answers)} answers, {len(answers) - len(todo)} of them judged before")
        judge_all(todo, endpoint, file, concurrency)
        judgements = read_judgements(file)
        write_results(answers, judgements, model, folder_of(model))
    return file, judgements


def judge_all(todo: Sequence[Answer], endpoint: Endpoint, file: Path, concurrency: int) -> None:
    """Judge answers in threads and keep each judgement as it comes.

    Raises:
        UserError: the endpoint refuses everything, cannot be reached any more, or fails again and again.
    """
    if not todo:
        return
    judges = _Judges(endpoint)
    # One alone first: a wrong address, key or name is told at once.
    judges.finished.put(judges.judged(todo[0], patient=False))
    for answer in todo[1:]:
        judges.waiting.put(answer)
    on_end = done = 0
    bar = progress(label="judging", total=len(todo))
    try:
        while done < len(todo):
            result = judges.finished.get()
            if isinstance(result, Unreachable):
                raise UserError(_stopped(str(result), done, len(todo))) from result
            if isinstance(result, Exception):
                raise result
            append_judgement(file, result)
            on_end = on_end + 1 if result.error else 0
            if on_end == FAILURES_ON_END:
                raise UserError(_stopped(f"{on_end} requests on end failed; {result.error}", done, len(todo)))
            if done == 0:
                judges.start(min(concurrency, len(todo) - 1))
            done += 1
            bar.update()
    finally:
        endpoint.stop.set()
        bar.close()


class _Judges:
    """Threads that take what is waiting and put what they made of it."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.waiting: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self.finished: queue.SimpleQueue[Judgement | Exception] = queue.SimpleQueue()

    def start(self, count: int) -> None:
        """Start so many threads; as daemons, for a stop need not wait for replies that are under way."""
        for _ in range(count):
            threading.Thread(target=self._work, daemon=True).start()

    def judged(self, answer: Answer, patient: bool = True) -> Judgement | Exception:
        """The judgement of one answer, or what came in its way."""

        def ask(messages: Sequence[Message]) -> Reply:
            return self.endpoint.complete(messages, patient)

        try:
            return judge_answer(answer, self.endpoint.model, ask)
        except Rejected as error:
            return Judgement(answer.key(self.endpoint.model), None, "", error=str(error))
        except Exception as error:
            return error

    def _work(self) -> None:
        while not self.endpoint.stop.is_set():
            try:
                answer = self.waiting.get_nowait()
            except queue.Empty:
                return
            self.finished.put(self.judged(answer))


def _stopped(why: str, done: int, total: int) -> str:
    kept = f"; {done} of {total} judgements are kept, the same command goes on from there" if done else ""
    return why + kept
