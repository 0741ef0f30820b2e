"""Files spoilt in many ways: bytes, encodings, packing, and the shape of what they hold."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable
from typing import Any

import yaml
from hypothesis import strategies as st

FINE = 10_000
"""Places in a file are drawn in so many parts of its length."""

VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    2**63,
    10**30,
    1.5,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "1",
    "xx",
    "../../elsewhere",
    "/etc/hostname",
    "x" * 5000,
    "\x1b[2J\r",
    "\ud800",
    "\0",
    [],
    {},
    [[]],
    [None],
    ["x"],
    [1, 2],
    {"a": {}},
    {"": None},
    [[[[[[1]]]]]],
)
"""What can stand where something else is expected."""

WHOLE: tuple[Callable[[bytes], bytes], ...] = (
    lambda data: b"",
    lambda data: b"null",
    lambda data: b"[]",
    lambda data: b"{}",
    lambda data: b'"x"',
    lambda data: b"1e999",
    lambda data: b"[" * 100_000,
    lambda data: b'{"a":' * 300 + b"1" + b"}" * 300,
    lambda data: bytes(1000),
    lambda data: data * 2,
    lambda data: b"\xef\xbb\xbf" + data,
    lambda data: data.decode("utf-8", "replace").encode("utf-16"),
    lambda data: data.decode("utf-8", "replace").encode("latin-1", "replace") + b"\xe9\n",
    gzip.compress,
    lambda data: gzip.compress(data)[:-9],
    lambda data: data.replace(b"\n", b"\r\n"),
    lambda data: data.replace(b"\n", b"\xe2\x80\xa8"),
    lambda data: data.replace(b'"', b'""'),
    lambda data: data.replace(b"1", b"9" * 400),
    lambda data: data + b'{"x": ' + b"9" * 5000 + b"}\n",
)
"""Files that are another one altogether."""

Change = tuple[Any, ...]

_PLACE = st.integers(0, FINE - 1)
changes: st.SearchStrategy[Change] = st.one_of(
    st.tuples(st.just("shape"), _PLACE, st.integers(0, len(VALUES))),
    st.tuples(
        st.just("bytes"),
        st.lists(st.tuples(_PLACE, st.integers(0, 3), st.binary(max_size=5)), min_size=1, max_size=3),
    ),
    st.tuples(st.just("whole"), st.sampled_from(range(len(WHOLE)))),
    st.tuples(st.just("cut"), _PLACE),
)
"""One change; `spoilt` makes it."""


def spoilt(data: bytes, change: Change) -> bytes:
    """The bytes of a file after a change."""
    kind, *rest = change
    if kind == "bytes":
        for place, cut, put in rest[0]:
            at = place * len(data) // FINE
            data = data[:at] + put + data[at + cut :]
        return data
    if kind == "whole":
        return WHOLE[rest[0]](data)
    if kind == "cut":
        return data[: rest[0] * len(data) // FINE]
    return _reshaped(data, *rest)


def _reshaped(data: bytes, place: int, what: int) -> bytes:
    """One value inside of what a file holds replaced by another of `VALUES`, or taken away."""
    if data[:2] == b"\x1f\x8b":
        return gzip.compress(_reshaped(gzip.decompress(data), place, what))
    size = struct.unpack("<Q", data[:8])[0] if len(data) > 8 else len(data)
    if 8 + size <= len(data):
        header = _reshaped(data[8 : 8 + size], place, what)
        return struct.pack("<Q", len(header)) + header + data[8 + size :]
    for read, write in (
        (json.loads, json.dumps),
        (_read_lines, _write_lines),
        (yaml.safe_load, yaml.safe_dump),
    ):
        try:
            document = read(data.decode("utf-8"))
            return write(_changed(document, place, what)).encode("utf-8", "surrogatepass")
        except (ValueError, TypeError, yaml.YAMLError):
            continue
    return data


def _read_lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def _write_lines(values: Any) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


def _changed(document: Any, place: int, what: int) -> Any:
    whole = [document]
    places = list(_places(whole))
    container, key = places[place * len(places) // FINE]
    if what < len(VALUES):
        container[key] = VALUES[what]
    elif container is not whole:
        del container[key]
    return whole[0]


def _places(value: Any) -> Any:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield value, key
        yield from _places(each)
