"""What is counted of the responses of one language."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from lens_eval.base.statistics import Interval, interval_of_sums
from lens_eval.language.files.response import Response

# Items are told apart by a hash of this many values: memory stays flat however long the input is.
_ITEM_BUCKETS = 2**16
MOST_SOURCES = 64
"""A field of more values does not name data sets: then nothing is counted by source."""


@dataclass
class Tally:
    """Counts for one language asked for. Adding tallies is exact and the order does not matter."""

    items: dict[int, dict[str, int]] = field(default_factory=dict)
    alone: Counter[str] = field(default_factory=Counter)
    lines: Counter[str] = field(default_factory=Counter)
    letters: Counter[str] = field(default_factory=Counter)
    answered_in: Counter[str] = field(default_factory=Counter)
    thinking: Counter[str] = field(default_factory=Counter)
    sources: dict[str, Counter[str]] = field(default_factory=dict)
    too_many_sources: bool = False

    def add(self, outcomes: Iterable[str], item: str | None) -> None:
        """Count one response under each of `outcomes`, as an answer to `item` or as one of its own."""
        counter: dict[str, int] = self.alone
        if item is not None:
            bucket = zlib.crc32(item.encode("utf-8", "replace")) % _ITEM_BUCKETS
            counter = self.items.setdefault(bucket, {})
        for name in ("n", *outcomes):
            counter[name] = counter.get(name, 0) + 1

    def merge(self, other: Tally) -> None:
        for bucket, counter in other.items.items():
            if bucket not in self.items:
                self.items[bucket] = counter.copy()
                continue
            mine = self.items[bucket]
            for name, count in counter.items():
                mine[name] = mine.get(name, 0) + count
        for part in ("alone", "lines", "letters", "answered_in", "thinking"):
            getattr(self, part).update(getattr(other, part))
        self.too_many_sources = self.too_many_sources or other.too_many_sources
        for source, counter in other.sources.items():
            self.sources.setdefault(source, Counter()).update(counter)
        self._bound_sources()

    def add_source(self, source: str | None, outcomes: Iterable[str]) -> None:
        """Count one response under each of `outcomes` for the data set its prompt is from."""
        if source is not None and not self.too_many_sources:
            self.sources.setdefault(source, Counter()).update(("n", *outcomes))
            self._bound_sources()

    def _bound_sources(self) -> None:
        if self.too_many_sources or len(self.sources) > MOST_SOURCES:
            self.too_many_sources = True
            self.sources = {}

    def count(self, name: str = "n") -> int:
        return self.alone[name] + sum(counter.get(name, 0) for counter in self.items.values())

    def interval(self, name: str, of: str = "n") -> Interval:
        """Return the rate of `name` among the responses counted under `of`, clustered by item."""
        clusters = [(c[of], float(c.get(name, 0))) for c in self.items.values() if c.get(of)]
        hits, all_alone = self.alone[name], self.alone[of]
        clusters += [(1, 1.0)] * hits + [(1, 0.0)] * (all_alone - hits)
        return interval_of_sums(clusters)


Scorer = Callable[[Response, Tally], tuple[str, str]]
