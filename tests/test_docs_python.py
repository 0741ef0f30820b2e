"""docs/python.md: its blocks run one after the other, and both packages hand out what they say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import lens_eval
import lens_train

ROOT = Path(__file__).resolve().parents[1]
BLOCKS = re.findall(
    r"^```python\n(.*?)^```",
    (ROOT / "docs" / "python.md").read_text(encoding="utf-8"),
    re.MULTILINE | re.DOTALL,
)


def test_the_blocks_run_one_after_the_other(tmp_path: Path) -> None:
    script = tmp_path / "all.py"
    script.write_text("\n".join(BLOCKS), encoding="utf-8")
    done = subprocess.run([sys.executable, script.name], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "on_target sw\ncentral en\n" in done.stdout
    assert (tmp_path / "small.html").is_file()


def test_every_name_is_there() -> None:
    for package in (lens_eval, lens_train):
        for name in package.__all__:
            assert getattr(package, name) is not None, f"{package.__name__}.{name}"
            assert name in dir(package)
    assert not hasattr(lens_eval, "no_such_name")


def test_importing_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import sys, time; begun = time.perf_counter(); import lens_eval, lens_train;"
        "print(time.perf_counter() - begun); print({'torch', 'lm_eval', 'numpy', 'typer'} & set(sys.modules))"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        for _ in range(3)
    ]
    assert min(float(done.stdout.splitlines()[0]) for done in runs) < 0.1
    assert {done.stdout.splitlines()[1] for done in runs} == {"set()"}
