"""A model by its name: its folder, tokenizer, weights, and a hash that identifies it."""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from lens_eval.base.errors import UserError
from lens_eval.base.progress import progress
from lens_eval.mini import resolve_model
from lens_train.gguf import is_gguf


@lru_cache(maxsize=8)
def checkpoint_folder(name: str) -> Path:
    """Return the local folder of a model, given as a folder, `builtin`, a hub id or a GGUF file.

    A GGUF file is converted on first use; see `lens_train.gguf.cache.model_folder`.

    Raises:
        UserError: there is no such folder, file or hub id; the folder has no safetensors weights; the GGUF
            file is damaged or not supported.
    """
    if is_gguf(name):
        from lens_train.gguf.cache import model_folder

        return model_folder(Path(name))
    folder = Path(resolve_model(name))
    if not folder.is_dir():
        folder = download(name)
    if not (folder / "config.json").is_file():
        files = sorted(file.name for file in folder.glob("*.gguf"))
        hint = f"; name the file itself: {folder / files[0]}" if files else ""
        raise UserError(f"{folder} is no model folder: it has no config.json{hint}")
    if not weight_files(folder):
        raise UserError(
            f"{folder} holds no *.safetensors weights (pickled weights are not read); "
            "save the model once with model.save_pretrained(...)"
        )
    return folder


def download(name: str) -> Path:
    """The local snapshot of a model or adapter on the hub; downloaded if it is not in the cache.

    Raises:
        UserError: there is none, or it cannot be downloaded; the message says why and what helps.
    """
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns, ignore_patterns=["*/*"]))
    except Exception as error:
        raise UserError(f"no model {name!r}: no such folder, and {_hub_says(error, name)}") from None


def _hub_says(error: Exception, name: str) -> str:
    """Why the hub did not deliver the model, and what helps."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return (
            f"the hub gives it only to users who accepted its terms: do so at https://huggingface.co/{name}, "
            "then `hf auth login`"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return "the hub has none of that name (or it is private: `hf auth login`)"
    if isinstance(error, errors.LocalEntryNotFoundError):
        return "it is not in the local cache and the hub cannot be asked (offline?)"
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return f"the hub says: {reason}"


def weight_files(folder: Path) -> list[Path]:
    """Weight files of a checkpoint: those of its index, or all safetensors of the folder."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return [folder / name for name in sorted(names)]
    whole = folder / "model.safetensors"
    return [whole] if whole.is_file() else sorted(folder.glob("*.safetensors"))


def load_tokenizer(name: str) -> Any:
    """Load the tokenizer of a local or hub model.

    Raises:
        UserError: there is no tokenizer, or it needs code from the model's folder.
    """
    from transformers import AutoTokenizer

    folder = checkpoint_folder(name)
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UserError(f"cannot load the tokenizer of {name}: {first_line(error)}") from None


def causal_config(name: str) -> Any:
    """Configuration of a decoder-only model.

    Raises:
        UserError: the architecture is unknown, or an encoder-decoder.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(checkpoint_folder(name), trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UserError(f"cannot load {name} as a causal language model: {first_line(error)}") from None
    if getattr(config, "is_encoder_decoder", False):
        raise UserError(
            f"{name} ({config.model_type}) is an encoder-decoder; Lens needs a decoder-only model"
        )
    return config


def first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


@lru_cache(maxsize=8)
def model_identity(name: str) -> dict[str, str]:
    """Identity of a model: its name, and SHA-256 of its weights and of its chat template.

    The hash of the weights is the hash of their file; for several files it is the hash of the files' hashes.
    """
    folder = checkpoint_folder(name)
    template = json.dumps(load_tokenizer(name).chat_template, sort_keys=True)
    return {
        "name": name,
        "weights_sha256": _hash_files(weight_files(folder)),
        "template_sha256": hashlib.sha256(template.encode()).hexdigest(),
    }


def _hash_files(files: list[Path]) -> str:
    size = sum(file.stat().st_size for file in files)
    with (
        progress(label="hashing weights", total=size, unit="bytes") as bar,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        hashes = list(pool.map(partial(_hash_file, bar=bar), files))
    if len(hashes) == 1:
        return hashes[0]
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def _hash_file(file: Path, bar: Any) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
            bar.update(len(block))
    return digest.hexdigest()
