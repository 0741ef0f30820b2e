"""Recipes: what is read, and that a mistake is named before any work."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_world
import yaml

from lens_eval.base.errors import UserError
from lens_eval.runs import preflight, runner
from lens_eval.runs.recipe import load_recipe, parse_recipe, unset_variable, with_changes
from lens_train.config import LensConfig
from lens_train.lens import RUN_SETTINGS
from lens_train.methods import read_settings, settings_of

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


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


def test_numbers_of_a_recipe_need_no_point_and_names_stay_as_written(tmp_path: Path) -> None:
    raw = _raw(variants={"PLACE": {"method": "lens", "learning_rate": "RATE", "displacement": {"no": 0.5}}})
    text = yaml.safe_dump(raw).replace("RATE", "1e-4").replace("PLACE", "1e-4").replace("'no'", "no")
    assert "learning_rate: 1e-4\n" in text
    file = tmp_path / "a.yaml"
    file.write_text(text, encoding="utf-8")
    variant = load_recipe(file).variants[0]
    assert variant.name == "1e-4"
    assert variant.settings == {"learning_rate": 1e-4, "displacement": {"no": 0.5}}


def test_data_may_be_named_by_environment_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_PAIRS", str(tmp_path))
    assert parse_recipe(_raw(data={"train": "$MY_PAIRS/a.jsonl"})).train_data == str(tmp_path / "a.jsonl")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MY_PAIRS", "../beside")
    elsewhere = tmp_path / "recipes"
    beside = parse_recipe(_raw(data={"train": "$MY_PAIRS/a.jsonl"}), folder=elsewhere).train_data
    assert beside == str(tmp_path.parent / "beside" / "a.jsonl")  # from the shell's folder, not the recipe's
    monkeypatch.delenv("MY_PAIRS")
    recipe = parse_recipe(_raw(backbone="builtin", data={"train": "$MY_PAIRS/a.jsonl"}), folder=tmp_path)
    assert recipe.train_data == "$MY_PAIRS/a.jsonl"  # readable, so that it can be planned
    assert unset_variable(recipe.train_data) == "MY_PAIRS"
    assert unset_variable("${MY_PAIRS}/x") == "MY_PAIRS"
    assert unset_variable("/data/pairs.jsonl") is None
    with pytest.raises(UserError, match=r"variants\.lens: .*MY_PAIRS, which is not set"):
        preflight.check(recipe, tmp_path / "out", "cpu")


def test_settings_that_name_files_are_paths_of_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_TEXTS", "/texts")
    variants = {"lens": {"method": "lens", "probe_data": "$MY_TEXTS/a", "subspaces": "sub", "rank": 1}}
    settings = parse_recipe(_raw(variants=variants), folder=tmp_path).variants[0].settings
    assert settings == {"probe_data": "/texts/a", "subspaces": str(tmp_path / "sub"), "rank": 1}


def test_an_optional_variant_is_left_out_where_nobody_named_its_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MY_PAIRS", raising=False)
    variants = {"backbone": {}, "xsft": {"method": "xsft", "data": "$MY_PAIRS", "optional": True}}
    left, reasons = preflight.available(parse_recipe(_raw(variants=variants), folder=tmp_path))
    assert [spec.name for spec in left.variants] == ["backbone"]
    assert "MY_PAIRS" in reasons["xsft"]
    # A folder that was named and is not there is a mistake, not a choice.
    monkeypatch.setenv("MY_PAIRS", str(tmp_path / "none"))
    named = parse_recipe(_raw(backbone="builtin", variants=variants), folder=tmp_path)
    assert preflight.available(named) == (named, {})
    with pytest.raises(UserError, match=r"variants\.xsft: no parallel data"):
        preflight.check(named, tmp_path / "out", "cpu")
    # What is not optional is not left out, and of nothing but optional variants nothing may be left.
    monkeypatch.delenv("MY_PAIRS")
    needed = {"backbone": {}, "xsft": {"method": "xsft", "data": "$MY_PAIRS"}}
    assert not preflight.available(parse_recipe(_raw(variants=needed)))[1]
    del variants["backbone"]
    with pytest.raises(UserError, match="no variant is left"):
        preflight.available(parse_recipe(_raw(variants=variants)))


def test_the_command_line_changes_backbone_backend_and_generation() -> None:
    backend = {"model": "vllm", "args": {"dtype": "bfloat16", "max_model_len": 9}, "batch_size": "auto"}
    recipe = parse_recipe(_raw(backend={**backend, "gen_kwargs": {"do_sample": False}}))
    changed = with_changes(recipe, limit=5, backbone="./x", backend="hf", gen_kwargs={"max_gen_toks": 7})
    assert (changed.limit, changed.backbone, changed.backend.model) == (5, "./x", "hf")
    assert changed.backend.args == {"dtype": "bfloat16"}
    assert changed.backend.batch_size == 8
    assert changed.backend.gen_kwargs == {"do_sample": False, "max_gen_toks": 7}
    assert with_changes(recipe, backend="vllm") == recipe


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
        ({"backbone": ["a"]}, "model by its id or path.*\\['a'\\]"),
        ({"variants": {"a": {"adapter": {"x": 1}}}}, "model by its id or path"),
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
    for name in ("LENS_DATA_DIR", "LENS_PAIRS", "LENS_PROMPTS"):
        monkeypatch.setenv(name, "/data")
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    assert recipe.description
    for variant in recipe.variants:
        settings = dict(variant.settings)
        if variant.method == "lens":
            run = {name: settings.pop(name) for name in RUN_SETTINGS if name in settings}
            LensConfig.build(recipe.languages, recipe.central, settings)
            assert run.get("probe_data", "/data/").startswith("/data/")
        elif variant.method and (kind := settings_of(variant.method)):
            read_settings(kind, settings, variant.method)


@pytest.mark.parametrize("name", ["llama3_8b", "llama31_8b", "phi35_mini"])
@pytest.mark.parametrize("languages", ["bilingual", "multilingual"])
def test_recipes_of_the_paper_have_the_released_settings(name: str, languages: str) -> None:
    recipe = load_recipe(RECIPES / f"{name}_{languages}.yaml")
    assert recipe.languages == (
        ("en", "zh") if languages == "bilingual" else ("en", "zh", "ja", "ko", "ar", "bn", "sw")
    )
    variants = {variant.name: dict(variant.settings) for variant in recipe.variants}
    for settings in variants.values():
        settings.pop("probe_data", None)
    config = LensConfig.build(recipe.languages, "en", variants["lens"])
    assert (config.learning_rate, config.schedule, config.warmup, config.weight_decay) == (
        1e-5,
        "cosine",
        0.05,
        0.1,
    )
    assert config.epochs * config.train_items // config.batch_size == 25
    assert (config.trained_layers, config.train_tokens) == (2, 128)
    assert (config.probe_items, config.probe_tokens) == (300, 64)
    assert (config.displacement, config.align_weight, config.separate_weight, config.retain_weight) == (
        1.0,
    ) * 4
    assert config.subspace_rank == len(recipe.languages) - 1
    official = LensConfig.build(recipe.languages, "en", variants["lens_official"])
    assert dataclasses.replace(official, compat=None) == config
    assert official.protocol.own_systems
    assert not config.protocol.own_systems
    no_align = LensConfig.build(recipe.languages, "en", variants["lens_no_align"])
    assert dataclasses.replace(no_align, align_weight=1.0) == config
    if name == "phi35_mini":
        assert config.system_prompt == recipe.backend.system_instruction == "You are a helpful assistant."


def test_qwen3_does_not_think_in_training_nor_in_evaluation() -> None:
    recipe = load_recipe(RECIPES / "qwen3_8b_multilingual.yaml")
    assert recipe.backend.args["enable_thinking"] is False
    settings = next(variant.settings for variant in recipe.variants if variant.name == "lens")
    assert settings["template_args"] == {"enable_thinking": False}


def test_the_demo_says_that_it_is_simulated() -> None:
    assert load_recipe(RECIPES / "demo.yaml").simulated


def test_what_the_data_folder_lacks_is_left_out_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lens_eval.runs.task_index import load_tasks

    questions = tmp_path / "mt_bench" / "en"
    questions.mkdir(parents=True)
    row = {"question_id": 1, "category": "writing", "turns": ["Write a line.", "And another."]}
    (questions / "question.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    monkeypatch.delenv("LENS_DATA_DIR", raising=False)
    with pytest.raises(UserError, match="no test items for xcopa, language en"):
        load_tasks(["lens_paper_official"], ["en"])
    monkeypatch.setenv("LENS_DATA_DIR", str(tmp_path))
    left_out: dict[str, str] = {}
    tasks = load_tasks(["lens_paper_official"], ["en"], left_out=left_out)
    assert [(task.name, task.items) for task in tasks] == [("lens_mtbench_en", 1)]
    assert sorted(left_out) == [
        "lens_mmlu_official_en",
        "lens_xcopa_official_en",
        "lens_xstorycloze_official_en",
        "lens_xwinograd_official_en",
    ]
    assert left_out["lens_xcopa_official_en"].startswith("no test items for xcopa, language en")
    # A task asked for by its own name is not left out.
    with pytest.raises(UserError, match="no test items for xcopa"):
        load_tasks(["lens_xcopa_official_en"], ["en"], left_out={})


def test_a_run_says_what_it_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_PAIRS", raising=False)
    variants = {"backbone": {}, "xsft": {"method": "xsft", "data": "$MY_PAIRS", "optional": True}}
    folder = tiny_world.make_tasks(tmp_path / "tasks", items=2, languages=("en", "sw", "zh"))
    path = tiny_world.make_recipe(
        tmp_path, tiny_world.make_model(tmp_path / "model"), folder, variants=variants, tasks=["tiny_choice"]
    )
    said: list[str] = []
    outcome = runner.run(load_recipe(path), tmp_path / "out", device="cpu", say=said.append)
    assert outcome.status == 0
    assert said[0].startswith("left out: xsft: the environment variable MY_PAIRS")
    assert outcome.comparison is not None
    assert outcome.comparison.variants == ("backbone",)
    assert any(note.startswith("xsft was left out: ") for note in outcome.comparison.notes)
    assert "xsft was left out" in (tmp_path / "out" / "table.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_recipe_of_the_paper_runs_to_the_report_on_another_backbone(shared: Path, tmp_path: Path) -> None:
    changes = ["--backbone", str(shared / "golden" / "model"), "--backend", "hf", "--limit", "2"]
    command = [sys.executable, "-m", "lens_eval", "reproduce", str(RECIPES / "llama3_8b_bilingual.yaml")]
    environment = {**os.environ, "LENS_DATA_DIR": str(shared / "data")}
    environment.pop("LENS_PAIRS", None)
    output = tmp_path / "run"
    more = ["--gen-kwargs", "max_gen_toks=16", "--output", str(output)]
    done = subprocess.run(
        [*command, *changes, *more], capture_output=True, text=True, timeout=1500, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert (output / "report.html").stat().st_size > 10_000
    text = (output / "table.md").read_text(encoding="utf-8")
    for words in ("lens_official", "lens_no_align", "lens_xcopa_official", "lens_mtbench", "were left out"):
        assert words in text
    assert "not applicable  sdrrl_above_backbone_on_xcopa" in done.stdout
    weights = {
        hashlib.sha256(file.read_bytes()).hexdigest() for file in output.glob("models/*/model.safetensors")
    }
    assert len(weights) == 3  # lens, lens_official and lens_no_align are three models


def test_several_languages_in_one_text_are_refused() -> None:
    raw = {"backbone": "builtin", "variants": {"a": {}}, "tasks": ["lens_mini"]}
    assert parse_recipe({**raw, "languages": ["en", "zh-CN", "Chinese (simplified)"]}).languages == (
        "en",
        "zh",
    )
    for languages in ("en zh,sw", ["en", "zh sw"], ["en", "zh.sw"]):
        with pytest.raises(UserError, match="separate codes with commas"):
            parse_recipe({**raw, "languages": languages})
