"""`lens_endpoint`: lm_eval's `local-chat-completions` with retries that heed the server, and tokens counted.

The requests are lm_eval's own; they are sent by `lens_eval.base.endpoint`, which waits as long as a busy
server says, never follows a redirect with a key, and gives up at once where no request can succeed. A request
that fails for good ends the evaluation of its task: an empty reply would be counted as the model's.
"""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from lm_eval.api.registry import register_model
from lm_eval.models.openai_completions import LocalChatCompletion
from tqdm import tqdm

from lens_eval.base.endpoint import Endpoint, Rejected, Reply, Unreachable
from lens_eval.base.errors import UserError

KEY_VARIABLE = "OPENAI_API_KEY"


@register_model("lens_endpoint")
class LensEndpoint(LocalChatCompletion):
    """A model behind an OpenAI-compatible server of chat completions."""

    def __init__(
        self,
        base_url: str,
        model: str,
        key_variable: str = KEY_VARIABLE,
        num_concurrent: int = 8,
        max_retries: int = 6,
        timeout: float = 300.0,
        extra: Mapping[str, Any] | None = None,
        batch_size: int | str = 1,
        **arguments: Any,
    ) -> None:
        """Ask the server for a token, to know that it is there.

        Args:
            base_url: of the server, `http://localhost:8000/v1`, or of its chat completions.
            key_variable: environment variable that holds the key.
            num_concurrent: requests under way at once.
            timeout: of one try, in seconds.
            extra: laid over the body of every request; None takes a field away.
            batch_size: requests that are kept together, at least four per concurrent one.

        Raises:
            UserError: address, key or name of the model are wrong, or nobody answers.
        """
        key = os.environ.get(key_variable) or None
        self.endpoint = Endpoint(
            base_url, model, key, timeout=float(timeout), retries=int(max_retries), extra=extra or {}
        )
        arguments.pop("max_batch_size", None)
        super().__init__(base_url=self.endpoint.url, model=model, num_concurrent=num_concurrent, **arguments)
        asked = int(batch_size) if str(batch_size).isdigit() else 1
        self.batch_size = max(asked, 4 * self._concurrent)
        self.tokens = {"prompt": 0, "completion": 0}
        """As the server counts them, of all requests so far."""
        self._lock = threading.Lock()
        self._in_words(lambda: self._send([{"role": "user", "content": "Hello"}], {"max_gen_toks": 1}, False))

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Replies to the requests, in their order.

        Raises:
            UserError: one of them cannot be had.
        """
        self.endpoint = replace(self.endpoint, stop=threading.Event())
        with (
            ThreadPoolExecutor(self._concurrent) as pool,
            tqdm(total=len(requests), disable=disable_tqdm, desc="Running generate_until requests") as bar,
        ):
            replies = [pool.submit(self._answer, *request.args) for request in requests]
            try:
                found = []
                for reply in replies:
                    found.append(self._in_words(reply.result))
                    bar.update()
            except BaseException:
                self.endpoint.stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return found

    def _answer(self, context: Any, settings: Mapping[str, Any]) -> str:
        """The text of a reply, up to a stop sequence; what the server hands over as reasoning before it."""
        reply = self._send(self.create_message([context]), settings)
        until = settings.get("until") or []
        text = reply.text
        for stop in [until] if isinstance(until, str) else until:
            text = text.partition(stop)[0] if stop else text
        return f"<think>\n{reply.reasoning}\n</think>\n\n{text}" if reply.reasoning.strip() else text

    def _send(self, messages: Any, settings: Mapping[str, Any], patient: bool = True) -> Reply:
        body = self._create_payload(
            messages, generate=True, gen_kwargs=copy.deepcopy(dict(settings)), seed=self._seed
        )
        if not body.get("stop"):
            body.pop("stop", None)  # some servers take no empty list
        reply = self.endpoint.ask(body, patient)
        with self._lock:
            self.tokens["prompt"] += reply.prompt_tokens
            self.tokens["completion"] += reply.completion_tokens
        return reply

    @staticmethod
    def _in_words(get: Any) -> Any:
        try:
            return get()
        except (Unreachable, Rejected) as error:
            raise UserError(
                f"{error}; what was answered is kept, the same command goes on from there"
            ) from None
