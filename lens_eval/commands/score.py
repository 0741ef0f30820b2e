"""`lens score` and `lens calibrate`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from lens_eval.base.errors import UserError
from lens_eval.base.files import check_outputs, write_text
from lens_eval.base.reading import require_file
from lens_eval.base.terminal import say
from lens_eval.commands import completion
from lens_eval.commands.options import read_codes, say_next

_Detector = Annotated[
    str,
    typer.Option(
        "--detector", help="lingua, langdetect, or fasttext:FILE.", autocompletion=completion.detectors
    ),
]
_Central = Annotated[str, typer.Option("--central", help="The central language.")]
_Files = Annotated[
    list[str] | None,
    typer.Argument(
        help="Files, or folders of them: lm_eval samples, logs of chat APIs, JSONL, CSV, TSV (gzip too), "
        "Parquet, Arrow; - is standard input."
    ),
]
_Text = Annotated[
    str | None,
    typer.Option("--text", help="Field of the response; dots lead deeper: choices.0.message.content."),
]
_Language = Annotated[
    str | None,
    typer.Option(
        "--language",
        help="Field of the language asked for, or one code for all rows; by default a field 'language', "
        "else the language in the file name.",
    ),
]
_Prompt = Annotated[
    str | None, typer.Option("--prompt", help="Field of the prompt: its names are set aside.")
]
_Requests = Annotated[
    Path | None,
    typer.Option(
        "--requests",
        help="The batch's input file: requests that are joined to the replies by custom_id.",
    ),
]
_Item = Annotated[
    str | None, typer.Option("--item", help="Field that names the item, for clustered intervals.")
]
_Correct = Annotated[
    str | None, typer.Option("--correct", help="Field that is 1 for a correct response: adds the joint rate.")
]
_Languages = Annotated[
    str | None,
    typer.Option("--languages", help="Candidate languages of the detector, en,sw,... (default: 12)."),
]
_Protocol = Annotated[
    str, typer.Option("--protocol", help="lens, or lcb: the Language Confusion Benchmark's pass rates.")
]
_Words = Annotated[
    Path | None, typer.Option("--words", help="English words, one a line, for lcb's word pass rate.")
]
_SplitChinese = Annotated[
    bool,
    typer.Option(
        "--split-chinese", help="zh-Hans answered in traditional characters, or the reverse, is off."
    ),
]
_Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first line that cannot be read.")]
_DelimiterOption = Annotated[
    str | None,
    typer.Option("--delimiter", help="Between cells of CSV or TSV: one sign, or tab; else guessed."),
]
_Format = Annotated[str | None, typer.Option("--format", help="md, csv or json.")]
_Output = Annotated[Path | None, typer.Option("--output", help="Write the report here, too.")]
_Verdicts = Annotated[
    Path | None,
    typer.Option("--verdicts", help="Write outcome, language and form of every response here (JSONL)."),
]
_Processes = Annotated[int, typer.Option("--processes", min=0, help="At most so many; 0: one a core.")]
_FailAbove = Annotated[
    float | None,
    typer.Option("--fail-above", help="Exit with status 1 if more than so many % are off-target."),
]
_MaxUndetermined = Annotated[
    float | None,
    typer.Option("--max-undetermined", help="Exit with status 1 if more than so many % are undetermined."),
]
_FailLoops = Annotated[
    float | None,
    typer.Option("--fail-loops", help="Exit with status 1 if more than so many % are loops."),
]


def score(
    files: _Files = None,
    text: _Text = None,
    language: _Language = None,
    prompt: _Prompt = None,
    requests: _Requests = None,
    item: _Item = None,
    correct: _Correct = None,
    languages: _Languages = None,
    central: _Central = "en",
    detector: _Detector = "lingua",
    protocol: _Protocol = "lens",
    words: _Words = None,
    split_chinese: _SplitChinese = False,
    strict: _Strict = False,
    delimiter: _DelimiterOption = None,
    format: _Format = None,
    output: _Output = None,
    verdicts: _Verdicts = None,
    processes: _Processes = 0,
    fail_above: _FailAbove = None,
    max_undetermined: _MaxUndetermined = None,
    fail_loops: _FailLoops = None,
) -> None:
    """Judge in which language responses are: how often on target, in the central language, in another one.

    Takes lm_eval's samples of any generation task, logs of chat APIs, or JSONL, CSV and Parquet with --text
    FIELD and --language FIELD. The limits in percent hold for every language asked for.
    """
    from lens_eval.language.files.fields import Fields
    from lens_eval.language.files.gates import Gate, failures
    from lens_eval.language.files.inputs import files_of
    from lens_eval.language.files.report import make_report
    from lens_eval.language.files.score import Settings, score_files, verdict_file

    form, sign = _format(format, output), _delimiter(delimiter)
    limits = {"off_target": fail_above, "undetermined": max_undetermined, "loop": fail_loops}
    gates = [Gate(rate, percent) for rate, percent in limits.items() if percent is not None]
    _check(protocol, words, requests, gates)
    names = files or (["-"] if not sys.stdin.isatty() else [])
    if not names:
        raise UserError("name files to score, or pipe responses in: lens score samples_*.jsonl")
    candidates = read_codes(languages) or Settings.candidates
    read = [*(name for name in files_of(names) if name != "-"), *_detector_file(detector)]
    check_outputs((output, verdicts), [*read, *(file for file in (words, requests) if file)])
    settings = Settings(central, candidates, detector, split_chinese, protocol, str(words) if words else None)
    fields = Fields(text, language, prompt, item, correct)
    options: dict[str, Any] = {"strict": strict, "processes": processes or _available(), "delimiter": sign}
    options["requests"] = str(requests) if requests else None
    with verdict_file(verdicts) as on_verdict:
        scores = score_files(names, fields, settings, on_verdict=on_verdict, **options)
    _show(make_report(scores), form, output)
    if scores.broken_count:
        say(f"lens: {scores.broken_count} lines could not be read; --strict stops at the first", err=True)
    if failed := failures(gates, scores.languages):
        say(f"lens: over the limit: {'; '.join(failed)}", err=True)
        raise typer.Exit(1)
    if verdicts is None and not gates:
        say_next("lens score FILES --verdicts FILE shows the verdict on every response", err=True)


def _show(report: dict[str, Any], form: str | None, output: Path | None) -> None:
    from lens_eval.language.files.report import render

    if output:
        write_text(output, render(report, form or "md"))
    say(render(report, "md" if output else form or "md"), nl=False)


def _available() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _detector_file(detector: str) -> list[str]:
    """The file of a detector that has one."""
    kind, _, model = detector.partition(":")
    return [model] if kind == "fasttext" and model else []


def _delimiter(given: str | None) -> str | None:
    sign = {"tab": "\t", "\\t": "\t"}.get(given or "", given)
    if sign is not None and (len(sign) != 1 or sign in '"\r\n'):
        raise UserError(f"--delimiter is {given!r}; give one sign, or tab")
    return sign


def _check(protocol: str, words: Path | None, requests: Path | None, gates: list[Any]) -> None:
    """Refuse what can be refused before any response is read."""
    if protocol not in ("lens", "lcb"):
        raise UserError(f"unknown protocol {protocol!r}; known: lens, lcb")
    if protocol == "lcb" and gates:
        raise UserError("limits hold for the rates of --protocol lens; lcb has pass rates")
    for file, what in ((words, "word list"), (requests, "file of requests")):
        if file:
            require_file(file, what)


def _format(format: str | None, output: Path | None) -> str | None:
    form = format or (output.suffix.lstrip(".") if output else None)
    form = "md" if form in ("markdown", "txt") else form
    if form is not None and form not in ("md", "csv", "json"):
        raise UserError(f"unknown format {form!r}; known: md, csv, json (--format)")
    return form


def calibrate(
    files: Annotated[
        list[str] | None,
        typer.Argument(help="Gold text by language, as for score; without any, the built-in sample."),
    ] = None,
    text: Annotated[str | None, typer.Option("--text", help="Field of the text.")] = None,
    language: Annotated[
        str | None, typer.Option("--language", help="Field of its language, or one code; else the file name.")
    ] = None,
    languages: Annotated[
        str | None,
        typer.Option("--languages", help="Candidate languages of the detector, en,sw,... (default: 12)."),
    ] = None,
    central: _Central = "en",
    detector: _Detector = "lingua",
    second: Annotated[
        str | None, typer.Option("--second", help="A second detector: reports how often both agree.")
    ] = None,
    lengths: Annotated[
        str, typer.Option("--lengths", help="Letters to cut to; 0 is the whole text.")
    ] = "0,60,40,25,15",
    format: Annotated[str | None, typer.Option("--format", help="md, csv or json.")] = None,
    output: Annotated[Path | None, typer.Option("--output", help="Write the report here, too.")] = None,
) -> None:
    """Measure the false off-target floor: how often gold text is judged to be in another language."""
    from lens_eval.language import calibrate as calibration
    from lens_eval.language.files.report import render_calibration
    from lens_eval.language.languages import DEFAULT_LANGUAGES, normalise_code
    from lens_eval.language.off_target import Judge

    form = _format(format, output)
    models = [*_detector_file(detector), *_detector_file(second or "")]
    check_outputs((output,), [*(files or ()), *models])
    try:
        cuts = [int(length) for length in lengths.split(",")]
    except ValueError:
        cuts = [-1]
    if min(cuts) < 0:
        raise UserError(f"--lengths takes whole numbers of letters, 0 for the whole text, not {lengths!r}")
    codes = languages.split(",") if languages else DEFAULT_LANGUAGES
    candidates = tuple(normalise_code(code) for code in codes)
    judge = Judge(central, candidates, detector)
    other = Judge(central, candidates, second) if second else None
    texts = calibration.gold_files(files, text, language) if files else calibration.built_in_sample()
    if languages and not files:
        texts = {code: texts[code] for code in candidates if code in texts}
    results = calibration.calibrate(calibration.askable(texts, judge), judge, cuts, other)
    named = ["/".join(Path(name).parts[-2:]) for name in files or ()]
    source = ", ".join(named) or "the built-in sample"
    pairs = calibration.near_pairs(texts, judge) if files else ()
    report = calibration.report(results, judge, other, source, pairs)
    if output:
        write_text(output, render_calibration(report, form or "md"))
        say(render_calibration(report, "md"), nl=False)
    else:
        say(render_calibration(report, form or "md"), nl=False)
    say_next("lens score FILES shows this floor beside each rate", err=True)
