"""Every number of a comparison as files inside of the page, so that a page sent alone has them too."""

from __future__ import annotations

import base64
import json

from lens_eval.results import tables
from lens_eval.results.compare import Comparison


def downloads(comparison: Comparison) -> list[tuple[str, str]]:
    """Name of each file, and its bytes as an address. `pandas.read_json(orient="split")` reads the JSON."""
    rows = list(tables.rows(comparison))
    columns = list(rows[0]) if rows else []
    split = {
        "columns": columns,
        "index": list(range(len(rows))),
        "data": [list(row.values()) for row in rows],
    }
    files = {
        "table.csv": ("text/csv", tables.to_csv(comparison)),
        "table.json": ("application/json", json.dumps(split, ensure_ascii=False, separators=(",", ":"))),
    }
    return [
        (name, f"data:{kind};base64,{base64.b64encode(text.encode()).decode()}")
        for name, (kind, text) in files.items()
    ]
