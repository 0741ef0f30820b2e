"""What the benchmarks measure must be what they say they measure."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from benchmarks import large_model, precision  # noqa: E402
from benchmarks.off_target import lines_in_turn  # noqa: E402
from benchmarks.plain_lens import PlainSettings, plain_train  # noqa: E402
from lens_eval.language.languages import DEFAULT_LANGUAGES  # noqa: E402
from lens_eval.mini import resolve_data  # noqa: E402
from lens_train.job import Job  # noqa: E402


@pytest.mark.parametrize("setting", ["bilingual", "multilingual"])
def test_plain_trainer_gives_the_released_losses(shared: Path, setting: str) -> None:
    """The speed benchmark's baseline must be the released algorithm, or its ratios mean nothing."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = shared / "golden" / "model"
    golden = np.load(shared / "golden" / f"{setting}.npz")
    languages = [
        "en",
        *sorted(k.split(".")[1] for k in golden if k.startswith("direction.") and k != "direction.en"),
    ]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    rows = json.loads(
        (shared / "data/lens_official/language_pull_data_alpaca_safe_200/train.json").read_text("utf-8")
    )["Instances"]
    count = 40
    prompts = [
        {language: _ids(tokenizer, rows[i][f"input_{language}"]) for language in languages}
        for i in golden["train.order"][:count]
    ]
    losses = plain_train(
        model,
        copy.deepcopy(model),
        model.model.layers,
        prompts,
        torch.tensor(golden["shared"][-1], dtype=torch.float32),
        torch.tensor(golden["specific"][-1], dtype=torch.float32),
        {k: torch.tensor(golden[f"direction.{k}"][-1], dtype=torch.float32) for k in languages[1:]},
        PlainSettings(total_steps=25),
    )
    expected = golden["train.loss_per_example"][:count]
    assert np.abs(np.diff(expected)).max() > 1e-3, "control: the losses differ from example to example"
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


def _ids(tokenizer: object, prompt: str) -> torch.Tensor:
    text = tokenizer.apply_chat_template(  # type: ignore[attr-defined]
        [{"role": "system", "content": ""}, {"role": "user", "content": prompt}],
        tokenize=False,
        add_generation_prompt=True,
    )
    ids = tokenizer(text, add_special_tokens=False)["input_ids"][:128]  # type: ignore[operator]
    return torch.tensor([ids])


def test_off_target_lines_are_in_all_languages_alike() -> None:
    texts = {code: [f"{code} {i}" for i in range(3)] for code in DEFAULT_LANGUAGES}
    lines = lines_in_turn(texts, 480)
    counts = {code: sum(language == code for _, language in lines) for code in DEFAULT_LANGUAGES}
    assert set(counts.values()) == {480 // len(DEFAULT_LANGUAGES)}
    assert all(text.startswith(language) for text, language in lines)


def test_the_memory_of_a_run_is_the_most_it_held(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(large_model, "write_table", lambda *table: shown.append(table))
    parts = dict(zip(large_model.PARTS, (1e9, 4e9, 5e9, 6e9, 9e9, 9e9), strict=True))
    records = [{"phase": name, "seconds": 1.0, "peak_bytes": peak} for name, peak in parts.items()]
    restarted = {"phase": "probe", "seconds": 1.0, "peak_bytes": 2e9}
    large_model.report_memory([*records, restarted, {"phase": "whole", "seconds": 9.0}], 3, "bfloat16", 2)
    _, _, rows, notes = shown[0]
    held = {row["until the end of"]: row["peak resident memory"] for row in rows}
    assert held["probe"] == "5.00 GB", "a second start does not hide the first one's peak"
    assert held["training"] == "9.00 GB"
    assert any("in bfloat16 on 2 threads, but 3 of its 32 layers" in note for note in notes)


def test_bfloat16_changes_less_than_another_order_of_the_items(tmp_path: Path) -> None:
    model = precision.store("builtin", tmp_path / "model")
    data, settings = resolve_data("builtin:train"), {"learning_rate": precision.RATE}
    job = Job("lens", model, data, precision.BUILTIN_LANGUAGES, tmp_path, device="cpu", settings=settings)
    first, low = precision.run(job, "float32"), precision.run(job, "bfloat16")
    other = precision.run(dataclasses.replace(job, seed=1), "float32")
    rows = precision.rows("built in", {"float32": first, "bfloat16": low, "other": other})
    apart = {row["run"]: float(row["change apart"].rstrip("°")) for row in rows}
    assert 0 < 3 * apart["bfloat16"] < apart["other"]
    assert all(row["trained"] < row["loss: untrained"] / 2 for row in rows), "control: it was trained"
