"""A hub on this machine: real repositories of files, as huggingface_hub asks for them over HTTP."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(http.server.ThreadingHTTPServer):
    """Serves the folders `repos`: `models/ORG/NAME` or `datasets/ORG/NAME` -> folder; counts requests."""

    def __init__(self, repos: Mapping[str, Path]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos = repos
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        path = urllib.parse.unquote(self.path.partition("?")[0])
        self.server.asked.append(path)
        for name, folder in self.server.repos.items():
            kind, repo = name.split("/", 1)
            files = f"/{repo}/resolve/" if kind == "models" else f"/{name}/resolve/"
            if path.startswith(f"/api/{name}/tree/"):
                self._json([self._entry(folder, file) for file in _files(folder)])
                return
            if path.startswith(f"/api/{name}"):
                siblings = [{"rfilename": file.relative_to(folder).as_posix()} for file in _files(folder)]
                self._json({"id": repo, "sha": COMMIT, "siblings": siblings})
                return
            if path.startswith(files):
                self._file(folder / path.removeprefix(files).split("/", 1)[1])
                return
        self._send(404, b"", {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET

    def _entry(self, folder: Path, file: Path) -> dict[str, object]:
        name = file.relative_to(folder).as_posix()
        oid = hashlib.sha1(file.read_bytes(), usedforsecurity=False).hexdigest()
        return {"type": "file", "path": name, "size": file.stat().st_size, "oid": oid}

    def _json(self, document: object) -> None:
        self._send(200, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def _file(self, file: Path) -> None:
        if not file.is_file():
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        content = file.read_bytes()
        etag = hashlib.sha256(content).hexdigest()
        self._send(200, content, {"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"'})

    def _send(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving(repos: Mapping[str, Path]) -> Iterator[Hub]:
    """A hub at work meanwhile."""
    with Hub(repos) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        yield hub
        hub.shutdown()
