"""What is refused before a method starts, and that nothing is written then."""

from __future__ import annotations

import dataclasses
import re
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from baseline_helpers import LANGUAGES

from lens_eval.base.errors import UserError
from lens_eval.runs.recipe import load_recipe
from lens_train import methods
from lens_train.job import Job


def job(output: Path, method: str = "xsft", **settings: object) -> Job:
    return Job(method, "no-model", Path("no-data.jsonl"), LANGUAGES, output, settings=settings)


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("xstf", {}, r"unknown method xstf \(did you mean xsft\?\); there are lens, xsft"),
        ("no_such_module:train", {}, "No module named 'no_such_module'"),
        ("json:no_such_function", {}, "json has no function no_such_function"),
        (
            "xsft",
            {"learnig_rate": 1},
            r"no setting learnig_rate \(did you mean learning_rate\?\); it has train_items",
        ),
        ("xsft", {"rank": 8}, "no setting rank"),
        ("xsft_lora", {"rank": "8"}, "setting rank is '8'; int was expected"),
        ("xsft", {"wrong_language": "drp"}, "it can be keep, drop, unchecked"),
        ("xsft", {"epochs": 0}, "setting epochs is 0; it must be at least 1"),
        ("xsft", {"gradient_checkpointing": 1}, "bool was expected"),
    ],
)
def test_refused_before_work(tmp_path: Path, method: str, settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        methods.train(job(tmp_path / "out", method, **settings))
    assert not (tmp_path / "out").exists()


def test_every_method_is_there_and_names_its_settings() -> None:
    for method in methods.METHODS:
        module, function = methods.load(method)
        assert callable(getattr(module, function))
        if method != "lens":
            kind = methods.settings_of(method)
            assert kind is not None
            fields = {field.name: str(field.type) for field in dataclasses.fields(kind)}
            known = methods.METHODS[method]
            assert {*known.paths, *known.maybe_paths} <= fields.keys()
            # A setting that is a text and may be left out names a file, as a rule: it must be declared.
            texts = {name for name, type_ in fields.items() if type_ == "str | None"}
            assert texts <= {*known.paths, *known.maybe_paths}
            if known.work == "tuning":
                assert kind().train_items == known.items


def test_the_help_names_every_method() -> None:
    from lens_eval.commands import train

    shown = typing.get_type_hints(train.train, include_extras=True)["method"].__metadata__[0].help
    told = dict(line.split(": ") for line in shown.partition("; or your own")[0].split("; "))
    assert told == {name: method.help for name, method in methods.METHODS.items()}


def test_a_method_of_the_users_own_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module anywhere on the path: its settings are checked and its function fills the folder."""
    (tmp_path / "my_method.py").write_text(
        "from dataclasses import dataclass\n"
        "from lens_train import methods\n"
        "@dataclass(frozen=True)\n"
        "class Settings:\n"
        "    rate: float = 0.5\n"
        "SETTINGS = {'train': Settings}\n"
        "def train(job):\n"
        "    settings = methods.read_settings(Settings, job.settings, job.method)\n"
        "    methods.begin(job)\n"
        "    (job.output / 'variant.json').write_text(str(settings.rate))\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    methods.train(job(tmp_path / "out", "my_method:train", rate=2.5e-1))
    assert (tmp_path / "out" / "variant.json").read_text() == "0.25"
    with pytest.raises(UserError, match="my_method:train has no setting speed; it has rate"):
        methods.train(job(tmp_path / "other", "my_method:train", speed=1))
    assert not (tmp_path / "other").exists()


def test_the_demos_settings_are_those_the_document_marks() -> None:
    """docs/baselines.md lists what was tried on the dev split, the rows taken in bold."""
    root = Path(__file__).resolve().parents[2]
    recipe = load_recipe(root / "recipes" / "demo.yaml")
    text = (root / "docs" / "baselines.md").read_text(encoding="utf-8")
    assert all(f"| `{method}` |" in text for method in methods.METHODS if method != "lens")
    marked = set(re.findall(r"^\| (\w+) \| \*\*(.+?)\*\* \|", text, flags=re.MULTILINE))
    used = set()
    for variant in recipe.variants:
        get = variant.settings.get
        if variant.method == "steer":
            both = f"remove {get('remove_strength'):g}, restore {get('restore_strength'):g}"
            used.add(("steer", f"add {get('add_strength'):g}" if get("add_strength") else both))
        elif variant.method == "lens":
            assert not variant.settings, "its defaults are the same for every model"
            used.add(("lens", "default"))
        elif variant.method:
            used.add((variant.method, f"{get('learning_rate'):.0e}".replace("e-0", "e-")))
    assert used == marked
    # Nothing of these was tried on the built-in model yet.
    assert {method for method, _ in used} == set(methods.METHODS) - {"diffmean", "recover", "liseco", "bias"}


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux forgets a peak")
def test_a_run_is_not_charged_the_memory_of_the_one_before() -> None:
    import torch

    from lens_train.memory import peak_memory, reset_peak

    device, size = torch.device("cpu"), 200 << 20
    before = peak_memory(device)
    block = torch.ones(size, dtype=torch.uint8)
    high = peak_memory(device)
    assert high >= before + size // 2
    del block
    assert peak_memory(device) > high - size // 10, "a peak stays until it is forgotten"
    reset_peak()
    assert peak_memory(device) < high - size // 2


def test_an_output_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    methods.check_output(job(out))
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty and holds no run"):
        methods.train(job(out))
    (out / "thesis.txt").unlink()
    methods.begin(job(out, epochs=2))
    methods.check_output(job(out, epochs=2))
    with pytest.raises(UserError, match="another job \\(it differs in settings\\)"):
        methods.train(job(out, epochs=3))
    (out / "variant.json").write_text("{}")
    with pytest.raises(UserError, match="holds a finished variant"):
        methods.train(job(out, epochs=2))
    with pytest.raises(UserError, match="is a file"):
        methods.check_output(job(out / "variant.json"))


@dataclass(frozen=True)
class Sample:
    rate: float = 1.0
    count: int | None = 3
    names: tuple[str, ...] | None = None
    kind: Literal["a", "b"] = "a"


def test_settings_are_read_as_yaml_gives_them() -> None:
    read = methods.read_settings(Sample, {"rate": 1e-5, "count": None, "names": ["x"], "kind": "b"}, "m")
    assert read == Sample(1e-5, None, ("x",), "b")
    assert methods.read_settings(Sample, {"rate": 2}, "m").rate == 2.0
    with pytest.raises(UserError, match="a list was expected"):
        methods.read_settings(Sample, {"names": "x"}, "m")
    with pytest.raises(UserError, match="float was expected"):
        methods.read_settings(Sample, {"rate": "fast"}, "m")
