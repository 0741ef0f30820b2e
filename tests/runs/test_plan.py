"""The plan: its arithmetic, and that it needs neither model, nor data, nor network."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_lens
from plan_recipes import planned_recipe
from rich.console import Console

from lens_eval.runs import plan
from lens_eval.runs.plan import PlannedTask
from lens_eval.runs.recipe import load_recipe, parse_recipe

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


def test_lines_say_what_is_unknown(tmp_path: Path) -> None:
    variants = {
        "backbone": {},
        "lens": {"method": "lens"},
        "xsft_lora": {"method": "xsft_lora"},
        "mine": {"method": "mine:train"},
    }
    tasks = [PlannedTask("g", "a", 1000), PlannedTask("g", "b", None, 1, 300, 300, "unknown", "no items")]
    text = "\n".join(plan.estimates(planned_recipe(variants=variants), tasks, "cpu", tmp_path, on_gpu=True))
    assert "about 8 billion parameters" in text
    assert "about 32 GB for 2 full and 1 small variants and the results, 16 GB for the backbone" in text
    assert "GPU memory: about 20.8 GB to evaluate, 147 GB for the largest training (mine)" in text
    assert "training of mine unknown; without 1 tasks of unknown size" in text
    assert "no GPU is visible here" in text
    assert "not enough" not in text
    huge = plan.estimates(
        planned_recipe(variants=variants, backbone="org/huge-900000b"), tasks, "cpu", tmp_path
    )
    assert "free, not enough" in huge[1]
    unknown = plan.estimates(planned_recipe(backbone="org/unheard-of"), tasks, "cpu", tmp_path)
    assert len(unknown) == 1
    assert "unknown, the size of org/unheard-of is not known here" in unknown[0]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 s"),
        (89, "89 s"),
        (90, "2 minutes"),
        (5399, "90 minutes"),
        (7200, "2 hours"),
        (200_000, "2 days"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert plan._duration(seconds) == words


@pytest.fixture
def no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LENS_DATA_DIR", "LENS_PAIRS", "LENS_PROMPTS"):
        monkeypatch.delenv(name, raising=False)


def test_replies_that_run_to_their_limit_are_told_apart(tmp_path: Path) -> None:
    """As a small model's do; the limit is the recipe's, where it has one."""

    def lines(**backend: Any) -> list[str]:
        raw = {"backbone": "org/Model-1b", "languages": ["en"], "variants": {"backbone": {}}}
        recipe = parse_recipe({**raw, "tasks": ["lens_mtbench"], "backend": {"model": "hf", **backend}})
        found = plan.estimates(recipe, plan.planned_tasks(recipe), "cpu", tmp_path, on_gpu=True)
        return [line for line in found if line.startswith("time")]

    usual, longest = lines()
    assert longest.startswith("time, if every reply runs to its limit of tokens: ")
    assert longest.rpartition(": ")[2] != usual.partition("roughly ")[2].partition(" on")[0]
    short = lines(gen_kwargs={"max_gen_toks": 100})
    assert len(short) == 1, "a reply of 100 tokens is no longer than usual"
    assert short != [usual]


@pytest.mark.usefixtures("no_data")
@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_can_be_planned_without_data_or_network(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    recipe = load_recipe(path)
    tasks = plan.planned_tasks(recipe)
    assert tasks
    assert all(task.items for task in tasks), [task for task in tasks if not task.items]
    languages = {task.name.rpartition("_")[2] for task in tasks}
    assert languages == set(recipe.languages)
    lines = plan.estimates(recipe, tasks, "cpu", tmp_path)
    assert any(line.startswith("time: roughly") for line in lines)
    needs = plan.missing(recipe)
    if path.stem != "demo":
        assert {task.source for task in tasks} == {"published"}
        assert any(line.startswith("missing: the environment variable LENS_") for line in needs)


def test_sizes_that_can_be_read_are_read(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LENS_DATA_DIR", str(shared / "data"))
    recipe = parse_recipe(
        {
            "backbone": "org/Model-8B",
            "languages": ["en", "zh", "ja"],
            "variants": {"backbone": {}},
            "tasks": ["lens_paper_official"],
        }
    )
    sizes = {task.name: (task.items, task.source) for task in plan.planned_tasks(recipe)}
    assert sizes["lens_xcopa_official_zh"] == (500, "read")
    assert sizes["lens_xwinograd_official_ja"] == (959, "read")
    assert sizes["lens_xwinograd_official_en"] == (1000, "read")  # the released protocol draws a thousand
    assert sizes["lens_xwinograd_official_zh"] == (16, "read")  # what the folder holds, not what is published
    assert sizes["lens_xstorycloze_official_en"] == (1000, "published")
    assert sizes["lens_mtbench_ja"] == (80, "read")
    # The published sizes agree with those read, where all of a family is there.
    for family, languages in {"xcopa": ["en", "zh"], "xwinograd": ["en", "ja"], "mtbench": ["en"]}.items():
        for code in languages:
            entry = parse_recipe(
                {
                    "backbone": "x/y-1b",
                    "languages": [code],
                    "central": code,
                    "variants": {"backbone": {}},
                    "tasks": [f"lens_{family}_{code}"],
                }
            )
            read = plan.planned_tasks(entry)[0]
            assert read.source == "read"
            assert plan._published({"family": family, "language": code}, None) == read.items


def test_a_model_that_is_not_there_is_missing(tmp_path: Path) -> None:
    here = tiny_lens.save_model(tmp_path / "model")
    for model, words in ((str(tmp_path / "none"), ["no such file or folder"]), (here, [])):
        found = plan.missing(planned_recipe(backbone=model))
        assert len(found) == len(words)
        assert all(word in line for word, line in zip(words, found, strict=True))


@pytest.mark.usefixtures("no_data")
def test_a_limit_bounds_published_sizes_too() -> None:
    assert plan._published({"family": "mmlu", "language": "zh"}, 5) == 5
    assert plan._published({"family": "mmlu", "language": "zh", "sample": 1000}, None) == 1000
    assert plan._published({"family": "xwinograd", "language": "sw"}, None) is None
    assert plan._published({"family": "unheard"}, 5) is None


@pytest.mark.usefixtures("no_data")
def test_the_command_loads_and_asks_nothing(tmp_path: Path) -> None:
    """Any attempt to open a connection ends the process."""
    guard = tmp_path / "sitecustomize.py"
    guard.write_text(
        "import os, socket\n"
        "def refuse(*a, **k): os._exit(77)\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n",
        encoding="utf-8",
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")}
    environment["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{environment.get('PYTHONPATH', '')}"
    environment["HF_HOME"] = str(tmp_path / "hub")

    def run(code: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)

    control = run("import urllib.request; urllib.request.urlopen('http://example.org')")
    assert control.returncode == 77
    recipe = RECIPES / "llama3_8b_bilingual.yaml"
    arguments = ["lens", "reproduce", str(recipe), "--plan", "--output", str(tmp_path / "o")]
    code = f"import sys; sys.argv = {arguments!r}"
    done = run(code + "; from lens_eval.commands.cli import main; main()")
    assert done.returncode == 0, done.stderr
    assert "7 variants x 18 tasks = 126" in done.stdout
    assert "left out: xsft_lora, xsft_top, xsft, xsft_large, sdrrl, qalign" in done.stdout
    assert "missing: the environment variable LENS_DATA_DIR" in done.stdout
    assert "time: roughly" in done.stdout
    assert not (tmp_path / "o").exists()


def test_markup_in_a_recipe_is_shown_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("rich.console.Console", lambda **_: Console(file=stream, width=200))
    recipe = planned_recipe(description="[red]not red[/red]", variants={"backbone": {}}, backbone="builtin")
    plan.show_plan(recipe, tmp_path, "cpu")
    assert "[red]not red[/red]" in stream.getvalue()
