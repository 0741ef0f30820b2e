"""`lens fetch`: an archive from a real server, its hash, and what is refused."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from lens_eval.base.errors import UserError
from lens_eval.tasks import fetch as fetching
from lens_eval.tasks.fetch import ARCHIVES, Archive, fetch
from lens_eval.tasks.items import load_split


def zipped(files: dict[str, str]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return stream.getvalue()


NAME = "test_sets/monolingual/dolly/ru.csv"
CONTENT = zipped({NAME: "prompt,source,language\nПочему?,dolly,ru\n", "../outside.txt": "never"})


@pytest.fixture
def archive() -> Iterator[Archive]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/a.zip" else 404)
            self.end_headers()
            self.wfile.write(CONTENT)

        def log_message(self, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/a.zip"
    yield Archive(address, hashlib.sha256(CONTENT).hexdigest(), "lcb", (NAME,))
    server.shutdown()


def test_what_is_fetched_is_what_tasks_find(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LENS_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    root = tmp_path / "lens" / "data"
    with pytest.raises(UserError, match="lens fetch lens_lcb"):  # the control
        load_split("lcb_monolingual_dolly", "ru", "test")
    assert fetch(archive, root) == root / "lcb"
    assert fetch(archive, root) == root / "lcb"  # again: nothing differs
    assert [row["question"] for row in load_split("lcb_monolingual_dolly", "ru", "test").rows] == ["Почему?"]
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["ru.csv"]


def test_another_hash_is_refused(archive: Archive, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing was written"):
        fetch(replace(archive, sha256="0" * 64), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_page_is_one_line(archive: Archive, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be had"):
        fetch(replace(archive, url=archive.url + "x"), tmp_path)


def test_a_file_of_the_user_is_kept(archive: Archive, tmp_path: Path) -> None:
    own = tmp_path / "lcb" / NAME
    own.parent.mkdir(parents=True)
    own.write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="differs"):
        fetch(archive, tmp_path)
    assert own.read_text(encoding="utf-8") == "mine"


def test_the_archive_of_lcb_names_every_file() -> None:
    assert len(ARCHIVES["lens_lcb"].files) == len(set(ARCHIVES["lens_lcb"].files)) == 66


def test_the_archive_of_lcb_names_the_published_files(shared: Path) -> None:
    folder = shared / "data" / "lcb"
    published = {path.relative_to(folder).as_posix() for path in folder.rglob("*.csv")}
    assert set(ARCHIVES["lens_lcb"].files) == published


def test_too_large_a_download_is_given_up(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "LARGEST", 10)
    with pytest.raises(UserError, match="sends more than"):
        fetch(archive, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_refused_before_the_download(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="is a file"):
        fetch(replace(ARCHIVES["lens_lcb"], url="http://127.0.0.1:9/a.zip"), tmp_path / "file")
