"""Where a split of each benchmark of today can lie: LCB, PolyMath, Global-MMLU, INCLUDE, Belebele, MMLU-ProX.

Their columns are those that the data sets document. A record without one of them, or with a value that the
column cannot have, is an error that names the column.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from lens_eval.language.languages import get_language
from lens_eval.tasks.families import INCLUDE_NAMES, LCB_FAMILIES, POLYMATH_FAMILIES
from lens_eval.tasks.finding import Place, Row
from lens_eval.tasks.places import PLACES, each, parquet, question

_LETTERS = "ABCDEFGHIJ"
# What marks an option that a question does not have.
_NO_OPTION = (None, "", "N/A")


def _position(record: dict[str, Any], column: str, values: Sequence[str]) -> int:
    """Return the place of a column's value among those it can have; raises `ValueError` for another one."""
    value = str(record[column]).strip()
    if value not in values:
        raise ValueError(f"column {column!r} holds {value!r}; it can hold {', '.join(values)}")
    return list(values).index(value)


def _lcb(family: str, language: str, split: str) -> list[Place]:
    """Prompts as they are; those in English that ask for an answer in another language say how they ask."""
    if split != "test":
        return []
    _, setting, source = family.split("_", 2)

    def row(record: dict[str, Any]) -> Row:
        kept = ("source",) if setting == "monolingual" else ("source", "location", "phrasing")
        if _lcb_language(record) != language:
            raise ValueError(f"column 'language' holds {record['language']!r} in a file of {language}")
        return {"question": record["prompt"], **{name: record[name] for name in kept}}

    return [Place("lcb", (f"test_sets/{setting}/{source}/{language}.csv",), each(row))]


def _lcb_language(record: dict[str, Any]) -> str:
    return get_language(record["language"]).code


def _polymath(family: str, language: str, split: str) -> list[Place]:
    """125 problems of a level; the answer is a number or LaTeX."""
    if split != "test":
        return []
    level = family.removeprefix("polymath_")

    def row(record: dict[str, Any]) -> Row:
        return {
            "name": record["id"],
            "question": record["question"].strip(),
            "reference": str(record["answer"]).strip(),
        }

    patterns = (
        f"{language}/{level}.parquet",
        f"{language}/{level}/*.parquet",
        f"{language}/{level}-*.parquet",
    )
    return [
        Place(family, (f"{language}.jsonl",), each(row)),
        Place("polymath", patterns, each(row), hub=True),
    ]


def _global_mgsm(language: str, split: str) -> list[Place]:
    """MGSM in more languages; it has no exemplars."""

    def row(record: dict[str, Any]) -> Row:
        number = str(record["answer"]).strip().replace(",", "")
        if not number.lstrip("-").isdigit():
            raise ValueError(f"column 'answer' holds {number!r}; it can hold whole numbers")
        return {"question": record["question"].strip(), "answer_number": int(number)}

    places = [Place("global_mgsm", parquet(language, "test"), each(row), hub=True)]
    return places if split == "test" else []


def _lettered(record: dict[str, Any]) -> tuple[list[str], str]:
    return [record[f"option_{letter}"] for letter in "abcd"], record["question"]


def _global_mmlu(family: str, language: str, split: str) -> list[Place]:
    """Questions with a label that says whether culture matters (CS), does not (CA), or nothing (-)."""

    def row(record: dict[str, Any]) -> Row:
        options, asked = _lettered(record)
        return {
            "item": record["sample_id"],
            **question(record["subject"], asked, options, _position(record, "answer", "ABCD")),
            "culture": ("CS", "CA", "-")[_position(record, "cultural_sensitivity_label", ("CS", "CA", "-"))],
        }

    name = "test" if split == "test" else "dev"
    config = "fil" if language == "tl" else language
    return [Place(family, parquet(config, name), each(row), hub=True)]


def _include(language: str, split: str) -> list[Place]:
    """Questions of exams of the region; the right option by its position."""

    def row(record: dict[str, Any]) -> Row:
        options, asked = _lettered(record)
        return question(record["subject"], asked, options, _position(record, "answer", "0123"))

    name = "test" if split == "test" else "validation"
    config = INCLUDE_NAMES.get(language) or get_language(language).name
    return [Place("include", parquet(config, name), each(row), hub=True)]


def _belebele(variant: str, split: str) -> list[Place]:
    """900 questions on passages; no other split."""

    def row(record: dict[str, Any]) -> Row:
        options = [record[f"mc_answer{number}"].strip() for number in range(1, 5)]
        return {
            "item": f"{record['link']}#{record['question_number']}",
            "passage": record["flores_passage"].strip(),
            "question": record["question"].strip(),
            "choices": options,
            "answer": _position(record, "correct_answer_num", "1234"),
        }

    patterns = (f"data/{variant}.jsonl", f"{variant}/test/*.parquet")
    return [Place("belebele", patterns, each(row), hub=True)] if split == "test" else []


def _mmlu_prox(family: str, language: str, split: str) -> list[Place]:
    """Questions with up to ten options; the validation split has worked examples."""

    def row(record: dict[str, Any]) -> Row:
        given = [record[f"option_{number}"] for number in range(10)]
        options = [option for option in given if option not in _NO_OPTION]
        answer = _position(record, "answer", _LETTERS[: len(options)])
        return {
            "item": str(record["question_id"]),
            **question(record["category"], record["question"], options, answer),
        }

    places = [Place(family, parquet(language, "test"), each(row), hub=True)]
    return places if split == "test" else []


ALL_PLACES: dict[str, Callable[[str, str], list[Place]]] = {
    **PLACES,
    "global_mgsm": _global_mgsm,
    **{family: partial(_lcb, family) for family in LCB_FAMILIES},
    **{family: partial(_polymath, family) for family in POLYMATH_FAMILIES},
    **{family: partial(_global_mmlu, family) for family in ("global_mmlu", "global_mmlu_lite")},
    "include": _include,
    "belebele": _belebele,
    **{family: partial(_mmlu_prox, family) for family in ("mmlu_prox", "mmlu_prox_lite")},
}
"""The places of every family, by language (of Belebele: by variant) and split."""
