"""Records without the paths of this machine."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Paths:
    """Takes the paths of this machine out of what is written down, so that results can be published."""

    def __init__(self, names: Mapping[str | Path, str]) -> None:
        pairs = [(os.path.abspath(path), name) for path, name in names.items()]  # noqa: PTH100
        pairs += [(os.path.realpath(path), name) for path, name in names.items()]
        pairs.sort(key=lambda pair: -len(pair[0]))
        self._pairs = dict(pairs)
        # A path ends where a name cannot go on: /a/run must not match in /a/runner.
        self._pattern = re.compile("|".join(re.escape(path) + r"(?![\w.-])" for path in self._pairs))

    def text(self, text: str) -> str:
        """`text` with each known path replaced by its name."""
        return self._pattern.sub(lambda match: self._pairs[match[0]], text)

    def clean(self, value: Any) -> Any:
        """The same for every string in nested dicts, lists and tuples."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.clean(k): self.clean(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.clean(v) for v in value]
        return value
