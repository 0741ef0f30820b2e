"""Greedy replies of frozen weights, in little memory; everything that generates uses this module.

Costs of memory and time if weights need no gradient, and what this module does about them:

- Output matrix: transformers takes the last position of each row, which is a strided tensor. In torch, the
  product of a strided tensor with a frozen matrix is a batched product. In bfloat16 on a CPU it copies the
  matrix once per row. `contiguous_output` and `keep_contiguous` make the tensor contiguous.
- Logits: each row has one logit per token of the vocabulary. `batch_rows` includes them in the batch size.
- Finished rows leave the batch, and so do rows that have fallen into a loop (`loop_period`).

For replies that do not loop, the tokens equal those of `model.generate(do_sample=False)` on each prompt
alone, up to rounding. A product with another number of rows can round differently. In bfloat16 that can swap
two tokens with nearly equal logits. Of the model's `generation_config`, a `repetition_penalty` is applied; it
ignores padding. `model.generate` itself is called if another setting there changes greedy replies, or if the
model's cache holds anything but keys and values.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lens_eval.base.errors import UserError
from lens_eval.base.progress import progress

MEMORY = 512 << 20
"""Bytes of main memory for the logits, keys and values of a batch."""
GPU_SHARE = 8
"""On a GPU, 1 / `GPU_SHARE` of its memory is used for them."""
LONGEST_PERIOD = 32
"""Tokens of the longest repeated passage that counts as a loop."""
LOOP_REPEATS = 8
LOOP_TOKENS = 64
"""A reply loops if it ends with the same passage `LOOP_REPEATS` times, over at least `LOOP_TOKENS` tokens."""

Stop = Callable[[Sequence[int]], bool]
"""Whether a reply has ended, given its tokens so far."""


@dataclass(frozen=True)
class Reply:
    """One greedy reply."""

    tokens: list[int]
    """Tokens before the end token; of a loop, the tokens generated until the loop was found."""
    ended: bool
    """Whether an end token or the caller's `stop` ended the reply; otherwise it was cut."""
    looped: bool
    """Whether the reply was cut and ends in a loop: see `loop_period`."""


@torch.no_grad()
def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    budget: int,
    *,
    stop_loops: bool = True,
    label: str | None = "replies",
    ends: Sequence[int] | None = None,
) -> list[Reply]:
    """Greedy replies to prompts.

    Args:
        model: a causal model of transformers.
        tokenizer: its tokenizer; gives the end token if the model's settings name none.
        prompts: token ids of each prompt, templated.
        max_new_tokens: most tokens of a reply.
        budget: most tokens of a batch, padding and replies included; see `batch_rows`.
        stop_loops: end a reply once it has fallen into a loop.
        label: label of the progress bar, which counts replies; None = no bar.
        ends: tokens that end a reply; None = those of the model.

    Returns:
        One reply per prompt, in the order of `prompts`.
    """
    stops = tuple(end_tokens(model, tokenizer) if ends is None else ends)
    ordered = sorted(range(len(prompts)), key=lambda row: (-len(prompts[row]), row))
    found: dict[int, Reply] = {}
    bars = nullcontext() if label is None else progress(label=label, total=len(prompts))
    with bars as bar, contiguous_output(model):
        while ordered:
            size = batch_rows(model, len(prompts[ordered[0]]) + max_new_tokens, budget)
            rows, ordered = ordered[:size], ordered[size:]
            ids, mask = _pad_left([prompts[row] for row in rows], model.device)
            for place, reply in reply_rows(model, ids, mask, max_new_tokens, stops, stop_loops=stop_loops):
                found[rows[place]] = reply
                if bar is not None:
                    bar.update()
    return [found[row] for row in range(len(prompts))]


def batch_rows(model: Any, tokens: int, budget: int) -> int:
    """Number of rows of a batch, for everything that generates.

    It is the largest number within both bounds, and at least 1:

    - rows x tokens <= `budget`;
    - rows x (logits + keys and values) <= `MEMORY`, or the share `GPU_SHARE` of a GPU's memory. A row holds
      its logits in the model's type and twice in float32, because a model may cast them and a penalty
      processes them. It holds keys and values of all its tokens.

    Args:
        model: a causal model.
        tokens: tokens of a row: prompt, padding and reply.
        budget: most tokens of a batch; it bounds the hidden states.
    """
    config = model.config.get_text_config()
    row = logits_bytes(model) + tokens * _cache_bytes(config, model.dtype)
    return max(1, min(budget // tokens, batch_memory(model.device) // row))


def batch_memory(device: torch.device) -> int:
    """Bytes for the logits, keys and values of a batch on a device."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory // GPU_SHARE
    return MEMORY


def logits_bytes(model: Any) -> int:
    """Bytes of the logits of one position: in the model's type, and twice in float32."""
    return int(model.config.get_text_config().vocab_size) * (model.dtype.itemsize + 8)


def computes_last_logits(model: Any) -> bool:
    """Whether a model can be asked for the logits of its last positions alone (`logits_to_keep`)."""
    return "logits_to_keep" in inspect.signature(_bare(model).forward).parameters


def _cache_bytes(config: Any, dtype: torch.dtype) -> int:
    """Bytes of the keys and values of a token; an upper bound if layers have windows, 0 without heads."""
    heads = getattr(config, "num_attention_heads", None)
    if not heads:
        return 0
    head = getattr(config, "head_dim", None) or config.hidden_size // heads
    kept = getattr(config, "num_key_value_heads", None) or heads
    return 2 * config.num_hidden_layers * kept * head * dtype.itemsize


@contextmanager
def contiguous_output(model: Any) -> Iterator[None]:
    """Make the input of the output matrix contiguous until the block ends."""
    handle = keep_contiguous(model)
    try:
        yield
    finally:
        handle.remove()


def keep_contiguous(model: Any) -> Any:
    """Make the input of the output matrix contiguous from now on; returns a handle with `remove()`."""
    return model.get_output_embeddings().register_forward_pre_hook(_contiguous)


def _contiguous(_module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(part.contiguous() if isinstance(part, Tensor) else part for part in inputs)


def end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Tokens that end a reply: those of the model's generation settings, else the tokenizer's."""
    config = getattr(model, "generation_config", None)
    ends = config.eos_token_id if config is not None else None
    ends = tokenizer.eos_token_id if ends is None else ends
    return list(ends) if isinstance(ends, (list, tuple)) else [0 if ends is None else int(ends)]


def loop_period(tokens: Sequence[int]) -> int | None:
    """Length of the shortest passage that `tokens` end in a loop of; None if they end in no loop.

    `LOOP_REPEATS` and `LOOP_TOKENS` define a loop.
    """
    for period in range(1, LONGEST_PERIOD + 1):
        length = max(LOOP_REPEATS * period, LOOP_TOKENS)
        if len(tokens) < length:
            continue
        tail = tokens[-length:]
        if tail[period:] == tail[:-period]:
            return period
    return None


def unrolled(reply: Reply, length: int) -> list[int]:
    """The tokens of a reply; if it ends in a loop, the loop is continued up to `length` tokens."""
    period = loop_period(reply.tokens) if reply.looped else None
    if period is None:
        return reply.tokens
    passage, more = reply.tokens[-period:], max(0, length - len(reply.tokens))
    return reply.tokens + (passage * (more // period + 1))[:more]


class _Loops:
    """Per row and period: how many tokens at the end of the row equal the token one period earlier."""

    def __init__(self, rows: int, device: torch.device) -> None:
        self._last = torch.full((rows, LONGEST_PERIOD), -1, device=device)
        self._equal = torch.zeros(rows, LONGEST_PERIOD, dtype=torch.long, device=device)
        periods = torch.arange(1, LONGEST_PERIOD + 1, device=device)
        self._enough = (LOOP_REPEATS * periods).clamp(min=LOOP_TOKENS) - periods

    def add(self, tokens: Tensor) -> Tensor:
        """Add the next token of each row, (rows,); returns which rows have fallen into a loop, (rows,)."""
        self._equal = (self._equal + 1) * (self._last == tokens[:, None])
        self._last = torch.cat([tokens[:, None], self._last[:, :-1]], dim=1)
        return (self._equal >= self._enough).any(dim=1)

    def keep(self, rows: Tensor) -> None:
        """Keep only these rows."""
        self._last, self._equal = self._last[rows], self._equal[rows]


@torch.no_grad()
def reply_rows(
    model: Any,
    ids: Tensor,
    mask: Tensor,
    max_new_tokens: int,
    ends: Sequence[int],
    *,
    stop_loops: bool = True,
    stop: Stop | None = None,
) -> Iterator[tuple[int, Reply]]:
    """Greedy replies to one batch; each reply is yielded as soon as it has ended.

    Args:
        model: a causal model.
        ids: prompts, padded on the left; (rows, tokens).
        mask: 1 for real tokens, 0 for padding; (rows, tokens).
        max_new_tokens: most tokens of a reply.
        ends: tokens that end a reply.
        stop_loops: end a reply once it has fallen into a loop.
        stop: a further condition, checked after each token; the token that meets it belongs to the reply.

    Yields:
        Row and reply.
    """
    if max_new_tokens < 1:
        yield from ((row, Reply([], False, False)) for row in range(len(ids)))
        return
    if not steps_by_hand(model):
        yield from enumerate(_by_generate(model, ids, mask, max_new_tokens, ends))
        return
    state = _State.begin(model, ids, mask)
    ended = torch.tensor(sorted(set(ends)), device=ids.device)
    loops = _Loops(len(ids), ids.device) if stop_loops else None
    replies: list[list[int]] = [[] for _ in range(len(ids))]
    rows = list(range(len(ids)))
    for step in range(max_new_tokens):
        tokens = state.next_tokens()
        over = torch.isin(tokens, ended)
        looped = loops.add(tokens) & ~over if loops else torch.zeros_like(over)
        going: list[int] = []
        # One tensor, because each read of a tensor waits for the GPU.
        signs = torch.stack([tokens, over.long(), looped.long(), state.broken.long()], dim=1).tolist()
        _require_numbers(sum(sign[3] for sign in signs), len(rows))
        for place, (row, (token, ends_here, loops_here, _)) in enumerate(zip(rows, signs, strict=True)):
            if not ends_here:
                replies[row].append(token)
            ends_now = bool(ends_here) or (stop is not None and stop(replies[row]))
            if ends_now or loops_here or step + 1 == max_new_tokens:
                yield row, _reply(replies[row], ends_now)
            else:
                going.append(place)
        if not going:
            return
        if len(going) < len(rows):
            kept = torch.tensor(going, device=ids.device)
            rows, tokens = [rows[place] for place in going], tokens[kept]
            state.keep(kept)
            if loops:
                loops.keep(kept)
        state.add(tokens)


def _require_numbers(broken: int, rows: int) -> None:
    if broken:
        raise UserError(
            f"{broken} of {rows} replies have logits that are NaN or infinite: the weights hold "
            "such numbers, or overflow in this dtype; try dtype=float32 or bfloat16"
        )


class RequireNumbers:
    """A logits processor that changes nothing and refuses logits without a number among them."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores of the next token, (rows, vocabulary).

        Raises:
            UserError: a row's largest score is NaN or infinite.
        """
        broken = ~scores.max(dim=-1).values.isfinite()
        _require_numbers(int(broken.sum()), len(scores))
        return scores


def _reply(tokens: list[int], ended: bool) -> Reply:
    return Reply(tokens, ended, not ended and loop_period(tokens) is not None)


@dataclass
class _State:
    """State of a batch between two tokens."""

    model: Any
    ids: Tensor
    """Prompt and reply tokens so far, (rows, tokens); padding repeats a token of the row."""
    mask: Tensor
    cache: Any
    scores: Any
    """Logits processor that the model's settings ask for, or None."""
    positions: bool
    """Whether the model takes position ids."""
    logits: Tensor | None = None
    """Logits of the next token, (rows, vocabulary); None once the token is chosen."""

    broken: Any = None
    """Which rows had logits that are no numbers when their last token was chosen, (rows,)."""

    @staticmethod
    def begin(model: Any, ids: Tensor, mask: Tensor) -> _State:
        """Run the prompts."""
        names = inspect.signature(_bare(model).forward).parameters
        state = _State(model, ids, mask, _new_cache(model), _penalty(model), "position_ids" in names)
        state._run(ids)
        return state

    def next_tokens(self) -> Tensor:
        """The most likely token of each row; the first of equals, as in `generate`."""
        logits, self.logits = self.logits, None
        assert logits is not None
        largest = (logits if self.scores is None else self.scores(self.ids, logits.float())).max(dim=-1)
        # On a CPU `max` is far faster than `argmax`; its index is that of the first of equals.
        self.broken = ~largest.values.isfinite()  # the largest of numbers with a NaN among them is NaN
        return largest.indices

    def keep(self, rows: Tensor) -> None:
        """Keep only these rows."""
        self.ids, self.mask = self.ids[rows], self.mask[rows]
        self.cache.batch_select_indices(rows)

    def add(self, tokens: Tensor) -> None:
        """Run one more token of each row, (rows,)."""
        self.ids = torch.cat([self.ids, tokens[:, None]], dim=1)
        self.mask = torch.cat([self.mask, torch.ones_like(self.mask[:, :1])], dim=1)
        self._run(tokens[:, None])

    def _run(self, ids: Tensor) -> None:
        inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": self.mask}
        if self.positions:
            places = (self.mask.cumsum(-1) - 1).clamp(min=0)
            inputs["position_ids"] = places[:, -ids.shape[1] :]
        output = self.model(**inputs, past_key_values=self.cache, use_cache=True, logits_to_keep=1)
        self.logits = output.logits[:, -1]


def steps_by_hand(model: Any) -> bool:
    """Whether this module can run a model token by token with the same replies as the model's `generate`.

    Two conditions: the model's cache holds keys and values only, and no setting other than
    `repetition_penalty` changes its choices.
    """
    names = inspect.signature(_bare(model).forward).parameters
    if not {"attention_mask", "past_key_values", "logits_to_keep"} <= set(names):
        return False
    return not _settings_that_choose(model) and _keeps_pairs(model)


def _bare(model: Any) -> Any:
    """The model inside adapters."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _new_cache(model: Any) -> Any:
    from transformers import DynamicCache

    return DynamicCache(config=model.config.get_text_config())


def _keeps_pairs(model: Any) -> bool:
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    if getattr(model.config, "is_encoder_decoder", False):
        return False
    try:
        layers = _new_cache(model).layers
    except (AttributeError, KeyError, TypeError, ValueError):
        return False
    return bool(layers) and all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)


_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "bad_words_ids": (),
    "begin_suppress_tokens": (),
    "dola_layers": (),
    "encoder_no_repeat_ngram_size": (0,),
    "encoder_repetition_penalty": (1, 1.0),
    "exponential_decay_length_penalty": (),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "guidance_scale": (1, 1.0),
    "max_time": (),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "no_repeat_ngram_size": (0,),
    "penalty_alpha": (),
    "prompt_lookup_num_tokens": (),
    "remove_invalid_values": (False,),
    "sequence_bias": (),
    "stop_strings": (),
    "suppress_tokens": (),
    "token_healing": (False,),
    "watermarking_config": (),
}
"""Settings of transformers that change greedy replies -> values (besides None) that leave them unchanged."""


def _settings_that_choose(model: Any) -> list[str]:
    config = getattr(model, "generation_config", None)
    values = {name: getattr(config, name, None) for name in _NEUTRAL}
    return [name for name, value in values.items() if value is not None and value not in _NEUTRAL[name]]


def weights_alone(model: Any) -> list[str]:
    """Switch off what a model's `generation_config` says that changes greedy replies; returns the settings.

    For evaluation: vLLM as lm_eval calls it reads none of them, so that the same model would differ.
    """
    found = _settings_that_choose(model) + (["repetition_penalty"] if _penalty(model) is not None else [])
    config = getattr(model, "generation_config", None)
    found += [
        name
        for name in ("num_beams", "num_return_sequences", "max_new_tokens")
        if getattr(config, name, None) not in (None, 1)
    ]
    for name in found:
        setattr(model.generation_config, name, None)
    return found


def _penalty(model: Any) -> Any:
    from transformers import RepetitionPenaltyLogitsProcessor

    value = getattr(getattr(model, "generation_config", None), "repetition_penalty", None)
    return RepetitionPenaltyLogitsProcessor(float(value)) if value not in (None, 1, 1.0) else None


def _by_generate(
    model: Any, ids: Tensor, mask: Tensor, max_new_tokens: int, ends: Sequence[int]
) -> list[Reply]:
    """Replies by the model's own `generate`, for families that need it; loops are found afterwards."""
    from transformers import LogitsProcessorList

    greedy = {"do_sample": False, "num_beams": 1, "temperature": None, "top_p": None, "top_k": None}
    output = model.generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=max_new_tokens,
        eos_token_id=list(ends) or None,
        pad_token_id=next(iter(ends), 0),
        logits_processor=LogitsProcessorList([RequireNumbers()]),
        **greedy,
    )
    found = []
    for tokens in output[:, ids.shape[1] :].tolist():
        end = next((place for place, token in enumerate(tokens) if token in ends), None)
        found.append(_reply(tokens[:end], end is not None))
    return found


def _pad_left(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and mask; padding repeats the row's first token, so a penalty sees no additional token."""
    width = max(map(len, prompts))
    ids = [[prompt[0]] * (width - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
