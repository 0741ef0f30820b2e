"""Score files of responses: counts per language asked for, streamed, in one or more processes, then a
report.

Counts are whole numbers and are added up per language, so any order of rows, any batching and any number of
processes give the same report.
"""

from __future__ import annotations

import itertools
import json
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lens_eval.base.errors import UserError
from lens_eval.base.files import written_aside
from lens_eval.language.files.fields import Fields
from lens_eval.language.files.inputs import files_of
from lens_eval.language.files.read import Source
from lens_eval.language.files.requests import Requests
from lens_eval.language.files.response import Broken, Response
from lens_eval.language.files.tally import Scorer, Tally
from lens_eval.language.languages import DEFAULT_LANGUAGES, normalise_code
from lens_eval.language.off_target import Judge, Verdict
from lens_eval.language.reply_form import form_metrics, form_of

if TYPE_CHECKING:
    from concurrent.futures import Future

_CHUNK = 256
# Below this many responses a second process would cost more than it saves.
_ALONE = 2048
_BROKEN_SHOWN = 20

OnVerdict = Callable[[Response, str, str], None]
"""Called with a response, its outcome and the language it was answered in."""


@dataclass(frozen=True)
class Settings:
    """What every process needs to judge alike."""

    central: str = "en"
    candidates: tuple[str, ...] = DEFAULT_LANGUAGES
    detector: str = "lingua"
    split_chinese: bool = False
    protocol: str = "lens"
    words: str | None = None


def _lens_scorer(settings: Settings) -> Scorer:
    judge = make_judge(settings)

    def score(response: Response, tally: Tally) -> tuple[str, str]:
        verdict = judge.judge(response.text, response.language, response.prompt)
        _count(verdict, response, tally)
        return verdict.outcome, verdict.answered_in

    return score


def _count(verdict: Verdict, response: Response, tally: Tally) -> None:
    outcomes = [verdict.outcome]
    if verdict.outcome in ("central", "other"):
        outcomes.append("off_target")
    form = form_of(response.text, response.prompt)
    numbers = form_metrics(form, {"on_target": verdict.outcome == "on_target"})
    outcomes += [name for name, value in numbers.items() if value]
    if response.cut is not None:
        outcomes += ["has_cut_off", *(["cut_off"] if response.cut else [])]
    if response.correct is not None:
        outcomes.append("has_correct")
        if response.correct >= 1:
            outcomes.append("correct")
            if verdict.outcome == "on_target":
                outcomes.append("correct_on_target")
    tally.add(outcomes, response.item)
    for line in verdict.lines:
        tally.lines[line.outcome] += 1
    for outcome, letters in verdict.letters.items():
        if letters:  # halves of letters at the finest: their sums are exact
            tally.letters[outcome] += letters  # type: ignore[assignment]
    tally.answered_in[verdict.answered_in] += 1
    if verdict.thinking is not None:
        tally.thinking[verdict.thinking] += 1


def make_judge(settings: Settings) -> Judge:
    """Return the judge of the settings."""
    return Judge(
        settings.central, settings.candidates, settings.detector, split_chinese=settings.split_chinese
    )


def make_scorer(settings: Settings) -> Scorer:
    """Return the function that scores one response under the protocol of the settings."""
    if settings.protocol == "lcb":
        from lens_eval.language.confusion_benchmark import make_lcb_scorer

        return make_lcb_scorer(settings.detector, settings.words)
    return _lens_scorer(settings)


# What one chunk of responses gives: tallies by language asked for, the verdicts, and lines that broke.
ChunkResult = tuple[dict[str, Tally], list[tuple[str, str]], list[Broken]]
_scorer: Scorer | None = None


def _start_process(settings: Settings) -> None:
    global _scorer
    _scorer = make_scorer(settings)


def _score_in_process(chunk: list[Response]) -> ChunkResult:
    assert _scorer is not None
    return _score_chunk(_scorer, chunk)


def _score_chunk(scorer: Scorer, chunk: list[Response]) -> ChunkResult:
    tallies: defaultdict[str, Tally] = defaultdict(Tally)
    verdicts: list[tuple[str, str]] = []
    broken: list[Broken] = []
    for response in chunk:
        tally = tallies[normalise_code(response.language)]
        try:
            verdicts.append(scorer(response, tally))
        except UserError as error:  # a language this detector cannot judge
            broken.append(Broken(response.file, response.line, str(error)))
            verdicts.append(("broken", ""))
    return {code: tally for code, tally in tallies.items() if tally.count()}, verdicts, broken


@dataclass
class Scores:
    """All that `lens score` counted."""

    settings: Settings
    languages: dict[str, Tally] = field(default_factory=dict)
    files: list[dict[str, Any]] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    broken_count: int = 0
    left_out: list[tuple[str, str]] = field(default_factory=list)
    """Files of folders that hold no responses to read, and why."""

    def add_broken(self, broken: Broken, strict: bool) -> None:
        if strict:
            raise UserError(f"{broken.file}, line {broken.line}: {broken.reason} (--strict)")
        self.broken_count += 1
        if len(self.broken) < _BROKEN_SHOWN:
            self.broken.append(broken)


def score_files(
    names: Sequence[str],
    fields: Fields = Fields(),  # noqa: B008 (frozen)
    settings: Settings = Settings(),
    *,
    strict: bool = False,
    processes: int = 1,
    on_verdict: OnVerdict | None = None,
    delimiter: str | None = None,
    requests: str | None = None,
) -> Scores:
    """Score every response of the files and folders ("-" is standard input).

    Raises `UserError` if a file cannot be read or has no such fields, if no response at all could be read,
    and with `strict` at the first line that could not. `requests` names the file that holds the requests of a
    batch, joined by `custom_id`. A file of a folder that has no such fields is left
    out; `Scores.left_out` names it. `on_verdict` is called with each response, its outcome and the language
    it was answered in, in order.
    """
    scorer = make_scorer(settings)
    scores = Scores(settings)
    opened = partial(
        Source, fields=fields, delimiter=delimiter, requests=Requests(requests) if requests else None
    )
    kept = _looked_at(files_of(names), opened, scores)
    if not kept and scores.left_out:
        file, why = scores.left_out[0]
        raise UserError(f"no file of {', '.join(names)} holds responses that can be read; {file}: {why}")
    responses = _responses(kept, opened, scores, strict)
    count(responses, scorer, scores, strict=strict, processes=processes, on_verdict=on_verdict)
    if not scores.languages:
        read = ", ".join(f"{file['name']} (read as {file['kind']})" for file in scores.files)
        why = "no rows; one JSON object a line is needed, or CSV with a header"
        if scores.broken:
            line, reason = scores.broken[0].line, scores.broken[0].reason
            why = f"{scores.broken_count} broken lines; first: line {line}: {reason}"
        raise UserError(f"no response could be scored in {read}: {why}")
    return scores


def count(
    responses: Iterator[Response],
    scorer: Scorer,
    scores: Scores,
    *,
    strict: bool = False,
    processes: int = 1,
    on_verdict: OnVerdict | None = None,
) -> None:
    """Judge responses and add them to `scores`; see `score_files`."""
    for response_chunk, (tallies, verdicts, broken) in _results(
        _chunks(responses), scorer, scores.settings, processes
    ):
        for code, tally in tallies.items():
            scores.languages.setdefault(code, Tally()).merge(tally)
        for each in broken:
            scores.add_broken(each, strict)
        if on_verdict:
            for response, verdict in zip(response_chunk, verdicts, strict=True):
                on_verdict(response, *verdict)


@contextmanager
def verdict_file(path: Path | None) -> Iterator[OnVerdict | None]:
    """What `score_files` calls with each verdict to write it as a line of JSON; the file is there at the end.

    None where no file is asked for.
    """
    if path is None:
        yield None
        return
    with written_aside(path) as aside, aside.open("w", encoding="utf-8", errors="replace") as stream:

        def write(response: Response, outcome: str, answered_in: str) -> None:
            row = {
                "file": response.file,
                "line": response.line,
                "language": response.language,
                "outcome": outcome,
                "answered_in": answered_in,
                "form": form_of(response.text, response.prompt).name,
            }
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")

        yield write


def _looked_at(
    files: Mapping[str, bool], opened: Callable[[str], Source], scores: Scores
) -> dict[str, Source | None]:
    """Look at every input before the work starts; those that can be read only once stay open."""
    kept: dict[str, Source | None] = {}
    for name, in_folder in files.items():
        try:
            source = opened(name)
        except UserError as error:
            if not in_folder:
                raise
            scores.left_out.append((name, str(error).removeprefix(f"{name}: ")))
            continue
        kept[name] = source
        if name != "-" and Path(name).is_file():
            source.close()
            kept[name] = None
    return kept


def _responses(
    kept: Mapping[str, Source | None], opened: Callable[[str], Source], scores: Scores, strict: bool
) -> Iterator[Response]:
    from lens_eval.base.progress import progress

    total = None if any(kept.values()) else sum(Path(name).stat().st_size for name in kept)
    done = 0
    with progress(label="scoring", total=total, unit="bytes") as bar:
        for name, kept_open in kept.items():
            source = kept_open or opened(name)
            for number, row in enumerate(source):
                if isinstance(row, Broken):
                    scores.add_broken(row, strict)
                else:
                    yield row
                if not number % _CHUNK:
                    bar.update(done + source.position() - bar.n)
            done += source.position()
            scores.files.append(source.describe())
            if strict and source.first_invalid_utf8 is not None:
                raise UserError(f"{source.name}, line {source.first_invalid_utf8}: invalid UTF-8 (--strict)")
            source.close()


def _chunks(responses: Iterable[Response]) -> Iterator[list[Response]]:
    iterator = iter(responses)
    while chunk := list(itertools.islice(iterator, _CHUNK)):
        yield chunk


def _results(
    chunks: Iterator[list[Response]], scorer: Scorer, settings: Settings, processes: int
) -> Iterator[tuple[list[Response], ChunkResult]]:
    """Score chunks in order; other processes are only started for an input that is worth it."""
    ahead = list(itertools.islice(chunks, _ALONE // _CHUNK + 1)) if processes > 1 else []
    if len(ahead) <= _ALONE // _CHUNK:
        for chunk in itertools.chain(ahead, chunks):
            yield chunk, _score_chunk(scorer, chunk)
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    # Fresh processes: forking one whose detector has threads is not safe.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, _start_process, (settings,)) as pool:
        waiting: deque[tuple[list[Response], Future[ChunkResult]]] = deque()
        try:
            for chunk in itertools.chain(ahead, chunks):
                waiting.append((chunk, pool.submit(_score_in_process, chunk)))
                if len(waiting) > 4 * processes:
                    first, result = waiting.popleft()
                    yield first, result.result()
            while waiting:
                first, result = waiting.popleft()
                yield first, result.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
