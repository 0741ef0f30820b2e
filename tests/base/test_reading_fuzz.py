"""Mutated files of every format: a result or a `UserError`, nothing else."""

from __future__ import annotations

import contextlib
import gzip
import json
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from lens_eval.base import reading, settings_files
from lens_eval.base.errors import UserError
from lens_eval.base.separated import read_table
from lens_train.data import read_prompts
from lens_train.files import tensor_entries

_JSONL = b"".join(json.dumps({"prompt": {"en": f"a {n}", "sw": "b"}}).encode() + b"\n" for n in range(3))
_TENSORS = (
    b"\x40\0\0\0\0\0\0\0" + b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'.ljust(64) + bytes(8)
)
_SEEDS = (_JSONL, gzip.compress(_JSONL, mtime=0), b'a\tb\n"x\ty\n', b"a,b\n1,2\n", b"a: [1, 2e3]\n", _TENSORS)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(_SEEDS),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 3), st.binary(max_size=6)), max_size=4),
)
def test_mutated_files_are_read_or_refused(seed: bytes, changes: list[tuple[int, int, bytes]]) -> None:
    for place, cut, put in changes:
        seed = seed[:place] + put + seed[place + cut :]
    with tempfile.TemporaryDirectory() as folder:
        for ending in ("jsonl", "json", "tsv", "csv", "yaml", "safetensors"):
            file = Path(folder) / f"f.{ending}"
            file.write_bytes(seed)
            with contextlib.suppress(UserError):
                _read(file, ending)
        assert len(list(Path(folder).iterdir())) == 6


def _read(file: Path, ending: str) -> None:
    if ending == "jsonl":
        list(reading.read_objects(file))
    elif ending in ("tsv", "csv"):
        list(read_table(file, ending))
    elif ending == "yaml":
        settings_files.read(file)
    elif ending == "safetensors":
        tensor_entries(file)
    if ending in ("json", "jsonl"):
        read_prompts(file, ("en", "sw"))
