"""Rows of column files: Parquet, and Arrow as `datasets` saves it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lens_eval.base.errors import UserError
from lens_eval.language.files.response import Broken

ENDINGS = (".parquet", ".arrow")
_BATCH = 1024


class ColumnRows:
    """The rows of a Parquet or Arrow file, each with its number from 1, read by batches.

    Raises:
        UserError: the file cannot be read, or is none.
    """

    dialect = ""
    invalid_utf8 = 0
    first_invalid_utf8: int | None = None

    def __init__(self, path: str, name: str) -> None:
        import pyarrow  # type: ignore[import-untyped]

        self.name, self.position = name, 0
        self.kind = Path(path).suffix.lower().removeprefix(".")
        self.ended: Broken | None = None
        try:
            self._size = Path(path).stat().st_size
            self._source = pyarrow.OSFile(path)
            self._total, self._batches = _batches(self._source, self.kind)
        except OSError as error:
            raise UserError(f"cannot read {name}: {error.strerror or error}") from None
        except pyarrow.ArrowException as error:
            raise UserError(f"{name} is no {self.kind} file, or is cut short: {_line(error)}") from None

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any] | str]]:
        import pyarrow

        number = 0
        try:
            for batch in self._batches:
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
                self.position = self._size * number // max(self._total, number, 1)
        except (OSError, pyarrow.ArrowException, UnicodeDecodeError) as error:
            self.ended = Broken(self.name, number + 1, f"cannot be read on: {_line(error)}")
        self.position = self._size

    def close(self) -> None:
        self._source.close()


def _batches(source: Any, kind: str) -> tuple[int, Iterator[Any]]:
    """Number of rows (0 if the file does not say), and the batches."""
    import pyarrow
    from pyarrow import ipc, parquet

    if kind == "parquet":
        file = parquet.ParquetFile(source)
        return file.metadata.num_rows, file.iter_batches(_BATCH)
    try:
        table = ipc.open_file(source)
    except pyarrow.ArrowInvalid:
        source.seek(0)
        return 0, iter(ipc.open_stream(source))
    return 0, (table.get_batch(place) for place in range(table.num_record_batches))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
