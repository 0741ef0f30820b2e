"""What decides a number changes its key, and what decides none does not: each changed in turn, in a copy."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_world

from lens_eval.base.errors import UserError
from lens_eval.base.reached import libraries_of, reached, source_of
from lens_eval.runs.keys import Identities
from lens_eval.runs.recipe import Recipe, load_recipe, parse_recipe, rows_of

ROOT = Path(__file__).resolve().parents[2]
EDIT = """
import json, sys
from pathlib import Path
from lens_eval.runs.keys import Identities
from lens_eval.runs.recipe import load_recipe, rows_of
import lens_train

root, recipe = Path(lens_train.__file__).parents[1], load_recipe(sys.argv[1])
assert root == Path(sys.argv[2])

def keys():
    made = Identities(recipe, "cpu")
    found = {row.name: made.training(row) for row in rows_of(recipe) if row.trained}
    wanted = {"evaluated": "backbone", "evaluated steered": "steer", "evaluated biased": "bias"}
    rows = {row.name: row for row in rows_of(recipe)}
    def evaluated(row):
        return json.dumps(made._evaluating(rows[row]), sort_keys=True)

    return found | {name: evaluated(row) for name, row in wanted.items()}

before, changed = keys(), {}
for name in sys.argv[3:]:
    file = root / name
    text = file.read_text(encoding="utf-8")
    file.write_text(text + "# edited" + chr(10), encoding="utf-8")
    changed[name] = sorted(row for row, key in keys().items() if key != before[row])
    file.write_text(text, encoding="utf-8")
print(json.dumps(changed))
"""
EVALUATED = ("evaluated", "evaluated biased", "evaluated steered")
EDITED = {
    # decide no number
    "lens_train/watch/diagnostics.py": [],
    "lens_train/watch/plots.py": [],
    "lens_train/sweep/tables.py": [],
    "lens_eval/language/files/report.py": [],
    "lens_eval/page/report.py": [],
    "lens_eval/results/tables.py": [],
    "lens_eval/base/progress.py": [],
    # decide weights
    "lens_train/losses.py": ["lens"],
    "lens_train/baselines/tuning.py": ["drop", "sdrrl", "xsft"],
    "lens_train/baselines/translate.py": ["sdrrl"],
    "lens_train/steering/steer.py": ["steer"],
    "lens_train/decoding/bias.py": ["bias"],
    # decide answers and their scores, and which examples are dropped
    "lens_eval/language/off_target.py": ["drop", *EVALUATED],
    "lens_eval/language/detectors.py": ["drop", *EVALUATED],
    "lens_eval/tasks/answers.py": [*EVALUATED],
    "lens_eval/backends/hf.py": [*EVALUATED],
    "lens_eval/backends/steered.py": ["evaluated steered"],
    "lens_eval/backends/decoded.py": ["evaluated biased"],
    "lens_eval/tasks/words.yaml": [*EVALUATED],
    "lens_eval/language/calibration/common_words.txt": ["drop", *EVALUATED],
    "lens_eval/language/calibration/floor.json": [],
    # decide both
    "lens_train/decoder.py": ["drop", *EVALUATED, "lens", "sdrrl", "steer", "xsft"],
    "mine.py": ["mine"],
}


def _recipe(folder: Path, model: Path) -> Path:
    (folder / "pairs.jsonl").write_text('{"prompt": {"en": "a", "sw": "b"}}\n')
    (folder / "words.jsonl").write_text('{"en": "one", "sw": "moja"}\n')
    (folder / "dev.jsonl").write_text('{"prompt": {"en": "c", "sw": "d"}}\n')
    recipe = {
        "backbone": str(model),
        "languages": ["en", "sw"],
        "data": {"train": "pairs.jsonl"},
        "variants": {
            "backbone": {},
            "lens": {"method": "lens", "dev_data": "dev.jsonl"},
            "xsft": {"method": "xsft"},
            "drop": {"method": "xsft", "wrong_language": "drop"},
            "sdrrl": {"method": "sdrrl", "translator": "words.jsonl"},
            "steer": {"method": "steer"},
            "bias": {"method": "bias"},
            "mine": {"method": "mine:train", "words": "words.jsonl"},
        },
        "tasks": ["lens_mini"],
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    return folder / "recipe.yaml"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    return _recipe(folder, tiny_world.make_model(folder / "model"))


@pytest.fixture(scope="module")
def edited(recipe: Path) -> dict[str, list[str]]:
    root = recipe.parent / "code"
    for package in ("lens_eval", "lens_train"):
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "mine.py").write_text("def train(job): ...\n")
    run = subprocess.run(
        [sys.executable, "-c", EDIT, str(recipe), str(root), *EDITED],
        cwd=recipe.parent,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.parametrize("name", EDITED)
def test_an_edit_makes_anew_what_runs_through_the_module_and_nothing_else(
    edited: dict[str, list[str]], name: str
) -> None:
    assert edited[name] == EDITED[name]


def _keys(recipe: Recipe) -> dict[str, str]:
    made = Identities(recipe, "cpu")
    return {row.name: made.training(row) for row in rows_of(recipe) if row.trained and row.name != "mine"}


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("words.jsonl", ["sdrrl"]),
        ("dev.jsonl", ["lens"]),
        ("pairs.jsonl", ["bias", "drop", "lens", "sdrrl", "steer", "xsft"]),
        ("model/tokenizer_config.json", ["bias", "drop", "lens", "sdrrl", "steer", "xsft"]),
        ("model/generation_config.json", ["bias", "drop", "lens", "sdrrl", "steer", "xsft"]),
        ("model/README.md", []),
    ],
)
def test_inputs_count_by_their_content(recipe: Path, tmp_path: Path, name: str, rows: list[str]) -> None:
    shutil.copytree(recipe.parent / "model", tmp_path / "model")
    path = _recipe(tmp_path, tmp_path / "model")
    before = _keys(load_recipe(path))
    assert before == _keys(load_recipe(recipe)), "wherever they lie"
    file = tmp_path / name
    file.write_text((file.read_text() if file.is_file() else "") + " ")
    after = _keys(load_recipe(path))
    assert [row for row in sorted(before) if before[row] != after[row]] == rows


def test_libraries_count_where_they_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    scored = reached(["lens_eval.tasks.scoring"], ["lens_eval.base"])
    trained = reached(["lens_train.lens"], ["lens_eval.base", "lens_train.watch"])
    assert "lingua-language-detector" in libraries_of(scored)
    assert "lingua-language-detector" not in libraries_of(trained)
    assert {"torch", "transformers", "tokenizers"} <= libraries_of(trained).keys()
    assert "vllm" not in libraries_of(reached(["lens_eval.backends.hf"]))
    assert source_of(scored) != source_of(trained)


@pytest.mark.parametrize(
    ("variants", "seeds"),
    [
        ({"a": {"method": "steer", "data": "builtin"}, "a-seed0": {}}, [0, 1]),
        ({"a": {}, "A": {"model": "other/model"}}, [0]),
        ({"a": {"method": "steer", "data": "builtin"}}, [0, 0]),
    ],
)
def test_rows_of_one_name_are_refused(variants: dict[str, object], seeds: list[int]) -> None:
    raw = {"backbone": "builtin", "languages": ["en", "sw"], "tasks": ["lens_mini"]}
    parse_recipe({**raw, "variants": {"a": {}, "b": {"method": "steer", "data": "builtin"}}, "seeds": [0, 1]})
    with pytest.raises(UserError, match="two rows would be called"):
        parse_recipe({**raw, "variants": variants, "seeds": seeds})


def test_a_file_that_a_method_of_ones_own_reads_counts_by_its_content(tmp_path: Path) -> None:
    model = tiny_world.make_model(tmp_path / "model")

    def key(content: str, **settings: object) -> str:
        (tmp_path / "words.txt").write_text(content)
        (tmp_path / "pairs.jsonl").write_text("")
        given = {"method": "tiny_world:shake", "data": str(tmp_path / "pairs.jsonl"), **settings}
        raw = {"backbone": str(model), "languages": ["en", "sw"], "tasks": ["lens_mini"]}
        recipe = parse_recipe({**raw, "variants": {"a": given}}, folder=tmp_path)
        return Identities(recipe, "cpu").training(rows_of(recipe)[0])

    named = {"words": str(tmp_path / "words.txt")}
    assert key("one", **named) == key("one", **named) != key("two", **named)
    # Control: a text that names no file is a text.
    assert key("one", words="one") == key("two", words="one")


def test_a_folder_that_a_method_of_ones_own_reads_counts_by_its_content(tmp_path: Path) -> None:
    from lens_train.methods import input_files

    (tmp_path / "corpus").mkdir()
    named = {"corpus": str(tmp_path / "corpus"), "mode": "corpus", "rate": 1.0, "none": ""}
    assert input_files("tiny_world:shake", named) == {"corpus": str(tmp_path / "corpus")}


def test_modules_beside_a_method_of_ones_own_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_method_x.py").write_text("import own_helper_x\nimport yaml\ndef train(job): ...\n")
    (tmp_path / "own_helper_x.py").write_text("def go():\n    from own_package_x.deep import y\n")
    (tmp_path / "own_package_x").mkdir()
    (tmp_path / "own_package_x" / "__init__.py").write_text("")
    (tmp_path / "own_package_x" / "deep.py").write_text("import lens_train.losses\ny = 1\n")
    found = reached(["own_method_x"])
    assert {"own_method_x", "own_helper_x", "own_package_x.deep", "lens_train.losses"} <= found.keys()
    # Control: a library counts by its version.
    assert not [name for name in found if name.startswith("yaml")]
    assert "PyYAML" in libraries_of(found)
    before = source_of(found)
    (tmp_path / "own_package_x" / "deep.py").write_text("import lens_train.losses\ny = 2\n")
    assert source_of(reached(["own_method_x"])) != before
