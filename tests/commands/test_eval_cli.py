"""`lens eval` as it is typed."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lens_eval.base.errors import UserError
from lens_eval.commands.cli import app


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["--limit", "0"], "--limit"),
        (["--languages", "en zh,sw"], "separate codes with commas: en,zh"),
        (["--batch-size", "0"], "--batch-size"),
    ],
)
def test_what_would_be_lost_or_taken_for_all_is_refused(
    tmp_path: Path, changes: list[str], words: str
) -> None:
    given = ["eval", "--model", "builtin", "--tasks", "lens_mini_qa_zh", "--output", str(tmp_path / "out")]
    with pytest.raises(UserError, match=words):
        CliRunner().invoke(app, [*given, *changes], catch_exceptions=False)
    assert not (tmp_path / "out").exists()


def test_gen_kwargs_reach_the_generation(tmp_path: Path) -> None:
    """Control: without the option the replies of the same items are longer."""
    lengths = {}
    for name, more in (("short", ["--gen-kwargs", "max_gen_toks=2"]), ("whole", [])):
        command = [
            "eval",
            "--model",
            "builtin",
            "--tasks",
            "lens_mini_qa_zh",
            "--limit",
            "3",
            "--device",
            "cpu",
        ]
        done = CliRunner().invoke(app, [*command, "--output", str(tmp_path / name), *more])
        assert done.exit_code == 0, done.output
        (file,) = (tmp_path / name).rglob("samples_*.jsonl*")
        raw = file.read_bytes()
        lines = (gzip.decompress(raw) if file.suffix == ".gz" else raw).decode().splitlines()
        lengths[name] = [len(json.loads(line)["resps"][0][0].split()) for line in lines]
    assert len(lengths["short"]) == len(lengths["whole"]) == 3
    assert max(lengths["short"]) <= 2 < min(lengths["whole"])
