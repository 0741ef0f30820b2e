"""What `compat: official` repeats from the released code. Only this module knows it.

All other code reads values of the protocol that a config names. docs/paper_to_code.md says why the defaults
depart from the released code in these points.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_PROBE_SYSTEM = "You are a helpful assistant."
_TRAIN_SYSTEM = ""


@dataclass(frozen=True)
class Protocol:
    """The points in which the released code differs from this project; the defaults are this project's."""

    measures_in_units: bool = True
    """States can be measured in units of their layer."""
    passes: int | None = None
    """Passes over the training items if the config gives no number; None: this project's default."""
    rate: float | None = None
    """Learning rate if the config gives none; None: computed from the width of the hidden states."""
    cut_after: bool = False
    """A prompt is cut after templating, not before."""
    own_systems: bool = False
    """Probing uses its own system message, whatever the config gives for training."""
    probes_in_rounds: bool = True
    """Probing can end before all items are probed."""
    reads_last_column: bool = False
    """Probing reads the last column of a padded batch; for shorter prompts that is a padding token."""
    whole_last_step: bool = True
    """At least the last step has the full learning rate, however long the warm-up."""

    def system(self, stage: str, given: str | None) -> str | None:
        """The system message of a stage (`probe`, `train`) if the config gives `given`."""
        if not self.own_systems:
            return given
        if stage == "probe":
            return _PROBE_SYSTEM
        # The released code trains Llama with an empty system message, and Phi with its probing message.
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
"""Value of the setting `compat` -> protocol."""
