"""Each check of `lens doctor` fails on a model made to have that fault, and passes on the built-in one."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import tiny_lens
import torch
from tokenizers.processors import TemplateProcessing
from typer.testing import CliRunner

from lens_eval.base.errors import UserError
from lens_eval.commands import doctor
from lens_eval.doctor import (
    examination,
    machine_checks,
    parity,
    patient,
    task_checks,
    template_checks,
    weight_checks,
)
from lens_eval.doctor.parity import Asked
from lens_eval.doctor.patient import Result
from lens_eval.runs.recipe import Backend
from lens_train.decoder import load_model

TASKS = ["lens_mini_qa_en", "lens_mini_choice_zh"]


@pytest.fixture(scope="module")
def tasks() -> list[Any]:
    return task_checks.find_tasks(TASKS, (), ())[0]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model without a fault: the control of every test."""
    folder = tmp_path_factory.mktemp("sound") / "model"
    tiny_lens.save_model(folder)
    return folder


def _patient(model: Path | str, adapter: str | None = None, **backend: Any) -> patient.Patient:
    return patient.admit(str(model), adapter, Backend(**backend), "cpu")


def _with_template(model: Path, template: str) -> patient.Patient:
    patient = _patient(model)
    patient.tokenizer.chat_template = template
    return patient


def _writing_bos(patient: patient.Patient) -> patient.Patient:
    """A tokenizer that puts BOS before every text by itself, as Llama's does."""
    patient.tokenizer._tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", patient.tokenizer.bos_token_id)]
    )
    assert patient.tokenizer.encode("x")[0] == patient.tokenizer.bos_token_id
    return patient


def _task(tasks: list[Any], name: str = "lens_mini_qa_en") -> Any:
    return next(task for task in tasks if task.config.task == name)


def _bos(patient: patient.Patient, task: Any) -> Result:
    return task_checks.check_bos(patient, task, task_checks.requests(patient, task, patient.uses_template)[0])


def test_the_built_in_backbone_is_well(tmp_path: Path) -> None:
    found = examination.examine(_patient("builtin"), TASKS, data="builtin:train")
    assert not found.failed, found.results
    outcomes = {result.check: result.outcome for result in found.results}
    for check in ("chat template", "special tokens", "training prompt", "length", "stop strings", "layers"):
        assert outcomes[check] == "ok"
    assert outcomes["training data"] == outcomes["disk"] == outcomes["memory"] == "ok"
    assert found.prompts["lens_mini_qa_en"].startswith("<|begin|><|user|>")
    assert found.prompts["lens_mini_qa_en"].endswith("<|assistant|>")


# --- template ----------------------------------------------------------------------------------

OWN_SYSTEM = (
    "{{ bos_token }}<|system|>\nYou are Tiny.<|end|>\n{% for m in messages %}"
    "<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
GIVES_WAY = OWN_SYSTEM.replace(
    "<|system|>\nYou are Tiny.<|end|>\n",
    "{% if messages[0]['role'] != 'system' %}<|system|>\nYou are Tiny.<|end|>\n{% endif %}",
)
# As Llama 3.1: what the template says itself and the given message share one system turn.
SHARES = (
    "{{ bos_token }}<|system|>\nToday is Monday.\n"
    "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}{% endif %}<|end|>\n"
    "{% for m in messages if m['role'] != 'system' %}"
    "<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


@pytest.mark.parametrize(
    ("template", "outcome", "words"),
    [
        (tiny_lens.TEMPLATE, "ok", ""),
        (GIVES_WAY, "ok", ""),
        (SHARES, "ok", ""),
        (OWN_SYSTEM, "failed", "its own system message stays beside the given one.*You are Tiny"),
        (
            tiny_lens.TEMPLATE.replace("{{ m['content'] }}", "{{ m['content'] }}{{ m['content'] }}"),
            "failed",
            "2 times",
        ),
        (
            tiny_lens.TEMPLATE.replace("{{ bos_token }}", "{{ bos_token }}{{ bos_token }}"),
            "failed",
            "<s> 2 times",
        ),
        ("{{ raise_exception('no users here') }}", "failed", "does not render.*no users here"),
        (tiny_lens.TEMPLATE + "{{ strftime_now('%d') if false }}", "warning", "today's date"),
    ],
)
def test_the_chat_template(sound: Path, template: str, outcome: str, words: str) -> None:
    import re

    found = template_checks.check_template(_with_template(sound, template))
    assert [result.outcome for result in found] == [outcome], found
    assert re.search(words, found[0].words)


def test_no_template_is_a_fault_only_where_one_is_asked_for(tmp_path: Path) -> None:
    model = tiny_lens.save_model(tmp_path / "base", template=False)
    assert template_checks.check_template(_patient(model))[0].outcome == "warning"
    assert template_checks.check_template(_patient(model, apply_chat_template=True))[0].outcome == "failed"


# --- tokens ------------------------------------------------------------------------------------


def test_doubled_and_missing_bos(sound: Path, tasks: list[Any]) -> None:
    for task in tasks:
        good = _bos(_writing_bos(_patient(sound)), task)
        assert good.outcome == "ok", good
        assert good.words == "1 <s> through hf and vllm"
    # lm_eval sees a BOS only at the very beginning of the text; behind a line break there are two.
    doubled = _writing_bos(_with_template(sound, "\n" + tiny_lens.TEMPLATE))
    for task in tasks:
        found = _bos(doubled, task)
        assert found.outcome == "failed"
        assert "2 through hf, 2 through vllm, through the template" in found.words
    missing = _patient(sound, apply_chat_template=False, args={"add_bos_token": False})
    found = _bos(_writing_bos(missing), _task(tasks))
    assert found.outcome == "warning", "whether it is needed, the weights tell"
    assert "0 through hf, 0 through vllm, without the template" in found.words
    # A fault in the way that the run does not take is a warning.
    other = _writing_bos(_patient(sound, apply_chat_template=False))
    other.tokenizer.chat_template = "\n" + tiny_lens.TEMPLATE
    found = _bos(other, _task(tasks))
    assert found.outcome == "warning"
    assert "a run does it the other way" in found.words


def test_a_bos_that_opens_every_turn_is_one_bos(sound: Path, tasks: list[Any]) -> None:
    """As SmolLM2 has it: the few-shot turns and the reply each begin with it."""
    every = (
        "{% for m in messages %}{{ bos_token }}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
    )
    every += "{% if add_generation_prompt %}{{ bos_token }}<|assistant|>\n{% endif %}"
    for task in tasks:
        patient = _with_template(sound, every)
        assert template_checks.check_template(patient)[0].outcome == "ok"
        found = _bos(patient, task)
        assert found.outcome == "ok", found
        doubled = _with_template(sound, "{{ bos_token }}" + every)
        assert template_checks.check_template(doubled)[0].outcome == "failed"
        assert _bos(doubled, task).outcome == "failed"


def test_the_weights_tell_whether_a_bos_is_missing(tasks: list[Any]) -> None:
    """The built-in backbone was trained behind `<|begin|>`: without it its prompts are less likely."""
    fed = weight_checks.check_bos_by_weights(_patient("builtin"), tasks)
    assert fed.outcome == "ok", fed
    assert "begin with 1 <|begin|>" in fed.words
    without = _patient("builtin")
    without.tokenizer.chat_template = without.tokenizer.chat_template.replace("{{ bos_token }}", "")
    found = weight_checks.check_bos_by_weights(without, tasks)
    assert found.outcome == "failed", found
    assert "the weights expect it; say add_bos_token=True" in found.words


def test_weights_that_know_no_text_tell_nothing(sound: Path, tasks: list[Any]) -> None:
    """Of a random model nothing can be told, whether its tokenizer writes a BOS or not."""
    for own in (_patient(sound), _writing_bos(_patient(sound, apply_chat_template=False))):
        assert weight_checks.check_bos_by_weights(own, tasks).outcome == "skipped"


@pytest.mark.parametrize(
    ("template", "outcome", "words"),
    [
        # The last message alone: the examples of a few-shot prompt are lost.
        (
            "{{ bos_token }}<|user|>{{ messages[-1]['content'] }}<|end|><|assistant|>",
            "failed",
            "in a dialogue FIRSTTEXT stands 0 times",
        ),
        (
            "{{ bos_token }}{% for m in messages | reverse %}{{ m['content'] }}<|end|>{% endfor %}",
            "failed",
            "another order",
        ),
        (
            "{% if messages | length > 1 %}{{ raise_exception('one turn only') }}{% endif %}"
            + tiny_lens.TEMPLATE,
            "warning",
            "takes no dialogue.*one turn only",
        ),
    ],
)
def test_a_template_that_spoils_dialogues(sound: Path, template: str, outcome: str, words: str) -> None:
    import re

    found = template_checks.check_template(_with_template(sound, template))[0]
    assert found.outcome == outcome, found
    assert re.search(words, found.words)


def test_a_system_message_that_a_run_gives_is_rendered(sound: Path) -> None:
    for template in (
        "{{ bos_token }}{{ messages[-1]['content'] if messages | length < 3 else '' }}"
        "{% if messages | length > 2 %}{% for m in messages %}{{ m['content'] }}{% endfor %}{% endif %}",
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        + tiny_lens.TEMPLATE,
    ):
        for system, outcome in ((None, "ok"), ("Be brief.", "failed")):
            patient = _patient(sound, system_instruction=system)
            patient.tokenizer.chat_template = template
            found = template_checks.check_template(patient)[0]
            assert found.outcome == outcome, found
            assert ("leaves the system message out" in found.words) == (system is not None)


def test_a_model_without_bos_needs_none(sound: Path, tasks: list[Any]) -> None:
    patient = _patient(sound)
    patient.tokenizer.bos_token = None
    assert _bos(patient, _task(tasks)).outcome == "ok"


def test_special_tokens(sound: Path) -> None:
    template = "{% for m in messages %}{{ m['content'] }}{{ eos_token }}{% endfor %}"
    good = template_checks.check_special_tokens(_with_template(sound, template))
    assert good.outcome == "ok", good

    ends_otherwise = _with_template(sound, template.replace("{{ eos_token }}", "<|done|>"))
    ends_otherwise.tokenizer.add_special_tokens({"additional_special_tokens": ["<|done|>"]})
    found = template_checks.check_special_tokens(ends_otherwise)
    assert found.outcome == "failed"
    assert "a reply ends with <|done|>" in found.words
    both = [2, ends_otherwise.tokenizer.convert_tokens_to_ids("<|done|>")]
    mended = dataclasses.replace(ends_otherwise, generation={"eos_token_id": both})
    assert template_checks.check_special_tokens(mended).outcome == "ok"

    no_end = _with_template(sound, template)
    no_end.tokenizer.eos_token = None
    assert "no end-of-sequence token" in template_checks.check_special_tokens(no_end).words

    beyond = _patient(sound)
    beyond.tokenizer.add_special_tokens({"pad_token": "<new>"})
    while beyond.tokenizer.pad_token_id < beyond.config.vocab_size:
        beyond.tokenizer.add_tokens([f"<filler{len(beyond.tokenizer)}>"])
        beyond.tokenizer.add_special_tokens({"pad_token": f"<new{len(beyond.tokenizer)}>"})
    found = template_checks.check_special_tokens(beyond)
    assert found.outcome == "failed"
    assert "pad token" in found.words


def test_training_prompts_are_framed_as_those_of_evaluation(sound: Path) -> None:
    thinks = tiny_lens.TEMPLATE.replace(
        "<|assistant|>\n", "<|assistant|>\n{% if enable_thinking is false %}<think></think>{% endif %}"
    )
    assert template_checks.check_training_prompt(_with_template(sound, thinks)).outcome == "ok"
    patient = _patient(sound, args={"enable_thinking": False})
    patient.tokenizer.chat_template = thinks
    found = template_checks.check_training_prompt(patient)
    assert found.outcome == "warning"
    assert "train with template_args: {'enable_thinking': False}" in found.words


def test_the_words_show_where_training_and_evaluation_part(sound: Path) -> None:
    """A BOS that lm_eval writes and training does not, far from the end, which is the same in both."""
    template = "USER {{ messages[0]['content'] }} and a tail that both of them have"
    patient = _writing_bos(_with_template(sound, template))
    found = template_checks.check_training_prompt(patient)
    assert found.outcome == "warning"
    assert "from token 1 on training reads 'USER USERTEXT and a tail" in found.words
    assert f"evaluation '{patient.tokenizer.bos_token}" in found.words


# --- tasks -------------------------------------------------------------------------------------


def test_prompts_and_answers_fit_in_the_context(sound: Path, tasks: list[Any], tmp_path: Path) -> None:
    def length(patient: patient.Patient, name: str = "lens_mini_qa_en") -> Result:
        return task_checks.check_length(patient, task_checks.requests(patient, _task(tasks, name), True))

    assert length(_patient(sound)).outcome == "ok"
    limit = _task(tasks).config.generation_kwargs["max_gen_toks"]
    short = tiny_lens.save_model(tmp_path / "short", tiny_lens.config(max_position_embeddings=limit))
    found = length(_patient(short))
    assert found.outcome == "failed"
    assert "no prompt fits" in found.words
    some = length(_patient(sound, args={"max_length": limit + 70}))
    assert some.outcome == "failed"
    assert "% of the prompts would be cut" in some.words
    assert "0.0%" not in some.words
    assert length(_patient(sound, args={"max_model_len": 50}), "lens_mini_choice_zh").outcome == "failed"
    # What is generated counts as the command says it.
    assert length(_patient(short, gen_kwargs={"max_gen_toks": 4}, args={"max_length": 512})).outcome == "ok"


def test_stop_strings(sound: Path, tasks: list[Any]) -> None:
    task = _task(tasks)
    answer = str(task.doc_to_target(task.eval_docs[0]))
    assert task_checks.check_stops(_patient(sound), task).outcome == "ok"
    found = task_checks.check_stops(_patient(sound, gen_kwargs={"until": [answer[:2]]}), task)
    assert found.outcome == "failed"
    assert "right answers and would cut them" in found.words
    found = task_checks.check_stops(_patient(sound, gen_kwargs={"until": [""]}), task)
    assert "ends every answer at once" in found.words
    found = task_checks.check_stops(_patient(sound, gen_kwargs={"until": ["<|im_end|>"]}), task)
    assert found.outcome == "warning"
    assert "is no token of this tokenizer" in found.words
    found = task_checks.check_stops(_patient(sound, gen_kwargs={"until": ["What"]}), task)
    assert found.outcome == "warning"
    assert "an answer that quotes it is cut" in found.words


def test_tasks_without_items_are_skipped_with_the_reason(
    sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LENS_DATA_DIR", raising=False)
    found = examination.examine(_patient(sound), ["lens_xnli_en", TASKS[0]], weights=False)
    skipped = [result for result in found.results if result.check == "items"]
    assert [(result.task, result.outcome) for result in skipped] == [("lens_xnli_en", "skipped")]
    assert skipped[0].words.startswith("no test items for xnli, language en")
    assert list(found.prompts) == [TASKS[0]]


def test_training_data(sound: Path, tmp_path: Path) -> None:
    path = tiny_lens.save_prompts(tmp_path / "pairs.jsonl")
    found = machine_checks.check_data(_patient(sound), str(path), ("en", "zh"))
    assert found.outcome == "ok"
    assert "4 items" in found.words
    assert machine_checks.check_data(_patient(sound), str(path), ("en", "ja")).outcome == "failed"


# --- machine and weights -----------------------------------------------------------------------


def test_disk_and_memory(sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    patient = _patient(sound)
    assert machine_checks.check_disk(patient).outcome == machine_checks.check_memory(patient).outcome == "ok"
    monkeypatch.setattr("lens_train.stream.free_memory", lambda device: 1000)
    assert machine_checks.check_memory(patient).outcome == "failed"
    usage = shutil.disk_usage(sound)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    assert machine_checks.check_disk(patient).outcome == "failed"


def test_layers_that_cannot_be_run(sound: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    assert weight_checks.check_layers(_patient(sound)).outcome == "ok"
    broken = Path(tiny_lens.save_model(tmp_path / "broken"))
    weights = load_file(broken / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"].fill_(float("nan"))
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    found = weight_checks.check_layers(_patient(broken))
    assert found.outcome == "failed"
    assert "not finite" in found.words


def _adapter(model: Path, folder: Path, trained: bool) -> str:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    wrapped = get_peft_model(
        AutoModelForCausalLM.from_pretrained(model), LoraConfig(r=4, target_modules=["q_proj", "v_proj"])
    )
    if trained:
        for name, weight in wrapped.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight)
    wrapped.save_pretrained(folder)
    return str(folder)


def test_an_adapter_must_change_something(sound: Path, tasks: list[Any], tmp_path: Path) -> None:
    trained = _adapter(sound, tmp_path / "trained", True)
    good = weight_checks.check_adapter(_patient(sound, trained), tasks)
    assert good.outcome == "ok", good
    untouched = weight_checks.check_adapter(_patient(sound, _adapter(sound, tmp_path / "zero", False)), tasks)
    assert untouched.outcome == "failed"
    assert "changes no logit" in untouched.words
    other = Path(tiny_lens.save_model(tmp_path / "other", tiny_lens.config(hidden_size=64)))
    wrong = weight_checks.check_adapter(_patient(other, trained), tasks)
    assert wrong.outcome == "failed"
    assert "does not fit this model" in wrong.words
    assert weight_checks.check_adapter(_patient(sound), tasks).outcome == "skipped"
    # An adapter's folder in the place of the model names its base itself.
    itself = _patient(trained)
    assert (itself.model, itself.adapter) == (str(sound), trained)
    with pytest.raises(UserError, match="no adapter in"):
        _patient(sound, str(tmp_path))


def test_backends_are_compared_answer_by_answer() -> None:
    hf = Asked(((1, 2), (3,)), (0, 1, 1))
    assert parity.judged(hf, hf, [], "float32").outcome == "ok"
    one = parity.judged(hf, Asked(hf.replies, (0, 1, 0)), [], "float32")
    assert one.outcome == "warning"
    assert "2 of 3 choices are equal" in one.words
    all_other = Asked(((9,), (8,)), (1, 0, 0))
    assert parity.judged(hf, all_other, [3.0, 4.0], "float32").outcome == "failed"


@pytest.mark.parametrize(
    ("gap", "precision", "outcome"),
    [
        (0.001, "float32", "ok"),
        (0.1, "float32", "warning"),
        (0.1, "bfloat16", "ok"),
        (2.0, "bfloat16", "warning"),
    ],
)
def test_replies_that_part_at_a_tie_are_no_fault(gap: float, precision: str, outcome: str) -> None:
    found = parity.judged(Asked(((1,), (2,)), ()), Asked(((1,), (5,)), ()), [gap], precision)
    assert found.outcome == outcome
    assert f"at most {gap:.2g} logits apart" in found.words


def test_the_gap_is_that_of_the_tokens_at_which_two_replies_part(sound: Path) -> None:
    """After the same tokens, two others follow: the gap is the difference of their logits."""
    model = load_model(str(sound))
    prompt, one, other = (5, 6, 7), (8, 9, 10, 11), (8, 9, 12, 13)
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, 8, 9]])).logits[0, -1]
    expected = float((logits[10] - logits[12]).abs())
    assert expected > 0
    assert parity.gap(model, prompt, one, other, frozenset({2})) == pytest.approx(expected, rel=1e-4)
    # One has ended: the other's token stands against the likeliest end token.
    ended = float((logits[[2, 3]].max() - logits[12]).abs())
    assert parity.gap(model, prompt, (8, 9), other, frozenset({2, 3})) == pytest.approx(ended, rel=1e-4)


def test_replies_are_compared_by_their_tokens_though_their_texts_differ(sound: Path) -> None:
    """A limit of tokens cuts a character in two: one backend writes U+FFFD, the other nothing."""

    class Decoding:
        """What lm_eval sees of a backend; its texts hide that the tokens are equal."""

        tokenizer = patient.admit(str(sound), None, Backend(), "cpu").tokenizer

        def _model_generate(self, context: Any, max_length: int, stop: list[str], **_: Any) -> Any:
            return torch.tensor([[0, 5, 6, 8, 9, 2, 2]])

    heard, model = parity.Heard(frozenset({2})), Decoding()
    context = torch.tensor([[0, 5, 6]])
    settings: dict[str, Any] = {"max_length": 7, "stop": [], "attention_mask": torch.tensor([[0, 1, 1]])}
    with parity.listening(model, "hf", heard):
        model._model_generate(context, **settings)
    assert heard.replies == {(5, 6): (8, 9)}
    # What is generated to score options is no reply.
    model._model_generate(torch.tensor([[0, 7, 6]]), **settings)
    assert len(heard.replies) == 1


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed")
def test_without_vllm_the_comparison_is_skipped_with_the_reason(sound: Path, tasks: list[Any]) -> None:
    found = parity.check_parity(_patient(sound), tasks)
    assert (found.outcome, found.words) == ("skipped", "vLLM is not installed here")


@pytest.mark.vllm
def test_hf_and_vllm_agree_on_the_built_in_backbone(tasks: list[Any]) -> None:
    found = parity.check_parity(_patient("builtin", args={"dtype": "float32"}), tasks)
    assert found.outcome == "ok", found
    assert "8 of 8 greedy replies" in found.words
    assert "8 of 8 choices" in found.words


# --- shown -------------------------------------------------------------------------------------


def test_what_is_alike_is_said_once() -> None:
    results = [
        Result("length", "ok", "longest 5", "a"),
        Result("one BOS", "failed", "two", "a"),
        Result("length", "ok", "longest 7", "b"),
        Result("one BOS", "failed", "two", "b"),
        Result("length", "failed", "too long", "c"),
        Result("disk", "ok", "plenty"),
    ]
    shown = [(result.check, result.outcome, words) for result, words in doctor.lines(results)]
    assert shown == [
        ("length", "ok", "2 tasks"),
        ("length", "failed", "c: too long"),
        ("one BOS", "failed", "a, b: two"),
        ("disk", "ok", "plenty"),
    ]


def test_a_prompt_cannot_write_to_the_terminal() -> None:
    assert doctor._visible("a\x1b[2Jb\nc") == "a\\u001b[2Jb\nc"
    assert len(doctor._cut("x" * 10_000)) < 600


def test_the_command_and_its_status(tmp_path: Path) -> None:
    from lens_eval.commands.cli import app

    well = CliRunner().invoke(app, ["doctor", "builtin", "--tasks", TASKS[0], "--quick"])
    assert well.exit_code == 0, well.output
    assert "<|begin|><|user|>What is the month after March?" in well.stdout
    assert "chat template" in well.stdout
    too_long = ["--quick", "--gen-kwargs", "max_gen_toks=4096"]
    ill = CliRunner().invoke(app, ["doctor", "builtin", "--tasks", TASKS[0], *too_long])
    assert ill.exit_code == 1
    assert "no prompt fits" in " ".join(ill.stdout.split())
    command = [sys.executable, "-m", "lens_eval", "doctor", str(tmp_path / "none")]
    wrong = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert wrong.returncode == 2
    assert "no model folder" in wrong.stderr
    assert "Traceback" not in wrong.stderr
