"""The page of a run: the comparison's own numbers, everything escaped, nothing from any network."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import browser
import pytest
import report_run
import tiny_world
from hypothesis import given, settings
from hypothesis import strategies as st
from report_run import Page, make_run, make_training
from typer.testing import CliRunner

from lens_eval.base.errors import UserError
from lens_eval.commands.cli import app
from lens_eval.page import charts, report, shown_answers
from lens_eval.results import findings, tables, training_record
from lens_eval.results.compare import Comparison, compare
from lens_eval.results.read import Scores, load

# Texts that run something, ask a network, or change what stands around them, where they are not escaped.
HOSTILE = (
    "<script>window.hits = 1; new Image().src = 'hit.png'</script>",
    "\"><img src=hit.png onerror='window.hits = 1'>",
    "'><svg onload='window.hits = 1'></svg>",
    "</script><script>window.hits = 1</script>",
    "</style><style>* { display: none; background: url(hit.png) }</style>",
    "</title></textarea></p></div><iframe src=hit.html></iframe>",
    "<base href='https://evil.example/'><meta http-equiv=refresh content='0;url=hit.html'>",
    '<a href="javascript:window.hits = 1">javascript:window.hits = 1</a>',
    "<!-- ]]> &lt;script&gt; {{ 7 * 7 }} {% raw %}",
    "\u202egnp.exe\u2066 \x00 \x1b[31m \ufeff \U000e0041",
)
ALLOWED = """
html head meta title style body svg defs pattern rect path circle polygon polyline line text desc header p
span h1 h2 h3 h4 h5 strong dl div dt dd ul ol li nav a main section label select option input table thead
tbody tr th td b i wbr small figure figcaption details summary article pre code footer script
"""


def _load(run: Path) -> tuple[Comparison, list[Scores]]:
    scores, document, holes = load([run])
    return compare(scores, name=document["name"], holes=holes, run=document), scores


def _html(run: Path) -> str:
    comparison, scores = _load(run)
    return report.to_html(comparison, scores, training_record.load(run))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a hole, training curves and diagnostics."""
    folder = tmp_path_factory.mktemp("report") / "run"
    make_run(folder, holes=[("lens", "lens_x_sw", "out of memory")])
    make_training(folder / "models" / "lens-1")
    training_record.collect(folder, {"lens": folder / "models" / "lens-1"})
    return folder


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which every text that is not ours is hostile."""
    folder = tmp_path_factory.mktemp("hostile") / "run"
    everything = " ".join(HOSTILE)
    make_run(
        folder,
        items=20,
        variants=["backbone" + HOSTILE[1], "lens" + HOSTILE[0]],
        answers=dict.fromkeys(report_run.CODES, everything),
        words=everything,
        holes=[("lens" + HOSTILE[0], "lens_x_sw", everything)],
    )
    model = make_training(folder / "models" / "lens-1")
    log = model / "training" / "log.jsonl"
    log.write_text(
        log.read_text(encoding="utf-8").replace("align.zh", "align." + HOSTILE[8]), encoding="utf-8"
    )
    document = report_run.diagnostics()
    document["warnings"] = list(HOSTILE)
    (model / "training" / "diagnostics.json").write_text(json.dumps(document), encoding="utf-8")
    training_record.collect(folder, {"lens" + HOSTILE[0]: model})
    return folder


# --- what stands on it -----------------------------------------------------------------------------


def test_the_tables_hold_every_number_of_the_comparison(run: Path) -> None:
    comparison, _ = _load(run)
    page, seen = Page(_html(run)), 0
    for family in comparison.families:
        for metric in comparison.metrics[family]:
            table = report.table(comparison, family, metric)
            rows = next(rows for title, rows in page.tables if title.startswith(f"{table.title}, %"))
            languages = [column.language for column in table.columns]
            for row in rows[1:]:
                for language, text in zip(languages, row[1:], strict=True):
                    entry = comparison.get(family, metric, row[0], language)
                    expected = tables.cell(entry) + tables.difference_cell(entry)
                    if entry is not None:
                        # Value and interval stand one above the other, the mark behind the value.
                        expected = re.sub(r" (\[[^]]*\])(\*?)", r"\2\1", expected)
                        seen += 1
                    assert text.strip() == expected
    assert seen == len(comparison.entries)


def test_the_central_language_stands_apart_and_is_in_no_average(run: Path) -> None:
    comparison, _ = _load(run)
    table = report.table(comparison, "lens_x", "acc")
    assert [(c.head, c.kind) for c in table.columns] == [
        ("average of 3", "average"),
        ("average of 4", "average"),
        ("zh", "plain"),
        ("ar", "plain"),
        ("sw", "plain"),
        ("en (central)", "central"),
    ]
    classes = [value for tag, name, value in Page(_html(run)).attributes if tag == "th" and name == "class"]
    assert "central" in classes


def test_a_hole_is_shown_with_its_reason(run: Path) -> None:
    page = Page(_html(run))
    assert "lens, lens_x_sw is missing: out of memory" in page.text
    rows = next(rows for title, rows in page.tables if title.startswith("off-target, %"))
    at = rows[0].index(next(head for head in rows[0] if head.startswith("sw")))
    assert [row[at].strip()[:4] for row in rows[1:]] == ["50.0", tables.HOLE]


def test_simulated_is_said_at_every_table_figure_and_section_with_numbers(run: Path) -> None:
    comparison, scores = _load(run)
    real = replace(comparison, simulated=False, run={**comparison.run, "simulated": False})
    training = training_record.load(run)
    text = report.to_html(comparison, scores, training)
    for tag in ("h4", "figcaption"):
        for part in re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL):
            assert "simulated" in part
    headings = re.findall(r"<h2>(.*?)</h2>", text)
    assert [h for h in headings if "simulated" not in h] == ["How it was made"]
    # The control: of a real model nothing is called so.
    body = report.to_html(real, scores, training).partition("</style>")[2]
    assert "imulated" not in body


def test_training_and_subspaces_are_drawn_and_nothing_where_absent(run: Path, tmp_path: Path) -> None:
    page = Page(_html(run))
    assert "align" in page.text
    assert "before training, layer 3" in page.text
    assert "collapse: a warning <b>" in page.text
    comparison, scores = _load(run)
    bare = report.to_html(comparison, scores)
    assert 'id="training"' not in bare
    assert 'id="subspaces"' not in bare
    assert 'id="off-target"' in bare


def test_settings_costs_versions_and_the_recipe_are_on_the_page(run: Path) -> None:
    text = Page(_html(run)).text
    for words in (
        "61.2",
        "12,345",
        "2,000",
        "learning_rate",
        "0.001",
        "0123456789ab+",
        "lens reproduce a test",
    ):
        assert words in text
    assert "backbone: org/model" in text


def test_published_directions_that_can_be_checked_are_shown_with_their_numbers(run: Path) -> None:
    comparison, scores = _load(run)
    checks = [c for c in findings.check_findings(scores, comparison.reference) if c.interval]
    assert [(c.name, c.outcome) for c in checks] == [("fidelity_rises", "passes")]
    rows = next(rows for title, rows in Page(_html(run)).tables if title.startswith("Published directions"))
    assert rows[1][:3] == [checks[0].claim, "✓ passes", findings.numbers(checks[0])]
    # Results without a Lens row have nothing to check.
    alone = [own for own in scores if own.variant == "backbone"]
    assert "Published directions" not in report.to_html(compare(alone), alone)


def test_the_same_run_gives_the_same_bytes_wherever_it_lies(run: Path, tmp_path: Path) -> None:
    elsewhere = shutil.copytree(run, tmp_path / "another" / "place")
    assert _html(run) == _html(run)
    assert _html(elsewhere) == _html(run)
    assert str(run.parent) not in _html(run)


def test_results_of_plain_lm_eval_make_a_page_too(run: Path) -> None:
    scores, _, _ = load([run / "0" / "lens_x_zh", run / "1" / "lens_x_zh"])
    page = Page(report.to_html(compare(scores), scores))
    assert "At a glance" in page.text
    assert "Costs" not in page.text
    # One variant alone is set against nothing.
    alone = [own for own in scores if own.variant == "backbone"]
    text = report.to_html(compare(alone), alone)
    assert 'id="answers"' in text
    for words in ('id="against"', 'id="show"', "before and after", "judged otherwise"):
        assert words in _html(run)
        assert words not in text


def test_two_hundred_cells_stay_below_five_megabytes(tmp_path: Path) -> None:
    codes = ("zh", "ar", "ja", "ko", "bn", "sw", "th", "en")
    variants = [f"variant number {i}" for i in range(5)]
    long = dict.fromkeys(codes, "长" * 3000)
    scores: list[Scores] = []
    for number in range(5):
        family = f"lens_{number}"
        run = make_run(tmp_path / family, codes=codes, variants=variants, answers=long, family=family)
        found, document, _ = load([run])
        scores += found
    curve = {"stage": "", "averaged": 1, "steps": list(range(200)), "values": [0.123456] * 200}
    terms = ("loss", "retain", *(f"align.{c}" for c in codes), "grad_norm", "learning_rate")
    one = {
        "model": "m",
        "curves": [{**curve, "term": term} for term in terms],
        "diagnostics": report_run.diagnostics(layers=16, items=training_record.PROJECTED),
    }
    text = report.to_html(compare(scores, run=document), scores, dict.fromkeys(variants, one))
    assert len(scores) == 200
    assert 500_000 < len(text.encode()) < 5_000_000


# --- which answers ---------------------------------------------------------------------------------


def test_answers_are_the_first_that_differ_and_the_first_of_the_others(run: Path) -> None:
    comparison, scores = _load(run)
    group = next(g for g in shown_answers.choose(comparison, scores) if g.task == "lens_x_zh")
    # The reference is off target on every even item, the variant is wrong on item 1.
    assert group.differing == 7
    assert [example.item for example in group.examples] == ["q0", "q1", "q2", "q3", "q5", "q7"]
    assert [example.differs for example in group.examples] == [True] * 3 + [False] * 3
    first = group.examples[0].answers
    assert [(a.variant, a.verdict, a.right) for a in first] == [
        ("backbone", "central", True),
        ("lens", "on_target", True),
    ]
    assert [a.text for a in first] == [report_run.ENGLISH, report_run.ANSWERS["zh"]]
    assert not group.examples[1].answers[1].right


def test_the_chosen_option_is_the_answer_of_a_multiple_choice() -> None:
    sample = {
        "doc": {"prompt": "Which?"},
        "target": "1",
        "arguments": {f"gen_args_{i}": {"arg_0": "Which?", "arg_1": f" option {i}"} for i in range(3)},
        "filtered_resps": [["-3.0", "False"], ["-9.0", "False"], ["-1.5", "True"]],
        "resps": [[["-3.0", "False"]], [["-9.0", "False"]], [["-1.5", "True"]]],
    }
    assert shown_answers._text(sample) == "option 2"
    assert shown_answers._expected(sample) == "option 1"
    assert shown_answers._question(sample) == "Which?"
    # Letters say nothing without the options, which stand at the end of what the model was given.
    for i in range(3):
        sample["arguments"][f"gen_args_{i}"] = {"arg_0": "x" * 900 + "A. one B. two", "arg_1": " " + "ABC"[i]}  # type: ignore[index]
    assert shown_answers._text(sample) == "C"
    assert shown_answers._question(sample).startswith("… x")
    assert shown_answers._question(sample).endswith("A. one B. two")


def test_long_texts_are_cut_and_say_so() -> None:
    assert shown_answers.cut("a" * 10, 10) == "a" * 10
    assert shown_answers.cut("a" * 2000, 10) == "a" * 10 + " … (cut; 2,000 characters)"


# --- text ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("GPT حسنًا، الشهر هو شهر أبريل", "rtl"),  # `auto` goes by the first letter and has it wrong
        ("The word is أبريل.", "ltr"),
        ("四月", "ltr"),
        ("123 !", "auto"),
    ],
)
def test_direction_is_that_of_most_letters(text: str, expected: str) -> None:
    assert report.direction(text) == expected


@given(st.text(st.characters(), max_size=60))
def test_no_control_character_survives_and_no_other_changes(text: str) -> None:
    shown = report.visible(text)
    shown.encode("utf-8")
    kept = [c for c in text if c in shown or f"U+{ord(c):04X}" in shown]
    assert len(kept) == len(text)
    bad = {c for c in shown if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t"}
    assert not bad
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    if text.isalnum() and text.isascii():
        assert shown == text


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Comparison, list[Scores]]:
    return _load(make_run(tmp_path_factory.mktemp("small") / "run", items=2, codes=("ar",)))


PIECES = st.sampled_from(
    [*HOSTILE, *"<>\"'&`=/{}%", "<b>", "&amp;", "-->", "\r", "\n", "\u202e", "\ud800", "日本"]
)


@settings(max_examples=15, deadline=None)
@given(st.lists(PIECES | st.text(st.characters(), max_size=5), max_size=8).map("".join))
def test_whatever_a_model_answers_is_text(small: tuple[Comparison, list[Scores]], answer: str) -> None:
    comparison, scores = small
    plain = Page(report.to_html(comparison, scores))
    samples = list(shown_answers.choose(comparison, scores))
    changed = [
        replace(
            group,
            examples=tuple(
                replace(e, answers=tuple(replace(a, text=answer) for a in e.answers)) for e in group.examples
            ),
        )
        for group in samples
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shown_answers, "choose", lambda *_: changed)
        page = Page(report.to_html(comparison, scores))
    others = [tag for tag in page.tags if tag != "p"]
    assert others == [tag for tag in plain.tags if tag != "p"]
    for line in report.lines(answer):
        assert report.visible(line) in page.text


# --- safety ----------------------------------------------------------------------------------------


def test_hostile_text_makes_no_tag_no_handler_and_no_address(hostile: Path) -> None:
    text = _html(hostile)
    page = Page(text)
    assert set(page.tags) <= set(ALLOWED.split())
    assert page.tags.count("script") == 1
    for _, name, value in page.attributes:
        assert not name.startswith("on")
        assert name not in ("src", "style", "action", "formaction", "srcset", "xlink:href")
        if name == "href":
            # What can be taken along is inside of the page, and its letters can close no attribute.
            assert re.fullmatch(r"#.*|data:(text/csv|application/json);base64,[A-Za-z0-9+/=]*", value)
    # All of it is there to be read.
    assert page.text.count("window.hits = 1; new Image().src = 'hit.png'") > 10
    assert "⟦U+202E⟧gnp.exe⟦U+2066⟧ ⟦U+0000⟧ ⟦U+001B⟧[31m" in page.text
    assert "{{ 7 * 7 }}" in page.text
    # The control: the same text, not escaped, does make tags.
    assert {"iframe", "img", "base"} <= set(Page(" ".join(HOSTILE)).tags)


def test_the_policy_allows_our_script_and_style_and_nothing_else(run: Path) -> None:
    text = _html(run)
    page = Page(text)
    policy = next(v for tag, name, v in page.attributes if tag == "meta" and name == "content" and "src" in v)
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        inside = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert len(inside) == 1
        digest = base64.b64encode(hashlib.sha256(inside[0].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert text.index("Content-Security-Policy") < text.index("<style>")


def test_the_page_names_no_address_outside_itself(run: Path) -> None:
    text = _html(run)
    assert not re.search(r"https?:|@import|//[a-z]", text.replace("// ", ""))
    assert set(re.findall(r"url\(([^)]*)\)", text)) == {"#hatch", "#dots"}


def _contrast(first: str, second: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def test_text_has_contrast_by_day_and_by_night() -> None:
    assert _contrast("#ffffff", "#000000") == pytest.approx(21)
    style = (report.PAGE / "report.css").read_text(encoding="utf-8")
    blocks = re.findall(r":root \{(.*?)\}", style, re.DOTALL)[:2]
    for block in blocks:
        colours = dict(re.findall(r"--(\w[\w-]*): (#[0-9a-f]{6})", block))
        for name in ("ink", "quiet", "link", "good", "bad"):
            for ground in ("ground", "raised"):
                assert _contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
        for name in ("central", "other", "unsure", *(f"s{i}" for i in range(8))):
            assert _contrast(colours[name], colours["ground"]) >= 3, name


# --- training --------------------------------------------------------------------------------------


def test_long_logs_are_averaged_and_removed_models_remembered(tmp_path: Path) -> None:
    model = make_training(tmp_path / "models" / "lens-1", steps=500)
    record = training_record.collect(tmp_path, {"lens": model})
    curves = {curve["term"]: curve for curve in record["lens"]["curves"]}
    assert set(curves) == {"learning_rate", "loss", "align.zh", "align.ar"}
    assert curves["align.zh"]["averaged"] == 3
    assert curves["align.zh"]["values"][:2] == [2.0, 5.0]
    assert curves["align.zh"]["steps"][-1] == 500
    assert "seconds" not in record["lens"]["diagnostics"]
    shutil.rmtree(model)
    assert training_record.collect(tmp_path, {"lens": model}) == record
    assert training_record.load(tmp_path) == record
    # Of a model with other settings nothing is known.
    assert training_record.collect(tmp_path, {"lens": tmp_path / "models" / "lens-2"}) == {}


def test_foreign_logs_are_no_error_and_a_corrupt_record_is(tmp_path: Path) -> None:
    log = tmp_path / "models" / "x-1" / "training" / "log.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text('no json\n[1]\n{"loss": 1}\n{"step": 1, "loss": 2.0, "note": "x"}\n', encoding="utf-8")
    assert training_record.read_curves(log) == [
        {"stage": "", "term": "loss", "averaged": 1, "steps": [1], "values": [2.0]}
    ]
    (tmp_path / training_record.FILE).write_text('{"lens": {"curves": [{}]}}', encoding="utf-8")
    with pytest.raises(UserError, match=r"training\.json is corrupt"):
        training_record.load(tmp_path)


def test_stages_stand_one_behind_the_other() -> None:
    from lens_eval.page import training_charts

    curve = {"term": "loss", "averaged": 1, "steps": [1, 10], "values": [3.0, 1.0]}
    record = {"qalign": {"curves": [{**curve, "stage": "translate"}, {**curve, "stage": "tune"}]}}
    found = training_charts.losses(["backbone", "qalign"], record)
    assert [(f["variant"], f["steps"]) for f in found] == [("qalign", 20)]
    drawn = found[0]["panels"][0][1]
    assert ">translate</text>" in drawn
    assert ">tune</text>" in drawn


# --- charts ----------------------------------------------------------------------------------------


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_few_round_and_inside(low: float, width: float) -> None:
    marks = charts.ticks(low, low + width)
    assert len(marks) <= 7
    for mark in marks:
        assert low - width * 1e-6 <= mark <= low + width * (1 + 1e-6)


def test_a_bar_is_as_long_as_its_share() -> None:
    drawn = charts.bars("t", [charts.Bar("a<b", (("central", 0.5), ("other", 0.25)), 0.6, 0.8, "75.0*")])
    widths = [
        float(w) for w in re.findall(r'<rect class="bar \w+" x="[^"]*" y="[^"]*" width="([^"]*)"', drawn)
    ]
    assert widths == [169.0, 84.5]
    assert "a&lt;b: 75.0*" in drawn


def test_sixteen_series_can_be_told_apart() -> None:
    drawn = [re.sub(r" s\d", "", charts.swatch(series)) for series in range(16)]
    assert len(set(drawn)) == 16, "by their shapes and fillings, without their colours"


def test_a_label_leaves_no_doubt_whose_it_is() -> None:
    points = [charts.Point(x, 50, i, f"v{i}", f"v{i}") for i, x in enumerate((0, 1, 90))]
    drawn = charts.scatter("t", points, ("x", "y"))
    assert ">v2</text>" in drawn
    alone = charts.scatter("t", points[::2], ("x", "y"))
    assert ">v0</text>" in alone


# --- commands --------------------------------------------------------------------------------------


def test_lens_report_makes_the_page_again(run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("models"))
    result = CliRunner().invoke(app, ["report", str(folder)])
    assert result.exit_code == 0, result.output
    assert (folder / "report.html").read_text(encoding="utf-8") == _html(run)
    other = tmp_path / "page.html"
    assert CliRunner().invoke(app, ["report", str(folder), "--output", str(other)]).exit_code == 0
    assert other.read_bytes() == (folder / "report.html").read_bytes()


def test_lens_report_says_what_is_wrong_before_it_writes(run: Path, tmp_path: Path) -> None:
    for arguments, words in (
        ([str(run) + "x"], "no results folder"),
        ([str(run), "--output", str(tmp_path)], "is a folder; name a file"),
        ([str(run), "--output", str(tmp_path / "none" / "page.html")], "in no folder"),
    ):
        result = CliRunner().invoke(app, ["report", *arguments])
        assert isinstance(result.exception, UserError), result.output
        assert words in str(result.exception)
    assert not list(tmp_path.iterdir())


def test_lens_compare_writes_the_page_beside_its_tables(run: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["compare", str(run), "--output", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "report.html").read_text(encoding="utf-8") == _html(run)


def test_a_run_ends_with_its_page(tmp_path: Path) -> None:
    from lens_eval.runs import runner
    from lens_eval.runs.recipe import load_recipe

    model = tiny_world.make_model(tmp_path / "model")
    tasks = tiny_world.make_tasks(tmp_path / "tasks", items=3, languages=("en", "sw"))
    path = tiny_world.make_recipe(tmp_path, model, tasks, languages=["en", "sw"])
    assert runner.run(load_recipe(path), tmp_path / "out", device="cpu", say=lambda _: None).status == 0
    first = (tmp_path / "out" / "report.html").read_bytes()
    page = Page(first.decode())
    assert "shaken" in page.text
    assert "sw 0: what?" in page.text
    for place in (tmp_path, Path.home(), Path(sys.prefix)):
        assert str(place) == "/" or str(place) not in first.decode()
    shutil.rmtree(tmp_path / "out" / "models")
    assert CliRunner().invoke(app, ["report", str(tmp_path / "out")]).exit_code == 0
    assert (tmp_path / "out" / "report.html").read_bytes() == first


# --- in a browser ----------------------------------------------------------------------------------

in_chromium = pytest.mark.skipif(
    browser.find() is None, reason="no Chromium on PATH (Debian: apt-get install -y chromium)"
)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Browser]:
    program = browser.find()
    assert program is not None
    started = browser.Browser(program, tmp_path_factory.mktemp("profile"))
    yield started
    started.close()


@pytest.fixture(scope="module")
def pages(run: Path, hostile: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    made = {}
    for name, place in (("run", run), ("hostile", hostile)):
        made[name] = folder / f"{name}.html"
        made[name].write_text(_html(place), encoding="utf-8")
    return made


@in_chromium
def test_hostile_answers_do_not_run(
    chromium: browser.Browser, pages: dict[str, Path], tmp_path: Path
) -> None:
    chromium.open(pages["hostile"])
    assert chromium.run("window.hits") is None
    assert chromium.requests() == []
    assert chromium.complaints() == []
    assert chromium.run("document.title").startswith("run of <script>")
    # The control: each of the first four, not escaped, does run.
    for payload in HOSTILE[:4]:
        bare = tmp_path / "bare.html"
        bare.write_text(f'<!DOCTYPE html><script>/*{payload}</script><p title="x{payload}', encoding="utf-8")
        if not payload.startswith(('"', "</script")):
            bare.write_text(f"<!DOCTYPE html><p title='x{payload}<p>{payload}", encoding="utf-8")
        chromium.open(bare)
        chromium.run("new Promise(done => setTimeout(done, 200))")
        assert chromium.run("window.hits") == 1, payload


@in_chromium
def test_what_slipped_through_would_be_stopped_by_the_policy(
    chromium: browser.Browser, pages: dict[str, Path], tmp_path: Path
) -> None:
    text = pages["run"].read_text(encoding="utf-8")
    broken = tmp_path / "broken.html"
    broken.write_text(text.replace("<main>", "<main>" + "".join(HOSTILE[:4])), encoding="utf-8")
    chromium.open(broken)
    chromium.run("new Promise(done => setTimeout(done, 200))")
    assert chromium.run("window.hits") is None
    assert any("Content Security Policy" in words for words in chromium.complaints())


@in_chromium
def test_tables_sort_by_click_and_by_key(chromium: browser.Browser, pages: dict[str, Path]) -> None:
    chromium.open(pages["run"])
    chromium.run(
        "[...document.querySelectorAll('#tables h4')].find(e => e.textContent.startsWith('off-target'))"
        ".nextElementSibling.id = 'off'"
    )

    def state(column: int) -> tuple[list[str], str | None]:
        names = chromium.run("[...document.querySelectorAll('#off tbody th')].map(e => e.textContent)")
        head = f"document.querySelector('#off thead th:nth-child({column})')"
        return names, chromium.run(f"{head}.getAttribute('aria-sort')")

    unsorted = (["backbone", "lens"], None)
    assert state(4) == unsorted
    chinese = "#off thead th:nth-child(4) button"  # the reference has more of it off target
    chromium.click(chinese)
    assert state(4) == (["backbone", "lens"], "descending")
    chromium.click(chinese)
    assert state(4) == (["lens", "backbone"], "ascending")
    chromium.click(chinese)
    assert state(4) == unsorted
    # By keyboard: from the button before, one step on, then Enter and Space.
    chromium.run("document.querySelector('#off thead th:nth-child(3) button').focus()")
    chromium.press("Tab")
    chromium.press("Enter")
    assert state(4)[1] == "descending"
    chromium.press(" ")
    assert state(4) == (["lens", "backbone"], "ascending")
    # A hole is neither large nor small: it comes last either way.
    average = "#off thead th:nth-child(2) button"
    for order in ("descending", "ascending"):
        chromium.click(average)
        assert state(2) == (["backbone", "lens"], order)
    names = "#off thead th:nth-child(1) button"
    chromium.click(names)
    chromium.click(names)
    assert state(1) == (["lens", "backbone"], "descending")
    assert chromium.complaints() == []


@in_chromium
@pytest.mark.parametrize("name", ["run", "hostile"])
def test_a_phone_has_nothing_to_scroll_sideways_but_tables(
    chromium: browser.Browser, pages: dict[str, Path], name: str
) -> None:
    chromium.open(pages[name], width=360)
    assert chromium.run("document.documentElement.scrollWidth") == 360
    wide = chromium.run(
        "[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, pre, svg, option')"
        " && e.getBoundingClientRect().right > 360.5).map(e => e.tagName + e.className)"
    )
    assert wide == []
    boxes = "[...document.querySelectorAll('.scroll')]"
    assert chromium.run(f"{boxes}.some(e => e.scrollWidth > e.clientWidth)")
    assert chromium.run(f"{boxes}.every(e => e.tabIndex === 0 && e.getAttribute('aria-label') !== '')")


@in_chromium
def test_right_to_left_text_runs_right_to_left(chromium: browser.Browser, pages: dict[str, Path]) -> None:
    chromium.open(pages["run"])
    found = chromium.run(
        "[...document.querySelectorAll('.answer .prose p')]"
        ".map(e => [e.textContent, getComputedStyle(e).direction])"
    )
    directions = dict(found)
    assert directions[report_run.ANSWERS["ar"]] == "rtl"
    assert directions[report_run.ANSWERS["zh"]] == "ltr"
    assert directions[report_run.ENGLISH] == "ltr"
    languages = chromium.run("[...document.querySelectorAll('.asked .prose')].map(e => e.lang)")
    assert set(languages) == set(report_run.CODES)


@in_chromium
def test_values_differences_and_answers_can_be_chosen(
    chromium: browser.Browser, pages: dict[str, Path]
) -> None:
    chromium.open(pages["run"])

    def choose(control: str, value: str) -> None:
        chromium.run(
            f"(() => {{ const e = document.getElementById('{control}'); e.value = '{value}';"
            " e.dispatchEvent(new Event('change')); })()"
        )

    def seen(selector: str) -> list[str]:
        return chromium.run(
            f"[...document.querySelectorAll('{selector}')].filter(e => e.checkVisibility())"
            ".map(e => e.textContent.trim().split('\\n')[0])"
        )

    assert seen("#glance .value")
    assert not seen("#glance .difference")
    choose("show", "differences")
    assert seen("#glance .difference")
    assert not seen("#glance .value")
    assert len(seen(".group")) == 4
    choose("language", "ar")
    assert len(seen(".group")) == 1
    choose("variant", "lens")
    assert len(seen(".answer")) == 2 * len(seen(".example")) == 12
    chromium.click("#differing")
    assert len(seen(".example")) == 3


@in_chromium
def test_without_scripts_everything_is_there(chromium: browser.Browser, pages: dict[str, Path]) -> None:
    chromium.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        chromium.open(pages["run"])
        root = chromium.call("DOM.getDocument", depth=1)["root"]["nodeId"]

        def html(selector: str) -> str:
            node = chromium.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
            return chromium.call("DOM.getOuterHTML", nodeId=node)["outerHTML"] if node else ""

        assert html(".tools[hidden]")
        assert not html("th button")
        assert report_run.ANSWERS["zh"] in html("#answers")
    finally:
        chromium.call("Emulation.setScriptExecutionDisabled", value=False)


@in_chromium
def test_paper_gets_what_is_open_and_nothing_is_cut_off(
    chromium: browser.Browser, pages: dict[str, Path], tmp_path: Path
) -> None:
    codes = ("zh", "ar", "ja", "ko", "bn", "sw", "th", "es", "fr", "de", "ru", "en")
    wide = tmp_path / "wide.html"
    wide.write_text(_html(make_run(tmp_path / "wide", codes=codes)), encoding="utf-8")
    chromium.open(wide, width=690)  # an A4 page less its margins
    chromium.call("Emulation.setEmulatedMedia", media="print")
    assert chromium.run("document.documentElement.scrollWidth") == 690
    # Nor where the reader's font is wider than ours here.
    chromium.run("document.body.style.letterSpacing = '0.04em'")
    assert chromium.run("document.documentElement.scrollWidth") == 690
    seen = "[...document.querySelectorAll('%s')].filter(e => e.checkVisibility()).length"
    assert chromium.run(seen % ".example") == chromium.run(seen % ".group[open]") > 0
    assert chromium.run(seen % "details:not([open])") == 0
    assert chromium.run(seen % ".on-paper") == 1
    chromium.call("Emulation.setEmulatedMedia", media="screen")
    assert chromium.run(seen % ".example") > chromium.run(seen % ".group[open]")
    assert chromium.run(seen % ".on-paper") == 0
    chromium.call("Emulation.setEmulatedMedia", media="")
    chromium.pdf(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().count(b"/Type /Page\n") > 2


@in_chromium
def test_the_main_column_is_seen_on_a_phone_and_heads_stay(
    chromium: browser.Browser, pages: dict[str, Path]
) -> None:
    chromium.open(pages["run"], width=390)
    edges = chromium.run(
        "[...document.querySelectorAll('table.sortable')].filter(e => e.checkVisibility()).map(e =>"
        " e.tBodies[0].rows[0].cells[1].getBoundingClientRect().right)"
    )
    assert edges
    assert max(edges) <= 390
    chromium.run("document.querySelectorAll('.scroll').forEach(e => { e.style.maxHeight = '90px'; })")
    moved = chromium.run(
        "[...document.querySelectorAll('#tables .scroll')].filter(e => e.checkVisibility()).map(e => {"
        " e.scrollTop = 40; const head = e.querySelector('thead th').getBoundingClientRect();"
        " return [e.scrollTop, Math.abs(head.top - e.getBoundingClientRect().top) < 3]; })"
    )
    assert all(top > 0 and stays for top, stays in moved)


@in_chromium
def test_every_number_can_be_taken_along(
    chromium: browser.Browser, pages: dict[str, Path], run: Path
) -> None:
    import pandas

    chromium.open(pages["run"])
    links = chromium.run("[...document.querySelectorAll('a[download]')].map(e => [e.download, e.href])")
    files = {name: base64.b64decode(address.partition(",")[2]).decode() for name, address in links}
    comparison, _ = _load(run)
    assert files["table.csv"] == tables.to_csv(comparison)
    found = pandas.DataFrame(**json.loads(files["table.json"]))
    assert found.to_dict("records")[0]["metric"] == next(iter(tables.rows(comparison)))["metric"]
    assert len(found) == len(comparison.entries)


def test_averages_come_first_and_the_central_language_last(run: Path) -> None:
    comparison, _ = _load(run)
    for family in comparison.families:
        columns = report.table(comparison, family, comparison.metrics[family][0]).columns
        kinds = [column.kind for column in columns]
        assert kinds == sorted(kinds, key=["average", "plain", "central"].index)
        assert kinds[-1] == "central"
    for _, _, summary in report.summaries(comparison):
        assert [column.kind for column in summary.columns][-1] == "central"
