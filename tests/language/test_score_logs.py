"""Logs of chat APIs, Parquet, Arrow and folders: what people have lying about is read as it is."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lens_eval.base.errors import UserError
from lens_eval.language.files.fields import Fields, look_up
from lens_eval.language.files.read import Source
from lens_eval.language.files.replies import prompt_of, replies_of
from lens_eval.language.files.report import make_report, render
from lens_eval.language.files.response import Broken, Response
from lens_eval.language.files.score import Settings, score_files

ENGLISH = "The farmers are waiting for the rain to come."
SWAHILI = "Wakulima wanasubiri mvua inyeshe, kwa sababu mashamba yamekauka."
QUESTION = "Wakulima wanasubiri nini, na kwa nini?"


def write_rows(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def report_of(*paths: Path | str, **fields: str) -> dict[str, Any]:
    return make_report(score_files(list(map(str, paths)), Fields(**fields), Settings()))


def completion(text: str | None, why: str = "stop", **message: Any) -> dict[str, Any]:
    """A chat completion as OpenAI's API answers."""
    answer = {"role": "assistant", "content": text, **message}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": answer, "finish_reason": why}],
    }


def asked(text: str = QUESTION) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": text}]}


OUTPUT = [
    {"type": "reasoning", "summary": []},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": SWAHILI}]},
]
ROWS: dict[str, dict[str, Any]] = {
    "a request and its response": {"request": asked(), "response": completion(SWAHILI)},
    "a completion alone": completion(SWAHILI),
    "completions before there was chat": {"choices": [{"text": SWAHILI, "finish_reason": "stop"}]},
    "the responses API": {"request": {"input": QUESTION}, "response": {"output": OUTPUT}},
    "a line of a batch output file": {
        "id": "batch_req_1",
        "custom_id": "7",
        "response": {"status_code": 200, "body": completion(SWAHILI)},
        "error": None,
    },
    "a conversation": {"messages": [*asked()["messages"], {"role": "assistant", "content": SWAHILI}]},
    "a conversation in parts": {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": QUESTION}, {"type": "image_url"}]},
            {"role": "assistant", "content": [{"type": "text", "text": SWAHILI}]},
        ]
    },
    "a conversation of ShareGPT's form": {
        "conversations": [{"from": "human", "value": QUESTION}, {"from": "gpt", "value": SWAHILI}]
    },
    "TRL's prompt and completion": {
        "prompt": asked()["messages"],
        "completion": [{"role": "assistant", "content": SWAHILI}],
    },
}


@pytest.mark.parametrize("name", ROWS)
def test_logs_are_read_without_a_field_named(tmp_path: Path, name: str) -> None:
    row = ROWS[name]
    path = write_rows(tmp_path / "log_sw.jsonl", [row, row])
    found = list(Source(str(path), Fields()))
    assert [each.text for each in found if isinstance(each, Response)] == [SWAHILI, SWAHILI]
    asks = QUESTION in json.dumps(row, ensure_ascii=False)
    assert {each.prompt for each in found if isinstance(each, Response)} == {QUESTION if asks else None}
    assert report_of(path)["languages"]["sw"]["on_target"] == 1.0


def test_a_path_leads_into_lists(tmp_path: Path) -> None:
    row = {"made": {"choices": [*completion(ENGLISH)["choices"], *completion(SWAHILI, "length")["choices"]]}}
    path = write_rows(tmp_path / "r.jsonl", [row])
    first, last = "made.choices.0.message.content", "made.choices.-1.message.content"
    assert report_of(path, text=first, language="sw")["overall"]["central"] == 1.0
    rates = report_of(path, text=last, language="sw")["overall"]
    assert (rates["on_target"], rates["cut_off"]) == (1.0, 1.0)  # the choice says beside it why it ended
    both = report_of(path, text="made.choices", language="sw")["overall"]
    assert (both["n"], both["on_target"], both["cut_off"]) == (2, 0.5, 0.5)
    with pytest.raises(UserError, match=r"no field 'made.choices.2.message"):
        report_of(path, text="made.choices.2.message.content", language="sw")


def test_what_is_no_reply_is_broken_with_its_reason(tmp_path: Path) -> None:
    call = completion(None, "tool_calls", tool_calls=[{"id": "1", "function": {"name": "f"}}])
    failed = {"custom_id": "2", "response": None, "error": {"code": "x", "message": "rate limit reached"}}
    refused = {
        "custom_id": "3",
        "response": {"status_code": 400, "body": {"error": {"message": "bad input"}}},
        "error": None,
    }
    rows = [
        {"custom_id": "0", "response": {"status_code": 200, "body": completion(SWAHILI)}, "error": None},
        {"custom_id": "1", "response": {"status_code": 200, "body": call}, "error": None},
        failed,
        refused,
        {"custom_id": "4", "response": {"status_code": 200, "body": completion("")}, "error": None},
        {
            "custom_id": "5",
            "response": {"status_code": 200, "body": completion(None, refusal=ENGLISH)},
            "error": None,
        },
    ]
    report = report_of(write_rows(tmp_path / "batch_sw.jsonl", rows))
    assert {each["line"]: each["reason"] for each in report["broken"]} == {
        2: "a call of a tool instead of text",
        3: "the request failed: rate limit reached",
        4: "the request failed: bad input",
    }
    assert report["confusion"]["sw"] == {"empty": 1, "en": 1, "sw": 1}  # a refusal is what the user reads


def test_a_message_of_a_log_is_no_reply(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "log_sw.jsonl", [{"level": "info", "message": ENGLISH}])
    with pytest.raises(UserError, match="no field called text or response"):
        report_of(path)
    assert report_of(path, text="message")["overall"]["central"] == 1.0


def test_the_items_of_a_batch_are_its_custom_ids(tmp_path: Path) -> None:
    row = ROWS["a line of a batch output file"]
    source = Source(str(write_rows(tmp_path / "b_sw.jsonl", [row])), Fields())
    [found] = list(source)
    assert isinstance(found, Response)
    assert found.item == "b:7"


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["role", "from", "content", "choices", "message", "text", "body", "output", "error"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(VALUES)
def test_any_value_gives_replies_or_a_reason(value: Any) -> None:
    prompt_of(value)
    try:
        found = replies_of(value)
    except ValueError:
        return
    assert found
    assert all(reply.text is None or isinstance(reply.text, str) for reply in found)


@given(st.dictionaries(st.text("ab.0-", max_size=4), VALUES, max_size=3), st.text("ab.0-1", max_size=8))
def test_any_path_is_found_or_not(row: dict[str, Any], path: str) -> None:
    there, value = look_up(row, path)
    assert there or value is None


# --- Parquet, Arrow, folders ---------------------------------------------------------------------


def frame_rows() -> list[dict[str, Any]]:
    return [
        {"id": 1, "text": SWAHILI, "language": "sw", "messages": None},
        {"id": 2, "text": ENGLISH, "language": "sw", "messages": None},
        {"id": 3, "text": None, "language": "sw", "messages": None},
        {"id": 4, "text": SWAHILI, "language": None, "messages": None},
    ]


def test_parquet_and_arrow_give_the_numbers_of_jsonl(tmp_path: Path) -> None:
    import datasets
    import pandas

    rows = frame_rows()
    plain = report_of(write_rows(tmp_path / "r.jsonl", rows))
    pandas.DataFrame(rows).to_parquet(tmp_path / "r.parquet")
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
    for path in (tmp_path / "r.parquet", tmp_path / "saved"):
        report = report_of(path)
        assert report["languages"] == plain["languages"]
        assert report["confusion"] == plain["confusion"] == {"sw": {"empty": 1, "en": 1, "sw": 1}}
        assert [(each["line"], each["reason"]) for each in report["broken"]] == [
            (4, "no language in field language")
        ]
    assert report["files"][0]["kind"] == "arrow"


def test_parquet_holds_conversations_too(tmp_path: Path) -> None:
    import pandas

    talk = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": SWAHILI}]
    pandas.DataFrame({"messages": [talk] * 3}).to_parquet(tmp_path / "talks_sw.parquet")
    [first, *_] = list(Source(str(tmp_path / "talks_sw.parquet"), Fields()))
    assert isinstance(first, Response)
    assert (first.text, first.prompt) == (SWAHILI, QUESTION)


def test_what_is_no_parquet_is_refused_in_words(tmp_path: Path) -> None:
    import pandas

    path = tmp_path / "r.parquet"
    path.write_bytes(b"no such thing")
    with pytest.raises(UserError, match=r"r\.parquet is no parquet file"):
        report_of(path)
    with pytest.raises(UserError, match=r"cannot read .*absent\.parquet"):
        report_of(tmp_path / "absent.parquet")
    pandas.DataFrame(frame_rows() * 2000).to_parquet(path, row_group_size=1000)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 : len(raw) // 2 + 400] = bytes(400)
    path.write_bytes(raw)
    try:
        found = list(Source(str(path), Fields()))
    except UserError:
        return
    assert isinstance(found[-1], Broken)
    assert "cannot be read on" in found[-1].reason


def test_a_folder_is_its_files_of_responses(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    (folder / "deep").mkdir(parents=True)
    write_rows(folder / "a_sw.jsonl", [{"text": SWAHILI}])
    (folder / "deep" / "b_sw.csv.gz").write_bytes(gzip.compress(f"text\n{ENGLISH}\n".encode()))
    write_rows(folder / "other.jsonl", [{"x": 1}])
    write_rows(folder / ".hidden_sw.jsonl", [{"text": SWAHILI}])
    (folder / "notes.txt").write_text("x", encoding="utf-8")
    report = report_of(folder)
    assert [Path(file["name"]).name for file in report["files"]] == ["a_sw.jsonl", "b_sw.csv.gz"]
    assert report["languages"]["sw"]["central"] == 0.5
    [left] = report["left_out"]
    assert Path(left["file"]).name == "other.jsonl"
    assert "no field called text" in left["reason"]
    assert "other.jsonl is left out: no field" in render(report, "md")
    with pytest.raises(UserError, match="named twice"):
        report_of(folder, folder / "a_sw.jsonl")
    with pytest.raises(UserError, match="no field called text"):
        report_of(folder / "other.jsonl")  # a file that is named is not left out


def test_of_a_folder_of_lm_eval_only_the_samples_count(tmp_path: Path) -> None:
    stamp = "2026-01-02T03-04-05.678901"
    sample = {"doc_id": 0, "doc": {}, "resps": [[SWAHILI]], "filtered_resps": [SWAHILI], "filter": "none"}
    write_rows(tmp_path / f"samples_x_sw_{stamp}.jsonl", [sample])
    choice = {**sample, "resps": [[[-1.5, False]], [[-2.5, False]]]}
    write_rows(tmp_path / f"samples_choice_sw_{stamp}.jsonl", [choice])
    write_rows(tmp_path / "judge_sw.jsonl", [{"text": ENGLISH}])
    report = report_of(tmp_path)
    assert report["overall"]["n"] == 1
    assert report["languages"]["sw"]["on_target"] == 1.0
    [left] = report["left_out"]
    assert "multiple-choice task generates no responses" in left["reason"]


def test_a_folder_without_responses_is_refused(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("x", encoding="utf-8")
    with pytest.raises(UserError, match=r"holds no files of responses: \.jsonl"):
        report_of(tmp_path)
    write_rows(tmp_path / "x.jsonl", [{"y": 1}])
    with pytest.raises(UserError, match=r"holds responses that can be read; .*x\.jsonl: no field"):
        report_of(tmp_path)


def batch(tmp_path: Path) -> tuple[Path, Path]:
    """A batch's input and output, in another order: a reply in Swahili, and the prompt given back."""
    requests = [
        {
            "custom_id": name,
            "url": "/v1/chat/completions",
            "body": {**asked(), "metadata": {"language": "sw"}},
        }
        for name in ("a", "b")
    ]
    replies = [
        {
            "id": f"batch_req_{name}",
            "custom_id": name,
            "response": {"status_code": 200, "body": completion(text)},
        }
        for name, text in (("b", QUESTION), ("a", SWAHILI))
    ]
    return write_rows(tmp_path / "in.jsonl", requests), write_rows(tmp_path / "out.jsonl", replies)


def test_replies_of_a_batch_are_joined_to_their_requests(tmp_path: Path) -> None:
    requests, replies = batch(tmp_path)
    with pytest.raises(UserError, match="in which language"):
        report_of(replies)  # the control: the replies alone do not say
    assert report_of(replies, language="sw")["overall"]["echo"] == 0.0
    found = make_report(score_files([str(replies)], requests=str(requests)))
    assert found["languages"]["sw"]["n"] == 2
    assert found["overall"]["echo"] == 0.5


def test_a_reply_without_its_request_is_broken_and_a_doubled_request_refused(tmp_path: Path) -> None:
    requests, replies = batch(tmp_path)
    first, second = requests.read_text(encoding="utf-8").splitlines()
    requests.write_text(first + "\n", encoding="utf-8")
    scores = score_files([str(replies)], requests=str(requests))
    assert [(each.line, each.reason) for each in scores.broken] == [
        (1, f"{requests} has no request with the custom_id 'b'")
    ]
    requests.write_text(f"{first}\n{second}\n{first}\n", encoding="utf-8")
    with pytest.raises(UserError, match="line 3: the custom_id 'a' stands there twice"):
        score_files([str(replies)], requests=str(requests))
    requests.write_text('{"body": {}}\n', encoding="utf-8")
    with pytest.raises(UserError, match="line 1: no custom_id; the row has the fields body"):
        score_files([str(replies)], requests=str(requests))
