"""`lens score` and `lens calibrate` as a user meets them: real processes, pipes, files, mistakes, Ctrl-C."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lens_eval.base.errors import UserError
from lens_eval.commands.cli import app
from lens_eval.language.calibrate import built_in_sample

ENGLISH = "The farmers are waiting for the rain to come."
SWAHILI = "Wakulima wanasubiri mvua inyeshe, kwa sababu mashamba yamekauka."
LENS = [sys.executable, "-m", "lens_eval"]


def run(*arguments: str) -> str:
    """Standard output of `lens ...` in this process; a mistake of the user's is raised."""
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture
def replies(tmp_path: Path) -> Path:
    path = tmp_path / "replies.jsonl"
    rows = [{"id": i, "answer": text, "lang": "swh"} for i, text in enumerate((SWAHILI, ENGLISH, "12", ""))]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_pipe_in_json_out() -> None:
    rows = f"{json.dumps({'text': ENGLISH})}\nnot json\n".encode()
    command = [*LENS, "score", "--language", "sw", "--format", "json"]
    done = subprocess.run(command, input=rows, capture_output=True, check=True)
    report = json.loads(done.stdout)
    assert (report["overall"]["n"], report["overall"]["central"], report["broken_lines"]) == (1, 1.0, 1)
    assert report["files"][0]["name"] == "standard input"
    assert b"1 lines could not be read; --strict stops at the first" in done.stderr
    strict = subprocess.run([*command, "--strict", "-"], input=rows, capture_output=True)
    assert strict.returncode == 2
    assert b"line 2: not JSON" in strict.stderr
    assert b"Traceback" not in strict.stderr


def test_formats_and_output_files(replies: Path, tmp_path: Path) -> None:
    fields = ("--text", "answer", "--language", "lang")
    shown = run("score", str(replies), *fields)
    line = next(line for line in shown.splitlines() if line.startswith("| sw "))
    columns = [cell.strip() for cell in shown.splitlines()[0].strip("|").split("|")]
    cells = dict(zip(columns, (cell.strip() for cell in line.strip("|").split("|")), strict=True))
    assert (cells["n"], cells["on target %"], cells["central %"]) == ("4", "25.0", "25.0")
    rows = list(csv.DictReader(io.StringIO(run("score", str(replies), *fields, "--format", "csv"))))
    assert [(row["language"], row["n"], row["central"]) for row in rows] == [
        ("sw", "4", "0.25"),
        ("overall", "4", "0.25"),
    ]
    out, verdicts = tmp_path / "report.json", tmp_path / "verdicts.jsonl"
    printed = run("score", str(replies), *fields, "--output", str(out), "--verdicts", str(verdicts))
    assert printed == shown
    report = json.loads(out.read_text(encoding="utf-8"))
    for rates in (report["overall"], report["languages"]["sw"]):
        assert {"n", "on_target", "central", "other", "undetermined", "off_target", "intervals"} <= set(rates)
    assert set(report["detector"]) == {"name", "version"}
    found = [json.loads(line) for line in verdicts.read_text(encoding="utf-8").splitlines()]
    assert [(row["line"], row["outcome"], row["answered_in"]) for row in found] == [
        (1, "on_target", "sw"),
        (2, "central", "en"),
        (3, "undetermined", "undetermined"),
        (4, "undetermined", "empty"),
    ]
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.jsonl"], "cannot read nowhere.jsonl"),
        (["{file}", "--text", "anser", "--language", "lang"], r"no field 'anser' \(did you mean answer"),
        (["{file}", "--text", "answer"], "no language|fields"),
        (["{file}", "--text", "answer", "--language", "xx"], "no field 'xx'|unknown language"),
        (["{file}", "--detector", "lingu"], "did you mean lingua"),
        (["{file}", "--protocol", "lbc"], "known: lens, lcb"),
        (["{file}", "--format", "xml"], "known: md, csv, json"),
        (["{file}", "--output", "/nowhere/at/all.json"], "there is no folder /nowhere/at"),
        (["{file}", "--languages", "en,klingon"], "unknown language code 'klingon'"),
        (["{folder}", "--language", "sw"], "no file of .* holds responses that can be read"),
    ],
)
def test_mistakes_are_said_in_one_sentence(
    replies: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "plain.jsonl").write_text(json.dumps({"answer": SWAHILI, "x": 1}) + "\n", encoding="utf-8")
    named = [a.format(file=replies, folder=tmp_path) for a in arguments]
    if message.startswith("no language"):
        named[0] = str(tmp_path / "plain.jsonl")
        message = "in which language should the responses be"
    with pytest.raises(UserError, match=message):
        CliRunner().invoke(app, ["score", *named], catch_exceptions=False)


def test_a_failed_run_leaves_no_file_and_keeps_the_old_one(replies: Path, tmp_path: Path) -> None:
    verdicts = tmp_path / "verdicts.jsonl"
    verdicts.write_text("old\n", encoding="utf-8")
    with replies.open("a", encoding="utf-8") as stream:
        stream.write("broken\n")
    with pytest.raises(UserError, match="--strict"):
        run(
            "score",
            str(replies),
            "--text",
            "answer",
            "--language",
            "lang",
            "--strict",
            "--verdicts",
            str(verdicts),
        )
    assert verdicts.read_text(encoding="utf-8") == "old\n"
    assert not list(tmp_path.glob("*.partial"))


def test_ctrl_c_ends_with_130_and_no_traceback(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [*LENS, "score", "-", "--language", "sw", "--verdicts", str(tmp_path / "v.jsonl")],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    assert child.stdin
    assert child.stderr
    row = json.dumps({"text": SWAHILI}).encode() + b"\n"
    try:
        child.stdin.write(row * 300)
        child.stdin.flush()
        deadline = time.monotonic() + 120
        while not (tmp_path / "v.jsonl.partial").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        error = child.stderr.read()
        assert child.wait(60) == 130
    finally:
        child.stdin.close()
        if child.poll() is None:
            os.kill(child.pid, signal.SIGKILL)
    assert b"lens: stopped" in error
    assert b"Traceback" not in error
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_lm_eval_samples_of_a_stock_task(tmp_path: Path) -> None:
    """lm_eval itself, on a generation task of a plain YAML that knows nothing of Lens."""
    pytest.importorskip("lm_eval")
    from lens_eval.mini import backbone_path

    (tmp_path / "rows.jsonl").write_text(
        "".join(
            json.dumps({"q": q}) + "\n" for q in ("Mji mkuu wa Kenya ni upi?", "Saba kuongeza tano ni ngapi?")
        ),
        encoding="utf-8",
    )
    (tmp_path / "plain_sw.yaml").write_text(
        "task: plain_sw\n"
        "dataset_path: json\n"
        f"dataset_kwargs:\n  data_files:\n    test: {tmp_path / 'rows.jsonl'}\n"
        "test_split: test\noutput_type: generate_until\n"
        "doc_to_text: '{{q}}'\ndoc_to_target: 'x'\n"
        "generation_kwargs:\n  until: ['\\n\\n']\n  max_gen_toks: 24\n"
        "metric_list:\n  - metric: exact_match\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "lm_eval", "--model", "hf", "--tasks", "plain_sw"]
    command += ["--model_args", f"pretrained={backbone_path()}", "--apply_chat_template", "--log_samples"]
    command += ["--include_path", str(tmp_path), "--output_path", str(tmp_path / "out"), "--device", "cpu"]
    environment = {
        **os.environ,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    subprocess.run(command, check=True, capture_output=True, env=environment)
    [samples] = (tmp_path / "out").rglob("samples_plain_sw_*.jsonl")
    report = json.loads(run("score", str(samples), "--format", "json"))
    assert report["files"][0]["kind"] == "lm_eval samples"
    assert report["languages"]["sw"]["n"] == 2
    assert sum(report["confusion"]["sw"].values()) == 2


def test_calibrate_on_the_built_in_sample(tmp_path: Path) -> None:
    out = tmp_path / "floor.json"
    shown = run("calibrate", "--languages", "en,sw,zh", "--lengths", "0,25", "--output", str(out))
    assert "False off-target % / undetermined %" in shown
    report = json.loads(out.read_text(encoding="utf-8"))
    assert list(report["languages"]) == ["en", "sw", "zh"]
    count = len(built_in_sample()["en"])
    for entries in report["languages"].values():
        assert [entry["letters"] for entry in entries] == [None, 25]
        assert entries[0]["n"] == count
        assert entries[0]["false_off_target"] == 0.0
    with pytest.raises(UserError, match="--lengths takes whole numbers"):
        run("calibrate", "--lengths", "a,b")


def test_calibrate_on_files_with_a_second_detector(tmp_path: Path) -> None:
    path = tmp_path / "gold_sw.jsonl"
    path.write_text(
        "".join(json.dumps({"text": t}) + "\n" for t in built_in_sample()["sw"]), encoding="utf-8"
    )
    rows = list(
        csv.DictReader(
            io.StringIO(
                run("calibrate", str(path), "--second", "langdetect", "--lengths", "0", "--format", "csv")
            )
        )
    )
    assert [(row["language"], row["letters"]) for row in rows] == [("sw", "all")]
    assert float(rows[0]["agreement"]) > 0.8


def test_ntrex_is_on_target_and_its_english_declared_swahili_central(shared: Path, tmp_path: Path) -> None:
    folder = shared / "data" / "ntrex_parallel"
    for code in ("sw", "ja", "de"):
        head = (folder / f"{code}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)[:150]
        (tmp_path / f"{code}.jsonl").write_text("".join(head), encoding="utf-8")
    report = json.loads(run("score", *map(str, tmp_path.glob("*.jsonl")), "--format", "json"))
    assert set(report["languages"]) == {"sw", "ja", "de"}
    assert all(rates["on_target"] > 0.97 for rates in report["languages"].values())
    english = (folder / "en.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)[:150]
    (tmp_path / "english.jsonl").write_text("".join(english), encoding="utf-8")
    named = ("score", str(tmp_path / "english.jsonl"), "--language", "sw", "--format", "json")
    rates = json.loads(run(*named))["languages"]["sw"]
    assert rates["central"] > 0.96
    assert rates["on_target"] == 0.0
