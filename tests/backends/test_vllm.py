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
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from lens_eval import mini
from lens_eval.backends import vllm_limits
from lens_eval.base.errors import UserError

pytestmark = pytest.mark.vllm
if importlib.util.find_spec("vllm") is None:
    pytest.skip("vllm is not installed; `make test-vllm` installs it", allow_module_level=True)

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = ("en", "zh", "sw", "ar")
QA = [f"lens_mini_qa_{language}" for language in LANGUAGES]
CHOICE = [f"lens_mini_choice_{language}" for language in ("en", "sw")]
LETTERS = "letters_sw"
LIMIT = 8
LENGTH = 384
ENVIRONMENT = {
    # Without a compiler for the one function that vLLM compiles even in eager mode: half a minute saved.
    "TORCHDYNAMO_DISABLE": "1",
    # Its process is not tied to one core, which others may be using.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
}
os.environ.update(ENVIRONMENT)
SMALL = {"max_model_len": LENGTH, "kv_cache_memory_bytes": 1 << 28}

Samples = dict[str, list[dict[str, Any]]]


def _environment() -> dict[str, str]:
    return {**os.environ, **ENVIRONMENT}


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
        "custom_dataset: !function lens_eval.tasks.built_in.load\n"
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
    code = "import sys; from lens_eval.commands.cli import main; sys.argv[0] = 'lens'; main()"
    run = _run(
        *("-c", code, "train", "--model", "builtin", "--data", "builtin"),
        *(
            "--languages",
            ",".join(LANGUAGES),
            "--output",
            str(folder),
            "--set",
            "learning_rate=5.0e-4",
            "--limit",
            "80",
        ),
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return folder


def _adapter(folder: Path, rank: int) -> Path:
    """A random LoRA adapter of the built-in backbone."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(rank)
    model = AutoModelForCausalLM.from_pretrained(mini.backbone_path(), dtype=torch.float32)
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=["q_proj", "v_proj", "down_proj"])
    tuned = get_peft_model(model, config)
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    tuned.save_pretrained(str(folder))
    return folder


def _steering(folder: Path, **settings: Any) -> Path:
    """A steering of the built-in backbone."""
    from lens_train import methods
    from lens_train.job import Job

    data = mini.resolve_data("builtin")
    off = {"remove_strength": 0.0, "restore_strength": 0.0}
    settings = {**off, "probe_items": 30, **settings}
    model = str(mini.backbone_path())
    methods.train(Job("steer", model, data, LANGUAGES, folder, device="cpu", settings=settings))
    return folder


@pytest.fixture(scope="module")
def steering(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Specific parts removed in two layers, put back in the last two (in the last one behind the norm)."""
    folder = tmp_path_factory.mktemp("steering") / "specific"
    return _steering(
        folder, remove_strength=1.0, remove_layers=[2, 3], restore_strength=2.0, restore_layers=[-2, -1]
    )


@pytest.fixture(scope="module")
def directions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The direction of a language added in two layers, the last one included."""
    return _steering(tmp_path_factory.mktemp("steering") / "direction", add_strength=2.0, add_layers=[2, -1])


@pytest.fixture(scope="module")
def decoding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tokens of a language's scripts preferred by so much that no greedy reply leaves them."""
    from lens_train import methods
    from lens_train.job import Job

    folder = tmp_path_factory.mktemp("decoding") / "bias"
    data, settings = mini.resolve_data("builtin"), {"bias": 50.0, "margin": 1.0}
    model = str(mini.backbone_path())
    methods.train(Job("bias", model, data, LANGUAGES, folder, device="cpu", settings=settings))
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


def _hf_steered(steering: Path) -> Any:
    from lens_eval.backends.steered import SteeredLM

    model = str(mini.backbone_path())
    return SteeredLM(model, str(steering), device="cpu", dtype="float32", batch_size=1)


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    """The built-in backbone, loaded once for this module."""
    from lens_eval.backends.vllm import LensVLLM

    lm = LensVLLM(str(mini.backbone_path()), dtype="float32", batch_size="auto", **SMALL)
    yield lm
    lm.close()


@pytest.fixture
def backbone(engine: Any) -> Iterator[Any]:
    """As it is before and after each test: not steered."""
    yield engine
    engine.use()


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
    code = "import sys; from lens_eval.commands.cli import main; sys.argv[0] = 'lens'; main()"
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
    from lens_eval.tasks.built_in import documents

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


def test_four_options_are_one_request_where_the_stock_way_sends_four(
    backbone: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval.models.vllm_causallms import VLLM

    requests = _triples(backbone, ("A", "B", "C", "D"), count=5)
    ask, sent = backbone._model_generate, []

    def note(requests: list[list[int]], **more: Any) -> Any:
        sent.extend(requests)
        return ask(requests=requests, **more)

    monkeypatch.setattr(backbone, "_model_generate", note)
    backbone._loglikelihood_tokens(requests, disable_tqdm=True)
    assert len(sent) == 5
    sent.clear()
    VLLM._loglikelihood_tokens(backbone, requests, disable_tqdm=True)
    assert len(sent) == 20


def test_more_tokens_than_vllm_tells_at_once_are_asked_for_in_turns(backbone: Any) -> None:
    prompt = backbone.tok_encode("Nairobi")
    ours = backbone._loglikelihood_tokens([(None, prompt, [token]) for token in range(300)])
    # 300 of the 1,536 tokens there are: their probabilities sum to less than 1, and one at most is greedy.
    assert 0 < sum(math.exp(value) for value, _ in ours) <= 1 + 1e-5
    assert sum(greedy for _, greedy in ours) <= 1


def test_steered_answers_are_those_of_hf(backbone: Any, steering: Path, task_folder: Path) -> None:
    tasks = [*QA, *CHOICE, LETTERS]
    plain = _evaluate(backbone, tasks, task_folder)
    backbone.use(steering=str(steering))
    ours = _evaluate(backbone, tasks, task_folder)
    _assert_same(ours, _evaluate(_hf_steered(steering), tasks, task_folder))
    # Control: it is steered, and no longer afterwards.
    assert _texts(ours) != _texts(plain)
    assert _scores(ours[LETTERS][0]) != pytest.approx(_scores(plain[LETTERS][0]), abs=1e-2)
    backbone.use()
    _assert_same(_evaluate(backbone, tasks, task_folder), plain)


def _mixed(languages: tuple[str, ...]) -> tuple[list[Any], list[Any]]:
    """The same questions asked in every language at once: to be scored, and to be answered."""
    from lm_eval.api.instance import Instance

    from lens_eval.tasks.built_in import documents

    prompts = [doc["prompt"] for doc in documents("test", "en")[:6]]
    pairs = [(prompt, {"language": code}) for prompt in prompts for code in languages]
    settings = {"until": [], "max_gen_toks": 12, "do_sample": False}
    scored = [Instance("loglikelihood", doc, (prompt, " Nairobi"), 0) for prompt, doc in pairs]
    return scored, [Instance("generate_until", doc, (prompt, settings), 0) for prompt, doc in pairs]


def test_directions_of_several_languages_in_one_batch_are_those_of_hf(
    backbone: Any, directions: Path
) -> None:
    scored, asked = _mixed(LANGUAGES)
    backbone.use(steering=str(directions))
    scores = [value for value, _ in backbone.loglikelihood(scored)]
    texts = backbone.generate_until(asked)
    hf = _hf_steered(directions)
    assert scores == pytest.approx([value for value, _ in hf.loglikelihood(scored)], abs=2e-3)
    assert texts == hf.generate_until(asked)
    # One prompt, four languages, four numbers: nothing kept of the same prompt in another language is used.
    assert all(len({round(score, 3) for score in scores[i : i + 4]}) == 4 for i in range(0, len(scores), 4))
    # Control: English, the central language, is left alone; the others are not.
    backbone.use()
    plain = backbone.generate_until(asked)
    assert texts[::4] == plain[::4]
    assert texts != plain
    backbone.use(steering=str(directions))
    with pytest.raises(UserError, match="has none for 'ja'"):
        backbone.generate_until(_mixed(("en", "ja"))[1])


def test_every_layer_fires_once_per_pass_in_prefill_and_decoding(backbone: Any, steering: Path) -> None:
    from vllm import SamplingParams

    prompt = backbone.tok_encode("Nairobi")
    layers = {"2", "3", "4", "5"}
    for new in (1, 7):
        backbone.use(steering=str(steering))
        settings = SamplingParams(temperature=0, max_tokens=new, ignore_eos=True)
        backbone._model_generate([prompt] * 3, generate=True, sampling_params=[settings] * 3)
        (fired,) = backbone.steered_passes()
        assert fired == {"passes": fired["passes"], **dict.fromkeys(layers, fired["passes"])}
        # Prefill (of one prompt before the others, where vLLM takes it so) and one pass per further token.
        assert new <= fired["passes"] <= new + 2
    backbone.use()
    assert backbone.steered_passes() == [{"passes": 0}]


def test_strength_zero_is_the_identity_to_the_bit(backbone: Any, steering: Path, tmp_path: Path) -> None:
    from lens_train.steering.steering import Edit, Steering

    found = Steering.load(steering)
    edits = tuple(Edit(edit.layer, edit.kind, 0.0) for edit in found.edits)
    Steering(edits, found.specific, found.directions, found.base).save(tmp_path)
    requests = _triples(backbone, ("A", "B"), count=10)
    plain = backbone._loglikelihood_tokens(requests)
    backbone.use(steering=str(tmp_path))
    assert backbone._loglikelihood_tokens(requests) == plain
    # Control: with its own strengths it is not.
    backbone.use(steering=str(steering))
    assert backbone._loglikelihood_tokens(requests) != plain


def test_layers_that_hand_on_something_else_are_found_out(
    backbone: Any, steering: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the sum of the pair is not the hidden state, a steering of strength 0 changes the answers."""
    answers = [{1: -0.5}, {1: -2.0}]
    monkeypatch.setattr(backbone, "close", lambda: None)
    monkeypatch.setattr(backbone, "_likeliest", lambda count=1: answers[count > 1])
    with pytest.raises(UserError, match="hand on their hidden states in a way"):
        backbone.use(steering=str(steering))


def test_a_recipe_loads_one_backbone_for_steerings_and_one_for_adapters(
    steering: Path, task_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lens_eval.backends import vllm
    from lens_eval.runs.recipe import Backend, Recipe, VariantSpec
    from lens_eval.runs.runner import run

    loaded = []
    load = vllm.LensVLLM.__init__

    def note(self: Any, *args: Any, **arguments: Any) -> None:
        loaded.append(int(arguments.get("max_lora_rank", 0)))
        load(self, *args, **arguments)

    monkeypatch.setattr(vllm.LensVLLM, "__init__", note)
    adapters = {f"rank{rank}": _adapter(tmp_path / f"rank{rank}", rank) for rank in (8, 32)}
    tasks = [*QA[:2], *CHOICE, LETTERS]
    strong = {"remove_strength": 0.8, "restore_strength": 0.8, "probe_items": 30}
    recipe = Recipe(
        name="shared",
        backbone="builtin",
        languages=LANGUAGES,
        variants=(
            VariantSpec("backbone"),
            VariantSpec("steered", method="steer", settings=strong),
            *(VariantSpec(name, adapter=str(folder)) for name, folder in adapters.items()),
        ),
        tasks=tuple(tasks),
        include_path=(str(task_folder),),
        backend=Backend("vllm", {"dtype": "float32", **SMALL}, "auto"),
        train_data="builtin",
        limit=LIMIT,
    )
    outcome = run(recipe, tmp_path / "out", device="cpu")
    assert outcome.failed == ()
    assert loaded == [0, 32]
    found = {name: _saved(tmp_path / "out" / name) for name in ("backbone", "steered", *adapters)}
    # Control: no two of them are the same model.
    firsts = [_scores(samples[LETTERS][0])[0] for samples in found.values()]
    assert min(abs(a - b) for a, b in combinations(firsts, 2)) > 0.01
    _assert_same(found["backbone"], _evaluate(_hf(mini.backbone_path()), tasks, task_folder))
    for name, folder in adapters.items():
        # Options of several tokens too, which the stock way cannot score here: its engine dies.
        _assert_same(found[name], _evaluate(_hf(mini.backbone_path(), folder), tasks, task_folder))
    (model,) = (tmp_path / "out" / "models").glob("steered-*/variant.json")
    _assert_same(found["steered"], _evaluate(_hf_steered(model.parent), tasks, task_folder))


def test_the_command_of_lm_eval_steers_and_ends_with_status_0(
    steering: Path, task_folder: Path, tmp_path: Path
) -> None:
    run = _run(
        *("-m", "lens_eval.backends.vllm", "--model", "lens_vllm", "--model_args"),
        f"pretrained={mini.backbone_path()},steering={steering},dtype=float32,max_model_len={LENGTH},"
        f"kv_cache_memory_bytes={1 << 28}",
        *("--include_path", "tasks", "--tasks", ",".join(QA[:2]), "--limit", str(LIMIT)),
        *("--apply_chat_template", "--batch_size", "auto", "--log_samples", "--output_path", str(tmp_path)),
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert "terminate called" not in run.stderr
    _assert_same(_saved(tmp_path), _evaluate(_hf_steered(steering), QA[:2], task_folder))


@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    [
        ("steer", {"enforce_eager": False}, "CUDA graphs run past the hooks"),
        ("steer", {"pipeline_parallel_size": 2}, "no process has all the layers"),
        (None, {"data_parallel_size": 2}, "data_parallel_size=2 on a CPU"),
    ],
)
def test_a_run_refuses_what_vllm_cannot_do_before_it_trains(
    method: str | None, arguments: dict[str, Any], message: str, tmp_path: Path
) -> None:
    from lens_eval.runs.preflight import check
    from lens_eval.runs.recipe import Backend, Recipe, VariantSpec

    variants = (VariantSpec("variant", method=method),)
    recipe = Recipe("run", "builtin", LANGUAGES, variants, tuple(QA), train_data="builtin")
    possible = replace(recipe, backend=Backend("vllm", {"tensor_parallel_size": 2}))
    with pytest.raises(UserError, match=message):
        check(replace(recipe, backend=Backend("vllm", arguments)), tmp_path / "out", "cpu")
    # Control: what vLLM can do is let through.
    check(possible, tmp_path / "out", "cpu")


def test_what_vllm_cannot_do_ends_with_a_message_and_status_2(tmp_path: Path) -> None:
    settings = {"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    run = _run(
        *("-m", "lens_eval.backends.vllm", "--model", "lens_vllm", "--model_args", f"pretrained={tmp_path}"),
        *("--include_path", "tasks", "--tasks", QA[0]),
    )
    assert run.returncode == 2, run.stderr[-3000:]
    assert "lens: " in run.stderr
    assert "heads of size 16" in run.stderr
    assert "Traceback" not in run.stderr


def test_head_sizes_are_those_that_vllm_lists() -> None:
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

    assert tuple(CPUAttentionBackend.get_supported_head_sizes()) == vllm_limits.CPU_HEAD_SIZES


def test_replies_under_a_decoding_are_those_of_hf_and_options_are_not_touched(
    decoding: Path, task_folder: Path
) -> None:
    from lens_eval.backends.decoded import DecodedLM
    from lens_eval.backends.vllm import LensVLLM

    model = str(mini.backbone_path())
    tasks = [*QA, *CHOICE]
    lm = LensVLLM(model, decoding=str(decoding), dtype="float32", batch_size="auto", **SMALL)
    ours = _evaluate(lm, tasks, task_folder)
    lm.close()
    reference = _evaluate(
        DecodedLM(model, str(decoding), device="cpu", dtype="float32", batch_size=1), tasks, task_folder
    )
    _assert_same(ours, reference)
    bare = _evaluate(_hf(mini.backbone_path()), tasks, task_folder)
    assert _choices(ours) == _choices(bare)
    # Control: without the rule some replies are others.
    assert _texts(ours) != _texts(bare)


@pytest.mark.parametrize("method", ["recover", "liseco"])
def test_states_turned_or_lifted_in_every_layer_answer_as_in_hf(
    method: str, backbone: Any, task_folder: Path, tmp_path: Path
) -> None:
    """A change that depends on the state, and positions that are left alone."""
    from lens_train import methods
    from lens_train.job import Job

    model, data = str(mini.backbone_path()), mini.resolve_data("builtin")
    settings = {"text_items": 30}
    methods.train(Job(method, model, data, LANGUAGES, tmp_path / method, device="cpu", settings=settings))
    tasks = [QA[2], CHOICE[1]]
    bare = _evaluate(backbone, tasks, task_folder)
    backbone.use(steering=str(tmp_path / method))
    ours = _evaluate(backbone, tasks, task_folder)
    _assert_same(ours, _evaluate(_hf_steered(tmp_path / method), tasks, task_folder))
    # Control: it changes the scores.
    assert any(_scores(a) != _scores(b) for a, b in zip(ours[CHOICE[1]], bare[CHOICE[1]], strict=True))


@pytest.mark.parametrize("value", [None, math.nan])
def test_replies_of_weights_that_are_no_numbers_fail_the_cell(value: float | None, tmp_path: Path) -> None:
    """vLLM itself gives empty replies to them."""
    import shutil

    from safetensors.torch import load_file, save_file

    model = tmp_path / "model"
    shutil.copytree(mini.backbone_path(), model)
    if value is not None:
        tensors = load_file(model / "model.safetensors")
        tensors[next(name for name in tensors if "down_proj" in name)].view(-1)[0] = value
        save_file(tensors, model / "model.safetensors", {"format": "pt"})
    given = ["--model", str(model), "--tasks", "lens_mini_qa_en", "--limit", "2", "--backend", "vllm"]
    arguments = ["--model-args", ",".join(f"{name}={value}" for name, value in SMALL.items())]
    run = _run("-m", "lens_eval", "eval", *given, *arguments, "--output", str(tmp_path / "out"))
    words = " ".join((run.stdout + run.stderr).split())
    if value is None:
        assert run.returncode == 0, words[-3000:]
    else:
        assert run.returncode == 1, words[-3000:]
        assert "2 of 2 replies have logits that are NaN or infinite" in words


def test_a_baked_steering_answers_as_hf_does_under_hooks(task_folder: Path, tmp_path: Path) -> None:
    """An ordinary checkpoint of biases, loaded by an engine that knows nothing of steering."""
    from lens_eval.backends.steered import SteeredLM
    from lens_eval.backends.vllm import LensVLLM
    from lens_train.steering.bake import bake

    model = str(mini.backbone_path())
    steering = _steering(tmp_path / "steering", add_strength=2.0, add_layers=[2, 4])
    bake(steering, "sw", model, tmp_path / "baked")
    tasks = ["lens_mini_qa_sw", "lens_mini_choice_sw"]
    lm = LensVLLM(str(tmp_path / "baked"), dtype="float32", batch_size="auto", **SMALL)
    ours = _evaluate(lm, tasks, task_folder)
    lm.close()
    hooked = SteeredLM(model, str(steering), device="cpu", dtype="float32", batch_size=1)
    _assert_same(ours, _evaluate(hooked, tasks, task_folder))
    # Control: without the steering some replies are others.
    assert _texts(ours) != _texts(_evaluate(_hf(mini.backbone_path()), tasks, task_folder))
