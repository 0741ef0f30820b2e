"""Agreement of the verdicts with a careful reader on 584 real replies of weak models (`benchmarks/judged`).

A reply is one of: usable, loop, echo, empty, off target (central or another language, also in part),
undetermined. A loop or an echo is that whatever its language. Writes results/bench/judged_replies.{md,json};
docs/metrics.md states the numbers.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import write_table
from lens_eval.language.languages import DEFAULT_LANGUAGES
from lens_eval.language.off_target import get_judge
from lens_eval.language.reply_form import form_of

FILE = Path(__file__).parent / "judged" / "replies.jsonl"
HALVES = ("choose", "test")
VERDICTS = ("usable", "off target", "loop", "echo", "empty", "undetermined")
_SHOWN = 70


@dataclass(frozen=True)
class Judged:
    """One reply as a reader judged it, and as the metric does."""

    half: str
    row: Mapping[str, Any]
    reader_form: str
    reader_outcome: str
    form: str
    outcome: str

    @property
    def reader(self) -> str:
        """The reader's verdict, one of `VERDICTS`."""
        return verdict(self.reader_form, self.reader_outcome)

    @property
    def metric(self) -> str:
        """The metric's verdict, one of `VERDICTS`."""
        return verdict(self.form, self.outcome)


def verdict(form: str, outcome: str) -> str:
    """Form and language as one verdict."""
    if form != "text":
        return form
    return {"on_target": "usable", "undetermined": "undetermined"}.get(outcome, "off target")


def read() -> list[dict[str, Any]]:
    """The judged replies, in the order of the file."""
    return [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]


def judge(rows: Sequence[Mapping[str, Any]]) -> list[Judged]:
    """Judge each reply as tasks do: candidates are the twelve languages and the one asked for."""
    found = []
    for row in rows:
        candidates = tuple(sorted({*DEFAULT_LANGUAGES, row["language"]}))
        own = get_judge("en", candidates).judge(row["reply"], row["language"], row["prompt"])
        form = form_of(row["reply"], row["prompt"]).name
        reader = row["judged"]
        found.append(Judged(row["half"], row, reader["form"], reader["outcome"], form, own.outcome))
    return found


def agreement(judged: Sequence[Judged]) -> dict[str, tuple[int, int]]:
    """What is compared -> how many replies agree, of how many."""
    text = [each for each in judged if each.reader_form == "text"]
    pairs = {
        "verdict": [(each.reader, each.metric) for each in judged],
        "usable or not": [(each.reader == "usable", each.metric == "usable") for each in judged],
        "form": [(each.reader_form, each.form) for each in judged],
        "language, of texts": [
            (verdict("text", each.reader_outcome), verdict("text", each.outcome)) for each in text
        ],
    }
    return {name: (sum(a == b for a, b in own), len(own)) for name, own in pairs.items()}


def confusion(judged: Sequence[Judged]) -> Counter[tuple[str, str]]:
    """(the reader's verdict, the metric's) -> replies."""
    return Counter((each.reader, each.metric) for each in judged)


def agreement_lines(judged: Sequence[Judged]) -> list[str]:
    """Agreement as the lines of a Markdown table, one per part."""
    lines, head = [], ""
    for half in HALVES:
        own = agreement([each for each in judged if each.half == half])
        head = "| part | replies | " + " | ".join(own) + " |"
        cells = [f"{100 * same / count:.1f}%" for same, count in own.values()]
        lines.append(f"| {half} | {own['verdict'][1]} | " + " | ".join(cells) + " |")
    return [head, "|---" + "|---:" * (len(agreement(judged)) + 1) + "|", *lines]


def _rows(judged: Sequence[Judged]) -> Iterator[dict[str, Any]]:
    """The reader's verdicts by half, the metric's in columns."""
    for half in HALVES:
        counts = confusion([each for each in judged if each.half == half])
        for reader in VERDICTS:
            own = {metric: counts[reader, metric] for metric in VERDICTS}
            if sum(own.values()):
                yield {"half": half, "reader": reader, "replies": sum(own.values()), **own}


def _notes(judged: Sequence[Judged]) -> Iterator[str]:
    for half in HALVES:
        own = [each for each in judged if each.half == half]
        words = [
            f"{name} {same} of {count} ({100 * same / count:.1f}%)"
            for name, (same, count) in agreement(own).items()
        ]
        yield f"agreement, {half}: {'; '.join(words)}"
    for each in judged:
        if each.reader != each.metric:
            reply = " ".join(each.row["reply"].split())
            yield (
                f"{each.half}, {each.row['model']}, {each.row['language']}: reader {each.reader} "
                f"({each.row['judged']['reason']}), metric {each.metric}: {reply[:_SHOWN].replace('|', '/')}"
            )


def main() -> None:
    """Judge, and write the table."""
    judged = judge(read())
    write_table("judged_replies", "Judged real replies", list(_rows(judged)), list(_notes(judged)))


if __name__ == "__main__":
    main()
