"""Training as everybody calls it: the method, watched by trackers where asked, then the card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lens_eval.base.files import lock
from lens_eval.base.reading import read_object, read_text
from lens_train import methods
from lens_train.job import VARIANT_FILE, Job
from lens_train.publish.base_files import CARD
from lens_train.publish.card import is_ours, write_card
from lens_train.watch.trackers import tracked


def train(job: Job, report_to: Sequence[str] = ()) -> None:
    """Check `job`, run its method, and write the model card of the folder.

    Args:
        report_to: trackers that get the losses while they are logged, and the replies counted before and
            after: `tensorboard`, `wandb`, `trackio` and others that accelerate knows.

    Raises:
        UserError: a method, setting or tracker is unknown, a setting has the wrong type, a tracker's package
            is not installed, or the output folder holds something else; nothing has been written then.
    """
    first = methods.process() == 0
    if first and _lacks_its_card(job):
        with lock(job.output):  # as the training held it, whose own lock may have outlived it
            _remove_states(job.output)
            write_card(job.output, fresh=True)
        return
    with tracked(job, report_to if first else ()):
        methods.train(job)
    if first:
        write_card(job.output, fresh=True)


def _lacks_its_card(job: Job) -> bool:
    """Whether this job was stopped in its last steps: the variant is finished, and its card is missing."""
    record, card = job.output / methods.JOB_FILE, job.output / CARD
    if not (job.output / VARIANT_FILE).is_file() or not record.is_file():
        return False
    written = card.is_file() and is_ours(read_text(card))
    return not written and read_object(record, "description of a run") == methods.describe(job)


def _remove_states(output: Path) -> None:
    """Remove what a finished training would have removed itself."""
    from lens_train import lens
    from lens_train.baselines import tuning

    lens.remove_states(output / "training")
    tuning.remove_states(output)
