"""Question alignment and self-distillation: training texts, translators, stages, resuming."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from baseline_helpers import ITEMS, LANGUAGES, make_job, make_model, many_items, marked, weights, write_lines

from lens_eval.base.errors import UserError
from lens_eval.mini import backbone_path, items_path
from lens_train import methods
from lens_train.baselines import pairs, qalign, sdrrl, training_log, translate, tuning
from lens_train.job import Job, Variant

TEXTS = Path(__file__).parents[1] / "fixtures" / "baselines"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lines(tmp_path_factory.mktemp("data") / "pairs.jsonl", many_items(12))


def read(tmp_path: Path, rows: Sequence[dict[str, Any]] = ITEMS) -> tuple[pairs.Item, ...]:
    return pairs.read_pairs(write_lines(tmp_path / "pairs.jsonl", list(rows)), LANGUAGES).items


def built(model: Path, tmp_path: Path) -> dict[str, str]:
    """What each stage trains on, from two items and the model's own answer to the first."""
    items = read(tmp_path)
    job = make_job(model, tmp_path / "pairs.jsonl", tmp_path / "out")
    words = {"zh": {"肯尼亚": "Kenya"}, "sw": {"Mji": "city", "mkuu": "main"}}
    distilled = sdrrl.sdrrl_examples(
        items,
        {"capital": "The capital of Kenya is Nairobi."},
        translate.make_translator("data", items, "en", ("zh", "sw"), "cpu"),
        words,
        sdrrl.read_texts(None, items, LANGUAGES),
        job,
        sdrrl.SdrrlSettings().parts,
        0.5,
    )
    stages = {
        "qalign_1": qalign.question_examples(items, LANGUAGES, "en"),
        "qalign_2": qalign.answer_examples(items, "en"),
        "sdrrl": distilled,
    }
    run = tuning.Run(job, tuning.TuningSettings())
    return {
        name: marked(run.trainer(training_log.Stage(name, made)).train_dataset, run.tokenizer)
        for name, made in stages.items()
    }


def test_training_texts_are_as_reviewed(model: Path, tmp_path: Path) -> None:
    for name, text in built(model, tmp_path).items():
        assert text == (TEXTS / f"{name}.txt").read_text(encoding="utf-8"), name


def test_question_alignment_runs_both_stages(model: Path, data: Path, tmp_path: Path) -> None:
    methods.train(make_job(model, data, tmp_path / "out", "qalign", learning_rate=1e-3, batch_size=4))
    log = [json.loads(line) for line in (tmp_path / "out" / tuning.LOG).open()]
    assert [(entry["stage"], entry["step"]) for entry in log] == [
        (stage, step) for stage in ("questions", "answers") for step in (1, 2, 3)
    ]
    variant = Variant.load(tmp_path / "out")
    assert variant.tokens_seen == log[2]["tokens"] + log[5]["tokens"]
    assert variant.data["questions"]["examples"] == 24
    assert variant.data["answers"]["examples"] == 12
    # Stage 2 goes on from the weights of stage 1: alone it gives others.
    items = pairs.read_pairs(data, LANGUAGES).items
    run = tuning.Run(
        make_job(model, data, tmp_path / "second"), tuning.TuningSettings(learning_rate=1e-3, batch_size=4)
    )
    run.stage(training_log.Stage("answers", qalign.answer_examples(items, "en")))
    run.finish({})
    second, both = weights(tmp_path / "second"), weights(tmp_path / "out")
    assert not all(torch.allclose(second[key], both[key], atol=1e-6) for key in both)


@pytest.mark.parametrize("stage", ["questions", "answers"])
def test_question_alignment_goes_on_after_a_kill_in_either_stage(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    settings = {"learning_rate": 1e-3, "batch_size": 4, "save_steps": 1}
    whole, parts = (
        make_job(model, data, tmp_path / name, "qalign", **settings) for name in ("whole", "parts")
    )
    methods.train(whole)
    step_end = training_log.TrainingLog.on_step_end

    def killed(self: Any, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if self.stage.name == stage and state.global_step == 2:
            raise KeyboardInterrupt
        step_end(self, args, state, control, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(training_log.TrainingLog, "on_step_end", killed)
        with pytest.raises(KeyboardInterrupt):
            methods.train(parts)
    methods.train(parts)
    expected, found = weights(whole.output), weights(parts.output)
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    assert Variant.load(parts.output).tokens_seen == Variant.load(whole.output).tokens_seen


def test_table_translations(tmp_path: Path) -> None:
    items = read(tmp_path)
    given = translate.make_translator("data", items, "en", ("zh", "sw"), "cpu")
    assert given(["Water boils at one hundred degrees. ", "unheard of"], "en", "zh") == [
        "水在一百度沸腾。",
        None,
    ]
    assert given(["肯尼亚的首都是哪里？"], "zh", "sw") == ["Mji mkuu wa Kenya ni upi?"]
    assert translate.make_translator("none", items, "en", ("zh",), "cpu")(["x"], "en", "zh") == [None]
    file = write_lines(tmp_path / "table.jsonl", [{"en": "dog", "zho_Hans": "狗", "fr": "chien"}])
    table = translate.make_translator(str(file), items, "en", ("zh", "sw"), "cpu")
    assert table(["dog"], "en", "zh") == ["狗"]
    assert table(["dog"], "en", "fr") == [None], "only the languages of the run are read"
    empty = write_lines(tmp_path / "empty.jsonl", [{"en": "dog"}])
    with pytest.raises(UserError, match="holds no texts in two of en, zh, sw"):
        translate.make_translator(str(empty), items, "en", ("zh", "sw"), "cpu")
    with pytest.raises(UserError, match="no file of parallel texts, and no seq2seq model"):
        translate.make_translator("no/such-model", items, "en", ("zh",), "cpu")


def test_a_seq2seq_model_is_asked_in_its_own_language_codes(tmp_path: Path) -> None:
    """A random M2M-100 with a tiny vocabulary: codes, forced first token, batches, repeatability."""
    from transformers import M2M100Config, M2M100ForConditionalGeneration

    class Tokenizer:
        """Only what the translator uses: characters as tokens, language tokens in front."""

        all_special_tokens = ("__en__", "__sw__", "</s>")
        lang_code_to_token = {"en": "__en__", "sw": "__sw__"}  # noqa: RUF012
        src_lang = ""
        asked: list[tuple[str, list[str]]] = []  # noqa: RUF012

        def __call__(self, texts: list[str], **_: Any) -> Any:
            from transformers import BatchEncoding

            self.asked.append((self.src_lang, texts))
            rows = [
                [4 if self.src_lang == "en" else 5, *[6 + ord(c) % 20 for c in text], 2] for text in texts
            ]
            width = max(map(len, rows))
            ids = torch.tensor([row + [1] * (width - len(row)) for row in rows])
            return BatchEncoding({"input_ids": ids, "attention_mask": (ids != 1).long()})

        def convert_tokens_to_ids(self, token: str) -> int:
            return {"__en__": 4, "__sw__": 5}[token]

        def batch_decode(self, ids: Any, skip_special_tokens: bool) -> list[str]:
            assert skip_special_tokens
            return ["".join(chr(97 + int(i) % 26) for i in row if i > 5) + f"<{int(row[1])}>" for row in ids]

    torch.manual_seed(0)
    config = M2M100Config(
        vocab_size=32,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_position_embeddings=64,
    )
    tokenizer = Tokenizer()
    codes = translate._codes(tokenizer, ("en", "sw"), "tiny")
    assert codes == {"en": "en", "sw": "sw"}
    with pytest.raises(UserError, match="translator tiny does not know Chinese"):
        translate._codes(tokenizer, ("en", "zh"), "tiny")
    model = M2M100ForConditionalGeneration(config).eval()
    translator = translate.Seq2Seq("tiny", model, tokenizer, codes, batch_size=2, max_tokens=5)
    found = translator(["one", "two", "three"], "en", "sw")
    assert [row and row[-3:] for row in found] == ["<5>"] * 3
    assert [texts for _, texts in tokenizer.asked] == [["one", "two"], ["three"]]
    assert {source for source, _ in tokenizer.asked} == {"en"}
    assert translator(["one"], "sw", "en")[0] != found[0]
    assert translator(["one", "two", "three"], "en", "sw") == found


def test_words_are_found_by_how_they_occur_together(tmp_path: Path) -> None:
    places = {"Kenya": "肯尼亚", "Egypt": "埃及", "Norway": "挪威"}
    rows = [
        {
            "id": f"{en}{n}",
            "prompt": {"en": f"{ask} {en}?", "zh": question.format(zh), "sw": f"{swali} {en} ni?"},
            "response": dict.fromkeys(LANGUAGES, "-"),
        }
        for en, zh in places.items()
        for n, (ask, question, swali) in enumerate(
            [("capital of", "{}的首都？", "mji wa"), ("language of", "{}说什么语言？", "lugha ya")]
        )
    ]
    items = read(tmp_path, rows)
    words = sdrrl.find_words(items, "en", "zh")
    assert {zh: words.get(zh) for zh in places.values()} == {zh: en for en, zh in places.items()}
    assert sdrrl.find_words(items, "en", "sw")["lugha"] == "language"


def test_switching_replaces_the_asked_share_of_known_words_and_repeats(tmp_path: Path) -> None:
    item = read(tmp_path)[0]
    words = {"Mji": "city", "mkuu": "main", "Kenya": "Kenia", "Ken": "barbie"}
    every = sdrrl.switched(item, "x", words, "sw", 1.0, seed=0)
    assert every[0].prompt == "city main wa Kenia ni upi?", (
        "the shorter word is not replaced inside the longer"
    )
    some = sdrrl.switched(item, "x", words, "sw", 0.34, seed=0)
    assert sum(word in some[0].prompt for word in ("city", "main", "Kenia")) == 1
    assert sdrrl.switched(item, "x", words, "sw", 0.34, seed=0) == some
    assert sdrrl.switched(item, "x", {"maji": "water"}, "sw", 1.0, seed=0) == []


def mini_job(output: Path, **settings: Any) -> Job:
    languages = ("en", "zh", "sw", "ar")
    settings = {"train_items": 8, "steps": 1, "batch_size": 2, **settings}
    return Job(
        "sdrrl", str(backbone_path()), items_path("train"), languages, output, device="cpu", settings=settings
    )


def test_self_distillation_on_the_built_in_model(tmp_path: Path) -> None:
    methods.train(mini_job(tmp_path / "out"))
    variant = Variant.load(tmp_path / "out")
    own = [json.loads(line) for line in (tmp_path / "out" / sdrrl.ANSWERS).open(encoding="utf-8")]
    assert len(own) == 8
    assert sum("OK." in text for _, text in own) >= 6, "its own answers are English"
    kinds = variant.data["kinds"]
    assert variant.data["own_answers"] == 8
    assert 8 * 5 < variant.data["own_answer_tokens"] < 8 * 60
    assert kinds["into_central"] == 24
    assert kinds["translate"] == 48
    assert kinds["from_central"] > 12
    assert kinds["answer"] == kinds["from_central"] + 8
    assert kinds["switched"] > 6


def test_own_answers_are_kept_for_going_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = mini_job(tmp_path / "out", answer_batch=3)
    calls: list[int] = []
    generate = sdrrl.generate

    def counted(run: Any, prompts: Sequence[str], most: int) -> list[str | None]:
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(len(prompts))
        return generate(run, prompts, most)

    with monkeypatch.context() as patch:
        patch.setattr(sdrrl, "generate", counted)
        with pytest.raises(KeyboardInterrupt):
            methods.train(job)
    file = job.output / sdrrl.ANSWERS
    assert len(file.read_text(encoding="utf-8").splitlines()) == 6
    file.write_text(file.read_text(encoding="utf-8") + '["half-wri', encoding="utf-8")
    asked: list[int] = []

    def noted(run: Any, prompts: Sequence[str], most: int) -> list[str | None]:
        asked.append(len(prompts))
        return generate(run, prompts, most)

    monkeypatch.setattr(sdrrl, "generate", noted)
    methods.train(job)
    assert asked == [2]
    assert Variant.load(job.output).data["own_answers"] == 8


def test_answers_that_never_end_are_no_teachers(model: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ended none of its answers within 1 tokens"):
        methods.train(make_job(model, data, tmp_path / "out", "sdrrl", answer_tokens=1))


def test_without_parallel_items_there_is_nothing_to_translate(model: Path, tmp_path: Path) -> None:
    rows = [
        {"inputs": f"question {n}", "targets": f"answer {n}", "language_code": code}
        for n in range(3)
        for code in LANGUAGES
    ]
    loose = write_lines(tmp_path / "aya.jsonl", rows)
    for method in ("qalign", "sdrrl"):
        with pytest.raises(UserError, match=r"every (item|prompt) in every language"):
            methods.train(make_job(model, loose, tmp_path / "out", method))
    assert not (tmp_path / "out").exists()
    methods.train(make_job(model, loose, tmp_path / "out", "xsft", steps=1, wrong_language="unchecked"))
