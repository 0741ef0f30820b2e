"""Data that is on no hub, downloaded once, checked by its hash and unpacked where tasks look for it."""

from __future__ import annotations

import hashlib
import io
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

from lens_eval.base.errors import UserError
from lens_eval.base.files import need_disk, require_folder, written_aside
from lens_eval.tasks.families import LCB_FAMILIES

LARGEST = 64 << 20
"""Bytes of an archive."""
SECONDS = 600
"""For a download."""
_COMMIT = "0cfdbb4a64502648938c456b2fa9689968f22298"


@dataclass(frozen=True)
class Archive:
    """A zip file: where it is, the SHA-256 of its bytes, its folder, and the files wanted of it."""

    url: str
    sha256: str
    folder: str
    files: tuple[str, ...]


def _lcb_file(family: str, language: str) -> str:
    _, setting, source = family.split("_", 2)
    return f"test_sets/{setting}/{source}/{language}.csv"


ARCHIVES = {
    "lens_lcb": Archive(
        f"https://raw.githubusercontent.com/for-ai/language-confusion/{_COMMIT}/test_sets.zip",
        "3425337489fa65ff15d977e981e9748c86ce8e88ef0f4457ecdb4a65d8702712",
        "lcb",
        tuple(_lcb_file(family, code) for family, codes in LCB_FAMILIES.items() for code in codes.split()),
    )
}


def fetch(archive: Archive, root: Path) -> Path:
    """Download an archive and write its wanted files below `root`; return their folder.

    Files that are there already with other contents are not touched.

    Raises:
        UserError: no answer from the server, another hash than the one known, a file that is missing from the
            archive, or one below `root` that differs.
    """
    import requests

    folder = root / archive.folder
    require_folder(folder)
    try:
        content = _download(archive.url)
    except requests.RequestException as error:
        raise UserError(
            f"{archive.url} cannot be had ({type(error).__name__}); download it elsewhere, and unpack it "
            f"into {root / archive.folder}"
        ) from None
    found = hashlib.sha256(content).hexdigest()
    if found != archive.sha256:
        raise UserError(f"{archive.url} has SHA-256 {found}, not {archive.sha256}; nothing was written")
    return _unpack(archive, content, folder)


def _download(url: str) -> bytes:
    """What lies at an address, within `LARGEST` bytes and `SECONDS`."""
    import requests

    found, end = bytearray(), time.monotonic() + SECONDS
    with requests.get(url, timeout=60, stream=True) as answer:
        answer.raise_for_status()
        for block in answer.iter_content(1 << 10):
            found += block
            if len(found) > LARGEST:
                raise UserError(f"{url} sends more than {LARGEST >> 20} MB; nothing was written")
            if time.monotonic() > end:
                raise requests.Timeout("timed out")
    return bytes(found)


def _unpack(archive: Archive, content: bytes, folder: Path) -> Path:
    with zipfile.ZipFile(io.BytesIO(content)) as zipped:
        names = set(zipped.namelist())
        missing = [name for name in archive.files if name not in names]
        if missing:
            raise UserError(f"{archive.url} lacks {missing[0]}; nothing was written")
        contents = {folder / name: zipped.read(name) for name in archive.files}
    for path, text in contents.items():
        if path.exists() and path.read_bytes() != text:
            raise UserError(f"{path} differs from the downloaded one; move it away, then run this again")
    need_disk(folder, sum(map(len, contents.values())), "make room, or name another --output")
    for path, text in contents.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_aside(path) as aside:
            aside.write_bytes(text)
    return folder
