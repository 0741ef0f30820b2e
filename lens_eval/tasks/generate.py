"""Write every YAML file of `tasks/` (except `tasks/mini`): `python -m lens_eval.tasks.generate [FOLDER]`.

A family has one file of shared settings, one thin file per language, and a group. Edit the tables here, not
the files: a test compares them with what this module writes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lens_eval.base.metrics import metric_of
from lens_eval.tasks.families import LANGUAGES, MMMLU_FILES
from lens_eval.tasks.scoring import NUMBER_METRICS, OPEN_METRICS
from lens_eval.tasks.words import NO_SPACE, word

HEADER = "# Written by lens_eval/tasks/generate.py: edit that file and run it again.\n"
# The paper's suite: its languages where the family has them.
PAPER_LANGUAGES = ("en", "zh", "ja", "ko", "ar", "bn", "sw")
MAX_GEN_TOKS = 1024


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
    kind: str  # "letter", "number" or "open"
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
        if self.name == "mtbench_turn2":
            return tuple(language for language in known if language != "ar")  # Vicuna-80 has one turn
        return (
            tuple(language for language in known if language in PAPER_LANGUAGES) if self.official else known
        )


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


def _scored(kind: str) -> tuple[str, tuple[str, ...]]:
    """Return the hook that scores a kind of answer, and the metrics it returns."""
    return {
        "letter": ("option_letter", ("acc",)),
        "number": ("number", (*NUMBER_METRICS, "cut_off")),
        "open": ("open_answer", (*OPEN_METRICS, "cut_off")),
    }[kind]


def shared_settings(family: Family) -> dict[str, Any]:
    """Return what all tasks of a family have in common."""
    hook, metrics = _scored(family.kind)
    settings: dict[str, Any] = {
        "class": _function("lens_task", family.task_class),
        "output_type": "multiple_choice" if family.kind == "letter" else "generate_until",
        "test_split": "test",
        "fewshot_split": None if family.kind == "open" else family.fewshot_split,
        "doc_to_text": _function("prompts", family.prompt),
        "process_results": _function("scoring", hook),
        "metric_list": _metrics(metrics),
    }
    if family.kind == "letter":
        settings |= {"doc_to_choice": _function("prompts", family.letters), "doc_to_target": "answer"}
    if family.kind == "number":
        settings["doc_to_target"] = _function("prompts", "mgsm_target")
        settings["fewshot_config"] = {"sampler": "first_n"}
    if family.kind == "open":
        settings |= {"doc_to_target": "", "num_fewshot": 0}
    if family.shots is not None:
        settings["num_fewshot"] = family.shots
    return {key: value for key, value in settings.items() if value is not None}


def task_settings(family: Family, language: str) -> dict[str, Any]:
    """Return the file of one task."""
    settings: dict[str, Any] = {"include": f"_{family.name}_yaml", "task": f"lens_{family.name}_{language}"}
    if family.kind != "open":
        settings["target_delimiter"] = "" if language in NO_SPACE and not family.official else " "
    if family.kind != "letter":
        settings["generation_kwargs"] = {
            "until": _stops(family, language),
            "max_gen_toks": MAX_GEN_TOKS,
            "do_sample": False,
            "temperature": 0.0,
        }
    settings["metadata"] = {
        "version": family.version,
        "family": family.items,
        "language": language,
        "central": "en",
    }
    if family.task_class == "SecondTurnTask":
        settings["metadata"]["turn"] = 2
    if family.official:
        settings["metadata"] |= {"system": "", "sample": 1000}
    return settings


def _stops(family: Family, language: str) -> list[str]:
    """Return where a response ends besides the end token: where a base model goes on to another item."""
    if family.kind != "number":
        return []
    start = word(language, "question") if family.shots else word(language, "solve")
    return [f"\n{start}"]


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
        for language in family.languages:
            files[f"{folder}/lens_{name}_{language}.yaml"] = _text(task_settings(family, language))
        members = [f"lens_{name}_{language}" for language in family.languages]
        group = group_settings(f"lens_{name}", members, _scored(family.kind)[1], family.version)
        files[f"{folder}/_lens_{name}.yaml"] = _text(group)
    files["_lens_paper.yaml"] = _text(paper_settings("lens_paper", ""))
    files["_lens_paper_official.yaml"] = _text(paper_settings("lens_paper_official", "_official"))
    return files


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
