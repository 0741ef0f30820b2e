"""The one reader: encodings, packing, sizes and depth, the same for every file."""

from __future__ import annotations

import gzip
import json
import os
import struct
import threading
import tracemalloc
from pathlib import Path

import pytest

from lens_eval.base import reading, settings_files
from lens_eval.base.errors import UserError
from lens_eval.base.separated import guess_dialect, read_table, write_csv

ROW = {"text": "Habari ya asubuhi\u2028leo", "language": "sw"}
LINE = json.dumps(ROW, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_encodings_with_a_mark_read_alike(tmp_path: Path, encoding: str, pack: object) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(pack((LINE * 3).encode(encoding)))  # type: ignore[operator]
    assert [row for _, row in reading.read_objects(file)] == [ROW] * 3


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("é".encode("latin-1"), "not UTF-8"),
        (b'{"a": 1}\n[1]\n', "line 2: an object was expected"),
        (b'{"a": 1}\n{"a"\n', "line 2: not JSON"),
        (b'{"a": ' + b"[" * 200 + b"]" * 200 + b"}", "nested"),
        (b"[" * 100_000, "not JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON"),
        (gzip.compress(LINE.encode() * 99, mtime=0)[:-30], "line"),
        (gzip.compress(bytes(range(99)), mtime=0)[:20] + b"xxxx", "line"),
    ],
    ids=range(8),
)
def test_what_cannot_be_read_is_refused_with_its_place(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(content)
    with pytest.raises(UserError, match=words) as error:
        list(reading.read_objects(file))
    assert str(file) in str(error.value)


def test_a_lone_surrogate_can_be_written_again() -> None:
    assert reading.parse_json(r'{"a": "x\ud800y"}', "") == {"a": "x\ufffdy"}
    assert reading.parse_json(r'"\ud83d\ude00"', "") == "\U0001f600"


def test_a_bomb_and_a_line_without_end_take_bounded_memory(tmp_path: Path) -> None:
    bomb = tmp_path / "b.jsonl"
    with gzip.open(bomb, "wb", compresslevel=9) as stream:
        for _ in range(280):
            stream.write(bytes(1 << 20))
    tracemalloc.start()
    with pytest.raises(UserError, match="times its size"):
        list(reading.read_objects(bomb))
    assert tracemalloc.get_traced_memory()[1] < 8 * reading.LONGEST_LINE
    tracemalloc.stop()


def test_an_overlong_line_does_not_hide_the_next(tmp_path: Path) -> None:
    file = tmp_path / "l.txt"
    file.write_bytes(b"a\n" + b"x" * (reading.LONGEST_LINE + 5) + b"\nb\n")
    with reading.opened(file) as lines:
        assert [line for _, line in lines] == [b"a\n", None, b"b\n"]
    with pytest.raises(UserError, match="line 2: longer than"):
        list(reading.read_lines(file))


def test_a_pipe_is_read_once_and_whole(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text(LINE * 1000, encoding="utf-8"))
    writer.start()
    assert len(list(reading.read_objects(pipe))) == 1000
    writer.join()


def test_quotes_of_a_tsv_are_guessed_by_what_breaks_fewer_rows(tmp_path: Path) -> None:
    text = tmp_path / "a.tsv"
    text.write_text('q\ta\n"Hi he said\t1\ntwo\t2\nthree\t3\n', encoding="utf-8")
    assert [row["q"] for _, row in read_table(text, "tsv")] == ['"Hi he said', "two", "three"]
    sheet = tmp_path / "b.tsv"
    sheet.write_text('q\ta\n"one\nline"\t1\n"a ""b"""\t2\n', encoding="utf-8")
    assert [row["q"] for _, row in read_table(sheet, "tsv")] == ["one\nline", 'a "b"']


def test_the_delimiter_is_guessed_from_the_header_and_can_be_told() -> None:
    assert guess_dialect(["text;language\n", "a,b;sw\n"], "csv").delimiter == ";"
    assert guess_dialect(["text,language\n"], "csv").delimiter == ","
    assert guess_dialect(["a;b|c\n"], "csv", "|").delimiter == "|"


def test_a_quote_that_is_never_closed_is_said(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text('text,language\n"open,sw\nx,sw\n', encoding="utf-8")
    with pytest.raises(UserError, match="line 2: not CSV"):
        list(read_table(file, "csv"))


def test_formulas_are_text_in_csv_and_numbers_stay_numbers() -> None:
    assert write_csv(["=a", "b"], [["=HYPERLINK(1)", -0.5], ["-0.5", "+x"]]) == (
        "'=a,b\n'=HYPERLINK(1),-0.5\n-0.5,'+x\n"
    )


@pytest.mark.parametrize(
    "text",
    ["&a [*a]", "a: " + "[" * 1500, "a: 2001-99-99", "{[a]: b}: c", "x: !!python/object:os.system {}"],
)
def test_hostile_yaml_is_refused(text: str) -> None:
    with pytest.raises(UserError):
        settings_files.parse(text, "it")


def test_aliases_cannot_blow_up_settings() -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    with pytest.raises(UserError, match="repeats itself"):
        settings_files.parse("\n".join(levels), "it")
    assert settings_files.parse("a: &a {b: 1}\nc: *a", "it") == {"a": {"b": 1}, "c": {"b": 1}}


def test_what_is_read_twice_must_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    reading.require_file(tmp_path / "file", "word list")
    os.mkfifo(tmp_path / "pipe")
    for name, words in (("pipe", "is a pipe"), ("none", "no such file"), (".", "is a folder")):
        with pytest.raises(UserError, match=words):
            reading.require_file(tmp_path / name, "word list")


@pytest.mark.parametrize("wrong", [KeyError, ZeroDivisionError, RuntimeError, struct.error, OverflowError])
def test_a_document_of_another_shape_is_said_in_words(wrong: type[Exception]) -> None:
    with pytest.raises(UserError, match="is no recipe"), reading.shaped("a.json", "recipe"):
        raise wrong("x")
    with pytest.raises(KeyboardInterrupt), reading.shaped("a.json", "recipe"):
        raise KeyboardInterrupt
