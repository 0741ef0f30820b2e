"""What the steered backends share: a steering that fits the model, requests language by language, a command.

Importing this module loads torch and lm_eval.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_eval.api.model import TemplateLM

from lens_eval.base.errors import UserError
from lens_eval.base.terminal import say

if TYPE_CHECKING:
    from lens_train.decoding.decoding import Decoding
    from lens_train.steering.steering import Steering


def load_steering(folder: str | Path, pretrained: str) -> Steering:
    """Read a steering folder that was made for the model `pretrained`.

    Raises:
        UserError: it holds no steering, or one of another model.
    """
    from lens_train.checkpoint import Checkpoint
    from lens_train.steering.steering import Steering

    steering = Steering.load(Path(folder))
    if Checkpoint.open(pretrained).identity["weights_sha256"] != steering.base["weights_sha256"]:
        raise UserError(f"the steering {folder} was made for {steering.base['name']}, not for {pretrained}")
    return steering


def load_decoding(folder: str | Path, pretrained: str) -> Decoding:
    """Read a decoding folder that was made for the model `pretrained`.

    Raises:
        UserError: it holds no decoding, or one of another model.
    """
    from lens_train.checkpoint import Checkpoint
    from lens_train.decoding.decoding import Decoding

    decoding = Decoding.load(Path(folder))
    if Checkpoint.open(pretrained).identity["weights_sha256"] != decoding.base["weights_sha256"]:
        raise UserError(f"the decoding {folder} was made for {decoding.base['name']}, not for {pretrained}")
    return decoding


def lm_eval_command() -> None:
    """Run lm_eval's command line; a mistake of the user's ends with one message and status 2."""
    from lm_eval.__main__ import cli_evaluate

    try:
        cli_evaluate()
    except UserError as error:
        say(f"lens: {error}", err=True)
        sys.exit(2)


class ByLanguage(TemplateLM):
    """Mixed into a backend of lm_eval: where a direction of a language is added, languages do not mix.

    Requests are then answered language by language: that of the request's item (`language` in its doc), or
    `fixed_language` for all.
    """

    steering: Any = None
    """A `Steering`, or a `Decoding`; None = neither."""
    fixed_language: str | None = None

    def steer_towards(self, language: str | None) -> None:
        """Steer what follows towards this language.

        Raises:
            UserError: there is no direction for it.
        """
        raise NotImplementedError

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[Any]:
        """As the backend's own, language by language."""
        return self._by_language(super().loglikelihood, requests, disable_tqdm)

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[Any]:
        """As the backend's own, language by language."""
        return self._by_language(super().loglikelihood_rolling, requests, disable_tqdm)

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[Any]:
        """As the backend's own, language by language."""
        return self._by_language(super().generate_until, requests, disable_tqdm)

    def _by_language(
        self, method: Callable[..., list[Any]], requests: Sequence[Any], quiet: bool
    ) -> list[Any]:
        if self.steering is None or not self.steering.by_language or self.fixed_language:
            return method(list(requests), disable_tqdm=quiet)
        groups: dict[str | None, list[int]] = {}
        for index, request in enumerate(requests):
            groups.setdefault((request.doc or {}).get("language"), []).append(index)
        for language in groups:
            # Before the first answer, not after hours of them.
            self.steering.require_language(language)
        answers: dict[int, Any] = {}
        for language, indices in groups.items():
            self.steer_towards(language)
            found = method([requests[index] for index in indices], disable_tqdm=quiet)
            answers |= dict(zip(indices, found, strict=True))
        return [answers[index] for index in range(len(requests))]
