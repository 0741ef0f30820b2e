"""Real prompts in the layouts that a user would write."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

LANGUAGES = ("en", "zh", "ja", "ko", "ar", "bn", "sw")
TRAINED = (*range(80), *range(100, 160))
"""Rows of the parallel prompts that are trained on."""
DEV = range(160, 180)
HELD_BACK = 20
"""Prompts per language that no training has seen."""


def write_lines(file: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write JSON lines and return the file."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    file.write_text(text, encoding="utf-8")
    return file


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Read JSON lines."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def parallel(shared: Path, file: Path, rows: Iterable[int]) -> Path:
    """Write rows of the release's parallel prompts, in all its languages."""
    source = shared / "data" / "lens_official" / "language_pull_data_alpaca_safe_200" / "train.json"
    instances = json.loads(source.read_text(encoding="utf-8"))["Instances"]
    return write_lines(
        file,
        ({code: instances[row][f"input_{code}"].strip() for code in LANGUAGES} for row in rows),
    )


def answered(shared: Path, file: Path, languages: Iterable[str], count: int) -> Path:
    """Write prompts with replies: validation items of XCOPA, answered by the right alternative."""
    rows: list[dict[str, dict[str, str]]] = [{"prompt": {}, "response": {}} for _ in range(count)]
    for code in languages:
        lines = read_lines(shared / "data" / "xcopa" / code / f"val.{code}.jsonl")
        items = sorted(lines, key=lambda item: int(item["idx"]))
        for row, item in zip(rows, items, strict=False):
            row["prompt"][code] = item["premise"]
            row["response"][code] = item["choice2" if item["label"] else "choice1"]
    return write_lines(file, rows)


def held_back(shared: Path, language: str) -> list[str]:
    """Open questions (Vicuna) in a language."""
    lines = read_lines(shared / "data" / "vicuna80" / f"questions_{language}.jsonl")
    return [line["text"] for line in lines[:HELD_BACK]]
