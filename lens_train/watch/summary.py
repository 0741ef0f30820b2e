"""The outcome of a run in words: warnings, a table for a terminal, and the command to run next.

`lens_train.watch.outcome` describes what an outcome holds.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

LINE = 80
"""Width of the summary, in characters."""
FEW_CHANGED = 0.2
"""A smaller share of trained weights that differ as written gives a warning."""
BROKEN_SHARE = 0.25
"""Share of looping, echoing or empty replies from which on a model counts as broken by training..."""
BROKEN_MARGIN = 0.1
"""...if it is by so much larger than before."""
BROKEN_ALONE = 0.5
"""The same share for one language; it must have grown by `BROKEN_SHARE`, because its replies are few."""


def warnings(found: Mapping[str, Any], central: str, rate: float | None) -> list[str]:
    """Warnings about an outcome; `rate` is the learning rate of the run."""
    now = "" if rate is None else f" (now {rate:g})"
    said = _of_weights(found["weights"], now) if "weights" in found else []
    if "replies" not in found:
        return said
    replies = found["replies"]
    said += _broken(replies, now) + _central(replies, central, now)
    lost = [code for code in replies["unwritten"] if code != central]
    if lost:
        said.append(
            f"no reply in {', '.join(lost)} is usable, before training or after: they loop, repeat the "
            "prompt, are empty or in a third language. Perhaps the model cannot write "
            f"{'this language' if len(lost) == 1 else 'these languages'}, which Lens does not teach it: ask "
            "`lens assess`"
        )
    return said


def _of_weights(weights: Mapping[str, Any], now: str) -> list[str]:
    if not weights["changed"]:
        return [
            f"the weights written are those of the base: every change is smaller than {weights['dtype']} can "
            f"hold, and was rounded away. Raise learning_rate{now} or epochs"
        ]
    if not has_few_changes(weights):
        return []
    share = weights["changed"] / weights["trained"]
    return [
        f"only {_percent(share)} of the trained weights differ from the base as written: the changes of the "
        f"others are smaller than {weights['dtype']} can hold. Little or nothing will be seen of this "
        f"training. Raise learning_rate{now} or epochs"
    ]


def has_few_changes(weights: Mapping[str, Any] | None) -> bool:
    return weights is not None and weights["changed"] < FEW_CHANGED * weights["trained"]


def _broken(replies: Mapping[str, Any], now: str) -> list[str]:
    words = {"looping": "run into a loop", "empty": "are empty", "echoing": "repeat the prompt"}
    before, after, items = replies["before"], replies["after"], replies["items"]
    total = items * len(after)
    said = []
    for kind, what in words.items():
        is_ = {code: own[kind] for code, own in after.items()}
        more = {code: is_[code] - before[code][kind] for code in after}
        if sum(is_.values()) > BROKEN_SHARE * total and sum(more.values()) > BROKEN_MARGIN * total:
            was = sum(is_.values()) - sum(more.values())
            found = [f"broken: {sum(is_.values())} of {total} replies {what}, before training {was}"]
        else:  # a mean over all languages would hide a few broken ones
            found = [
                f"broken in {code}: {is_[code]} of {items} replies {what}, before training "
                f"{before[code][kind]}"
                for code in after
                if is_[code] > BROKEN_ALONE * items and more[code] > BROKEN_SHARE * items
            ]
        advice = f"Try a lower learning_rate{now}, fewer steps, or a larger retain_weight"
        said += [f"{own}. {advice}" for own in found]
    return said


def _central(replies: Mapping[str, Any], central: str, now: str) -> list[str]:
    was, is_ = (replies[time][central]["usable"] for time in ("before", "after"))
    if was - is_ <= BROKEN_SHARE * replies["items"]:
        return []
    return [
        f"{is_} of {replies['items']} replies in {central} are usable, before training {was}. Try a larger "
        f"retain_weight, `retain_over: tokens`, or a lower learning_rate{now}"
    ]


def lines(found: Mapping[str, Any], languages: Sequence[str]) -> list[str]:
    """The document as text of `LINE` columns, for a terminal; rows in the order of `languages`."""
    table = _table(found, languages)
    said = [*table, ""] if table else []
    if "losses" in found:
        said += _wrap("", _loss_words(found["losses"]))
    if "weights" in found:
        said += _wrap("weights: ", _weight_words(found["weights"]))
    if "replies" in found:
        replies = found["replies"]
        where = f"{replies['text']}; at most {replies['most_tokens']} tokens each. Read them"
        said += _wrap("replies: ", f"{where}: training/replies.jsonl")
    if "skipped" in found:
        said += _wrap("no replies: ", found["skipped"])
    for warning in found.get("warnings", ()):
        said += _wrap("warning: ", warning)
    return said


def _table(found: Mapping[str, Any], languages: Sequence[str]) -> list[str]:
    """Losses and replies, a row per language."""
    terms = found.get("losses", {}).get("terms", {})
    replies = found.get("replies")
    parts = [part for part in ("separate", "align") if any(name.startswith(part + ".") for name in terms)]
    kinds = {"usable": 9, "off_target": 12, "looping": 7, "echoing": 7, "empty": 7} if replies else {}
    if not (parts or replies):
        return []
    known = replies["before"] if replies else {name.partition(".")[2] for name in terms}
    rows = [code for code in languages if code in known]
    top, second = " " * 6, " " * 6
    for part in parts:
        top += f"{part:>16}"
        second += f"{'first':>8}{'last':>8}"
    if replies:
        top += f"   {'replies, of ' + str(replies['items']) + ': before > after':<42}".rstrip()
        names = {"off_target": "off target", "looping": "loop", "echoing": "echo"}
        second += "".join(f"{names.get(kind, kind):>{width}}" for kind, width in kinds.items())
    return [top, second, *(_row(code, parts, terms, kinds, replies) for code in rows)]


def _row(
    code: str,
    parts: Sequence[str],
    terms: Mapping[str, Sequence[float]],
    kinds: Mapping[str, int],
    replies: Mapping[str, Any] | None,
) -> str:
    line = f"{code:6}"
    for part in parts:
        line += "".join(f"{_number(value):>8}" for value in terms.get(f"{part}.{code}", (None, None)))
    if replies:
        for kind, width in kinds.items():
            was, is_ = (_count(replies[time][code], kind, replies["items"]) for time in ("before", "after"))
            line += f"{f'{was} > {is_}':>{width}}"
    return line


def _count(counts: Mapping[str, int], kind: str, items: int) -> str:
    """A number of replies; a dash for those off target if the language of none could be told."""
    return "–" if kind == "off_target" and counts.get("undetermined") == items else str(counts[kind])


def _loss_words(found: Mapping[str, Any]) -> str:
    whole = [name for name in found["terms"] if "." not in name]
    values = {name: [_number(value) for value in found["terms"][name]] for name in whole}
    words = ", ".join(f"{name} {first} > {last}" for name, (first, last) in values.items())
    size, steps = found["averaged"], found["steps"]
    if steps == 1:
        return f"one step, before which: {', '.join(f'{name} {value[0]}' for name, value in values.items())}"
    mean = "the first and the last" if size == 1 else f"means of the first and the last {size}"
    return f"{words} ({mean} of {steps} steps)"


def _weight_words(found: Mapping[str, Any]) -> str:
    share = found["changed"] / found["trained"]
    off = found["error"] / found["wanted"] if found["wanted"] else 0.0
    rounding = f"rounding is off by {_percent(off)} of the change" if off >= 0.0005 else "no rounding"
    changed = f"{_percent(share)} of the {found['trained']:,} trained differ from the base as written"
    return f"{changed} ({found['dtype']}); {rounding}"


def _percent(share: float) -> str:
    if 0 < share < 0.001:
        return "less than 0.1%"
    return f"{100 * share:.1f}%" if share < 0.0995 else f"{100 * share:.0f}%"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2
    return f"{value:.{digits}f}" if size >= 0.01 or not size else f"{value:.1e}"


def _wrap(label: str, words: str) -> list[str]:
    return textwrap.wrap(label + words, LINE, subsequent_indent="  ", break_on_hyphens=False)
