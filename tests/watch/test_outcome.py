"""What is said at the end of training: losses, weights as written, replies before and after, what is next."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import baseline_helpers
import pytest
import tiny_lens
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from lens_eval.commands import next_commands
from lens_eval.commands.cli import app
from lens_train import lens, methods
from lens_train.data import read_prompts
from lens_train.export import find_tensors
from lens_train.job import Job, Variant
from lens_train.watch import outcome, summary

LANGUAGES = ("en", "zh", "sw")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Stored in bfloat16, as models are."""
    return save(tmp_path_factory.mktemp("model"))


def save(folder: Path) -> str:
    from transformers import AutoModelForCausalLM

    name = tiny_lens.save_model(folder)
    AutoModelForCausalLM.from_pretrained(name, dtype=torch.bfloat16).save_pretrained(name)
    return name


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_lens.save_prompts(tmp_path_factory.mktemp("data") / "prompts.jsonl", items=12)


def train(model: str, data: Path, output: Path, **settings: Any) -> dict[str, Any]:
    wanted = {"train_items": 8, "probe_items": 8, "dtype": "float32", **settings}
    methods.train(Job("lens", model, data, LANGUAGES, output, device="cpu", settings=wanted))
    return dict(Variant.load(output).outcome)


def tensors(folder: str | Path) -> dict[str, torch.Tensor]:
    return load_file(Path(folder) / "model.safetensors")


def replies(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "training" / "replies.jsonl").read_text().splitlines()]


def test_losses_are_means_over_the_first_and_the_last_steps() -> None:
    log = [{"step": n, "learning_rate": 1.0, "loss": float(n), "align.zh": n / 10} for n in range(1, 11)]
    found = outcome.losses(log)
    assert found == {"steps": 10, "averaged": 3, "terms": {"loss": [2.0, 9.0], "align.zh": [0.2, 0.9]}}
    assert outcome.losses(log[:3])["averaged"] == 1
    assert outcome.losses(log[:1])["terms"]["loss"] == [1.0, 1.0]
    assert outcome.losses([]) == {}


def test_weights_are_counted_as_they_stand_in_the_file(model: str, data: Path, tmp_path: Path) -> None:
    found = train(model, data, tmp_path / "out", learning_rate=1e-3, steps=4, show_replies=0)["weights"]
    before, after = tensors(model), tensors(tmp_path / "out")
    trained = [name for name in before if ".layers.2." in name or ".layers.3." in name]
    differing = sum(int((before[name] != after[name]).sum()) for name in trained)
    change = sum(float((before[name].double() - after[name].double()).square().sum()) for name in trained)
    assert found["trained"] == sum(before[name].numel() for name in trained)
    assert found["dtype"] == "bfloat16"
    assert 0 < found["changed"] == differing < found["trained"]
    assert found["written"] == pytest.approx(change**0.5, rel=1e-4)


def test_the_error_of_rounding_falls_with_the_size_of_the_change(tmp_path: Path) -> None:
    torch.manual_seed(0)
    weight = (0.02 * torch.randn(100, 100)).bfloat16()
    save_file({"w": weight}, tmp_path / "model.safetensors")
    base, step = find_tensors(tmp_path), torch.randn(100, 100).sign()
    found = [
        outcome.weight_change({"w": weight.float() + size * step}, base) for size in (1e-9, 1e-5, 1e-4, 1e-2)
    ]
    errors = [each["error"] / each["wanted"] for each in found]
    assert found[0]["changed"] == 0
    assert errors[0] == pytest.approx(1, abs=0.01), "all of the change is lost"
    assert 1 > errors[1] > 0.8 > errors[2] > 0.2 > 0.01 > errors[3] > 0
    assert found[1]["changed"] < 2500 < 8000 < found[2]["changed"] < found[3]["changed"] == 10_000
    exact = {"w": weight.float() + 0.25 * weight.float()}
    assert outcome.weight_change({"w": weight.float()}, base)["changed"] == 0
    assert outcome.weight_change(exact, base)["changed"] == 10_000


def test_a_rate_that_leaves_nothing_in_the_file_is_called_so(model: str, data: Path, tmp_path: Path) -> None:
    said = {}
    for rate in (1e-9, 1e-6, 1e-2):
        found = train(model, data, tmp_path / str(rate), learning_rate=rate, steps=2, show_replies=0)
        said[rate] = (found["weights"]["changed"], " ".join(found["warnings"]))
    assert said[1e-9][0] == 0
    assert "the weights written are those of the base" in said[1e-9][1]
    assert "(now 1e-09)" in said[1e-9][1]
    assert said[1e-6][0] > 0
    assert "Little or nothing will be seen" in said[1e-6][1]
    assert said[1e-2][1] == ""


def test_the_parts_of_a_large_tensor_add_up(
    model: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(model, data, tmp_path / "whole", learning_rate=1e-3, steps=2, show_replies=0)
    monkeypatch.setattr(outcome, "PART", 100)
    parts = train(model, data, tmp_path / "parts", learning_rate=1e-3, steps=2, show_replies=0)
    assert parts == whole


def test_the_replies_shown_are_those_of_the_base_and_of_what_was_written(
    model: str, data: Path, tmp_path: Path
) -> None:
    """The weights are trained and the replies given in float32, the file holds them in bfloat16."""
    found = train(model, data, tmp_path / "out", learning_rate=3e-3, steps=4)
    assert found["replies"]["text"] == "items 9 to 12 of prompts.jsonl, neither probed nor trained on"
    lines = replies(tmp_path / "out")
    assert [(line["language"], line["item"]) for line in lines] == [
        (code, item) for code in LANGUAGES for item in range(4)
    ]
    texts = read_prompts(data, LANGUAGES).texts
    for time, folder in (("before", model), ("after", str(tmp_path / "out"))):
        for line in lines:
            assert line["prompt"] == texts[line["language"]][8 + line["item"]]
            assert line[time]["text"] == generated(folder, line["prompt"])
    assert [line["before"]["text"] for line in lines] != [line["after"]["text"] for line in lines]
    assert not (tmp_path / "out" / "training" / outcome.BEFORE).exists()


def generated(folder: str, prompt: str) -> str:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    chat = [{"role": "user", "content": prompt}]
    ids = tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, return_tensors="pt", return_dict=False
    )
    done = network.generate(ids, do_sample=False, max_new_tokens=outcome.REPLY_TOKENS, pad_token_id=0)
    return tokenizer.decode(done[0, ids.shape[1] :], skip_special_tokens=True).strip()


def test_a_run_killed_before_its_end_ends_with_the_same_outcome(
    model: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"learning_rate": 3e-3, "steps": 4}
    whole = train(model, data, tmp_path / "whole", **settings)
    monkeypatch.setattr(outcome, "end", stop)
    with pytest.raises(KeyboardInterrupt):
        train(model, data, tmp_path / "killed", **settings)
    monkeypatch.undo()
    assert (tmp_path / "killed" / "training" / outcome.BEFORE).exists()
    labels: list[str] = []
    monkeypatch.setattr(outcome, "answer", noting(labels))
    assert train(model, data, tmp_path / "killed", **settings) == whole
    assert labels == ["replies after"], "those before training were kept"
    assert replies(tmp_path / "killed") == replies(tmp_path / "whole")


def stop(*_: Any) -> None:
    raise KeyboardInterrupt


def noting(labels: list[str]) -> Any:
    own = outcome.answer

    def answer(*arguments: Any) -> Any:
        labels.append(arguments[-1])
        return own(*arguments)

    return answer


def test_replies_kept_by_another_run_are_not_taken_up(model: str, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out" / "training"
    folder.mkdir(parents=True)
    job = Job("lens", model, data, LANGUAGES, tmp_path / "out", device="cpu", settings={"steps": 1})
    methods.begin(job)
    kept = {code: ["of another run"] * 4 for code in LANGUAGES}
    (folder / outcome.BEFORE).write_text(json.dumps({"run": "another", "replies": kept}))
    methods.train(job)
    assert not [line for line in replies(tmp_path / "out") if line["before"]["text"] == "of another run"]


def test_no_replies_where_none_are_wanted_or_the_model_is_streamed(
    model: str, data: Path, tmp_path: Path
) -> None:
    none = train(model, data, tmp_path / "none", steps=1, show_replies=0)
    assert not {"replies", "skipped"} & none.keys()
    streamed = train(model, data, tmp_path / "streamed", steps=1, stream="always")
    assert "streamed from disk" in streamed["skipped"]
    assert "replies" not in streamed
    assert streamed["weights"] == none["weights"]
    for folder in ("none", "streamed"):
        assert not (tmp_path / folder / "training" / "replies.jsonl").exists()


def test_which_prompts_are_answered(model: str, data: Path, tmp_path: Path) -> None:
    def shown(**settings: Any) -> str:
        held = lens.make_plan(Job("lens", model, data, LANGUAGES, tmp_path, settings=settings)).shown
        assert held is not None
        return f"{len(held.texts)} of {held.source}"

    dev = tiny_lens.save_prompts(tmp_path / "dev.jsonl", items=6)
    assert shown(dev_data=str(dev)) == "4 of dev"
    assert shown(train_items=6, probe_items=8) == "4 of rest"
    assert shown(train_items=10, probe_items=8, show_replies=2) == "2 of rest"
    assert shown(train_items=10, probe_items=8) == "4 of train", "two are left, and four wanted"
    assert shown() == "4 of train"


GOOD = {"usable": 4, "off_target": 0, "undetermined": 0, "looping": 0, "echoing": 0, "empty": 0}


def document(
    before: dict[str, dict[str, int]], after: dict[str, dict[str, int]], lost: tuple[str, ...] = ()
) -> dict[str, Any]:
    def every(changes: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
        return {code: {**GOOD, **changes.get(code, {})} for code in LANGUAGES}

    shown = {"text": "some", "items": 4, "most_tokens": 48, "unwritten": list(lost)}
    return {"replies": {**shown, "before": every(before), "after": every(after)}}


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ({}, {}, ""),
        ({}, {"zh": {"looping": 2}}, ""),
        ({}, {"zh": {"looping": 3}}, "broken in zh: 3 of 4 replies run into a loop, before training 0"),
        ({"zh": {"looping": 2}}, {"zh": {"looping": 3}}, ""),
        ({}, {"zh": {"looping": 4}}, "broken: 4 of 12 replies run into a loop, before training 0"),
        ({"zh": {"looping": 4}}, {"zh": {"looping": 4}}, ""),
        ({"zh": {"looping": 4}}, {"zh": {"looping": 4}, "sw": {"looping": 1}}, ""),
        ({}, {"zh": {"empty": 4}}, "broken: 4 of 12 replies are empty"),
        ({}, {"sw": {"echoing": 4}}, "broken: 4 of 12 replies repeat the prompt"),
        ({}, {"en": {"usable": 3}}, ""),
        ({}, {"en": {"usable": 2}}, "2 of 4 replies in en are usable, before training 4"),
        ({}, {"zh": {"usable": 0}}, ""),
    ],
)
def test_what_of_the_replies_is_warned_about(
    before: dict[str, dict[str, int]], after: dict[str, dict[str, int]], words: str
) -> None:
    said = summary.warnings(document(before, after), "en", 1e-3)
    if not words:
        assert said == []
        return
    assert len(said) == 1
    assert said[0].startswith(words)
    assert "learning_rate (now 0.001)" in said[0]


def test_a_language_that_the_model_cannot_write() -> None:
    """An answer in the central language shows understanding: that is what Lens is for."""
    loop = "maji maji maji maji maji maji maji maji maji maji maji maji maji"
    english = "The water in a kettle boils at one hundred degrees."
    swahili = "Maji huchemka kwa digrii mia moja, na chai ni tayari."
    prompts = {"en": ["At how many degrees does water boil?"], "sw": ["Maji huchemka kwa digrii ngapi?"]}
    judged = {
        name: outcome.judge({"en": [english], "sw": [reply]}, prompts, "en")
        for name, reply in {"loop": loop, "english": english, "swahili": swahili, "empty": ""}.items()
    }
    assert [judged[name]["sw"][0]["form"] for name in judged] == ["loop", "text", "text", "empty"]
    assert [judged[name]["sw"][0]["outcome"] for name in ("english", "swahili")] == ["central", "on_target"]
    useless = [name for name in judged if outcome._is_of_no_use(judged[name]["sw"][0])]
    assert useless == ["loop", "empty"]
    counted = outcome.count(judged["swahili"])["sw"]
    assert counted == {**GOOD, "usable": 1}
    assert outcome.count(judged["english"])["sw"] == {**GOOD, "usable": 0, "off_target": 1}
    said = summary.warnings(document({}, {}, lost=("sw",)), "en", None)
    assert len(said) == 1
    assert "no reply in sw is usable, before training or after" in said[0]


def test_a_language_that_the_detector_does_not_know_costs_no_trained_model() -> None:
    prompts = {"en": ["What is it?"], "ht": ["Kisa sa ye?"]}
    found = outcome.judge(
        {"en": ["It is a cat, of course."], "ht": ["Se yon chat, natirelman."]}, prompts, "en"
    )
    assert found["ht"][0]["outcome"] == "undetermined"


def test_the_summary_fits_a_terminal() -> None:
    codes = ["en", "zh", "sw"]
    values = [661.97, 41.2]
    terms = dict.fromkeys(("loss", "retain", "separate.zh", "separate.sw", "align.zh", "align.sw"), values)
    terms["retain"] = [0.0, 1234567.0]
    found = {
        **document({}, {"zh": {"looping": 4}}),
        "losses": {"steps": 25, "averaged": 3, "terms": terms},
        "weights": {
            "trained": 10**7,
            "changed": 500_000,
            "dtype": "bfloat16",
            "wanted": 2.0,
            "written": 0.5,
            "error": 1.5,
        },
    }
    found["warnings"] = summary.warnings(found, "en", 1e-5)
    lines = summary.lines(found, codes)
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines[2:5]] == codes
    assert lines[3].split()[:5] == ["zh", "662", "41.2", "662", "41.2"]
    text = " ".join(" ".join(lines).split())
    assert "5.0% of the 10,000,000 trained differ from the base as written (bfloat16)" in text
    assert "rounding is off by 75% of the change" in text
    assert "4 > 4" in lines[2]
    assert "0 > 4" in lines[3]
    assert "warning: only 5.0% of the trained weights" in text
    assert summary.lines({}, codes) == []


@pytest.mark.parametrize(
    ("languages", "tasks"),
    [
        ("en,zh", ["lens_mgsm"]),
        ("en,zh,ja,ko,ar,bn,sw", ["lens_mtbench", "lens_mgsm"]),
        ("en,hi", ["lens_mmlu"]),
        ("en,yo", []),
    ],
)
def test_tasks_for_the_languages_of_a_run(
    model: str, tmp_path: Path, languages: str, tasks: list[str]
) -> None:
    job = Job("lens", model, tmp_path, tuple(languages.split(",")), tmp_path / "out")
    assert next_commands.find_tasks(job) == tasks


def test_the_command_ends_with_a_summary_and_what_to_do_next(tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        basic = ["train", "--model", "builtin", "--data", "builtin:train", "--languages", "en,sw,zh,ar"]
        basic += ["--device", "cpu", "--set", "probe_items=40", "--set", "dev_data=builtin:dev"]
        result = CliRunner().invoke(app, [*basic, *arguments])
        assert result.exit_code == 0, result.output
        return result.stdout

    shown = run("--set", "learning_rate=5e-4", "--set", "epochs=2", "--output", str(tmp_path / "good"))
    found = Variant.load(tmp_path / "good").outcome
    before, after = (
        sum(own["off_target"] for own in found["replies"][time].values()) for time in ("before", "after")
    )
    assert before > after == 0, "what the training is for is seen in the replies"
    lines = shown.splitlines()
    assert [line.split()[0] for line in lines[2:6]] == ["en", "sw", "zh", "ar"]
    assert lines[-2] == f"written: {tmp_path / 'good'}"
    following = shlex.split(lines[-1].removeprefix("next: "))
    assert following[:2] == ["lens", "eval"]
    assert following[following.index("--tasks") + 1] == "lens_mini"
    delta = run("--set", "steps=2", "--delta", "--output", str(tmp_path / "delta")).splitlines()[-1]
    assert shlex.split(delta)[1:3] == ["lens", "merge"]


def test_a_run_of_which_little_is_written_is_to_be_swept(model: str, data: Path, tmp_path: Path) -> None:
    settings = {"learning_rate": 1e-6, "steps": 1, "show_replies": 0}
    train(model, data, tmp_path / "out", **settings)
    job = Job("lens", model, data, LANGUAGES, tmp_path / "out", settings={**settings, "dev_data": str(data)})
    (command,) = next_commands.next_commands(job, Variant.load(tmp_path / "out"))
    parts = shlex.split(command)
    assert parts[:2] == ["lens", "sweep"]
    assert parts[parts.index("--vary") + 1] == "learning_rate=1e-06,3e-06,1e-05"
    done = CliRunner().invoke(
        app, [*parts[1:], "--set", "train_items=8", "--dev-limit", "2", "--device", "cpu"]
    )
    assert done.exit_code == 0, done.output


def test_variants_written_before_there_was_an_outcome_still_load(
    model: str, data: Path, tmp_path: Path
) -> None:
    train(model, data, tmp_path / "out", steps=1, show_replies=0)
    file = tmp_path / "out" / "variant.json"
    content = json.loads(file.read_text())
    assert content.pop("outcome")
    file.write_text(json.dumps(content))
    assert Variant.load(tmp_path / "out").outcome == {}
    assert (
        next_commands.next_commands(
            Job("lens", model, data, LANGUAGES, tmp_path / "out"), Variant.load(tmp_path / "out")
        )
        == []
    )


def test_a_baseline_says_what_of_its_weights_was_written(tmp_path: Path) -> None:
    name = str(baseline_helpers.make_model(tmp_path / "model"))
    data = baseline_helpers.write_lines(tmp_path / "pairs.jsonl", baseline_helpers.many_items(8))
    found = {}
    for method in ("xsft_top", "xsft_lora"):
        job = baseline_helpers.make_job(
            Path(name), data, tmp_path / method, method, learning_rate=1e-3, epochs=2
        )
        methods.train(job)
        found[method] = Variant.load(tmp_path / method).outcome
    assert found["xsft_top"]["losses"]["steps"] == 2
    assert "weights" not in found["xsft_lora"]
    before, after = tensors(name), tensors(tmp_path / "xsft_top")
    trained = [key for key in before if ".layers.2." in key or ".layers.3." in key]
    assert found["xsft_top"]["weights"]["trained"] == sum(before[key].numel() for key in trained)
    assert found["xsft_top"]["weights"]["changed"] == sum(
        int((before[key] != after[key]).sum()) for key in trained
    )
