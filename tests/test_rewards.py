"""Rewards: the language asked for is worth 1; silence, loops and what cannot be judged earn nothing."""

from __future__ import annotations

import pytest

from lens_eval.base.errors import UserError
from lens_eval.rewards import language_reward, usable_reward

SWAHILI = "Mji mkuu wa nchi ya Kenya ni Nairobi, na watu wengi wanaishi huko."
ENGLISH = "The capital of Kenya is the city of Nairobi, where many people live."


def test_only_the_language_asked_for_is_rewarded() -> None:
    assert language_reward()([SWAHILI, ENGLISH], language=["sw", "sw"]) == [1.0, 0.0]
    assert language_reward()([SWAHILI, ENGLISH], language=["en", "en"]) == [0.0, 1.0]  # the control
    assert language_reward("sw")([SWAHILI, ENGLISH]) == [1.0, 0.0]


def test_what_cannot_be_judged_earns_nothing() -> None:
    assert language_reward("sw")(["", "42", None, "Nairobi"]) == [0.0] * 4


def test_chat_messages_count_as_their_text() -> None:
    chat = [[{"role": "assistant", "content": text}] for text in (SWAHILI, ENGLISH)]
    parts = [[{"role": "assistant", "content": [{"type": "text", "text": SWAHILI}]}]]
    assert usable_reward("sw")(chat) == [1.0, 0.0]
    assert usable_reward("sw")(parts) == [1.0]


def test_a_loop_or_an_echo_is_on_target_and_not_usable() -> None:
    loop = " ".join([SWAHILI] * 6)
    assert language_reward("sw")([loop]) == [1.0]
    assert usable_reward("sw")([loop]) == [0.0]
    assert usable_reward("sw")([SWAHILI], prompts=[SWAHILI]) == [0.0]


def test_a_data_set_without_the_language_is_refused() -> None:
    with pytest.raises(UserError, match="no column 'language'"):
        language_reward()([SWAHILI], answer=["x"])
