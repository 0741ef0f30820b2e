"""The replies in a field: texts, chat messages, and what the chat APIs log.

Understood are the bodies of OpenAI's chat completions, completions and responses, alone or inside a line of a
batch output file, and messages of conversations. Their meaning is that of OpenAI's API reference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lens_eval.language.messages import (
    ASSISTANT,
    USER,
    is_messages,
    last_message,
    last_text,
    message_text,
    parts_text,
)

CUT_REASONS = frozenset({"length", "max_tokens", "max_output_tokens"})
"""Why a generation ended, if the token limit ended it."""
_DEEPEST = 4


@dataclass(frozen=True)
class Reply:
    """The text of a reply, None for a null; `cut`: whether the token limit ended it, None if unknown."""

    text: str | None
    cut: bool | None = None


def replies_of(value: Any, samples: bool = False) -> list[Reply]:
    """The replies in the value of a field.

    A string is one, and so is a null, a missing number (NaN) and a conversation, whose last message of the
    assistant counts. A list of strings has several, as have the `choices` of an API.

    Args:
        samples: the value is lm_eval's `resps`.

    Raises:
        ValueError: there is no text; says what there is.
    """
    if value is None or isinstance(value, str):
        return [Reply(value)]
    if isinstance(value, float) and value != value:
        return [Reply(None)]
    if isinstance(value, Mapping):
        return _of_object(value, 0)
    if isinstance(value, Sequence) and not isinstance(value, bytes) and value:
        return _of_list(value, samples, 0)
    raise ValueError(f"the text is no string but {type(value).__name__}")


def prompt_of(value: Any) -> str | None:
    """The prompt in the value of a field: a string, the last message of the user, or that of a request."""
    for _ in range(_DEEPEST):
        if isinstance(value, str):
            return value
        if is_messages(value):
            return last_text(value, USER) or None
        if not isinstance(value, Mapping):
            return None
        value = next(
            (value[key] for key in ("messages", "prompt", "input", "body") if value.get(key) is not None),
            None,
        )
    return None


def cut_by(reason: Any) -> bool | None:
    """Whether a `finish_reason`, or a number that is 1 for a cut, says that the token limit ended a reply."""
    if isinstance(reason, str):
        return reason.lower() in CUT_REASONS
    if isinstance(reason, bool | int | float):
        return reason >= 1
    return None


def _of_list(values: Sequence[Any], samples: bool, depth: int) -> list[Reply]:
    if is_messages(values):
        message = last_message(values, ASSISTANT)
        if message is None:
            raise ValueError("the messages hold none of the assistant")
        return [_of_message(message)]
    if all(isinstance(each, Mapping) for each in values):
        if all(isinstance(each.get("type"), str) for each in values):
            return [Reply(parts_text(values))]
        return [reply for each in values for reply in _of_object(each, depth + 1)]
    flat = [inner for each in values for inner in (each if isinstance(each, list) else [each])]
    if flat and all(text is None or isinstance(text, str) for text in flat):
        return [Reply(text) for text in flat]
    if samples:
        raise ValueError("log-likelihoods instead of text: a multiple-choice task generates no responses")
    raise ValueError(f"the text is no string but {type(values).__name__}")


def _of_object(value: Mapping[str, Any], depth: int) -> list[Reply]:
    """The replies of a choice, of a message, of a response, or of a batch's record around a response."""
    if value.get("error"):
        raise ValueError(f"the request failed: {failure(value['error'])}")
    for key in ("body", "choices", "output"):
        inner = value.get(key)
        if isinstance(inner, Mapping) and depth < _DEEPEST:
            return _of_object(inner, depth + 1)
        if isinstance(inner, list) and inner and depth < _DEEPEST:
            return [_ended_by(reply, value) for reply in _of_list(inner, False, depth + 1)]
    if isinstance(value.get("message"), Mapping):
        return [_ended_by(_of_message(value["message"]), value)]
    text = value.get("text")
    if isinstance(text, str):
        return [_ended_by(Reply(text), value)]
    if "content" in value or "value" in value:
        return [_ended_by(_of_message(value), value)]
    raise ValueError(f"no reply in the fields {', '.join(map(str, value)) or '(none)'}")


def _of_message(message: Mapping[str, Any]) -> Reply:
    text = message_text(message)
    if not text and isinstance(message.get("refusal"), str):
        return Reply(message["refusal"])
    if not text and (message.get("tool_calls") or message.get("function_call")):
        raise ValueError("a call of a tool instead of text")
    return Reply(text)


def _ended_by(reply: Reply, around: Mapping[str, Any]) -> Reply:
    details = around.get("incomplete_details")
    reasons = [around.get("finish_reason"), around.get("stop_reason")]
    if isinstance(details, Mapping):
        reasons.insert(0, details.get("reason"))
    cut = next((cut for cut in map(cut_by, reasons) if cut is not None), reply.cut)
    return replace(reply, cut=cut)


def failure(error: Any) -> str:
    """Why a request failed, in the words of the API."""
    message = error.get("message", error.get("code")) if isinstance(error, Mapping) else error
    return " ".join(str(message).split())[:200]
