"""Answers side by side in a terminal, as they come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from lens_eval.chat.speakers import Answer, Question, Referee, Speaker, language_name

NARROWEST = 24
"""Characters of the narrowest column; with less room, answers stand below each other."""
STYLES = {True: "green", False: "red", None: "yellow"}


@dataclass
class Round:
    """One question and the answers so far."""

    question: Question
    names: Sequence[str]
    texts: dict[int, str] = field(default_factory=dict)
    answers: dict[int, Answer] = field(default_factory=dict)

    def cell(self, index: int) -> Text:
        """The answer of one model and, when it has ended, its verdict."""
        text = Text(visible(self.texts.get(index, "")) or ("" if index in self.answers else "..."))
        if answer := self.answers.get(index):
            text.append(f"\n[{answer.verdict}]", style=STYLES[answer.good])
        return text

    def __rich_console__(self, console: Console, options: object) -> list[Table | Text]:
        """The names, and below each its answer."""
        names = [Text(visible(name), style="bold") for name in self.names]
        if console.width // max(1, len(names)) < NARROWEST and len(names) > 1:
            return [part for at, name in enumerate(names) for part in (name, self.cell(at))]
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), expand=len(names) > 1)
        for name in names:
            table.add_column(name, ratio=1, overflow="fold")
        table.add_row(*(self.cell(at) for at in range(len(names))))
        return [table]


def ask(
    console: Console, speakers: Sequence[Speaker], referee: Referee, question: Question, max_new_tokens: int
) -> list[Answer]:
    """Ask every model one question and show the answers; Ctrl-C ends the answer that is being given.

    Where the output is no terminal, each answer is printed when it is whole.
    """
    shown = Round(question, [speaker.name for speaker in speakers])
    live = Live(shown, console=console, auto_refresh=False, vertical_overflow="visible", transient=False)
    moving = console.is_terminal
    if moving:
        live.start()
    try:
        for at, speaker in enumerate(speakers):

            def grow(text: str, at: int = at) -> bool:
                shown.texts[at] = text
                if moving:
                    live.refresh()
                return False

            try:
                text, cut = speaker.answer(question, grow, max_new_tokens)
            except KeyboardInterrupt:
                text, cut = shown.texts.get(at, ""), True
            shown.texts[at] = text
            shown.answers[at] = referee.judge(speaker.name, question, text, cut)
            if moving:
                live.refresh()
    finally:
        if moving:
            live.stop()
    if not moving:
        console.print(shown)
    return [shown.answers[at] for at in range(len(speakers))]


def show_question(console: Console, question: Question) -> None:
    """The question, with the language its answer is wanted in."""
    line = Text(f"{language_name(question.language)}: ", style="bold")
    console.print(line.append(visible(question.text), style="not bold"))


def visible(text: str) -> str:
    """A text without signs that could move the cursor, turn the direction or change colours."""
    return "".join(sign for sign in text if sign == "\n" or sign.isprintable() or sign in "\u200c\u200d")
