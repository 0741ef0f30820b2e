"""The command `lens chat`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lens_eval.base.errors import UserError
from lens_eval.base.terminal import make_console, say
from lens_eval.commands.options import read_codes

if TYPE_CHECKING:
    from lens_eval.chat.speakers import Question, Referee, Speaker


_Model = Annotated[
    str,
    typer.Argument(help="Hub id, checkpoint, adapter or steering folder, GGUF file, or `builtin`."),
]
_Versus = Annotated[
    list[str] | None, typer.Option("--versus", help="Another model beside it; may be repeated.")
]
_Question = Annotated[
    list[str] | None,
    typer.Option(
        "--question", "-q", help="Ask this and end, instead of asking for questions; may be repeated."
    ),
]
_Languages = Annotated[
    str | None,
    typer.Option(
        "--languages",
        help="en,sw,...: type each question once per language, or take it from --data in each. With one "
        "code, all answers are wanted in it. Default: the language of the question.",
    ),
]
_Data = Annotated[
    str | None,
    typer.Option("--data", help="Ask the parallel prompts of a file, or `builtin:dev`, and end."),
]
_Limit = Annotated[int, typer.Option("--limit", min=1, help="Prompts to ask of --data.")]
_SayLanguage = Annotated[
    bool,
    typer.Option("--say-language", help="Ask one question for every language: adds `Answer in Swahili.`"),
]
_Central = Annotated[str, typer.Option("--central", help="The central language.")]
_Page = Annotated[bool, typer.Option("--page", help="Open a local web page instead.")]
_Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="Of the page; 0: a free one.")]
_System = Annotated[str | None, typer.Option("--system", help="System message.")]
_Template = Annotated[
    str | None, typer.Option("--template", help="chat or plain [default: chat if the model has it].")
]
_MaxNewTokens = Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest answer.")]
_Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, ...")]


def chat(
    model: _Model,
    versus: _Versus = None,
    question: _Question = None,
    languages: _Languages = None,
    data: _Data = None,
    limit: _Limit = 3,
    say_language: _SayLanguage = False,
    central: _Central = "en",
    page: _Page = False,
    port: _Port = 0,
    system: _System = None,
    template: _Template = None,
    max_new_tokens: _MaxNewTokens = 256,
    device: _Device = "auto",
) -> None:
    """Ask models something and see their answers side by side, each with a verdict.

    The verdict says in which language the answer is, and whether it repeats itself or the question. Write
    `sw: ...` to want the answer of one question in Swahili. Ctrl-C ends an answer, Ctrl-D the chat.
    """
    codes = read_codes(languages)
    _check(codes, data, question, say_language, page)
    prompts = None if data is None else _prompts(data, codes, limit)

    from lens_eval.chat.speakers import Referee, Speaker
    from lens_eval.chat.terminal import ask, show_question

    referee = Referee(central, codes)
    models = [model, *(versus or [])]
    speakers = [
        Speaker(name, name=shown, template=template, system_prompt=system, device=device)
        for name, shown in zip(models, _names(models), strict=True)
    ]
    if page:
        _serve(speakers, referee, max_new_tokens, codes, port)
        return
    console = make_console()
    asked: Iterable[Question] = prompts or ()
    if prompts is None:
        lines = (
            question if question is not None else _typed(codes if len(codes) > 1 and not say_language else ())
        )
        asked = _questions(lines, referee, codes, say_language)
    for each in asked:
        show_question(console, each)
        ask(console, speakers, referee, each, max_new_tokens)
        console.print()


def _check(
    codes: Sequence[str], data: str | None, question: Sequence[str] | None, say_language: bool, page: bool
) -> None:
    """Refuse what does not go together, before any model is loaded."""
    if data is not None and not codes:
        raise UserError("--data needs --languages: which prompts of the file to ask, as in en,sw")
    if data is not None and (question is not None or say_language or page):
        raise UserError("--data asks its own prompts; leave out --question, --say-language and --page")
    if say_language and not codes:
        raise UserError("--say-language needs --languages: the languages to answer in, as in sw,zh")
    if page and (question is not None or say_language):
        raise UserError("questions are asked on the page; leave out --question and --say-language")
    if question is not None and len(codes) > 1 and not say_language:
        raise UserError(
            "one --question in several languages: leave out --languages and begin each with its code "
            "(-q 'en: ...' -q 'sw: ...'), ask for answers in all of them with --say-language, or take a "
            "parallel file with --data"
        )


def _names(models: Sequence[str]) -> list[str]:
    """Short names that tell the models apart."""
    short = [Path(model).name or model for model in models]
    return [name if short.count(name) == 1 else model for name, model in zip(short, models, strict=True)]


def _prompts(data: str, codes: Sequence[str], limit: int) -> list[Question]:
    """The first prompts of parallel data, item by item in every language."""
    from lens_eval.chat.speakers import Question
    from lens_eval.mini import resolve_data
    from lens_train.data import read_prompts

    texts = read_prompts(resolve_data(data), codes, limit).texts
    return [Question(texts[code][item], code) for item in range(len(texts[codes[0]])) for code in codes]


def _typed(codes: Sequence[str]) -> Iterator[str]:
    """Lines as they are typed or piped in; with codes, one line for each of them in turn."""
    while True:
        for code in codes or ("",):
            if sys.stdin.isatty():
                say(f"{code}> ", nl=False)
            line = sys.stdin.readline()
            if not line:
                return
            if line.strip():
                yield f"{code}: {line.strip()}" if code else line.strip()


def _questions(
    lines: Sequence[str] | Iterator[str], referee: Referee, codes: Sequence[str], say_language: bool
) -> Iterator[Question]:
    """Lines as questions, with the language that each answer is wanted in."""
    from lens_eval.chat.speakers import Question, language_name
    from lens_eval.language.languages import find_code

    for line in lines:
        head, colon, rest = line.partition(":")
        own = find_code(head.strip()) if colon and rest.strip() and head.strip().isascii() else None
        text = rest.strip() if own else line.strip()
        if not text:
            continue
        if say_language and own is None:
            yield from (Question(f"{text} Answer in {language_name(code)}.", code) for code in codes)
        else:
            yield Question(text, own or (codes[0] if len(codes) == 1 else referee.language_of(text)))


def _serve(
    speakers: Sequence[Speaker], referee: Referee, max_new_tokens: int, codes: Sequence[str], port: int
) -> None:
    from lens_eval.chat.page import Room, Server
    from lens_eval.language.languages import DEFAULT_LANGUAGES

    server = Server(Room(speakers, referee, max_new_tokens, codes or DEFAULT_LANGUAGES), port)
    say(f"{server.address} (for this machine only; Ctrl-C ends it)")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
