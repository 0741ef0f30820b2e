"""A run as Ray tasks: the same cells and tables as on one machine, also where a node is lost in mid-run."""

from __future__ import annotations

import dataclasses
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import psutil
import pytest
import tiny_world

from lens_eval.base.errors import UserError
from lens_eval.runs import cluster, runner
from lens_eval.runs.recipe import Backend, load_recipe

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {
    "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
    "OMP_NUM_THREADS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
STORE = 80 << 20
"""Bytes of a node's object store; the least that Ray takes. Nothing large passes through it."""


# --- without a cluster --------------------------------------------------------------------------


def test_a_node_that_sees_another_folder_or_has_other_code_is_refused(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir(), there.mkdir()
    same = cluster.Same.here(here)
    same.enter(here)
    with pytest.raises(UserError, match=f"does not see the output folder {there}"):
        same.enter(there)
    (there / cluster.SHARED).write_text("of another run", encoding="utf-8")
    with pytest.raises(UserError, match="does not see the output folder"):
        same.enter(there)
    older = dataclasses.replace(same, versions={**same.versions, "torch": "1.0"})
    with pytest.raises(UserError, match=r"other versions: torch .* \(here 1.0\)"):
        older.enter(here)
    with pytest.raises(UserError, match="another state of lens_eval"):
        dataclasses.replace(same, sources=("a", "b")).enter(here)


def test_a_lost_process_is_waited_for_and_not_worked_against(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from lens_eval.runs.cluster import _claim\n"
        "print('asks', flush=True)\n"
        "with _claim(Path(sys.argv[1]), 'backbone-tiny/qa'): print('holds', flush=True); time.sleep(60)"
    )

    def start() -> tuple[subprocess.Popen[str], IO[str]]:
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            env={**os.environ, **ENVIRONMENT},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "asks\n"
        return process, process.stdout

    holder, its_words = start()
    assert its_words.readline() == "holds\n"
    waiter, words = start()
    assert not select.select([words], [], [], 1.0)[0]
    holder.kill()
    assert words.readline() == "holds\n"
    for process, stream in ((holder, its_words), (waiter, words)):
        process.kill()
        process.wait()
        stream.close()


def test_gpus_of_a_task_are_those_of_its_model(tmp_path: Path) -> None:
    recipe = load_recipe(tiny_world.make_recipe(tmp_path, tmp_path, tmp_path))
    for backend, gpus in (
        (Backend("hf"), 1),
        (Backend("vllm"), 1),
        (Backend("vllm", {"tensor_parallel_size": 4}), 4),
        (Backend("vllm", {"tensor_parallel_size": 2, "pipeline_parallel_size": 2}), 4),
    ):
        assert cluster._gpus_per_model(dataclasses.replace(recipe, backend=backend)) == gpus
    replicas = dataclasses.replace(recipe, backend=Backend("vllm", {"data_parallel_size": 2}))
    with pytest.raises(UserError, match="data_parallel_size and --ray exclude each other"):
        cluster._gpus_per_model(replicas)


def test_without_ray_its_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe(tiny_world.make_recipe(tmp_path, tmp_path, tmp_path))
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(UserError, match=r"pip install 'lens-multilingual\[ray\]'"),
        cluster.connected("auto", recipe, "cpu", 1),
    ):
        pass


# --- on a cluster of a head and two nodes, all on this machine ----------------------------------


@pytest.fixture(scope="module")
def nodes() -> Iterator[tuple[Any, list[Any]]]:
    """A Ray cluster whose head does no work, and its two working nodes."""
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    from ray.cluster_utils import Cluster

    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)
    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE}
    own = Cluster(initialize_head=True, head_node_args=head)
    try:
        yield own, [own.add_node(num_cpus=1, object_store_memory=STORE) for _ in range(2)]
    finally:
        own.shutdown()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rows on two groups of three tasks, long enough to be caught in the middle."""
    folder = tmp_path_factory.mktemp("recipe")
    tasks = tiny_world.make_tasks(folder / "tasks", items=120)
    model = tiny_world.make_model(folder / "model")
    return tiny_world.make_recipe(folder, model, tasks, tasks=["tiny_qa", "tiny_choice"])


@pytest.fixture(scope="module")
def undisturbed(recipe: Path) -> Path:
    """The same run on one machine, without Ray."""
    out = recipe.parent / "undisturbed"
    assert runner.run(load_recipe(recipe), out, device="cpu", say=lambda _: None).status == 0
    return out


def _start(recipe: Path, out: Path, address: str, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "lens_eval", "reproduce", str(recipe), "--output", str(out)]
    return subprocess.Popen(
        [*command, "--ray", address, *more],
        env={**os.environ, **ENVIRONMENT},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _wait_for(condition: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    """What `condition` gives as soon as it gives something; the process must not end before."""
    while not (found := condition()):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    return found


def _worker_in_mid_cell(out: Path) -> psutil.Process | None:
    """The process of a node that has kept some, but not all batches of a cell."""
    for claim in (out / cluster.CLAIMS).glob("backbone-tiny_qa"):
        kept = [file.read_bytes().count(b"\n") for file in out.glob("backbone/*.responses.partial")]
        if any(5 < lines < 25 for lines in kept):
            return psutil.Process(int(claim.read_text(encoding="utf-8").split()[1]))
    return None


def _check_same(out: Path, undisturbed: Path) -> None:
    for name in ("table.csv", "table.tex"):
        assert (out / name).read_bytes() == (undisturbed / name).read_bytes()
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert [cell["state"] for cell in record["cells"]] == ["finished"] * 12
    for cell in record["cells"]:
        assert len(list((out / cell["folder"]).glob("results_*.json"))) == 1
        assert len(list((out / cell["folder"]).glob("samples_*"))) == 1
    assert not list(out.rglob("*.partial"))


@pytest.mark.slow
def test_mistakes_are_refused_before_any_work(nodes: tuple[Any, list[Any]], recipe: Path) -> None:
    own, _ = nodes
    out = recipe.parent / "refused"
    process = _start(recipe, out, own.address, "--ray-cpus", "64")
    said = process.communicate()[0]
    assert process.returncode == 2, said
    assert "no node of the Ray cluster has 64 CPU, which one task asks for; it has" in said
    assert not out.exists()


@pytest.mark.slow
def test_a_failing_cell_is_a_hole_and_is_not_tried_again(
    nodes: tuple[Any, list[Any]], tmp_path: Path
) -> None:
    own, _ = nodes
    tasks = tiny_world.make_tasks(tmp_path / "tasks", items=4)
    data = tasks / "zh.jsonl"
    data.write_text(data.read_text(encoding="utf-8").replace('"zh 0', '"FAIL 0'), encoding="utf-8")
    attempts = tmp_path / "attempts"
    noted = f"open({str(attempts)!r}, 'a').write('x'); raise"
    utils = tasks / "utils.py"
    utils.write_text(utils.read_text(encoding="utf-8").replace("raise", noted), encoding="utf-8")
    path = tiny_world.make_recipe(
        tmp_path,
        tiny_world.make_model(tmp_path / "model"),
        tasks,
        variants={"backbone": {}},
        tasks=["tiny_qa"],
    )
    out = tmp_path / "out"
    process = _start(path, out, own.address)
    said = process.communicate()[0]
    assert process.returncode == 1, said
    assert attempts.read_text(encoding="utf-8") == "x", said
    assert "RuntimeError: this item cannot be scored" in (out / "table.md").read_text(encoding="utf-8")
    assert "Traceback" in (out / "errors" / "backbone-tiny_qa_zh.txt").read_text(encoding="utf-8")
    states = [c["state"] for c in json.loads((out / "run.json").read_text(encoding="utf-8"))["cells"]]
    assert sorted(states) == ["failed", "finished", "finished"]


@pytest.mark.slow
def test_a_node_killed_in_mid_run_changes_nothing(
    nodes: tuple[Any, list[Any]], recipe: Path, undisturbed: Path, tmp_path: Path
) -> None:
    own, working = nodes
    out = tmp_path / "out"
    process = _start(recipe, out, own.address)
    worker = _wait_for(lambda: _worker_in_mid_cell(out), process)
    raylets = {node.all_processes["raylet"][0].process.pid: node for node in working}
    lost = raylets[worker.ppid()]
    lost.kill_raylet()
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 0, said
    psutil.wait_procs([worker], timeout=30)
    assert not worker.is_running()
    _check_same(out, undisturbed)
    # Nothing is left to do, for a cluster or without one.
    outcome = runner.run(load_recipe(recipe), out, device="cpu", say=lambda _: None)
    assert outcome.done == 0
