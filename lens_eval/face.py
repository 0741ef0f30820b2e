"""Results folders in Python: read, compared, shown as a page, by functions that `lens_eval` hands out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lens_eval.page.report import write_report
from lens_eval.results.compare import Comparison
from lens_eval.results.compare import compare as compare_scores
from lens_eval.results.read import Loaded, load


def load_results(*folders: str | Path) -> Loaded:
    """Read results folders: of `lens reproduce`, `lens eval`, or of lm_eval itself.

    `NAME=FOLDER` names the variant of a folder that holds one.

    Raises:
        UserError: no such folder, no results in it, or a file that is corrupt, cut short or foreign.
    """
    return load(folders)


def compare(results: Loaded, reference: str | None = None, allow: Iterable[str] = ()) -> Comparison:
    """Set variants side by side, item by item, with intervals and differences.

    Args:
        reference: the variant that differences are taken to; `backbone` where there is one, else the first.
        allow: what may differ between results: `items`, `prompts`, `shots`, `version`, `generation`.

    Raises:
        UserError: nothing to compare, an unknown reference, or results that do not compare (says why).
    """
    name = str(results.run.get("name", ""))
    return compare_scores(
        results.scores, reference=reference, name=name, holes=results.holes, run=results.run, allow=allow
    )


def write_page(path: str | Path, comparison: Comparison, results: Loaded) -> Path:
    """Write the comparison as one HTML page with its answers; returns its path."""
    return write_report(Path(path), comparison, results.scores)
