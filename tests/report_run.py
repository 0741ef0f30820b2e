"""A run's folder made without a model, and what a test reads off its page."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from lm_eval_files import write_results

CODES = ("zh", "ar", "sw", "en")
ANSWERS = {
    "zh": "嗯。一年当中，三月之后的那个月是四月。",
    "sw": "Mwezi ni Aprili.",
    "ar": "GPT: حسنًا. الشهر هو شهر أبريل.",
    "en": "April.",
}
ENGLISH = "OK. The month is April."


def columns(items: int, off: Sequence[int], wrong: Sequence[int] = ()) -> dict[str, list[float]]:
    """Verdicts of one task: items `off` are answered in the central language, items `wrong` are wrong."""
    central = [float(i in off) for i in range(items)]
    right = [float(i not in wrong) for i in range(items)]
    return {
        "acc": right,
        "correct_on_target": [r * (1 - c) for r, c in zip(right, central, strict=True)],
        "off_target": central,
        "on_target": [1 - c for c in central],
        "central": central,
        "other": [0.0] * items,
        "undetermined": [0.0] * items,
        "empty": [0.0] * items,
    }


def make_run(
    folder: Path,
    *,
    items: int = 12,
    codes: Sequence[str] = CODES,
    variants: Sequence[str] = ("backbone", "lens"),
    answers: Mapping[str, str] = ANSWERS,
    words: str = "a test",
    holes: Sequence[tuple[str, str, str]] = (),
    simulated: bool = True,
    family: str = "lens_x",
) -> Path:
    """Write results, `run.json` and training logs; the reference answers every other item in English."""
    cells = []
    for number, variant in enumerate(variants):
        for code in codes:
            task, place = f"{family}_{code}", f"{number}/{family}_{code}"
            if any((variant, task) == hole[:2] for hole in holes):
                continue
            off = range(0, items, 2) if number == 0 and code != "en" else ()
            texts = [ENGLISH if i in off else answers.get(code, f"{code} answer") for i in range(items)]
            table = {task: columns(items, off, wrong=(1,) if number else ())}
            write_results(folder / place, table, model=variant, answers={task: texts})
            cells.append({"variant": variant, "task": task, "state": "finished", "folder": place})
    cells += [{"variant": v, "task": t, "state": "failed", "reason": r, "folder": "-"} for v, t, r in holes]
    for cell in cells:
        cell |= {"items": items, "seconds": 1.25}
    names = list(dict.fromkeys(cell["variant"] for cell in cells))
    run = {
        "name": f"run of {words}",
        "simulated": simulated,
        "reference": variants[0],
        "variants": names,
        "command": f"lens reproduce {words}",
        "recipe": {
            "description": words,
            "backbone": "org/model",
            "languages": list(codes),
            "central": "en",
            "limit": None,
        },
        "environment": {
            "commit": "0123456789ab+",
            "machine": f"a machine, {words}",
            "versions": {"torch": "2"},
        },
        "costs": {
            name: {
                "evaluation_seconds": 3.5,
                "train_seconds": 61.25,
                "train_tokens": 12345,
                "train_peak_memory_bytes": 2_000_000_000,
                "settings": {"learning_rate": 0.001, "note": words},
            }
            for name in variants[1:]
        },
        "cells": cells,
    }
    (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    return folder


def make_training(folder: Path, steps: int = 30) -> Path:
    """A model folder's log and diagnostics, as training leaves them."""
    training = folder / "training"
    training.mkdir(parents=True)
    with (training / "log.jsonl").open("w", encoding="utf-8") as log:
        for step in range(1, steps + 1):
            record = {
                "step": step,
                "learning_rate": 0.1 / step,
                "loss": 5 / step,
                "align.zh": step,
                "align.ar": 1,
            }
            log.write(json.dumps({**record, "items": [1, 2], "item_losses": [1.0], "seconds": 0.1}) + "\n")
    (training / "diagnostics.json").write_text(json.dumps(diagnostics()), encoding="utf-8")
    return folder


def diagnostics(layers: int = 4, items: int = 70) -> dict[str, Any]:
    """What `lens_train.watch.diagnostics` writes, with numbers that are easy to find again."""

    def moment(shift: float) -> dict[str, Any]:
        shares = [round(0.1 * layer + shift, 4) for layer in range(layers)]
        names = "separability language_variance specific_share agnostic_share means_explained"
        found: dict[str, Any] = dict.fromkeys(names.split(), shares)
        for name in ("norm", "spread", "effective_rank", "retrieval", "retrieval_centred"):
            found[name] = {code: [value + at for value in shares] for at, code in enumerate(CODES[:-1])}
        return found

    def states(turn: float) -> dict[str, list[list[float]]]:
        return {
            code: [[at + math.cos(i + turn), math.sin(i * 2 + turn)] for i in range(items)]
            for at, code in enumerate(CODES)
        }

    return {
        "format": 1,
        "held_out": {"source": "dev", "text": "of the dev data", "items": items, "sha256": "0"},
        "languages": list(CODES),
        "central": "en",
        "layers": list(range(layers)),
        "trained_layers": [layers - 2, layers - 1],
        "loss_layers": [layers - 1],
        "before": moment(0.3),
        "after": moment(0.4),
        "angles": {
            "specific": [0.0, 5.0, None, *[0.0] * layers][:layers],
            "agnostic": [0.0] * layers,
            "probe": [1.0] * layers,
        },
        "chance": {"separability": 0.33, "retrieval": 0.01},
        "projection": {
            "layer": layers - 1,
            "explained": [0.5, None],
            "before": states(0),
            "after": states(1),
        },
        "warnings": ["collapse: a warning <b>"],
        "seconds": 1.5,
    }


class Page(HTMLParser):
    """Tags, attributes, tables and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.tables: list[tuple[str, list[list[str]]]] = []
        """The heading before each table, and its rows of cells."""
        self.text = ""
        self._heading = ""
        self._inside: str | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag in ("h2", "h3", "h4"):
            self._heading, self._inside = "", "heading"
        if tag == "table":
            self.tables.append((self._heading.strip(), []))
        if tag == "tr":
            self.tables[-1][1].append([])
        if tag in ("td", "th"):
            self.tables[-1][1][-1].append("")
            self._inside = "cell"

    def handle_endtag(self, tag: str) -> None:
        if tag in ("h2", "h3", "h4", "td", "th"):
            self._inside = None

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._inside == "heading":
            self._heading += data
        if self._inside == "cell":
            self.tables[-1][1][-1][-1] += data
