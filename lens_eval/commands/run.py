"""Commands that run and compare evaluations: `lens reproduce`, `eval`, `compare`, `report`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lens_eval.base.errors import UserError, did_you_mean
from lens_eval.base.files import check_outputs, make_folder
from lens_eval.base.redaction import hide
from lens_eval.base.terminal import say
from lens_eval.commands import completion
from lens_eval.commands.options import read_backend, read_codes, read_pairs, say_next

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lens_eval.results.findings import Check
    from lens_eval.results.paper import Pair
    from lens_eval.runs.work import Outcome


def reproduce(
    recipe: Annotated[
        Path,
        typer.Argument(
            help="Recipe file (YAML), or a recipe of this project by name: demo.",
            autocompletion=completion.recipes,
        ),
    ],
    output: Annotated[Path | None, typer.Option(help="Folder of the run [default: results/<name>].")] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print what would be done and what it needs; do nothing.")
    ] = False,
    limit: Annotated[int | None, typer.Option(help="Items per task, for a trial run.")] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Another backbone: hub id, folder, GGUF file, or `builtin`.")
    ] = None,
    backend: Annotated[
        str | None, typer.Option(help="Another backend: hf or vllm.", autocompletion=completion.backends)
    ] = None,
    gen_kwargs: Annotated[
        str | None, typer.Option(help="For all generation: max_gen_toks=256,... (or the recipe's).")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    ray: Annotated[
        str | None,
        typer.Option(help="Work on a Ray cluster: HOST:PORT, auto (a running one), or local (this machine)."),
    ] = None,
    ray_cpus: Annotated[float, typer.Option(min=0.1, help="CPUs that each Ray task asks for.")] = 1.0,
) -> None:
    """Run a recipe: train its variants, evaluate them through lm_eval, and show the comparison.

    What is done already is kept, so the same command goes on where a run was stopped.
    """
    from lens_eval.runs.recipe import load_recipe, output_of, with_changes
    from lens_eval.runs.runner import run

    if plan:  # asks nobody: neither for models nor for data
        os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")
    checked = with_changes(
        load_recipe(recipe),
        limit=limit,
        backbone=backbone,
        backend=None if backend is None else read_backend(backend),
        gen_kwargs=read_pairs(gen_kwargs, "--gen-kwargs"),
    )
    if plan:
        from lens_eval.runs.plan import show_plan

        show_plan(checked, output, device)
        return
    outcome = run(checked, output, device=device, ray=ray, cpus=ray_cpus, command=_command(), say=say)
    # Nothing is published about a simulated model.
    folder = output_of(checked, output)
    _end(outcome, folder, directions=None if checked.simulated else folder)


def evaluate(
    model: Annotated[
        str, typer.Option(help="Hub id, checkpoint or adapter folder, GGUF file, or `builtin`.")
    ],
    tasks: Annotated[str, typer.Option(help="lm_eval tasks or groups, separated by commas.")],
    output: Annotated[Path, typer.Option(help="Folder for results, samples and tables.")],
    languages: Annotated[str | None, typer.Option(help="Only tasks in these languages, e.g. en,zh.")] = None,
    adapter: Annotated[str | None, typer.Option(help="PEFT adapter to load on the model.")] = None,
    backend: Annotated[str, typer.Option(help="hf or vllm.", autocompletion=completion.backends)] = "hf",
    model_args: Annotated[
        str | None, typer.Option(help="More lm_eval model arguments: dtype=bfloat16,...")
    ] = None,
    allow_cut_prompts: Annotated[
        bool,
        typer.Option("--allow-cut-prompts", help="Count results though over 1% of prompts were cut."),
    ] = False,
    gen_kwargs: Annotated[
        str | None, typer.Option(help="For all generation: max_gen_toks=256,... (or the tasks').")
    ] = None,
    batch_size: Annotated[str, typer.Option(help="A number, or auto.")] = "8",
    include_path: Annotated[list[Path] | None, typer.Option(help="Another folder with task files.")] = None,
    limit: Annotated[int | None, typer.Option(help="Items per task, for a trial run.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="For sampled generation.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
) -> None:
    """Evaluate one model through lm_eval, with its chat template where it has one, and show the table.

    OUTPUT is a results folder of lm_eval: `lens compare` sets several side by side.
    """
    from lens_eval.runs.recipe import Backend, Recipe, VariantSpec, with_changes
    from lens_eval.runs.runner import run

    name = Path(model).name if Path(model).exists() else model
    recipe = Recipe(
        name=name,
        backbone=model,
        languages=read_codes(languages),
        variants=(VariantSpec(_folder_name(name), adapter=adapter),),
        tasks=tuple(part.strip() for part in tasks.split(",") if part.strip()),
        include_path=tuple(str(folder) for folder in include_path or ()),
        backend=Backend(
            read_backend(backend),
            read_pairs(model_args),
            _batch(batch_size),
            allow_cut_prompts=allow_cut_prompts,
        ),
        seeds=(seed,),
    )
    changed = with_changes(recipe, limit=limit, gen_kwargs=read_pairs(gen_kwargs, "--gen-kwargs"))
    _end(run(changed, output, device=device, command=_command(), say=say), output)


def compare(
    runs: Annotated[
        list[str], typer.Argument(help="Results folders, of lens or of lm_eval; NAME=FOLDER names one.")
    ],
    reference: Annotated[str | None, typer.Option(help="Variant that differences are taken to.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for table.md, .csv, .tex and .json, and report.html.")
    ] = None,
    format: Annotated[str | None, typer.Option(help="Print as md, csv, tex or json instead.")] = None,
    allow: Annotated[
        str, typer.Option(help="Let these differ: items,prompts,shots,version,generation.")
    ] = "",
    paper: Annotated[
        Path | None, typer.Option(help="CSV of published numbers to set beside; see results/paper/README.md.")
    ] = None,
    checks: Annotated[
        bool, typer.Option("--checks", help="Check the published directions; see docs/reproduction.md.")
    ] = False,
) -> None:
    """Compare results folders: variants x languages x metrics with paired, item-clustered intervals.

    With --paper or --checks, --format csv and json print those instead of the tables.
    """
    from lens_eval.results import findings, tables
    from lens_eval.results import paper as published
    from lens_eval.results.compare import compare as compare_scores
    from lens_eval.results.read import load

    _check_format(format, paper is not None, checks)
    if output is not None:
        _check_folder(output, runs, paper)
    numbers = None if paper is None else published.read_published(paper)
    scores, document, holes = load(runs)
    allowed = [word.strip() for word in allow.split(",") if word.strip()]
    name = str(document.get("name", ""))
    result = compare_scores(scores, reference=reference, name=name, holes=holes, run=document, allow=allowed)
    if output is not None:
        from lens_eval.page import report as page
        from lens_eval.results import training_record

        tables.write_all(result, output)
        training = training_record.load(Path(runs[0])) if len(runs) == 1 else {}
        page.write_report(output / page.FILE, result, scores, training)
    pairs = None if numbers is None else published.pair(result, numbers)
    checked = findings.check_findings(scores, result.reference) if checks else None
    if format in ("csv", "json") and (pairs is not None or checked is not None):
        say(_beside(format, pairs, checked), nl=False)
        return
    if format is None:
        tables.show(result)
    else:
        say(tables.FORMATS[format][1](result), nl=False)
    if pairs is not None:
        published.show(pairs) if format is None else say("\n" + published.to_markdown(pairs), nl=False)
    if checked is not None:
        findings.show(checked) if format is None else say("\n" + findings.to_markdown(checked), nl=False)
    if output is not None:
        say_next(f"open {output / 'report.html'} in a browser", err=True)
    elif format is None:
        say_next(f"lens compare {' '.join(runs)} --output FOLDER writes these tables and a page", err=True)


def _check_folder(output: Path, runs: Sequence[str], paper: Path | None) -> None:
    """Refuse a folder for tables that cannot be written, or whose files are what is compared."""
    from lens_eval.page import report as page
    from lens_eval.results import tables

    folders = [Path(run) if Path(run).exists() else Path(run.partition("=")[2]) for run in runs]
    if len(runs) > 1 and any(folder.resolve() == output.resolve() for folder in folders):
        raise UserError(f"--output {output} is one of the runs compared; name another folder")
    make_folder(output)
    names = [name for name, _ in tables.FORMATS.values()]
    check_outputs([output / name for name in (*names, page.FILE)], [paper] if paper else ())


def _check_format(format: str | None, paper: bool, checks: bool) -> None:
    """Refuse a format that is not known, or that cannot hold what was asked for."""
    from lens_eval.results import tables

    if format is not None and format not in tables.FORMATS:
        raise UserError(
            f"unknown format {format!r}{did_you_mean(format, tables.FORMATS)}; "
            f"known: {', '.join(tables.FORMATS)}"
        )
    if format == "tex" and (paper or checks):
        raise UserError("--paper and --checks print md, csv or json; --format tex is for the tables")
    if format == "csv" and paper and checks:
        raise UserError("--format csv prints one table: --paper or --checks, or both as md or json")


def _beside(format: str, pairs: Sequence[Pair] | None, checks: Sequence[Check] | None) -> str:
    """Published numbers and directions as CSV (one of them) or JSON."""
    import json

    from lens_eval.results import findings
    from lens_eval.results import paper as published

    if format == "csv":
        return findings.to_csv(checks or ()) if pairs is None else published.to_csv(pairs)
    document = {
        **({} if pairs is None else {"paper": published.rows(pairs)}),
        **({} if checks is None else {"checks": findings.rows(checks)}),
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def report(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or any results folder of lm_eval.")],
    output: Annotated[Path | None, typer.Option(help="File to write [default: RUN/report.html].")] = None,
) -> None:
    """Make the HTML page of a run again from its saved answers, without a model."""
    from lens_eval.page import report as page
    from lens_eval.results.compare import compare as compare_scores
    from lens_eval.results.read import load

    scores, document, holes = load([run])
    file = output or (run if run.is_dir() else run.parent) / page.FILE
    if file.is_dir() or not file.parent.is_dir():
        raise UserError(f"--output {file} is {'a folder' if file.is_dir() else 'in no folder'}; name a file")
    folder = run if run.is_dir() else run.parent
    inside = file.exists() and file.resolve().is_relative_to(folder.resolve())
    check_outputs([file], [file] if inside and file.suffix not in (".html", ".htm") else ())
    name = str(document.get("name") or run.resolve().name)
    result = compare_scores(scores, name=name, holes=holes, run=document)
    say(str(page.write_of_run(run, result, scores, output=file)))
    say_next(f"open {file} in a browser", err=True)


def _end(outcome: Outcome, folder: Path, directions: Path | None = None) -> None:
    """Show the table, and the directions that the run in `directions` shows; status 1 where a cell failed."""
    if outcome.comparison is not None:
        from lens_eval.results.tables import show

        say("")
        show(outcome.comparison)
        if directions is not None:
            from lens_eval.results import findings
            from lens_eval.results.read import load

            findings.show(findings.check_findings(load([directions])[0], outcome.comparison.reference))
    for line in outcome.failed if outcome.comparison is None else ():
        say(f"failed: {line}", err=True)
    if outcome.status:
        say(
            f"lens: {len(outcome.failed)} cells failed (see errors/); the same command tries them again",
            err=True,
        )
        raise typer.Exit(outcome.status)
    say_next(f"open {folder / 'report.html'} in a browser; lens card {folder}")


def _command() -> str:
    return hide(" ".join(["lens", *sys.argv[1:]]))


def _batch(text: str) -> int | str:
    if text.startswith("auto"):
        return text
    if not text.isdigit() or int(text) < 1:
        raise UserError(f"--batch-size is {text!r}; give a number, or auto")
    return int(text)


def _folder_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "_-." else "_" for c in name).lstrip(".") or "model"
