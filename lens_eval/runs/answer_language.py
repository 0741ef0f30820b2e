"""The language of replies to lm_eval's own tasks: they measure none themselves."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, MutableMapping
from typing import Any

MARK = "language_of_replies"
"""In a task's entry of the results: the language that its replies were held against."""
_OTHERWISE = re.compile(r"_en_|_to_|_cot_en|_code|trans|code2|wmt|flores", re.IGNORECASE)
"""Parts of names of tasks whose answers are not in the language that the name ends on."""


def language_of(task: Any) -> str:
    """The language that a generating task of lm_eval's is to be answered in; empty where nothing says it.

    Its metadata says it, its name ends on its code (`mgsm_direct_sw`), or its subset is called by it.
    """
    from lens_eval.language.languages import LANGUAGES

    if task.OUTPUT_TYPE != "generate_until":
        return ""
    metadata = task.config.metadata
    said = metadata.get("language") if isinstance(metadata, Mapping) else None
    if said in LANGUAGES:
        return str(said)
    name = str(task.task_name)
    if _OTHERWISE.search(name):
        return ""
    ends = (name.rpartition("_")[2] if "_" in name else "", str(task.config.dataset_name or ""))
    return next((code for code in ends if code in LANGUAGES), "")


def measure(results: MutableMapping[str, Any], task: Any) -> None:
    """Add the language verdict to every sample of a task that has none, and the means to its results.

    `results` are lm_eval's, with the samples. A task whose language is not known is left as it is.
    """
    name = str(task.task_name)
    samples = results["samples"][name]
    language = language_of(task)
    if not language or not samples or any("off_target" in sample["metrics"] for sample in samples):
        return
    by_item: dict[int, dict[str, Any]] = {}
    for sample in samples:
        if sample["doc_id"] not in by_item:
            by_item[sample["doc_id"]] = _verdict(sample, language)
        found = by_item[sample["doc_id"]]
        sample.update(found)
        sample["metrics"] = [*sample["metrics"], *found]
    entry = results["results"][name]
    entry[MARK] = language
    for metric in next(iter(by_item.values())):
        values = [found[metric] for found in by_item.values()]
        if all(isinstance(value, float) for value in values):
            mean = sum(values) / len(values)
            entry[f"{metric},none"] = mean
            entry[f"{metric}_stderr,none"] = (
                math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values))
                if len(values) > 1
                else "N/A"
            )


def _verdict(sample: Mapping[str, Any], language: str) -> dict[str, Any]:
    from lens_eval.language.reasoning import continued
    from lens_eval.tasks.scoring import judge_language

    prompt = str(sample["arguments"][0][0])
    reply = sample["resps"][0]
    while isinstance(reply, list) and reply:
        reply = reply[0]
    return judge_language({"language": language, "prompt": prompt}, continued(str(reply), prompt))
