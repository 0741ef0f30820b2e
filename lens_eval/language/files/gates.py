"""Limits that the rates of every language must keep: for a check that stops a change."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lens_eval.base.errors import UserError
from lens_eval.base.metrics import label
from lens_eval.language.files.tally import Tally

RATES = ("off_target", "undetermined", "loop")
"""Rates that can have a limit; option of `lens score`: --fail-above, --max-undetermined, --fail-loops."""


@dataclass(frozen=True)
class Gate:
    """One limit: the rate of no language may be higher."""

    rate: str
    """One of `RATES`."""
    percent: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.percent) and 0 <= self.percent <= 100):
            raise UserError(f"the limit of {label(self.rate)} is {self.percent}; give a percentage, 0 to 100")


def failures(gates: Sequence[Gate], languages: Mapping[str, Tally]) -> list[str]:
    """Each rate that is over its limit, in words; empty if every language keeps every limit.

    A rate over nothing judged keeps no limit: neither one without a response, nor the share off target where
    no response's language could be told.
    """
    found = []
    for gate in gates:
        name = label(gate.rate)
        if not languages:
            found.append(f"{name}: there is no response")
        for code, tally in sorted(languages.items()):
            n, hits = tally.count(), tally.count(gate.rate)
            if gate.rate == "off_target" and tally.count("undetermined") == n:
                found.append(f"{name} of {code}: none of {n} could be judged")
            elif 100 * hits > gate.percent * n:
                found.append(f"{name} of {code} is {100 * hits / n:.1f}% > {gate.percent:g}% ({hits} of {n})")
    return found
