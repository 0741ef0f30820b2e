"""A data folder with a few made-up items of every family, and a model that knows the references."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
from benchmark_items import native, write_benchmarks
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

from lens_eval.tasks.families import HUB, LANGUAGES, MMMLU_FILES
from lens_eval.tasks.words import WORDS

TASKS = Path(__file__).resolve().parents[1] / "tasks"
N = 3  # items of every split


def _parquet(folder: Path, config: str, split: str, rows: list[dict[str, Any]]) -> None:
    path = folder / config / f"{split}-00000-of-00001.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def _table(path: Path, rows: list[dict[str, Any]], delimiter: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def write_hub_copies(root: Path, sizes: Mapping[str, int] | None = None) -> None:
    """Write what a plain download of each hub repository holds; `N` items a split, or `sizes` by family."""
    size = dict.fromkeys(LANGUAGES, N) | dict(sizes or {})
    repos = {name: root / hub.repo for name, hub in HUB.items()}
    for code in LANGUAGES["xnli"]:
        for split, first in (("test", 0), ("validation", 100)):
            rows = [
                {
                    "premise": native(code, first + i),
                    "hypothesis": native(code, first + 50 + i),
                    "label": i % 3,
                }
                for i in range(size["xnli"])
            ]
            _parquet(repos["xnli"], code, split, rows)
    for code in LANGUAGES["mgsm"]:
        words = WORDS[code]
        test = [
            {
                "question": native(code, i),
                "answer": None,
                "answer_number": 11 * i - 5,
                "equation_solution": None,
            }
            for i in range(size["mgsm"])
        ]
        train = [
            {
                "question": f"{words['question']} {native(code, 100 + i)}",
                "answer": f"{words['steps']} 1 + {i} = {i + 1}. {words['final'].format(number=i + 1)}",
                "answer_number": i + 1,
                "equation_solution": f"1 + {i} = {i + 1}.",
            }
            for i in range(8)
        ]
        _parquet(repos["mgsm"], code, "test", test)
        _parquet(repos["mgsm"], code, "train", train)
    for code in LANGUAGES["xcopa"]:
        for split, first in (("test", 0), ("validation", 100)):
            rows = [
                {
                    "premise": native(code, first + i),
                    "choice1": native(code, first + 10 + i),
                    "choice2": native(code, first + 20 + i),
                    "question": ("cause", "effect")[i % 2],
                    "label": i % 2,
                    "idx": i,
                    "changed": False,
                }
                for i in range(size["xcopa"])
            ]
            if code == "en":  # the hub's English test split has no labels
                unlabelled = [{**row, "label": -1} for row in rows] if split == "test" else rows
                _parquet(repos["copa"], "copa", split, unlabelled)
            else:
                _parquet(repos["xcopa"], code, split, rows)
    for code in LANGUAGES["xwinograd"]:
        rows = [
            {
                "sentence": f"{native(code, i)} _ ",
                "option1": native(code, 10 + i),
                "option2": native(code, 20 + i),
                "answer": str(i % 2 + 1),
            }
            for i in range(size["xwinograd"])
        ]
        _parquet(repos["xwinograd"], {"ja": "jp"}.get(code, code), "test", rows)
    for code in LANGUAGES["xstorycloze"]:
        rows = [
            {
                "story_id": str(i),
                **{f"input_sentence_{k}": native(code, 10 * k + i) for k in range(1, 5)},
                "sentence_quiz1": native(code, 60 + i),
                "sentence_quiz2": native(code, 70 + i),
                "answer_right_ending": i % 2 + 1,
            }
            for i in range(size["xstorycloze"])
        ]
        for split in ("eval", "train"):
            _table(repos["xstorycloze"] / f"spring2016.val.{code}.tsv.split_20_80_{split}.tsv", rows, "\t")
    for code in LANGUAGES["mmlu"]:
        options = {letter: native(code, 10 + k) for k, letter in enumerate("ABCD")}
        if code in MMMLU_FILES:
            rows = [
                {"": i, "Question": native(code, i), **options, "Answer": "ABCD"[i % 4], "Subject": "anatomy"}
                for i in range(size["mmlu"])
            ]
            _table(repos["mmmlu"] / "test" / f"mmlu_{MMMLU_FILES[code]}.csv", rows, ",")
        else:
            rows = [
                {
                    "instruction": native(code, i),
                    **{f"option_{letter.lower()}": text for letter, text in options.items()},
                    "answer": "ABCD"[i % 4],
                    "id": f"anatomy/test/{i}",
                }
                for i in range(size["mmlu"])
            ]
            for split in ("test", "train"):
                _parquet(repos["m_mmlu"], code, split, rows if split == "test" else rows[:285])
    rows = [
        {
            "question": native("ko", i),
            **{x: native("ko", 10 + k) for k, x in enumerate("ABCD")},
            "answer": i % 4 + 1,
        }
        for i in range(size["kmmlu"])
    ]
    for subject in ("Law", "Math"):
        for split in ("test", "dev"):
            folder = repos["kmmlu"] / subject / split
            folder.mkdir(parents=True)
            own = rows if split == "test" else rows[:5]
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(own), folder / "0000.parquet")
    for code in LANGUAGES["mtbench"]:
        turns = [native(code, 1), native(code, 2)]
        if code == "ar":
            path = root / "vicuna80" / "questions_ar.jsonl"
            lines = [
                {"question_id": i, "text": turns[0], "category": "generic"} for i in range(size["mtbench"])
            ]
        else:
            path = root / "mt_bench" / code / "question.jsonl"
            lines = [
                {"question_id": 81 + i, "turns": turns, "category": "writing"} for i in range(size["mtbench"])
            ]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    write_benchmarks(root, size)


def load_tasks(*names: str) -> dict[str, Any]:
    """Load tasks or groups of the checkout as lm_eval does; return the tasks by name."""
    return TaskManager(include_path=str(TASKS), include_defaults=False).load(list(names))


class Oracle(LM):
    """A model that writes what `respond` says of a document, and prefers the option the document calls right.

    The right option is found in the prompt by its text: a prompt that letters its options wrongly is answered
    wrongly.
    """

    def __init__(self, respond: Callable[[dict[str, Any]], str]) -> None:
        super().__init__()
        self.respond = respond
        self.prompts: list[str] = []

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        self.prompts += [request.arguments[0] for request in requests]
        return [self.respond(request.doc) for request in requests]

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        answers = []
        for request in requests:
            prompt, continuation = request.arguments
            right = re.escape(right_option(request.doc))
            letters = re.findall(rf"^(\S)\. {right}$", prompt, re.MULTILINE)
            good = bool(letters) and continuation.strip() == letters[-1]
            answers.append((0.0 if good else -10.0, good))
        return answers

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        raise NotImplementedError

    @property
    def tokenizer_name(self) -> str:
        return "oracle"

    def apply_chat_template(self, history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        turns = "".join(f"<|{turn['role']}|>\n{turn['content']}<|end|>\n" for turn in history)
        return turns + ("<|assistant|>\n" if add_generation_prompt else "")


def right_option(doc: dict[str, Any]) -> str:
    """Return the text of the right option of a document, as the prompt must show it."""
    if "choices" in doc:
        return doc["choices"][doc["answer"]]
    return WORDS[doc["language"]][("entailment", "neutral", "contradiction")[doc["answer"]]]
