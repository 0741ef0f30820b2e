"""Chat messages as logs and data sets have them: `role` and `content`, or `from` and `value`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

ASSISTANT = ("assistant", "model", "gpt")
USER = ("user", "human")


def is_messages(value: Any) -> bool:
    """Whether a value is a conversation: a list of messages, each with the role that speaks, but for items of
    another kind between them (reasoning, calls of tools)."""
    if not isinstance(value, Sequence) or isinstance(value, str | bytes) or not value:
        return False
    return all(isinstance(each, Mapping) for each in value) and any(_role(each) for each in value)


def last_message(messages: Sequence[Mapping[str, Any]], roles: Sequence[str]) -> Mapping[str, Any] | None:
    """The last message of one of these roles; None if there is none."""
    return next((each for each in reversed(messages) if _role(each) in roles), None)


def message_text(message: Mapping[str, Any]) -> str | None:
    """The text of a message, None without content; parts that hold none, such as images, are left out."""
    content = message.get("content", message.get("value"))
    if content is None or isinstance(content, str):
        return content
    return parts_text(content)


def parts_text(parts: Any) -> str:
    """The text of a message's parts, one a line."""
    given = parts if isinstance(parts, Sequence) else ()
    texts = (part.get("text") for part in given if isinstance(part, Mapping))
    return "\n".join(text for text in texts if isinstance(text, str) and text)


def last_text(messages: Sequence[Mapping[str, Any]], roles: Sequence[str]) -> str:
    """The text of the last message of one of these roles; empty if there is none."""
    message = last_message(messages, roles)
    return (message_text(message) or "") if message is not None else ""


def _role(message: Mapping[str, Any]) -> str:
    role = message.get("role", message.get("from"))
    return role if isinstance(role, str) else ""
