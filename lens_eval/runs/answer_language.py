"""The language of replies to lm_eval's own tasks: they measure none themselves."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, MutableMapping
from typing import Any

MARK = "language_of_replies"
"""In a task's entry of the results: the language that its replies were held against."""
_OTHERWISE = re.compile(
    r"_en_|_to_|_cot_en|_code|trans|code2|wmt|flores|masakhaner|masakhapos|lsat_ar", re.IGNORECASE
)
"""Parts of names of tasks that are answered in English, code or labels, or whose ending is no language."""


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
    parts = name.split("_")
    own = next(
        (code for code in (*parts[1:][-1:], str(task.config.dataset_name or "")) if code in LANGUAGES), ""
    )
    # A question in one language about a text in another (`mlqa_zh_ar`) is answered in either.
    return "" if len(parts) > 2 and parts[-2] in LANGUAGES and parts[-2] != own else own


def _can_be_told(language: str) -> bool:
    """Whether the detector knows a language, or its script tells it."""
    from lens_eval.base.errors import UserError
    from lens_eval.tasks.scoring import verdict_of

    try:
        verdict_of({"language": language}, "")
    except UserError:
        return False
    return True


def measure(results: MutableMapping[str, Any], task: Any) -> None:
    """Add the language verdict to every sample of a task that has none, and the means to its results.

    `results` are lm_eval's, with the samples. A task whose language is not known, or cannot be told
    from others, is left as it is.
    """
    name = str(task.task_name)
    samples = results["samples"][name]
    language = language_of(task)
    judged = any("off_target" in sample["metrics"] for sample in samples)
    if not language or not samples or judged or not _can_be_told(language):
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
