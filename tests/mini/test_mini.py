"""The simulated world: its items, its tasks, its backbone, and what Lens does to it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lens_eval import mini
from lens_eval.base.errors import UserError
from lens_eval.mini import wordings, world
from lens_eval.tasks import built_in

NON_CENTRAL = tuple(language for language in wordings.LANGUAGES if language != wordings.CENTRAL)
DETECTED_AMONG = tuple(sorted(("en", "zh", "ja", "ko", "ar", "bn", "sw", "es", "fr", "de", "ru", "th")))


@pytest.mark.parametrize("split", mini.SPLITS)
def test_packaged_items_are_what_the_generator_makes(split: str) -> None:
    assert mini.items_path(split).read_text(encoding="utf-8") == world.to_jsonl(world.items(split))


def test_no_item_question_reply_or_fact_is_in_two_splits() -> None:
    made = {split: world.items(split) for split in mini.SPLITS}
    for first, second in (("train", "dev"), ("train", "test"), ("dev", "test")):
        assert not {item.id for item in made[first]} & {item.id for item in made[second]}
        for language in wordings.LANGUAGES:
            for field in ("prompt", "response"):
                seen = [{getattr(item, field)[language] for item in made[split]} for split in (first, second)]
                assert not seen[0] & seen[1], (first, second, language, field)
    # Control: within a split the same reply does answer several wordings.
    assert len({item.response["en"] for item in made["test"]}) * 3 == len(made["test"])


@pytest.mark.parametrize("split", mini.SPLITS)
def test_every_item_is_complete_and_distinct_in_every_language(split: str) -> None:
    for language in wordings.LANGUAGES:
        prompts = [item.prompt[language] for item in world.items(split)]
        assert all(prompts)
        assert len(set(prompts)) == len(prompts)
    for item in world.items(split):
        assert set(item.prompt) == set(item.response) == set(item.value) == set(wordings.LANGUAGES)
        for language in wordings.LANGUAGES:
            assert item.response[language].startswith(world.OPENING[language])
            assert "{" not in item.prompt[language] + item.response[language]
            assert len(item.response[language].splitlines()) == 1


def test_every_kind_is_in_every_split() -> None:
    for split in mini.SPLITS:
        assert {item.kind for item in world.items(split)} == set(wordings.KINDS)


def test_the_value_is_read_out_of_every_gold_reply_and_of_no_wrong_one() -> None:
    for item in (*world.items("dev"), *world.items("test")):
        for language in wordings.LANGUAGES:
            known = world.values(item.kind, language)
            right = [
                world.last_value(choice, known) == item.value[language] for choice in item.choices[language]
            ]
            assert right == [index == item.answer for index in range(world.N_CHOICES)], (item.id, language)


def test_wrong_choices_are_no_true_reply_of_any_split() -> None:
    for language in wordings.LANGUAGES:
        true = {world.reply(fact, language) for fact in world.facts()}
        for item in world.items("test"):
            assert [choice in true for choice in item.choices[language]].count(True) == 1


@pytest.mark.parametrize(
    ("text", "language", "value"),
    [
        ("Jibu ni kumi na saba.", "sw", "kumi na saba"),
        ("Jibu ni kumi.", "sw", "kumi"),
        ("三加四，结果是十七。", "zh", "十七"),
        ("Three and four make SEVEN.", "en", "seven"),
        ("Seventeenish", "en", None),
        ("حاصل جمع ثلاثة وأربعة هو سبعة عشر.", "ar", "سبعة عشر"),
    ],
)
def test_the_last_and_longest_value_counts(text: str, language: str, value: str | None) -> None:
    assert world.last_value(text, world.values("sum", language)) == value


def test_a_right_english_answer_counts_as_understood_but_not_as_on_target() -> None:
    doc = next(doc for doc in built_in.documents("test", "sw") if doc["kind"] == "colour")
    english = next(item.response["en"] for item in world.items("test") if item.id == doc["id"])
    own = built_in.qa(doc, [doc["response"]])
    assert (own["acc"], own["on_target"], own["correct_on_target"]) == (1, 1, 1)
    central = built_in.qa(doc, [english])
    assert (central["acc"], central["off_target"], central["correct_on_target"]) == (1, 1, 0)
    wrong = built_in.qa(doc, [doc["choices"][(doc["answer"] + 1) % world.N_CHOICES]])
    assert (wrong["acc"], wrong["on_target"], wrong["correct_on_target"]) == (0, 1, 0)


def test_gold_replies_are_judged_on_target_and_english_ones_off() -> None:
    from lens_eval.language.off_target import get_judge

    judge = get_judge("en", DETECTED_AMONG)
    for language in wordings.LANGUAGES:
        items = world.items("test")
        own = [judge.judge(i.response[language], language, prompt=i.prompt[language]).outcome for i in items]
        assert own.count("on_target") >= 0.99 * len(items), language
    for language in NON_CENTRAL:
        english = [judge.judge(i.response["en"], language, prompt=i.prompt[language]).outcome for i in items]
        assert english.count("central") >= 0.97 * len(items), language


def test_names_of_models_and_data() -> None:
    assert mini.resolve_model("builtin") == str(mini.backbone_path())
    assert mini.resolve_model("org/model") == "org/model"
    assert mini.resolve_data("builtin") == mini.resolve_data("builtin:train") == mini.items_path("train")
    assert mini.resolve_data("some/file.jsonl") == Path("some/file.jsonl")
    with pytest.raises(UserError, match=r"train, dev, test"):
        mini.resolve_data("builtin:valid")


# The backbone: what is shipped, and that its script makes it.


def _sample(split: str, language: str, limit: int | None = None) -> list[dict]:
    return built_in.documents(split, language)[:limit]


def _scores(folder: Path, split: str, limit: int | None = None) -> dict[str, dict[str, float]]:
    """Mean metrics of the greedy replies, by language."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    means = {}
    for language in wordings.LANGUAGES:
        docs = _sample(split, language, limit)
        chats = [[{"role": "user", "content": doc["prompt"]}] for doc in docs]
        texts = tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=True)
        batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        with torch.no_grad():
            made = model.generate(
                batch["input_ids"], attention_mask=batch["attention_mask"], max_new_tokens=48
            )
        replies = tokenizer.batch_decode(made[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
        scores = [built_in.qa(doc, [reply]) for doc, reply in zip(docs, replies, strict=True)]
        names = ("acc", "off_target", "correct_on_target")
        means[language] = {name: sum(score[name] for score in scores) / len(scores) for name in names}
    return means


def _off_target(means: dict[str, dict[str, float]]) -> float:
    return sum(means[language]["off_target"] for language in NON_CENTRAL) / len(NON_CENTRAL)


@pytest.fixture(scope="module")
def backbone_scores() -> dict[str, dict[str, float]]:
    return _scores(mini.backbone_path(), "dev")


def test_backbone_is_small_and_holds_no_code() -> None:
    files = {path.name for path in mini.backbone_path().iterdir()}
    assert sum(path.stat().st_size for path in mini.backbone_path().iterdir()) <= 8e6
    assert "model.safetensors" in files
    assert not [name for name in files if name.endswith((".py", ".bin", ".pt", ".pkl"))]


def test_backbone_understands_every_language_and_answers_in_english(
    backbone_scores: dict[str, dict[str, float]],
) -> None:
    assert backbone_scores["en"]["acc"] >= 0.9
    assert backbone_scores["en"]["off_target"] == 0
    assert 0.6 <= _off_target(backbone_scores) <= 0.95
    for language in NON_CENTRAL:
        assert backbone_scores[language]["acc"] >= 0.85, language
        assert backbone_scores[language]["off_target"] >= 0.45, language
        # It can answer in the language: sometimes it does.
        assert backbone_scores[language]["correct_on_target"] > 0, language


def test_shipped_tokenizer_is_the_one_the_script_makes(tmp_path: Path) -> None:
    from lens_eval.mini import build as script

    script.build_tokenizer(script.Recipe().vocabulary).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "chat_template.jinja"):
        assert (tmp_path / name).read_bytes() == (mini.backbone_path() / name).read_bytes()


def test_a_short_rebuild_writes_a_checkpoint_twice_the_same(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    from lens_eval.mini import build as script

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for name, seed in (("first", 0), ("second", 0), ("other", 1)):
            script.build(tmp_path / name, script.Recipe(seed=seed, text_steps=2, chat_steps=2))
    finally:
        torch.set_num_threads(threads)
    first, second, other = (
        load_file(tmp_path / name / "model.safetensors") for name in ("first", "second", "other")
    )
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)
    shipped = json.loads((mini.backbone_path() / "config.json").read_text(encoding="utf-8"))
    assert json.loads((tmp_path / "first/config.json").read_text(encoding="utf-8")) == shipped
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "first").generation_config.eos_token_id == 2


def test_rebuild_never_overwrites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lens_eval.mini import build as script

    (tmp_path / "mine").write_text("kept", encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["mini", "--output", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        script.main()
    assert stop.value.code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.slow
def test_the_whole_rebuild_is_the_shipped_backbone_in_what_it_does(tmp_path: Path) -> None:
    from lens_eval.mini import build as script

    script.build(tmp_path / "backbone")
    rebuilt = _scores(tmp_path / "backbone", "test")
    shipped = _scores(mini.backbone_path(), "test")
    # Another machine sums in another order, so weights may differ; the habit may not.
    assert abs(_off_target(rebuilt) - _off_target(shipped)) <= 0.2
    assert rebuilt["en"]["acc"] >= 0.9


# Lens on it, with the settings of the demo.


def _demo_settings() -> dict[str, object]:
    from lens_eval.runs.recipe import load_recipe

    recipe = load_recipe(Path(__file__).resolve().parents[2] / "recipes" / "demo.yaml")
    return dict(next(variant.settings for variant in recipe.variants if variant.name == "lens"))


def _after_lens(folder: Path, **settings: object) -> dict[str, dict[str, float]]:
    from lens_train import methods
    from lens_train.job import Job

    methods.train(
        Job(
            method="lens",
            model=str(mini.backbone_path()),
            data=mini.items_path("train"),
            languages=wordings.LANGUAGES,
            output=folder,
            device="cpu",
            settings={**_demo_settings(), **settings},
        )
    )
    return _scores(folder, "dev")


def test_lens_ends_off_target_replies_and_keeps_english(
    tmp_path: Path, backbone_scores: dict[str, dict[str, float]]
) -> None:
    scores = _after_lens(tmp_path / "lens")
    assert _off_target(scores) <= 0.05
    assert scores["en"]["acc"] >= backbone_scores["en"]["acc"] - 0.05
    for language in NON_CENTRAL:
        assert scores[language]["correct_on_target"] >= backbone_scores[language]["correct_on_target"] + 0.2


@pytest.mark.parametrize("control", [{"displacement": -1.0}, {"separate_weight": 0.0}])
def test_controls_do_not_lower_off_target(
    tmp_path: Path, backbone_scores: dict[str, dict[str, float]], control: dict[str, float]
) -> None:
    scores = _after_lens(tmp_path / "control", **control)
    assert _off_target(scores) >= _off_target(backbone_scores) - 0.02


def test_tasks_run_through_lm_eval_offline_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    monkeypatch.chdir(tmp_path)
    folder = Path(__file__).resolve().parents[2] / "tasks"
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    assert {f"lens_mini_{kind}_{x}" for kind in ("qa", "choice") for x in wordings.LANGUAGES} <= set(
        manager.all_tasks
    )
    made = simple_evaluate(
        model="hf",
        model_args={"pretrained": str(mini.backbone_path()), "dtype": "float32"},
        tasks=["lens_mini_qa_sw", "lens_mini_choice_sw", "lens_mini_dev_qa_ar"],
        task_manager=manager,
        apply_chat_template=True,
        limit=12,
        batch_size=12,
        device="cpu",
        bootstrap_iters=0,
    )
    assert made is not None
    sample = made["samples"]["lens_mini_qa_sw"][0]
    assert sample["doc"]["prompt"] in sample["arguments"][0][0]
    assert {"acc", "off_target", "answered_in", "correct_on_target"} <= set(sample)
    expected = [
        built_in.qa(row["doc"], row["filtered_resps"])["off_target"]
        for row in made["samples"]["lens_mini_qa_sw"]
    ]
    assert made["results"]["lens_mini_qa_sw"]["off_target,none"] == pytest.approx(sum(expected) / 12)
    assert 0.5 <= made["results"]["lens_mini_choice_sw"]["acc,none"] <= 1
    # The dev tasks hold dev items, the test tasks test items.
    ids = {split: {item.id for item in world.items(split)} for split in ("dev", "test")}
    assert {row["doc"]["id"] for row in made["samples"]["lens_mini_dev_qa_ar"]} <= ids["dev"]
    assert {row["doc"]["id"] for row in made["samples"]["lens_mini_qa_sw"]} <= ids["test"]
