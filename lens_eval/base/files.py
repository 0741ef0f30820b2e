"""Files: written in one step, so that a reader sees the old or the new one; hashed; a folder held alone."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from lens_eval.base.errors import UserError


def file_hash(path: Path) -> str:
    """SHA-256 over a file, or over the names and contents of the files in a folder."""
    digest = hashlib.sha256()
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        if path.is_dir():
            digest.update(file.relative_to(path).as_posix().encode() + b"\0")
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process. The kernel drops the lock when the process ends, however it ends.

    Raises:
        UserError: another process holds it.
    """
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"another run is at work in {folder} ({_holder(stream)}); wait, or name another --output"
            ) from error
        stream.truncate(0)
        stream.write(f"process {os.getpid()} on {platform.node()}\n")
        stream.flush()
        yield


def _holder(stream: IO[str]) -> str:
    stream.seek(0)
    return stream.read().strip() or "unknown process"


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """A place beside `path` to write a file at; what is there at the end of the block gets its name.

    It is on the disk by then: a reader sees the old file or the new one. If the block fails, it is removed.
    """
    aside = path.with_name(path.name + ".partial")
    try:
        yield aside
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def write_json(path: Path, document: Any) -> None:
    """Write JSON in one step."""
    write_text(path, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str, errors: str = "strict") -> None:
    """Write a text file in one step; `errors` says what becomes of what UTF-8 cannot hold."""
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8", errors=errors)


def free_bytes(path: Path) -> int:
    """Free room on the disk where `path` is or would be."""
    return shutil.disk_usage(_there(path)).free


def _there(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    place = path.absolute()
    return next(each for each in (place, *place.parents) if each.exists())


def need_disk(
    output: Path,
    size: int,
    advice: str = "make room, name a folder on another disk, or write a delta only (--delta)",
) -> None:
    """Refuse to begin what the disk cannot hold; `advice` says what to do then.

    Raises:
        UserError: less free room than `size` bytes and a little more.
    """
    free, place = free_bytes(output), _there(output)
    if free < size * 1.02 + (1 << 20):
        raise UserError(
            f"{output} needs {size / 1e9:.2f} GB on disk, {free / 1e9:.2f} GB are free at {place}; {advice}"
        )
