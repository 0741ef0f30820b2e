"""Servers of chat completions on this machine: with replies that a test makes, or of the built-in model."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from lens_eval.base import endpoint

Responder = Callable[[dict[str, Any], int], Any]


class Server:
    """A chat-completions server whose replies `respond(body, number of the request)` makes.

    It returns the text of a reply, or (status, headers, body).
    """

    def __init__(self, respond: Responder) -> None:
        self.respond = respond
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server.lock:
                    server.requests.append(body)
                    server.headers.append(dict(self.headers))
                    number = len(server.requests)
                known = self.path == "/v1/chat/completions"
                made = server.respond(body, number) if known else (404, {}, b"no such page")
                status, headers, content = made if isinstance(made, tuple) else (200, {}, completion(made))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


def serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Responder], Server]]:
    """Gives what starts servers, and closes them; who asks them waits hardly at all before another try."""
    servers: list[Server] = []
    monkeypatch.setattr(endpoint, "FIRST_WAIT", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def start(respond: Responder) -> Server:
        servers.append(Server(respond))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def completion(text: Any, ended: str = "stop", **more: Any) -> bytes:
    message = {"role": "assistant", "content": text, **more}
    usage = {"prompt_tokens": 100, "completion_tokens": 10}
    return json.dumps({"choices": [{"message": message, "finish_reason": ended}], "usage": usage}).encode()


class BuiltIn:
    """Answers as the built-in model does, greedily, up to the tokens asked for."""

    def __init__(self) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from lens_eval.mini import backbone_path

        self.tokenizer = AutoTokenizer.from_pretrained(backbone_path())
        self.model = AutoModelForCausalLM.from_pretrained(backbone_path(), dtype="float32")
        self.lock = threading.Lock()

    def __call__(self, body: dict[str, Any], _: int) -> Any:
        import torch

        text = self.tokenizer.apply_chat_template(
            body["messages"], tokenize=False, add_generation_prompt=True
        )
        ids = self.tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
        with self.lock, torch.no_grad():
            found = self.model.generate(ids, max_new_tokens=body["max_tokens"], do_sample=False)
        return self.tokenizer.decode(found[0, ids.shape[1] :], skip_special_tokens=True)
