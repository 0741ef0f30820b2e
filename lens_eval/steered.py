"""`lens_steered`: lm_eval's hf backend, every forward pass steered (`lens train --method steer`).

`python -m lens_eval.steered ...` is lm_eval's own command with this backend known to it:

    python -m lens_eval.steered --model lens_steered --model_args pretrained=MODEL,steering=FOLDER --tasks ...

Importing this module loads torch and lm_eval's hf backend.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM

from lens_eval.errors import UserError


@register_model("lens_steered")
class SteeredLM(HFLM):
    """lm_eval's `hf` backend, steered.

    Where a direction of a language is added, requests are answered language by language: that of the
    request's item (`language` in its doc), or `language` for all.
    """

    def __init__(self, pretrained: str, steering: str, language: str | None = None, **arguments: Any) -> None:
        """Load model and steering.

        Raises:
            UserError: no steering in the folder `steering`, or one that was made for another model.
        """
        from lens_train.baselines.steer import Steerer, Steering
        from lens_train.layers import model_identity

        found = Steering.load(Path(steering))
        if model_identity(pretrained)["weights_sha256"] != found.base["weights_sha256"]:
            raise UserError(
                f"the steering {steering} was made for {found.base['name']}, not for {pretrained}"
            )
        super().__init__(pretrained=pretrained, **arguments)
        self._steerer = Steerer(self.model, found)
        self._fixed = language
        self._language = language

    def _model_call(self, *args: Any, **kwargs: Any) -> Any:
        with self._steerer.active(self._language):
            return super()._model_call(*args, **kwargs)

    def _model_generate(self, *args: Any, **kwargs: Any) -> Any:
        with self._steerer.active(self._language):
            return super()._model_generate(*args, **kwargs)

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[Any]:
        """As lm_eval's, language by language."""
        return self._by_language(super().loglikelihood, requests, disable_tqdm)

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[Any]:
        """As lm_eval's, language by language."""
        return self._by_language(super().loglikelihood_rolling, requests, disable_tqdm)

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[Any]:
        """As lm_eval's, language by language."""
        return self._by_language(super().generate_until, requests, disable_tqdm)

    def _by_language(
        self, method: Callable[..., list[Any]], requests: Sequence[Any], quiet: bool
    ) -> list[Any]:
        if not self._steerer.steering.by_language or self._fixed:
            return method(list(requests), disable_tqdm=quiet)
        groups: dict[str | None, list[int]] = {}
        for index, request in enumerate(requests):
            groups.setdefault((request.doc or {}).get("language"), []).append(index)
        answers: dict[int, Any] = {}
        for language, indices in groups.items():
            self._language = language
            found = method([requests[index] for index in indices], disable_tqdm=quiet)
            answers |= dict(zip(indices, found, strict=True))
        return [answers[index] for index in range(len(requests))]


def main() -> None:
    """Run lm_eval's command line; a mistake of the user's ends with one message and status 2."""
    from lm_eval.__main__ import cli_evaluate

    try:
        cli_evaluate()
    except UserError as error:
        print(f"lens: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
