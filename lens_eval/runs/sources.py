"""What a recipe names (models, adapters, parallel data) as folders and as lm_eval's arguments."""

from __future__ import annotations

from pathlib import Path

from lens_eval.base.errors import UserError
from lens_eval.base.reading import read_object
from lens_eval.mini import resolve_model
from lens_eval.runs.recipe import Recipe, VariantSpec
from lens_train.gguf import is_gguf


def model_arguments(model: str, adapter: str | None = None, backend: str = "hf") -> dict[str, str]:
    """lm_eval's arguments for a hub id, a checkpoint folder, a GGUF file, or a PEFT adapter folder.

    A GGUF file is converted where that was not done before: what lm_eval is given is its folder.

    Raises:
        UserError: a folder that is neither, an adapter that does not name its model, or a GGUF file that is
            damaged or not supported.
    """
    if backend == "endpoint":
        return {"model": model}
    folder = Path(resolve_model(model))
    if is_gguf(model):
        from lens_train.checkpoint import Checkpoint

        folder = Checkpoint.open(model).folder
    if adapter is None and (folder / "adapter_config.json").is_file():
        base = read_object(folder / "adapter_config.json", "adapter's configuration").get(
            "base_model_name_or_path"
        )
        if not base or not isinstance(base, str):
            raise UserError(f"the adapter {folder} does not name its base model; give both")
        if (Path(resolve_model(base)) / "adapter_config.json").is_file():
            raise UserError(
                f"the adapter {folder} names an adapter as its base model ({base}); merge that first"
            )
        return {**model_arguments(present_base(base, folder)), _adapter_key(backend): str(folder)}
    if adapter is not None:
        return {**model_arguments(model, None, backend), _adapter_key(backend): adapter}
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise UserError(f"{folder} is no model: it holds neither config.json nor adapter_config.json")
    if not folder.is_dir() and model.startswith((".", "/")):
        raise UserError(f"no model folder {model}")
    return {"pretrained": str(folder) if folder.is_dir() else model}


def present_base(base: str, adapter: Path) -> str:
    """The model that an adapter, a steering or a decoding names as its base.

    Raises:
        UserError: it is a path, and nothing is there any more.
    """
    is_path = base.startswith((".", "/", "~")) or base.count("/") > 1
    if base != "builtin" and is_path and not Path(resolve_model(base)).exists():
        raise UserError(
            f"{adapter} was made for the model {base}, which is not there any more; name it where it lies "
            f"now: --model MODEL --adapter {adapter}"
        )
    return base


def _adapter_key(backend: str) -> str:
    return "lora_local_path" if backend == "vllm" else "peft"


def adapter_folder(name: str) -> Path:
    """The folder of a PEFT adapter: a local one, or a hub id's snapshot.

    Raises:
        UserError: there is none, or it is no adapter.
    """
    folder = Path(name)
    if not folder.is_dir():
        if name.startswith((".", "/")):
            raise UserError(f"no adapter folder {name}")
        from lens_train.checkpoint import download

        folder = download(name)
    if not (folder / "adapter_config.json").is_file():
        raise UserError(f"{name} is no adapter: it holds no adapter_config.json")
    return folder


def paths_of(recipe: Recipe, spec: VariantSpec) -> list[str]:
    """Data that a variant is trained with: paths and `builtin...` names, as the recipe gives them."""
    if spec.method is None:
        return []
    from lens_train.methods import input_files

    return [spec.data or recipe.train_data or "", *input_files(spec.method, spec.settings).values()]
