"""Where the items of every family come from, and the one form they have afterwards.

Items are looked for in the folder named by `LENS_DATA_DIR` (family folders as in `docs/tasks.md`, or plain
copies of hub repositories under their id), then on the hub at a pinned revision, as files: no loading
script is ever run. The same rows come out whichever; `rows_hash` over them goes into lm_eval's results.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lens_eval.tasks.benchmark_places import ALL_PLACES
from lens_eval.tasks.families import HUB, LCB_FAMILIES
from lens_eval.tasks.finding import DATA_DIR_VARIABLE, MissingItems, Place, Row, data_dir, find_files

if TYPE_CHECKING:
    import pyarrow  # type: ignore[import-untyped]


# The seed with which the released evaluation draws its items.
RELEASED_SEED = 112


@dataclass(frozen=True)
class Split:
    """The rows of one split and where they came from."""

    rows: list[Row]
    source: str

    def record(self) -> dict[str, Any]:
        """Return what identifies the rows in a results file: how many, their hash, their source."""
        return {"n": len(self.rows), "sha256": rows_hash(self.rows), "source": self.source}


def rows_hash(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the SHA-256 of rows: one JSON object a line, keys sorted, UTF-8."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode())
        digest.update(b"\n")
    return digest.hexdigest()


def load_split(family: str, language: str, split: str) -> Split:
    """Return the rows of one split ("test", or the one examples are taken from: "train").

    Raises `MissingItems` where no place has them: one line that says what is missing and the ways to get
    it.
    """
    places = ALL_PLACES[family](language, split)
    if not places:
        return Split([], "none published")
    failures = []
    for place in places:
        files, failure = find_files(place)
        if files:
            return Split(place.read(files), _source(place, files))
        failures.append(failure)
    raise MissingItems(_missing_message(family, language, split, places, failures))


def may_leave_out(family: str, skip_missing: bool | str) -> bool:
    """Whether a group may leave out a language: only what the user's own data folder lacks.

    `skip_missing` is what the group file says: True where the folder must hold the family in other
    languages, "any" where it may lack whole families.
    """
    return bool(skip_missing) and (
        data_dir() is not None if skip_missing == "any" else has_family_folder(family)
    )


def has_family_folder(family: str) -> bool:
    """Whether `LENS_DATA_DIR` holds a folder of this family: a language it lacks was left out there."""
    root = data_dir()
    return root is not None and (root / _FOLDERS.get(family, family)).is_dir()


# --- places ---------------------------------------------------------------------------------------


def _source(place: Place, files: Sequence[Path]) -> str:
    if place.hub:
        return str(HUB[place.folder])
    return f"{DATA_DIR_VARIABLE}: " + ", ".join(f"{place.folder}/{path.name}" for path in files)


def _missing_message(
    family: str, language: str, split: str, places: Sequence[Place], failures: Sequence[str]
) -> str:
    hub = next((HUB[place.folder] for place in places if place.hub), None)
    local = next((f"{place.folder}/{place.patterns[0]}" for place in places if not place.hub), None)
    ways = []
    if hub is not None:
        ways.append(f"go online once ({hub} is then cached)")
        copy = f"hf download {hub.repo} --repo-type dataset --revision {hub.revision} --local-dir"
        ways.append(
            f"set {DATA_DIR_VARIABLE} to a folder that has it, e.g. by `{copy} FOLDER/{hub.repo}` elsewhere"
        )
    if local is not None and hub is None:
        ways.append(f"set {DATA_DIR_VARIABLE} to a folder with {local} (it is on no hub)")
        if family in LCB_FAMILIES:
            ways.append("run `lens fetch lens_lcb`")
    return f"no {split} items for {family}, language {language}: {'; '.join(dict.fromkeys(failures))}; " + (
        ", or ".join(ways)
    )


_FOLDERS = {
    "mmlu": "mmlu_subset",
    "mtbench": "mt_bench",
    "global_mgsm": "mgsm",
    **dict.fromkeys(LCB_FAMILIES, "lcb"),
}


# --- what lm_eval sees ----------------------------------------------------------------------------


def load(
    family: str,
    language: str,
    central: str = "en",
    sample: int | None = None,
    variant: str | None = None,
    **_: Any,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the splits of a task as `datasets.Dataset`s of documents, and the record of their rows.

    A document is a row with `id` (its place in the split, or the data set's own `item` where languages lack
    different rows: items of one family are parallel by it), `language`, `central` and `prompt` (the question
    as asked, for the language judge to set names aside). `test` is what is evaluated, `train` what examples
    are taken from; a family without such a split has only `test`. `sample` draws that many test items as the
    released evaluation does (`random.sample`, seed 112); the record is of those drawn. `variant` is the name
    of the split's files where a language has several.
    """
    from datasets import Dataset

    splits, record = {}, {}
    for name in ("test", "train"):
        try:
            split = load_split(family, variant or language, name)
        except MissingItems:
            if name == "test":
                raise
            continue
        places: Sequence[int] = range(len(split.rows))
        if name == "test" and sample is not None and sample < len(places):
            drawn = random.Random(RELEASED_SEED).sample(places, sample)
            places, split = drawn, Split([split.rows[place] for place in drawn], split.source)
        if split.rows:
            splits[name] = Dataset(_documents(split.rows, places, language, central))
            record[name] = split.record()
    return splits, record


def _documents(rows: Sequence[Row], places: Sequence[int], language: str, central: str) -> pyarrow.Table:
    import pyarrow

    # Arrow's own allocator keeps half as much again as such small columns take.
    array = partial(pyarrow.array, memory_pool=pyarrow.system_memory_pool())
    columns = {name: [row.get(name) for row in rows] for name in rows[0]}
    own = {name: array(values) for name, values in columns.items()}
    asked = [_asked(row) for row in rows]
    same = next((name for name, values in columns.items() if values == asked), None)
    return pyarrow.table(
        {
            "id": own["item"] if "item" in own else array(list(places)),
            "language": array([language] * len(rows)),
            "central": array([central] * len(rows)),
            "prompt": own[same] if same else array(asked),  # most often a question, kept once
            **own,
        }
    )


def _asked(row: Row) -> str:
    """Return the words of an item that a response may repeat."""
    if "turns" in row or "sentences" in row:
        return "\n".join(row.get("turns") or row["sentences"])
    if "hypothesis" in row:
        return f"{row['premise']}\n{row['hypothesis']}"
    if "passage" in row:
        return f"{row['passage']}\n{row['question']}"
    return next(row[key] for key in ("premise", "sentence", "question") if key in row)
