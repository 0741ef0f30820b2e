"""Files of items found: in the folder named by LENS_DATA_DIR, or on the hub at a pinned revision."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lens_eval.base.errors import UserError
from lens_eval.tasks.families import HUB, Hub

Row = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """One place that can hold a split: files of a folder, and how to read a row from each record of them."""

    folder: str  # below LENS_DATA_DIR, or a key of HUB
    patterns: tuple[str, ...]
    read: Callable[[Sequence[Path]], list[Row]]
    hub: bool = False


DATA_DIR_VARIABLE = "LENS_DATA_DIR"


class MissingItems(UserError):
    """Items that are neither in `LENS_DATA_DIR` nor on the hub as far as it can be reached."""


def data_dir() -> Path | None:
    """Return the folder named by `LENS_DATA_DIR`, or None; raises `UserError` if there is no such folder."""
    name = os.environ.get(DATA_DIR_VARIABLE)
    if not name:
        return None
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise UserError(
            f"{DATA_DIR_VARIABLE} names {name!r}, and there is no such folder; unset it or mend it"
        )
    return folder


def fetched_folder() -> Path:
    """Return the folder that `lens fetch` writes to where `LENS_DATA_DIR` is not set."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "lens" / "data"


def find_files(place: Place) -> tuple[list[Path], str]:
    """Return the files of a place, or none and why."""
    root = data_dir()
    if not place.hub:
        if root is None:
            fetched = _match(fetched_folder() / place.folder, place)
            return fetched, "" if fetched else f"{DATA_DIR_VARIABLE} is not set"
        return _match(root / place.folder, place), f"{root} has no {place.folder}/{place.patterns[0]}"
    source = HUB[place.folder]
    if root is not None and (root / source.repo).is_dir():
        return _match(root / source.repo, place), f"{root / source.repo} has no {place.patterns[0]}"
    cached = _snapshot(source, place.patterns, local_only=True)
    files = _match(cached, place) if cached else []
    if files:
        return files, ""
    failure = _why_unreachable(source)
    if failure:
        return [], failure
    folder = _snapshot(source, place.patterns, local_only=False)
    return _match(folder, place) if folder else [], f"{source} has no {place.patterns[0]}"


def _match(folder: Path, place: Place) -> list[Path]:
    for pattern in place.patterns:
        files = sorted(folder.glob(pattern))
        if files:
            return files
    return []


def _snapshot(source: Hub, patterns: Sequence[str], local_only: bool) -> Path | None:
    """Return the folder of a hub data set's cached (or now downloaded) files, or None."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            source.repo,
            repo_type="dataset",
            revision=source.revision,
            allow_patterns=list(patterns),
            local_files_only=local_only,
        )
    except LocalEntryNotFoundError:
        return None
    return Path(folder)


_unreachable: str | None = None


def _why_unreachable(source: Hub) -> str | None:
    """Ask the hub for a revision once; return why it cannot be had, or None.

    A hub that did not answer is not asked again by this process: a group would wait for every language.
    """
    global _unreachable
    if _unreachable is None:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

        try:
            HfApi().repo_info(source.repo, repo_type="dataset", revision=source.revision, timeout=20)
        except HfHubHTTPError as error:
            return f"the hub refused {source} ({str(error).strip().splitlines()[0]})"
        except OfflineModeIsEnabled:
            _unreachable = "the hub may not be asked (HF_HUB_OFFLINE is set)"
        except Exception as error:  # requests and httpx both: huggingface_hub changed from one to the other
            _unreachable = f"the hub cannot be reached ({type(error).__name__})"
    return _unreachable
