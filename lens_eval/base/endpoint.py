"""A chat-completions endpoint of any OpenAI-compatible server: a question, a reply, retries with backoff."""

from __future__ import annotations

import email.utils
import queue
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from lens_eval.base.errors import UserError
from lens_eval.base.redaction import note, note_settings, visible

Message = Mapping[str, str]

FIRST_WAIT = 1.0
LONGEST_WAIT = 60.0
LARGEST_REPLY = 8 << 20
"""Bytes of a reply."""
# The server is busy or was hit by an accident: the same request can succeed later.
PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
# No request will succeed before the user changes something.
HOPELESS = frozenset({301, 302, 303, 307, 308, 401, 403, 404, 405})


class Unreachable(Exception):
    """No answer, or only "not now", after every retry: nothing speaks for trying other requests."""


class Rejected(Exception):
    """This one request failed: the server refused it, broke on it every time, or its reply is no reply."""


@dataclass(frozen=True)
class Reply:
    """The text of a reply, and the tokens the server says it counted (0 where it says nothing)."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    reasoning: str = ""
    """What the server hands over as reasoning beside the text."""
    ended: str = ""
    """Why it ended, in the server's word: `stop`, `length`, `content_filter`, ..."""


@dataclass(frozen=True)
class Endpoint:
    """Where and how a model is asked; safe to be shared by threads.

    `url` is the server's base (`http://localhost:8000/v1`) or the whole address of its chat completions;
    `key` goes into the Authorization header, None sends none. `extra` is laid over the body of every
    request; a field set to None there is left out. `timeout` in seconds holds for each try; a passing failure
    is tried again up to `retries` times.
    """

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    max_tokens: int = 1024
    timeout: float = 120.0
    retries: int = 6
    extra: Mapping[str, Any] = field(default_factory=dict)
    stop: threading.Event = field(default_factory=threading.Event, repr=False, compare=False)
    """Set it to end all waiting; `complete` then raises `Unreachable`."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            place = self.url.rpartition("@")[2]
            raise UserError(f"the endpoint {place!r} is no address such as http://localhost:8000/v1")
        if parts.username or parts.password:
            raise UserError("leave user and password out of the endpoint; the key comes from the environment")
        if self.key is not None:
            note(self.key)
            object.__setattr__(self, "key", self.key.strip() or None)
            if self.key and not (self.key.isascii() and self.key.isprintable()):
                raise UserError(
                    "the API key holds characters that no header can hold; set it anew (not shown here)"
                )
        note_settings(self.extra)
        note_settings(dict(parse_qsl(parts.query)))

    @property
    def address(self) -> str:
        """The address that requests are posted to."""
        base = self.url.rstrip("/")
        return base if base.endswith("/chat/completions") else f"{base}/chat/completions"

    def complete(self, messages: Sequence[Message], patient: bool = True) -> Reply:
        """Return the model's reply, decoded greedily. Not `patient`: a server that is not there is told soon.

        Raises:
            UserError: the server refuses every request (key, model or address are wrong).
            Unreachable: no connection or "too many requests", `retries` times over.
            Rejected: this request alone failed.
        """
        body = {
            "model": self.model,
            "messages": [dict(message) for message in messages],
            "temperature": 0,
            "max_tokens": self.max_tokens,
        }
        return self.ask(body, patient)

    def ask(self, body: Mapping[str, Any], patient: bool = True) -> Reply:
        """Return the reply to a request with this body, with `extra` laid over it; else as `complete`."""
        for attempt in range(self.retries + 1):
            try:
                return self._once(body)
            except _Passing as failure:
                hopeless = failure.silent and not patient and attempt == 1
                if attempt == self.retries or hopeless:
                    raise failure.final() from None
                if self.stop.wait(failure.wait or _backoff(attempt)):
                    raise Unreachable("stopped") from None
        raise AssertionError("unreachable: the last try returns or raises")

    def _once(self, given: Mapping[str, Any]) -> Reply:
        import requests

        body = {name: value for name, value in {**given, **self.extra}.items() if value is not None}
        try:
            answer = _in_time(lambda deadline: self._post(body, deadline), self.timeout)
            content = answer.content
        except (requests.RequestException, TimeoutError) as error:
            raise _Passing(f"{self.address} does not answer ({_why(error)})", silent=True) from None
        if answer.status_code == 200:
            return _reply(answer)
        said = f"{self.address} answered {answer.status_code}: {_short(content)}"
        if answer.status_code in HOPELESS:
            raise UserError(f"{said} (is the address right, the model's name {self.model!r}, the key?)")
        if answer.status_code in PASSING:
            wait = _seconds(answer.headers.get("Retry-After"))
            raise _Passing(said, wait, broken=answer.status_code not in (429, 503, 529))
        raise Rejected(said)

    def _post(self, body: Mapping[str, Any], deadline: float) -> Any:
        """The server's answer, with a body of at most `LARGEST_REPLY` bytes.

        Raises:
            TimeoutError: it took longer than the deadline.
        """
        import requests

        # No redirects: a key goes to the address the user named, or nowhere.
        with requests.post(
            self.address, json=body, auth=self._sign, timeout=self.timeout, allow_redirects=False, stream=True
        ) as answer:
            found = bytearray()
            for block in answer.iter_content(4096):
                found += block
                if len(found) > LARGEST_REPLY:
                    raise Rejected(f"{self.address} sent a reply of more than {LARGEST_REPLY >> 20} MB")
                if time.monotonic() > deadline:
                    raise TimeoutError("timed out")
            answer._content = bytes(found)
            return answer

    def _sign(self, request: Any) -> Any:
        """Set the header here: `requests` would else take a password for this host out of ~/.netrc."""
        if self.key:
            request.headers["Authorization"] = f"Bearer {self.key}"
        return request


def _in_time(ask: Callable[[float], Any], seconds: float) -> Any:
    """What `ask` returns, or its exception, or `TimeoutError` after `seconds`, however slowly a server sends.

    The time limit of a socket begins anew with every byte, so it ends no reply that comes byte by byte.
    """
    found: queue.SimpleQueue[tuple[Any, Exception | None]] = queue.SimpleQueue()

    def work() -> None:
        try:
            found.put((ask(time.monotonic() + seconds), None))
        except Exception as error:
            found.put((None, error))

    threading.Thread(target=work, daemon=True).start()
    try:
        answer, error = found.get(timeout=seconds + 1)
    except queue.Empty:
        raise TimeoutError("timed out") from None
    if error is not None:
        raise error
    return answer


class _Passing(Exception):
    """A failure worth another try.

    `broken`: the server broke on this request, others may do better; `silent`: nothing answered.
    """

    def __init__(self, text: str, wait: float = 0.0, broken: bool = False, silent: bool = False) -> None:
        super().__init__(text)
        self.wait = wait
        self.broken = broken
        self.silent = silent

    def final(self) -> Exception:
        return Rejected(str(self)) if self.broken else Unreachable(str(self))


def _backoff(attempt: int) -> float:
    """Seconds before the next try: doubling, with a random part so that threads do not come back as one."""
    return min(LONGEST_WAIT, FIRST_WAIT * 2**attempt) * random.uniform(0.5, 1.0)


def _seconds(header: str | None) -> float:
    """Read Retry-After: seconds or a date; at most `LONGEST_WAIT`, 0 where it says nothing."""
    if not header:
        return 0.0
    try:
        wait = float(header)
    except ValueError:
        try:
            wait = email.utils.parsedate_to_datetime(header).timestamp() - time.time()
        except (TypeError, ValueError):
            return 0.0
    return min(max(wait, 0.0), LONGEST_WAIT) if wait == wait else 0.0


def _reply(answer: Any) -> Reply:
    """Read a chat completion; raises `Rejected` where it is none."""
    try:
        document = answer.json()
        choice = document["choices"][0]
        message = choice["message"]
        text = _text(message.get("content"))
        reasoning = _text(message.get("reasoning_content") or message.get("reasoning"))
        ended = str(choice.get("finish_reason") or "")
        refusal = message.get("refusal")
        usage = document.get("usage") or {}
        read, written = (int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens"))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError):
        raise Rejected(f"the reply is no chat completion: {_short(answer.content)}") from None
    if text is None:
        raise Rejected(f"the reply's content is no text: {_short(answer.content)}")
    if not text.strip() and refusal:
        ended = "refusal"
    return Reply(text, read, written, reasoning or "", ended)


def _text(content: Any) -> str | None:
    """A message's content as text: a string, nothing, or a list of parts; None if it is none of these."""
    if content is None:
        return ""
    if isinstance(content, list):
        texts = [part.get("text") for part in content if part.get("type", "text") in ("text", "output_text")]
        return "".join(texts) if all(isinstance(each, str) for each in texts) else None
    return content if isinstance(content, str) else None


def _short(content: bytes) -> str:
    """One line of what a server said."""
    text = visible(" ".join(content[:2000].decode("utf-8", "replace").split()))
    return text[:200] or "nothing"


def _why(error: Exception) -> str:
    text = str(error)
    for words in ("Connection refused", "timed out", "Name or service not known", "nodename nor servname"):
        if words in text:
            return words.casefold()
    return type(error).__name__
