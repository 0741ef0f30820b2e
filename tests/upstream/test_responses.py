"""Responses kept batch by batch: the same ones as without, and a kill loses the batch in flight alone."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_world
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lens_eval.runs import runner
from lens_eval.runs.recipe import load_recipe, with_changes
from lens_eval.upstream.responses import Keep, KeptResponses, in_batches, keeping

ROOT = Path(__file__).resolve().parents[2]
GREEDY = {"until": ["\n"], "max_gen_toks": 8, "do_sample": False}
SAMPLED = {"until": ["\n"], "max_gen_toks": 8, "do_sample": True, "temperature": 1.0}


# --- the file -----------------------------------------------------------------------------------


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    batches=st.lists(st.lists(st.text(), min_size=1, max_size=3), max_size=4),
    cut=st.integers(min_value=0),
)
def test_of_a_file_cut_anywhere_the_whole_batches_remain(
    tmp_path: Path, batches: list[list[str]], cut: int
) -> None:
    file = tmp_path / "kept"
    file.unlink(missing_ok=True)
    kept = KeptResponses.open(file, "key", [("a", {})], lambda: 3)
    for batch in batches:
        kept.add(batch)
    whole = file.read_bytes()
    cut %= len(whole) + 1
    file.write_bytes(whole[:cut])
    again = KeptResponses.open(file, "key", [("a", {})], lambda: 5)
    assert again.batches == batches[: max(0, whole[:cut].count(b"\n") - 1)]
    assert again.size == (3 if b"\n" in whole[:cut] else 5)
    again.add(["more"])
    assert KeptResponses.open(file, "key", [("a", {})], lambda: 5).batches == [*again.batches]


def test_what_was_kept_of_something_else_is_not_used(tmp_path: Path) -> None:
    file = tmp_path / "kept"
    KeptResponses.open(file, "key", [("a", {})], lambda: 1).add(["x"])
    assert KeptResponses.open(file, "key", [("a", {})], lambda: 1).batches == [["x"]]
    for key, requests in (("other", [("a", {})]), ("key", [("b", {})]), ("key", [("a", {"until": "."})])):
        KeptResponses.open(file, "key", [("a", {})], lambda: 1).add(["x"])
        assert KeptResponses.open(file, key, requests, lambda: 1).batches == []
    file.write_text("[]\nnot even JSON\n", encoding="utf-8")
    assert KeptResponses.open(file, "key", [("a", {})], lambda: 1).batches == []


# --- the batches --------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    prompts=st.lists(st.text(alphabet="abcé ", max_size=6), min_size=1, max_size=12),
    size=st.integers(1, 4),
)
def test_batches_are_those_of_lm_eval(prompts: list[str], size: int) -> None:
    from lm_eval.models.utils import Collator

    requests = [(prompt, GREEDY if index % 3 else SAMPLED) for index, prompt in enumerate(prompts)]
    collator = Collator(
        requests,
        lambda request: (-len(request[0]), request[0]),
        group_by="gen_kwargs",
        group_fn=lambda request: request[1],
    )
    theirs = [list(batch) for batch in collator.get_batched(n=size)]
    ours = in_batches(requests, size, len)
    assert [[requests[index] for index in batch] for batch in ours] == theirs
    assert sorted(index for batch in ours for index in batch) == list(range(len(prompts)))


# --- a model ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_world.make_model(tmp_path_factory.mktemp("tiny") / "model")


class _Counting:
    """Mixed in below: notes how many prompts each call of the model was given; may stop it."""

    calls: list[int]
    stop_after = 1000

    def _model_generate(self, context: Any, **arguments: Any) -> Any:
        if len(self.calls) == self.stop_after:
            raise KeyboardInterrupt
        self.calls.append(len(context))
        return super()._model_generate(context, **arguments)  # type: ignore[misc]


@pytest.fixture(scope="module")
def load(model: Path) -> Callable[[], Any]:
    """Load the tiny model with a count of its calls; batches of four."""
    from lm_eval.models.huggingface import HFLM

    bare = type("CountingLM", (_Counting, HFLM), {})

    def make(batch_size: int | str = 4, kept: bool = True) -> Any:
        lm = (keeping(bare) if kept else bare)(
            pretrained=str(model), device="cpu", dtype="float32", batch_size=batch_size
        )
        lm.calls = []
        return lm

    return make


def _requests(kwargs: dict[str, Any], count: int = 18) -> list[Any]:
    from lm_eval.api.instance import Instance

    prompts = [f"<user>{'what ' * (number % 5)}{number}?<assistant>" for number in range(count)]
    return [Instance("generate_until", {}, (prompt, kwargs), number) for number, prompt in enumerate(prompts)]


def test_greedy_responses_and_batches_are_those_of_the_bare_backend(
    load: Callable[..., Any], tmp_path: Path
) -> None:
    bare, lm = load(kept=False), load()
    theirs = bare.generate_until(_requests(GREEDY))
    with lm.keeping(Keep(tmp_path / "kept", "key")):
        assert lm.generate_until(_requests(GREEDY)) == theirs
    assert lm.calls == bare.calls == [4, 4, 4, 4, 2]
    assert len(set(theirs)) > 2  # the responses depend on the prompt
    assert lm.seconds > 0


@pytest.mark.parametrize("kwargs", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_an_interrupted_generation_goes_on_behind_its_last_batch(
    load: Callable[..., Any], tmp_path: Path, kwargs: dict[str, Any]
) -> None:
    lm, whole, broken = load(), Keep(tmp_path / "whole", "key", 3), Keep(tmp_path / "broken", "key", 3)
    with lm.keeping(whole):
        undisturbed = lm.generate_until(_requests(kwargs))
    lm.calls, lm.stop_after = [], 3
    with pytest.raises(KeyboardInterrupt), lm.keeping(broken):
        lm.generate_until(_requests(kwargs))
    lm.calls, lm.stop_after = [], 1000
    with lm.keeping(broken):
        assert lm.generate_until(_requests(kwargs)) == undisturbed
    assert lm.calls == [4, 2]
    # A control: other seeds sample other responses, and greedy ones do not depend on them.
    with lm.keeping(Keep(tmp_path / "other", "key", 4)):
        assert (lm.generate_until(_requests(kwargs)) == undisturbed) == (kwargs is GREEDY)


def test_each_generation_of_a_cell_is_kept(load: Callable[..., Any], tmp_path: Path) -> None:
    lm, keep = load(), Keep(tmp_path / "cell", "key")

    def ask_twice() -> list[list[str]]:
        with lm.keeping(keep):
            return [lm.generate_until(_requests(GREEDY)), lm.generate_until(_requests(GREEDY)[:6])]

    lm.stop_after = 6  # within the second
    with pytest.raises(KeyboardInterrupt):
        ask_twice()
    lm.calls, lm.stop_after = [], 1000
    resumed = ask_twice()
    assert lm.calls == [2]
    keep.remove()
    assert not list(tmp_path.iterdir())
    lm.calls = []
    assert ask_twice() == resumed
    assert lm.calls == [4, 4, 4, 4, 2, 4, 2]


def test_kept_responses_that_do_not_fit_are_generated_again(tmp_path: Path) -> None:
    kept = KeptResponses.open(tmp_path / "kept", "key", [("a", {})], lambda: 2)
    for batch in (["a", "b"], ["c"], ["d", "e"]):
        kept.add(batch)
    again = KeptResponses.open(tmp_path / "kept", "key", [("a", {})], lambda: 2)
    again.fit([[0, 1], [2, 3], [4, 5]])
    assert again.batches == [["a", "b"]]


def test_a_batch_size_that_was_searched_for_stays_that_of_the_cell(
    load: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = load("auto")
    monkeypatch.setattr(lm, "_detect_batch_size", lambda: 5, raising=True)
    lm.stop_after = 2
    with pytest.raises(KeyboardInterrupt), lm.keeping(Keep(tmp_path / "kept", "key")):
        lm.generate_until(_requests(GREEDY))
    monkeypatch.setattr(lm, "_detect_batch_size", lambda: 7, raising=True)  # more memory is free this time
    lm.stop_after = 1000
    with lm.keeping(Keep(tmp_path / "kept", "key")):
        lm.generate_until(_requests(GREEDY))
    assert lm.calls == [5, 5, 5, 3]
    assert lm.batch_size == "auto"


# --- the runner ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    tasks = tiny_world.make_tasks(folder / "tasks", items=160, languages=("sw",))
    return tiny_world.make_recipe(
        folder, model, tasks, languages=["en", "sw"], tasks=["tiny_qa_sw"], variants={"backbone": {}}
    )


def _samples(out: Path) -> bytes:
    (file,) = (out / "backbone" / "tiny_qa_sw").glob("samples_*")
    return gzip.decompress(file.read_bytes())


@pytest.fixture(scope="module")
def undisturbed(recipe: Path) -> Path:
    out = recipe.parent / "undisturbed"
    assert runner.run(load_recipe(recipe), out, device="cpu", say=lambda _: None).status == 0
    return out


def _batches_of_a_run(recipe: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Finish a run here; how often the model was called."""
    from lens_eval.backends.hf import LensHF

    calls = []
    generate = LensHF._model_generate

    def counted(self: Any, context: Any, **arguments: Any) -> Any:
        calls.append(len(context))
        return generate(self, context, **arguments)

    monkeypatch.setattr(LensHF, "_model_generate", counted)
    assert runner.run(load_recipe(recipe), out, device="cpu", say=lambda _: None).status == 0
    return len(calls)


def test_a_kill_in_mid_cell_loses_the_batch_in_flight_alone(
    recipe: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    file = out / "backbone" / "tiny_qa_sw.responses.partial"
    code = (
        "import sys; from pathlib import Path; from lens_eval.runs import recipe, runner;"
        "runner.run(recipe.load_recipe(sys.argv[1]), Path(sys.argv[2]), device='cpu')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(recipe), str(out)],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    )
    while process.poll() is None and not (file.exists() and file.read_bytes().count(b"\n") > 8):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = file.read_bytes().count(b"\n") - 1
    assert 8 <= kept < 40, "the kill was to come in the middle of the 40 batches"
    assert _batches_of_a_run(recipe, out, monkeypatch) == 40 - kept
    assert _samples(out) == _samples(undisturbed)
    assert (out / "table.csv").read_bytes() == (undisturbed / "table.csv").read_bytes()
    assert not list(out.rglob("*.partial"))


@pytest.mark.parametrize("limit", [None, 120], ids=["same cell", "changed cell"])
def test_kept_responses_are_used_for_their_own_cell_alone(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int | None
) -> None:
    """What was kept is marked, to be found again: in the results of the same cell, and in no others."""
    from lens_eval.backends.hf import LensHF

    out = tmp_path / "out"
    file = out / "backbone" / "tiny_qa_sw.responses.partial"
    generate = LensHF._model_generate

    def interrupted(self: Any, context: Any, **arguments: Any) -> Any:
        if file.read_bytes().count(b"\n") > 3:
            raise KeyboardInterrupt
        return generate(self, context, **arguments)

    with monkeypatch.context() as patched:
        patched.setattr(LensHF, "_model_generate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            runner.run(load_recipe(recipe), out, device="cpu", say=lambda _: None)
    first, *batches = file.read_text(encoding="utf-8").splitlines()
    marked = [json.dumps({"responses": ["MARKED"] * 4}) for _ in batches]
    file.write_text("\n".join([first, *marked, ""]), encoding="utf-8")
    changed = with_changes(load_recipe(recipe), limit=limit)
    assert runner.run(changed, out, device="cpu", say=lambda _: None).status == 0
    found = [json.loads(line)["resps"][0][0] for line in _samples(out).splitlines()]
    assert found.count("MARKED") == (12 if limit is None else 0)


def test_samples_are_those_of_plain_lm_eval(recipe: Path, undisturbed: Path) -> None:
    """The same responses as `simple_evaluate` gives without this project's runner."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    from lens_eval.runs.task_index import load_tasks
    from lens_eval.upstream.evaluation import NoManager

    checked = load_recipe(recipe)
    (task,) = load_tasks(checked.tasks, checked.languages, checked.include_path)
    found = simple_evaluate(
        HFLM(pretrained=checked.backbone, device="cpu", dtype="float32", batch_size=4),
        tasks=[task.task],
        task_manager=NoManager(),  # an index of all of lm_eval's tasks is not needed for this one
        apply_chat_template=True,
    )
    assert found is not None
    theirs = [sample["filtered_resps"] for sample in found["samples"]["tiny_qa_sw"]]
    ours = [json.loads(line)["filtered_resps"] for line in _samples(undisturbed).splitlines()]
    assert ours == theirs
