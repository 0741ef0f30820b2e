"""Secrets and the words of strangers: what reaches no file, no page and no terminal."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import tiny_lens
from hostile_inputs import write_judged
from in_process import inside, lens
from lm_eval_files import write_results

from lens_eval.base import redaction

SECRET = "geheim-4711"
HOSTILE = '\x1b[2J\x9b[red]x[/nope]![x](http://a)|`y`<b>\\label{z}\r=HYPERLINK("b")'


@pytest.fixture(autouse=True)
def _own_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_noted", set())


def _everything(folder: Path) -> str:
    files = (file for file in folder.rglob("*") if file.is_file())
    return "".join(file.read_bytes().decode("utf-8", "replace") for file in files)


@pytest.fixture
def echo() -> Iterator[str]:
    """A server that breaks, and says what it was sent and a bit of terminal."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            said = f"\x1b[31m no: {self.headers.get('Authorization')}".encode()
            self.send_response(400)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()


@pytest.mark.parametrize("key", [SECRET, f"{SECRET}\r", f"\t{SECRET}\n", f"{SECRET}\rmore-of-it"])
@pytest.mark.parametrize("traceback", ["", "1"])
def test_a_key_is_shown_nowhere(
    tmp_path: Path, echo: str, monkeypatch: pytest.MonkeyPatch, key: str, traceback: str
) -> None:
    monkeypatch.setenv("JUDGE_API_KEY", key)
    monkeypatch.setenv("LENS_TRACEBACK", traceback)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    write_judged(tmp_path / "answers")
    options = ["--model", "other", "--retries", "0", "--key-variable", "JUDGE_API_KEY"]
    done = lens("judge", tmp_path / "answers", "--endpoint", echo, *options)
    done.require_words()
    assert done.status in (1, 2), done
    assert SECRET not in done.out + done.err + _everything(tmp_path)


@pytest.mark.parametrize(
    "endpoint", [f"me:{SECRET}@host/v1", f"ftp://me:{SECRET}@host", f"http://me:{SECRET}@127.0.0.1:9/v1"]
)
def test_a_password_in_an_address_is_not_shown(tmp_path: Path, endpoint: str) -> None:
    write_judged(tmp_path / "answers")
    done = lens("judge", tmp_path / "answers", "--endpoint", endpoint, "--model", "m", "--retries", "0")
    assert done.status == 2, done
    assert SECRET not in done.out + done.err + _everything(tmp_path)


def test_secrets_of_an_evaluation_are_written_nowhere(tmp_path: Path) -> None:
    tiny_lens.save_model(tmp_path / "model")
    options = ["--limit", "1", "--device", "cpu", "--model-args", f"token={SECRET},max_length=400"]
    with inside(tmp_path):
        done = lens("eval", "--model", "model", "--tasks", "lens_mini_qa_sw", *options, "--output", "out")
    assert done.status == 0, done
    assert (tmp_path / "out" / "report.html").is_file()
    assert SECRET not in done.out + done.err + _everything(tmp_path)


def test_secrets_among_the_settings_of_a_method_are_written_nowhere(tmp_path: Path) -> None:
    tiny_lens.save_prompts(tmp_path / "prompts.jsonl")
    command = ["train", "--model", "x", "--data", "prompts.jsonl", "--languages", "en,sw"]
    with inside(tmp_path):
        done = lens(*command, "--method", "os.path:exists", "--set", f"api_key={SECRET}", "--output", "out")
    assert (tmp_path / "out" / "training" / "job.json").is_file(), done  # its own method came that far
    assert SECRET not in done.out + done.err + _everything(tmp_path)


def test_names_in_results_are_text_everywhere(tmp_path: Path) -> None:
    columns = {"acc": [1.0, 0.0], "off_target": [0.0, 1.0], "![m](x)|\x1b": [1.0, 1.0]}
    for name in ("a", "b"):
        write_results(tmp_path / name, {"x_sw": columns}, model=f"{name}{HOSTILE}")
    done = lens("compare", tmp_path / "a", tmp_path / "b", "--output", tmp_path / "out")
    done.require_words()
    assert done.status == 0, done
    for form in ("md", "csv", "tex"):
        done = lens("compare", tmp_path / "a", tmp_path / "b", "--format", form)
        done.require_words()
        text = (tmp_path / "out" / f"table.{form}").read_text("utf-8")
        assert done.out == text
        assert "\x1b" not in text
        assert "\x9b" not in text
        assert "![x](" not in text or form == "csv"
        assert "\\label{z}" not in text or form != "tex"
    assert "<b>\\label" not in (tmp_path / "out" / "report.html").read_text("utf-8")


def test_names_of_files_are_text_everywhere(tmp_path: Path) -> None:
    name = "a\x1b[2J![x](http)|.jsonl"
    rows = [{"text": "Mji mkuu wa Kenya ni Nairobi.", "language": "sw"}] * 2
    (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows) + "no JSON \x1b[31m\n")
    for command in (["score", tmp_path / name], ["calibrate", tmp_path / name, "--languages", "en,sw"]):
        done = lens(*command, "--output", tmp_path / "out.md")
        done.require_words()
        assert done.status == 0, done
        assert "![x](" not in done.out
        assert "\x1b" not in (tmp_path / "out.md").read_text("utf-8")
    done = lens("score", tmp_path / "none\x1b[2J.jsonl")
    done.require_words()
    assert done.status == 2
