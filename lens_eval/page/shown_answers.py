"""Which answers a report sets side by side, chosen by a rule that looks at no answer's quality.

Per task the first items, in the order of the data, on which a variant is judged otherwise than the reference,
then the first of the others. How many differ in all is said beside them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lens_eval.base.errors import UserError
from lens_eval.base.metrics import CORRECTNESS, plain_name
from lens_eval.results.compare import Comparison, main_metrics
from lens_eval.results.read import Scores, read_lines, with_form

VERDICTS = ("central", "other", "undetermined", "empty")
FORMS = ("echo", "loop")
QUESTION, ANSWER = 600, 800
"""Characters shown, at most."""


@dataclass(frozen=True)
class Answer:
    """What one variant answered to an item, and how that was judged."""

    variant: str
    text: str
    language: str
    """Code of the language it was judged to be in; empty where that was not judged or not found out."""
    right: bool | None
    """None where correctness is not a matter of yes and no."""
    verdict: str
    """`on_target`, `central`, `other`, `undetermined`, `empty`, or an empty string."""
    form: str = ""
    """`echo` or `loop`, or an empty string."""


@dataclass(frozen=True)
class Example:
    """One item with every variant's answer."""

    item: str
    question: str
    expected: str
    answers: tuple[Answer, ...]
    differs: bool
    """Whether a variant is judged otherwise than the reference here."""


@dataclass(frozen=True)
class Group:
    """The examples of one task."""

    task: str
    language: str
    variants: int
    items: int
    differing: int
    examples: tuple[Example, ...]

    @property
    def judged(self) -> bool:
        """Whether the language of these answers was judged."""
        return any(answer.verdict for example in self.examples for answer in example.answers)


def per_task(tasks: int) -> int:
    """Items shown of each kind (judged differently, the others) per task: fewer where tasks are many."""
    return 3 if tasks <= 24 else 2 if tasks <= 60 else 1


def choose(comparison: Comparison, scores: Sequence[Scores]) -> list[Group]:
    """Examples of every task, read from the samples."""
    by_task: dict[str, list[Scores]] = {}
    for one in scores:
        own = by_task.setdefault(one.task, [])
        if one.variant not in {other.variant for other in own}:
            own.append(one)
    count = per_task(len(by_task))
    groups = []
    for own in by_task.values():
        own.sort(key=lambda one: comparison.variants.index(one.variant))
        base = next((one for one in own if one.variant == comparison.reference), own[0])
        groups.append(_group(comparison, base, own, count))
    return [group for group in groups if group.examples]


def _group(comparison: Comparison, base: Scores, variants: Sequence[Scores], count: int) -> Group:
    differing = _differing(comparison, base, variants)
    chosen = differing[:count]
    chosen += [i for i in range(len(base.items)) if i not in set(differing)][:count]
    names = [base.items[i] for i in chosen]
    found = {one.variant: read_items(one, names) for one in variants}
    examples = []
    for index, name in zip(chosen, names, strict=True):
        samples = {variant: rows[name] for variant, rows in found.items() if name in rows}
        answers = [_answer(variant, sample, base) for variant, sample in samples.items()]
        if any(answer is None for answer in answers):
            continue
        first = samples[base.variant]
        examples.append(
            Example(
                name,
                _question(first),
                _expected(first),
                tuple(answer for answer in answers if answer is not None),
                index in differing,
            )
        )
    sizes = len(variants), len(base.items), len(differing)
    return Group(base.task, base.language, *sizes, tuple(examples))


def _differing(comparison: Comparison, base: Scores, variants: Sequence[Scores]) -> list[int]:
    """Numbers of the items on which any variant has another value than the base in what is shown."""
    shown = {*main_metrics(comparison, base.family)}
    shown |= {m for m in base.metrics if plain_name(m) in (*VERDICTS, *FORMS)}
    other = np.zeros(len(base.items), dtype=bool)
    for one in variants:
        if one.items == base.items:
            for metric in shown & base.metrics.keys() & one.metrics.keys():
                ours, theirs = one.metrics[metric], base.metrics[metric]
                other |= (ours != theirs) & ~(np.isnan(ours) & np.isnan(theirs))
    return np.flatnonzero(other).tolist()


def read_items(scores: Scores, items: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Samples of some items, the first filter's where there are several; reads no further than it must."""
    wanted = dict(zip(scores.doc_ids, scores.items, strict=True))
    chosen = set(items)
    wanted = {number: name for number, name in wanted.items() if name in chosen}
    found: dict[str, dict[str, Any]] = {}
    if wanted:
        for sample in read_lines(scores.source):
            name = wanted.get(sample["doc_id"])
            if name is not None:
                found.setdefault(name, with_form(sample))
                if len(found) == len(wanted):
                    break
    return found


def _answer(variant: str, sample: Mapping[str, Any], base: Scores) -> Answer | None:
    """None for a kind of request without an answer to show."""
    text = _text(sample)
    if text is None:
        return None
    verdict = next((name for name in ("on_target", *VERDICTS[:3]) if sample.get(name) == 1), "")
    if sample.get("empty") == 1:
        verdict = "empty"
    answered_in = str(sample.get("answered_in", ""))
    if answered_in in ("undetermined", "empty", "none"):
        answered_in = ""
    right = next((bool(sample[name]) for name in CORRECTNESS if sample.get(name) in (0, 1)), None)
    form = next((name for name in FORMS if sample.get(name) == 1), "")
    return Answer(variant, cut(text, ANSWER), answered_in, right, verdict, form)


def _text(sample: Mapping[str, Any]) -> str | None:
    """The whole generated response, or the option with the highest likelihood."""
    try:
        options = _options(sample)
        if options:
            scores = [float(result[0]) for result in sample["filtered_resps"]]
            return options[scores.index(max(scores))]
        response = sample["resps"][0]
        while isinstance(response, list):
            response = response[0]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise UserError(f"a sample that is none of lm_eval's: {error!r}") from error
    return response if isinstance(response, str) else None


def _options(sample: Mapping[str, Any]) -> list[str]:
    """Texts that a multiple choice was made between; empty for any other kind of request."""
    results, arguments = sample["filtered_resps"], sample["arguments"]
    if not isinstance(arguments, Mapping) or len(results) < 2 or len(arguments) != len(results):
        return []
    if not all(isinstance(result, (list, tuple)) and len(result) == 2 for result in results):
        return []
    own = [arguments[f"gen_args_{number}"] for number in range(len(results))]
    continuations = [str(one["arg_1"]).strip() for one in own]
    # Where the options stand before one common ending (XWinograd as lm_eval has it), they are the contexts.
    same = len(set(continuations)) < len(continuations)
    return [str(one["arg_0"]) for one in own] if same else continuations


def _question(sample: Mapping[str, Any]) -> str:
    """The item's own prompt; where that lacks the lettered options, the end of what the model was given."""
    document = sample["doc"]
    own = document.get("prompt") if isinstance(document, Mapping) else None
    options = _options(sample)
    lettered = bool(options) and max(map(len, options)) <= 3
    if isinstance(own, str) and own.strip() and not lettered:
        return cut(own, QUESTION)
    given = sample["arguments"]
    first = given["gen_args_0"]["arg_0"] if isinstance(given, Mapping) else given[0][0]
    text = first if isinstance(first, str) else json.dumps(first, ensure_ascii=False)
    return text if len(text) <= QUESTION else "… " + text[-QUESTION:]


def _expected(sample: Mapping[str, Any]) -> str:
    options, target = _options(sample), str(sample["target"])
    if options and target.isdecimal() and int(target) < len(options):
        return cut(options[int(target)], QUESTION)
    return cut(target, QUESTION)


def cut(text: str, most: int) -> str:
    """`text`, or its beginning and a word on how long it is."""
    return text if len(text) <= most else f"{text[:most]} … (cut; {len(text):,} characters)"
