"""Answers side by side on a local web page: one process, on the loopback interface alone.

The page asks nobody else: style and script come with it. What models and users write is set as text, never as
HTML. A request is refused if its `Host` is not this server's (another site's name that resolves to this
machine), or if a question does not come as JSON (a form on another site cannot send that without asking).
"""

from __future__ import annotations

import html
import json
import threading
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any

from lens_eval.base import reading
from lens_eval.base.errors import UserError
from lens_eval.chat.speakers import Question, Referee, Speaker, language_name
from lens_eval.language.languages import normalise_code

HOST = "127.0.0.1"
LONGEST = 100_000
"""Bytes of the largest question that is read."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
STATIC = {"/chat.css": "text/css", "/chat.js": "text/javascript"}


class Room:
    """The models of a page and who may speak: one question is answered at a time."""

    def __init__(
        self,
        speakers: Sequence[Speaker],
        referee: Referee,
        max_new_tokens: int,
        languages: Sequence[str] = (),
    ) -> None:
        self.speakers, self.referee, self.max_new_tokens = speakers, referee, max_new_tokens
        self.languages = tuple(languages)
        self.turn = threading.Lock()

    def page(self) -> str:
        """The page as HTML."""
        options = "".join(
            f'<option value="{html.escape(code)}">{html.escape(language_name(code))}</option>'
            for code in self.languages
        )
        columns = "".join(
            f'<section class="model"><h2>{html.escape(speaker.name)}</h2></section>'
            for speaker in self.speakers
        )
        source = (files("lens_eval.chat") / "chat.html").read_text(encoding="utf-8")
        return source.replace("<!-- languages -->", options).replace("<!-- models -->", columns)

    def question(self, asked: Any) -> Question:
        """The question of a request.

        Raises:
            UserError: it holds none, or names an unknown language.
        """
        text = asked.get("question") if isinstance(asked, dict) else None
        if not isinstance(text, str) or not text.strip():
            raise UserError("the question is empty")
        code = asked.get("language") or self.referee.language_of(text)
        return Question(text.strip(), normalise_code(str(code)))


class Server(ThreadingHTTPServer):
    """The page's server; `port` 0 takes a free one."""

    daemon_threads = True

    def __init__(self, room: Room, port: int) -> None:
        """Listen on the loopback interface.

        Raises:
            UserError: the port is taken.
        """
        self.room = room
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise UserError(
                f"cannot listen on port {port}: {error.strerror}; name another with --port"
            ) from None

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self.server_port}/"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        if not self._ours():
            return
        path = self.path.partition("?")[0]
        if path == "/":
            self._send(self.server.room.page().encode(), "text/html; charset=utf-8")
        elif path in STATIC:
            content = (files("lens_eval.chat") / path[1:]).read_bytes()
            self._send(content, f"{STATIC[path]}; charset=utf-8")
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "no such page")

    def do_POST(self) -> None:
        if not self._ours():
            return
        size = self.headers.get("Content-Length", "")
        kind = self.headers.get("Content-Type", "").partition(";")[0].strip()
        if self.path != "/ask" or kind != "application/json":
            self._refuse(HTTPStatus.BAD_REQUEST, "ask as JSON at /ask")
        elif not (size.isascii() and size.isdigit()) or int(size) > LONGEST:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the question is too long")
        else:
            self._read_and_answer(int(size))

    def _read_and_answer(self, size: int) -> None:
        try:
            asked = reading.parse_json(reading.text(self.rfile.read(size), "it"), "it")
            question = self.server.room.question(asked)
        except UserError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
        else:
            self._answer(question)

    def _answer(self, question: Question) -> None:
        """A line of JSON per piece of an answer; the answers end when the reader has gone."""
        room = self.server.room
        self.send_response(HTTPStatus.OK)
        self._headers("application/x-ndjson; charset=utf-8")
        with room.turn:
            gone = not self._line({"language": question.language, "name": language_name(question.language)})
            for at, speaker in enumerate(room.speakers):
                if gone:
                    return

                def grow(text: str, at: int = at) -> bool:
                    return not self._line({"model": at, "text": text})

                try:
                    text, cut = speaker.answer(question, grow, room.max_new_tokens)
                except UserError as error:
                    gone = not self._line({"model": at, "text": "", "verdict": str(error), "good": False})
                    continue
                answer = room.referee.judge(speaker.name, question, text, cut)
                said = {"model": at, "text": text, "verdict": answer.verdict, "good": answer.good}
                gone = not self._line(said)

    def _line(self, piece: dict[str, Any]) -> bool:
        """Send one line; false if the reader has gone."""
        try:
            self.wfile.write(json.dumps(piece, ensure_ascii=False).encode(errors="replace") + b"\n")
            self.wfile.flush()
        except OSError:
            return False
        return True

    def _ours(self) -> bool:
        """Whether the request is meant for this server; otherwise it is refused."""
        own = {f"{name}:{self.server.server_port}" for name in (HOST, "localhost")}
        origin = self.headers.get("Origin")
        if self.headers.get("Host") in own and (origin is None or origin.removeprefix("http://") in own):
            return True
        self._refuse(HTTPStatus.FORBIDDEN, "this page is for this machine only")
        return False

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self._send(why.encode(), "text/plain; charset=utf-8", status)

    def _send(self, content: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self._headers(kind)
        self.wfile.write(content)

    def _headers(self, kind: str) -> None:
        self.send_header("Content-Type", kind)
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged."""
