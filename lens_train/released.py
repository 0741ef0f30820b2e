"""What `compat: official` repeats of the released code; the one place that knows it.

Everything else asks a value of the protocol that a config names. docs/paper_to_code.md says why the defaults
depart from the release in these points.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_PROBE_SYSTEM = "You are a helpful assistant."
_TRAIN_SYSTEM = ""


@dataclass(frozen=True)
class Protocol:
    """Where the released code goes another way; by default, the way of this project."""

    measures_in_units: bool = True
    """States can be measured in units of their layer."""
    passes: int | None = None
    """Passes over the training items where no number is given; None: this project's."""
    rate: float | None = None
    """Learning rate where none is given; None: by the width of the states."""
    cut_after: bool = False
    """A prompt is cut after it went through the template, not before."""
    own_systems: bool = False
    """Probing has a system message of its own, whatever is given for training."""
    probes_in_rounds: bool = True
    """Probing can end before all items are in."""
    reads_last_column: bool = False
    """Probing reads the last column of a padded batch: of shorter prompts, a padding token."""
    whole_last_step: bool = True
    """A warm-up leaves at least the last step its whole rate."""

    def system(self, stage: str, given: str | None) -> str | None:
        """The system message of a stage (`probe`, `train`) where the config gives `given`."""
        if not self.own_systems:
            return given
        if stage == "probe":
            return _PROBE_SYSTEM
        # The release trains Llama with an empty system message, Phi with the one it probes with.
        return _TRAIN_SYSTEM if given is None else given


PROTOCOLS: Mapping[str | None, Protocol] = {
    "official": Protocol(
        measures_in_units=False,
        passes=1,
        rate=1e-5,
        cut_after=True,
        own_systems=True,
        probes_in_rounds=False,
        reads_last_column=True,
        whole_last_step=False,
    ),
    None: Protocol(),
}
"""By the setting `compat`."""
