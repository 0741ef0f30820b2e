"""Results folders as lm_eval writes them, made without a model."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def write_results(
    folder: Path,
    tasks: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    model: str = "org/model",
    stamp: str = "2026-01-01T00-00-00.000000",
    version: str = "1",
    shots: int = 0,
    template: str = "plain",
    prompt: str = "{question}",
    first_item: int = 0,
    metadata: bool = True,
    compressed: bool = False,
    answers: Mapping[str, Sequence[str]] | None = None,
) -> Path:
    """Write `results_<stamp>.json` and one samples file per task.

    `tasks` maps a task name (ending on its language) to {metric: one value per item}.
    """
    folder.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {
        "results": {},
        "configs": {},
        "versions": {},
        "n-shot": {},
        "n-samples": {},
        "model_name": model,
        "chat_template_sha": template,
    }
    for task, columns in tasks.items():
        language = task.rpartition("_")[2]
        count = len(next(iter(columns.values())))
        results["results"][task] = {f"{m},none": sum(v) / len(v) for m, v in columns.items()}
        results["configs"][task] = {"task": task, "generation_kwargs": {"until": ["\n"]}}
        if metadata:
            results["configs"][task]["metadata"] = {"version": 1, "language": language, "central": "en"}
        results["versions"][task] = version
        results["n-shot"][task] = shots
        results["n-samples"][task] = {"original": count, "effective": count}
        lines = []
        for i in range(count):
            question = f"{language} question {i + first_item}"
            text = (answers or {}).get(task, ["an answer"] * count)[i]
            sample = {
                "doc_id": i,
                "doc": {"id": f"q{i + first_item}", "prompt": question, "language": language},
                "target": "t",
                "arguments": {"gen_args_0": {"arg_0": prompt.format(question=question), "arg_1": {}}},
                "resps": [[text]],
                "filtered_resps": [text],
                "filter": "none",
                "metrics": list(columns),
                "doc_hash": _hash(question),
                "prompt_hash": _hash(template + prompt.format(question=question)),
                "target_hash": _hash("t"),
                **{metric: values[i] for metric, values in columns.items()},
            }
            lines.append(json.dumps(sample, ensure_ascii=False) + "\n")
        body = "".join(lines).encode()
        name = f"samples_{task}_{stamp}.jsonl"
        if compressed:
            (folder / (name + ".gz")).write_bytes(gzip.compress(body, mtime=0))
        else:
            (folder / name).write_bytes(body)
    file = folder / f"results_{stamp}.json"
    file.write_text(json.dumps(results), encoding="utf-8")
    return file


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
