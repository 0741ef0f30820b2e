"""The page of `lens chat`: it answers this machine, and refuses everybody else."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import browser
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


@pytest.mark.skipif(
    browser.find() is None, reason="no Chromium on PATH (Debian: apt-get install -y chromium)"
)
def test_a_question_asked_on_the_page_is_answered_there_with_its_verdict(port: int, tmp_path: Path) -> None:
    program = browser.find()
    assert program is not None
    chromium = browser.Browser(program, tmp_path / "profile")
    texts = "[...e.querySelectorAll('p')].map(p => p.textContent)"
    seen = f"[...document.querySelectorAll('.round')].map(e => {texts})"
    try:
        chromium.open(f"http://127.0.0.1:{port}/", width=390)
        assert chromium.run("document.documentElement.scrollWidth") == 390
        assert chromium.run(seen) == []
        for question, language in (
            ("Mji mkuu wa Kenya ni upi?", "sw"),
            ("<img src=x onerror='window.hits=1'>", "en"),
        ):
            chromium.run(f"document.getElementById('language').value = '{language}'")
            chromium.run("document.getElementById('question').focus()")
            chromium.call("Input.insertText", text=question)
            chromium.click("#ask button")
            chromium.run(
                "new Promise(done => { const wait = () => document.querySelector('#ask').dataset.busy"
                " ? setTimeout(wait, 50) : done(); setTimeout(wait, 50); })"
            )
        (asked, who, answer, verdict), (hostile, *_) = chromium.run(seen)
        assert (asked, who) == ("Mji mkuu wa Kenya ni upi?", "<b>one</b>")
        assert answer not in ("", "…")
        assert "off target" in verdict
        assert hostile.startswith("<img")
        assert chromium.run("window.hits") is None
        assert chromium.complaints() == []
    finally:
        chromium.close()
