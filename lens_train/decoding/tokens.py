"""Which tokens of a vocabulary can stand in a text of given scripts."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from lens_eval.language.languages import get_language
from lens_eval.language.scripts import WORD, script_group, stretches

_EVERYWHERE = ""
"""Group of the signs that fit every script."""
_LAST = 0x3134F
"""The last character that has a script here."""


def groups_of(language: str) -> frozenset[str]:
    """Script groups of a language; Han characters and kana are one group.

    Raises:
        UserError: the language is not known.
    """
    return frozenset(script_group(script) for script in get_language(language).scripts)


def token_bytes(tokenizer: Any) -> list[bytes]:
    """The bytes that each token of the vocabulary writes; special tokens are empty.

    Tokens of a byte-level vocabulary and those of a byte fallback (`<0xE4>`) can be a part of a character.
    """
    special = set(tokenizer.all_special_ids)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    byte_level = backend is not None and "ByteLevel" in str(backend.decoder)
    added = tokenizer.get_added_vocab()
    table = _byte_of_sign()
    found: list[bytes] = []
    for number, name in enumerate(tokenizer.convert_ids_to_tokens(range(len(tokenizer)))):
        if number in special or name is None:
            found.append(b"")
        elif name in added:
            found.append(name.encode())
        elif byte_level:
            found.append(b"".join(table.get(sign, sign.encode()) for sign in name))
        elif len(name) == 6 and name.startswith("<0x") and name.endswith(">"):
            found.append(bytes([int(name[3:5], 16)]))
        else:
            found.append(name.replace("\u2581", " ").encode())
    return found


def fits(token: bytes, groups: Collection[str]) -> bool:
    """Whether every letter of a token is of these script groups. Parts of a character count if they can be.

    Digits, punctuation, spaces and other signs without a script fit everywhere.
    """
    begin = 0
    while begin < len(token) and 0x80 <= token[begin] < 0xC0:
        begin += 1
    end = _whole(token)
    if not all(_part_of(part, groups) for part in (token[:begin], token[end:]) if part):
        return False
    try:
        text = token[begin:end].decode()
    except UnicodeDecodeError:
        return False
    if text.isascii() and "Latn" in groups:
        return True
    known = {group for group, _ in stretches(text)}
    # A letter of a script that is not known here belongs to no language here.
    return known <= set(groups) and not any(sign.isalpha() and not stretches(sign) for sign in text)


def fitting(tokenizer: Any, language: str) -> Tensor:
    """True for each token that can stand in a text of the language's scripts, (vocabulary,)."""
    groups = groups_of(language)
    return torch.tensor([fits(token, groups) for token in token_bytes(tokenizer)])


def _whole(token: bytes) -> int:
    """Where the last character begins if it is not complete; else the end."""
    for back in range(1, min(4, len(token)) + 1):
        first = token[-back]
        if first >= 0xC0:
            length = 2 if first < 0xE0 else 3 if first < 0xF0 else 4
            return len(token) - back if back < length else len(token)
        if first < 0x80:
            break
    return len(token)


def _part_of(part: bytes, groups: Collection[str]) -> bool:
    return any(part in _parts().get(group, ()) for group in (*groups, _EVERYWHERE))


@lru_cache(maxsize=1)
def _parts() -> dict[str, set[bytes]]:
    """Group -> every part of the UTF-8 form of its letters, and of the signs in the same rows of Unicode.

    A row is 256 characters: the Arabic question mark stands in a row of Arabic letters. Signs in rows without
    letters, such as quotation marks, fit everywhere.
    """
    parts: dict[str, set[bytes]] = {}
    for row in range(0x00, (_LAST >> 8) + 1):
        if 0xD8 <= row < 0xE0:
            continue
        text = "".join(chr(number) for number in range(max(0x80, row << 8), (row + 1) << 8))
        members: dict[str, set[str]] = {}
        for word in WORD.finditer(text):
            members.setdefault(script_group(str(word.lastgroup)), set()).update(word[0])
        letters = set().union(*members.values())
        signs = {sign for sign in text if sign not in letters and unicodedata.category(sign)[0] in "PSNZ"}
        for group in members or {_EVERYWHERE: set()}:
            own = parts.setdefault(group, set())
            for character in members.get(group, set()) | signs:
                code = character.encode()
                own.update(code[a:b] for a in range(len(code)) for b in range(a + 1, len(code) + 1))
    return parts


@lru_cache(maxsize=1)
def _byte_of_sign() -> dict[str, bytes]:
    """How byte-level vocabularies write bytes: printable ones as themselves, the others from U+0100 on."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [number for number in range(256) if number not in set(shown)]
    signs = {chr(number): bytes([number]) for number in shown}
    return signs | {chr(0x100 + place): bytes([number]) for place, number in enumerate(hidden)}
