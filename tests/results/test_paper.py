"""Published numbers and directions beside one's own, on results made for the purpose."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import lm_eval_files
import pytest

from lens_eval.base.errors import UserError
from lens_eval.results import findings, paper
from lens_eval.results.compare import Comparison, compare
from lens_eval.results.read import Scores, load

ROOT = Path(__file__).resolve().parents[2]
ITEMS = 100


def _share(share: float) -> list[float]:
    """`ITEMS` zeros and ones, spread so that pairs differ in few places."""
    return [float(i < round(share * ITEMS)) for i in range(ITEMS)]


def _write(folder: Path, variant: str, shares: dict[str, float]) -> None:
    """Results of one variant: `task_language` -> share; open tasks get `on_target`, the others `acc`."""
    tasks = {
        name: {"on_target" if name.startswith("open") else "acc": _share(value)}
        for name, value in shares.items()
    }
    lm_eval_files.write_results(folder / variant, tasks, model=variant)


def _scores(folder: Path, variants: dict[str, dict[str, float]]) -> list[Scores]:
    for variant, shares in variants.items():
        _write(folder, variant, shares)
    return load([f"{variant}={folder / variant}" for variant in variants])[0]


def _checks(folder: Path, variants: dict[str, dict[str, float]]) -> dict[str, findings.Check]:
    found = findings.check_findings(_scores(folder, variants), "backbone")
    return {check.name: check for check in found}


FOUR = ("zh", "ja", "ar", "bn")
BASE = {
    **{f"open_{code}": 0.3 for code in FOUR},
    **{f"letters_{code}": 0.5 for code in (*FOUR, "sw", "en")},
    "xcopa_official_zh": 0.5,
}


def _with(**changes: float) -> dict[str, float]:
    return {**BASE, **changes}


LENS = _with(open_zh=0.9, open_ja=0.9, open_ar=0.6, open_bn=0.6)
WORSE = _with(open_zh=0.1, open_ja=0.1)


@pytest.mark.parametrize(
    ("name", "passing", "failing"),
    [
        ("fidelity_rises", {"lens": LENS}, {"lens": WORSE}),
        ("fidelity_is_the_clearest_gain", {"lens": LENS}, {"lens": _with(letters_zh=0.9, letters_ja=0.9)}),
        (
            "fidelity_zh_ja_over_ar_bn",
            {"lens": LENS},
            {"lens": _with(open_zh=0.6, open_ja=0.6, open_ar=0.9, open_bn=0.9)},
        ),
        (
            "accuracy_zh_ja_over_ar_bn",
            {"lens": _with(letters_zh=0.8, letters_ja=0.8)},
            {"lens": _with(letters_ar=0.8, letters_bn=0.8)},
        ),
        (
            "sdrrl_above_backbone_on_xcopa",
            {"sdrrl": _with(xcopa_official_zh=0.8)},
            {"sdrrl": _with(xcopa_official_zh=0.3)},
        ),
        (
            "xsft_full_beats_lens_on_swahili",
            {"lens": LENS, "xsft_large": _with(letters_sw=0.8)},
            {"lens": _with(letters_sw=0.9), "xsft_large": _with(letters_sw=0.8)},
        ),
        (
            "align_weight_changes_little",
            {"lens": LENS, "lens_no_align": LENS},
            {"lens": LENS, "lens_no_align": _with(letters_zh=0.1)},
        ),
        (
            "align_weight_changes_fidelity_little",
            {"lens": LENS, "lens_no_align": LENS},
            {"lens": LENS, "lens_no_align": WORSE},
        ),
        ("central_language_is_kept", {"lens": _with(letters_en=0.8)}, {"lens": _with(letters_en=0.2)}),
        ("understanding_is_kept", {"lens": _with(letters_zh=0.8)}, {"lens": _with(letters_zh=0.1)}),
    ],
)
def test_a_finding_passes_where_it_holds_and_fails_where_it_does_not(
    tmp_path: Path, name: str, passing: dict[str, dict[str, float]], failing: dict[str, dict[str, float]]
) -> None:
    holds = _checks(tmp_path / "a", {"backbone": BASE, **passing})[name]
    assert holds.outcome == "passes", holds
    does_not = _checks(tmp_path / "b", {"backbone": BASE, **failing})[name]
    assert does_not.outcome == "fails", does_not
    # And where the results hold nothing to judge by, it says what is missing.
    nothing = _checks(tmp_path / "c", {"backbone": BASE})[name]
    assert nothing.outcome == "not applicable"
    assert nothing.interval is None
    assert nothing.detail.startswith("missing: a variant named ")


def test_every_finding_is_tested_and_documented() -> None:
    marks = test_a_finding_passes_where_it_holds_and_fails_where_it_does_not.pytestmark
    names = [finding.name for finding in findings.FINDINGS]
    assert [case[0] for case in marks[0].args[1]] == names
    text = (ROOT / "docs" / "reproduction.md").read_text(encoding="utf-8")
    assert [name for name in names if f"`{name}`" not in text] == []


def test_the_numbers_are_those_of_the_comparison(tmp_path: Path) -> None:
    scores = _scores(tmp_path, {"backbone": BASE, "lens": LENS})
    found = {check.name: check for check in findings.check_findings(scores, "backbone")}
    interval = found["fidelity_rises"].interval
    entry = compare(scores).get("open", "on_target", "lens", "average")
    assert entry is not None
    assert entry.difference is not None
    assert interval is not None
    assert interval.mean == pytest.approx(entry.difference.mean) == pytest.approx(0.45)
    assert (interval.low, interval.high) == (
        pytest.approx(entry.difference.low),
        pytest.approx(entry.difference.high),
    )
    # (0.6 + 0.6)/2 more in zh and ja, (0.3 + 0.3)/2 more in ar and bn.
    contrast = found["fidelity_zh_ja_over_ar_bn"].interval
    assert contrast is not None
    assert contrast.mean == pytest.approx(0.3)
    assert "lens - backbone, on target: open (zh, ja)" in found["fidelity_zh_ja_over_ar_bn"].detail
    assert "less lens - backbone, on target: open (ar, bn)" in found["fidelity_zh_ja_over_ar_bn"].detail


def test_too_few_items_show_nothing(tmp_path: Path) -> None:
    few = {"open_zh": [0.0, 1.0, 0.0], "open_ja": [0.0, 0.0, 0.0]}
    more = {"open_zh": [1.0, 1.0, 0.0], "open_ja": [0.0, 1.0, 0.0]}
    for variant, values in (("backbone", few), ("lens", more)):
        tasks = {name: {"on_target": column} for name, column in values.items()}
        lm_eval_files.write_results(tmp_path / variant, tasks, model=variant)
    scores = load([f"{v}={tmp_path / v}" for v in ("backbone", "lens")])[0]
    found = {check.name: check for check in findings.check_findings(scores, "backbone")}
    rises = found["fidelity_rises"]
    assert rises.interval is not None
    assert rises.interval.mean > 0  # the direction is there ...
    assert rises.outcome == "fails"  # ... but it is not shown
    assert "zh, ja, ar, bn" in found["fidelity_zh_ja_over_ar_bn"].detail
    assert "the nearest lacks ar, bn" in found["fidelity_zh_ja_over_ar_bn"].detail


def test_equal_results_are_not_exactly_equal_models(tmp_path: Path) -> None:
    found = _checks(tmp_path, {"backbone": BASE, "lens": LENS, "lens_no_align": LENS})
    interval = found["align_weight_changes_little"].interval
    assert interval is not None
    assert interval.low < 0 < interval.high


def test_of_a_family_asked_twice_the_released_protocol_counts(tmp_path: Path) -> None:
    both = {**BASE, "xcopa_zh": 0.5}
    better = {**both, "xcopa_zh": 1.0}  # better by our own protocol alone
    found = _checks(tmp_path, {"backbone": both, "sdrrl": better})["sdrrl_above_backbone_on_xcopa"]
    assert found.interval is not None
    assert found.interval.mean == 0
    assert "xcopa_official" in found.detail


def test_the_rows_of_several_seeds_are_averaged(tmp_path: Path) -> None:
    rows = {"backbone": BASE, "lens-seed0": _with(open_zh=0.5), "lens-seed1": _with(open_zh=0.9)}
    found = _checks(tmp_path, rows)["fidelity_rises"]
    assert found.interval is not None
    assert found.interval.mean == pytest.approx((0.2 + 0.6) / 2 / 4)
    assert found.detail.startswith("lens - backbone")


# --- published numbers -------------------------------------------------------------------------

HEAD = ",".join(paper.COLUMNS)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    scores = _scores(tmp_path_factory.mktemp("runs"), {"backbone": BASE, "lens": LENS})
    return compare(scores, run={"recipe": {"backbone": "org/Model-8B"}})


def _file(folder: Path, *lines: str, head: str = HEAD) -> Path:
    path = folder / "paper.csv"
    path.write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    return path


def test_ours_stand_beside_theirs_with_the_difference(tmp_path: Path, comparison: Comparison) -> None:
    file = _file(
        tmp_path,
        "Model-8B,lens,open,zh,on_target,80.5,Table 1",
        "org/Model-8B,lens,open,average,on_target,75,Table 1",
        '"Model-8B",backbone,letters,zh-cn,acc,50.0,"Table 2, left"',
    )
    pairs = paper.pair(comparison, paper.read_published(file))
    assert [each.reason for each in pairs] == ["", "", ""]
    assert [each.difference for each in pairs] == [pytest.approx(9.5), pytest.approx(0.0), pytest.approx(0.0)]
    records = list(csv.DictReader(io.StringIO(paper.to_csv(pairs))))
    assert float(records[0]["ours"]) == pytest.approx(90.0)
    assert float(records[0]["difference"]) == pytest.approx(9.5)
    assert records[2]["source"] == "Table 2, left"
    text = paper.to_markdown(pairs)
    assert "| lens | open | zh | on_target | 80.5 | 90.0 [82.6, 94.5] | +9.5 | Table 1 |" in text
    assert "3 of 3 published numbers have a partner" in text


def test_lines_without_a_partner_are_listed(tmp_path: Path, comparison: Comparison) -> None:
    file = _file(
        tmp_path,
        "Model-8B,lens,open,zh,on_target,80,T",
        "Other-7B,lens,open,zh,on_target,80,T",
        "Model-8B,sdrrl,open,zh,on_target,80,T",
        "Model-8B,lens,opn,zh,on_target,80,T",
        "Model-8B,lens,open,sw,on_target,80,T",
        "Model-8B,lens,open,zh,acc,80,T",
    )
    pairs = paper.pair(comparison, paper.read_published(file))
    assert pairs[0].ours is not None
    assert [each.reason for each in pairs[1:]] == [
        "another model: this run is of model-8b",
        "no variant sdrrl here",
        "no task opn here (did you mean open?)",
        "no language sw here",
        "no metric acc here",
    ]
    text = paper.to_markdown(pairs)
    for line in range(3, 8):
        assert f"line {line}, without a partner" in text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("m,lens,open,zh,on_target,much,T", "line 3: value 'much' is no number"),
        ("m,lens,open,zh,on_target,101,T", "line 3: value 101 is not between 0 and 100"),
        ("m,lens,open,zh,on_target,nan,T", "line 3: value nan is not between"),
        ("m,lens,open,zh,on_target,50", "line 3: 6 fields, not 7"),
        ("m,lens,open,zh,,50,T", "line 3: metric is empty"),
        ("m,lens,open,xq,on_target,50,T", "line 3: .*xq"),
        ("m,lens,open,en,on_target,50,T", "line 3: the same number as in line 2"),
        ('m,lens,open,zh,on_target,50,"T', "line 3: not CSV"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    good = "m,lens,open,en,on_target,50,T"
    assert len(paper.read_published(_file(tmp_path, good))) == 1  # the control
    with pytest.raises(UserError, match=message):
        paper.read_published(_file(tmp_path, good, line))


def test_other_columns_and_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"line 1: .*unknown: 'modle' \(did you mean model"):
        paper.read_published(_file(tmp_path, head=HEAD.replace("model", "modle")))
    with pytest.raises(UserError, match="in this order"):
        paper.read_published(_file(tmp_path, head="variant,model,task,language,metric,value,source"))
    with pytest.raises(UserError, match="no file"):
        paper.read_published(tmp_path / "none.csv")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8"):
        paper.read_published(tmp_path / "bytes.csv")


def test_the_project_holds_the_columns_and_no_number() -> None:
    folder = ROOT / "results" / "paper"
    assert paper.read_published(folder / "example.csv") == []
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in paper.COLUMNS)
    assert sorted(p.name for p in folder.iterdir()) == ["README.md", "example.csv"]


def test_the_command_prints_both(tmp_path: Path) -> None:
    _scores(tmp_path, {"backbone": BASE, "lens": LENS})
    runs = [f"{name}={tmp_path / name}" for name in ("backbone", "lens")]
    file = str(_file(tmp_path, "m,lens,open,zh,on_target,80.5,<b>T</b>"))

    def lens(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "lens_eval", "compare", *runs, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=300)

    shown = lens("--paper", file, "--checks")
    assert shown.returncode == 0, shown.stderr
    assert "beside the paper" in shown.stdout
    assert "passes  fidelity_rises" in shown.stdout
    document = json.loads(lens("--paper", file, "--checks", "--format", "json").stdout)
    assert document["paper"][0]["difference"] == pytest.approx(9.5)
    assert {"name": "fidelity_rises", "outcome": "passes"}.items() <= document["checks"][0].items()
    wrong = lens("--paper", str(tmp_path / "none.csv"))
    assert wrong.returncode == 2
    assert "Traceback" not in wrong.stderr
