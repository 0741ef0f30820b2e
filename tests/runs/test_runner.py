"""The runner on a tiny random model: through lm_eval, resumable, and honest about what failed."""

from __future__ import annotations

import contextlib
import csv
import http.server
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_world

from lens_eval.base.errors import UserError
from lens_eval.base.files import lock
from lens_eval.base.identity import key_of
from lens_eval.base.paths import Paths
from lens_eval.commands import run
from lens_eval.runs import runner, sources, work
from lens_eval.runs.recipe import load_recipe, with_changes

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_world.make_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def recipe(tmp_path: Path, model: Path) -> Path:
    return tiny_world.make_recipe(tmp_path, model, tiny_world.make_tasks(tmp_path / "tasks"))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    """A finished run, in a folder beside its recipe; copied before it is changed."""
    folder = tmp_path_factory.mktemp("finished")
    path = tiny_world.make_recipe(folder, model, tiny_world.make_tasks(folder / "tasks"))
    outcome = runner.run(load_recipe(path), folder / "out", device="cpu", say=lambda _: None)
    assert outcome.status == 0
    return folder


def _run(recipe: Path, output: Path | None = None, **changes: object) -> tuple[work.Outcome, list[str]]:
    said: list[str] = []
    checked = with_changes(load_recipe(recipe), **changes)  # type: ignore[arg-type]
    return runner.run(checked, output or recipe.parent / "out", device="cpu", say=said.append), said


def _numbers(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "table.csv").open(encoding="utf-8")))


def _results(cell: Path) -> dict[str, float]:
    return json.loads(next(cell.glob("results_*.json")).read_text(encoding="utf-8"))["results"]


def test_a_run_leaves_lm_evals_files_and_tables_of_the_same_numbers(finished: Path) -> None:
    out = finished / "out"
    names = {"table.md", "table.json", "table.csv", "table.tex", "made.md", "run.json"}
    assert {p.name for p in out.iterdir()} >= names
    rows = _numbers(out)
    for variant in ("backbone", "shaken"):
        for language in ("en", "sw", "zh"):
            ours = {
                row["metric"]: float(row["mean"])
                for row in rows
                if (row["task"], row["variant"], row["language"]) == ("tiny_qa", variant, language)
            }
            theirs = _results(out / variant / f"tiny_qa_{language}")[f"tiny_qa_{language}"]
            assert ours.keys() == {"acc", "off_target", "correct_on_target"}
            for metric, mean in ours.items():
                assert mean == pytest.approx(theirs[f"{metric},none"])


def test_training_changed_the_model(finished: Path) -> None:
    def replies(variant: str) -> bytes:
        import gzip

        return gzip.decompress(
            next((finished / "out" / variant / "tiny_qa_sw").glob("samples_*")).read_bytes()
        )

    assert replies("backbone") != replies("shaken")
    assert b"<user>sw 0: what?<assistant>" in replies("backbone")  # the chat template, found by itself


def test_nothing_published_names_this_machine(finished: Path) -> None:
    for file in (finished / "out").rglob("*"):
        if file.is_file() and "models" not in file.parts:
            text = (
                file.read_bytes()
                if file.suffix != ".gz"
                else __import__("gzip").decompress(file.read_bytes())
            )
            for path in (finished, ROOT, Path.home(), Path(sys.prefix)):
                if str(path) != "/":
                    assert str(path).encode() not in text, f"{file} names {path}"


def _copy(finished: Path, tmp_path: Path) -> Path:
    """The finished run elsewhere, with tasks and recipe of its own."""
    shutil.copytree(finished / "out", tmp_path / "out")
    return tmp_path / "out"


def test_a_second_run_keeps_every_cell(finished: Path, tmp_path: Path) -> None:
    out = _copy(finished, tmp_path)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("results_*.json")}
    outcome, said = _run(finished / "tiny.yaml", out)
    assert outcome.done == 0
    assert all("nothing changed" in line for line in said)
    assert {p: p.stat().st_mtime_ns for p in out.rglob("results_*.json")} == before


def test_only_changed_cells_run_again(finished: Path, tmp_path: Path, model: Path) -> None:
    out = _copy(finished, tmp_path)
    changed = tiny_world.make_recipe(
        tmp_path,
        model,
        finished / "tasks",
        variants={"backbone": {}, "shaken": {"method": "tiny_world:shake", "noise": 0.6}},
    )
    outcome, said = _run(changed, out)
    assert outcome.done == 6
    assert "backbone: nothing changed" in said[0]
    assert _run(changed, out)[0].done == 0
    # Back to the first settings: that model is still there, its cells are not.
    outcome, said = _run(finished / "tiny.yaml", out)
    assert outcome.done == 6
    assert not any("trained" in line for line in said)


def test_a_changed_task_runs_again_and_no_other(tmp_path: Path, recipe: Path) -> None:
    assert _run(recipe)[0].done == 12
    data = tmp_path / "tasks" / "sw.jsonl"
    data.write_text(data.read_text(encoding="utf-8").replace("sw 3: what?", "sw 3: who?"), encoding="utf-8")
    assert _run(recipe)[0].done == 4
    task = tmp_path / "tasks" / "choice_zh.yaml"
    task.write_text(task.read_text(encoding="utf-8").replace("version: 1", "version: 2"), encoding="utf-8")
    assert _run(recipe)[0].done == 2
    assert _run(recipe, limit=3)[0].done == 12


def test_a_failed_cell_leaves_a_hole_and_the_others_go_on(tmp_path: Path, recipe: Path) -> None:
    data = tmp_path / "tasks" / "zh.jsonl"
    whole = data.read_text(encoding="utf-8")
    data.write_text(whole.replace('"zh 0', '"FAIL 0'), encoding="utf-8")
    outcome, said = _run(recipe)
    out = tmp_path / "out"
    assert outcome.status == 1
    assert outcome.done == 10
    assert [line.partition(":")[0] for line in outcome.failed] == [
        "backbone, tiny_qa_zh",
        "shaken, tiny_qa_zh",
    ]
    assert "RuntimeError: this item cannot be scored" in (out / "table.md").read_text(encoding="utf-8")
    assert "Traceback" in (out / "errors" / "backbone-tiny_qa_zh.txt").read_text(encoding="utf-8")
    assert any("failed: RuntimeError" in line for line in said)
    rows = _numbers(out)
    assert not [row for row in rows if row["task"] == "tiny_qa" and row["language"] in ("zh", "average")]
    assert [row for row in rows if row["task"] == "tiny_qa" and row["language"] == "sw"]
    data.write_text(whole, encoding="utf-8")
    outcome, _ = _run(recipe)
    assert (outcome.status, outcome.done) == (0, 4)  # the two that failed, and the choice items that changed
    assert not (out / "errors").exists()


def test_a_failed_training_leaves_a_row_of_holes(tmp_path: Path, model: Path) -> None:
    tasks = tiny_world.make_tasks(tmp_path / "tasks")
    variants = {
        "bad": {"method": "tiny_world:shake", "noise": -1},
        "backbone": {},
    }
    outcome, _ = _run(tiny_world.make_recipe(tmp_path, model, tasks, variants=variants))
    assert outcome.status == 1
    assert outcome.done == 6
    assert all("noise is -1.0; it cannot be negative" in line for line in outcome.failed)


def test_several_seeds_are_rows_and_the_bare_model_runs_once(tmp_path: Path, model: Path) -> None:
    tasks = tiny_world.make_tasks(tmp_path / "tasks", items=2, languages=("en", "sw"))
    path = tiny_world.make_recipe(
        tmp_path, model, tasks, seeds=[0, 1], languages=["en", "sw"], tasks=["tiny_qa"]
    )
    outcome, _ = _run(path)
    assert outcome.comparison is not None
    assert outcome.comparison.variants == ("backbone", "shaken-seed0", "shaken-seed1")
    assert outcome.done == 6


def test_tasks_in_other_languages_are_left_out(tmp_path: Path, model: Path) -> None:
    tasks = tiny_world.make_tasks(tmp_path / "tasks", items=2)
    (tasks / "zh.jsonl").unlink()  # not even read
    path = tiny_world.make_recipe(tmp_path, model, tasks, languages=["en", "sw"], variants={"backbone": {}})
    outcome, _ = _run(path)
    assert outcome.comparison is not None
    assert outcome.comparison.languages["tiny_qa"] == ("sw", "en")


# --- kills and locks ----------------------------------------------------------------------------


def _start(recipe: Path, out: Path) -> subprocess.Popen[str]:
    code = (
        "import sys; from pathlib import Path; from lens_eval.runs import recipe, runner;"
        "runner.run(recipe.load_recipe(sys.argv[1]), Path(sys.argv[2]), device='cpu')"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code, str(recipe), str(out)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )


def _wait(process: subprocess.Popen[str], condition: object) -> None:
    """Until `condition()` holds, or the run has ended."""
    assert callable(condition)
    while process.poll() is None and not condition():
        time.sleep(0.002)


def _kill_when(process: subprocess.Popen[str], condition: object) -> None:
    """Kill -9 as soon as `condition()` holds (or the run has ended)."""
    _wait(process, condition)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def _finished_cells(out: Path) -> int:
    try:
        return len(list(out.glob("*/*/cell.json")))
    except FileNotFoundError:  # a folder was renamed under our eyes
        return 0


def _kill_and_compare(finished: Path, out: Path, moments: list[int]) -> None:
    for cells in moments:
        process = _start(finished / "tiny.yaml", out)
        _kill_when(process, lambda cells=cells: _finished_cells(out) >= cells)
    kept = {p: p.read_bytes() for p in out.glob("*/*/cell.json")}
    assert kept, "the kills came before any cell was finished: nothing was tested"
    outcome, _ = _run(finished / "tiny.yaml", out)
    assert outcome.status == 0
    assert outcome.done == 12 - len(kept)
    assert all(path.read_bytes() == record for path, record in kept.items())
    assert (out / "table.csv").read_bytes() == (finished / "out" / "table.csv").read_bytes()
    assert not list(out.rglob("*.partial"))


def test_a_killed_run_goes_on_and_ends_in_the_same_table(finished: Path, tmp_path: Path) -> None:
    _kill_and_compare(finished, tmp_path / "out", [5])


def _in_flight(out: Path, since: float) -> bool:
    """Whether a cell that was begun after `since` (seconds of the clock) has not ended."""
    try:
        asides = [file for name in ("backbone", "shaken") for file in (out / name).glob("*.partial")]
        return any(file.stat().st_ctime > since for file in asides)
    except FileNotFoundError:  # a folder was renamed under our eyes
        return False


@pytest.mark.slow
def test_twenty_kills_end_in_the_same_table(finished: Path, tmp_path: Path) -> None:
    """Ten amid a cell, then ten at random moments; `benchmarks.kills` does it to the demo."""
    out = tmp_path / "out"
    record = out / "run.json"
    delay = random.Random(0)
    in_flight = 0
    for kill in range(20):
        before = record.stat().st_mtime_ns if record.exists() else 0
        begun = time.time()
        process = _start(finished / "tiny.yaml", out)
        _wait(process, lambda: record.exists() and record.stat().st_mtime_ns > before)  # noqa: B023
        if kill < 10:
            _kill_when(process, lambda begun=begun: _in_flight(out, begun))
        else:
            end = time.monotonic() + delay.uniform(0.0, 2.0)
            _kill_when(process, lambda end=end: time.monotonic() > end)
        in_flight += _in_flight(out, begun)
    assert in_flight, "no kill came in the middle of a cell"
    outcome, _ = _run(finished / "tiny.yaml", out)
    assert outcome.status == 0
    assert (out / "table.csv").read_bytes() == (finished / "out" / "table.csv").read_bytes()
    assert not list(out.rglob("*.partial"))


def test_two_runs_in_one_folder_are_refused(recipe: Path, tmp_path: Path) -> None:
    with (
        lock(tmp_path / "out"),
        pytest.raises(UserError, match=f"another run is at work in .*process {os.getpid()}"),
    ):
        _run(recipe)


def test_a_killed_holder_leaves_no_lock(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from lens_eval.base.files import lock\n"
        "with lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "held"
    with pytest.raises(UserError, match="another run"), lock(tmp_path):
        pass
    process.kill()
    process.wait()
    process.stdout.close()
    with lock(tmp_path):
        pass


# --- refused before any work --------------------------------------------------------------------


def test_a_folder_of_something_else_is_left_alone(recipe: Path, tmp_path: Path, finished: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="holds no run"):
        _run(recipe, other)
    assert [p.name for p in other.iterdir()] == ["thesis.tex"]
    out = _copy(finished, tmp_path)
    text = recipe.read_text(encoding="utf-8").replace("name: tiny", "name: large")
    renamed = tmp_path / "large.yaml"
    renamed.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="holds another run \\(tiny\\)"):
        _run(renamed, out)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": ["tiny_qua"]}, "no task 'tiny_qua' \\(did you mean tiny_qa"),
        ({"data": {"train": "none.jsonl"}}, "no parallel data"),
        ({"include_path": ["none"]}, "no folder"),
        (
            {"variants": {"lens": {"method": "lens", "displacemnt": 1}}},
            "displacemnt.*did you mean displacement",
        ),
        ({"variants": {"x": {"model": "./none"}}}, "no model folder"),
    ],
)
def test_mistakes_are_refused_before_any_work(
    tmp_path: Path, model: Path, changes: dict[str, object], message: str
) -> None:
    tasks = tiny_world.make_tasks(tmp_path / "tasks", items=1)
    path = tiny_world.make_recipe(tmp_path, model, tasks, **changes)
    with pytest.raises(UserError, match=message):
        _run(path)
    assert not (tmp_path / "out").exists()


def test_a_model_without_template_and_a_full_disk_are_refused(
    tmp_path: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tiny_world.make_model(tmp_path / "bare", template=None)
    with pytest.raises(UserError, match="has no chat template"):
        _run(recipe, backbone=str(bare))
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match="not enough disk"):
        _run(recipe)
    assert not (tmp_path / "out").exists()


def test_a_gpu_that_is_not_there_is_refused(recipe: Path) -> None:
    import torch

    missing = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(UserError, match="cuda"):
        runner.run(load_recipe(recipe), recipe.parent / "out", device=missing)


class _Hub(http.server.BaseHTTPRequestHandler):
    """A hub that knows one gated model and no other."""

    def do_GET(self) -> None:
        gated = "org/gated" in self.path
        self.send_response(403 if gated else 404)
        self.send_header("X-Error-Code", "GatedRepo" if gated else "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize(
    ("model", "offline", "message"),
    [
        ("org/gated", False, "accepted its terms: do so at https://huggingface.co/org/gated"),
        ("org/none", False, "the hub has none of that name"),
        ("org/none", True, "not in the local cache and the hub cannot be asked"),
    ],
)
def test_a_model_that_is_not_to_be_had_is_refused_in_words(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, offline: bool, message: str
) -> None:
    from huggingface_hub import constants

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{hub.server_port}")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
        with pytest.raises(UserError, match=f"no model '{model}'.*{message}"):
            _run(recipe, backbone=model)
        hub.shutdown()
    assert not (tmp_path / "out").exists()


@contextlib.contextmanager
def _files_of_at_most(size: int) -> Iterator[None]:
    """A full disk, simulated: no file can be larger than `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_after_a_full_disk_the_same_command_goes_on(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with _files_of_at_most(80_000):  # the weights of a trained variant do not fit
        outcome, _ = _run(finished / "tiny.yaml", out)
    assert (outcome.status, outcome.done) == (1, 6)
    assert all(line.startswith("shaken") and "File too large" in line for line in outcome.failed)
    with (
        _files_of_at_most(3_000),  # nor does the record of the run
        pytest.raises(UserError, match=r"cannot write to .*make room, and the same command goes on"),
    ):
        _run(finished / "tiny.yaml", out)
    outcome, _ = _run(finished / "tiny.yaml", out)
    assert (outcome.status, outcome.done) == (0, 6)
    assert (out / "table.csv").read_bytes() == (finished / "out" / "table.csv").read_bytes()


def test_a_corrupt_cell_is_named_with_what_to_do(finished: Path, tmp_path: Path) -> None:
    out = _copy(finished, tmp_path)
    cell = out / "shaken" / "tiny_qa_sw"
    (samples,) = cell.glob("samples_*")
    samples.write_bytes(samples.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"tiny_qa_sw.*corrupt or cut short.*\n.*Remove that cell's folder"):
        _run(finished / "tiny.yaml", out)
    shutil.rmtree(cell)
    outcome, _ = _run(finished / "tiny.yaml", out)
    assert (outcome.status, outcome.done) == (0, 1)
    assert (out / "table.csv").read_bytes() == (finished / "out" / "table.csv").read_bytes()


def _make_adapter(folder: Path, model: Path, seed: int) -> Path:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    config = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(model), config).save_pretrained(folder)
    return folder


def test_a_changed_adapter_is_another_model(tmp_path: Path, model: Path) -> None:
    tasks = tiny_world.make_tasks(tmp_path / "tasks", items=2, languages=("sw",))
    adapter = _make_adapter(tmp_path / "adapter", model, 0)
    # The model that an adapter was made for may be gone or renamed: the recipe says which one it goes on.
    settings = adapter / "adapter_config.json"
    named = json.loads(settings.read_text(encoding="utf-8")) | {"base_model_name_or_path": "org/renamed"}
    settings.write_text(json.dumps(named), encoding="utf-8")
    path = tiny_world.make_recipe(
        tmp_path,
        model,
        tasks,
        languages=["en", "sw"],
        tasks=["tiny_qa_sw"],
        variants={"backbone": {}, "tuned": {"adapter": str(adapter)}},
    )
    assert _run(path)[0].done == 2
    assert _run(path)[0].done == 0
    weights = adapter / "adapter_model.safetensors"
    other = _make_adapter(tmp_path / "other", model, 1) / weights.name
    weights.write_bytes(other.read_bytes())
    outcome, said = _run(path)
    assert outcome.done == 1
    assert "backbone: nothing changed" in said[0]
    settings.unlink()
    with pytest.raises(UserError, match="is no adapter: it holds no adapter_config"):
        _run(path)


def test_the_same_samples_give_the_same_tables_byte_for_byte(
    finished: Path, tmp_path: Path, model: Path
) -> None:
    """Rebuilt by `lens compare`, and by the same recipe run from nothing into another folder."""
    rebuilt = tmp_path / "rebuilt"
    run.compare([str(finished / "out")], output=rebuilt)
    assert _run(finished / "tiny.yaml", tmp_path / "again")[0].status == 0
    for name in ("table.md", "table.csv", "table.tex"):
        made = (finished / "out" / name).read_bytes()
        assert (rebuilt / name).read_bytes() == made, name
        assert (tmp_path / "again" / name).read_bytes() == made, name
    for name in ("table.json", "made.md"):
        assert (rebuilt / name).read_bytes() == (finished / "out" / name).read_bytes(), name
    assert b"machine" in (rebuilt / "made.md").read_bytes()


# --- small parts --------------------------------------------------------------------------------


def test_paths_are_replaced_longest_first_and_whole(tmp_path: Path) -> None:
    paths = Paths({tmp_path: "OUT", tmp_path / "model": "MODEL"})
    text = f"{tmp_path}/model/x {tmp_path}/models {tmp_path}"
    assert paths.clean({"a": [text]}) == {"a": ["MODEL/x OUT/models OUT"]}
    assert paths.text(f"{tmp_path}-other") == f"{tmp_path}-other"


def test_keys_depend_on_content_alone() -> None:
    assert key_of({"a": 1, "b": [2]}) == key_of({"b": [2], "a": 1})
    assert key_of({"a": 1}) != key_of({"a": 2})


def test_an_adapter_folder_names_its_model(tmp_path: Path, model: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": str(model)}), encoding="utf-8"
    )
    assert sources.model_arguments(str(tmp_path)) == {"pretrained": str(model), "peft": str(tmp_path)}
    assert "lora_local_path" in sources.model_arguments(str(tmp_path), backend="vllm")
    (tmp_path / "adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="does not name its base model"):
        sources.model_arguments(str(tmp_path))
