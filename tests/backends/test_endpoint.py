"""Models behind a server of chat completions: the built-in one served here, and a server that fails."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chat_server import BuiltIn, Responder, Server, serving
from in_process import Done, lens
from task_items import write_hub_copies

from lens_eval.base.errors import UserError
from lens_eval.runs.preflight import check
from lens_eval.runs.recipe import parse_recipe

KEY = "sk-test-0123456789abcdef0123456789"


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Responder], Server]]:
    """Starts servers; the key for them is in the environment."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    yield from serving(monkeypatch)


def _eval(url: str, out: Path, *more: Any, tasks: str = "lens_mini_qa_zh") -> Done:
    command = ["eval", "--model", "endpoint", "--endpoint", url, "--name", "org/served", "--device", "cpu"]
    return lens(*command, "--tasks", tasks, "--output", out, "--limit", "6", *more)


def _samples(folder: Path) -> list[dict[str, Any]]:
    (file,) = folder.rglob("samples_*.jsonl.gz")
    return [json.loads(line) for line in gzip.decompress(file.read_bytes()).decode().splitlines()]


def _results(folder: Path) -> dict[str, Any]:
    (file,) = folder.rglob("results_*.json")
    return json.loads(file.read_text(encoding="utf-8"))


def test_a_served_model_scores_as_the_same_model_loaded_here(
    tmp_path: Path, serve: Callable[[Responder], Server]
) -> None:
    server = serve(BuiltIn())
    served = _eval(server.url, tmp_path / "served")
    assert served.status == 0, served
    loaded = lens(
        *("eval", "--model", "builtin", "--tasks", "lens_mini_qa_zh", "--limit", "6", "--device", "cpu"),
        *("--output", tmp_path / "loaded"),
    )
    assert loaded.status == 0, loaded
    there, here = _samples(tmp_path / "served"), _samples(tmp_path / "loaded")
    assert [s["resps"] for s in there] == [s["resps"] for s in here]
    assert [s["acc"] for s in there] == [s["acc"] for s in here]
    assert len({s["resps"][0][0] for s in there}) > 1
    # One token to see that it is there, and each item once; tokens as the server counts them.
    assert len(server.requests) == 7
    assert _results(tmp_path / "served")["config"]["tokens"] == {"prompt": 600, "completion": 60}
    costs = json.loads((tmp_path / "served" / "run.json").read_text(encoding="utf-8"))["costs"]
    assert costs["org_served"]["tokens"] == {"prompt": 600, "completion": 60}
    assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
    written = [p.read_bytes() for p in (tmp_path / "served").rglob("*") if p.is_file() and p.suffix != ".gz"]
    assert not any(KEY.encode() in content for content in written)
    again = _eval(server.url, tmp_path / "served", "--concurrency", "3")
    assert again.status == 0
    assert len(server.requests) == 7, "a finished cell asks nothing, however many requests may be under way"


@pytest.mark.parametrize("fault", ["busy", "cut", "slow"])
def test_a_fault_that_passes_changes_no_reply(
    tmp_path: Path, serve: Callable[[Responder], Server], fault: str
) -> None:
    """Every second request meets the fault; the replies are those of a server without."""
    met: list[float] = []

    def respond(body: dict[str, Any], number: int) -> Any:
        if number > 1 and number % 2 == 0:
            met.append(time.monotonic())
            if fault == "busy":
                return 429, {"Retry-After": "0.3"}, b"too many"
            if fault == "cut":
                return 200, {"Content-Length": "1000000"}, b'{"choices": ['
            time.sleep(2.5)
        return "Jibu ni " + body["messages"][-1]["content"][:20]

    more = ["--concurrency", "2", "--model_args", "timeout=1"]
    start = time.monotonic()
    done = _eval(serve(respond).url, tmp_path / fault, *more)
    assert done.status == 0, done
    assert len(met) >= 3
    if fault == "busy":
        assert time.monotonic() - start > 0.3
    for sample in _samples(tmp_path / fault):
        asked = json.loads(sample["arguments"]["gen_args_0"]["arg_0"][0])[-1]["content"]
        assert sample["resps"][0][0] == "Jibu ni " + asked[:20]


def test_a_request_that_fails_for_good_fails_the_task_and_the_next_run_goes_on(
    tmp_path: Path, serve: Callable[[Responder], Server]
) -> None:
    """Requests are kept by fours here: the second four fail, and only they are asked again."""
    broken = True
    seen: list[str] = []

    def respond(body: dict[str, Any], number: int) -> Any:
        seen.append(body["messages"][-1]["content"])
        if broken and number > 5:
            return 400, {}, b"this prompt is refused"
        return "Jibu."

    server = serve(respond)
    more = ["--concurrency", "1", "--batch-size", "1"]
    first = _eval(server.url, tmp_path / "out", *more)
    assert first.status == 1
    assert "this prompt is refused" in first.out + first.err
    assert not list((tmp_path / "out").rglob("samples_*"))
    answered = set(seen[1:5])
    broken = False
    seen.clear()
    second = _eval(server.url, tmp_path / "out", *more)
    assert second.status == 0, second
    assert not answered & set(seen)
    assert len(seen) == 1 + 2
    assert len(_samples(tmp_path / "out")) == 6


def test_letters_are_written_and_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Callable[[Responder], Server]
) -> None:
    """A server that always writes the letter of the first option; one that writes none; one that refuses."""
    write_hub_copies(tmp_path / "items")
    monkeypatch.setenv("LENS_DATA_DIR", str(tmp_path / "items"))
    found = {}
    for name, reply in (("latin", "**A**"), ("arabic", "الإجابة: أ"), ("none", "Sijui.")):
        server = serve(lambda body, number, reply=reply: reply)
        for task in ("lens_global_mmlu_sw", "lens_mmlu_ar"):
            out = tmp_path / f"{name}-{task}"
            done = _eval(server.url, out, tasks=task)
            assert done.status == 0, done
            found[name, task] = [(s["acc"], s["no_answer"], s["doc"]["answer"]) for s in _samples(out)]
    for key in (("latin", "lens_global_mmlu_sw"), ("arabic", "lens_mmlu_ar")):
        assert {(acc, none) for acc, none, answer in found[key] if answer == 0} == {(1.0, 0.0)}
        assert {(acc, none) for acc, none, answer in found[key] if answer != 0} == {(0.0, 0.0)}
    for key in (("none", "lens_global_mmlu_sw"), ("latin", "lens_mmlu_ar")):
        assert {(acc, none) for acc, none, _ in found[key]} == {(0.0, 1.0)}
    refused = _eval(server.url, tmp_path / "choice", tasks="lens_mini_choice_zh")
    assert refused.status == 2
    assert "compares likelihoods" in refused.said


def test_what_cannot_be_asked_is_said_before_work(
    tmp_path: Path, serve: Callable[[Responder], Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(lambda body, number: (401, {}, b"no such key"))
    done = _eval(server.url, tmp_path / "key")
    assert done.status == 1
    assert "401" in done.out + done.err
    assert KEY not in done.out + done.err
    assert len(server.requests) == 1, "a wrong key is not tried again"
    for changes, words in (
        (["--model", "builtin", "--endpoint", server.url], "go with --model endpoint"),
        (["--model", "endpoint", "--name", "x"], "needs the address"),
        (["--model", "endpoint", "--endpoint", "ftp://x", "--name", "x"], "is no address"),
        (["--model", "endpoint", "--endpoint", server.url], "names no model"),
    ):
        done = lens("eval", "--tasks", "lens_mini_qa_zh", "--output", tmp_path / "no", *changes)
        assert done.status == 2, done
        assert words in done.said
    raw = {
        "backbone": "org/served",
        "languages": ["en", "zh"],
        "data": {"train": "builtin:train"},
        "tasks": ["lens_mini_qa_zh"],
        "variants": {"served": {}, "trained": {"method": "lens"}},
        "backend": {"model": "endpoint", "args": {"base_url": server.url}},
    }
    with pytest.raises(UserError, match=r"variants\.trained: behind an endpoint"):
        check(parse_recipe(raw), tmp_path / "recipe", "cpu")
    plain = {"served": {}, "other": {"model": "org/b"}}
    check(parse_recipe({**raw, "variants": plain}), tmp_path / "recipe", "cpu")
