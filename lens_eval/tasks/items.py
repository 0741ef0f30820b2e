"""Where the items of every family come from, and the one form they have afterwards.

Items are looked for in the folder named by `LENS_DATA_DIR` (family folders as in `docs/tasks.md`, or plain
copies of hub repositories under their id), then on the hub at a pinned revision, as files: no loading
script is ever run. The same rows come out whichever; `rows_hash` over them goes into lm_eval's results.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lens_eval.base.errors import UserError
from lens_eval.tasks.words import word

if TYPE_CHECKING:
    import pyarrow  # type: ignore[import-untyped]

DATA_DIR_VARIABLE = "LENS_DATA_DIR"
Row = dict[str, Any]

# The seed with which the released evaluation draws its items.
RELEASED_SEED = 112
# The MT-Bench categories whose answers a judge compares with a reference.
REFERENCE_CATEGORIES = frozenset({"math", "reasoning", "coding"})
XNLI_LABELS = ("entailment", "neutral", "contradiction")


class MissingItems(UserError):
    """Items that are neither in `LENS_DATA_DIR` nor on the hub as far as it can be reached."""


@dataclass(frozen=True)
class Hub:
    """A data set on the hub: its id and the revision that is read.

    A revision of 40 hexadecimal digits never moves. A ref like `refs/convert/parquet` can: there the hash
    of the rows in the results says what was read.
    """

    repo: str
    revision: str

    def __str__(self) -> str:
        return f"{self.repo}@{self.revision}"


HUB: dict[str, Hub] = {
    "xnli": Hub("facebook/xnli", "b8dd5d7af51114dbda02c0e3f6133f332186418e"),
    "mgsm": Hub("juletxara/mgsm", "b2f13d426afe3be8d69a7e739b36724db8b66bbc"),
    "xcopa": Hub("cambridgeltl/xcopa", "042f78955ba48e6404616762fa6e05e839c3907a"),
    "copa": Hub("aps/super_glue", "3de24cf8022e94f4ee4b9d55a6f539891524d646"),
    "xwinograd": Hub("Muennighoff/xwinograd", "refs/pr/4"),
    "xstorycloze": Hub("juletxara/xstory_cloze", "c4c2d88a1ec8b37fe22166d2a610f272726724b6"),
    "m_mmlu": Hub("alexandrainst/m_mmlu", "refs/convert/parquet"),
    "mmmlu": Hub("openai/MMMLU", "038c7808122969ead7456361af05cb8f47d247f8"),
    "kmmlu": Hub("HAERAE-HUB/KMMLU", "refs/convert/parquet"),
}

# Languages that alexandrainst/m_mmlu lacks and openai/MMMLU has, with the file that holds them.
MMMLU_FILES = {"ja": "JA-JP", "ko": "KO-KR", "sw": "SW-KE"}

# The languages of each family, those of the paper first.
_LANGUAGE_LISTS = {
    "xnli": "en zh ar sw es fr de ru th bg el hi tr ur vi",
    "mgsm": "en zh ja bn sw es fr de ru th te",
    "xcopa": "en zh sw et ht id it qu ta th tr vi",
    "xwinograd": "en zh ja fr pt ru",
    "xstorycloze": "en zh ar sw es eu hi id my ru te",
    "mmlu": "en zh ja ko ar bn sw es fr de ru ca da eu gu hi hr hu hy id is it kn ml mr nb ne nl pt ro sk sr "
    "sv ta te uk vi",
    "kmmlu": "ko",
    "mtbench": "en zh ja ko ar bn es fr de th",
}
LANGUAGES = {family: tuple(codes.split()) for family, codes in _LANGUAGE_LISTS.items()}


@dataclass(frozen=True)
class Split:
    """The rows of one split and where they came from."""

    rows: list[Row]
    source: str

    def record(self) -> dict[str, Any]:
        """Return what identifies the rows in a results file: how many, their hash, their source."""
        return {"n": len(self.rows), "sha256": rows_hash(self.rows), "source": self.source}


@dataclass(frozen=True)
class _Place:
    """One place that can hold a split: files of a folder, and how to read a row from each record of them."""

    folder: str  # below LENS_DATA_DIR, or a key of HUB
    patterns: tuple[str, ...]
    read: Callable[[Sequence[Path]], list[Row]]
    hub: bool = False


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
    places = _PLACES[family](language, split)
    if not places:
        return Split([], "none published")
    failures = []
    for place in places:
        files, failure = _find(place)
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


def data_dir() -> Path | None:
    """Return the folder named by `LENS_DATA_DIR`, or None; raises `UserError` if there is no such folder."""
    name = os.environ.get(DATA_DIR_VARIABLE)
    if not name:
        return None
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise UserError(
            f"{DATA_DIR_VARIABLE} names {name!r}, and there is no such folder; unset it or mend it"
        )
    return folder


# --- places
# -------------------------------------------------------------------------------------------------------


def _find(place: _Place) -> tuple[list[Path], str]:
    """Return the files of a place, or none and why."""
    root = data_dir()
    if not place.hub:
        if root is None:
            return [], f"{DATA_DIR_VARIABLE} is not set"
        return _match(root / place.folder, place), f"{root} has no {place.folder}/{place.patterns[0]}"
    source = HUB[place.folder]
    if root is not None and (root / source.repo).is_dir():
        return _match(root / source.repo, place), f"{root / source.repo} has no {place.patterns[0]}"
    cached = _snapshot(source, place.patterns, local_only=True)
    files = _match(cached, place) if cached else []
    if files:
        return files, ""
    failure = _why_unreachable(source)
    if failure:
        return [], failure
    folder = _snapshot(source, place.patterns, local_only=False)
    return _match(folder, place) if folder else [], f"{source} has no {place.patterns[0]}"


def _match(folder: Path, place: _Place) -> list[Path]:
    for pattern in place.patterns:
        files = sorted(folder.glob(pattern))
        if files:
            return files
    return []


def _snapshot(source: Hub, patterns: Sequence[str], local_only: bool) -> Path | None:
    """Return the folder of a hub data set's cached (or now downloaded) files, or None."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            source.repo,
            repo_type="dataset",
            revision=source.revision,
            allow_patterns=list(patterns),
            local_files_only=local_only,
        )
    except LocalEntryNotFoundError:
        return None
    return Path(folder)


_unreachable: str | None = None


def _why_unreachable(source: Hub) -> str | None:
    """Ask the hub for a revision once; return why it cannot be had, or None.

    A hub that did not answer is not asked again by this process: a group would wait for every language.
    """
    global _unreachable
    if _unreachable is None:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

        try:
            HfApi().repo_info(source.repo, repo_type="dataset", revision=source.revision, timeout=20)
        except HfHubHTTPError as error:
            return f"the hub refused {source} ({str(error).strip().splitlines()[0]})"
        except OfflineModeIsEnabled:
            _unreachable = "the hub may not be asked (HF_HUB_OFFLINE is set)"
        except Exception as error:  # requests and httpx both: huggingface_hub changed from one to the other
            _unreachable = f"the hub cannot be reached ({type(error).__name__})"
    return _unreachable


def _source(place: _Place, files: Sequence[Path]) -> str:
    if place.hub:
        return str(HUB[place.folder])
    return f"{DATA_DIR_VARIABLE}: " + ", ".join(f"{place.folder}/{path.name}" for path in files)


def _missing_message(
    family: str, language: str, split: str, places: Sequence[_Place], failures: Sequence[str]
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
    return f"no {split} items for {family}, language {language}: {'; '.join(dict.fromkeys(failures))}; " + (
        ", or ".join(ways)
    )


# --- files
# --------------------------------------------------------------------------------------------------------


def _records(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a JSON-lines (plain or gzip), CSV, TSV-with-header or parquet file."""
    name = path.name
    if name.endswith(".parquet"):
        import pyarrow.parquet  # type: ignore[import-untyped]

        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=1024):
            yield from batch.to_pylist()
    elif name.endswith((".jsonl", ".jsonl.gz")):
        opener = gzip.open if name.endswith(".gz") else open
        with opener(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _json(line, path, number)
    else:
        with path.open(encoding="utf-8", newline="") as lines:
            yield from csv.DictReader(lines, delimiter="," if name.endswith(".csv") else "\t")


def _json(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {number}: not JSON ({error.msg})") from None


def _each(row: Callable[[dict[str, Any]], Row]) -> Callable[[Sequence[Path]], list[Row]]:
    """Return a reader that makes one row of every record of the files, in order."""

    def read(files: Sequence[Path]) -> list[Row]:
        try:
            return [row(record) for path in files for record in _records(path)]
        except KeyError as error:
            names = ", ".join(str(path) for path in files)
            raise UserError(
                f"{names}: a record lacks the field {error}; is this the data set it should be?"
            ) from None

    return read


def _parquet(config: str, split: str) -> tuple[str, ...]:
    """Return where a split lies in a parquet repository, and where in a converted one."""
    return f"{config}/{split}-*.parquet", f"{config}/{split}/*.parquet"


# --- families
# -----------------------------------------------------------------------------------------------------


def _xnli(language: str, split: str) -> list[_Place]:
    """Test split for evaluation; examples from validation (the train split is machine-translated)."""
    name = "test" if split == "test" else "validation"

    def row(record: dict[str, Any]) -> Row:
        answer = record["label"]
        return {
            "premise": record["premise"].strip(),
            "hypothesis": record["hypothesis"].strip(),
            "answer": XNLI_LABELS.index(answer) if isinstance(answer, str) else int(answer),
        }

    return [
        _Place("xnli", (f"{name}.{language}.jsonl*",), _each(row)),
        _Place("xnli", _parquet(language, name), _each(row), hub=True),
    ]


def _mgsm(language: str, split: str) -> list[_Place]:
    """250 test items; the eight published exemplars are the train split."""

    def test(question: str, answer: Any) -> Row:
        return {"question": question.strip(), "answer_number": int(str(answer).replace(",", ""))}

    def exemplar(question: str, solution: str, answer: Any) -> Row:
        without_label = question.removeprefix(word(language, "question"))
        steps = solution.removeprefix(word(language, "steps"))
        return {**test(without_label, answer), "solution": steps.strip()}

    def tsv(files: Sequence[Path]) -> list[Row]:
        lines = files[0].read_text(encoding="utf-8").splitlines()
        return [test(*line.split("\t")) for line in lines if line.strip()]

    def exemplars(files: Sequence[Path]) -> list[Row]:
        literals = json.loads(files[0].read_text(encoding="utf-8"))
        items = literals["MGSM_EXEMPLARS"].get(language, {})
        answers = literals["EXEMPLAR_NUMBER_ANSWERS"]
        return [exemplar(items[key]["q"], items[key]["a"], answers[int(key) - 1]) for key in sorted(items)]

    def hub(record: dict[str, Any]) -> Row:
        if split == "test":
            return test(record["question"], record["answer_number"])
        return exemplar(record["question"], record["answer"], record["answer_number"])

    local = (f"mgsm_{language}.tsv", tsv) if split == "test" else ("exemplars.json", exemplars)
    return [
        _Place("mgsm", (local[0],), local[1]),
        _Place("mgsm", _parquet(language, split), _each(hub), hub=True),
    ]


def _xcopa(language: str, split: str) -> list[_Place]:
    """500 test items; examples from the 100 validation items.

    Whether an item asks for a cause or an effect is the same in every language, but wrong in some files: in
    all 250 cause items of the Thai one, in 51 items of the Turkish, 37 of the Swahili, 4 of the Italian and
    of the Indonesian one. `question` is that of the Chinese file, which agrees with English COPA on all
    500; `published_question` is what the file itself says.

    English is COPA. Its hub copy has no test labels: they too are those of the Chinese file, equal in all
    languages.
    """
    name, short = ("test", "test") if split == "test" else ("validation", "val")

    def places(code: str, read: Callable[[Sequence[Path]], list[Row]]) -> list[_Place]:
        local = _Place("xcopa", (f"{code}/{short}.{code}.jsonl",), read)
        if code == "en":
            return [local, _Place("copa", _parquet("copa", name), read, hub=True)]
        return [local, _Place("xcopa", _parquet(code, name), read, hub=True)]

    def row(record: dict[str, Any], reference: dict[str, Any]) -> Row:
        unlabelled = record["label"] < 0
        return {
            "premise": record["premise"].strip(),
            "choices": [record["choice1"].strip(), record["choice2"].strip()],
            "question": reference["question"],
            "published_question": record["question"],
            "answer": int(reference["label"] if unlabelled else record["label"]),
        }

    def read(files: Sequence[Path]) -> list[Row]:
        records = _each(dict)(files)
        references = (
            records if language == "zh" else _xcopa_references(places("zh", _each(dict)), language, split)
        )
        by_idx = {record["idx"]: record for record in references}
        return [row(record, by_idx[record["idx"]]) for record in records]

    return places(language, read)


def _xcopa_references(places: Sequence[_Place], language: str, split: str) -> list[Row]:
    """Return the records of the Chinese file that the others are completed from."""
    for place in places:
        files, _ = _find(place)
        if files:
            return place.read(files)
    raise MissingItems(
        f"no {split} items for xcopa, {language}: they are completed from the Chinese file, which is "
        f"missing; put it beside the others or go online once ({HUB['xcopa']} is then cached)"
    )


def _xwinograd(language: str, split: str) -> list[_Place]:
    """Test split only. Chinese has 16 items in the original release and 504 on the hub."""
    if split != "test":
        return []
    config = {"ja": "jp"}.get(language, language)

    def row(record: dict[str, Any]) -> Row:
        return {
            "sentence": record["sentence"].strip(),
            "choices": [record["option1"].strip(), record["option2"].strip()],
            "answer": int(record["answer"]) - 1,
        }

    return [
        _Place("xwinograd", (f"{config}.jsonl",), _each(row)),
        _Place("xwinograd", _parquet(config, "test"), _each(row), hub=True),
    ]


def _xstorycloze(language: str, split: str) -> list[_Place]:
    """1511 items of the eval split; examples from the 360 of the train split."""
    name = "eval" if split == "test" else "train"

    def row(record: dict[str, Any]) -> Row:
        return {
            "sentences": [record[f"input_sentence_{number}"].strip() for number in range(1, 5)],
            "choices": [record["sentence_quiz1"].strip(), record["sentence_quiz2"].strip()],
            "answer": int(record["answer_right_ending"]) - 1,
        }

    patterns = (f"spring2016.val.{language}.tsv.split_20_80_{name}.tsv",)
    return [_Place("xstorycloze", patterns, _each(row), hub=True)]


def _mmlu(language: str, split: str) -> list[_Place]:
    """Multilingual MMLU; examples from its dev questions.

    `LENS_DATA_DIR/mmlu_subset` holds other translations than the hub's: the source in the results says
    which.
    """

    def local(record: dict[str, Any]) -> Row:
        return _question(record["subject"], record["question"], record["choices"], record["answer"])

    def okapi(record: dict[str, Any]) -> Row:
        options = [record[f"option_{letter}"] for letter in "abcd"]
        subject, answer = record["id"].split("/")[0], "ABCD".index(record["answer"])
        # Each language lacks other questions: the id says which are the same one.
        return {"item": record["id"], **_question(subject, record["instruction"], options, answer)}

    def mmmlu(record: dict[str, Any]) -> Row:
        options = [record[letter] for letter in "ABCD"]
        return _question(record["Subject"], record["Question"], options, "ABCD".index(record["Answer"]))

    name = "test" if split == "test" else "dev"
    places = [_Place("mmlu_subset", (f"{name}.{language}.jsonl",), _each(local))]
    if language not in MMMLU_FILES:
        hub_name = "test" if split == "test" else "train"
        places.append(_Place("m_mmlu", _parquet(language, hub_name), _each(okapi), hub=True))
    elif split == "test":
        places.append(_Place("mmmlu", (f"test/mmlu_{MMMLU_FILES[language]}.csv",), _each(mmmlu), hub=True))
    return places if split == "test" or language not in MMMLU_FILES else []


def _question(subject: str, question: str, choices: Sequence[str], answer: int) -> Row:
    texts = [str(choice).strip() for choice in choices]
    return {"subject": subject, "question": question.strip(), "choices": texts, "answer": int(answer)}


def _kmmlu(language: str, split: str) -> list[_Place]:
    """45 Korean subjects; examples from their dev split."""
    name = "test" if split == "test" else "dev"

    def read(files: Sequence[Path]) -> list[Row]:
        rows = []
        for path in files:
            subject = path.parent.parent.name
            for record in _records(path):
                options = [record[letter] for letter in "ABCD"]
                rows.append(_question(subject, record["question"], options, int(record["answer"]) - 1))
        return rows

    return [_Place("kmmlu", (f"*/{name}/*.parquet",), read, hub=True)]


def _mtbench(language: str, split: str) -> list[_Place]:
    """MT-Bench questions, two turns; Arabic has only the single-turn questions of Vicuna-80.

    `references` are for a judge: of mathematics, reasoning and coding questions the answers in
    `reference_answer/*.jsonl` beside the questions, else those of the question's own record; else empty.
    """
    if split != "test":
        return []

    def read(files: Sequence[Path]) -> list[Row]:
        given = _reference_answers(files[0].parent / "reference_answer")

        def row(record: dict[str, Any]) -> Row:
            wants = record["category"] in REFERENCE_CATEGORIES
            own = given.get(int(record["question_id"])) or record.get("reference") or []
            return {
                "question_id": int(record["question_id"]),
                "category": record["category"],
                "turns": [turn.strip() for turn in record.get("turns") or [record["text"]]],
                "references": [str(text).strip() for text in own] if wants else [],
            }

        return _each(row)(files)

    if language == "ar":
        return [_Place("vicuna80", ("questions_ar.jsonl",), read)]
    return [_Place("mt_bench", (f"{language}/question.jsonl",), read)]


def _reference_answers(folder: Path) -> dict[int, list[str]]:
    """Return reference answers by question, one a turn, of the first file of a folder in FastChat's form."""
    files = sorted(folder.glob("*.jsonl"))[:1]
    records = [record for path in files for record in _records(path)]
    return {int(record["question_id"]): record["choices"][0]["turns"] for record in records}


_PLACES: dict[str, Callable[[str, str], list[_Place]]] = {
    "xnli": _xnli,
    "mgsm": _mgsm,
    "xcopa": _xcopa,
    "xwinograd": _xwinograd,
    "xstorycloze": _xstorycloze,
    "mmlu": _mmlu,
    "kmmlu": _kmmlu,
    "mtbench": _mtbench,
}
_FOLDERS = {"mmlu": "mmlu_subset", "mtbench": "mt_bench"}


# --- what lm_eval sees
# --------------------------------------------------------------------------------------------


def load(
    family: str, language: str, central: str = "en", sample: int | None = None, **_: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the splits of a task as `datasets.Dataset`s of documents, and the record of their rows.

    A document is a row with `id` (its place in the split, or the data set's own `item` where languages lack
    different rows: items of one family are parallel by it), `language`, `central` and `prompt` (the question
    as asked, for the language judge to set names aside). `test` is what is evaluated, `train` what examples
    are taken from; a family without such a split has only `test`. `sample` draws that many test items as the
    released evaluation does (`random.sample`, seed 112); the record is of those drawn.
    """
    from datasets import Dataset

    splits, record = {}, {}
    for name in ("test", "train"):
        try:
            split = load_split(family, language, name)
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
    return next(row[key] for key in ("premise", "sentence", "question") if key in row)
