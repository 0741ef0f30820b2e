"""Models, data and costs of the tests marked `real`: small real models, real items, the commands as typed.

They may take 20 minutes on two cores together, downloads and conversions left aside. The CPU seconds that
each test took are printed at the end, since the time on the clock says little on a busy machine.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import fetch
import pytest
from commands import Lens

_SPENT: dict[str, float] = {}


def _folder(name: str) -> Path:
    try:
        return fetch.model_folder(name)
    except fetch.Unavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def smol() -> Path:
    """SmolLM2-135M-Instruct: English, and the cheapest to run."""
    return _folder("smol")


@pytest.fixture(scope="session")
def qwen() -> Path:
    """Qwen2.5-Coder-0.5B-Instruct: answers many languages in themselves."""
    return _folder("qwen")


@pytest.fixture(scope="session")
def english() -> Path:
    """gemma-3-270m taught to chat in English alone: it answers most languages in English."""
    return _folder("english")


@pytest.fixture(scope="session")
def smol_gguf() -> Path:
    """SmolLM2-135M-Instruct as it is published, quantised in one file."""
    try:
        return fetch.gguf_file("smol")
    except fetch.Unavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def lens(shared: Path) -> Lens:
    """The `lens` command, with the real items in `LENS_DATA_DIR`."""
    return Lens(shared / "data")


def _cpu_seconds() -> float:
    """Of this process and of all its processes that have ended."""
    return sum(os.times()[:4])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Note the CPU seconds of a test, those of the fixtures that it is the first to need included."""
    before = _cpu_seconds()
    result = yield
    if item.get_closest_marker("real"):
        _SPENT[item.nodeid] = _cpu_seconds() - before
    return result


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print them, the longest first."""
    if _SPENT:
        terminalreporter.section(f"CPU seconds of the tests on real models: {sum(_SPENT.values()):.0f}")
        for test, seconds in sorted(_SPENT.items(), key=lambda pair: -pair[1]):
            terminalreporter.write_line(f"{seconds:7.1f}  {test.removeprefix('tests/real/')}")
