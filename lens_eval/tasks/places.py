"""Where a split of each family can lie, and how a row is read from each record there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lens_eval.base import reading
from lens_eval.base.errors import UserError
from lens_eval.base.separated import read_table
from lens_eval.tasks.families import HUB, MMMLU_FILES
from lens_eval.tasks.finding import MissingItems, Place, Row, find_files
from lens_eval.tasks.words import word

# The MT-Bench categories whose answers a judge compares with a reference.
REFERENCE_CATEGORIES = frozenset({"math", "reasoning", "coding"})


XNLI_LABELS = ("entailment", "neutral", "contradiction")


def _records(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a JSON-lines (plain or gzip), CSV, TSV-with-header or parquet file."""
    name = path.name
    if name.endswith(".parquet"):
        import pyarrow.parquet  # type: ignore[import-untyped]

        try:
            for batch in pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=1024):
                yield from batch.to_pylist()
        except (OSError, pyarrow.ArrowException) as error:
            raise UserError(f"{path} is no parquet file, or a damaged one ({error})") from None
    elif name.endswith((".jsonl", ".jsonl.gz")):
        for _, record in reading.read_objects(path):
            yield record
    else:
        for _, record in read_table(path, "csv" if name.endswith(".csv") else "tsv"):
            yield record


def each(row: Callable[[dict[str, Any]], Row]) -> Callable[[Sequence[Path]], list[Row]]:
    """Return a reader that makes one row of every record of the files, in order."""

    def read(files: Sequence[Path]) -> list[Row]:
        try:
            return [row(record) for path in files for record in _records(path)]
        except KeyError as error:
            names = ", ".join(str(path) for path in files)
            raise UserError(
                f"{names}: a record lacks the field {error}; is this the data set it should be?"
            ) from None
        except ValueError as error:  # what a column cannot hold
            raise UserError(f"{', '.join(str(path) for path in files)}: {error}") from None
        except (TypeError, AttributeError, IndexError) as error:
            names = ", ".join(str(path) for path in files)
            raise UserError(f"{names}: a record is not of this data set ({error!r})") from None

    return read


def parquet(config: str, split: str) -> tuple[str, ...]:
    """Return where a split lies in a parquet repository, and where in a converted one."""
    return f"{config}/{split}-*.parquet", f"{config}/{split}/*.parquet"


def _xnli(language: str, split: str) -> list[Place]:
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
        Place("xnli", (f"{name}.{language}.jsonl*",), each(row)),
        Place("xnli", parquet(language, name), each(row), hub=True),
    ]


def _mgsm(language: str, split: str) -> list[Place]:
    """250 test items; the eight published exemplars are the train split."""

    def test(question: str, answer: Any) -> Row:
        return {"question": question.strip(), "answer_number": int(str(answer).replace(",", ""))}

    def exemplar(question: str, solution: str, answer: Any) -> Row:
        without_label = question.removeprefix(word(language, "question"))
        steps = solution.removeprefix(word(language, "steps"))
        return {**test(without_label, answer), "solution": steps.strip()}

    def tsv(files: Sequence[Path]) -> list[Row]:
        rows = []
        for where, line in reading.read_lines(files[0]):
            if line.strip():
                with reading.shaped(where, "question and answer of MGSM"):
                    rows.append(test(*line.split("\t")))
        return rows

    def exemplars(files: Sequence[Path]) -> list[Row]:
        literals = reading.read_object(files[0], "file of exemplars")
        with reading.shaped(files[0], "file of exemplars"):
            items = literals["MGSM_EXEMPLARS"].get(language, {})
            answers = literals["EXEMPLAR_NUMBER_ANSWERS"]
            return [
                exemplar(items[key]["q"], items[key]["a"], answers[int(key) - 1]) for key in sorted(items)
            ]

    def hub(record: dict[str, Any]) -> Row:
        if split == "test":
            return test(record["question"], record["answer_number"])
        return exemplar(record["question"], record["answer"], record["answer_number"])

    local = (f"mgsm_{language}.tsv", tsv) if split == "test" else ("exemplars.json", exemplars)
    return [
        Place("mgsm", (local[0],), local[1]),
        Place("mgsm", parquet(language, split), each(hub), hub=True),
    ]


def _xcopa(language: str, split: str) -> list[Place]:
    """500 test items; examples from the 100 validation items.

    Whether an item asks for a cause or an effect is the same in every language, but wrong in some files: in
    all 250 cause items of the Thai one, in 51 items of the Turkish, 37 of the Swahili, 4 of the Italian and
    of the Indonesian one. `question` is that of the Chinese file, which agrees with English COPA on all
    500; `published_question` is what the file itself says.

    English is COPA. Its hub copy has no test labels: they too are those of the Chinese file, equal in all
    languages.
    """
    name, short = ("test", "test") if split == "test" else ("validation", "val")

    def places(code: str, read: Callable[[Sequence[Path]], list[Row]]) -> list[Place]:
        local = Place("xcopa", (f"{code}/{short}.{code}.jsonl",), read)
        if code == "en":
            return [local, Place("copa", parquet("copa", name), read, hub=True)]
        return [local, Place("xcopa", parquet(code, name), read, hub=True)]

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
        records = each(dict)(files)
        references = (
            records if language == "zh" else xcopa_references(places("zh", each(dict)), language, split)
        )
        by_idx = {record["idx"]: record for record in references}
        return [row(record, by_idx[record["idx"]]) for record in records]

    return places(language, read)


def xcopa_references(places: Sequence[Place], language: str, split: str) -> list[Row]:
    """Return the records of the Chinese file that the others are completed from."""
    for place in places:
        files, _ = find_files(place)
        if files:
            return place.read(files)
    raise MissingItems(
        f"no {split} items for xcopa, {language}: they are completed from the Chinese file, which is "
        f"missing; put it beside the others or go online once ({HUB['xcopa']} is then cached)"
    )


def _xwinograd(language: str, split: str) -> list[Place]:
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
        Place("xwinograd", (f"{config}.jsonl",), each(row)),
        Place("xwinograd", parquet(config, "test"), each(row), hub=True),
    ]


def _xstorycloze(language: str, split: str) -> list[Place]:
    """1511 items of the eval split; examples from the 360 of the train split."""
    name = "eval" if split == "test" else "train"

    def row(record: dict[str, Any]) -> Row:
        return {
            "sentences": [record[f"input_sentence_{number}"].strip() for number in range(1, 5)],
            "choices": [record["sentence_quiz1"].strip(), record["sentence_quiz2"].strip()],
            "answer": int(record["answer_right_ending"]) - 1,
        }

    patterns = (f"spring2016.val.{language}.tsv.split_20_80_{name}.tsv",)
    return [Place("xstorycloze", patterns, each(row), hub=True)]


def _mmlu(language: str, split: str) -> list[Place]:
    """Multilingual MMLU; examples from its dev questions.

    `LENS_DATA_DIR/mmlu_subset` holds other translations than the hub's: the source in the results says
    which.
    """

    def local(record: dict[str, Any]) -> Row:
        return question(record["subject"], record["question"], record["choices"], record["answer"])

    def okapi(record: dict[str, Any]) -> Row:
        options = [record[f"option_{letter}"] for letter in "abcd"]
        subject, answer = record["id"].split("/")[0], "ABCD".index(record["answer"])
        # Each language lacks other questions: the id says which are the same one.
        return {"item": record["id"], **question(subject, record["instruction"], options, answer)}

    def mmmlu(record: dict[str, Any]) -> Row:
        options = [record[letter] for letter in "ABCD"]
        return question(record["Subject"], record["Question"], options, "ABCD".index(record["Answer"]))

    name = "test" if split == "test" else "dev"
    places = [Place("mmlu_subset", (f"{name}.{language}.jsonl",), each(local))]
    if language not in MMMLU_FILES:
        hub_name = "test" if split == "test" else "train"
        places.append(Place("m_mmlu", parquet(language, hub_name), each(okapi), hub=True))
    elif split == "test":
        places.append(Place("mmmlu", (f"test/mmlu_{MMMLU_FILES[language]}.csv",), each(mmmlu), hub=True))
    return places if split == "test" or language not in MMMLU_FILES else []


def question(subject: str, question: str, choices: Sequence[str], answer: int) -> Row:
    texts = [str(choice).strip() for choice in choices]
    return {"subject": subject, "question": question.strip(), "choices": texts, "answer": int(answer)}


def _kmmlu(language: str, split: str) -> list[Place]:
    """45 Korean subjects; examples from their dev split."""
    name = "test" if split == "test" else "dev"

    def read(files: Sequence[Path]) -> list[Row]:
        rows = []
        for path in files:
            subject = path.parent.parent.name
            for record in _records(path):
                options = [record[letter] for letter in "ABCD"]
                rows.append(question(subject, record["question"], options, int(record["answer"]) - 1))
        return rows

    return [Place("kmmlu", (f"*/{name}/*.parquet",), read, hub=True)]


def _mtbench(language: str, split: str) -> list[Place]:
    """MT-Bench questions, two turns; Arabic has only the single-turn questions of Vicuna-80.

    `references` are for a judge: of mathematics, reasoning and coding questions the answers in
    `reference_answer/*.jsonl` beside the questions, else those of the question's own record; else empty.
    """
    if split != "test":
        return []

    def read(files: Sequence[Path]) -> list[Row]:
        given = reference_answers(files[0].parent / "reference_answer")

        def row(record: dict[str, Any]) -> Row:
            wants = record["category"] in REFERENCE_CATEGORIES
            own = given.get(int(record["question_id"])) or record.get("reference") or []
            return {
                "question_id": int(record["question_id"]),
                "category": record["category"],
                "turns": [turn.strip() for turn in record.get("turns") or [record["text"]]],
                "references": [str(text).strip() for text in own] if wants else [],
            }

        return each(row)(files)

    if language == "ar":
        return [Place("vicuna80", ("questions_ar.jsonl",), read)]
    return [Place("mt_bench", (f"{language}/question.jsonl",), read)]


def reference_answers(folder: Path) -> dict[int, list[str]]:
    """Return reference answers by question, one a turn, of the first file of a folder in FastChat's form."""
    files = sorted(folder.glob("*.jsonl"))[:1]
    records = [record for path in files for record in _records(path)]
    return {int(record["question_id"]): record["choices"][0]["turns"] for record in records}


PLACES: dict[str, Callable[[str, str], list[Place]]] = {
    "xnli": _xnli,
    "mgsm": _mgsm,
    "xcopa": _xcopa,
    "xwinograd": _xwinograd,
    "xstorycloze": _xstorycloze,
    "mmlu": _mmlu,
    "kmmlu": _kmmlu,
    "mtbench": _mtbench,
}
