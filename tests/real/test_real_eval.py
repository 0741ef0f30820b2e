"""Real models on real items: baselines through hf, one model through hf and vLLM, and the tables."""

from __future__ import annotations

import importlib.util
import json
from itertools import combinations
from pathlib import Path
from typing import Any

import items
import pytest
import yaml
from commands import Lens, means, replies, samples, scores

pytestmark = pytest.mark.real

CODES = ("en", "zh", "sw")
CHOICE = [f"lens_xcopa_{code}" for code in CODES]
NUMBERS = [f"lens_mgsm_{code}" for code in CODES]
SCORE_ERROR = 2e-3
"""Largest difference of log-likelihoods in float32 between the backends, in nats."""


def write_recipe(file: Path, model: Path, **parts: Any) -> Path:
    """A recipe in float32 for the three languages."""
    common = {"backbone": str(model), "languages": list(CODES), "variants": {"backbone": {}}}
    file.write_text(yaml.safe_dump({**common, **parts}, sort_keys=False), encoding="utf-8")
    return file


def test_an_adapter_and_a_steering_are_trained_and_evaluated(
    smol: Path, shared: Path, lens: Lens, tmp_path: Path
) -> None:
    """`lens reproduce`: LoRA on answered items and all that steers; each changes what the model scores."""
    data = items.answered(shared, tmp_path / "pairs.jsonl", CODES, 8)
    variants = {
        "backbone": {},
        "xsft_lora": {"method": "xsft_lora", "learning_rate": 1e-3, "steps": 4, "batch_size": 4},
        "steer": {"method": "steer", "dtype": "float32"},
        **{name: {"method": name, "dtype": "float32"} for name in ("diffmean", "recover", "liseco")},
    }
    backend = {"model": "hf", "args": {"dtype": "float32"}, "batch_size": 4}
    recipe = write_recipe(
        tmp_path / "smol.yaml",
        smol,
        data={"train": str(data)},
        variants=variants,
        tasks=["lens_xcopa"],
        backend=backend,
        limit=4,
    )
    run = tmp_path / "run"
    lens("reproduce", recipe, "--output", run)
    found = {name: samples(run / name) for name in variants}
    for own in found.values():
        assert own.keys() == set(CHOICE)
        for task in CHOICE:
            same = [row["arguments"] for row in found["backbone"][task]]
            assert [row["arguments"] for row in own[task]] == same, "all are asked the same"
    scored = {name: [scores(own[task]) for task in CHOICE] for name, own in found.items()}
    for first, second in combinations(variants, 2):
        assert scored[first] != scored[second]
    losses = [row["loss"] for row in _log(run, "xsft_lora") if "loss" in row]
    assert losses[-1] < losses[0]
    assert {variant for variant, _ in means(run, "acc")} == set(variants)
    page = (run / "report.html").read_text(encoding="utf-8")
    premise = found["backbone"]["lens_xcopa_sw"][0]["doc"]["premise"]
    assert premise in page, "the page shows what was asked"


def _log(run: Path, variant: str) -> list[dict[str, Any]]:
    (file,) = (run / "models").glob(f"{variant}-*/training/log.jsonl")
    return items.read_lines(file)


@pytest.fixture(scope="module")
def both(qwen: Path, lens: Lens, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Greedy answers and choices of one model through each backend, in float32; a folder for each."""
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed here; `make test-real` runs in the environment that has it")
    folder = tmp_path_factory.mktemp("backends")
    for name, args, batch in (
        ("hf", {}, 4),
        ("vllm", {"max_model_len": 1024, "kv_cache_memory_bytes": 1 << 28}, "auto"),
    ):
        backend = {
            "model": name,
            "args": {"dtype": "float32", **args},
            "batch_size": batch,
            "gen_kwargs": {"max_gen_toks": 48},
        }
        recipe = write_recipe(
            folder / f"{name}.yaml", qwen, tasks=["lens_mgsm", "lens_xcopa"], backend=backend, limit=4
        )
        lens("reproduce", recipe, "--output", folder / name)
    return folder


def test_hf_and_vllm_answer_real_items_alike(both: Path) -> None:
    hf, vllm = (samples(both / name) for name in ("hf", "vllm"))
    assert hf.keys() == vllm.keys() == {*CHOICE, *NUMBERS}
    for task in CHOICE:
        own, other = scores(hf[task]), scores(vllm[task])
        for ours, theirs in zip(own, other, strict=True):
            assert ours == pytest.approx(theirs, abs=SCORE_ERROR)
    answers = {name: [replies(run[task]) for task in NUMBERS] for name, run in (("hf", hf), ("vllm", vllm))}
    assert answers["hf"] == answers["vllm"]
    assert all(reply.strip() for task in answers["hf"] for reply in task)


def test_compare_and_report_on_both(both: Path, lens: Lens, tmp_path: Path) -> None:
    runs = [f"{name}={both / name}" for name in ("hf", "vllm")]
    lens("compare", *runs, "--reference", "hf", "--output", tmp_path)
    for metric in ("acc", "off_target"):
        found = means(tmp_path, metric)
        own = {language: mean for (variant, language), mean in found.items() if variant == "hf"}
        other = {language: mean for (variant, language), mean in found.items() if variant == "vllm"}
        assert own == other
        assert own.keys() >= set(CODES)
    rows = samples(both / "hf")["lens_mgsm_zh"]
    by_hand = sum(row["off_target"] for row in rows) / len(rows)
    assert means(tmp_path, "off_target")["hf", "zh"] == pytest.approx(by_hand)
    page = lens("report", both / "hf", "--output", tmp_path / "page.html").strip()
    reply = replies(rows)[0].splitlines()[0]
    assert json.dumps(reply)[1:-1] in Path(page).read_text("utf-8") or reply in Path(page).read_text("utf-8")
