"""The YAML files: as generated, found by lm_eval, and what a run with them leaves in the results."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from lm_eval.evaluator import evaluate
from task_items import TASKS, Oracle, load_tasks, write_hub_copies

from lens_eval.base.errors import UserError
from lens_eval.tasks import finding, lens_task
from lens_eval.tasks.families import LANGUAGES
from lens_eval.tasks.generate import FAMILIES, render, write
from lens_eval.tasks.items import load_split


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_hub_copies(tmp_path)
    monkeypatch.setenv("LENS_DATA_DIR", str(tmp_path))
    return tmp_path


def test_files_are_as_generated() -> None:
    for name, text in render().items():
        assert (TASKS / name).read_text(encoding="utf-8") == text, (
            f"run python -m lens_eval.tasks.generate ({name})"
        )
    ours = {path.relative_to(TASKS).as_posix() for path in TASKS.rglob("*lens_*") if "mini" not in path.parts}
    assert ours == {name for name in render() if "lens_" in name}


def test_writing_removes_files_that_are_no_longer_generated(tmp_path: Path) -> None:
    write(tmp_path)
    stale, foreign = tmp_path / "xnli" / "lens_xnli_xx.yaml", tmp_path / "xnli" / "notes.txt"
    stale.write_text((tmp_path / "xnli" / "lens_xnli_zh.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    foreign.write_text("mine", encoding="utf-8")
    write(tmp_path)
    assert not stale.exists()
    assert foreign.exists()


def test_task_files_are_thin_and_carry_their_metadata() -> None:
    for family in FAMILIES:
        for end, language, variant in family.tasks():
            path = TASKS / family.folder / f"lens_{family.name}_{end}.yaml"
            text = path.read_text(encoding="utf-8")
            assert len(text.splitlines()) <= 20
            metadata = yaml.safe_load(text)["metadata"]
            assert metadata["language"] == language
            own = language in LANGUAGES[family.items]
            assert metadata["family"] == (family.items if own else "global_mgsm")
            assert metadata.get("variant") == variant
            assert metadata["central"] == "en"
            assert metadata["version"]


def test_every_group_and_task_is_listed_and_builds(made_up: Path) -> None:
    for family in FAMILIES:
        tasks = load_tasks(f"lens_{family.name}")["tasks"]
        assert set(tasks) == {f"lens_{family.name}_{end}" for end, _, _ in family.tasks()}
    paper = load_tasks("lens_paper")["tasks"]
    assert {name.rsplit("_", 1)[1] for name in paper} == {"en", "zh", "ja", "ko", "ar", "bn", "sw"}
    assert "lens_mmlu_ko" not in paper
    assert "lens_kmmlu_ko" in paper


def test_results_hold_the_rows_and_the_group_mean(made_up: Path) -> None:
    tasks = load_tasks("lens_xcopa")
    for task in tasks["tasks"].values():
        task.set_config("num_fewshot", 0)
    results = evaluate(Oracle(lambda doc: ""), tasks, bootstrap_iters=0)
    metadata = results["configs"]["lens_xcopa_zh"]["metadata"]
    assert metadata["rows"]["test"] == load_split("xcopa", "zh", "test").record()
    assert set(metadata["rows"]) == {"test", "train"}
    assert results["groups"]["lens_xcopa"]["acc,none"] == 1.0
    assert results["versions"]["lens_xcopa_zh"] == 1.0


def test_cut_off_responses_are_counted(made_up: Path) -> None:
    class Words:
        """A tokenizer of words."""

        def encode(self, text: str, add_special_tokens: bool) -> list[str]:
            return text.split()

    model = Oracle(lambda doc: "uno dos tres cuatro" if doc["id"] else "uno")
    model.tokenizer = Words()  # type: ignore[attr-defined]
    tasks = load_tasks("lens_mgsm_es")
    task = tasks["tasks"]["lens_mgsm_es"]
    task.set_config("num_fewshot", 0)
    task.set_config("generation_kwargs", {"max_gen_toks": 4}, update=True)
    scores = evaluate(model, tasks, bootstrap_iters=0, apply_chat_template=True)["results"]["lens_mgsm_es"]
    assert scores["cut_off,none"] == pytest.approx(2 / 3)
    unknown = evaluate(Oracle(lambda doc: "uno"), load_one("lens_mgsm_es"), bootstrap_iters=0)
    assert "cut_off,none" not in unknown["results"]["lens_mgsm_es"]  # no tokenizer, no guess


def load_one(name: str) -> dict[str, Any]:
    tasks = load_tasks(name)
    tasks["tasks"][name].set_config("num_fewshot", 0)
    return tasks


def test_examples_that_do_not_exist_are_refused(made_up: Path) -> None:
    task = load_tasks("lens_mgsm_zh")["tasks"]["lens_mgsm_zh"]
    task.set_config("num_fewshot", 9)
    with pytest.raises(UserError, match=r"--num_fewshot 9 was asked for, there are 8"):
        task.build_all_requests(limit=1)


def test_test_items_are_no_examples(made_up: Path) -> None:
    """Japanese MMLU is published without the questions that examples are taken from."""
    with_examples = load_tasks("lens_mmlu_de")["tasks"]["lens_mmlu_de"]
    assert list(with_examples.fewshot_docs()) == list(with_examples.items["train"])
    task = load_tasks("lens_mmlu_ja")["tasks"]["lens_mmlu_ja"]
    assert len(task.items["test"]) > 0
    assert list(task.fewshot_docs()) == []
    task.set_config("num_fewshot", 1)
    with pytest.raises(UserError, match=r"there are 0 examples"):
        task.build_all_requests(limit=1)


def test_the_second_turn_needs_a_chat_template(made_up: Path) -> None:
    task = load_tasks("lens_mtbench_turn2_zh")["tasks"]["lens_mtbench_turn2_zh"]
    with pytest.raises(UserError, match="--apply_chat_template"):
        task.build_all_requests(limit=1)


def test_a_group_leaves_out_what_the_data_folder_lacks(
    made_up: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(finding, "_unreachable", "the hub cannot be reached")
    monkeypatch.setattr(lens_task, "_told", set())
    (made_up / "xnli").mkdir()
    for code in ("bg", "el"):
        (made_up / "facebook" / "xnli" / code / "test-00000-of-00001.parquet").unlink()
    with caplog.at_level(logging.WARNING):
        loaded = load_tasks("lens_xnli")
    assert set(loaded["tasks"]) == {
        f"lens_xnli_{code}" for code in LANGUAGES["xnli"] if code not in ("bg", "el")
    }
    assert len([record for record in caplog.records if "left out" in record.message]) == 1
    for task in loaded["tasks"].values():
        task.set_config("num_fewshot", 0)
    results = evaluate(Oracle(lambda doc: ""), loaded, bootstrap_iters=0)
    assert results["groups"]["lens_xnli"]["acc,none"] == 1.0
    assert "left out" in results["results"]["lens_xnli_bg"]["alias"]
    with pytest.raises(UserError, match="no test items for xnli, language bg"):
        load_tasks("lens_xnli_bg")


_LOAD = "from lm_eval.tasks import TaskManager as T; T(include_path={!r}, include_defaults=False).load({!r})"
_BY_COMMAND = ["-m", "lm_eval", "--model", "dummy", "--include_path", str(TASKS), "--tasks", "lens_xnli_zh"]


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["-c", _LOAD.format(str(TASKS), "lens_xnli_zh")], id="loaded"),
        # The command first lists lm_eval's own 14,000 tasks.
        pytest.param(_BY_COMMAND, id="command", marks=pytest.mark.slow),
    ],
)
def test_lm_eval_shows_one_line_where_items_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.delenv("LENS_DATA_DIR", raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    run = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode != 0
    assert "Traceback" not in run.stderr
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("lens: no test items for xnli, language zh")
    assert "hf download facebook/xnli" in last
