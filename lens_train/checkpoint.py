"""A model as it lies on disk, opened once: its files as transformers takes them, and what identifies it."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

from lens_eval.base.errors import UserError
from lens_eval.base.progress import progress
from lens_eval.base.reading import read_object, read_text
from lens_eval.mini import resolve_model
from lens_train.files import tensor_entries
from lens_train.gguf import is_gguf

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER_CONFIG = "adapter_config.json"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "processor_config.json",
)
"""Files that tokenizers of transformers read; a tokenizer's class may name more (`vocab_files_names`)."""


@dataclass(frozen=True)
class Checkpoint:
    """A causal model on disk, which loads exactly these files.

    Settings, tokenizer and identity are read when they are first asked for, and kept. Open it anew to see
    what has changed on disk since.
    """

    name: str
    """As the user gave it: a folder, `builtin`, a hub id or a GGUF file."""
    folder: Path
    weights: tuple[Path, ...]
    """The safetensors files that transformers loads, and no others."""

    @staticmethod
    def open(name: str, revision: str | None = None) -> Checkpoint:
        """Find the files of a model. A GGUF file is converted on first use.

        Args:
            name: a folder, `builtin`, a hub id or a GGUF file.
            revision: of a hub id: branch, tag or commit; None = the main one.

        Raises:
            UserError: there is no such folder, file or hub id; the folder holds an adapter, or no safetensors
                weights under the names that transformers knows; an index names a file that is not there; the
                GGUF file is damaged or not supported.
        """
        folder = _find(name, revision)
        if (folder / ADAPTER_CONFIG).is_file():
            raise UserError(
                f"{folder} holds an adapter ({ADAPTER_CONFIG}); name its base model here, or merge the two "
                "into one checkpoint first (merge_and_unload of peft)"
            )
        if not (folder / "config.json").is_file():
            files = sorted(file.name for file in folder.glob("*.gguf"))
            hint = f"; name the file itself: {folder / files[0]}" if files else ""
            raise UserError(f"{folder} is no model folder: it has no config.json{hint}")
        weights = weight_files(folder)
        if not weights:
            raise UserError(
                f"{folder} holds no safetensors weights named {WHOLE} or listed in {INDEX}"
                f"{_other_weights(folder)} (pickled weights are not read); "
                "save the model once with model.save_pretrained(...)"
            )
        return Checkpoint(name, folder, tuple(weights))

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer.

        Raises:
            UserError: there is no tokenizer, or it needs code from the model's folder.
        """
        return _tokenizer_of(self.folder)

    @cached_property
    def config(self) -> Any:
        """The configuration of a decoder-only model.

        Raises:
            UserError: the architecture is unknown, or an encoder-decoder; a size is one that no model has;
                weights are whole numbers, and no quantisation is named that would explain them.
        """
        from transformers import AutoConfig

        try:
            config = AutoConfig.from_pretrained(self.folder, trust_remote_code=False)
        except (OSError, ValueError, KeyError, ImportError, TypeError, AttributeError) as error:
            raise UserError(
                f"cannot load {self.name} as a causal language model: {first_line(error)}"
            ) from None
        if getattr(config, "is_encoder_decoder", False):
            raise UserError(
                f"{self.name} ({config.model_type}) is an encoder-decoder; Lens needs a decoder-only model"
            )
        self._check_sizes(config)
        if getattr(config, "quantization_config", None) is None:
            self._check_types()
        return config

    def _check_types(self) -> None:
        """Refuse whole numbers: transformers reads them as weights, and rounds what is trained to them."""
        for file in self.weights:
            for name, entry in tensor_entries(file)[1].items():
                if name.endswith(".weight") and not entry["dtype"].startswith(("F", "BF")):
                    raise UserError(
                        f"{file}: the tensor {name} holds whole numbers ({entry['dtype']}), and config.json "
                        "names no quantisation; the file is damaged, or lost its quantization_config"
                    )

    def _check_sizes(self, config: Any) -> None:
        """Refuse sizes that no model on this disk can have: it would be built before a tensor is missed."""
        most = {"num_hidden_layers": sum(len(tensor_entries(file)[1]) for file in self.weights)}
        most |= {"hidden_size": 1 << 20, "vocab_size": 1 << 27}
        for name, limit in most.items():
            size = getattr(config.get_text_config(), name, 1)
            if isinstance(size, bool) or not isinstance(size, int) or not 0 < size <= limit:
                raise UserError(
                    f"{self.folder / 'config.json'} states a {name} of {size!r:.40}, which is no number "
                    f"from 1 to {limit:,}; the file is damaged, or of another model"
                )

    def require_whole_weights(self, method: str) -> None:
        """Refuse quantised weights for a method that changes whole weights and writes them back.

        Raises:
            UserError: the configuration says that the weights are quantised.
        """
        quantised = getattr(self.config, "quantization_config", None)
        if quantised is None:
            return
        plain = quantised if isinstance(quantised, dict) else quantised.to_dict()
        kind = plain.get("quant_method") or "in an unnamed way"
        raise UserError(
            f"{self.name} is stored quantised ({getattr(kind, 'value', kind)}), and {method} changes whole "
            "weights; take the model that it was made from and quantise the result, or tune an adapter "
            "(--method xsft_lora)"
        )

    @property
    def bytes(self) -> int:
        """Size of the weights."""
        return sum(file.stat().st_size for file in self.weights)

    @property
    def settings_files(self) -> tuple[Path, ...]:
        """The small files that decide what is fed to the model and what is chosen of what comes out."""
        named = getattr(self.tokenizer, "vocab_files_names", {}).values()
        names = {"config.json", "generation_config.json", *TOKENIZER_FILES, *map(str, named)}
        found = [self.folder / name for name in names if (self.folder / name).is_file()]
        return tuple(sorted([*found, *self.folder.glob("additional_chat_templates/*.jinja")]))

    @property
    def identity(self) -> dict[str, str]:
        """The model's name, and SHA-256 of its weights, its settings and its chat template.

        The hash of the weights is the hash of their file; for several files it is the hash of the files'
        hashes. The settings are the configurations of model and generation and the tokenizer's files. A file
        is read again only if its size or its time has changed.
        """
        template = json.dumps(self.tokenizer.chat_template, sort_keys=True)
        settings = {file.relative_to(self.folder).as_posix(): hash_of(file) for file in self.settings_files}
        return {
            "name": self.name,
            "weights_sha256": _hash_files(self.weights),
            "settings_sha256": _sha256(json.dumps(settings, sort_keys=True)),
            "template_sha256": _sha256(template),
        }


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder, an adapter's as a rule, holds a tokenizer of its own."""
    return any((folder / name).is_file() for name in ("tokenizer_config.json", "tokenizer.json"))


def adapter_tokenizer(checkpoint: Checkpoint, adapter: Path) -> Any:
    """The tokenizer of a model under an adapter.

    It is the one that the adapter was saved with, as TRL does; else the model's, with the adapter's chat
    template if there is one.

    Raises:
        UserError: a tokenizer cannot be loaded.
    """
    if has_tokenizer(adapter):
        return _tokenizer_of(adapter)
    tokenizer = copy.deepcopy(checkpoint.tokenizer)
    wear_template(tokenizer, adapter)
    return tokenizer


def wear_template(tokenizer: Any, folder: Path) -> None:
    """Give a tokenizer the chat template of a folder, if it holds one."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        tokenizer.chat_template = read_text(file)


def _tokenizer_of(folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises no narrower one for a broken file
        raise UserError(f"cannot load the tokenizer of {folder}: {first_line(error)}") from None


def _find(name: str, revision: str | None) -> Path:
    """The local folder of a model."""
    if is_gguf(name):
        from lens_train.gguf.cache import model_folder

        return model_folder(Path(name))
    folder = Path(resolve_model(name))
    return folder if folder.is_dir() else download(name, revision)


@lru_cache(maxsize=8)
def download(name: str, revision: str | None = None) -> Path:
    """The local snapshot of a model or adapter on the hub; downloaded if it is not in the cache.

    Raises:
        UserError: there is none, or it cannot be downloaded; the message says why and what helps.
    """
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*.tiktoken"]
    try:
        return Path(
            snapshot_download(name, revision=revision, allow_patterns=patterns, ignore_patterns=["*/*"])
        )
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
    """The weight files that transformers loads from a folder, in its order of preference.

    That is the file (or index) that `transformers_weights` of the configuration names, else `WHOLE`, else the
    files that `INDEX` lists. Other safetensors files are not read. Empty if there is none of these.

    Raises:
        UserError: the index cannot be read, or lists a file that is not there.
    """
    config = folder / "config.json"
    named = read_object(config, "configuration").get("transformers_weights") if config.is_file() else None
    for name in [str(named)] if named else [WHOLE, INDEX]:
        if Path(name).name == name and (folder / name).is_file():
            return _shards(folder / name) if name.endswith(".index.json") else [folder / name]
    return []


def _shards(index: Path) -> list[Path]:
    places = read_object(index, "index of weights").get("weight_map")
    names = set(places.values()) if isinstance(places, dict) else set()
    wrong = [name for name in names if not isinstance(name, str) or Path(name).name != name]
    if not names or wrong:
        raise UserError(f"{index} lists no weight files beside it under `weight_map`")
    absent = sorted(name for name in names if not (index.parent / name).is_file())
    if absent:
        raise UserError(
            f"{index} lists files that are not there: {listed(absent)}. Copy or download them, or remove the "
            f"index if the weights lie in {WHOLE}"
        )
    return [index.parent / name for name in sorted(names)]


def _other_weights(folder: Path) -> str:
    """Weight files that are there and are not read, for a message."""
    others = sorted(
        file.name for file in folder.iterdir() if file.suffix in (".safetensors", ".bin", ".pt", ".pth")
    )
    return f", only {listed(others)}" if others else ""


def listed(names: list[str], most: int = 3) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def first_line(error: Exception) -> str:
    """The first line of an error's text that says something, else the name of its type."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def in_a_line(error: Exception, most: int = 600) -> str:
    """All that an error says, in one line: of weights that do not fit, the first line says nothing."""
    return " ".join(str(error).split())[:most] or type(error).__name__


def hash_of(file: Path, bar: Any = None) -> str:
    """SHA-256 of a file. It is read again only if its size, its time or the file itself has changed."""
    found = file.stat()
    key = (str(file.resolve()), found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    if key not in _HASHES:
        _HASHES[key] = _hash_file(file, bar)
    elif bar is not None:
        bar.update(found.st_size)
    return _HASHES[key]


_HASHES: dict[tuple[str, int, int, int, int], str] = {}


def _hash_files(files: tuple[Path, ...]) -> str:
    size = sum(file.stat().st_size for file in files)
    with (
        progress(label="hashing weights", total=size, unit="bytes") as bar,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        hashes = list(pool.map(partial(hash_of, bar=bar), files))
    return hashes[0] if len(hashes) == 1 else _sha256("".join(hashes))


def _hash_file(file: Path, bar: Any) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
            if bar is not None:
                bar.update(len(block))
    return digest.hexdigest()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
