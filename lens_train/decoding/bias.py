"""`bias`: while decoding, tokens of the wanted language's scripts are preferred (LATB, arXiv 2606.08994).

Nothing is trained: the tokens are sorted by their characters. The rule cannot tell two languages of one
script apart.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

from lens_eval.base.errors import UserError
from lens_eval.base.terminal import say
from lens_train import methods
from lens_train.checkpoint import Checkpoint
from lens_train.decoding.decoding import Decoding
from lens_train.decoding.tokens import fitting, groups_of
from lens_train.job import Job, Variant


@dataclass(frozen=True)
class BiasSettings:
    """How much, and when."""

    bias: float = 5.0
    """Added to the logits of tokens that fit; the paper's is 5."""
    margin: float = 0.8
    """It is added where the likeliest token that fits and the likeliest other one differ by at most this in
    probability; the paper's is 0.8. 1 = always."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            UserError: the bias is 0, or the margin is no difference of probabilities.
        """
        if not self.bias:
            raise UserError("this decoding would change nothing: set bias to another number than 0")
        if not 0 <= self.margin <= 1:
            raise UserError(f"margin is {self.margin}; it must be from 0 to 1")


def check(job: Job) -> None:
    """Refuse what cannot work.

    Raises:
        UserError: a setting is wrong, or all languages are written in one script.
    """
    methods.read_settings(BiasSettings, job.settings, job.method)
    if len({groups_of(code) for code in job.languages}) < 2:
        raise UserError(
            f"bias prefers the script of a language, and {', '.join(job.languages)} have the same one; "
            "use a method that steers or trains"
        )


def alike(languages: tuple[str, ...], central: str) -> list[str]:
    """Languages that the rule cannot tell from the central one."""
    return [code for code in languages if code != central and groups_of(code) & groups_of(central)]


def train(job: Job) -> None:
    """Sort the vocabulary by script and write the folder to `job.output`.

    Raises:
        UserError: see `check`.
    """
    check(job)
    begun = time.perf_counter()
    settings = methods.read_settings(BiasSettings, job.settings, job.method)
    checkpoint = Checkpoint.open(job.model)
    identity, tokenizer = checkpoint.identity, checkpoint.tokenizer
    tokens = {code: fitting(tokenizer, code) for code in job.languages}
    methods.begin(job)
    Decoding(tokens, settings.bias, settings.margin, identity).save(job.output)
    same = alike(job.languages, job.central)
    if same:
        say(f"bias cannot tell {', '.join(same)} from {job.central}: they share a script")
    Variant.untrained(
        job,
        "decoding",
        identity,
        asdict(settings),
        {
            "items": 0,
            "fitting_tokens": {code: int(own.sum()) for code, own in tokens.items()},
            "not_told_from_central": same,
        },
        begun,
    ).save(job.output)
