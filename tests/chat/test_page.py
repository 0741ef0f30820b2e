"""The page of `lens chat`: it answers this machine, and refuses everybody else."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator

import pytest

from lens_eval.chat.page import Room, Server
from lens_eval.chat.speakers import Referee, Speaker

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = Server(
        Room([Speaker("builtin", name="<b>one</b>", device="cpu")], Referee(), 24, ("en", "sw")), 0
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def call(port: int, method: str, path: str, body: str | None = None, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_an_answer_grows_and_ends_with_its_verdict(port: int) -> None:
    asked = json.dumps({"question": "Mji mkuu wa Kenya ni upi?", "language": "sw"})
    status, body = call(port, "POST", "/ask", asked, **JSON)
    pieces = [json.loads(line) for line in body.splitlines()]
    texts = [piece["text"] for piece in pieces if "text" in piece]
    assert status == 200
    assert len(texts) > 3
    assert pieces[-1]["good"] is False
    assert "off target" in pieces[-1]["verdict"]


def test_names_are_escaped_and_other_sites_refused(port: int) -> None:
    status, body = call(port, "GET", "/")
    assert status == 200
    assert "&lt;b&gt;one" in body
    assert "<b>" not in body
    assert call(port, "GET", "/", Host=f"evil.example:{port}")[0] == 403
    assert call(port, "GET", "/", Origin="http://evil.example")[0] == 403
    assert call(port, "POST", "/ask", "question=x")[0] == 400
    assert call(port, "POST", "/ask", "[]", **JSON)[0] == 400
