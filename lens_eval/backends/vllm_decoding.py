"""A decoding inside vLLM: `lens train --method bias` as a logits processor of its engine.

The engine is started with the processor and the folder, and each request names its language:

    LLM(MODEL, logits_processors=["lens_eval.backends.vllm_decoding:LanguageRule"],
        additional_config={"lens_decoding": FOLDER})
    SamplingParams(extra_args={"lens_language": "sw"})

A request without a language is answered as otherwise. The folder is the engine's, not the request's, because
a request can come from anybody. The entry points of vLLM's plug-ins are not used: such a processor would be
loaded into every engine of the environment, also into those that have no folder.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import AdapterLogitsProcessor

from lens_eval.backends.vllm_limits import FOLDER, LANGUAGE
from lens_train.decoding.decoding import Decoding


class LanguageRule(AdapterLogitsProcessor):
    """Applies the rule of each request's language to the logits of its next token."""

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Refuse a language that is no text; vLLM turns the error into its answer to the request."""
        language = _language(sampling_params)
        if language is not None and not isinstance(language, str):
            raise ValueError(f"{LANGUAGE} must be the code of a language, not {language!r}")

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        """Read the folder that the engine was started with."""
        super().__init__(vllm_config, device, is_pin_memory)
        self._decoding = Decoding.load(Path(vllm_config.additional_config[FOLDER]))

    def is_argmax_invariant(self) -> bool:
        """Greedy replies change, too."""
        return False

    def new_req_logits_processor(
        self, params: SamplingParams
    ) -> Callable[[list[int], Tensor], Tensor] | None:
        """The rule of a request; None where it names no language, or one without a rule."""
        language = _language(params)
        if language not in self._decoding.fitting:
            return None
        return lambda _output, logits: self._decoding.change(logits, language)


def _language(params: SamplingParams) -> Any:
    return (params.extra_args or {}).get(LANGUAGE)
