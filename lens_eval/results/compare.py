"""Comparison of lm_eval results folders: variants x languages x metrics, from the per-item samples.

Every number is computed from `samples_*.jsonl`, never from lm_eval's aggregates: its group standard
errors take parallel items for independent ones. Results of `lens reproduce`, `lens eval` and plain
`lm_eval --log_samples` are read alike. What was measured on other items, prompts, shots or task
versions is refused, with the reason.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lens_eval.base.errors import UserError, did_you_mean

if TYPE_CHECKING:
    import numpy as np

    from lens_eval.base.statistics import Interval

RUN_FILE = "run.json"
AVERAGE = "average"
"""Mean over the non-central languages, each language counting alike."""
AVERAGE_ALL = "average with central"
"""The same with the central language among them."""
CHECKS = ("items", "prompts", "shots", "version", "generation")
"""What must agree before two results stand in one table; each can be allowed by name."""


@dataclass(frozen=True)
class Scores:
    """The per-item results of one variant on one task, sorted by item.

    `metrics[name]` has shape (n,): one number per item, in the order of `items`.
    """

    variant: str
    task: str
    family: str
    language: str
    """Project code, or an empty string where the task does not say."""
    central: str
    items: tuple[str, ...]
    """What makes an item the same one in every language: the cluster of its interval."""
    doc_ids: tuple[int, ...]
    """lm_eval's number of each item, by which its samples are found again."""
    metrics: Mapping[str, np.ndarray]
    version: str
    shots: int
    doc_hashes: tuple[str, ...]
    prompt_hashes: tuple[str, ...]
    generation: str
    chat_template: str
    simulated: bool
    source: Path


@dataclass(frozen=True)
class Hole:
    """A cell that should be in the table and is not."""

    variant: str
    task: str
    reason: str


@dataclass(frozen=True)
class Entry:
    """One number of the table with its interval and its paired difference to the reference."""

    variant: str
    family: str
    language: str
    metric: str
    interval: Interval
    difference: Interval | None
    """None for the reference itself, and where the reference has no such cell."""

    @property
    def differs(self) -> bool:
        """Whether the 95% interval of the paired difference excludes zero."""
        return self.difference is not None and not self.difference.low <= 0.0 <= self.difference.high


@dataclass(frozen=True)
class Comparison:
    """Everything a table or report shows; `entries` is keyed by (family, metric, variant, language)."""

    name: str
    reference: str
    variants: tuple[str, ...]
    families: tuple[str, ...]
    languages: Mapping[str, tuple[str, ...]]
    """By family, the non-central ones first, in a fixed order."""
    central: Mapping[str, str]
    """By family; an empty string where the central language was not evaluated."""
    metrics: Mapping[str, tuple[str, ...]]
    entries: Mapping[tuple[str, str, str, str], Entry]
    simulated: bool = False
    holes: tuple[Hole, ...] = ()
    notes: tuple[str, ...] = ()
    run: Mapping[str, Any] = field(default_factory=dict)
    """`run.json` of `lens reproduce`, where there is one: recipe, environment, costs."""

    def get(self, family: str, metric: str, variant: str, language: str) -> Entry | None:
        """The entry, or None for a hole."""
        return self.entries.get((family, metric, variant, language))


# Metrics that tables show first; every other per-item number goes into JSON and CSV only.
MAIN_METRICS = (
    "acc",
    "exact_match",
    "off_target",
    "correct_on_target",
    "judge_score",
    "judge_score_on_target",
)
LABELS = {
    "acc": "accuracy",
    "exact_match": "exact match",
    "off_target": "off-target",
    "correct_on_target": "on target and correct",
    "on_target": "on target",
    "central": "in the central language",
    "other": "in another language",
    "undetermined": "language undetermined",
    "empty": "empty answer",
    "no_answer": "no answer found",
    "judge_score": "judge's grade (100 is 10)",
    "judge_score_on_target": "judge's grade, off target counts 1",
}


def label(metric: str) -> str:
    """The metric in words; a filter that is not lm_eval's plain one stays in the name."""
    name, _, filtered = metric.partition(",")
    return LABELS.get(name, name) + (f" ({filtered})" if filtered else "")


# --- reading -----------------------------------------------------------------------------------


def load(runs: Sequence[str | Path]) -> tuple[list[Scores], dict[str, Any], list[Hole]]:
    """Read results folders: of `lens reproduce`, `lens eval`, or of lm_eval itself.

    `NAME=FOLDER` names the variant of a folder that holds one; where it holds several, `NAME` tells them from
    those of the same name in a folder before.

    Returns the scores, the `run.json` where exactly one run of `lens reproduce` was given, and its holes.

    Raises:
        UserError: no such folder, no results in it, or a file that is corrupt, cut short or foreign.
    """
    scores: list[Scores] = []
    documents: list[dict[str, Any]] = []
    holes: list[Hole] = []
    for given in runs:
        name, path = _named(str(given))
        if (path / RUN_FILE).is_file():
            document = _renamed(read_json(path / RUN_FILE), name)
            documents.append(document)
            found, missing = _read_run(path, document)
            holes += missing
        else:
            found = _read_lm_eval(path, name)
        scores += _without_clashes(found, scores, name or path.name)
    return scores, documents[0] if len(documents) == 1 else {}, holes


def _named(given: str) -> tuple[str | None, Path]:
    name, separator, rest = given.partition("=")
    if separator and not Path(given).exists():
        return name, _existing(Path(rest))
    return None, _existing(Path(given))


def _renamed(document: dict[str, Any], name: str | None) -> dict[str, Any]:
    """The record of a run with its only variant called `name`; as it is where there are several."""
    try:
        cells = list(document["cells"])
        if name is None or len({cell["variant"] for cell in cells}) != 1:
            return document
    except (KeyError, TypeError):  # found fault with where the cells are read
        return document
    renamed = [{**cell, "variant": name} for cell in cells]
    return {**document, "variants": [name], "reference": name, "cells": renamed}


def _existing(path: Path) -> Path:
    if not path.exists():
        near = [str(p) for p in path.parent.glob("*") if p.is_dir()] if path.parent.is_dir() else []
        raise UserError(f"no results folder {path}{did_you_mean(str(path), near)}")
    return path


def _without_clashes(found: list[Scores], before: list[Scores], label: str) -> list[Scores]:
    """Two runs may hold a variant of the same name: the later one is shown with its folder's name."""
    taken = {s.variant for s in before}
    if not taken & {s.variant for s in found}:
        return found
    return [replace(s, variant=f"{s.variant} ({label})") if s.variant in taken else s for s in found]


def _read_run(folder: Path, document: Mapping[str, Any]) -> tuple[list[Scores], list[Hole]]:
    scores, holes = [], []
    try:
        cells = list(document["cells"])
        for cell in cells:
            if cell["state"] == "finished":
                results = _single_results(folder / cell["folder"])
                simulated = bool(document.get("simulated"))
                for file in (results, *sorted(results.parent.glob(f"judge_*/{results.name}"))):
                    scores += _read_results(file, variant=cell["variant"], simulated=simulated)
            else:
                holes.append(Hole(cell["variant"], cell["task"], cell.get("reason") or "not evaluated yet"))
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{folder / RUN_FILE} is not the record of a run of `lens reproduce` ({error!r})"
        ) from error
    return scores, holes


def _single_results(folder: Path) -> Path:
    found = sorted(folder.glob("results_*.json"))
    if not found:
        raise UserError(f"{folder} should hold results_*.json and does not; run `lens reproduce` again")
    return found[-1]


def _read_lm_eval(path: Path, name: str | None) -> list[Scores]:
    """All results below a folder; of several of one task and model the latest counts, as in lm_eval."""
    files = [path] if path.is_file() else sorted(path.rglob("results_*.json"), key=lambda p: p.name)
    files = [p for p in files if not any(part.endswith(".partial") for part in p.parts)]
    if not files:
        raise UserError(
            f"{path} holds no lm_eval results (results_*.json); was lm_eval run with --output_path?"
        )
    latest: dict[tuple[str, str], Scores] = {}
    for file in files:
        for scores in _read_results(file, variant=name):
            latest[scores.variant, scores.task] = scores
    return list(latest.values())


def _read_results(file: Path, variant: str | None, simulated: bool = False) -> list[Scores]:
    results = read_json(file)
    for key in ("results", "configs", "versions", "n-shot"):
        if not isinstance(results.get(key), dict):
            raise UserError(f"{file} is no results file of lm_eval (no `{key}`)")
    if variant is None:
        variant = model_label(str(results.get("model_name") or file.parent.name))
    stamp = file.stem.removeprefix("results_")
    tasks = [t for t in results["configs"] if t in results["n-shot"]]
    scores = []
    for task in tasks:
        samples = samples_file(file.parent, task, stamp)
        if samples is None:
            raise UserError(
                f"{file}: the per-item samples of {task} are missing; run lm_eval with --log_samples"
            )
        scores.append(_read_samples(samples, results, task, variant, simulated))
    return scores


def model_label(model: str) -> str:
    """A hub id as it is; of a local path the last part."""
    return Path(model).name if model.startswith(("/", ".")) or model.count("/") > 1 else model


def samples_file(folder: Path, task: str, stamp: str) -> Path | None:
    for ending in (".jsonl", ".jsonl.gz"):
        file = folder / f"samples_{task}_{stamp}{ending}"
        if file.is_file():
            return file
    return None


def read_json(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is corrupt or cut short: {error}") from error
    if not isinstance(document, dict):
        raise UserError(f"{file} is no results file: it holds {type(document).__name__}")
    return document


def read_lines(file: Path) -> Iterator[dict[str, Any]]:
    """The records of a `samples_*.jsonl` or `.jsonl.gz`.

    Raises:
        UserError: a record that cannot be read; names file and line.
    """
    number = 0
    try:
        with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as stream:
            for line in stream:
                number += 1
                yield json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError, EOFError, gzip.BadGzipFile) as error:
        raise UserError(f"{file}, line {max(number, 1)}: corrupt or cut short ({error})") from error


def _read_samples(file: Path, results: Mapping[str, Any], task: str, variant: str, simulated: bool) -> Scores:
    config = results["configs"][task]
    metadata = config.get("metadata") or {}
    rows: dict[int, tuple[str, str, str]] = {}
    columns = _Columns()
    try:
        for sample in read_lines(file):
            item = sample["doc_id"]
            document = sample["doc"]
            own = document.get("id") if isinstance(document, dict) else None
            hashes = sample["doc_hash"] + sample["target_hash"]
            # A second turn's prompt holds the model's own first answer: no two models have the same.
            prompt = hashes if metadata.get("turn") == 2 else sample["prompt_hash"]
            rows[item] = (str(item if own is None else own), hashes, prompt)
            columns.add(item, sample)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file} holds records that are no lm_eval samples ({error!r})") from error
    expected = (results.get("n-samples") or {}).get(task, {}).get("effective", len(rows))
    if not rows or len(rows) != expected:
        raise UserError(f"{file} is cut short: {len(rows)} items of {expected}")
    order = sorted(rows)
    items = tuple(rows[i][0] for i in order)
    family, language = _family_and_language(task, metadata)
    return Scores(
        variant=variant,
        task=task,
        family=family,
        language=language,
        central=str(metadata.get("central", "en")),
        items=items if len(set(items)) == len(items) else tuple(str(i) for i in order),
        doc_ids=tuple(order),
        metrics=columns.arrays(order),
        version=str(results["versions"].get(task)),
        shots=int(results["n-shot"][task]),
        doc_hashes=tuple(rows[i][1] for i in order),
        prompt_hashes=tuple(rows[i][2] for i in order),
        generation=json.dumps(config.get("generation_kwargs") or {}, sort_keys=True, ensure_ascii=False),
        chat_template=str(results.get("chat_template_sha")),
        simulated=simulated or bool(metadata.get("simulated")) or task.startswith("lens_mini"),
        source=file,
    )


_NUMBERS = {bool, int, float, type(None)}


class _Columns:
    """The numbers of samples by filter and metric, gathered row by row: 200,000 rows are not unusual."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, tuple[str, ...]], dict[int, tuple[Any, ...]]] = {}
        self._getters: dict[tuple[str, ...], Callable[[Mapping[str, Any]], tuple[Any, ...]]] = {}

    def add(self, item: int, sample: Mapping[str, Any]) -> None:
        """Note one sample's metrics."""
        names = tuple(sample["metrics"])
        if names not in self._getters:
            # With one name itemgetter returns the value itself: ask for the first twice.
            self._getters[names] = itemgetter(*names, *names[:1]) if names else lambda _: ()
        key = (sample.get("filter", "none"), names)
        self._rows.setdefault(key, {})[item] = self._getters[names](sample)

    def arrays(self, order: Sequence[int]) -> dict[str, np.ndarray]:
        """Metrics that every item has as a number, in the order of items; shape (n,) each.

        An item for which there is no number (null: a judge gave no grade) has NaN, if some item has one.
        """
        import numpy as np

        found: dict[str, np.ndarray] = {}
        for (filtered, names), rows in self._rows.items():
            if len(rows) != len(order):
                continue
            for index, name in enumerate(names):
                column = [rows[item][index] for item in order]
                if set(map(type, column)) <= _NUMBERS:
                    array = np.array(column, dtype=float)
                    if not np.isnan(array).all():
                        found[name if filtered == "none" else f"{name},{filtered}"] = array
        return found


def _family_and_language(task: str, metadata: Mapping[str, Any]) -> tuple[str, str]:
    """Family and language of a task: its metadata's word, else the language code its name ends on."""
    from lens_eval.language.languages import LANGUAGES

    stem, _, ending = task.rpartition("_")
    language = metadata.get("language")
    if language:
        return (stem if ending == language and stem else str(metadata.get("family", task))), str(language)
    if stem and ending in LANGUAGES:
        return stem, ending
    return task, ""


# --- comparing ---------------------------------------------------------------------------------


def compare(
    scores: Sequence[Scores],
    *,
    reference: str | None = None,
    name: str = "",
    holes: Sequence[Hole] = (),
    run: Mapping[str, Any] | None = None,
    allow: Iterable[str] = (),
) -> Comparison:
    """Set variants side by side, item by item.

    Args:
        scores: what `load` returned.
        reference: the variant that differences are taken to; `backbone` where there is one, else the first.
        allow: names out of `CHECKS` that may differ; each then stands as a note under the tables.

    Raises:
        UserError: nothing to compare, an unknown reference, or results that do not compare (says why).
    """
    allow = tuple(allow)
    for word in allow:
        if word not in CHECKS:
            raise UserError(f"unknown check {word!r}{did_you_mean(word, CHECKS)}; known: {', '.join(CHECKS)}")
    variants = tuple(dict.fromkeys([s.variant for s in scores] + [h.variant for h in holes]))
    if not variants:
        raise UserError("no results to compare")
    if run and run.get("variants"):
        known = [v for v in run["variants"] if v in variants]
        variants = tuple(known + [v for v in variants if v not in known])
    if reference is None:
        reference = (run or {}).get("reference") or ("backbone" if "backbone" in variants else variants[0])
    if reference not in variants:
        raise UserError(
            f"no variant {reference!r} to compare with{did_you_mean(reference, variants)}; "
            f"there are: {', '.join(variants)}"
        )
    notes = check_comparable(scores, reference, allow)
    scores, incomplete = _complete(scores)
    notes += incomplete
    notes += _left_out(run or {})
    builder = _Builder(scores, variants, reference, holes)
    return Comparison(
        name=name,
        reference=reference,
        variants=variants,
        families=builder.families,
        languages=builder.languages,
        central=builder.central,
        metrics=builder.metrics,
        entries=builder.entries(paired="items" not in allow),
        simulated=any(s.simulated for s in scores),
        holes=tuple(holes),
        notes=tuple(notes),
        run=run or {},
    )


def _left_out(run: Mapping[str, Any]) -> list[str]:
    """What a run left out, a note per reason."""
    reasons: dict[str, list[str]] = {}
    for part in run.get("left_out", ()):
        reasons.setdefault(str(part.get("reason")), []).append(str(part.get("what")))
    return [
        f"{', '.join(names)} {'was' if len(names) == 1 else 'were'} left out: {reason}"
        for reason, names in reasons.items()
    ]


def check_comparable(scores: Sequence[Scores], reference: str, allow: Sequence[str] = ()) -> list[str]:
    """Refuse results of one task that were not measured alike; return notes on what was allowed to differ.

    Raises:
        UserError: one line per task and variant that differs from the reference, with what differs.
    """
    by_task: dict[str, list[Scores]] = {}
    for entry in scores:
        by_task.setdefault(entry.task, []).append(entry)
    refused: list[tuple[str, str]] = []
    notes: list[tuple[str, str]] = []
    for task, entries in by_task.items():
        first = next((e for e in entries if e.variant == reference), entries[0])
        for entry in entries:
            for check, words in _differences(first, entry):
                line = f"{task}: {entry.variant} and {first.variant} have {words}"
                (notes if check in allow else refused).append((check, line))
    if refused:
        lines = [line for _, line in refused]
        shown = lines[:10] + ([f"... and {len(lines) - 10} more"] if len(lines) > 10 else [])
        words = ",".join(sorted({check for check, _ in refused}))
        raise UserError(
            "these results cannot stand in one table:\n  "
            + "\n  ".join(shown)
            + f"\nEvaluate them alike, or say `--allow {words}` to see them side by side all the same."
        )
    return [line for _, line in notes]


def _complete(scores: Sequence[Scores]) -> tuple[list[Scores], list[str]]:
    """Leave out, for every variant, the items that some variant has no number for; return notes on them."""
    import numpy as np

    missing: dict[str, set[str]] = {}
    for entry in scores:
        for values in entry.metrics.values():
            own = {entry.items[i] for i in np.flatnonzero(np.isnan(values))}
            missing.setdefault(entry.task, set()).update(own)
    notes = [
        f"{task}: {len(items)} items are left out for every variant; one of them has no number there"
        for task, items in missing.items()
        if items
    ]
    return [_without(entry, missing.get(entry.task, set())) for entry in scores], notes


def _without(entry: Scores, items: set[str]) -> Scores:
    if not items:
        return entry
    kept = [i for i, item in enumerate(entry.items) if item not in items]
    return replace(
        entry,
        items=tuple(entry.items[i] for i in kept),
        doc_ids=tuple(entry.doc_ids[i] for i in kept),
        metrics={name: values[kept] for name, values in entry.metrics.items()} if kept else {},
        doc_hashes=tuple(entry.doc_hashes[i] for i in kept),
        prompt_hashes=tuple(entry.prompt_hashes[i] for i in kept),
    )


def _differences(a: Scores, b: Scores) -> Iterator[tuple[str, str]]:
    if a.version != b.version:
        yield "version", f"other task versions ({b.version} and {a.version})"
    if a.shots != b.shots:
        yield "shots", f"other numbers of shots ({b.shots} and {a.shots})"
    if len(a.items) != len(b.items):
        yield "items", f"other items ({len(b.items)} and {len(a.items)} of them)"
    elif a.doc_hashes != b.doc_hashes:
        other = [i for i, (x, y) in enumerate(zip(a.doc_hashes, b.doc_hashes, strict=True)) if x != y]
        yield (
            "items",
            f"other items ({len(other)} of {len(a.items)} differ, the first is {b.items[other[0]]})",
        )
    elif a.prompt_hashes != b.prompt_hashes and a.shots == b.shots:
        which = "chat templates" if a.chat_template != b.chat_template else "prompt templates"
        yield "prompts", f"other {which}"
    if a.generation != b.generation:
        yield "generation", f"other generation settings ({b.generation} and {a.generation})"


class _Builder:
    """Indexes scores by (family, variant, language) and computes each entry once."""

    def __init__(
        self, scores: Sequence[Scores], variants: tuple[str, ...], reference: str, holes: Sequence[Hole]
    ) -> None:
        self.variants = variants
        self.reference = reference
        self.cells = {(s.family, s.variant, s.language): s for s in scores}
        self.families = tuple(dict.fromkeys(s.family for s in scores))
        self.central: dict[str, str] = {}
        self.languages: dict[str, tuple[str, ...]] = {}
        self.metrics: dict[str, tuple[str, ...]] = {}
        self.designs: dict[tuple[str, str, tuple[str, ...]], _Design] = {}
        for family in self.families:
            own = [s for s in scores if s.family == family]
            # A language that failed everywhere stays a column of holes, and its average one too.
            missing = [
                code
                for hole in holes
                for name, code in [_family_and_language(hole.task, {})]
                if name == family
            ]
            found = tuple(dict.fromkeys([s.language for s in own] + missing))
            central = own[0].central if own[0].central in found else ""
            self.central[family] = central
            last = (central,) if central else ()
            self.languages[family] = tuple(code for code in found if code not in last) + last
            self.metrics[family] = _ordered({metric for s in own for metric in s.metrics})

    def entries(self, paired: bool) -> dict[tuple[str, str, str, str], Entry]:
        entries = {}
        for family in self.families:
            for metric in self.metrics[family]:
                for variant in self.variants:
                    for language, parts in self._groups(family):
                        entry = self._entry(family, metric, variant, language, parts, paired)
                        if entry:
                            entries[family, metric, variant, language] = entry
        return entries

    def _groups(self, family: str) -> Iterator[tuple[str, tuple[str, ...]]]:
        languages = self.languages[family]
        others = tuple(code for code in languages if code != self.central[family])
        if len(others) > 1 or (others and self.central[family]):
            yield AVERAGE, others
        if others and self.central[family]:
            yield AVERAGE_ALL, languages
        for code in languages:
            yield code, (code,)

    def _entry(
        self, family: str, metric: str, variant: str, language: str, parts: tuple[str, ...], paired: bool
    ) -> Entry | None:
        """None where a language is missing: an average over fewer languages would not compare."""
        values = self._values(family, metric, variant, parts)
        if values is None:
            return None
        design = self._design(family, variant, parts)
        base = None
        if paired and variant != self.reference:
            base = self._values(family, metric, self.reference, parts)
        difference = None if base is None else design.difference(values, base)
        return Entry(variant, family, language, metric, design.interval(values), difference)

    def _values(self, family: str, metric: str, variant: str, parts: tuple[str, ...]) -> np.ndarray | None:
        import numpy as np

        cells = [self.cells.get((family, variant, code)) for code in parts]
        found = [cell.metrics[metric] for cell in cells if cell is not None and metric in cell.metrics]
        return np.concatenate(found) if len(found) == len(parts) else None

    def _design(self, family: str, variant: str, parts: tuple[str, ...]) -> _Design:
        key = (family, variant, parts)
        if key not in self.designs:
            self.designs[key] = _Design([self.cells[family, variant, code].items for code in parts])
        return self.designs[key]


class _Design:
    """Which values belong to one item, and weights by which every language counts alike in the mean."""

    def __init__(self, items: Sequence[tuple[str, ...]]) -> None:
        import numpy as np

        sizes = [len(own) for own in items]
        self.n = sum(sizes)
        names = [name for own in items for name in own]
        self.clusters = np.unique(names, return_inverse=True)[1]
        self.weights = np.concatenate([np.full(size, self.n / (len(sizes) * size)) for size in sizes])
        self.counts = np.bincount(self.clusters, self.weights)
        self._balanced = bool(np.allclose(self.counts, self.counts[0]))

    def interval(self, values: np.ndarray) -> Interval:
        """Mean and interval: of a rate (Wilson), or of a number or grade that is no share (Student)."""
        import numpy as np

        from lens_eval.base.statistics import interval_of_sums, paired_difference

        grades = float(np.mean((values > 0) & (values < 1))) > 0.5
        if grades or values.min() < 0 or values.max() > 1:
            return paired_difference((values * self.weights).tolist(), [0.0] * self.n, self.clusters.tolist())
        sums = np.bincount(self.clusters, values * self.weights)
        interval = interval_of_sums(list(zip(self.counts.tolist(), sums.tolist(), strict=True)))
        return replace(interval, n=self.n)

    def difference(self, values: np.ndarray, base: np.ndarray) -> Interval:
        """Mean of `values - base` with its interval, clustered by item."""
        import numpy as np

        from lens_eval.base.statistics import paired_difference

        if self._balanced and not np.array_equal(values, base):
            # Parallel items: the same variance from one number per item, a language's share of the work.
            scale = len(self.counts) / self.n
            ours, theirs = (np.bincount(self.clusters, x * self.weights) * scale for x in (values, base))
            return replace(paired_difference(ours.tolist(), theirs.tolist()), n=self.n)
        return paired_difference(
            (values * self.weights).tolist(), (base * self.weights).tolist(), self.clusters.tolist()
        )


def _ordered(metrics: set[str]) -> tuple[str, ...]:
    first = [m for name in MAIN_METRICS for m in sorted(metrics) if m.partition(",")[0] == name]
    return (*first, *sorted(metrics - set(first)))


def main_metrics(comparison: Comparison, family: str) -> tuple[str, ...]:
    """The metrics that tables for reading show; all of them where none is known."""
    own = comparison.metrics[family]
    main = tuple(m for m in own if m.partition(",")[0] in MAIN_METRICS)
    return main or own
