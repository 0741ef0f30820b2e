"""Results as Markdown for a card: of one variant beside its reference, or of a whole run."""

from __future__ import annotations

from dataclasses import replace

from lens_eval.base.metrics import label
from lens_eval.base.plain_tables import SIMULATED, markdown_cell
from lens_eval.base.project import VERSION
from lens_eval.results import tables
from lens_eval.results.compare import Comparison, main_metrics
from lens_eval.results.headline import headline


def of_variant(comparison: Comparison, variant: str) -> str:
    """The results of one variant and of what it is compared with: a table per task, a line per number."""
    names = tuple(dict.fromkeys((comparison.reference, variant)))
    own = replace(
        comparison,
        variants=names,
        entries={key: entry for key, entry in comparison.entries.items() if key[2] in names},
        rivals={},
    )
    lines = ["## Results", "", *_said(own)]
    for family in own.families:
        columns = tables.columns(own, family)
        heads = [tables.column_name(own, family, column) for column in columns]
        lines += [f"**{markdown_cell(family)}**, {tables.size_line(own, family)}", ""]
        lines += [
            "| % | | " + " | ".join(map(markdown_cell, heads)) + " |",
            "|---|---" + "|---:" * len(heads) + "|",
        ]
        for metric in main_metrics(own, family):
            for name in names:
                cells = [tables.cell(own.get(family, metric, name, column)) for column in columns]
                row = [label(metric), name, *cells]
                lines.append("| " + " | ".join(map(markdown_cell, row)) + " |")
        lines.append("")
    return "\n".join(
        [*lines, " ".join(tables.legend(own)), "", f"Measured with lens-multilingual {VERSION}."]
    )


def of_results(comparison: Comparison) -> str:
    """A card of a run: what happened, its summaries, and how it was made."""
    simulated = " (simulated)" if comparison.simulated else ""
    lines = [f"# {markdown_cell(comparison.name or 'Comparison')}{simulated}", "", *_said(comparison)]
    if comparison.simulated:
        lines += [f"{SIMULATED[0].upper() + SIMULATED[1:]}.", ""]
    description = (comparison.run.get("recipe") or {}).get("description")
    if description:
        lines += [markdown_cell(str(description)), ""]
    for family in comparison.families:
        found = tables.summary(comparison, family) or _tables(comparison, family)
        lines += [f"## {markdown_cell(family)}", "", f"{tables.size_line(comparison, family)}.", "", *found]
    lines += [" ".join(tables.legend(comparison)), ""]
    if comparison.holes:
        lines += ["Missing: " + "; ".join(f"{h.variant}, {h.task}" for h in comparison.holes) + ".", ""]
    environment = comparison.run.get("environment") or {}
    versions = ", ".join(f"{name} {version}" for name, version in (environment.get("versions") or {}).items())
    made = [part for part in (environment.get("machine"), versions) if part]
    return (
        "\n".join([*lines, *([f"Made on: {markdown_cell('; '.join(made))}."] if made else [])]).rstrip()
        + "\n"
    )


def _said(comparison: Comparison) -> list[str]:
    said = headline(comparison)
    return [f"**{markdown_cell(said)}**", ""] if said else []


def _tables(comparison: Comparison, family: str) -> list[str]:
    found = []
    for metric in main_metrics(comparison, family):
        found += [f"### {label(metric)}, %", "", *tables.markdown_table(comparison, family, metric), ""]
    return found
