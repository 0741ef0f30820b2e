"""Lines per processor second of `lens score` against langdetect and bare lingua, its start-up and its memory.

Writes results/bench/off_target.{md,json}. Goals: 10,000 lines of 100 letters per processor second, a start
under 1.5 s, memory under 300 MB whatever the length of the input. The lines are the built-in calibration
sentences in twelve languages, joined by commas to about 100 letters; and as replies are, the sentences and
beginnings of them. `python -m benchmarks.off_target FILE...` takes the texts of files instead (JSONL as for
`lens calibrate`). Nothing is remembered from one line to the next, so that repeated lines gain nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import write_table
from lens_eval.language.calibrate import built_in_sample, cut, gold_files
from lens_eval.language.languages import DEFAULT_LANGUAGES
from lens_eval.language.scripts import LETTERS_PER_CHARACTER, WORD

LINES = 60_000
LINES_PER_REPLY = 4
FEWER = 12_000  # lines in this process
SLOWEST = 1_500
TRIES = 3
"""Of which the one with the least processor time counts: others on the machine only make one slower."""
LETTERS = 100
SHORT_LETTERS = (25, 40)


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.off_target", description=__doc__)
    parser.add_argument("files", nargs="*")
    parser.add_argument("--lines", type=int, default=LINES)
    arguments = parser.parse_args()
    files, count = arguments.files, arguments.lines
    sample = built_in_sample()
    lines = lines_in_turn(gold_files(files, None, None) if files else _joined(sample), count)
    short = lines_in_turn(_with_short_ones(sample), count)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        one = _write(folder / "one.jsonl", lines[:1], 1)
        rows = [
            _throughput("lens score, replies of 4 lines", folder, lines, LINES_PER_REPLY, 1),
            _throughput("the same, 2 processes", folder, lines, LINES_PER_REPLY, 2),
            _throughput("lens score, one line each", folder, lines[: count // 3], 1, 1),
            _throughput("lens score, short lines, replies of 4", folder, short, LINES_PER_REPLY, 1),
            _in_process("judge_texts alone", _judge, lines[:FEWER]),
            _in_process("form of a reply alone", _form, lines[:FEWER]),
            _in_process("bare lingua, 12 candidates", _lingua, lines[:FEWER]),
            _in_process("langdetect (seed 0)", _langdetect, lines[:SLOWEST]),
            _least([_command("start-up: lens score on one line", one, 1, 1) for _ in range(TRIES)]),
        ]
    base = rows[-2]["lines per CPU second"]
    for row in rows[:-1]:
        row["times langdetect"] = row["lines per CPU second"] / base
    write_table(
        "off_target",
        "The off-target metric: lines per processor second, start-up, memory",
        rows,
        [
            f"Text: {', '.join(Path(f).name for f in files) or 'the built-in sentences, joined'}; "
            f"{_mean_length(lines)} characters a line on average, short lines {_mean_length(short)}.",
            "`lens score` is the whole command: start-up, JSON, language, form, intervals, the report; of "
            f"{TRIES} runs the one with the least processor time. langdetect is measured on the long lines.",
            "Memory: of the largest process; with 2 processes there are three.",
            f"Load while measuring: {os.getloadavg()[0]:.1f} runnable processes on {os.cpu_count()} cores. "
            "Seconds count for an idle machine only; CPU seconds suffer less.",
        ],
    )


def _with_short_ones(sample: dict[str, list[str]]) -> dict[str, list[str]]:
    """The sentences and, of each, its beginning cut to a length at which replies are often judged."""
    return {
        code: [piece for text in texts for piece in (text, *(cut(text, n) for n in SHORT_LETTERS))]
        for code, texts in sample.items()
    }


def _joined(sample: dict[str, list[str]]) -> dict[str, list[str]]:
    """Lines of about `LETTERS` letters, from each sentence on."""
    joined = {}
    for code, texts in sample.items():
        bare = [text.rstrip(".!?。！？।؟ ") for text in texts]
        joined[code] = []
        for first in range(len(bare)):
            line, at = bare[first], first + 1
            while _letters(line) < LETTERS:
                line, at = f"{line}, {bare[at % len(bare)]}", at + 1
            joined[code].append(cut(line, LETTERS) + ".")
    return joined


def _mean_length(lines: Sequence[tuple[str, str]]) -> str:
    return f"{sum(len(text) for text, _ in lines) / len(lines):.0f}"


def _letters(text: str) -> float:
    return sum(
        len(match[0]) * LETTERS_PER_CHARACTER.get(match.lastgroup or "", 1.0) for match in WORD.finditer(text)
    )


def lines_in_turn(texts: dict[str, list[str]], count: int) -> list[tuple[str, str]]:
    """`count` pairs of line and language, the languages in turn, in an order that is always the same."""
    draw = random.Random(0)
    codes = [code for code in DEFAULT_LANGUAGES if code in texts] or sorted(texts)
    flat = {code: [" ".join(text.split()) for text in texts[code]] for code in codes}
    blocks = [codes[i % len(codes)] for i in range(-(-count // LINES_PER_REPLY))]
    return [(draw.choice(flat[code]), code) for code in blocks for _ in range(LINES_PER_REPLY)][:count]


def _write(path: Path, lines: Sequence[tuple[str, str]], per_reply: int) -> Path:
    with path.open("w", encoding="utf-8") as stream:
        for start in range(0, len(lines), per_reply):
            block = lines[start : start + per_reply]
            row = {"id": start, "text": "\n".join(text for text, _ in block), "language": block[0][1]}
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path


def _throughput(
    what: str, folder: Path, lines: Sequence[tuple[str, str]], per_reply: int, processes: int
) -> dict[str, Any]:
    path = _write(folder / "lines.jsonl", lines, per_reply)
    return _least([_command(what, path, len(lines), processes) for _ in range(TRIES)])


def _least(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return min(rows, key=lambda row: row["CPU seconds"])


def _command(what: str, path: Path, count: int, processes: int) -> dict[str, Any]:
    """Run the command as a user does; its CPU seconds and memory are the kernel's figures."""
    command = [sys.executable, "-m", "lens_eval", "score", str(path), "--format", "json"]
    command += ["--processes", str(processes), "--output", str(path.with_suffix(".json"))]
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    start = time.perf_counter()
    child = os.posix_spawn(sys.executable, command, os.environ, file_actions=quiet)
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - start
    if status:
        raise RuntimeError(f"lens score ended with status {os.waitstatus_to_exitcode(status)}")
    row = _row(what, count, seconds, usage.ru_utime + usage.ru_stime)
    row["memory, MB"] = round(usage.ru_maxrss / 1000)
    return row


def _in_process(
    what: str, work: Callable[[Sequence[tuple[str, str]]], Iterator[Any]], lines: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    for _ in work(lines[:50]):  # models are loaded
        pass
    start, cpu = time.perf_counter(), time.process_time()
    for _ in work(lines):
        pass
    return _row(what, len(lines), time.perf_counter() - start, time.process_time() - cpu)


def _row(what: str, count: int, seconds: float, cpu: float) -> dict[str, Any]:
    return {
        "what": what,
        "lines": count,
        "seconds": seconds,
        "CPU seconds": cpu,
        "lines per CPU second": count / cpu,
        "times langdetect": None,
        "memory, MB": None,
    }


def _judge(lines: Sequence[tuple[str, str]]) -> Iterator[Any]:
    from lens_eval.language.off_target import judge_texts

    yield judge_texts([text for text, _ in lines], [code for _, code in lines])


def _form(lines: Sequence[tuple[str, str]]) -> Iterator[Any]:
    from lens_eval.language.reply_form import form_of

    for text, _ in lines:
        yield form_of(text, "")


def _lingua(lines: Sequence[tuple[str, str]]) -> Iterator[Any]:
    import lingua

    wanted = {language for language in lingua.Language.all() if _code(language) in DEFAULT_LANGUAGES}
    detector = lingua.LanguageDetectorBuilder.from_languages(*wanted).build()
    for text, _ in lines:
        yield detector.detect_language_of(text)


def _code(language: Any) -> str:
    return language.iso_code_639_1.name.lower()


def _langdetect(lines: Sequence[tuple[str, str]]) -> Iterator[Any]:
    import langdetect

    langdetect.DetectorFactory.seed = 0
    for text, _ in lines:
        yield langdetect.detect(text)


if __name__ == "__main__":
    main()
