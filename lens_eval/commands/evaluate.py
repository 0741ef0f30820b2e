"""`lens eval`: one model on tasks of lm_eval, in this project's words or in lm_eval's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from lens_eval.base.errors import UserError
from lens_eval.base.terminal import say
from lens_eval.commands import completion
from lens_eval.commands.lm_eval_words import model_of, template_setting
from lens_eval.commands.options import read_backend, read_codes, read_pairs
from lens_eval.commands.run import end, typed

Tasks = Annotated[
    str, typer.Option("--tasks", "-t", help="lm_eval tasks or groups, separated by commas or spaces.")
]
Output = Annotated[
    Path, typer.Option("--output", "--output-path", "-o", help="Folder for results, samples and tables.")
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-M",
        help="Hub id, checkpoint or adapter folder, GGUF file, or `builtin`; or, with --model_args "
        "pretrained=MODEL, the backend.",
    ),
]
Endpoint = Annotated[
    str | None,
    typer.Option(
        help="With --model endpoint: address of a server with the chat API of OpenAI, http://localhost:8000/v1."
    ),
]
Name = Annotated[str | None, typer.Option(help="With --model endpoint: name of the model there.")]
KeyVariable = Annotated[
    str | None,
    typer.Option(help="Environment variable that holds the endpoint's API key [default: OPENAI_API_KEY]."),
]
Concurrency = Annotated[
    int | None, typer.Option(min=1, help="Requests under way at an endpoint at once [default: 8].")
]
Languages = Annotated[str | None, typer.Option(help="Only tasks in these languages, e.g. en,zh.")]
Adapter = Annotated[str | None, typer.Option(help="PEFT adapter to load on the model.")]
Backends = Annotated[str, typer.Option(help="hf, vllm or endpoint.", autocompletion=completion.backends)]
ModelArgs = Annotated[
    list[str] | None,
    typer.Option("--model-args", "-a", help="lm_eval's model arguments: pretrained=...,dtype=bfloat16"),
]
CutPrompts = Annotated[
    bool, typer.Option("--allow-cut-prompts", help="Count results though over 1% of prompts were cut.")
]
GenKwargs = Annotated[
    list[str] | None,
    typer.Option("--gen-kwargs", help="For all generation: max_gen_toks=256,... (or the tasks')."),
]
Fewshot = Annotated[
    int | None, typer.Option("--num-fewshot", "-f", min=0, help="Examples in a prompt (or the tasks').")
]
System = Annotated[str | None, typer.Option(help="System message before every prompt.")]
Template = Annotated[
    str | None, typer.Option(help="true, false, or the name of a template [default: where there is one].")
]
BatchSize = Annotated[str, typer.Option("--batch-size", "-b", help="A number, or auto.")]
IncludePath = Annotated[list[Path] | None, typer.Option(help="Another folder with task files.")]
Limit = Annotated[
    float | None, typer.Option("--limit", "-L", help="Items per task; below 1, the share of them.")
]
Seed = Annotated[int, typer.Option(min=0, help="For sampled generation.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
LogSamples = Annotated[bool, typer.Option("--log-samples", "-s", help="As ever: samples are always kept.")]


def evaluate(
    tasks: Tasks,
    output: Output,
    model: Model = None,
    languages: Languages = None,
    adapter: Adapter = None,
    backend: Backends = "hf",
    model_args: ModelArgs = None,
    allow_cut_prompts: CutPrompts = False,
    gen_kwargs: GenKwargs = None,
    num_fewshot: Fewshot = None,
    system_instruction: System = None,
    apply_chat_template: Template = None,
    batch_size: BatchSize = "8",
    include_path: IncludePath = None,
    limit: Limit = None,
    seed: Seed = 0,
    device: Device = "auto",
    log_samples: LogSamples = False,
    endpoint: Endpoint = None,
    name: Name = None,
    key_variable: KeyVariable = None,
    concurrency: Concurrency = None,
) -> None:
    """Evaluate one model through lm_eval, with its chat template where it has one, and show the table.

    OUTPUT is a results folder of lm_eval: `lens compare` sets several side by side. Options may be typed as
    lm_eval's, with underscores. A model behind a server is named by --model endpoint --endpoint URL --name
    MODEL. If a task's language is known, the language of its replies is measured.
    """
    from lens_eval.runs.recipe import Backend, Recipe, VariantSpec, with_changes
    from lens_eval.runs.runner import run

    chosen, backend, given, adapter = model_of(model, backend, read_pairs(model_args), adapter, name)
    asked = {"base_url": endpoint, "key_variable": key_variable, "num_concurrent": concurrency}
    arguments = given | _of_endpoint(asked, backend)
    label = Path(chosen).name if backend != "endpoint" and Path(chosen).exists() else chosen
    recipe = Recipe(
        name=label,
        backbone=chosen,
        languages=read_codes(languages),
        variants=(VariantSpec(_folder_name(label), adapter=adapter),),
        tasks=tuple(dict.fromkeys(part.strip() for part in tasks.split(",") if part.strip())),
        include_path=tuple(str(folder) for folder in include_path or ()),
        backend=Backend(
            read_backend(backend),
            arguments,
            _batch(batch_size),
            apply_chat_template=template_setting(apply_chat_template),
            system_instruction=system_instruction,
            num_fewshot=num_fewshot,
            allow_cut_prompts=allow_cut_prompts,
        ),
        seeds=(seed,),
    )
    changed = with_changes(recipe, limit=limit, gen_kwargs=read_pairs(gen_kwargs, "--gen-kwargs"))
    end(run(changed, output, device=device, command=typed(), say=say), output)


def _of_endpoint(asked: Mapping[str, Any], backend: str) -> dict[str, Any]:
    given = {key: value for key, value in asked.items() if value is not None}
    if given and backend != "endpoint":
        raise UserError("--endpoint, --key-variable and --concurrency go with --model endpoint --name MODEL")
    return given


def _batch(text: str) -> int | str:
    if text.startswith("auto"):
        return text
    if not text.isdigit() or int(text) < 1:
        raise UserError(f"--batch-size is {text!r}; give a number, or auto")
    return int(text)


def _folder_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "_-." else "_" for c in name).lstrip(".") or "model"
