"""`lens_vllm`: lm_eval's vLLM backend with one-token answers by one generation, steering, refusals, an end.

`python -m lens_eval.backends.vllm ...` is lm_eval's own command with this backend known to it:

    python -m lens_eval.backends.vllm --model lens_vllm --model_args pretrained=... --tasks lens_xnli

Importing this module loads vLLM.
"""

from __future__ import annotations

import atexit
import math
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakSet

from lm_eval.api.registry import register_model
from lm_eval.models.vllm_causallms import VLLM
from vllm import SamplingParams
from vllm.lora.request import LoRARequest

from lens_eval.backends import vllm_limits
from lens_eval.backends.steering import ByLanguage, lm_eval_command, load_decoding, load_steering
from lens_eval.base.errors import UserError
from lens_train.checkpoint import has_tokenizer, wear_template

_AT_ONCE = 128
"""vLLM returns the log-probabilities of at most this many named tokens per request."""

_TOLERANCE = 0.1
"""Largest difference between log-probabilities of the same thing, computed in another order in bfloat16."""

_open: WeakSet[LensVLLM] = WeakSet()

Scored = tuple[Any, list[int], list[int]]
"""lm_eval's request: key of its cache, token ids of the context, token ids of the continuation."""


class LensVLLM(ByLanguage, VLLM):
    """lm_eval's `vllm` backend, with the same arguments and the same numbers.

    - Continuations of one token (option letters, as a rule) are read from the log-probabilities of one
      generated token: one request per item, where the stock backend sends one per option and reads the whole
      prompt anew for each. Everything longer takes the stock way.
    - On a CPU, where vLLM's engine dies of `prompt_logprobs` with an adapter, longer continuations are scored
      token by token the same way.
    - `steering=FOLDER` steers every forward pass (`lens train --method steer`), towards the language of each
      item where it adds the direction of a language, or towards `language` for all.
    - `decoding=FOLDER` writes replies under the rule of each item's language (`lens train --method bias`).
    - `use()` goes on with another adapter or steering on the loaded model.
    - What vLLM cannot do is refused in words, see `vllm_limits`; an adapter that changes nothing is an error,
      and so is a model whose hidden states the steering does not get hold of.
    - `close()` ends vLLM's processes and threads. Left to the interpreter's exit, those can abort the process
      (status 134) with the results long saved.

    Raises:
        UserError: see `vllm_limits.checked` and `use`.
    """

    def __init__(
        self,
        pretrained: str,
        steering: str | None = None,
        decoding: str | None = None,
        language: str | None = None,
        **arguments: Any,
    ) -> None:
        cpu = vllm_limits.is_cpu()
        self._eager_to_steer = bool(steering) and not cpu and "enforce_eager" not in arguments
        arguments = vllm_limits.checked({"pretrained": pretrained, "steering": steering, **arguments}, cpu)
        del arguments["steering"]
        vllm_limits.require_same_files(arguments)
        if steering:
            load_steering(steering, pretrained)
        self._decoding = load_decoding(decoding, pretrained) if decoding else None
        if decoding:
            arguments = vllm_limits.with_decoding(arguments, decoding, steering)
        if cpu and arguments["enforce_eager"]:
            # Without this the first request of an eager engine still waits half a minute for a compiler.
            os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
        adapter = arguments.get("lora_local_path")
        self._tokenizer_folder: str | None = None
        self._named_tokenizer = bool(arguments.get("tokenizer"))
        if adapter and has_tokenizer(Path(adapter)) and not self._named_tokenizer:
            arguments["tokenizer"] = self._tokenizer_folder = str(adapter)
        self._pretrained = pretrained
        self._steerable = arguments.get("worker_extension_cls") == vllm_limits.EXTENSION
        self._max_rank = int(arguments["max_lora_rank"]) if adapter else None
        self._adapters: dict[str, int] = {}
        self._steering_folder: str | None = None
        self._language = language
        self._replying = False
        self.fixed_language = language
        before = set(threading.enumerate())
        super().__init__(**arguments)
        self.lora_request: LoRARequest | None
        self._template = getattr(self.tokenizer, "chat_template", None)
        self._threads = set(threading.enumerate()) - before
        self._named_tokens = "logprob_token_ids" in SamplingParams.__struct_fields__
        self._stepwise = cpu and adapter is not None
        _open.add(self)
        self.use(adapter, steering)

    def fits(self, adapter: str | None, steering: str | None) -> bool:
        """Whether `use` can go on with these, or the model has to be loaded anew for them."""
        if adapter is None:
            # What is loaded for adapters or for steering only computes in another way even without them.
            fits = self._max_rank is None
        else:
            fits = self._max_rank is not None and vllm_limits.adapter_rank(Path(adapter)) <= self._max_rank
        if not self._named_tokenizer:
            own = adapter if adapter is not None and has_tokenizer(Path(adapter)) else None
            fits = fits and own == self._tokenizer_folder
        return fits and (not self._eager_to_steer if steering is None else self._steerable)

    def use(self, adapter: str | None = None, steering: str | None = None) -> None:
        """Go on as the loaded model with this adapter, or this steering, or neither.

        Raises:
            UserError: the steering is not one of this model; or vLLM does not apply it, or the adapter.
        """
        try:
            self._steer(None)
            self.steering = self._decoding
            self.lora_request = self._request(adapter) if adapter else None
            if self._template is not None or adapter:
                self.tokenizer.chat_template = self._template
            if adapter and not self._named_tokenizer and self._tokenizer_folder is None:
                wear_template(self.tokenizer, Path(adapter))
            if adapter:
                self._check_adapter(Path(adapter))
            if steering:
                self.steering, self._steering_folder = load_steering(steering, self._pretrained), steering
                self._check_steering()
        except UserError:
            self.close()
            raise

    def steer_towards(self, language: str | None) -> None:
        """Steer what follows towards this language.

        Raises:
            UserError: there is no direction for it.
        """
        if self._decoding is not None:
            self._language = language
        else:
            self._steer(self._steering_folder, language)

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[Any]:
        """As lm_eval's, language by language; only these replies are written under a decoding."""
        self._replying = True
        try:
            return super().generate_until(requests, disable_tqdm)
        finally:
            self._replying = False

    def _model_generate(self, requests: Any, generate: bool = False, sampling_params: Any = None) -> Any:
        if self._decoding is not None and self._replying:
            for settings in sampling_params if isinstance(sampling_params, list) else [sampling_params]:
                settings.extra_args = {**(settings.extra_args or {}), vllm_limits.LANGUAGE: self._language}
        listed = sampling_params if isinstance(sampling_params, list) else [sampling_params]
        for settings in listed if generate else ():
            # The one number by which vLLM tells that there was none among the logits.
            if settings.logprobs is None and not getattr(settings, "logprob_token_ids", None):
                settings.logprobs = 0
        found = super()._model_generate(requests, generate, sampling_params)
        if generate:
            _require_numbers(found)
        return found

    def steered_passes(self) -> list[dict[str, int]]:
        """For each worker: forward passes since the steering was last set, how often each layer fired."""
        return self.model.collective_rpc("lens_fired")

    def close(self) -> None:
        """End vLLM's processes and threads. The object cannot be used any more."""
        _open.discard(self)
        model = self.__dict__.pop("model", None)
        if model is None:
            return
        # Its own default of 5 s is too short for the workers, which are then killed and leave shared memory.
        model.llm_engine.engine_core.shutdown(timeout=30)
        del model
        for thread in self._threads:
            thread.join(timeout=10)

    def _loglikelihood_tokens(
        self, requests: list[Scored], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Log-likelihood of each continuation, and whether greedy decoding would have written it."""
        short = {
            i
            for i, (_, context, continuation) in enumerate(requests)
            if self._by_token(context, continuation)
        }
        stock = [i for i in range(len(requests)) if i not in short]
        results: dict[int, tuple[float, bool]] = {}
        if stock:
            own = super()._loglikelihood_tokens([requests[i] for i in stock], disable_tqdm=disable_tqdm)
            results.update(zip(stock, own, strict=True))
        if short:
            indices = sorted(short)
            results.update(zip(indices, self._score_by_token([requests[i] for i in indices]), strict=True))
            for i in indices:
                if requests[i][0] is not None:
                    self.cache_hook.add_partial("loglikelihood", requests[i][0], results[i])
        return [results[i] for i in range(len(requests))]

    def _by_token(self, context: Sequence[int], continuation: Sequence[int]) -> bool:
        """Whether a continuation is scored by generated tokens. One that leaves no context is not."""
        if not self._named_tokens or not context or len(continuation) >= self.max_length - 1:
            return False
        return len(continuation) == 1 or self._stepwise

    def _score_by_token(self, requests: Sequence[Scored]) -> list[tuple[float, bool]]:
        """One generated token per distinct prefix; what is asked of a prefix comes out of the same one."""
        wanted: dict[tuple[int, ...], dict[int, tuple[float, bool]]] = {}
        for request in requests:
            for prefix, token in self._steps(request):
                wanted.setdefault(prefix, {})[token] = (0.0, False)
        # Neighbours share their beginnings, which vLLM's prefix cache then computes once.
        todo = [
            (prefix, tokens[start : start + _AT_ONCE])
            for prefix in sorted(wanted)
            for tokens in [sorted(wanted[prefix])]
            for start in range(0, len(tokens), _AT_ONCE)
        ]
        size = len(todo) if self.batch_size == "auto" else int(self.batch_size)
        for start in range(0, len(todo), size):
            batch = todo[start : start + size]
            outputs = self._model_generate(
                requests=[list(prefix) for prefix, _ in batch],
                generate=True,
                sampling_params=[_one_token(tokens) for _, tokens in batch],
            )
            for (prefix, tokens), output in zip(batch, outputs, strict=True):
                generated = output.outputs[0]
                for token in tokens:
                    score = generated.logprobs[0][token].logprob, generated.token_ids[0] == token
                    wanted[prefix][token] = score
        scores = [[wanted[prefix][token] for prefix, token in self._steps(request)] for request in requests]
        return [(sum(value for value, _ in steps), all(greedy for _, greedy in steps)) for steps in scores]

    def _steps(self, request: Scored) -> Iterator[tuple[tuple[int, ...], int]]:
        """(prefix, next token) for each token of the continuation, in the window the stock backend reads."""
        _, context, continuation = request
        window = tuple(context + continuation)[-(self.max_length - 1) :]
        for position in range(len(window) - len(continuation), len(window)):
            yield window[:position], window[position]

    def _request(self, adapter: str) -> LoRARequest:
        # vLLM tells adapters, and the keys and values it has kept of them, apart by name and number.
        number = self._adapters.setdefault(adapter, len(self._adapters) + 1)
        return LoRARequest(f"adapter {number}", number, adapter)

    def _steer(self, folder: str | None, language: str | None = None, share: float = 1.0) -> None:
        if not self._steerable:
            return
        if folder is not None and self.steering is not None:
            self.steering.require_language(language)
        arguments = (None if folder is None else str(Path(folder).resolve()), language, share)
        refused = [reason for reason in self.model.collective_rpc("lens_steer", args=arguments) if reason]
        if refused:
            raise UserError(f"{refused[0]}; use the backend hf")
        # What is kept of earlier prompts was not steered like this.
        if not self.model.reset_prefix_cache():
            raise RuntimeError("vLLM does not empty its prefix cache between two steerings")

    def _check_adapter(self, adapter: Path) -> None:
        """An adapter that is loaded but not applied gives the backbone's numbers under another name.

        Raises:
            UserError: the same log-probabilities with the adapter as without, though it holds something.
        """
        if not _changes_something(adapter):
            return
        tuned, request = self._likeliest(), self.lora_request
        self.lora_request = None
        bare = self._likeliest()
        self.lora_request = request
        if tuned == bare:
            raise UserError(
                f"vLLM loaded the adapter {adapter} but does not apply it; "
                "merge it into its model, or use the backend hf"
            )

    def _check_steering(self) -> None:
        """See that steering gets hold of the whole hidden state, once per layer and forward pass; then steer.

        Steered with strength 0 in every layer named, the model must answer as it is.

        Raises:
            UserError: it does not, or layers fire more or less often.
        """
        assert self.steering is not None
        languages = {code for own in self.steering.directions.values() for code in own}
        first = self.fixed_language or min(languages, default=None)
        bare = self._likeliest()
        self._steer(self._steering_folder, first, share=0.0)
        same = self._likeliest(count=4)
        alike = all(abs(same.get(token, -1e9) - value) < _TOLERANCE for token, value in bare.items())
        once = all(set(fired.values()) == {fired["passes"]} for fired in self.steered_passes())
        enough = all(fired["passes"] >= 4 for fired in self.steered_passes())
        if not (alike and once and enough):
            raise UserError(
                f"vLLM's layers of {self._pretrained} hand on their hidden states in a way that steering "
                "does not get hold of; use the backend hf"
            )
        self._steer(self._steering_folder, first)

    def _likeliest(self, count: int = 1) -> dict[int, float]:
        """Log-probabilities of the five likeliest first tokens, `count` tokens being generated."""
        prompt = [self.prefix_token_id, *self.tok_encode("0", add_special_tokens=False)]
        settings = SamplingParams(temperature=0, max_tokens=count, logprobs=5, ignore_eos=True)
        output = self._model_generate([prompt], generate=True, sampling_params=[settings])[0]
        return {token: entry.logprob for token, entry in output.outputs[0].logprobs[0].items()}


if __name__ != "__main__":  # run as a command, this module is imported once more, under its own name
    register_model("lens_vllm")(LensVLLM)


def _one_token(tokens: list[int]) -> SamplingParams:
    """Generate one token greedily and tell the log-probabilities, before any processing, of these."""
    return SamplingParams(temperature=0, max_tokens=1, logprob_token_ids=tokens, detokenize=False)


def _require_numbers(outputs: Sequence[Any]) -> None:
    """Refuse replies to logits that were no numbers: their tokens mean nothing, and their text is empty.

    Raises:
        UserError: with their number.
    """
    likelihoods = [output.outputs[0].cumulative_logprob for output in outputs]
    bad = sum(value is not None and not math.isfinite(value) for value in likelihoods)
    if bad:
        raise UserError(
            f"{bad} of {len(likelihoods)} replies have logits that are NaN or infinite: the weights hold "
            "such numbers, or overflow in this dtype; try dtype=float32 or bfloat16"
        )


def _changes_something(adapter: Path) -> bool:
    """Whether a LoRA adapter is more than the zero it starts as."""
    from lens_train.files import read_tensors

    file = adapter / "adapter_model.safetensors"
    if not file.is_file():
        return True
    return any(
        bool(tensor.any())
        for name, tensor in read_tensors(file, "file of an adapter")[0].items()
        if "lora_B" in name or "embedding_B" in name
    )


@atexit.register
def close_all() -> None:
    """Close every model of this process that is still open; done at its end at the latest."""
    for model in list(_open):
        model.close()


def main() -> None:
    """lm_eval's command with `--model lens_vllm`."""
    try:
        lm_eval_command()
    finally:
        close_all()


if __name__ == "__main__":
    # Under the name that everybody else imports it by, so that there is one class.
    from lens_eval.backends.vllm import main as run

    run()
