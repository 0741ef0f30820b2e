"""What the `lens_mini` tasks call: items as lm_eval documents, and the score of a reply."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from lens_eval.language.reasoning import without_reasoning
from lens_eval.mini import items_path, wordings, world


def documents(split: str, language: str, central: str = wordings.CENTRAL) -> list[dict[str, Any]]:
    """The items of `split` as asked in one language."""
    rows = [json.loads(line) for line in items_path(split).read_text(encoding="utf-8").splitlines()]
    return [
        {
            "id": row["id"],
            "kind": row["kind"],
            "language": language,
            "central": central,
            "prompt": row["prompt"][language],
            "response": row["response"][language],
            "value": row["value"][language],
            "central_value": row["value"][central],
            "choices": row["choices"][language],
            "answer": row["answer"],
        }
        for row in rows
    ]


def load(language: str, split: str = "test", central: str = wordings.CENTRAL, **_: object) -> dict[str, Any]:
    """`custom_dataset` of the tasks: {split: documents}. lm_eval adds keywords that are not for us."""
    from datasets import Dataset

    return {split: Dataset.from_list(documents(split, language, central))}


def is_right(doc: dict[str, Any], response: str) -> bool:
    """Whether the last value in the reply is the right one, named in the asked or the central language."""
    response = without_reasoning(response)
    return any(
        world.last_value(response, world.values(doc["kind"], language)) == value
        for language, value in ((doc["language"], doc["value"]), (doc["central"], doc["central_value"]))
    )


def qa(doc: dict[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Score one reply: `acc` (understood: right in either language), the verdict, and both together."""
    from lens_eval.tasks.scoring import judge_language

    response = results[0]
    right = is_right(doc, response)
    verdict = judge_language(doc, response)
    return {"acc": float(right), "correct_on_target": float(right) * verdict["on_target"], **verdict}
