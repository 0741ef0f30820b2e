r"""`lens_decoded`: lm_eval's hf backend, replies written under a decoding (`lens train --method bias`).

`python -m lens_eval.backends.decoded ...` is lm_eval's own command with this backend known to it:

    python -m lens_eval.backends.decoded --model lens_decoded \
        --model_args pretrained=MODEL,decoding=FOLDER --tasks ...

Scores of given options are those of the model: a decoding only chooses what is written.
Importing this module loads torch and lm_eval's hf backend.
"""

from __future__ import annotations

from typing import Any

from lm_eval.api.registry import register_model

from lens_eval.backends.hf import GreedyRows
from lens_eval.backends.steering import ByLanguage, lm_eval_command, load_decoding


@register_model("lens_decoded")
class DecodedLM(ByLanguage, GreedyRows):
    """The hf backend, each reply under the rule of its item's language, or of `language` for all."""

    def __init__(self, pretrained: str, decoding: str, language: str | None = None, **arguments: Any) -> None:
        """Load model and decoding.

        Raises:
            UserError: no decoding in the folder, or one that was made for another model.
        """
        self.steering = load_decoding(decoding, pretrained)
        super().__init__(pretrained=pretrained, **arguments)
        self.fixed_language = self._language = language

    def steer_towards(self, language: str | None) -> None:
        """Write what follows in this language."""
        self._language = language

    def _model_generate(self, *args: Any, **kwargs: Any) -> Any:
        from transformers import LogitsProcessorList

        assert self.steering is not None
        rule = self.steering.processor(str(self._language))
        # With a processor among the settings the replies are written by transformers' own `generate`.
        return super()._model_generate(*args, **kwargs, logits_processor=LogitsProcessorList([rule]))


if __name__ == "__main__":
    lm_eval_command()
