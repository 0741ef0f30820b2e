"""The one reader of files from outside: encoding, packing, sizes, depth and line numbers.

A file is opened once and read from its beginning to its end, so that pipes and devices can be read as well.
Every error names the file, and the line where there is one.
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from lens_eval.base.errors import UserError

LONGEST_LINE = 16 << 20
"""Bytes of a line; a longer one is no response, prompt or sample."""
LARGEST_DOCUMENT = 256 << 20
"""Bytes of a file that is read as a whole."""
DEEPEST = 100
"""Lists and objects inside of each other."""
SKIPPED = 1 << 30
"""Bytes of an overlong line that are passed over to find the next line."""
_BLOCK = 1 << 16
_BOMB_SIZE, _BOMB_SHARE = 256 << 20, 400
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DAMAGED = (OSError, EOFError, zlib.error, UnicodeDecodeError)


class Damaged(UserError):
    """A file that cannot be read on; `line` is the line at which it breaks off."""

    def __init__(self, text: str, line: int = 0) -> None:
        super().__init__(text)
        self.line = line


class Lines:
    """The lines of a binary stream, gzip or not, as UTF-8 without byte-order mark.

    Args:
        raw: is read once; not closed.
        name: for messages.

    Raises:
        Damaged: its beginning cannot be read.
    """

    def __init__(self, raw: IO[bytes], name: str) -> None:
        self.name = name
        self._counted = _Counted(raw)
        try:
            self._stream = self._unpacked()
        except _DAMAGED as error:
            raise Damaged(f"cannot be read: {error}") from None

    def _unpacked(self) -> Any:
        """The stream from its beginning, unpacked, as UTF-8."""
        stream: Any = io.BufferedReader(self._counted, _BLOCK)
        if stream.peek(2)[:2] == b"\x1f\x8b":
            stream = io.BufferedReader(_Unpacked(stream, self._counted), _BLOCK)
        start = stream.peek(4)[:4]
        encoding = next((name for mark, name in _MARKS if start.startswith(mark)), None)
        return io.BufferedReader(_Recoded(stream, encoding), _BLOCK) if encoding else stream

    @property
    def position(self) -> int:
        """Bytes taken from the stream so far."""
        return self._counted.count

    def __iter__(self) -> Iterator[tuple[int, bytes | None]]:
        """Number and bytes of each line; None in place of a line that is longer than `LONGEST_LINE`.

        Raises:
            Damaged: the stream breaks off, or a line has no end.
        """
        number = 0
        while True:
            number += 1
            try:
                line = self._stream.readline(LONGEST_LINE + 1)
                if not line:
                    return
                if len(line) > LONGEST_LINE and not line.endswith(b"\n"):
                    self._skip(number)
                    yield number, None
                    continue
            except _DAMAGED as error:
                raise Damaged(f"cannot be read on: {error}", number) from None
            yield number, line.removeprefix(codecs.BOM_UTF8) if number == 1 else line

    def _skip(self, number: int) -> None:
        passed = 0
        while line := self._stream.readline(_BLOCK):
            passed += len(line)
            if line.endswith(b"\n"):
                return
            if passed > SKIPPED:
                raise Damaged(f"cannot be read on: a line of more than {SKIPPED >> 20} MB", number)

    def whole(self) -> bytes:
        """Everything at once.

        Raises:
            Damaged: it breaks off, or is larger than `LARGEST_DOCUMENT`.
        """
        try:
            data = self._stream.read(LARGEST_DOCUMENT + 1)
        except _DAMAGED as error:
            raise Damaged(f"cannot be read: {error}") from None
        if len(data) > LARGEST_DOCUMENT:
            raise Damaged(f"holds more than {LARGEST_DOCUMENT >> 20} MB")
        return data.removeprefix(codecs.BOM_UTF8)


class _Counted(io.RawIOBase):
    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self.count = stream, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = (
            self._stream.read1(len(buffer)) if hasattr(self._stream, "read1") else self._stream.read(_BLOCK)
        )
        buffer[: len(data)] = data
        self.count += len(data)
        return len(data)


class _Unpacked(io.RawIOBase):
    """What a gzip stream holds; a stream that unpacks to far more than any text would is refused."""

    def __init__(self, stream: IO[bytes], packed: _Counted) -> None:
        self._file, self._packed, self._size = gzip.GzipFile(fileobj=stream), packed, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read1(len(buffer))  # all there is before a place that is damaged
        buffer[: len(data)] = data
        self._size += len(data)
        if self._size > _BOMB_SIZE and self._size > _BOMB_SHARE * self._packed.count:
            raise OSError(f"the gzip unpacks to more than {_BOMB_SHARE} times its size")
        return len(data)


class _Recoded(io.RawIOBase):
    """UTF-16 or UTF-32 as UTF-8."""

    def __init__(self, stream: IO[bytes], encoding: str) -> None:
        self._stream, self._decoder, self._left = stream, codecs.getincrementaldecoder(encoding)(), b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            block = self._stream.read(_BLOCK)
            try:
                self._left = self._decoder.decode(block, final=not block).encode("utf-8", "replace")
            except UnicodeDecodeError as error:
                raise OSError(f"not UTF-8, and no {error.encoding} as its first bytes say") from None
            if not block and not self._left:
                return 0
        part, self._left = self._left[: len(buffer)], self._left[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)


def text(data: bytes, where: str) -> str:
    """Bytes as text.

    Raises:
        UserError: they are no UTF-8.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{where}: not UTF-8 (byte 0x{data[error.start]:02x} at {error.start}); save the file as UTF-8"
        ) from None


def parse_json(given: str, where: str) -> Any:
    """JSON as values; a lone surrogate, which no file can hold, becomes U+FFFD.

    Raises:
        UserError: not JSON, or nested too deep.
    """
    try:
        value = json.loads(given)
    except json.JSONDecodeError as error:
        place = f"column {error.colno}" if "\n" not in given.strip() else f"line {error.lineno}"
        raise UserError(f"{where}: not JSON ({error.msg}, {place})") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not JSON ({str(error)[:100]})") from None
    if given.count("[") + given.count("{") > DEEPEST and _depth(value) > DEEPEST:
        raise UserError(f"{where}: nested more than {DEEPEST} deep")
    return _without_surrogates(value) if "\\ud" in given or "\\uD" in given else value


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level and depth <= DEEPEST:
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        depth += 1
    return depth


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return "".join("\ufffd" if "\ud800" <= sign <= "\udfff" else sign for sign in value)
    if isinstance(value, list):
        return [_without_surrogates(each) for each in value]
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(each) for key, each in value.items()}
    return value


@contextmanager
def opened(path: Path) -> Iterator[Lines]:
    """A file to be read once.

    Raises:
        UserError: it is not there, is a folder, or may not be read.
    """
    try:
        stream = path.open("rb", buffering=0)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    with stream:
        try:
            lines = Lines(stream, str(path))
        except Damaged as error:
            raise UserError(f"{path} {error}") from None
        yield lines


def require_file(path: Path, what: str) -> None:
    """Refuse what is no ordinary file, before something that reads it more than once.

    Args:
        path: is not opened.
        what: it should be, for the message.

    Raises:
        UserError: there is nothing, a folder, or a pipe or device, which can be read only once.
    """
    if path.is_file():
        return
    if path.is_dir():
        raise UserError(f"{path} is a folder; name the file that holds {what}")
    if not path.exists():
        raise UserError(f"no {what} at {path}: there is no such file")
    raise UserError(f"{path} is a pipe or a device; {what} is read more than once: save it to a file first")


def read_text(path: Path) -> str:
    """A whole text file; see `opened`, `Lines.whole` and `text` for what is refused."""
    with opened(path) as lines:
        try:
            data = lines.whole()
        except Damaged as error:
            raise UserError(f"{path} {error}") from None
    return text(data, str(path)).replace("\r\n", "\n")


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Every line with its place (`FILE, line 3`), without its end. Only a line feed ends a line.

    Raises:
        UserError: the file or a line cannot be read; names the line.
    """
    with opened(path) as lines:
        try:
            for number, line in lines:
                where = f"{path}, line {number}"
                if line is None:
                    raise UserError(f"{where}: longer than {LONGEST_LINE >> 20} MB")
                yield where, text(line, where).rstrip("\r\n")
        except Damaged as error:
            raise UserError(f"{path}, line {error.line}: corrupt or cut short ({error})") from None


def read_json(path: Path) -> Any:
    """A JSON file.

    Raises:
        UserError: it cannot be read, or holds no JSON.
    """
    return parse_json(read_text(path), str(path))


def read_object(path: Path, what: str) -> dict[str, Any]:
    """A JSON file that holds an object; `what` it should be, for the message.

    Raises:
        UserError: it cannot be read, or holds something else.
    """
    document = read_json(path)
    if not isinstance(document, dict):
        raise UserError(f"{path} is no {what}: it holds {type(document).__name__}")
    return document


def read_objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a JSONL file with their places; empty lines are passed over.

    Raises:
        UserError: a line that holds no object.
    """
    for where, line in read_lines(path):
        if line.strip():
            row = parse_json(line, where)
            if not isinstance(row, dict):
                raise UserError(f"{where}: an object was expected, found {type(row).__name__}")
            yield where, row


@contextmanager
def shaped(path: Path | str, what: str) -> Iterator[None]:
    """Read the parts of a document that was written by somebody else.

    Raises:
        UserError: a part is missing or of another type, so that the block failed; `what` says what the
            document should be.
    """
    # Arithmetic: division by zero, overflow. RuntimeError: too deep, or a tensor of another shape.
    wrong = (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RuntimeError, struct.error)
    try:
        yield
    except wrong as error:
        raise UserError(f"{path} is no {what}, or a damaged one ({error!r})") from error
