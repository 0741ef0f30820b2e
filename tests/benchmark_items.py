"""Rows made up in the documented schemas of the benchmarks of today, and a plain copy of each repository."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from lens_eval.language.languages import get_language
from lens_eval.tasks.families import (
    BELEBELE_VARIANTS,
    HUB,
    INCLUDE_NAMES,
    LANGUAGES,
    LCB_FAMILIES,
    POLYMATH_WEIGHTS,
)


def native(language: str, number: int) -> str:
    """Return a sentence in the language that is no prompt word of it."""
    return f"{get_language(language).native_name} {number}"


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def _split(folder: Path, config: str, split: str, rows: list[dict[str, Any]]) -> None:
    write_parquet(folder / config / f"{split}-00000-of-00001.parquet", rows)


def _options(code: str, first: int) -> dict[str, str]:
    return {f"option_{letter}": native(code, first + k) for k, letter in enumerate("abcd")}


def global_mmlu_row(code: str, i: int) -> dict[str, Any]:
    return {
        "sample_id": f"anatomy/test/{i}",
        "subject": "anatomy",
        "subject_category": "STEM",
        "question": native(code, i),
        **_options(code, 10 * i + 10),
        "answer": "ABCD"[i % 4],
        "cultural_sensitivity_label": ("CS", "CA", "-")[i % 3],
    }


def include_row(code: str, i: int) -> dict[str, Any]:
    return {
        "language": get_language(code).name,
        "country": "a country",
        "domain": "STEM",
        "subject": "Biology",
        "regional_feature": "agnostic",
        "level": "academic",
        "question": native(code, i),
        **_options(code, 10 * i + 10),
        "answer": i % 4,
    }


def belebele_row(code: str, i: int) -> dict[str, Any]:
    return {
        "link": "https://example.org/passage",
        "question_number": i,
        "flores_passage": native(code, 900 + i),
        "question": native(code, i),
        **{f"mc_answer{k}": native(code, 10 * i + 10 + k) for k in range(1, 5)},
        "correct_answer_num": str(i % 4 + 1),
        "dialect": code,
        "ds": "2023-05-03",
    }


def mmlu_prox_row(code: str, i: int) -> dict[str, Any]:
    """The second item has four options, the others ten."""
    count = 4 if i == 1 else 10
    return {
        "question_id": 70 + i,
        "question": native(code, i),
        **{f"option_{k}": native(code, 20 * i + 20 + k) if k < count else None for k in range(10)},
        "answer": "ABCDEFGHIJ"[(3 * i) % count],
        "answer_index": (3 * i) % count,
        "cot_content": "",
        "category": "biology",
        "src": "ori_mmlu-biology",
        "question_id_src": 70 + i,
    }


def write_benchmarks(root: Path, size: Mapping[str, int]) -> None:
    """Write every benchmark; `size` items a split, by family."""
    repos = {name: root / hub.repo for name, hub in HUB.items()}
    for code in LANGUAGES["global_mgsm"]:
        rows = [
            {
                "question": native(code, i),
                "answer": str(11 * i - 5),
                "instruction": "unused",
                "answer_prefix": "unused",
            }
            for i in range(size["global_mgsm"])
        ]
        _split(repos["global_mgsm"], code, "test", rows)
    for level in POLYMATH_WEIGHTS:
        for code in LANGUAGES[f"polymath_{level}"]:
            rows = [
                {"id": f"{level}-{code}-{i}", "question": native(code, i), "answer": str(7 * i + 3)}
                for i in range(size[f"polymath_{level}"])
            ]
            write_parquet(repos["polymath"] / code / f"{level}.parquet", rows)
    for family in ("global_mmlu", "global_mmlu_lite"):
        for code in LANGUAGES[family]:
            config = {"tl": "fil"}.get(code, code)
            rows = [global_mmlu_row(code, i) for i in range(size[family])]
            _split(repos[family], config, "test", rows)
            _split(repos[family], config, "dev", rows[:5])
    for code in LANGUAGES["include"]:
        config = INCLUDE_NAMES.get(code, get_language(code).name)
        rows = [include_row(code, i) for i in range(size["include"])]
        _split(repos["include"], config, "test", rows)
        _split(repos["include"], config, "validation", rows[:5])
    for code, variants in BELEBELE_VARIANTS.items():
        for variant in variants:
            path = repos["belebele"] / "data" / f"{variant}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = [json.dumps(belebele_row(code, i)) + "\n" for i in range(size["belebele"])]
            path.write_text("".join(lines), encoding="utf-8")
    for family in ("mmlu_prox", "mmlu_prox_lite"):
        for code in LANGUAGES[family]:
            rows = [mmlu_prox_row(code, i) for i in range(size[family])]
            _split(repos[family], code, "test", rows)
    for family in LCB_FAMILIES:
        _, setting, source = family.split("_", 2)
        for code in LANGUAGES[family]:
            extra = {"location": "Start", "phrasing": "x"} if setting == "crosslingual" else {}
            asked = "en" if setting == "crosslingual" else code
            rows = [
                {"prompt": native(asked, i), **extra, "language": code, "source": source}
                for i in range(size[family])
            ]
            path = root / "lcb" / "test_sets" / setting / source / f"{code}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, fieldnames=list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
