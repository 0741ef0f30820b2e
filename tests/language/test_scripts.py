"""Scripts without spaces between words: as groups of letters and as signs of a text they are the same."""

from __future__ import annotations

from lens_eval.language.scripts import UNSPACED, UNSPACED_SIGN, stretches

NO_SIGN = {*range(0x3005, 0x3008), *range(0x31F0, 0x3200)}
"""Iteration mark, closing mark and zero of Han; kana of Ainu."""


def test_groups_and_signs_agree_but_for_tibetan_and_some_of_han_and_kana() -> None:
    for code in range(0x10000):
        for group, _ in stretches(chr(code)):
            expected = group in UNSPACED and group != "Tibt" and code not in NO_SIGN
            assert bool(UNSPACED_SIGN.match(chr(code))) == expected, hex(code)


def test_rare_han_characters_are_no_sign() -> None:
    assert stretches("\U00020000") == [("CJK", "\U00020000")]
    assert not UNSPACED_SIGN.match("\U00020000")
