"""Recipes: what is read, and that a mistake is named before any work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from lens_eval.errors import UserError
from lens_eval.recipe import load_recipe, parse_recipe

RECIPES = Path(__file__).resolve().parents[1] / "recipes"


def _raw(**changes: Any) -> dict[str, Any]:
    raw: dict[str, Any] = {
        "backbone": "org/model",
        "languages": ["en", "zh"],
        "data": {"train": "pairs.jsonl"},
        "variants": {"backbone": {}, "lens": {"method": "lens", "displacement": 2.0}},
        "tasks": ["lens_mini"],
    }
    raw.update(changes)
    return {key: value for key, value in raw.items() if value is not None}


def test_a_recipe_is_read_whole(tmp_path: Path) -> None:
    recipe = parse_recipe(_raw(limit=5, seeds=[0, 1]), folder=tmp_path, default_name="mine")
    assert recipe.name == "mine"
    assert recipe.languages == ("en", "zh")
    assert recipe.train_data == str(tmp_path / "pairs.jsonl")
    assert recipe.variants[1].settings == {"displacement": 2.0}
    assert (recipe.limit, recipe.seeds, recipe.reference) == (5, (0, 1), "backbone")


def test_codes_are_normalised_and_builtin_names_and_hub_ids_kept(tmp_path: Path) -> None:
    recipe = parse_recipe(
        _raw(backbone="builtin", languages="EN,zh-cn,swh", data={"train": "builtin:train"}), folder=tmp_path
    )
    assert recipe.languages == ("en", "zh", "sw")
    assert (recipe.backbone, recipe.train_data) == ("builtin", "builtin:train")
    assert parse_recipe(_raw(), folder=tmp_path).backbone == "org/model"
    assert parse_recipe(_raw(backbone="./here"), folder=tmp_path).backbone == str(tmp_path / "here")


def test_norwegian_is_a_language_and_not_false() -> None:
    raw = yaml.safe_load("languages: [en, no]")
    assert raw["languages"][1] is False
    assert len(parse_recipe(_raw(languages=raw["languages"])).languages) == 2


def test_data_may_be_named_by_environment_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_PAIRS", str(tmp_path))
    assert parse_recipe(_raw(data={"train": "$MY_PAIRS/a.jsonl"})).train_data == str(tmp_path / "a.jsonl")
    monkeypatch.delenv("MY_PAIRS")
    with pytest.raises(UserError, match="MY_PAIRS"):
        parse_recipe(_raw(data={"train": "$MY_PAIRS/a.jsonl"}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"taks": ["x"]}, "unknown key 'taks' \\(did you mean tasks"),
        ({"languages": ["en", "xq"]}, "languages: .*xq"),
        ({"central": "fr"}, "central language fr is not among"),
        ({"variants": {"a": {"method": "lems"}}}, "unknown method 'lems' \\(did you mean lens"),
        ({"variants": {"a": {"modle": "x"}}}, "variants.a: unknown key 'modle' \\(did you mean model"),
        ({"variants": {"a": {"method": "lens", "model": "x"}}}, "exclude each other"),
        ({"variants": {"models": {}}}, "taken by the run"),
        ({"variants": {"a/b": {}}}, "cannot name a folder"),
        ({"backend": {"model": "vlm"}}, "did you mean vllm"),
        ({"backend": {"args": {"pretrained": "x"}}}, "set by the runner"),
        ({"backend": {"batch_size": 0}}, "batch_size.*at least 1"),
        ({"backend": {"apply_chat_template": "yes"}}, "true or false"),
        ({"tasks": ["a", "a"]}, "named twice: a"),
        ({"tasks": []}, "`tasks` is missing"),
        ({"data": None}, "needs parallel data"),
        ({"data": {"trian": "x"}}, "did you mean train"),
        ({"limit": 0}, "limit.*at least 1"),
        ({"seeds": [-1]}, "seeds.*at least 0"),
        ({"simulated": "perhaps"}, "true or false"),
    ],
)
def test_a_mistake_is_named(changes: dict[str, Any], message: str) -> None:
    parse_recipe(_raw())  # the control: without the change the recipe is right
    with pytest.raises(UserError, match=message):
        parse_recipe(
            _raw(**changes) if changes != {"data": None} else {k: v for k, v in _raw().items() if k != "data"}
        )


def test_no_file_and_no_yaml(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no recipe"):
        load_recipe(tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [", encoding="utf-8")
    with pytest.raises(UserError, match="not readable YAML"):
        load_recipe(broken)
    broken.write_text("- a\n", encoding="utf-8")
    with pytest.raises(UserError, match="mapping"):
        load_recipe(broken)


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_of_the_project_is_read_and_its_settings_exist(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lens_train.methods import read_settings, settings_of

    monkeypatch.setenv("LENS_DATA_DIR", "/data")
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    assert recipe.description
    for variant in recipe.variants:
        kind = settings_of(variant.method) if variant.method else None
        if kind is not None and variant.method:
            read_settings(kind, variant.settings, variant.method)


def test_the_demo_says_that_it_is_simulated() -> None:
    assert load_recipe(RECIPES / "demo.yaml").simulated
