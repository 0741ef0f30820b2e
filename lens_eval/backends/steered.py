r"""`lens_steered`: the backend `lens_hf`, every forward pass steered (`lens train --method steer`).

`python -m lens_eval.backends.steered ...` is lm_eval's own command with this backend known to it:

    python -m lens_eval.backends.steered --model lens_steered \
        --model_args pretrained=MODEL,steering=FOLDER --tasks ...

Importing this module loads torch and lm_eval's hf backend.
"""

from __future__ import annotations

from typing import Any

from lm_eval.api.registry import register_model

from lens_eval.backends.hf import GreedyRows
from lens_eval.backends.steering import ByLanguage, lm_eval_command, load_steering


@register_model("lens_steered")
class SteeredLM(ByLanguage, GreedyRows):
    """The `lens_hf` backend, steered.

    Where a direction of a language is added, requests are answered language by language: that of the
    request's item (`language` in its doc), or `language` for all.
    """

    def __init__(self, pretrained: str, steering: str, language: str | None = None, **arguments: Any) -> None:
        """Load model and steering.

        Raises:
            UserError: no steering in the folder `steering`, or one that was made for another model.
        """
        from lens_train.steering.steering import Steerer

        self.steering = load_steering(steering, pretrained)
        super().__init__(pretrained=pretrained, **arguments)
        self._steerer = Steerer(self.model, self.steering)
        self.fixed_language = self._language = language

    def steer_towards(self, language: str | None) -> None:
        """Steer what follows towards this language."""
        self._language = language

    def _model_call(self, *args: Any, **kwargs: Any) -> Any:
        with self._steerer.active(self._language):
            return super()._model_call(*args, **kwargs)

    def _model_generate(self, *args: Any, **kwargs: Any) -> Any:
        with self._steerer.active(self._language):
            return super()._model_generate(*args, **kwargs)


if __name__ == "__main__":
    lm_eval_command()
