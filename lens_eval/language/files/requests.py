"""Requests that lie in another file than their replies, as those of a batch API do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lens_eval.base.errors import UserError
from lens_eval.language.files.text_rows import TextRows

ID = "custom_id"
"""Field by which a batch's replies are joined to its requests: their order may differ."""
FIELD = "request"
"""Field of the joined row that holds the whole request."""
_SHOWN = 60


class Requests:
    """Requests by their `custom_id`, all in memory.

    Args:
        path: a batch input file, or any JSONL, CSV or TSV with a column `custom_id`.

    Raises:
        UserError: the file cannot be read, a row has no `custom_id`, or two have the same.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._rows: dict[str, Mapping[str, Any]] = {}
        rows = TextRows(path, path)
        try:
            for line, row in rows:
                self._add(line, row)
        finally:
            rows.close()
        if rows.ended:
            raise UserError(f"{path}, line {rows.ended.line}: {rows.ended.reason}")
        if not self._rows:
            raise UserError(f"{path} holds no request; one JSON object a line is needed, with a {ID}")

    def _add(self, line: int, row: Mapping[str, Any] | str) -> None:
        if isinstance(row, str):
            raise UserError(f"{self.path}, line {line}: {row}")
        name = row.get(ID)
        if name in (None, ""):
            fields = ", ".join(map(str, row)) or "(none)"
            raise UserError(f"{self.path}, line {line}: no {ID}; the row has the fields {fields}")
        if str(name) in self._rows:
            raise UserError(f"{self.path}, line {line}: the {ID} {str(name)[:_SHOWN]!r} stands there twice")
        self._rows[str(name)] = row

    def join(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The row with its request as the field `request`.

        Raises:
            ValueError: the row has no `custom_id`, or there is no such request.
        """
        name = row.get(ID)
        if name in (None, ""):
            raise ValueError(f"no {ID}, by which a request is found")
        request = self._rows.get(str(name))
        if request is None:
            raise ValueError(f"{self.path} has no request with the {ID} {str(name)[:_SHOWN]!r}")
        return {**row, FIELD: request}
