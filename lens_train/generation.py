"""Greedy replies of frozen weights, in little memory: one room for everything that generates.

What costs memory and time where weights need no gradient, and what is done about it:

- Output matrix: transformers takes the last position of each row, a strided tensor. In torch, a product of
  a strided tensor with a frozen matrix is a batched one, and in bfloat16 on a CPU it copies the matrix once
  per row. `contiguous_output` and `keep_contiguous` hand over a contiguous tensor.
- Logits: each row has one per token of the vocabulary. `batch_rows` sizes batches by them too.
- Rows that have ended leave the batch, and so do rows that have fallen into a loop (`loop_period`).

Tokens are those of `model.generate(do_sample=False)` of each prompt alone, for replies that do not loop, up
to rounding: another number of rows in a product can round otherwise, which in bfloat16 can turn two tokens
round that the model holds to be about alike. Of the model's `generation_config`, a `repetition_penalty` is
honoured; padding does not count as said before. With any other setting there that changes greedy replies,
and for models that keep something else than keys and values, `model.generate` itself is called.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lens_eval.base.progress import progress

MEMORY = 512 << 20
"""Bytes for the logits, keys and values of a batch in main memory."""
GPU_SHARE = 8
"""On a GPU, one part in this many of its memory."""
LONGEST_PERIOD = 32
"""Tokens of the longest repeated passage that counts as a loop."""
LOOP_REPEATS = 8
LOOP_TOKENS = 64
"""A loop is a passage that the reply ends with `LOOP_REPEATS` times, over at least `LOOP_TOKENS` tokens."""

Stop = Callable[[Sequence[int]], bool]
"""Whether a reply, given its tokens so far, is at its end."""


@dataclass(frozen=True)
class Reply:
    """One greedy reply."""

    tokens: list[int]
    """Up to and without the token that ended it; of a loop, what was generated until it was found."""
    ended: bool
    """By a token that ends a text, or by the caller's `stop`; otherwise it was cut."""
    looped: bool
    """It was cut, and ends in a loop: see `loop_period`."""


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
        model: a causal model of transformers, with the weights to be used in place.
        tokenizer: its tokenizer; names the end token where the model's settings name none.
        prompts: token ids of each prompt, templated.
        max_new_tokens: tokens of a reply at most.
        budget: tokens of a batch at most, padding and replies included; see `batch_rows`.
        stop_loops: end a reply once it has fallen into a loop.
        label: of the progress bar, which counts replies; None = no bar.
        ends: tokens that end a reply; None = those of the model.

    Returns:
        A reply per prompt, in their order.
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
    """Rows of a batch: the rule by which everything that generates is sized.

    As many as keep to both bounds, and one at least:

    - rows x tokens <= `budget`;
    - rows x (logits + keys and values) <= `MEMORY`, or a share of a GPU's memory. The logits of a row are
      held in the model's type and twice in float32 (a model may cast them, a penalty processes them); keys
      and values are those of all its tokens.

    Args:
        model: a causal model.
        tokens: of a row: prompt, padding and reply.
        budget: tokens of a batch, which bounds the hidden states.
    """
    memory = MEMORY
    if model.device.type == "cuda":
        memory = torch.cuda.get_device_properties(model.device).total_memory // GPU_SHARE
    config = model.config.get_text_config()
    logits = config.vocab_size * (model.dtype.itemsize + 8)
    return max(1, min(budget // tokens, memory // (logits + tokens * _cache_bytes(config, model.dtype))))


def _cache_bytes(config: Any, dtype: torch.dtype) -> int:
    """Bytes of the keys and values of a token: an upper bound where layers have windows, 0 without heads."""
    heads = getattr(config, "num_attention_heads", None)
    if not heads:
        return 0
    head = getattr(config, "head_dim", None) or config.hidden_size // heads
    kept = getattr(config, "num_key_value_heads", None) or heads
    return 2 * config.num_hidden_layers * kept * head * dtype.itemsize


def _first(logits: Tensor) -> Tensor:
    """Index of the largest, the first one of equals; `max` is several times as fast as `argmax` on a CPU."""
    return logits.max(dim=-1).indices


@contextmanager
def contiguous_output(model: Any) -> Iterator[None]:
    """Hand contiguous states to the output matrix, until the block ends."""
    handle = keep_contiguous(model)
    try:
        yield
    finally:
        handle.remove()


def keep_contiguous(model: Any) -> Any:
    """Hand contiguous states to the output matrix from now on; returns a handle with `remove()`."""
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
    """Length of the passage that `tokens` end in a loop of; None where they end in none.

    See `LOOP_REPEATS`; the shortest such passage.
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
    """The tokens of a reply, a loop that it ends in written on to `length` tokens."""
    period = loop_period(reply.tokens) if reply.looped else None
    if period is None:
        return reply.tokens
    passage, more = reply.tokens[-period:], max(0, length - len(reply.tokens))
    return reply.tokens + (passage * (more // period + 1))[:more]


class _Loops:
    """For each row of a batch and each period: how many tokens at its end equal the one a period before."""

    def __init__(self, rows: int, device: torch.device) -> None:
        self._last = torch.full((rows, LONGEST_PERIOD), -1, device=device)
        self._equal = torch.zeros(rows, LONGEST_PERIOD, dtype=torch.long, device=device)
        periods = torch.arange(1, LONGEST_PERIOD + 1, device=device)
        self._enough = (LOOP_REPEATS * periods).clamp(min=LOOP_TOKENS) - periods

    def add(self, tokens: Tensor) -> Tensor:
        """Take the next token of each row, (rows,); returns which rows have fallen into a loop, (rows,)."""
        self._equal = (self._equal + 1) * (self._last == tokens[:, None])
        self._last = torch.cat([tokens[:, None], self._last[:, :-1]], dim=1)
        return (self._equal >= self._enough).any(dim=1)

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows."""
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
    """Greedy replies to one batch, each as soon as it is known.

    Args:
        model: a causal model.
        ids: prompts, padded on the left; (rows, tokens).
        mask: 1 for real tokens, 0 for padding; (rows, tokens).
        max_new_tokens: tokens of a reply at most.
        ends: tokens that end a reply.
        stop_loops: end a reply once it has fallen into a loop.
        stop: a further end, asked after each token; a token that brings it about belongs to the reply.

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
        # One tensor, for each look at one waits for the GPU.
        signs = torch.stack([tokens, over.long(), looped.long()], dim=1).tolist()
        for place, (row, (token, ends_here, loops_here)) in enumerate(zip(rows, signs, strict=True)):
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


def _reply(tokens: list[int], ended: bool) -> Reply:
    return Reply(tokens, ended, not ended and loop_period(tokens) is not None)


@dataclass
class _State:
    """A batch between two tokens."""

    model: Any
    ids: Tensor
    """Everything so far, (rows, tokens); padding stands for a token of the row's own."""
    mask: Tensor
    cache: Any
    scores: Any
    """Processor of logits that the model's settings ask for, or None."""
    positions: bool
    """Whether the model is told where its tokens stand."""
    logits: Tensor | None = None
    """Of the next token, (rows, vocabulary); None once that is chosen."""

    @staticmethod
    def begin(model: Any, ids: Tensor, mask: Tensor) -> _State:
        """Run the prompts."""
        names = inspect.signature(_bare(model).forward).parameters
        state = _State(model, ids, mask, _new_cache(model), _penalty(model), "position_ids" in names)
        state._run(ids)
        return state

    def next_tokens(self) -> Tensor:
        """The likeliest token of each row; the first one of equals, as `generate` takes it."""
        logits, self.logits = self.logits, None
        assert logits is not None
        return _first(logits if self.scores is None else self.scores(self.ids, logits.float()))

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows."""
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
    """Whether a model can be taken token by token here, to the replies that its own `generate` gives.

    It keeps keys and values and nothing else, and no setting but a `repetition_penalty` changes its choices.
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
"""Settings of transformers that change greedy replies, and values beside None with which they do not."""


def _settings_that_choose(model: Any) -> list[str]:
    config = getattr(model, "generation_config", None)
    values = {name: getattr(config, name, None) for name in _NEUTRAL}
    return [name for name, value in values.items() if value is not None and value not in _NEUTRAL[name]]


def _penalty(model: Any) -> Any:
    from transformers import RepetitionPenaltyLogitsProcessor

    value = getattr(getattr(model, "generation_config", None), "repetition_penalty", None)
    return RepetitionPenaltyLogitsProcessor(float(value)) if value not in (None, 1, 1.0) else None


def _by_generate(
    model: Any, ids: Tensor, mask: Tensor, max_new_tokens: int, ends: Sequence[int]
) -> list[Reply]:
    """The model's own way, for families that have to go it; loops are found afterwards."""
    greedy = {"do_sample": False, "num_beams": 1, "temperature": None, "top_p": None, "top_k": None}
    output = model.generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=max_new_tokens,
        eos_token_id=list(ends) or None,
        pad_token_id=next(iter(ends), 0),
        **greedy,
    )
    found = []
    for tokens in output[:, ids.shape[1] :].tolist():
        end = next((place for place, token in enumerate(tokens) if token in ends), None)
        found.append(_reply(tokens[:end], end is not None))
    return found


def _pad_left(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids and mask; padding repeats the row's first token, so that a penalty does not see another one."""
    width = max(map(len, prompts))
    ids = [[prompt[0]] * (width - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
