"""Files of responses: what is read, what is counted, and that order, batches and processes change nothing."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lens_eval.base.errors import UserError
from lens_eval.language.calibrate import built_in_sample
from lens_eval.language.files import score
from lens_eval.language.files.fields import Fields
from lens_eval.language.files.read import Source
from lens_eval.language.files.report import make_report, render
from lens_eval.language.files.response import Broken, Response
from lens_eval.language.files.score import Settings, score_files
from lens_eval.language.files.tally import Tally

ENGLISH = "The farmers are waiting for the rain to come."
SWAHILI = "Wakulima wanasubiri mvua inyeshe, kwa sababu mashamba yamekauka."
CHINESE = "农民们正在等待下雨，因为田里太干了。"


def write_rows(path: Path, rows: list[Any]) -> Path:
    text = "".join(
        (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)) + "\n" for row in rows
    )
    path.write_text(text, encoding="utf-8")
    return path


def scored(path: Path | str, fields: Fields | None = None, **kwargs: Any) -> dict[str, Any]:
    options = {key: kwargs.pop(key) for key in ("strict", "processes") if key in kwargs}
    return make_report(score_files([str(path)], fields or Fields(), Settings(**kwargs), **options))


def mixed_rows(count: int = 6) -> list[dict[str, Any]]:
    sample = built_in_sample()
    rows = [
        {"id": i, "text": text, "language": code}
        for code in ("en", "zh", "sw", "ar")
        for i, text in enumerate(sample[code][:count])
    ]
    return rows + [{"id": i, "text": text, "language": "sw"} for i, text in enumerate(sample["en"][:count])]


# --- what is counted ---------------------------------------------------------------------------


def test_rates_of_each_language_and_overall_sum_to_one(tmp_path: Path) -> None:
    rows = [
        {"id": 1, "text": SWAHILI, "language": "sw"},
        {"id": 2, "text": ENGLISH, "language": "sw"},
        {"id": 3, "text": "Los campesinos están esperando que llueva.", "language": "sw"},
        {"id": 4, "text": "12", "language": "sw"},
        {"id": 5, "text": None, "language": "sw"},
        {"id": 1, "text": CHINESE, "language": "zh"},
    ]
    report = scored(write_rows(tmp_path / "r.jsonl", rows))
    swahili = report["languages"]["sw"]
    assert {k: swahili[k] for k in ("n", "on_target", "central", "other", "undetermined", "off_target")} == {
        "n": 5,
        "on_target": 0.2,
        "central": 0.2,
        "other": 0.2,
        "undetermined": 0.4,
        "off_target": 0.4,
    }
    assert swahili["empty"] == 0.2
    assert report["languages"]["zh"]["on_target"] == 1.0
    assert report["overall"]["n"] == 6
    for rates in (swahili, report["languages"]["zh"], report["overall"]):
        assert sum(rates[k] for k in ("on_target", "central", "other", "undetermined")) == pytest.approx(1)
        assert sum(rates["characters"].values()) == pytest.approx(1)
        for name, (low, high) in rates["intervals"].items():
            assert 0 <= low <= rates[name] <= high <= 1
    assert report["confusion"]["sw"] == {"empty": 1, "en": 1, "es": 1, "sw": 1, "undetermined": 1}
    assert report["detector"]["name"] == "lingua"
    assert report["detector"]["version"]
    assert swahili["false_off_target_floor"] == 0.0


def test_levels_differ_where_one_line_is_off(tmp_path: Path) -> None:
    rows = [{"text": f"{SWAHILI}\n{SWAHILI}\n{ENGLISH}\n12", "language": "sw"}]
    rates = scored(write_rows(tmp_path / "r.jsonl", rows))["languages"]["sw"]
    assert rates["central"] == 1.0
    lines = rates["lines"]
    assert (lines["n"], lines["on_target"], lines["central"], lines["set_aside"]) == (4, 2, 1, 1)
    assert 0.7 < rates["characters"]["on_target"] < 0.8


def test_joint_rate_with_correctness_and_thinking(tmp_path: Path) -> None:
    rows = [
        {"text": SWAHILI, "language": "sw", "ok": 1},
        {"text": ENGLISH, "language": "sw", "ok": 1},
        {"text": f"<think>{ENGLISH}</think>{SWAHILI}", "language": "sw", "ok": 0},
    ]
    report = scored(write_rows(tmp_path / "r.jsonl", rows), Fields(correct="ok"))
    rates = report["languages"]["sw"]
    assert rates["correct"] == pytest.approx(2 / 3)
    assert rates["correct_on_target"] == pytest.approx(1 / 3)
    assert rates["thinking"] == {"n": 1, "on_target": 0, "central": 1, "other": 0, "undetermined": 0}
    bad = write_rows(tmp_path / "bad.jsonl", [{"text": SWAHILI, "language": "sw", "ok": "yes"}])
    with pytest.raises(UserError, match="ok is 'yes', not a number"):
        scored(bad, Fields(correct="ok"))


def test_intervals_are_clustered_by_item(tmp_path: Path) -> None:
    def rows(item: bool) -> list[dict[str, Any]]:
        return [
            {"text": ENGLISH if i < 10 else SWAHILI, "language": "sw", **({"id": i} if item else {})}
            for i in range(20)
            for _ in range(10)
        ]

    def width(report: dict[str, Any]) -> float:
        low, high = report["overall"]["intervals"]["off_target"]
        return high - low

    # ten copies of the same answer tell no more than one
    clustered = scored(write_rows(tmp_path / "a.jsonl", rows(True)))
    alone = scored(write_rows(tmp_path / "b.jsonl", rows(False)))
    assert clustered["overall"]["off_target"] == alone["overall"]["off_target"] == 0.5
    assert width(clustered) > 2.5 * width(alone)


def test_order_batches_and_processes_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = mixed_rows()
    reports = [scored(write_rows(tmp_path / "r.jsonl", rows))]
    random.Random(1).shuffle(rows)
    reports.append(scored(write_rows(tmp_path / "r.jsonl", rows)))
    monkeypatch.setattr(score, "_CHUNK", 7)
    reports.append(scored(tmp_path / "r.jsonl"))
    monkeypatch.setattr(score, "_ALONE", 7)
    reports.append(scored(tmp_path / "r.jsonl", processes=2))
    assert all(report == reports[0] for report in reports)
    assert reports[0]["overall"]["central"] > 0.1


TALLIES = st.lists(
    st.tuples(st.sampled_from(["on_target", "central", "other"]), st.none() | st.sampled_from("abc")),
    max_size=30,
)


@settings(max_examples=50, deadline=None)
@given(TALLIES, st.integers(0, 30))
def test_adding_tallies_is_exact(rows: list[tuple[str, str | None]], cut: int) -> None:
    def tally(part: list[tuple[str, str | None]]) -> Tally:
        made = Tally()
        for outcome, item in part:
            made.add([outcome], item)
        return made

    whole, first, second = tally(rows), tally(rows[:cut]), tally(rows[cut:])
    second.merge(first)
    for name in ("n", "on_target", "central", "other"):
        assert second.count(name) == whole.count(name)
        mine, all_at_once = second.interval(name), whole.interval(name)
        assert repr(mine) == repr(all_at_once)


# --- what is read ------------------------------------------------------------------------------


def samples_of(task: str, language: str, texts: list[str], filters: tuple[str, ...] = ("none",)) -> list[Any]:
    """Rows as lm_eval 0.4 logs them for a generation task that knows nothing of Lens."""
    return [
        {
            "doc_id": i,
            "doc": {"question": "2+2?", "answer": "4"},
            "target": "4",
            "arguments": {"gen_args_0": {"arg_0": "Question: 2+2?\nAnswer:", "arg_1": {"until": ["\n\n"]}}},
            "resps": [[text]],
            "filtered_resps": [text],
            "filter": name,
            "metrics": ["exact_match"],
            "doc_hash": "0",
            "prompt_hash": "0",
            "target_hash": "0",
            "exact_match": 0.0,
        }
        for i, text in enumerate(texts)
        for name in filters
    ]


def test_samples_of_any_lm_eval_task(tmp_path: Path) -> None:
    rows = samples_of("mgsm_direct_sw", "sw", [SWAHILI, ENGLISH], ("strict-match", "flexible-extract"))
    path = write_rows(tmp_path / "samples_mgsm_direct_sw_2026-01-02T03-04-05.678901.jsonl", rows)
    report = scored(path)
    assert report["languages"]["sw"]["n"] == 2  # each response once, whatever the number of filters
    assert report["languages"]["sw"]["central"] == 0.5
    [file] = report["files"]
    assert (file["kind"], file["language_from"]) == ("lm_eval samples", "the file name")
    assert file["other_filter_rows"] == 2


def test_multiple_choice_samples_are_refused_in_words(tmp_path: Path) -> None:
    rows = samples_of("x_sw", "sw", ["x"])
    for row in rows:
        row["resps"] = [[[-1.5, False]], [[-2.5, False]]]
    path = write_rows(tmp_path / "samples_x_sw_2026-01-02T03-04-05.678901.jsonl", rows)
    with pytest.raises(UserError, match="multiple-choice task generates no responses"):
        scored(path)


@pytest.mark.parametrize("name", ["r.jsonl", "r.jsonl.gz", "r.json", "r.csv", "r.tsv", "r.csv.gz"])
def test_every_format_gives_the_same_numbers(tmp_path: Path, name: str) -> None:
    rows = [
        {"text": f'{SWAHILI}\n"{SWAHILI}", ndiyo', "language": "swh", "id": "1"},
        {"text": ENGLISH, "language": "sw", "id": "2"},
        {"text": CHINESE, "language": "zho_Hans", "id": "3"},
    ]
    if "csv" in name or "tsv" in name:
        stream = io.StringIO()
        writer = csv.DictWriter(stream, rows[0], delimiter="\t" if "tsv" in name else ",")
        writer.writeheader()
        writer.writerows(rows)
        text = stream.getvalue()
    else:
        text = "".join(json.dumps(row) + "\n" for row in rows)
    raw = text.encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(raw) if name.endswith("gz") else raw)
    report = scored(path)
    assert report["broken_lines"] == 0
    assert report["overall"]["n"] == 3
    assert {code: r["on_target"] for code, r in report["languages"].items()} == {"sw": 0.5, "zh": 1.0}


def test_a_json_array_is_refused_with_the_way_out(tmp_path: Path) -> None:
    for name, indent in (("a_sw.json", 2), ("b_sw.json", None)):
        (tmp_path / name).write_text(json.dumps([{"text": SWAHILI}], indent=indent), encoding="utf-8")
        with pytest.raises(UserError, match=r"one JSON array; .* jq -c"):
            scored(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("samples_mgsm_direct_zh_2026-01-02T03-04-05.678901.jsonl", "zh"),
        ("samples_xlsum_swh.jsonl", "sw"),
        ("out_zho_Hans.jsonl", "zh"),
        ("jp.jsonl", "ja"),
    ],
)
def test_language_out_of_the_file_name(tmp_path: Path, name: str, code: str) -> None:
    path = write_rows(tmp_path / name, [{"text": SWAHILI}])
    assert [key.split("-")[0] for key in scored(path)["languages"]] == [code]


def test_named_fields_nested_ones_too(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "r.jsonl", [{"a": {"b": SWAHILI}, "meta": {"lang": "swh"}}])
    assert scored(path, Fields(text="a.b", language="meta.lang"))["overall"]["on_target"] == 1.0
    with pytest.raises(UserError, match=r"no field 'a.c'.*the rows have the fields a, meta"):
        scored(path, Fields(text="a.c", language="meta.lang"))
    with pytest.raises(UserError, match="no field called text or response"):
        scored(path, Fields(language="sw"))
    with pytest.raises(UserError, match="in which language should the responses be"):
        scored(path, Fields(text="a.b"))


BROKEN = [
    {"text": SWAHILI, "language": "sw"},
    '{"text": "cut off',
    "[1, 2]",
    {"language": "sw"},
    {"text": 7, "language": "sw"},
    {"text": SWAHILI, "language": "xx"},
    {"text": SWAHILI, "language": None},
    {"text": ENGLISH, "language": "sw"},
]


def test_broken_lines_are_counted_with_their_numbers(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "r.jsonl", BROKEN)
    report = scored(path)
    assert report["overall"]["n"] == 2
    assert report["broken_lines"] == 6
    reasons = {each["line"]: each["reason"] for each in report["broken"]}
    assert sorted(reasons) == [2, 3, 4, 5, 6, 7]
    assert "no field 'text'" in reasons[4]
    assert "no string but int" in reasons[5]
    assert "unknown language code 'xx'" in reasons[6]
    assert "line 2" in render(report, "md")
    with pytest.raises(UserError, match=r"line 2: .*--strict"):
        scored(path, strict=True)


def test_a_file_without_one_good_line_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"2 broken lines; first: line 1: not JSON"):
        scored(write_rows(tmp_path / "sw.jsonl", ["{", "}"]))
    with pytest.raises(UserError, match=r"read as jsonl\): no rows"):
        scored(write_rows(tmp_path / "sw2_sw.jsonl", []))
    plain = tmp_path / "plain_sw.txt"
    plain.write_text("Mvua itanyesha kesho\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"read as csv\): no rows; one JSON object a line is needed"):
        scored(plain)


def test_invalid_utf8_is_read_counted_and_strict_stops(tmp_path: Path) -> None:
    path = tmp_path / "r_sw.jsonl"
    good = json.dumps({"text": SWAHILI}).encode()
    path.write_bytes(good + b"\n" + good.replace(b"mvua", b"mv\xff\xfeua") + b"\n")
    report = scored(path)
    assert (report["overall"]["n"], report["overall"]["on_target"]) == (2, 1.0)
    assert report["files"][0]["invalid_utf8_lines"] == 1
    assert "1 lines with invalid UTF-8" in render(report, "md")
    with pytest.raises(UserError, match=r"line 2: invalid UTF-8 \(--strict\)"):
        scored(path, strict=True)


def test_cut_off_gzip_is_a_broken_line(tmp_path: Path) -> None:
    rows = "".join(json.dumps({"text": f"{i} {SWAHILI}"}) + "\n" for i in range(200)).encode()
    path = tmp_path / "r_sw.jsonl.gz"
    path.write_bytes(gzip.compress(rows)[:-40])
    report = scored(path)
    assert report["overall"]["n"] >= 1
    assert ["cannot be read on" in each["reason"] for each in report["broken"]] == [True]
    with pytest.raises(UserError, match="cannot be read on"):
        scored(path, strict=True)


def test_mathematical_and_right_to_left_text_through_a_file(tmp_path: Path) -> None:
    rows = [
        {"text": "𝐓𝐡𝐞 𝐟𝐚𝐫𝐦𝐞𝐫𝐬 𝐚𝐫𝐞 𝐰𝐚𝐢𝐭𝐢𝐧𝐠 𝐟𝐨𝐫 𝐫𝐚𝐢𝐧", "language": "ar"},
        {"text": "\u200fينتظر \u202bالمزارعون\u202c هطول المطر.\u200f", "language": "ar"},
        {"text": "\x00\x1b[0m", "language": "ar"},
        {"text": "🎉🎉", "language": "ar"},
    ]
    report = scored(write_rows(tmp_path / "r.jsonl", rows))
    assert report["confusion"]["ar"] == {"ar": 1, "en": 1, "undetermined": 2}


def test_several_responses_to_one_item_each_count(tmp_path: Path) -> None:
    rows = samples_of("x_sw", "sw", ["x"])
    rows[0]["resps"] = [[SWAHILI, ENGLISH, SWAHILI]]
    path = write_rows(tmp_path / "samples_x_sw_2026-01-02T03-04-05.678901.jsonl", rows)
    rates = scored(path)["languages"]["sw"]
    assert (rates["n"], rates["central"]) == (3, pytest.approx(1 / 3))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=30, deadline=None)
@given(st.lists(VALUES | st.fixed_dictionaries({"text": VALUES, "language": VALUES}), max_size=8))
def test_any_json_is_read_or_reported_never_dropped(tmp_path_factory: Any, rows: list[Any]) -> None:
    path = tmp_path_factory.mktemp("any") / "r.jsonl"
    write_rows(path, [{"text": SWAHILI, "language": "sw"}, *(json.dumps(row) for row in rows)])
    source = Source(str(path), Fields())
    found = list(source)
    source.close()
    by_line: dict[int, int] = {}
    for each in found:
        assert isinstance(each, (Response, Broken))
        by_line[each.line] = by_line.get(each.line, 0) + 1
    assert set(by_line) == set(range(1, len(rows) + 2))


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_end_in_a_report_or_a_user_error(tmp_path_factory: Any, raw: bytes) -> None:
    path = tmp_path_factory.mktemp("raw") / "r_sw.jsonl"
    path.write_bytes(raw)
    try:
        report = scored(path)
    except UserError:
        return
    assert report["overall"]["n"] + report["broken_lines"] > 0


# --- the report --------------------------------------------------------------------------------


def test_report_as_markdown_csv_and_json(tmp_path: Path) -> None:
    report = scored(write_rows(tmp_path / "r.jsonl", mixed_rows(3)))
    assert json.loads(render(report, "json")) == report
    table = list(csv.DictReader(io.StringIO(render(report, "csv"))))
    assert [row["language"] for row in table] == ["ar", "en", "sw", "zh", "overall"]
    assert float(table[2]["central"]) == report["languages"]["sw"]["central"]
    assert {row["detector"] for row in table} == {"lingua"}
    text = render(report, "md")
    assert "false floor %" in text
    assert "Asked for (rows), answered in (columns)" in text
    assert f"Detector lingua {report['detector']['version']}" in text


def test_echoes_loops_and_cuts_are_counted_beside_the_languages(tmp_path: Path) -> None:
    prompt = "Mji mkuu wa Kenya ni upi, na unajulikana kwa nini?"
    replies = {
        prompt: "stop",
        "Nifanye nini sasa. " * 12: "length",
        "Mji mkuu wa Kenya ni Nairobi, na unajulikana kwa mbuga ya wanyama.": "stop",
        "?!": "stop",
    }
    file = tmp_path / "replies.jsonl"
    rows = [
        {"text": text, "prompt": prompt, "language": "sw", "finish_reason": why}
        for text, why in replies.items()
    ]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    report = make_report(score_files([str(file)]))
    found = report["languages"]["sw"]
    assert found["on_target"] == 0.75
    assert [found[name] for name in ("usable", "echo", "loop", "empty", "cut_off")] == [0.25] * 5
    assert "usable % [95%]" in render(report, "md")
    assert "usable_low" in render(report, "csv")
