"""Files: written in one step, so that a reader sees the old or the new one; hashed; a folder held alone."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from lens_eval.base.errors import UserError
from lens_eval.base.redaction import hide

LOCK = ".lock"
PARTIAL = ".partial"
_LONGEST_NAME = 255
LONGEST_PART = 160
"""Bytes of a name that becomes part of a file name: the rest is for a time and an ending."""


def file_hash(path: Path) -> str:
    """SHA-256 over a file, or over the names and contents of the files in a folder."""
    digest = hashlib.sha256()
    inside = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else []
    files = inside if path.is_dir() else [path]
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
        UserError: another process holds it, or the folder cannot be written.
    """
    import fcntl

    made = [part for part in (folder, *folder.parents) if not part.exists()]
    file = folder / LOCK
    while True:
        make_folder(folder)  # anew each time round: its last holder may have removed it
        with _owned(file, os.O_RDWR | os.O_CREAT) as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise UserError(
                    f"another run is at work in {folder} ({_holder(stream)}); wait, or name another --output"
                ) from error
            if not _is_still(file, stream):  # its last holder has just removed it
                continue
            stream.truncate(0)
            stream.write(f"process {os.getpid()} on {platform.node()}\n")
            stream.flush()
            try:
                yield
            finally:
                file.unlink(missing_ok=True)
                _remove_empty(made)
            return


def _remove_empty(folders: Sequence[Path]) -> None:
    """Remove folders, the deepest first, as far as they hold nothing: a refused run leaves none behind."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


def _is_still(file: Path, stream: IO[str]) -> bool:
    try:
        there, held = file.lstat(), os.fstat(stream.fileno())
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)


def _holder(stream: IO[str]) -> str:
    stream.seek(0)
    return stream.read().strip() or "unknown process"


def _owned(path: Path, flags: int) -> IO[str]:
    """Open a text file to write without following a link.

    Raises:
        UserError: the path is a symbolic link.
    """
    try:
        return os.fdopen(os.open(path, flags | os.O_NOFOLLOW, 0o666), "r+", encoding="utf-8")
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UserError(f"{path} is a symbolic link; remove it, nothing is written through it") from None
        raise


def make_folder(folder: Path, below: Path | None = None) -> Path:
    """Make a folder; `below` names the folder of the run, inside of which no symbolic link is followed.

    Raises:
        UserError: a part of the path below `below` is a symbolic link, or a part is a file.
    """
    if below is not None:
        parts = [folder, *folder.parents]
        for part in parts[: len(folder.parts) - len(below.parts)]:
            if part.is_symlink():
                raise UserError(f"{part} is a symbolic link; remove it, nothing is written through it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"cannot make the folder {folder}: a file is in its place; name another") from None
    except OSError as error:
        raise UserError(f"cannot make the folder {folder}: {error.strerror}") from error
    return folder


def require_folder(folder: Path) -> None:
    """Refuse a folder that could not be made or written, without making it.

    Raises:
        UserError: a file is in its place, or what is there may not be written.
    """
    there = _there(folder)
    if not there.is_dir():
        raise UserError(f"cannot make the folder {folder}: {there} is a file; name another")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"cannot make the folder {folder}: {there} may not be written; name another")


def is_leftover(path: Path) -> bool:
    """Whether a path is what a killed command leaves before its first result: locks, half-written files, and
    folders that hold nothing else."""
    if path.is_dir() and not path.is_symlink():
        return path.name.endswith(PARTIAL) or all(is_leftover(inner) for inner in path.iterdir())
    return path.name == LOCK or path.name.endswith(PARTIAL)


def holds_nothing(folder: Path) -> bool:
    """Whether a folder is absent, empty, or holds only what a killed command left."""
    return not folder.exists() or (folder.is_dir() and all(is_leftover(path) for path in folder.iterdir()))


def plain_name(name: str, what: str) -> str:
    """The name of a task or model that becomes part of a file name.

    Raises:
        UserError: it would leave the folder, or no file can be called so.
    """
    if name in ("", ".", "..") or any(sign in "/\\" or not sign.isprintable() for sign in name):
        raise UserError(f"{what} is called {name!r}, which cannot be part of a file name")
    if len(os.fsencode(name)) > LONGEST_PART:
        raise UserError(f"{what} is called {name[:40]!r}..., which is too long for a part of a file name")
    return name


def check_outputs(outputs: Sequence[Path | None], inputs: Sequence[str | Path] = ()) -> None:
    """Refuse output files that could not be written, before any work.

    Raises:
        UserError: two outputs of one name, an output that is an input, a device, a folder, or cannot be
            written.
    """
    named = [path for path in outputs if path is not None]
    for place, path in enumerate(named):
        if any(_same(path, other) for other in named[:place]):
            raise UserError(f"{path} is named for two outputs; name two files")
        if len(os.fsencode(path.name)) > _LONGEST_NAME:
            raise UserError(f"cannot write {path}: the name is too long")
        for given in inputs:
            if _same(path, Path(given)):
                raise UserError(f"{path} is an input; name another output")
        _check_target(path)
        need_disk(path, 0, "make room, or name a file on another disk")
        try:
            with written_aside(path, keep=False) as aside:
                aside.touch()
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def _same(one: Path, other: Path) -> bool:
    if one.absolute() == other.absolute() or os.path.realpath(one) == os.path.realpath(other):
        return True
    try:
        return one.samefile(other)
    except OSError:
        return False


def _is_of_the_system(path: Path) -> bool:
    """Whether a path names a place of the system: `/dev/stdout` is a link to a file if it is redirected."""
    parts = Path(os.path.normpath(path.absolute())).parts[1:3]
    return parts[:1] in (("dev",), ("proc",), ("sys",)) and parts != ("dev", "shm")


def _check_target(path: Path) -> None:
    if _is_of_the_system(path):
        raise UserError(f"cannot write {path}: it is no ordinary file")
    if path.is_dir():
        raise UserError(f"cannot write {path}: it is a folder; name a file")
    if os.path.lexists(path) and not path.is_symlink() and not path.is_file():
        raise UserError(f"cannot write {path}: it is no ordinary file")
    if path.is_symlink() and path.exists() and not path.is_file():
        raise UserError(f"cannot write {path}: it names no ordinary file")
    if not path.absolute().parent.is_dir():
        raise UserError(f"cannot write {path}: there is no folder {path.parent}")


@contextmanager
def written_aside(path: Path, keep: bool = True) -> Iterator[Path]:
    """A place beside `path` to write a file at; what is there at the end of the block gets its name.

    It is on the disk by then: a reader sees the old file or the new one. If the block fails, it is removed.
    A symbolic link in either place is replaced, never written through.

    Args:
        keep: False only tries whether the file could be written.

    Raises:
        UserError: `path` is a device or a folder.
    """
    if path.is_dir() or (path.exists() and not path.is_file()) or _is_of_the_system(path):
        raise UserError(f"cannot write {path}: it is no ordinary file")
    aside = path.with_name(path.name + PARTIAL)
    if len(os.fsencode(aside.name)) > _LONGEST_NAME >= len(os.fsencode(path.name)):
        aside = path.with_name(hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16] + PARTIAL)
    aside.unlink(missing_ok=True)
    os.close(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666))
    try:
        yield aside
        if not keep:
            aside.unlink()
            return
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def append_text(path: Path, text: str) -> None:
    """Add text to a file in one write: a kill leaves it whole, or a piece of it. No link is followed.

    Raises:
        UserError: the path is a symbolic link.
    """
    with _owned(path, os.O_RDWR | os.O_APPEND | os.O_CREAT) as stream:
        data = memoryview(hide(text).encode("utf-8", "replace"))
        while data:
            data = data[os.write(stream.fileno(), data) :]
        os.fsync(stream.fileno())


def write_json(path: Path, document: Any) -> None:
    """Write JSON in one step."""
    write_text(path, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str, errors: str = "strict") -> None:
    """Write a text file in one step, without secrets.

    Args:
        errors: what becomes of what UTF-8 cannot hold.
    """
    with written_aside(path) as aside:
        aside.write_text(hide(text), encoding="utf-8", errors=errors)


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
