"""Models behind vLLM's own server, on the CPU: replies are those of the model loaded in this process."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from in_process import lens

from lens_eval.mini import backbone_path

pytestmark = pytest.mark.vllm
if importlib.util.find_spec("vllm") is None:
    pytest.skip("vllm is not installed; `make test-vllm` installs it", allow_module_level=True)

START_SECONDS = 240


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _is_up(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of vLLM's server, which holds the built-in model as `org/served`."""
    port, log = _free_port(), tmp_path_factory.mktemp("server") / "log.txt"
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--model", str(backbone_path()), "--served-model-name", "org/served"]
    command += ["--dtype", "float32", "--enforce-eager", "--max-model-len", "512"]
    environment = {
        **os.environ,
        "TORCHDYNAMO_DISABLE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "OMP_NUM_THREADS": "1",
    }
    with log.open("w") as stream:
        server = subprocess.Popen(command, stdout=stream, stderr=stream, env=environment)
    try:
        url, end = f"http://127.0.0.1:{port}", time.monotonic() + START_SECONDS
        while not _is_up(url):
            if server.poll() is not None or time.monotonic() > end:
                pytest.fail(f"vLLM's server did not start: {log.read_text()[-3000:]}")
            time.sleep(1)
        yield f"{url}/v1"
    finally:
        server.terminate()
        server.wait(60)


def _replies(folder: Path) -> list[str]:
    (file,) = folder.rglob("samples_*.jsonl.gz")
    rows = map(json.loads, gzip.decompress(file.read_bytes()).decode().splitlines())
    return [row["resps"][0][0] for row in rows]


def test_replies_of_vllm_s_server_are_those_of_the_model(
    served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    task = ("--tasks", "lens_mini_qa_zh", "--limit", "6", "--device", "cpu")
    there = lens(
        *("eval", "--model", "endpoint", "--endpoint", served, "--name", "org/served"),
        *(*task, "--output", tmp_path / "served"),
    )
    assert there.status == 0, there
    here = lens(
        *("eval", "--model", "builtin", *task, "--output", tmp_path / "loaded"),
        *("--model-args", "dtype=float32"),
    )
    assert here.status == 0, here
    assert _replies(tmp_path / "served") == _replies(tmp_path / "loaded")
    assert len(set(_replies(tmp_path / "served"))) > 1
    (results,) = (tmp_path / "served").rglob("results_*.json")
    tokens = json.loads(results.read_text(encoding="utf-8"))["config"]["tokens"]
    assert tokens["prompt"] > 6
    assert tokens["completion"] > 6
