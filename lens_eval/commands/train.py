"""The commands `lens assess`, `lens probe`, `lens train`, `lens sweep` and `lens diagnose`."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from lens_eval.base.errors import UserError
from lens_eval.base.redaction import note_settings
from lens_eval.base.terminal import say
from lens_eval.commands import completion
from lens_eval.commands.options import read_codes, say_next
from lens_train.methods import METHODS

Model = Annotated[
    str, typer.Option("--model", help="Hub id, folder or GGUF file of the model, or `builtin`.")
]
Data = Annotated[str, typer.Option("--data", help="Parallel prompts: a file, a folder, or `builtin:train`.")]
Languages = Annotated[str, typer.Option("--languages", help="Codes, the central one included: en,zh,sw.")]
Central = Annotated[str, typer.Option("--central", help="Language the others are aligned with.")]
Output = Annotated[Path, typer.Option("--output", help="Folder to be written.")]
Config = Annotated[
    Path | None, typer.Option("--config", help="YAML file with the method's settings, `name: value` a line.")
]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="One setting, as `name=value`; may be repeated.")
]
Subspaces = Annotated[Path | None, typer.Option("--subspaces", help="Folder made by `lens probe`.")]
ProbeData = Annotated[str | None, typer.Option("--probe-data", help="Data to probe with; --data if absent.")]
Limit = Annotated[int | None, typer.Option("--limit", help="Use the first N items only.", min=1)]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of the order of the items.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, ...")]
Template = Annotated[str | None, typer.Option("--template", help="chat (default) or plain, for base models.")]


def probe(
    model: Model,
    data: Data,
    languages: Languages,
    output: Output,
    central: Central = "en",
    config: Config = None,
    set_: Set = None,
    template: Template = None,
    limit: Limit = None,
    device: Device = "auto",
) -> None:
    """Find the language subspaces of a model and write them to a folder."""
    from lens_train.config import LensConfig
    from lens_train.lens import probe_folder

    settings = _settings(config, set_, template)
    if limit is not None:
        settings["probe_items"] = limit
    codes, pivot = _languages(languages, central)
    written = probe_folder(model, data, LensConfig.build(codes, pivot, settings), output, device)
    say(f"subspaces of {written.agnostic.shape[0]} layers, rank {written.specific.shape[1]}: {output}")
    parts = ["lens", "train", "--model", model, "--data", data, "--languages", languages]
    parts += ["--subspaces", str(output), "--output", str(output.with_name(output.name + "-lens"))]
    say_next(shlex.join(parts))


def train(
    model: Model,
    data: Data,
    languages: Languages,
    output: Output,
    central: Central = "en",
    method: Annotated[
        str,
        typer.Option(
            "--method",
            help="; ".join(f"{name}: {each.help}" for name, each in METHODS.items())
            + "; or your own as module:function.",
            autocompletion=completion.methods,
        ),
    ] = "lens",
    subspaces: Subspaces = None,
    probe_data: ProbeData = None,
    config: Config = None,
    set_: Set = None,
    template: Template = None,
    delta: Annotated[bool, typer.Option("--delta", help="Write the changed tensors only.")] = False,
    limit: Limit = None,
    seed: Seed = 0,
    device: Device = "auto",
    report_to: Annotated[
        str | None,
        typer.Option("--report-to", help="Log to tensorboard, wandb, trackio, ... too; separated by commas."),
    ] = None,
) -> None:
    """Train a variant of a model: Lens, or a baseline by name."""
    from lens_eval.mini import resolve_data
    from lens_train.job import Job
    from lens_train.methods import process
    from lens_train.publish import trained

    settings = _settings(config, set_, template)
    given = {
        "subspaces": subspaces and str(subspaces),
        "probe_data": probe_data,
        "delta": delta,
        "train_items": limit,
    }
    settings |= {name: value for name, value in given.items() if value}
    codes, pivot = _languages(languages, central)
    job = Job(method, model, resolve_data(data), codes, output, pivot, seed, device, settings)
    trained.train(job, [name.strip() for name in (report_to or "").split(",") if name.strip()])
    if process() == 0:
        _show_outcome(replace(job, data=Path(data)))


def sweep(
    model: Model,
    data: Data,
    dev_data: Annotated[str, typer.Option("--dev-data", help="Prompts to judge by, not those trained on.")],
    languages: Languages,
    output: Output,
    central: Central = "en",
    vary: Annotated[
        list[str] | None, typer.Option("--vary", help="An axis of the grid, `name=value,value,...`.")
    ] = None,
    points: Annotated[
        Path | None, typer.Option("--points", help="YAML file with `grid:` (name: [values]) or `list:`.")
    ] = None,
    config: Config = None,
    set_: Set = None,
    template: Template = None,
    subspaces: Subspaces = None,
    probe_data: ProbeData = None,
    margin: Annotated[
        float, typer.Option("--margin", help="Points of the central language that may be lost.")
    ] = 2.0,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", help="Longest reply.", min=1)] = 64,
    dev_limit: Annotated[
        int | None, typer.Option("--dev-limit", help="Use the first N dev items only.", min=1)
    ] = None,
    limit: Limit = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Train many settings over one trunk, judge each on dev prompts, and name one.

    What is done already is kept, so the same command goes on where a sweep was stopped.
    """
    from lens_eval.mini import resolve_data
    from lens_train.job import Job
    from lens_train.sweep import tables
    from lens_train.sweep.rows import Request
    from lens_train.sweep.run import make_points
    from lens_train.sweep.run import sweep as run

    settings = _settings(config, set_, template)
    given = {"subspaces": subspaces and str(subspaces), "probe_data": probe_data, "train_items": limit}
    settings |= {name: value for name, value in given.items() if value}
    asked = make_points({} if points is None else _read_yaml(points), _axes(vary))
    codes, pivot = _languages(languages, central)
    job = Job("lens", model, resolve_data(data), codes, output, pivot, seed, device, settings)
    request = Request(job, data, resolve_data(dev_data), asked, margin / 100, dev_limit, max_new_tokens)
    outcome = run(request, say)
    say(f"\nwritten: {output}\n")
    tables.show(outcome)


def assess(
    model: Annotated[str, typer.Argument(help="Hub id, folder or .gguf file of the model, or `builtin`.")],
    data: Data,
    languages: Languages,
    central: Central = "en",
    config: Config = None,
    set_: Set = None,
    template: Template = None,
    limit: Annotated[int, typer.Option("--limit", help="Prompts per language.", min=1)] = 20,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", help="Longest reply.", min=1)] = 64,
    show: Annotated[int, typer.Option("--show", help="Replies to print per language.", min=0)] = 2,
    device: Device = "auto",
) -> None:
    """Is Lens for this model? Judge its replies to a few prompts per language, before any training."""
    from lens_train.watch import assess as assessment

    codes, pivot = _languages(languages, central)
    settings = _settings(config, set_, template)
    found = assessment.assess(model, data, codes, pivot, settings, limit, max_new_tokens, device)
    assessment.show(found, show)


def diagnose(
    run: Annotated[Path, typer.Argument(help="Folder written by `lens train`.")],
    plots: Annotated[bool, typer.Option(help="Draw training/plots/*.png (needs matplotlib).")] = True,
) -> None:
    """Show what training did to the languages inside a model, and draw it."""
    from lens_train.watch.diagnostics import load_diagnostics, summary

    document = load_diagnostics(run)
    for line in summary(document):
        say(line)
    if plots:
        from lens_train.watch.plots import draw_run

        for path in draw_run(run, document):
            say(f"written: {path}")
    say_next(f"lens eval --model {run} --tasks TASKS --output {run.with_name(run.name + '-eval')}")


def _show_outcome(job: Any) -> None:
    """What training did, where it was written, and what to do next."""
    from lens_eval.commands import next_commands
    from lens_train.job import Variant
    from lens_train.watch import summary

    variant = Variant.load(job.output)
    said = summary.lines(variant.outcome, variant.languages)
    for line in [*said, *([""] if said else [])]:
        say(line)
    say(f"written: {job.output}")
    for command in next_commands.next_commands(job, variant) or [
        f"lens chat {job.model} --versus {job.output}"
    ]:
        say_next(command)


def _languages(languages: str, central: str) -> tuple[tuple[str, ...], str]:
    from lens_eval.runs.recipe import language_code

    return read_codes(languages), language_code(central)


def _settings(config: Path | None, assignments: list[str] | None, template: str | None) -> dict[str, Any]:
    from lens_eval.base import settings_files

    settings = {} if config is None else _read_yaml(config)
    for assignment in assignments or []:
        name, sign, value = assignment.partition("=")
        if not sign:
            raise UserError(f"--set {assignment}: write name=value")
        settings[name.strip()] = settings_files.parse(value, f"--set {assignment}")
    note_settings(settings)
    return settings if template is None else {**settings, "template": template}


def _read_yaml(path: Path) -> dict[str, Any]:
    from lens_eval.base import settings_files

    content = settings_files.read(path) or {}
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold settings as `name: value` lines")
    return content


def _axes(vary: list[str] | None) -> dict[str, list[Any]]:
    """`learning_rate=1e-5,3e-5` as YAML reads a list."""
    from lens_eval.base import settings_files

    axes: dict[str, list[Any]] = {}
    for axis in vary or []:
        name, _, values = axis.partition("=")
        axes[name.strip()] = settings_files.parse(f"[{values}]", f"--vary {axis}")
        if not axes[name.strip()]:
            raise UserError(f"--vary {axis}: write name=value,value")
    return axes
