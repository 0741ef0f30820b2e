"""vLLM for real, on a CPU: prompts and answers as in hf, one generation per choice, adapters, a clean end.

Loading vLLM takes most of a minute, so each engine is loaded once and asked everything.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lens_eval import mini, vllm_limits

pytestmark = pytest.mark.vllm
if importlib.util.find_spec("vllm") is None:
    pytest.skip("vllm is not installed; `make test-vllm` installs it", allow_module_level=True)

ROOT = Path(__file__).resolve().parents[1]
LANGUAGES = ("en", "zh", "sw", "ar")
QA = [f"lens_mini_qa_{language}" for language in LANGUAGES]
CHOICE = [f"lens_mini_choice_{language}" for language in ("en", "sw")]
LETTERS = "letters_sw"
LIMIT = 8
LENGTH = 384
SMALL = {"max_model_len": LENGTH, "kv_cache_memory_bytes": 1 << 28}

Samples = dict[str, list[dict[str, Any]]]


def _environment() -> dict[str, str]:
    # Without a compiler for the one function that vLLM compiles even in eager mode: half a minute saved.
    return {**os.environ, "TORCHDYNAMO_DISABLE": "1", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def _run(*command: str, timeout: float = 900) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@pytest.fixture(scope="module")
def task_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task with four one-letter options, made of the built-in items."""
    folder = tmp_path_factory.mktemp("tasks")
    options = "".join(f"\\n{letter}. {{{{choices[{i}]}}}}" for i, letter in enumerate("ABCD"))
    (folder / f"{LETTERS}.yaml").write_text(
        f"task: {LETTERS}\n"
        "custom_dataset: !function lens_eval.mini.tasks.load\n"
        "output_type: multiple_choice\n"
        "test_split: test\n"
        f'doc_to_text: "{{{{prompt}}}}{options}"\n'
        'doc_to_choice: ["A", "B", "C", "D"]\n'
        "doc_to_target: answer\n"
        'target_delimiter: ""\n'
        "metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\n"
        "metadata: {version: 1.0, family: letters, language: sw, split: test}\n"
    )
    return folder


@pytest.fixture(scope="module")
def lens_variant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Lens variant of the built-in backbone, trained by the command."""
    folder = tmp_path_factory.mktemp("variant") / "lens"
    code = "import sys; from lens_eval.cli import main; sys.argv[0] = 'lens'; main()"
    run = _run(
        *("-c", code, "train", "--model", "builtin", "--data", "builtin"),
        *("--languages", ",".join(LANGUAGES), "--output", str(folder), "--set", "lr=5.0e-4", "--limit", "80"),
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random LoRA adapter of rank 32, strong enough to change answers."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(mini.backbone_path(), dtype=torch.float32)
    config = LoraConfig(r=32, lora_alpha=32, target_modules=["q_proj", "v_proj", "down_proj"])
    tuned = get_peft_model(model, config)
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05)
    folder = tmp_path_factory.mktemp("adapter")
    tuned.save_pretrained(str(folder))
    return folder


def _evaluate(lm: Any, tasks: list[str], folder: Path, template: bool = True) -> Samples:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=[str(ROOT / "tasks"), str(folder)], include_defaults=False)
    found = simple_evaluate(
        model=lm,
        tasks=tasks,
        task_manager=manager,
        limit=LIMIT,
        apply_chat_template=template,
        bootstrap_iters=0,
        log_samples=True,
    )
    assert found is not None
    return {name: sorted(rows, key=lambda row: int(row["doc_id"])) for name, rows in found["samples"].items()}


def _saved(folder: Path) -> Samples:
    """The samples that a command wrote."""
    found: Samples = {}
    for file in [*folder.rglob("samples_*.jsonl"), *folder.rglob("samples_*.jsonl.gz")]:
        name = file.name.removeprefix("samples_").rsplit("_", 1)[0]
        text = (
            gzip.decompress(file.read_bytes()).decode() if file.suffix == ".gz" else file.read_text("utf-8")
        )
        found[name] = sorted(map(json.loads, text.splitlines()), key=lambda row: int(row["doc_id"]))
    return found


def _texts(samples: Samples) -> dict[str, list[str]]:
    return {name: [row["resps"][0][0] for row in samples[name]] for name in samples if "qa" in name}


def _scores(row: dict[str, Any]) -> list[float]:
    """Log-likelihoods of the options; files hold lm_eval's pairs as text."""
    return [float(str(option[0][0])) for option in row["resps"]]


def _choices(samples: Samples) -> dict[str, list[int]]:
    return {
        name: [max(range(4), key=_scores(row).__getitem__) for row in samples[name]]
        for name in samples
        if "qa" not in name
    }


def _assert_same(ours: Samples, reference: Samples) -> None:
    assert ours.keys() == reference.keys()
    assert _texts(ours) == _texts(reference)
    assert _choices(ours) == _choices(reference)
    for name in _choices(ours):
        for own, other in zip(ours[name], reference[name], strict=True):
            assert _scores(own) == pytest.approx(_scores(other), abs=2e-3)


def _hf(pretrained: Path, adapter: Path | None = None) -> Any:
    from lm_eval.models.huggingface import HFLM

    more = {"peft": str(adapter)} if adapter else {}
    return HFLM(pretrained=str(pretrained), device="cpu", dtype="float32", batch_size=1, **more)


@contextmanager
def _lens_vllm(**arguments: Any) -> Iterator[Any]:
    from lens_eval.backends import LensVLLM

    lm = LensVLLM(str(mini.backbone_path()), dtype="float32", batch_size="auto", **SMALL, **arguments)
    try:
        yield lm
    finally:
        lm.close()


@pytest.fixture(scope="module")
def backbone() -> Iterator[Any]:
    with _lens_vllm() as lm:
        yield lm


def test_the_lens_variant_through_plain_lm_eval_answers_as_in_hf(
    lens_variant: Path, task_folder: Path, tmp_path: Path
) -> None:
    run = _run(
        *("-m", "lm_eval", "--model", "vllm", "--model_args"),
        f"pretrained={lens_variant},dtype=float32,enforce_eager=True,max_model_len={LENGTH},"
        f"kv_cache_memory_bytes={1 << 28}",
        *("--include_path", "tasks", "--tasks", ",".join([*QA, *CHOICE]), "--limit", str(LIMIT)),
        *("--apply_chat_template", "--batch_size", "auto", "--log_samples", "--output_path", str(tmp_path)),
    )
    # lm_eval leaves vLLM to the interpreter's exit, which can abort the process after everything is saved.
    aborted = run.returncode in (-6, 134) and "terminate called without an active exception" in run.stderr
    assert run.returncode == 0 or aborted, run.stderr[-3000:]
    ours = _saved(tmp_path)
    _assert_same(ours, _evaluate(_hf(lens_variant), [*QA, *CHOICE], task_folder))
    # Control: another model does not give these answers.
    assert _texts(ours) != _texts(_evaluate(_hf(mini.backbone_path()), QA, task_folder))


def test_lens_eval_with_vllm_ends_with_status_0_and_the_answers_of_hf(
    lens_variant: Path, task_folder: Path, tmp_path: Path
) -> None:
    code = "import sys; from lens_eval.cli import main; sys.argv[0] = 'lens'; main()"
    run = _run(
        *("-c", code, "eval", "--model", str(lens_variant), "--backend", "vllm", "--limit", str(LIMIT)),
        *("--tasks", ",".join([*QA, *CHOICE]), "--output", str(tmp_path / "out")),
        *("--model-args", f"dtype=float32,max_model_len={LENGTH}"),
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert "terminate called" not in run.stderr
    _assert_same(_saved(tmp_path / "out"), _evaluate(_hf(lens_variant), [*QA, *CHOICE], task_folder))


@pytest.mark.parametrize("template", [True, False])
def test_prompts_are_those_of_hf_token_by_token_and_so_are_answers(
    template: bool, backbone: Any, task_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hf, sent, read = _hf(mini.backbone_path()), [], []
    generate, call, ask = hf._model_generate, hf._model_call, backbone._model_generate

    def note_generate(context: Any, *rest: Any, **more: Any) -> Any:
        read.append(tuple(context[0].tolist()))
        return generate(context, *rest, **more)

    def note_call(inputs: Any, *rest: Any, **more: Any) -> Any:
        read.append(tuple(inputs[0].tolist()))
        return call(inputs, *rest, **more)

    def note_ask(requests: list[list[int]], generate: bool = False, **more: Any) -> Any:
        # Where an option is read with the prompt, hf leaves out the last token, which predicts nothing.
        sent.extend(tuple(request if generate else request[:-1]) for request in requests)
        return ask(requests=requests, generate=generate, **more)

    monkeypatch.setattr(hf, "_model_generate", note_generate)
    monkeypatch.setattr(hf, "_model_call", note_call)
    monkeypatch.setattr(backbone, "_model_generate", note_ask)
    tasks = [*QA, *CHOICE, LETTERS]
    ours, reference = (
        _evaluate(backbone, tasks, task_folder, template),
        _evaluate(hf, tasks, task_folder, template),
    )
    _assert_same(ours, reference)
    assert len(sent) >= LIMIT * (len(QA) + 4 * len(CHOICE) + 1)
    assert set(sent) == set(read)
    # The chat template writes the one; without it the tokenizer decides, and the built-in one adds none.
    bos = hf.tokenizer.bos_token_id
    assert {prompt.count(bos) for prompt in sent} == {1 if template else hf.tok_encode("a").count(bos)}
    assert not template or {prompt[0] for prompt in sent} == {bos}


def _triples(lm: Any, options: tuple[str, ...], count: int = 40) -> list[Any]:
    """lm_eval's log-likelihood requests: all options behind each of `count` questions."""
    from lens_eval.mini.tasks import documents

    found = []
    for doc in documents("test", "sw")[:count]:
        prompt = lm.apply_chat_template([{"role": "user", "content": doc["prompt"]}])
        found += [((prompt, option), *lm._encode_pair(prompt, option)) for option in options]
    return found


@pytest.mark.parametrize(
    "options", [("A", "B"), ("A", "B", "C", "D"), ("A", "OK. B", "OK. C"), ("OK. A", "OK. B")], ids=len
)
def test_one_generation_gives_the_numbers_of_the_stock_way(options: tuple[str, ...], backbone: Any) -> None:
    from lm_eval.models.vllm_causallms import VLLM

    requests = _triples(backbone, options)
    lengths = {len(continuation) for _, _, continuation in requests}
    # The option sets are of one token, of several, and of both.
    assert (1 in lengths) == ("A" in options)
    stock = VLLM._loglikelihood_tokens(backbone, requests, disable_tqdm=True)
    ours = backbone._loglikelihood_tokens(requests, disable_tqdm=True)
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in stock]
    assert [value for value, _ in ours] == pytest.approx([value for value, _ in stock], abs=1e-4)
    for start in range(0, len(ours), len(options)):
        item = range(start, start + len(options))
        assert max(item, key=lambda i: ours[i][0]) == max(item, key=lambda i: stock[i][0])


def test_contexts_too_long_are_cut_as_in_the_stock_way(backbone: Any) -> None:
    from lm_eval.models.vllm_causallms import VLLM

    context, token = backbone.tok_encode("Nairobi " * LENGTH), backbone.tok_encode("A", False)
    assert len(context) > LENGTH
    requests = [(None, context[:length], token) for length in (LENGTH - 2, LENGTH - 1, LENGTH, LENGTH + 1)]
    stock = VLLM._loglikelihood_tokens(backbone, requests, disable_tqdm=True)
    ours = backbone._loglikelihood_tokens(requests, disable_tqdm=True)
    assert [value for value, _ in ours] == pytest.approx([value for value, _ in stock], abs=1e-4)


def test_four_options_by_one_generation_are_at_least_twice_as_fast(backbone: Any) -> None:
    from lm_eval.models.vllm_causallms import VLLM

    requests = _triples(backbone, ("A", "B", "C", "D"), count=100)
    seconds: dict[str, list[float]] = {"stock": [], "ours": []}
    for _ in range(3):
        for name, way in (("stock", VLLM), ("ours", type(backbone))):
            backbone.model.reset_prefix_cache()
            start = time.perf_counter()
            way._loglikelihood_tokens(backbone, requests, disable_tqdm=True)
            seconds[name].append(time.perf_counter() - start)
    assert 2 * min(seconds["ours"]) <= min(seconds["stock"]), seconds


def test_more_tokens_than_vllm_tells_at_once_are_asked_for_in_turns(backbone: Any) -> None:
    prompt = backbone.tok_encode("Nairobi")
    ours = backbone._loglikelihood_tokens([(None, prompt, [token]) for token in range(300)])
    # 300 of the 1,536 tokens there are: their probabilities sum to less than 1, and one at most is greedy.
    assert 0 < sum(math.exp(value) for value, _ in ours) <= 1 + 1e-5
    assert sum(greedy for _, greedy in ours) <= 1


def test_an_adapter_of_rank_32_is_applied_and_answers_as_in_hf(adapter: Path, task_folder: Path) -> None:
    tasks = [*QA[:2], *CHOICE, LETTERS]
    with _lens_vllm(lora_local_path=str(adapter)) as lm:
        # Options of several tokens too, which the stock way cannot score here: its engine dies.
        ours = _evaluate(lm, tasks, task_folder)
        prompt = lm.tok_encode("Nairobi")
        triple = [(None, prompt, [token]) for token in range(50)]
        tuned = [value for value, _ in lm._loglikelihood_tokens(triple)]
        lm.lora_request, request = None, lm.lora_request
        bare = [value for value, _ in lm._loglikelihood_tokens(triple)]
        lm.lora_request = request
    assert max(abs(a - b) for a, b in zip(tuned, bare, strict=True)) > 0.1
    _assert_same(ours, _evaluate(_hf(mini.backbone_path(), adapter), tasks, task_folder))
    # Control: the backbone alone answers differently.
    reference = _evaluate(_hf(mini.backbone_path()), tasks, task_folder)
    assert _texts(ours) != _texts(reference)


def test_what_vllm_cannot_do_ends_with_a_message_and_status_2(tmp_path: Path) -> None:
    settings = {"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    run = _run(
        *("-m", "lens_eval.backends", "--model", "lens_vllm", "--model_args", f"pretrained={tmp_path}"),
        *("--include_path", "tasks", "--tasks", QA[0]),
    )
    assert run.returncode == 2, run.stderr[-3000:]
    assert "lens: " in run.stderr
    assert "heads of size 16" in run.stderr
    assert "Traceback" not in run.stderr


def test_head_sizes_are_those_that_vllm_lists() -> None:
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

    assert tuple(CPUAttentionBackend.get_supported_head_sizes()) == vllm_limits.CPU_HEAD_SIZES
