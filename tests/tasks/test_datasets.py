"""Items: the same rows from every place, as published; one line where they are missing."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from task_items import N, write_hub_copies
from test_rooms import ROOT

from lens_eval.base.errors import UserError
from lens_eval.tasks import finding, places
from lens_eval.tasks.families import BELEBELE_VARIANTS, HUB, LANGUAGES, LCB_FAMILIES
from lens_eval.tasks.finding import MissingItems
from lens_eval.tasks.items import load, load_split, rows_hash

# What the published test splits hold. XWinograd's Chinese has 504 items on the hub.
PUBLISHED = {"xnli": 5010, "mgsm": 250, "xcopa": 500, "mtbench": 80}


@pytest.fixture
def data(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LENS_DATA_DIR", str(shared / "data"))
    return shared / "data"


@pytest.fixture
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_hub_copies(tmp_path)
    monkeypatch.setenv("LENS_DATA_DIR", str(tmp_path))
    return tmp_path


def lines(path: Path) -> list[dict[str, Any]]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def test_revisions_are_pinned_or_said_not_to_be() -> None:
    page = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")
    for hub in HUB.values():
        pinned = len(hub.revision) == 40 or hub.revision.startswith("refs/")
        assert pinned or f"| `{hub.repo}` | `main` |" in page, hub


@pytest.mark.parametrize("family", sorted(LANGUAGES))
def test_every_family_is_read_from_plain_copies_of_the_hub(copies: Path, family: str) -> None:
    names = [name for names in BELEBELE_VARIANTS.values() for name in names]
    for language in names if family == "belebele" else LANGUAGES[family]:
        split = load_split(family, language, "test")
        assert len(split.rows) == (2 * N if family == "kmmlu" else N), language
        record = split.record()
        assert record["sha256"] == rows_hash(split.rows)
        assert language == "ar" or family in LCB_FAMILIES or family == "mtbench" or "@" in record["source"]


@pytest.mark.parametrize("family", ["xnli", "mgsm", "xcopa", "xwinograd"])
def test_rows_are_the_same_whichever_place_they_come_from(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    """Rewrite the published files in the hub's layout and fields; the rows and their hash stay the same."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    for language, split in (
        (language, split) for language in ("zh", "en", "sw") for split in ("test", "train")
    ):
        try:
            local = load_split(family, language, split)
        except MissingItems:
            assert (family, language) == ("xwinograd", "sw") or language == "sw"
            continue
        if not local.rows:
            continue
        records = [as_hub_record(family, row, position) for position, row in enumerate(local.rows)]
        hub, config, name = place_on_hub(family, language, split)
        path = tmp_path / HUB[hub].repo / config / f"{name}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pyarrow.Table.from_pylist(records), path)
        with monkeypatch.context() as patch:
            patch.setenv("LENS_DATA_DIR", str(tmp_path))
            again = load_split(family, language, split)
        assert again.rows == local.rows
        assert again.record()["sha256"] == local.record()["sha256"]
        assert again.source == str(HUB[hub])


def as_hub_record(family: str, row: dict[str, Any], position: int) -> dict[str, Any]:
    """Return a row with the fields it has on the hub."""
    if family == "xnli":
        return {"premise": row["premise"], "hypothesis": row["hypothesis"], "label": row["answer"]}
    if family == "mgsm":
        return {
            "question": row["question"],
            "answer": row.get("solution"),
            "answer_number": row["answer_number"],
        }
    if family == "xcopa":
        first, second = row["choices"]
        return {
            "premise": row["premise"],
            "choice1": first, "choice2": second, "question": row["published_question"],
            "label": row["answer"], "idx": position,
        }  # fmt: skip
    first, second = row["choices"]
    return {
        "sentence": row["sentence"],
        "option1": first,
        "option2": second,
        "answer": str(row["answer"] + 1),
    }


def place_on_hub(family: str, language: str, split: str) -> tuple[str, str, str]:
    if family == "xcopa" and language == "en":
        return "copa", "copa", "test" if split == "test" else "validation"
    if family in ("xnli", "xcopa"):
        return family, language, "test" if split == "test" else "validation"
    return family, language, split


def test_published_xnli(data: Path) -> None:
    for path in sorted((data / "xnli").glob("test.*.jsonl.gz")):
        language = path.name.split(".")[1]
        rows = load_split("xnli", language, "test").rows
        published = lines(path)
        assert len(rows) == PUBLISHED["xnli"]
        for row, item in zip(rows, published, strict=True):
            assert row["premise"] == item["premise"].strip()
            assert row["hypothesis"] == item["hypothesis"].strip()
            assert places.XNLI_LABELS[row["answer"]] == item["label"]
        assert [sum(row["answer"] == label for row in rows) for label in range(3)] == [1670] * 3


def test_published_mgsm(data: Path) -> None:
    answers = None
    for path in sorted((data / "mgsm").glob("*.tsv")):
        rows = load_split("mgsm", path.stem.removeprefix("mgsm_"), "test").rows
        with path.open(encoding="utf-8", newline="") as file:
            published = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        assert [row["question"] for row in rows] == [question.strip() for question, _ in published]
        numbers = [row["answer_number"] for row in rows]
        assert numbers == [int(answer.replace(",", "")) for _, answer in published]
        assert len(rows) == PUBLISHED["mgsm"]
        assert answers in (None, numbers)  # parallel: the same answers in every language
        answers = numbers


def test_published_xcopa(data: Path) -> None:
    for language in LANGUAGES["xcopa"]:
        for split, name in (("test", "test"), ("train", "val")):
            rows = load_split("xcopa", language, split).rows
            published = lines(data / "xcopa" / language / f"{name}.{language}.jsonl")
            for row, item in zip(rows, published, strict=True):
                assert row["premise"] == item["premise"].strip()
                assert row["choices"] == [item["choice1"].strip(), item["choice2"].strip()]
                assert (row["published_question"], row["answer"]) == (item["question"], item["label"])
        assert len(load_split("xcopa", language, "test").rows) == PUBLISHED["xcopa"]


def test_xcopa_asks_for_cause_or_effect_as_copa_does(data: Path) -> None:
    """The files of five languages have it wrong; what we ask is the same in every language."""
    english = [row["published_question"] for row in load_split("xcopa", "en", "test").rows]
    wrong = {}
    for language in LANGUAGES["xcopa"]:
        rows = load_split("xcopa", language, "test").rows
        assert [row["question"] for row in rows] == english
        wrong[language] = sum(row["question"] != row["published_question"] for row in rows)
    assert {code: n for code, n in wrong.items() if n} == {"th": 250, "tr": 51, "sw": 37, "id": 4, "it": 4}


def test_published_xwinograd(data: Path) -> None:
    counts = {}
    for language in LANGUAGES["xwinograd"]:
        rows = load_split("xwinograd", language, "test").rows
        config = {"ja": "jp"}.get(language, language)
        published = lines(data / "xwinograd" / f"{config}.jsonl")
        for row, item in zip(rows, published, strict=True):
            assert row["sentence"] == item["sentence"].strip()
            assert row["sentence"].count("_") == 1
            assert row["choices"][row["answer"]] == item[f"option{item['answer']}"].strip()
        counts[language] = len(rows)
    assert counts == {"en": 2325, "ja": 959, "ru": 315, "pt": 263, "fr": 83, "zh": 16}


def test_published_mmlu(data: Path) -> None:
    for language, count in {"en": 1425, "ar": 1425, "ja": 1325}.items():
        rows = load_split("mmlu", language, "test").rows
        published = lines(data / "mmlu_subset" / f"test.{language}.jsonl")
        assert len(rows) == count
        for row, item in zip(rows, published, strict=True):
            assert (row["subject"], row["answer"]) == (item["subject"], item["answer"])
            assert row["question"] == item["question"].strip()
            assert row["choices"] == [str(choice).strip() for choice in item["choices"]]


def test_published_mtbench(data: Path) -> None:
    for language in LANGUAGES["mtbench"]:
        rows = load_split("mtbench", language, "test").rows
        assert len(rows) == PUBLISHED["mtbench"]
        if language == "ar":
            published = [[item["text"]] for item in lines(data / "vicuna80" / "questions_ar.jsonl")]
        else:
            published = [item["turns"] for item in lines(data / "mt_bench" / language / "question.jsonl")]
        assert [row["turns"] for row in rows] == [[turn.strip() for turn in turns] for turns in published]


def test_documents_are_parallel_and_sampled_as_released(data: Path) -> None:
    whole, _ = load("xwinograd", "en")
    sampled, record = load("xwinograd", "en", sample=1000)
    assert record["test"]["n"] == len(sampled["test"]) == 1000
    for doc in list(sampled["test"])[:20]:
        assert doc["sentence"] == whole["test"][doc["id"]]["sentence"]
    again, _ = load("xwinograd", "en", sample=1000)
    assert again["test"]["id"] == sampled["test"]["id"]


def test_a_changed_row_changes_the_hash(copies: Path) -> None:
    rows = load_split("xnli", "zh", "test").rows
    changed = [{**rows[0], "premise": rows[0]["premise"] + "。"}, *rows[1:]]
    assert rows_hash(changed) != rows_hash(rows)


def test_missing_items_are_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(finding, "_unreachable", "the hub cannot be reached")
    monkeypatch.delenv("LENS_DATA_DIR", raising=False)
    for family in LANGUAGES:
        with pytest.raises(MissingItems) as raised:
            load_split(family, LANGUAGES[family][-1], "test")
        message = str(raised.value)
        assert "\n" not in message
        assert family in message
        assert "LENS_DATA_DIR" in message
        elsewhere = family == "mtbench" or family in LCB_FAMILIES
        assert "go online once" in message or elsewhere


@pytest.mark.parametrize("family", ["xnli", "xcopa", "xwinograd", "mmlu", "kmmlu"])
def test_the_hubs_cache_is_read_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    """What `huggingface_hub` keeps of a download, by commit or by ref: the same rows, the pinned revision."""
    from huggingface_hub import constants

    copies, cache = tmp_path / "copies", tmp_path / "cache"
    write_hub_copies(copies)
    for hub in HUB.values():
        repository = cache / f"datasets--{hub.repo.replace('/', '--')}"
        commit = hub.revision if len(hub.revision) == 40 else "0" * 40
        (repository / "snapshots").mkdir(parents=True)
        (copies / hub.repo).rename(repository / "snapshots" / commit)
        if commit != hub.revision:
            (repository / "refs" / hub.revision).parent.mkdir(parents=True)
            (repository / "refs" / hub.revision).write_text(commit, encoding="utf-8")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(finding, "_unreachable", "the hub cannot be reached")
    monkeypatch.delenv("LENS_DATA_DIR", raising=False)
    for language in LANGUAGES[family][:3]:
        split = load_split(family, language, "test")
        assert len(split.rows) == (2 * N if family == "kmmlu" else N)
        name = {"mmlu": "m_mmlu"}.get(family, family)
        elsewhere = {("xcopa", "en"): "copa", ("mmlu", "ja"): "mmmlu"}
        assert split.source == str(HUB[elsewhere.get((family, language), name)])
    other = next((cache / f"datasets--{HUB[name].repo.replace('/', '--')}" / "snapshots").iterdir())
    other.rename(other.with_name("1" * 40))  # the control: another revision is not taken for the pinned one
    with pytest.raises(MissingItems):
        load_split(family, LANGUAGES[family][-1] if family != "mmlu" else "zh", "test")


def test_a_data_folder_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LENS_DATA_DIR", "/no/such/folder")
    with pytest.raises(UserError, match="no such folder"):
        load_split("xnli", "zh", "test")


def test_a_broken_line_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "xnli").mkdir()
    path = tmp_path / "xnli" / "test.zh.jsonl"
    monkeypatch.setenv("LENS_DATA_DIR", str(tmp_path))
    path.write_text(
        '{"premise": "a", "hypothesis": "b", "label": "neutral"}\n{"premise": \n', encoding="utf-8"
    )
    with pytest.raises(UserError, match="line 2"):
        load_split("xnli", "zh", "test")
    path.write_text('{"premise": "a", "label": "neutral"}\n', encoding="utf-8")
    with pytest.raises(UserError, match="hypothesis"):
        load_split("xnli", "zh", "test")
