"""`lens_hf`: lm_eval's hf backend with greedy replies that are fast and small, and with loops that end.

`python -m lens_eval.backends.hf ...` is lm_eval's own command with this backend known to it:

    python -m lens_eval.backends.hf --model lens_hf --model_args pretrained=MODEL,stop_loops=False --tasks ...

`lens eval` and recipes use it for the backend hf. Importing this module loads torch and lm_eval's hf backend.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM

from lens_eval.backends.steering import lm_eval_command
from lens_eval.base.errors import UserError


class GreedyRows(HFLM):
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
        # Processes that share one model must run it equally often.
        kind = str(getattr(getattr(self, "accelerator", None), "distributed_type", ""))
        whole = not any(name in kind for name in ("FSDP", "DEEPSPEED", "MEGATRON"))
        fits = self.backend == "causal" and beams == 1 and whole and set(settings) <= plain
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
