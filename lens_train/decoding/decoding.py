"""A rule for the next token's logits, chosen by the language of the answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import LogitsProcessor

from lens_eval.base.errors import UserError
from lens_eval.base.reading import parse_json, shaped
from lens_train.files import read_tensors, write_tensors

FILE = "decoding.safetensors"


@dataclass(frozen=True)
class Decoding:
    """Which tokens fit each language, and how much they are preferred (LATB, arXiv 2606.08994).

    Attributes:
        fitting: language -> True for each token that fits it, (vocabulary,).
        bias: added to the logits of tokens that fit.
        margin: it is added where the likeliest token that fits and the likeliest other one differ by at most
            this in probability; 1 = always.
        base: identity of the model whose vocabulary it is.
    """

    fitting: Mapping[str, Tensor]
    bias: float
    margin: float
    base: Mapping[str, str]

    by_language = True

    def require_language(self, language: str | None) -> None:
        """Check that there is a rule for answers in `language`.

        Raises:
            UserError: there is none.
        """
        if language is None or language not in self.fitting:
            raise UserError(
                f"this decoding prefers the tokens of a language, but knows none of {language!r}; "
                f"it has {', '.join(self.fitting)}"
            )

    def change(self, logits: Tensor, language: str) -> Tensor:
        """The logits with the rule applied, (..., vocabulary).

        Raises:
            UserError: there is no rule for `language`.
        """
        self.require_language(language)
        known = self.fitting[language].to(logits.device)[: logits.shape[-1]]
        # Rows of the output matrix beyond the vocabulary are no token, and fit nothing.
        fits = torch.nn.functional.pad(known, (0, logits.shape[-1] - len(known)))
        shares = logits.float().softmax(dim=-1)
        best = shares.masked_fill(~fits, 0.0).amax(dim=-1, keepdim=True)
        other = shares.masked_fill(fits, 0.0).amax(dim=-1, keepdim=True)
        close = (best - other).abs() <= self.margin
        return logits + self.bias * (close & fits).to(logits.dtype)

    def processor(self, language: str) -> LogitsProcessor:
        """For `generate(logits_processor=[...])` of transformers.

        Raises:
            UserError: there is no rule for `language`.
        """
        self.require_language(language)
        return _Processor(self, language)

    def save(self, folder: Path) -> None:
        """Write `decoding.safetensors`; numbers and base stand in its header."""
        record = {"bias": self.bias, "margin": self.margin, "base": dict(self.base), "format": 1}
        write_tensors(folder / FILE, dict(self.fitting), {"decoding": json.dumps(record, sort_keys=True)})

    @staticmethod
    def load(folder: Path) -> Decoding:
        """Read a folder.

        Raises:
            UserError: it holds no decoding.
        """
        try:
            fitting, metadata = read_tensors(folder / FILE, "file of a decoding")
            with shaped(folder / FILE, "file of a decoding"):
                record = parse_json(metadata["decoding"], str(folder / FILE))
                bias, margin = float(record["bias"]), float(record["margin"])
                found = Decoding(fitting, bias, margin, dict(record["base"]))
                if any(tokens.dtype != torch.bool or tokens.ndim != 1 for tokens in fitting.values()):
                    raise ValueError("a language without a row of yes and no")
        except UserError as error:
            raise UserError(
                f"{folder} holds no decoding ({error}); make it with `lens train --method bias`"
            ) from None
        return found


class _Processor(LogitsProcessor):
    def __init__(self, decoding: Decoding, language: str) -> None:
        self._decoding, self._language = decoding, language

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The scores of the next token of each row, (rows, vocabulary)."""
        return self._decoding.change(scores, self._language)
