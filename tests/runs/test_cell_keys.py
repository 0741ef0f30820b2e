"""A cell is made again if an input that decides its numbers changes, and kept if anything else does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_world
import yaml
from safetensors.torch import load_file, save_file

from lens_eval.runs.keys import Identities, file_hash_of_variant
from lens_eval.runs.recipe import load_recipe, rows_of
from lens_eval.runs.task_index import load_tasks
from lens_eval.runs.workplace import Workplace

UTILS = """\
from pathlib import Path

import datasets
import own_words

HERE = Path(__file__).parent

def load(**_):
    def read(name):
        words = (HERE / name).read_text().split()
        return datasets.Dataset.from_list([{"q": word} for word in words])

    return {"test": read("test.txt"), "shown": read("shown.txt")}

def ask(doc):
    return own_words.ask(doc["q"])

def score(doc, results):
    return {"acc": 1.0}
"""
TASK = {
    "task": "mine",
    "test_split": "test",
    "fewshot_split": "shown",
    "num_fewshot": 1,
    "output_type": "generate_until",
    "doc_to_target": "{{q}}",
    "generation_kwargs": {"until": ["\n"]},
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    "metadata": {"version": 1},
}
FUNCTIONS = "custom_dataset: !function utils.load\ndoc_to_text: !function utils.ask\n"
FUNCTIONS += "process_results: !function utils.score\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, an adapter, a tokenizer of its own, a task with functions and examples, and a recipe."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("cells")
    model = tiny_world.make_model(folder / "model")
    bare = AutoModelForCausalLM.from_pretrained(model)
    get_peft_model(bare, LoraConfig(r=2, target_modules="all-linear")).save_pretrained(folder / "adapter")
    tiny_world.make_model(folder / "words")
    tasks = folder / "tasks"
    tasks.mkdir()
    (tasks / "mine.yaml").write_text(yaml.safe_dump(TASK) + FUNCTIONS)
    (tasks / "utils.py").write_text(UTILS)
    (tasks / "own_words.py").write_text("def ask(text):\n    return text + '?'\n")
    (tasks / "test.txt").write_text("one two")
    (tasks / "shown.txt").write_text("three four")
    recipe = {
        "backbone": str(model),
        "languages": ["en", "sw"],
        "variants": {"plain": {}, "adapted": {"adapter": str(folder / "adapter")}},
        "tasks": ["mine"],
        "include_path": [str(tasks)],
        "backend": {"args": {"tokenizer": str(folder / "words")}},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder


def _keys(folder: Path) -> dict[str, str]:
    recipe = load_recipe(folder / "recipe.yaml")
    shots = recipe.backend.num_fewshot
    (task,) = load_tasks(recipe.tasks, recipe.languages, recipe.include_path, recipe.limit, {}, shots)
    identities = Identities(recipe, "cpu")
    return {row.name: identities.cell(row, task) for row in rows_of(recipe)}


def _append(name: str, text: str) -> Callable[[Path], Any]:
    def change(folder: Path) -> None:
        file = folder / name
        file.write_text((file.read_text() if file.is_file() else "") + text)

    return change


def _weights(name: str) -> Callable[[Path], Any]:
    def change(folder: Path) -> None:
        tensors = load_file(folder / name)
        next(iter(tensors.values())).view(-1)[0] += 1
        save_file(tensors, folder / name, {"format": "pt"})

    return change


def _recipe(**changes: Any) -> Callable[[Path], Any]:
    def change(folder: Path) -> None:
        recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
        (folder / "recipe.yaml").write_text(yaml.safe_dump({**recipe, **changes}))

    return change


BOTH, ADAPTED, NONE = ["adapted", "plain"], ["adapted"], []
TOKENIZER = {"tokenizer": "{folder}/words"}
CHANGES: dict[str, tuple[Callable[[Path], Any], list[str]]] = {
    "weights": (_weights("model/model.safetensors"), BOTH),
    "config": (_append("model/config.json", " "), BOTH),
    "generation settings": (_append("model/generation_config.json", " "), BOTH),
    "tokenizer settings": (_append("model/tokenizer_config.json", " "), BOTH),
    "template": (_append("model/chat_template.jinja", "{# x #}"), BOTH),
    "adapter": (_weights("adapter/adapter_model.safetensors"), ADAPTED),
    "adapter's settings": (_append("adapter/adapter_config.json", " "), ADAPTED),
    "adapter's template": (_append("adapter/chat_template.jinja", "x"), ADAPTED),
    "a file among the backend's arguments": (_append("words/tokenizer_config.json", " "), BOTH),
    "functions of the task": (_append("tasks/utils.py", "\nMORE = 1\n"), BOTH),
    "what these import": (_append("tasks/own_words.py", "\nMORE = 1\n"), BOTH),
    "items": (_append("tasks/test.txt", " five"), BOTH),
    "examples": (_append("tasks/shown.txt", " six"), BOTH),
    "settings of the task": (_append("tasks/mine.yaml", "description: 'Answer.'\n"), BOTH),
    "limit": (_recipe(limit=1), BOTH),
    "seed": (_recipe(seeds=[1]), BOTH),
    "generation": (_recipe(backend={"gen_kwargs": {"max_gen_toks": 5}}), BOTH),
    "shots": (_recipe(backend={"num_fewshot": 0}), BOTH),
    # What decides nothing.
    "another file of the model": (_append("model/README.md", "x"), NONE),
    "words on the adapter": (_append("adapter/README.md", "x"), NONE),
    "stray weights": (_append("model/stray.bin", "x"), NONE),
    "another file of the tasks": (_append("tasks/notes.txt", "x"), NONE),
    "another task": (_append("tasks/other.py", "x = 1"), NONE),
    "name and words of the recipe": (_recipe(name="other", description="x", output="elsewhere"), NONE),
    "another variant": (_recipe(variants={"plain": {}, "more": {}}), NONE),
    "nothing": (lambda folder: None, NONE),
}


@pytest.mark.parametrize("what", CHANGES)
def test_each_input_changed_in_turn(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """All in another folder: where things lie decides nothing either."""
    before = _keys_of_copy(made, tmp_path / "before", monkeypatch, lambda folder: None)
    change, expected = CHANGES[what]
    after = _keys_of_copy(made, tmp_path / "after", monkeypatch, change)
    assert sorted(name for name in before.keys() & after.keys() if before[name] != after[name]) == expected
    assert before["plain"] != before["adapted"]


def _keys_of_copy(
    made: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], Any]
) -> dict[str, str]:
    shutil.copytree(made, folder)
    for name in ("recipe.yaml", "adapter/adapter_config.json"):
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace(str(made), "." if name == "recipe.yaml" else "BASE"))
    change(folder)
    with monkeypatch.context() as changed:
        changed.chdir(folder)
        changed.syspath_prepend(folder / "tasks")
        return _keys(folder)


def test_a_trained_models_files_count_by_size_and_time_not_once_for_all(tmp_path: Path) -> None:
    recipe_file = tiny_world.make_recipe(tmp_path, tiny_world.make_model(tmp_path / "model"), tmp_path)
    model = tiny_world.make_model(tmp_path / "trained")
    place = Workplace(load_recipe(recipe_file), tmp_path, "cpu")
    before = place.weights(model)
    assert before == file_hash_of_variant(model) == place.weights(model)
    (model / "variant.json").write_text(json.dumps({"wall_seconds": 3}))
    assert place.weights(model) == before, "the record of a variant decides nothing"
    _weights("trained/model.safetensors")(tmp_path)
    assert place.weights(model) == file_hash_of_variant(model) != before
