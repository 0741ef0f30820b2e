"""The commands of docs/real_model.md run as they stand, on a real model, with fewer items."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import items
import pytest
from commands import ENVIRONMENT, ROOT

pytestmark = pytest.mark.real

PAGE = (ROOT / "docs" / "real_model.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```bash\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
LENS = "#!/bin/sh\nexec '{python}' -m lens_eval \"$@\"\n"


def _shorter(block: str) -> str:
    """The commands with one item per task, and replies of a few tokens."""
    return block.replace("--limit 10", "--limit 1").replace("max_gen_toks=128", "max_gen_toks=24")


def test_the_commands_of_the_page(shared: Path, smol: Path, tmp_path: Path) -> None:
    """From a model's name to a table; the first block, which says what the names mean, is the test's own."""
    assert BLOCKS[0].startswith("export MODEL=")
    command = tmp_path / "bin" / "lens"
    command.parent.mkdir()
    command.write_text(LENS.format(python=sys.executable))
    command.chmod(0o755)
    named = {
        "MODEL": str(smol),
        "PROMPTS": str(items.parallel(shared, tmp_path / "train.jsonl", items.TRAINED[:24])),
        "DEV": str(items.parallel(shared, tmp_path / "dev.jsonl", items.DEV[:4])),
        "LANGUAGES": "en,zh",
        "LENS_DATA_DIR": str(shared / "data"),
        "PYTHONPATH": str(ROOT),
        "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}",
    }
    said = ""
    for block in BLOCKS[1:]:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", _shorter(block)],
            cwd=tmp_path,
            env={**os.environ, **ENVIRONMENT, **named},
            capture_output=True,
            text=True,
            timeout=1200,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        said += done.stdout
    words = " ".join(said.split())
    assert "prompts per language" in words, "lens assess explains its table"
    assert "weights:" in words, "lens train ends with what it did"
    assert "Chosen: the most usable replies" in words or "No setting made more replies usable" in words
    assert (tmp_path / "runs" / "sweep" / "table.md").is_file()
    assert "off-target" in said, "lens compare shows the two runs side by side"
