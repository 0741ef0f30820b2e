"""A response in pieces that can be judged: sentences, and within one the runs of one script."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lens_eval.language.scripts import (
    CASED,
    UNSPACED,
    letters_in,
    stretches,
    words_of,
)
from lens_eval.language.set_aside import (
    Prompt,
)

# Sentences shorter than this are judged together with their neighbours.
UNIT_LETTERS = 40


# A run of foreign words inside a sentence is a borrowed term below this, a foreign sentence from here on.
SENTENCE_WORDS = 5


SENTENCE_LETTERS = 20


# The longest piece given to the detector at once; more adds nothing.
MAX_PIECE = 1000


_SENTENCE_END = re.compile(r"[.!?…。！？।॥؟۔][\"'”’»)\]*_]*\s*")


_NEEDS_SPACE = frozenset(".!?…")


Segment = tuple[str, float]  # language code, script or "undetermined"; letters


@dataclass(slots=True)
class Run:
    """Words in a row in one script group. `plain` are those of them that cannot be names; `letters` is what
    all are worth."""

    group: str
    words: list[str]
    plain: list[str]
    letters: float

    def extend(self, other: Run) -> None:
        self.words += other.words
        self.plain += other.plain
        self.letters += other.letters


Unit = list[Run]  # a sentence, or short ones together


def joined(unit: Unit, group: str) -> Run:
    """Return all runs of one script group as one."""
    whole = Run(group, [], [], 0.0)
    for run in unit:
        if run.group == group:
            whole.extend(run)
    return whole


def extend(unit: Unit, more: Unit) -> None:
    """Add copies of runs to a unit."""
    for run in more:
        _add(unit, Run(run.group, run.words[:], run.plain[:], run.letters))


def _add(unit: Unit, run: Run) -> None:
    """Add a run, which is the unit's from now on; beside the same script it becomes one run with it."""
    if unit and unit[-1].group == run.group:
        unit[-1].extend(run)
    else:
        unit.append(run)


def sentences_of(line: str) -> list[str]:
    """Cut a line behind the marks that end sentences; the Latin ones only where white space follows."""
    sentences = []
    place = 0
    for mark in _SENTENCE_END.finditer(line):
        if mark.end() == len(line):
            break  # what is left is the last sentence
        if mark[0][0] in _NEEDS_SPACE and not mark[0][-1].isspace():
            continue
        sentences.append(line[place : mark.end()])
        place = mark.end()
    if place < len(line):
        sentences.append(line[place:])
    return sentences


def units_of(line: str, prompt: Prompt) -> list[Unit]:
    """Cut a line into sentences as runs of words, short ones joined with their neighbours."""
    sentences = sentences_of(line)
    if len(sentences) == 1:  # as most lines are
        runs = runs_of(line, prompt)
        return [runs] if runs else []
    units: list[Unit] = []
    current: Unit = []
    letters = 0.0
    for sentence in sentences:
        runs = runs_of(sentence, prompt)
        if letters >= UNIT_LETTERS and runs:
            units.append(current)
            current, letters = [], 0.0
        letters += sum(run.letters for run in runs)
        if current:
            extend(current, runs)
        else:
            current = runs
    if current and units and letters < UNIT_LETTERS and _groups_of(current) <= _groups_of(units[-1]):
        extend(units[-1], current)
    elif current:
        units.append(current)
    return units


def _groups_of(unit: Unit) -> set[str]:
    return {run.group for run in unit}


def runs_of(sentence: str, prompt: Prompt) -> Unit:
    """Return the words of a sentence that are evidence of its language, in runs of one script group.

    Single Latin capitals are none (variables, option letters), nor single Greek letters. Not plain are the
    names of the prompt and capitalised words inside a sentence: German nouns too, which costs less than
    names do. A sentence all in capitals is read as if in small letters.
    """
    if sentence.isupper() and len(sentence.split(None, SENTENCE_WORDS)) >= SENTENCE_WORDS:
        sentence = sentence.lower()
    unit: Unit = []
    for place, (group, stretch) in enumerate(stretches(sentence)):
        words = plain = words_of(stretch, group)
        if group in CASED:
            opening = words[0]
            words = [word for word in words if len(word) > 1 or (word.islower() and group != "Grek")]
            if not words:
                continue
            plain = [word for word in words if word[0].islower()]
            if not place and words[0] is opening and not opening[0].islower():
                plain.insert(0, opening)
        if prompt.names:
            plain = [word for word in plain if word.casefold() not in prompt.names]
        _add(unit, Run(group, words, plain, letters_in(words, group)))
    return unit


def is_sentence(run: Run) -> bool:
    """Return whether foreign words in a row are a sentence rather than a borrowed term, a name or a title."""
    if run.letters < SENTENCE_LETTERS:
        return False
    if run.group in UNSPACED:
        return True
    if len(run.words) < SENTENCE_WORDS:
        return False
    return run.group not in CASED or sum(w[0].islower() for w in run.words) >= 0.6 * len(run.words)
