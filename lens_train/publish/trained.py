"""Training as everybody calls it: the method, watched by trackers where asked, then the card."""

from __future__ import annotations

from collections.abc import Sequence

from lens_train import methods
from lens_train.job import Job
from lens_train.publish.card import write_card
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
    with tracked(job, report_to if first else ()):
        methods.train(job)
    if first:
        write_card(job.output, fresh=True)
