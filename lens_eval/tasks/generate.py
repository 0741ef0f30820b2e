"""Write every YAML file of `tasks/` (except `tasks/mini`): `python -m lens_eval.tasks.generate [FOLDER]`.

A family has one file of shared settings, one thin file per language, and a group. Edit the tables here, not
the files: a test compares them with what this module writes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lens_eval.base.metrics import metric_of
from lens_eval.tasks.benchmark_scoring import CULTURE_METRICS, LCB_METRICS, MATH_METRICS
from lens_eval.tasks.families import (
    BELEBELE_VARIANTS,
    LANGUAGES,
    LCB_FAMILIES,
    MMMLU_FILES,
    POLYMATH_FAMILIES,
    POLYMATH_WEIGHTS,
)
from lens_eval.tasks.scoring import NUMBER_METRICS, OPEN_METRICS
from lens_eval.tasks.words import NO_SPACE, word

HEADER = "# Written by lens_eval/tasks/generate.py: edit that file and run it again.\n"
# The paper's suite: its languages where the family has them.
PAPER_LANGUAGES = ("en", "zh", "ja", "ko", "ar", "bn", "sw")
MAX_GEN_TOKS = 1024
# Worked answers to harder questions are longer.
LONG_GEN_TOKS = 2048
# How each kind of answer is scored: the module and name of the hook, and the metrics it returns.
_SCORED: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "letter": ("scoring", "option_letter", ("acc",)),
    "culture": ("benchmark_scoring", "letter_by_culture", CULTURE_METRICS),
    "number": ("scoring", "number", (*NUMBER_METRICS, "cut_off")),
    "boxed": ("benchmark_scoring", "boxed", (*MATH_METRICS, "cut_off")),
    "worked": ("benchmark_scoring", "worked_letter", (*NUMBER_METRICS, "cut_off")),
    "open": ("scoring", "open_answer", (*OPEN_METRICS, "cut_off")),
    "confusion": ("benchmark_scoring", "confusion", (*LCB_METRICS, "cut_off")),
}
_LETTER_KINDS = ("letter", "culture")
_OPEN_KINDS = ("open", "confusion")


class _Function(str):
    """A reference written as `!function module.name`."""


def _represent_function(dumper: yaml.SafeDumper, function: _Function) -> yaml.ScalarNode:
    return dumper.represent_scalar("!function", str(function))


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(_Function, _represent_function)


@dataclass(frozen=True)
class Family:
    """What the files of one family need to know.

    `name` is the task prefix after `lens_` (`xcopa`, `xcopa_official`), `folder` the folder below `tasks/`,
    `items` the family in `lens_eval.tasks.items`, `prompt` a function of `lens_eval.tasks.prompts`, `kind`
    how it is answered.
    """

    name: str
    folder: str
    items: str
    prompt: str
    kind: str  # a key of _SCORED
    version: float
    task_class: str = "LensTask"
    letters: str = "option_letters"
    shots: int | None = None
    fewshot_split: str = "train"
    # The released protocol: English instruction, an empty system prompt, at most 1000 sampled items.
    official: bool = False

    @property
    def languages(self) -> tuple[str, ...]:
        known = LANGUAGES[self.items]
        if self.name == "mgsm":
            known = (*known, *LANGUAGES["global_mgsm"])
        if self.name == "mtbench_turn2":
            return tuple(language for language in known if language != "ar")  # Vicuna-80 has one turn
        return (
            tuple(language for language in known if language in PAPER_LANGUAGES) if self.official else known
        )

    def tasks(self) -> Iterator[tuple[str, str, str | None]]:
        """Yield the end of each task's name, its language, and the variant of it whose items are asked."""
        for language in self.languages:
            if self.items != "belebele":
                yield language, language, None
                continue
            for variant in BELEBELE_VARIANTS[language]:
                first = variant == BELEBELE_VARIANTS[language][0]
                yield language if first else variant.partition("_")[0], language, variant


def _official(name: str, fewshot_split: str = "train") -> Family:
    return Family(
        f"{name}_official",
        name,
        name,
        f"{'mmlu' if name == 'kmmlu' else name}_official",
        "letter",
        1.0,
        letters="official_letters",
        fewshot_split=fewshot_split,
        official=True,
    )


def _printed(name: str, folder: str, kind: str = "letter") -> Family:
    """Return a family whose options have the letters that its data set prints."""
    return Family(name, folder, name, "printed_choice", kind, 1.0, letters="printed_letters")


FAMILIES: tuple[Family, ...] = (
    Family("xnli", "xnli", "xnli", "xnli", "letter", 1.0),
    Family("mgsm", "mgsm", "mgsm", "mgsm", "number", 1.0),
    Family("mgsm_8shot", "mgsm", "mgsm", "mgsm_exemplar", "number", 1.0, shots=8),
    Family("xcopa", "xcopa", "xcopa", "xcopa", "letter", 1.0),
    _official("xcopa"),
    # XWinograd has one split: examples come from it too, never the item itself.
    Family("xwinograd", "xwinograd", "xwinograd", "xwinograd", "letter", 1.0, fewshot_split="test"),
    _official("xwinograd", fewshot_split="test"),
    Family("xstorycloze", "xstorycloze", "xstorycloze", "xstorycloze", "letter", 1.0),
    _official("xstorycloze"),
    Family("mmlu", "mmlu", "mmlu", "mmlu", "letter", 1.0),
    _official("mmlu"),
    Family("kmmlu", "kmmlu", "kmmlu", "mmlu", "letter", 1.0),
    _official("kmmlu"),
    Family("mtbench", "mtbench", "mtbench", "mtbench", "open", 1.0),
    Family("mtbench_turn2", "mtbench", "mtbench", "mtbench", "open", 1.0, task_class="SecondTurnTask"),
    *(Family(name, "lcb", name, "question", "confusion", 1.0) for name in LCB_FAMILIES),
    *(
        Family(name, "polymath", name, "polymath", "boxed", 1.0, task_class="MathTask")
        for name in POLYMATH_FAMILIES
    ),
    _printed("global_mmlu", "global_mmlu", kind="culture"),
    _printed("global_mmlu_lite", "global_mmlu", kind="culture"),
    _printed("include", "include"),
    _printed("belebele", "belebele"),
    Family("mmlu_prox", "mmlu_prox", "mmlu_prox", "worked_choice", "worked", 1.0),
    Family("mmlu_prox_lite", "mmlu_prox", "mmlu_prox_lite", "worked_choice", "worked", 1.0),
)


def _function(module: str, name: str) -> _Function:
    return _Function(f"lens_eval.tasks.{module}.{name}")


def _metrics(names: Iterable[str]) -> list[dict[str, Any]]:
    """Return a metric list; `answered_in` is the one that is no number."""
    metrics = []
    for name in names:
        aggregation: Any = _function("scoring", "most_common") if name == "answered_in" else "mean"
        higher = metric_of(name).better != "lower"
        metrics.append({"metric": name, "aggregation": aggregation, "higher_is_better": higher})
    return metrics


def shared_settings(family: Family) -> dict[str, Any]:
    """Return what all tasks of a family have in common."""
    module, hook, metrics = _SCORED[family.kind]
    settings: dict[str, Any] = {
        "class": _function("lens_task", family.task_class),
        "output_type": "multiple_choice" if family.kind in _LETTER_KINDS else "generate_until",
        "test_split": "test",
        "fewshot_split": None if family.kind in _OPEN_KINDS else family.fewshot_split,
        "doc_to_text": _function("prompts", family.prompt),
        "process_results": _function(module, hook),
        "metric_list": _metrics(metrics),
    }
    if family.kind in _LETTER_KINDS:
        settings |= {"doc_to_choice": _function("prompts", family.letters), "doc_to_target": "answer"}
    if family.kind == "number":
        settings["doc_to_target"] = _function("prompts", "mgsm_target")
        settings["fewshot_config"] = {"sampler": "first_n"}
    if family.kind == "boxed":
        settings["doc_to_target"] = "reference"
    if family.kind == "worked":
        settings["doc_to_target"] = _function("prompts", "worked_choice_target")
    if family.kind in _OPEN_KINDS:
        settings |= {"doc_to_target": "", "num_fewshot": 0}
    if family.shots is not None:
        settings["num_fewshot"] = family.shots
    return {key: value for key, value in settings.items() if value is not None}


def task_settings(family: Family, name: str, language: str, variant: str | None) -> dict[str, Any]:
    """Return the file of one task; `name` is the end of its name."""
    settings: dict[str, Any] = {"include": f"_{family.name}_yaml", "task": f"lens_{family.name}_{name}"}
    if family.kind not in _OPEN_KINDS:
        settings["target_delimiter"] = "" if language in NO_SPACE and not family.official else " "
    if family.kind not in _LETTER_KINDS:
        settings["generation_kwargs"] = {
            "until": _stops(family, language),
            "max_gen_toks": LONG_GEN_TOKS if family.kind in ("boxed", "worked") else MAX_GEN_TOKS,
            "do_sample": False,
            "temperature": 0.0,
        }
    settings["metadata"] = {
        "version": family.version,
        "family": family.items if language in LANGUAGES[family.items] else "global_mgsm",
        "language": language,
        "central": "en",
    }
    if variant is not None:
        settings["metadata"]["variant"] = variant
    if family.kind == "boxed":
        settings["metadata"]["weight"] = POLYMATH_WEIGHTS[family.name.removeprefix("polymath_")]
    if family.task_class == "SecondTurnTask":
        settings["metadata"]["turn"] = 2
    if family.official:
        settings["metadata"] |= {"system": "", "sample": 1000}
    return settings


def _stops(family: Family, language: str) -> list[str]:
    """Return where a response ends besides the end token: where a base model goes on to another item."""
    key = {"number": "question" if family.shots else "solve", "boxed": "boxed", "worked": "choose"}.get(
        family.kind
    )
    return [] if key is None else ["\n" + word(language, key).partition("{letters}")[0]]


def group_settings(
    name: str, members: Iterable[Any], metrics: Iterable[str], version: float
) -> dict[str, Any]:
    """Return a group: the mean over its languages, each counting alike."""
    return {
        "group": name,
        "task": list(members),
        "skip_missing": True,
        "aggregate_metric_list": [
            {"metric": metric, "aggregation": "mean", "weight_by_size": False, "filter_list": ["none"]}
            for metric in metrics
            if metric != "answered_in"
        ],
        "metadata": {"version": version},
    }


def _text(settings: dict[str, Any]) -> str:
    return HEADER + yaml.dump(settings, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=1000)


def render() -> dict[str, str]:
    """Return every file, by its path below `tasks/`."""
    files = {}
    for family in FAMILIES:
        folder, name = family.folder, family.name
        files[f"{folder}/_{name}_yaml"] = _text(shared_settings(family))
        for end, language, variant in family.tasks():
            files[f"{folder}/lens_{name}_{end}.yaml"] = _text(task_settings(family, end, language, variant))
        members = [f"lens_{name}_{end}" for end, _, _ in family.tasks()]
        group = group_settings(f"lens_{name}", members, _SCORED[family.kind][2], family.version)
        files[f"{folder}/_lens_{name}.yaml"] = _text(group)
    for name, part in (
        ("lcb_monolingual", "lcb"),
        ("lcb_crosslingual", "lcb"),
        ("lcb", "lcb"),
        ("polymath",) * 2,
    ):
        files[f"{part}/_lens_{name}.yaml"] = _text(union_settings(name))
    files["_lens_paper.yaml"] = _text(paper_settings("lens_paper", ""))
    files["_lens_paper_official.yaml"] = _text(paper_settings("lens_paper_official", "_official"))
    return files


def union_settings(name: str) -> dict[str, Any]:
    """Return a group of all tasks of several families, whose names begin with `name`.

    Of PolyMath a data folder may lack levels; its metadata says which weights its weighted accuracy needs.
    """
    families = [family for family in FAMILIES if family.name.startswith(f"{name}_")]
    members = [f"lens_{family.name}_{end}" for family in families for end, _, _ in family.tasks()]
    group = group_settings(f"lens_{name}", members, _SCORED[families[0].kind][2], families[0].version)
    if name == "polymath":
        group["skip_missing"] = "any"
        group["metadata"]["weights"] = list(POLYMATH_WEIGHTS.values())
    return group


def paper_settings(group: str, protocol: str) -> dict[str, Any]:
    """Return a group of the paper's suite: the tasks of its families in its languages, without a mean.

    `protocol` ends the names of the families asked by letter: nothing, or `_official` for the released one.
    """
    lettered = [name + protocol for name in ("xcopa", "xwinograd", "xstorycloze", "mmlu", "kmmlu")]
    members = []
    for family in FAMILIES:
        if family.name not in (*lettered, "mtbench"):
            continue
        # The paper's multilingual MMLU is the set without Japanese, Korean and Swahili; Korean has KMMLU.
        left_out = MMMLU_FILES if family.name == "mmlu" + protocol else ()
        chosen = [code for code in family.languages if code in PAPER_LANGUAGES and code not in left_out]
        members += [f"lens_{family.name}_{code}" for code in chosen]
    return {"group": group, "task": members, "skip_missing": "any", "metadata": {"version": 1.0}}


def write(folder: Path) -> None:
    """Write every file below `folder`, and remove files of this module's that it no longer writes."""
    files = render()
    for path in folder.rglob("*"):
        ours = path.is_file() and path.read_text(encoding="utf-8").startswith(HEADER)
        if ours and path.relative_to(folder).as_posix() not in files:
            path.unlink()
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def main() -> None:
    """Write into the folder named on the command line, by default `tasks` of this checkout."""
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2] / "tasks")


if __name__ == "__main__":
    main()
