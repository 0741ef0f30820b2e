"""The cache of converted GGUF files: written once, reused by later runs, written again if a file changed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lens_eval.base.errors import UserError
from lens_eval.base.files import file_hash, write_json
from lens_eval.base.identity import key_of, versions_of
from lens_eval.base.reading import read_object, shaped
from lens_eval.base.terminal import say

if TYPE_CHECKING:
    from lens_train.gguf.architecture import Source
    from lens_train.gguf.header import Header

FORMAT = 1
"""Version of the conversion; a new number makes every file be converted again."""
RECORD = "gguf.record"
"""JSON, written last: a folder without it is not finished. Variants do not copy files with this suffix."""
NAME_HEX = 12
WHAT = "GGUF file of a model that can be converted"
LONGEST_STEM = 60
"""Characters of the file's name in that of its folder; a name can have 255 bytes in all."""


def cache_folder() -> Path:
    """`$LENS_CACHE`, else the folder `lens` in the machine's cache (`$XDG_CACHE_HOME` or `~/.cache`)."""
    given = os.environ.get("LENS_CACHE")
    if given:
        return Path(given).expanduser() / "gguf"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "lens" / "gguf"


def converted(file: Path) -> Path | None:
    """The finished folder of a file; None if the file is not converted yet. No file is hashed."""
    known = _known_hash(file) if file.is_file() else None
    if known is None:
        return None
    folder = _folder(file, known)
    return folder if _is_finished(folder, known) else None


def model_folder(file: Path) -> Path:
    """The transformers folder of a file; the file is converted on first use.

    Raises:
        UserError: the file is missing, damaged or not supported, the disk is full, or `gguf` is not
            installed.
    """
    from lens_train.gguf.convert import prepare
    from lens_train.gguf.header import read_header

    folder = converted(file)
    if folder is not None:
        return folder
    header = read_header(file)
    with shaped(file, WHAT):
        prepared = prepare(header)
    with _alone(), shaped(file, WHAT):
        digest = _hash(file)
        folder = _folder(file, digest)
        if not _is_finished(folder, digest):  # it may be finished under another name, or by another process
            _convert(header, *prepared, digest, folder)
    return folder


def _convert(header: Header, config: Any, found: list[Source], digest: str, folder: Path) -> None:
    from lens_eval.base.files import need_disk
    from lens_train.gguf.convert import convert, size_of, stored_dtype

    dtype = stored_dtype(header)
    kind, size, name = str(dtype).removeprefix("torch."), size_of(found, dtype), header.file.name
    need_disk(folder, size, "make room, or name a cache on another disk: export LENS_CACHE=FOLDER")
    say(
        f"lens: {name} ({header.size / 1e6:.0f} MB) is converted once, "
        f"to {kind} ({size / 1e6:.0f} MB) in {folder}",
        err=True,
    )
    aside = folder.with_name(folder.name + ".partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    convert(header, config, found, dtype, aside)
    record = {
        "format": FORMAT,
        "name": name,
        "sha256": digest,
        "architecture": header.architecture,
        "dtype": kind,
        "files": {made.name: made.stat().st_size for made in sorted(aside.iterdir())},
        "versions": versions_of(("gguf", "transformers", "torch")),
    }
    write_json(aside / RECORD, record)
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)


def _folder(file: Path, digest: str) -> Path:
    return cache_folder() / f"{file.stem[:LONGEST_STEM]}-{digest[:NAME_HEX]}"


def _is_finished(folder: Path, digest: str) -> bool:
    """Whether the folder is complete and was made from this file by this version."""
    try:
        record = read_object(folder / RECORD, "record of a conversion")
        with shaped(folder / RECORD, "record of a conversion"):
            whole = all((folder / name).stat().st_size == size for name, size in record["files"].items())
    except (OSError, UserError):
        return False
    return whole and record.get("sha256") == digest and record.get("format") == FORMAT


def _hash(file: Path) -> str:
    """SHA-256 of a file; computed again only if its size, time or place on disk changed."""
    known = _known_hash(file)
    if known is None:
        known = file_hash(file)
        note = _note(file)
        note.parent.mkdir(parents=True, exist_ok=True)
        write_json(note, {**_stamp(file), "sha256": known})
    return known


def _known_hash(file: Path) -> str | None:
    try:
        note = read_object(_note(file), "note of a hash")
    except UserError:
        return None
    known = note.pop("sha256", None)
    return known if isinstance(known, str) and note == _stamp(file) else None


def _note(file: Path) -> Path:
    return cache_folder() / "files" / f"{key_of({'path': str(file.resolve())})[:32]}.json"


def _stamp(file: Path) -> dict[str, Any]:
    facts = file.stat()
    return {
        "path": str(file.resolve()),
        "bytes": facts.st_size,
        "time": facts.st_mtime_ns,
        "inode": facts.st_ino,
    }


@contextmanager
def _alone() -> Iterator[None]:
    """Wait until no other process converts. The kernel frees the lock whenever its holder ends.

    Raises:
        UserError: the cache cannot be written.
    """
    import fcntl

    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / ".lock").open("a")
    except OSError as error:
        raise UserError(
            f"cannot write to the cache {folder} ({error.strerror}); name another: export LENS_CACHE=FOLDER"
        ) from None
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("lens: waiting for another process that converts a GGUF file", err=True)
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield
