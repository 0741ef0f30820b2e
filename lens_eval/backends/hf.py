"""`lens_hf`: lm_eval's hf backend in less time and memory, with loops that end.

`python -m lens_eval.backends.hf ...` is lm_eval's own command with this backend known to it:

    python -m lens_eval.backends.hf --model lens_hf --model_args pretrained=MODEL,stop_loops=False --tasks ...

`lens eval` and recipes use it for the backend hf. Importing this module loads torch and lm_eval's hf backend.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM
from tqdm import tqdm

from lens_eval.backends.steering import lm_eval_command
from lens_eval.base.errors import UserError

Request = tuple[tuple[str, str], list[int], list[int]]
"""Of lm_eval: context and continuation as texts, as token ids."""


class ScoredEnds(HFLM):
    """Mixed into lm_eval's hf backend: the same scores of continuations, from fewer logits.

    The bare backend computes the logits of all positions of a batch and normalizes them. With a vocabulary of
    262,144 tokens and 8 prompts of 500 tokens these are two tensors of 4 GB, of which one position in a
    hundred is read. Here a batch has logits from the first scored position of its rows on, and as many rows
    as `lens_train.generation.batch_memory` holds, up to the batch size.
    """

    _positions: int | None = None
    """Last positions of a batch whose logits are needed; None = all."""

    def _loglikelihood_tokens(
        self, requests: list[Request], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        """Log-likelihood of each continuation, and whether it is the greedy one."""
        if override_bs is not None or not self._scores_ends():
            return super()._loglikelihood_tokens(requests, disable_tqdm, override_bs)
        found: dict[int, tuple[float, bool]] = {}
        label = "Running loglikelihood requests"
        with tqdm(total=len(requests), disable=disable_tqdm or self.rank != 0, desc=label) as bar:
            for batch in self._batches(requests):
                self._positions = batch.positions
                try:
                    own = [requests[place] for place in batch.places]
                    scores = super()._loglikelihood_tokens(own, True)
                finally:
                    self._positions = None
                found |= dict(zip(batch.places, scores, strict=True))
                bar.update(len(batch.places))
        return [found[place] for place in range(len(requests))]

    def _scores_ends(self) -> bool:
        from lens_train.generation import computes_last_logits

        # A batch size of `auto` is looked for by lm_eval, with all logits.
        fixed = isinstance(self.batch_size, int)
        plain = self.backend == "causal" and fixed and self.logits_cache
        return plain and runs_alone(self) and computes_last_logits(self.model)

    def _batches(self, requests: Sequence[Request]) -> Iterator[_Batch]:
        """Requests in batches, the longest rows first; requests that share a row are in one batch."""
        from lens_train.generation import batch_memory, logits_bytes

        rows: dict[tuple[int, ...], list[int]] = {}
        for place, (_, context, continuation) in enumerate(requests):
            rows.setdefault((*context, *continuation[:-1]), []).append(place)
        most = batch_memory(self.device) // logits_bytes(self.model)
        batch = _Batch([], 0, 0, 0)
        for row in sorted(rows, key=lambda row: (-len(row), row)):
            length = min(len(row), self.max_length)
            scored = max(len(requests[place][2]) for place in rows[row])
            wider = batch.with_row(rows[row], length, scored)
            if batch.rows and (wider.rows > self.batch_size or wider.rows * wider.positions > most):
                yield batch
                wider = _Batch([], 0, 0, 0).with_row(rows[row], length, scored)
            batch = wider
        if batch.rows:
            yield batch

    def _model_call(self, inps: torch.Tensor, *positional: Any, **arguments: Any) -> torch.Tensor:
        """Logits of the last `_positions` positions: (rows, positions, vocabulary)."""
        if self._positions is None:
            return super()._model_call(inps, *positional, **arguments)
        with (
            torch.no_grad(),
            torch.autocast(
                device_type=self.device.type,
                dtype=self.mixed_precision_dtype,
                enabled=self.mixed_precision_dtype is not None,
            ),
        ):
            logits: torch.Tensor = self.model(inps, logits_to_keep=self._positions).logits
            return logits


@dataclass(frozen=True)
class _Batch:
    """Requests that are scored with one pass."""

    places: list[int]
    rows: int
    longest: int
    """Tokens of the longest row, which the others are padded to on the right."""
    positions: int
    """Last positions of the padded rows among which all scored ones are."""

    def with_row(self, places: list[int], length: int, scored: int) -> _Batch:
        """The batch with one more row, which is not longer than its longest."""
        longest = self.longest or length
        positions = max(self.positions, longest - length + scored)
        return _Batch([*self.places, *places], self.rows + 1, longest, min(positions, longest))


def runs_alone(lm: HFLM) -> bool:
    """Whether a process may run the model as often as it likes; those that share one run it equally often."""
    kind = str(getattr(getattr(lm, "accelerator", None), "distributed_type", ""))
    return not any(name in kind for name in ("FSDP", "DEEPSPEED", "MEGATRON"))


class GreedyRows(ScoredEnds):
    """Mixed into lm_eval's hf backend: greedy replies row by row, the same text.

    - The output matrix is handed contiguous states: on a CPU a frozen one in bfloat16 would otherwise be
      copied once per row.
    - A row that has come to its end or to a stop sequence leaves the batch; the bare backend computes all of
      them until the last one has ended.
    - With `stop_loops`, a row that has fallen into a loop (see `lens_train.generation`) leaves too: it
      is written on to the limit of tokens, as the model does unless it finds a way out.

    Settings of `generation_config.json` that change greedy replies, a `repetition_penalty` for instance, are
    switched off, as vLLM does by not reading them; those in the generation settings of a task or run count.

    Sampled replies, beams, encoder-decoders and the like take the bare backend's way. Logits that are no
    numbers are an error on every way.

    An adapter that was saved with a tokenizer or a chat template, as TRL does, is evaluated with these.
    """

    def __init__(self, *positional: Any, stop_loops: bool = True, **arguments: Any) -> None:
        """Load the model.

        Raises:
            UserError: `stop_loops` is neither true nor false.
        """
        from lens_train.checkpoint import download, has_tokenizer, wear_template
        from lens_train.generation import keep_contiguous, weights_alone

        if not isinstance(stop_loops, bool):
            raise UserError(f"stop_loops must be true or false, not {stop_loops!r}")
        adapter = arguments.get("peft")
        if adapter:
            folder = Path(adapter) if Path(adapter).is_dir() else download(adapter)
            arguments["peft"] = str(folder)
            if has_tokenizer(folder):
                arguments.setdefault("tokenizer", str(folder))
        super().__init__(*positional, **arguments)
        if adapter and not arguments.get("tokenizer"):
            wear_template(self.tokenizer, folder)
        self.stop_loops = stop_loops
        weights_alone(self.model)
        if self.model.get_output_embeddings() is not None:
            keep_contiguous(self.model)

    def _create_model(self, pretrained: str, *positional: Any, **arguments: Any) -> None:
        """Load the model and its adapter, whole and from safetensors alone.

        Raises:
            UserError: a tensor of model or adapter is missing, is not used, or does not fit.
        """
        from lens_train.loading import Whole, adapter_weights, load_adapter

        adapter = arguments.pop("peft", None)
        if adapter:
            adapter_weights(Path(adapter))
        auto: Any = self.AUTO_MODEL_CLASS  # type: ignore[has-type]
        self.AUTO_MODEL_CLASS = Whole(auto)
        try:
            super()._create_model(pretrained, *positional, **arguments)
        finally:
            self.AUTO_MODEL_CLASS = auto
        if adapter:
            bare: Any = self._model  # type: ignore[has-type]
            self._model = load_adapter(bare, Path(adapter))

    def _model_generate(self, context: Any, max_length: int, stop: list[str], **settings: Any) -> Any:
        """Prompts and replies, (rows, tokens), padded on the right."""
        from transformers import LogitsProcessorList

        from lens_train.generation import RequireNumbers, end_tokens, reply_rows, unrolled

        mask = settings.get("attention_mask")
        if mask is None or not self._takes_rows(settings):
            checked = LogitsProcessorList([*settings.pop("logits_processor", ()), RequireNumbers()])
            return super()._model_generate(
                context, max_length=max_length, stop=stop, logits_processor=checked, **settings
            )
        limit = max_length - context.shape[1]
        ends = end_tokens(self.model, self.tokenizer)
        pad = self.tokenizer.pad_token_id
        whole = torch.full((len(context), max_length), pad, device=context.device)
        whole[:, : context.shape[1]] = context
        stopped = _StopSequences(self.tokenizer, stop)
        with torch.autocast(
            device_type=self.device.type,
            dtype=self.mixed_precision_dtype,
            enabled=self.mixed_precision_dtype is not None,
        ):
            for row, reply in reply_rows(
                self.model, context, mask, limit, ends, stop_loops=self.stop_loops, stop=stopped
            ):
                tokens = reply.tokens if reply.ended else unrolled(reply, limit)
                tokens = [*tokens, *ends[:1]][:limit] if reply.ended else tokens
                begin = context.shape[1]
                whole[row, begin : begin + len(tokens)] = torch.tensor(
                    tokens, dtype=whole.dtype, device=whole.device
                )
        return whole

    def _takes_rows(self, settings: dict[str, Any]) -> bool:
        """Whether replies are greedy ones of a model that can be taken token by token."""
        from lens_train.generation import steps_by_hand

        plain = {"attention_mask", "do_sample", "temperature"}
        greedy = settings.get("do_sample") is False or (
            settings.get("do_sample") is None and not settings.get("temperature")
        )
        beams = getattr(getattr(self.model, "generation_config", None), "num_beams", None) or 1
        fits = self.backend == "causal" and beams == 1 and runs_alone(self) and set(settings) <= plain
        return greedy and fits and steps_by_hand(self.model)


class _StopSequences:
    """Whether a reply has come to one of these texts; looked for in its last tokens, as lm_eval does."""

    def __init__(self, tokenizer: Any, texts: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._texts = list(texts)
        lengths = [len(tokenizer.encode(text, add_special_tokens=False)) for text in texts]
        self._span = max(lengths, default=0) + 2

    def __call__(self, tokens: Sequence[int]) -> bool:
        if not self._texts or not tokens:
            return False
        last = self._tokenizer.decode(tokens[-self._span :])
        return any(text in last for text in self._texts)


@register_model("lens_hf")
class LensHF(GreedyRows):
    """lm_eval's `hf` backend with `GreedyRows`."""


if __name__ == "__main__":
    lm_eval_command()
