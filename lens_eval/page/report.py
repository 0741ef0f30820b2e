"""One self-contained HTML page per run: tables, charts, answers side by side, every setting and version.

The page asks nothing of any network and runs no script but its own: a content security policy names that
script and the style sheet by their hashes. Everything that comes from a model, a data set or a recipe goes
through a template that escapes it. The same run gives the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from lens_eval.base import plain_tables
from lens_eval.base.files import write_text
from lens_eval.base.metrics import CORRECTNESS, first_of, label, metric_of
from lens_eval.base.statistics import Interval
from lens_eval.language.languages import LANGUAGES
from lens_eval.page import charts, shown_answers, training_charts
from lens_eval.page.downloads import downloads
from lens_eval.results import findings, tables, training_record
from lens_eval.results.compare import AVERAGE, AVERAGE_ALL, Comparison, Entry, main_metrics
from lens_eval.results.headline import headline
from lens_eval.results.read import Scores

FILE = "report.html"
PAGE = Path(__file__).parent
OUTCOMES = {"central": "central", "other": "other", "undetermined": "unsure"}
"""Parts of an off-target bar: metric and class of its colour."""


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    language: str
    head: str
    name: str
    """The language's name, or what a column that is none holds."""
    kind: str
    """`average`, `central` (set apart) or `plain`."""


@dataclass(frozen=True)
class Shown:
    """A number, how the page writes it, and its interval."""

    value: float
    text: str
    interval: str = ""

    @property
    def sort(self) -> str:
        """What sorting goes by."""
        return f"{self.value:.6g}"


@dataclass(frozen=True)
class Cell:
    """A number of a table, and its difference to the reference where there is one."""

    number: Shown
    difference: Shown | None = None
    mark: str = ""
    trend: str = ""
    """`better`, `worse` or nothing: only where the interval of the difference excludes zero."""


@dataclass(frozen=True)
class Table:
    """One metric of one family: a row per variant."""

    title: str
    hint: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, tuple[Cell | None, ...]], ...]


def to_html(
    comparison: Comparison, scores: Sequence[Scores], training: Mapping[str, Any] | None = None
) -> str:
    """The page.

    Args:
        scores: what the comparison was made of; the answers come from their samples.
        training: what `training_record.collect` returned.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    page = Environment(
        loader=FileSystemLoader(PAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page.filters.update(lines=lines, direction=direction, language_name=language_name, breakable=breakable)
    style, script = (_asset(name) for name in ("report.css", "report.js"))
    answers = shown_answers.choose(comparison, scores)
    checks = findings.check_findings(scores, comparison.reference)
    text = page.get_template("report.html.j2").render(
        comparison=comparison,
        about=_about(comparison.run),
        style=style,
        script=script,
        policy=_policy(style, script),
        headline=headline(comparison),
        summaries=summaries(comparison),
        downloads=downloads(comparison),
        families=[_family(comparison, family) for family in comparison.families],
        off_target=off_target_charts(comparison),
        against=accuracy_charts(comparison),
        checks=[(check, findings.numbers(check)) for check in checks if check.interval is not None],
        checked=len(checks),
        checks_note=findings.NOTE,
        answers=answers,
        per_task=shown_answers.per_task(len({own.task for own in scores})),
        training=training_charts.losses(comparison.variants, training or {}),
        subspaces=training_charts.subspaces(comparison.variants, training or {}),
        costs=costs(comparison.run),
        settings=settings(comparison.run),
        tasks=_tasks(comparison, scores),
        markers=[(name, charts.swatch(number)) for number, name in enumerate(comparison.variants)],
        legend=tables.legend(comparison),
        why_simulated=plain_tables.WHY_SIMULATED,
        hole=tables.HOLE,
    )
    return visible(text)


def write_report(
    path: Path, comparison: Comparison, scores: Sequence[Scores], training: Mapping[str, Any] | None = None
) -> Path:
    """Write the page, in one step."""
    write_text(path, to_html(comparison, scores, training))
    return path


def write_of_run(
    run: Path,
    comparison: Comparison,
    scores: Sequence[Scores],
    models: Mapping[str, Path] | None = None,
    output: Path | None = None,
) -> Path:
    """Write the page of a run, `report.html` in its folder unless `output` says otherwise.

    Args:
        models: folders of the trained variants, where a run has just ended; what the page shows of their
            training is kept in the run's folder, so that later the page is made without them.
    """
    training = training_record.load(run) if models is None else training_record.collect(run, models)
    return write_report(output or run / FILE, comparison, scores, training)


# --- text ------------------------------------------------------------------------------------------

# Controls, direction overrides and invisible tags: shown instead of obeyed. What Arabic and Indic
# writing needs (joiners, direction marks) stays as it is.
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb\ufffe\uffff"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """`text` with control characters as words: `⟦U+202E⟧`."""
    return _CONTROLS.sub(lambda found: f"⟦U+{ord(found[0]):04X}⟧", text)


def lines(text: str) -> list[str]:
    """The lines of `text` that hold anything; one empty line where none does."""
    return [line for line in re.split(r"\r\n|\n|\r", text) if line.strip()] or [""]


def direction(text: str) -> str:
    """`rtl` or `ltr`, whichever most letters of `text` are; `auto` where it has none.

    The first strong letter alone (what `auto` goes by) turns an Arabic sentence that begins with a Latin
    name the wrong way round.
    """
    kinds = [unicodedata.bidirectional(character) for character in text]
    right = sum(kind in ("R", "AL") for kind in kinds)
    left = kinds.count("L")
    if right == left:
        return "auto"
    return "rtl" if right > left else "ltr"


def language_name(code: str) -> str:
    """The English name of a language, or the code as it is."""
    return LANGUAGES[code].name if code in LANGUAGES else code


def breakable(name: str) -> Markup:
    """A name that may go on in the next line behind an underscore or a slash."""
    return Markup(re.sub(r"([_/])(?=.)", r"\1<wbr>", str(escape(name))))


def _asset(name: str) -> Markup:
    text = (PAGE / name).read_text(encoding="utf-8")
    if "</" in text:
        raise ValueError(f"{name} would end its own element")
    return Markup(text)


def _policy(style: str, script: str) -> str:
    hashes = {
        name: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for name, text in (("style", style), ("script", script))
    }
    return (
        f"default-src 'none'; style-src 'sha256-{hashes['style']}'; script-src 'sha256-{hashes['script']}'; "
        "base-uri 'none'; form-action 'none'"
    )


# --- tables ----------------------------------------------------------------------------------------


def summaries(comparison: Comparison) -> list[tuple[str, str, Table]]:
    """Per family its size and one table of its main metrics: the average, or the one language there is, and
    the central language last."""
    return [
        (family, tables.size_line(comparison, family), _summary(comparison, family))
        for family in comparison.families
    ]


def _summary(comparison: Comparison, family: str) -> Table:
    metrics, main = main_metrics(comparison, family), tables.columns(comparison, family)[0]
    where = tables.column_name(comparison, family, main)
    places = [(metric, main) for metric in metrics]
    heads = [Column(main, label(metric), where, "plain") for metric in metrics]
    central = comparison.central[family]
    if central and central != main:
        places.append((metrics[0], central))
        heads.append(Column(central, label(metrics[0]), f"{central} (central)", "central"))
    rows = tuple(
        (variant, tuple(_cell(comparison, family, metric, variant, place) for metric, place in places))
        for variant in comparison.variants
    )
    return Table("At a glance", "", tuple(heads), rows)


def _family(comparison: Comparison, family: str) -> dict[str, Any]:
    main = main_metrics(comparison, family)
    others = [metric for metric in comparison.metrics[family] if metric not in main]
    missing = [hole for hole in comparison.holes if _belongs(hole.task, comparison, family)]
    return {
        "name": family,
        "size": tables.size_line(comparison, family),
        "tables": [table(comparison, family, metric) for metric in main],
        "others": [table(comparison, family, metric) for metric in others],
        "holes": missing,
    }


def _belongs(task: str, comparison: Comparison, family: str) -> bool:
    return task == family or any(task == f"{family}_{code}" for code in comparison.languages[family])


def table(comparison: Comparison, family: str, metric: str) -> Table:
    """One metric of a family with every language: averages first, the central language last and apart."""
    heads = tuple(_columns(comparison, family))
    rows = tuple(
        (variant, tuple(_cell(comparison, family, metric, variant, head.language) for head in heads))
        for variant in comparison.variants
    )
    return Table(label(metric), metric_of(metric).hint, heads, rows)


def _columns(comparison: Comparison, family: str) -> Iterator[Column]:
    central = comparison.central[family]
    for language in tables.columns(comparison, family):
        if language == AVERAGE:
            without = f"without {central}" if central else "all languages"
            yield Column(language, tables.column_name(comparison, family, language), without, "average")
            if any(key[0] == family and key[3] == AVERAGE_ALL for key in comparison.entries):
                count = len(comparison.languages[family])
                yield Column(AVERAGE_ALL, f"average of {count}", f"with {central}", "average")
        else:
            kind = "central" if language == central and language else "plain"
            head = tables.column_name(comparison, family, language)
            yield Column(language, head, language_name(language), kind)


def _cell(comparison: Comparison, family: str, metric: str, variant: str, language: str) -> Cell | None:
    entry = comparison.get(family, metric, variant, language)
    if entry is None:
        return None
    difference = _shown(entry.difference, plain_tables.points) if entry.difference else None
    mark = tables.MARK if entry.differs else ""
    return Cell(_shown(entry.interval, plain_tables.percent), difference, mark, _trend(entry))


def _shown(interval: Interval, write: Callable[[float], str]) -> Shown:
    return Shown(interval.mean, write(interval.mean), plain_tables.bounds(interval, write))


def _trend(entry: Entry) -> str:
    sign = metric_of(entry.metric).sign
    if not entry.differs or entry.difference is None or not sign:
        return ""
    return "better" if sign * entry.difference.mean > 0 else "worse"


# --- charts ----------------------------------------------------------------------------------------


def off_target_charts(comparison: Comparison) -> list[dict[str, Any]]:
    """Per family one panel for the average and one per language: a bar per variant."""
    found = []
    for family in comparison.families:
        metric = first_of(["off_target"], comparison.metrics[family])
        if metric is None:
            continue
        parts = {name: first_of([name], comparison.metrics[family]) for name in OUTCOMES}
        panels = []
        for head in _columns(comparison, family):
            rows = [
                _bar(comparison, family, metric, parts, variant, head.language)
                for variant in comparison.variants
            ]
            drawn = [row for row in rows if row is not None]
            if drawn and head.language != AVERAGE_ALL:
                title = _panel_title(head)
                panels.append((title, charts.bars(f"{family}, off-target, {title}", drawn)))
        found.append({"family": family, "size": tables.size_line(comparison, family), "panels": panels})
    return found


def _panel_title(head: Column) -> str:
    if head.kind == "average":
        return f"{head.head}, {head.name}"
    return f"{head.name} ({head.language})" + (", central" if head.kind == "central" else "")


def _bar(
    comparison: Comparison,
    family: str,
    metric: str,
    parts: Mapping[str, str | None],
    variant: str,
    language: str,
) -> charts.Bar | None:
    entry = comparison.get(family, metric, variant, language)
    if entry is None:
        return None
    shares = []
    for name, own in parts.items():
        part = comparison.get(family, own, variant, language) if own else None
        if part is not None:
            shares.append((OUTCOMES[name], part.interval.mean))
    if len(shares) < len(OUTCOMES):
        shares = [("off", entry.interval.mean)]
    i = entry.interval
    text = plain_tables.percent(i.mean) + (tables.MARK if entry.differs else "")
    return charts.Bar(variant, tuple(shares), i.low, i.high, text)


def accuracy_charts(comparison: Comparison) -> list[tuple[str, Markup]]:
    """Accuracy against off-target: a family's own, or of another family where it has none itself.

    Empty for one variant: a point alone shows nothing.
    """
    if len(comparison.variants) < 2:
        return []
    off = {f: m for f in comparison.families if (m := first_of(["off_target"], comparison.metrics[f]))}
    panels = []
    for family in comparison.families:
        accuracy = first_of(CORRECTNESS, comparison.metrics[family])
        if accuracy is None:
            continue
        for other in [family] if family in off else off:
            points = _points(comparison, (family, accuracy), (other, off[other]))
            if points:
                across = "off-target, %" if other == family else f"off-target in {other}, %"
                title = family if other == family else f"{family} against {other}"
                axes = (f"{across} (less is better)", f"{label(accuracy)}, % (more is better)")
                panels.append((title, charts.scatter(f"{title}: accuracy against off-target", points, axes)))
    return panels


def _points(comparison: Comparison, up: tuple[str, str], across: tuple[str, str]) -> list[charts.Point]:
    """The averages with their intervals and, where both are of one family, every language."""
    main = tables.columns(comparison, up[0])[0], tables.columns(comparison, across[0])[0]
    points = []
    for number, variant in enumerate(comparison.variants):
        places = [(main, variant)]
        if up[0] == across[0] and main[0] == AVERAGE:
            places += [((code, code), "") for code in comparison.languages[up[0]]]
        for (y_language, x_language), name in places:
            y = comparison.get(*up, variant, y_language)
            x = comparison.get(*across, variant, x_language)
            if x is not None and y is not None:
                points.append(_point(number, variant, y_language, name, x, y))
    return points


def _point(number: int, variant: str, language: str, name: str, x: Entry, y: Entry) -> charts.Point:
    shown = f"{variant}, {language}: {tables.cell(y)} against {tables.cell(x)}"
    return charts.Point(
        100 * x.interval.mean,
        100 * y.interval.mean,
        number,
        shown,
        name,
        (100 * x.interval.low, 100 * x.interval.high) if name else None,
        (100 * y.interval.low, 100 * y.interval.high) if name else None,
    )


# --- how it was made -------------------------------------------------------------------------------

_COSTS = {
    "train_seconds": ("training", "s", 1.0, 1),
    "train_tokens": ("tokens trained on", "", 1.0, 0),
    "train_peak_memory_bytes": ("peak memory in training", "MB", 1e6, 0),
    "evaluation_seconds": ("evaluation", "s", 1.0, 1),
}


def costs(run: Mapping[str, Any]) -> Table | None:
    """What each variant took; None where no run of `lens reproduce` says so."""
    if not run.get("costs"):
        return None
    heads = tuple(Column("", name, unit, "plain") for name, unit, _, _ in _COSTS.values())
    rows = []
    for variant, cost in run["costs"].items():
        cells = []
        for key, (_, _, unit, digits) in _COSTS.items():
            value = cost.get(key)
            cells.append(None if value is None else Cell(Shown(value / unit, f"{value / unit:,.{digits}f}")))
        rows.append((variant, tuple(cells)))
    return Table("Costs", "", heads, tuple(rows))


def settings(run: Mapping[str, Any]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Names of the trained variants, and each setting with its value for every one of them."""
    own = {name: cost["settings"] for name, cost in run.get("costs", {}).items() if cost.get("settings")}
    names = sorted({key for each in own.values() for key in each})
    return list(own), [(key, [_setting(each, key) for each in own.values()]) for key in names]


def _setting(values: Mapping[str, Any], key: str) -> str:
    if key not in values:
        return ""
    value = values[key]
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return "none" if value is None else str(value)


def _about(run: Mapping[str, Any]) -> dict[str, Any]:
    """What `run.json` says of the run; nothing of it is there for results of lm_eval itself."""
    from lens_eval.base import settings_files

    recipe, environment = run.get("recipe") or {}, run.get("environment") or {}
    whole = settings_files.write(recipe, width=88) if recipe else ""
    return {
        "recipe": whole,
        "command": run.get("command"),
        "cells": run.get("cells") or [],
        **{key: recipe.get(key) for key in ("description", "backbone", "languages", "central", "limit")},
        "commit": environment.get("commit"),
        "machine": environment.get("machine"),
        "versions": environment.get("versions") or {},
    }


def _tasks(comparison: Comparison, scores: Sequence[Scores]) -> list[Scores]:
    """One variant's results of every task: what all of them have in common."""
    found: dict[str, Scores] = {}
    for own in scores:
        if own.task not in found or own.variant == comparison.reference:
            found[own.task] = own
    return list(found.values())
