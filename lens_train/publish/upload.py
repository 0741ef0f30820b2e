"""A variant folder to the hub: exactly the files that a user of it needs, none that tells of this machine.

What goes is chosen by name, so that a file nobody thought of stays. Small files go without local paths; the
weights go as they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lens_eval.base.errors import UserError
from lens_eval.base.reading import read_json, read_text
from lens_eval.base.redaction import hide
from lens_train.checkpoint import ADAPTER_CONFIG, INDEX, TOKENIZER_FILES, weight_files
from lens_train.decoding.decoding import FILE as DECODING
from lens_train.export import DELTA
from lens_train.job import VARIANT_FILE, Variant
from lens_train.loading import ADAPTER_WEIGHTS
from lens_train.local_paths import is_local, last_part, without_paths
from lens_train.publish.base_files import CARD, licence_files, licence_of
from lens_train.publish.card import compose, load_variant
from lens_train.publish.front_matter import read_card
from lens_train.steering.steering import RECORD, TENSORS

_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_NAMES = ("_name_or_path", "name_or_path", "base_model_name_or_path")
"""Fields of configurations in which libraries note where a model was loaded from."""
_SHORTEST = 5


@dataclass(frozen=True)
class Upload:
    """A file that goes: its name there, and its bytes or where they lie."""

    name: str
    content: Path | bytes

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size


@dataclass(frozen=True)
class Plan:
    """What `lens push` would do: files that go, and names that stay."""

    repo: str
    files: tuple[Upload, ...]
    stays: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of all files that go."""
        return sum(file.size for file in self.files)


def plan(folder: Path, repo: str, base: str | None = None) -> Plan:
    """Choose what goes to the hub.

    Args:
        repo: `owner/name`.
        base: hub id of the base, if the variant knows it by a path.

    Raises:
        UserError: no variant or no card in the folder, a name that is none, an adapter or another part that
            names its base by a path, or a file that holds a path of this machine all the same.
    """
    for what, name in (("repository", repo), ("base", base)):
        if name is not None and not _REPO.fullmatch(name):
            raise UserError(f"the {what} is called {name!r}; on the hub it is OWNER/NAME")
    variant = load_variant(folder)
    if not (folder / CARD).is_file():
        raise UserError(f"{folder} has no model card; lens card {folder} writes one")
    if variant.kind != "checkpoint" and base is None and is_local(variant.base["name"]):
        raise UserError(
            f"this {variant.kind} needs its base, which it knows by the path {variant.base['name']}; "
            "say what that is on the hub: --base OWNER/NAME"
        )
    files = tuple(_uploads(folder, variant, repo, base))
    for file in files:
        if isinstance(file.content, bytes):
            _require_no_path(file, folder)
    going = {file.name for file in files}
    inside = (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file())
    return Plan(repo, files, tuple(name for name in inside if name not in going))


def push(chosen: Plan, private: bool = False) -> str:
    """Make the repository where there is none, and put the files there in one commit; returns its address.

    Raises:
        UserError: the hub refuses or cannot be reached; says why and what helps.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    hub = HfApi()
    operations = [
        CommitOperationAdd(file.name, file.content if isinstance(file.content, bytes) else str(file.content))
        for file in chosen.files
    ]
    try:
        hub.create_repo(chosen.repo, private=private, exist_ok=True)
        done = hub.create_commit(chosen.repo, operations, commit_message="Upload by lens push")
    except OfflineModeIsEnabled:
        raise UserError("HF_HUB_OFFLINE is set, so the hub cannot be asked; unset it") from None
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        help_ = "; `hf auth login` with a token that may write" if status in (401, 403) else ""
        raise UserError(f"the hub refused {chosen.repo}: {str(error).splitlines()[0]}{help_}") from None
    except OSError as error:
        raise UserError(f"the hub cannot be reached: {' '.join(str(error).split())[:200]}") from None
    return str(done.commit_url)


def _uploads(folder: Path, variant: Variant, repo: str, base: str | None) -> Iterator[Upload]:
    old = read_card(read_text(folder / CARD))
    yield Upload(CARD, compose(variant, repo, licence_of(folder), old, base=base).write().encode())
    record = read_json(folder / VARIANT_FILE)
    if base is not None:
        record["base"]["name"] = base
    yield Upload(VARIANT_FILE, _json(without_paths(record)))
    for file in licence_files(folder):
        yield Upload(file.name, file.read_bytes())
    settings = ["config.json", "generation_config.json", *TOKENIZER_FILES, ADAPTER_CONFIG, INDEX, RECORD]
    for name in settings:
        if (folder / name).is_file():
            yield Upload(name, _settings(folder / name, base))
    for path in sorted(folder.glob("additional_chat_templates/*.jinja")):
        yield Upload(path.relative_to(folder).as_posix(), path.read_bytes())
    weights = weight_files(folder) if variant.kind == "checkpoint" else []
    weights += [folder / name for name in (ADAPTER_WEIGHTS, DELTA, TENSORS, DECODING)]
    for file in dict.fromkeys(weights):
        if file.is_file():
            yield Upload(file.name, file)


def _settings(file: Path, base: str | None) -> bytes:
    """A small file; of a configuration, without where the model was loaded from."""
    if file.name == RECORD:
        return _json(without_paths(read_json(file)))
    if file.suffix != ".json" or file.name in ("tokenizer.json", "vocab.json", INDEX):
        return file.read_bytes()
    document = read_json(file)
    if not isinstance(document, dict) or not any(is_local(str(document.get(name, ""))) for name in _NAMES):
        return file.read_bytes()
    return _json({name: _named(name, value, base) for name, value in document.items()})


def _named(name: str, value: Any, base: str | None) -> Any:
    if name not in _NAMES or not isinstance(value, str) or not is_local(value):
        return value
    return base or last_part(value)


def _json(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False, sort_keys=True) + "\n").encode()


def _require_no_path(file: Upload, folder: Path) -> None:
    """Refuse a file that holds a path of this machine, or a secret.

    Raises:
        UserError: names the file and the path.
    """
    assert isinstance(file.content, bytes)
    if file.name in ("tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "tokenizer.model"):
        return  # words, among which there are names of folders
    text = file.content.decode("utf-8", "replace")
    here = {str(path) for path in (Path.home(), Path.cwd(), folder.resolve(), folder.resolve().parent)}
    for path in sorted(here, key=len, reverse=True):
        if len(path) >= _SHORTEST and path in text:
            raise UserError(
                f"{folder / file.name} holds a path of this machine ({path}); take it out, then push again"
            )
    if hide(text) != text:
        raise UserError(f"{folder / file.name} holds a secret (a token or a password); take it out first")
