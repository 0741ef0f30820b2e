"""Everything about a run that can be refused before work starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lens_eval.base import reading
from lens_eval.base.errors import UserError
from lens_eval.base.files import free_bytes, holds_nothing
from lens_eval.mini import resolve_data
from lens_eval.results.read import RUN_FILE
from lens_eval.runs.asking import check_asking
from lens_eval.runs.recipe import Recipe, Row, require_set, rows_of, unset_variable
from lens_eval.runs.sources import adapter_folder, model_arguments, paths_of
from lens_eval.runs.workplace import MODELS, job_of
from lens_train.methods import method_of


def available(recipe: Recipe) -> tuple[Recipe, dict[str, str]]:
    """The recipe without its optional variants whose data nobody named; those with the reason.

    Raises:
        UserError: no variant is left.
    """
    left_out = {}
    for spec in recipe.variants:
        variables = [unset_variable(path) for path in paths_of(recipe, spec)]
        unset = next((name for name in variables if name), None)
        if spec.optional and unset:
            left_out[spec.name] = f"the environment variable {unset}, which names its data, is not set"
    variants = tuple(spec for spec in recipe.variants if spec.name not in left_out)
    if not variants:
        raise UserError(f"recipe {recipe.name}: no variant is left, {next(iter(left_out.values()))}")
    return replace(recipe, variants=variants), left_out


def check(recipe: Recipe, folder: Path, device: str | None) -> None:
    """Everything that can be refused before work starts; `device` is None where it is not this machine's.

    Raises:
        UserError: as the name says.
    """
    _check_folder(folder, recipe)
    if device is not None:
        _check_device(device)
    _check_numbers(recipe)
    if recipe.backend.model == "vllm":
        _check_vllm(recipe)
    if recipe.backend.model == "endpoint":
        _check_endpoint(recipe)
    if recipe.include_path:
        from lens_eval.runs.task_index import task_folders

        task_folders(recipe.include_path)
    if recipe.backend.revision and any(spec.method for spec in recipe.variants):
        raise UserError(
            f"backend.args.revision is {recipe.backend.revision}, and variants are trained: training reads "
            "the main revision. Download the one you mean, and name its folder as the backbone"
        )
    for spec in recipe.variants:
        if spec.method is None and recipe.backend.model != "endpoint":
            _check_model(spec.model or recipe.backbone, spec.adapter, recipe.backend.revision)
    for spec in recipe.variants:
        check_asking(recipe, spec)
        if spec.ask and recipe.backend.apply_chat_template is False:
            raise UserError(f"variants.{spec.name}: {spec.ask} changes messages; it needs a chat template")
    if any(spec.method for spec in recipe.variants):
        _check_training(recipe, folder)


_AT_LEAST = {"max_gen_toks": 1, "max_new_tokens": 1, "max_length": 1, "max_model_len": 1, "temperature": 0}


def _check_numbers(recipe: Recipe) -> None:
    """Generation settings and lengths that no backend could follow, or that leave every reply empty."""
    for name, value in {**recipe.backend.args, **recipe.backend.gen_kwargs}.items():
        least = _AT_LEAST.get(name)
        if least is None or value is None:
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not least <= value < float("inf"):
            raise UserError(f"{name} is {value!r}; give a number of at least {least}")


def _check_folder(folder: Path, recipe: Recipe) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"output {folder} is a file; name a folder")
    if holds_nothing(folder):
        return
    if not (folder / RUN_FILE).is_file():
        raise UserError(f"output {folder} is not empty and holds no run; name another folder")
    try:
        name = reading.read_json(folder / RUN_FILE)["name"]
    except (UserError, KeyError, TypeError):
        raise UserError(
            f"{folder / RUN_FILE} is corrupt; remove that file, or name another --output"
        ) from None
    if name != recipe.name:
        raise UserError(
            f"output {folder} holds another run ({name}); name another --output for {recipe.name}"
        )


def _check_device(device: str) -> None:
    from lens_train.devices import resolve_device

    resolve_device(device)


def _check_vllm(recipe: Recipe) -> None:
    from importlib.util import find_spec

    if find_spec("vllm") is None:
        raise UserError(
            "the backend vllm is not installed; pip install 'lens-multilingual[vllm]', or say `model: hf`"
        )
    from lens_eval.backends import vllm_limits

    for spec in recipe.variants:
        model = model_arguments(spec.model or recipe.backbone, spec.adapter, "vllm")
        arguments = {**recipe.backend.args, **model}
        # What a method makes is there after training; that it will be there decides what can be done.
        vllm_limits.refuse_for(arguments, method_of(spec.method).writes if spec.method else "checkpoint")
        vllm_limits.require_same_files(arguments)
        vllm_limits.checked(arguments, vllm_limits.is_cpu())


def _check_endpoint(recipe: Recipe) -> None:
    """The server is named, by an address without a password, and all variants are models behind it."""
    from lens_eval.base.endpoint import Endpoint

    url = recipe.backend.args.get("base_url")
    if not url:
        raise UserError(
            "the backend endpoint needs the address of a server: --endpoint http://localhost:8000/v1, or "
            "base_url under backend.args"
        )
    Endpoint(str(url), recipe.backbone)
    if recipe.backend.apply_chat_template is not True and recipe.backend.apply_chat_template != "auto":
        raise UserError("an endpoint applies its own chat template; leave apply_chat_template out")
    for spec in recipe.variants:
        if spec.method or spec.adapter:
            raise UserError(
                f"variants.{spec.name}: behind an endpoint there are models by name alone, without "
                "`method` and `adapter`"
            )


def _check_model(model: str, adapter: str | None, revision: str | None) -> None:
    """The model is there, or on the hub and to be had; it is asked for now, not after hours of other work."""
    from lens_train.checkpoint import Checkpoint

    arguments = model_arguments(model, adapter)
    Checkpoint.open(arguments["pretrained"], revision)
    if "peft" in arguments:
        adapter_folder(arguments["peft"])


def _check_training(recipe: Recipe, folder: Path) -> None:
    from lens_train.checkpoint import Checkpoint
    from lens_train.job import VARIANT_FILE
    from lens_train.methods import load, read_settings, settings_of

    for row in rows_of(recipe):
        spec = row.spec
        if spec.method is None:
            continue
        for path in paths_of(recipe, spec):
            require_set(path, f"variants.{spec.name}")
            if not resolve_data(path).exists():
                raise UserError(f"variants.{spec.name}: no parallel data {resolve_data(path)}")
        kind = settings_of(spec.method)
        if kind is not None:
            read_settings(kind, spec.settings, spec.method)
        # A method may know more to check: languages of the data, empty prompts, subspaces of another model.
        method_check = getattr(load(spec.method)[0], "check", None)
        if method_check is not None:
            method_check(job_of(recipe, row, folder / MODELS / f"{row.name}.check", "cpu"))
    checkpoint = Checkpoint.open(recipe.backbone)
    if not checkpoint.tokenizer.chat_template:
        raise UserError(
            f"{recipe.backbone} has no chat template; the training methods need one (an instruct model)"
        )
    full = [row for row in whole_rows(recipe) if not (folder / MODELS / row.name / VARIANT_FILE).exists()]
    check_disk(folder, checkpoint.bytes * len(full))


def whole_rows(recipe: Recipe) -> list[Row]:
    """Rows for which a whole checkpoint is written."""
    return [
        row
        for row in rows_of(recipe)
        if row.spec.method is not None
        and method_of(row.spec.method).writes == "checkpoint"
        and not row.spec.settings.get("delta")
    ]


def check_disk(folder: Path, needed: int) -> None:
    """Refuse a run that cannot fit.

    Raises:
        UserError: less than `needed` bytes (and a little air) are free where `folder` is or would be.
    """
    free = free_bytes(folder)
    wanted = int(needed * 1.05) + (50 << 20)
    if free < wanted:
        raise UserError(
            f"not enough disk for {folder}: about {wanted / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free"
        )
