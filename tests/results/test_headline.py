"""What happened, in one sentence: no more than the intervals say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from report_run import CODES, columns, make_run
from typer.testing import CliRunner

from lens_eval.base.statistics import Interval
from lens_eval.commands.cli import app
from lens_eval.page import report
from lens_eval.results import tables
from lens_eval.results.card import of_results, of_variant
from lens_eval.results.compare import Comparison, compare
from lens_eval.results.headline import headline, is_level, subject_of
from lens_eval.results.read import load

DEMO = Path(__file__).resolve().parents[2] / "results" / "demo"


def comparison_of(folder: Path) -> Comparison:
    scores, document, holes = load([folder])
    return compare(scores, name=document.get("name", ""), holes=holes, run=document)


@pytest.fixture(scope="module")
def demo() -> Comparison:
    return comparison_of(DEMO)


def test_the_sentence_holds_the_numbers_of_the_tables(demo: Comparison) -> None:
    said = headline(demo)
    for metric in ("off_target", "usable", "acc"):
        before, after = (demo.get("lens_mini_qa", metric, name, "average") for name in ("backbone", "lens"))
        assert before is not None
        assert after is not None
        assert f"{100 * before.interval.mean:.1f} → {100 * after.interval.mean:.1f}%" in said
        assert after.differs
    assert said.startswith("lens: off-target ")
    assert "average of 3 languages, simulated" in said
    assert "; English accuracy 100.0 → 100.0%, level [" in said


def test_rivals_stand_by_their_paired_intervals(demo: Comparison) -> None:
    said = headline(demo)
    _, _, standing = said.partition("Usable: ")
    groups = {
        words: part
        for part in standing.rstrip(".").split("; ")
        for words in ("above", "below", "level with", "not distinguishable from")
        if part.startswith(words)
    }
    for variant, difference in demo.rivals["lens_mini_qa", "usable"].items():
        [own] = [
            words
            for words, part in groups.items()
            if variant in part.replace(",", "").split() or "more" in part
        ]
        if difference.low > 0:
            assert own == "above"
        elif difference.high < 0:
            assert own == "below"
        else:
            assert own == ("level with" if is_level(difference) else "not distinguishable from")


def test_a_difference_is_a_change_only_if_its_interval_excludes_zero(tmp_path: Path) -> None:
    """The control has many items, the other few: the same rates, and another sentence."""
    sure = headline(comparison_of(make_run(tmp_path / "sure", items=40)))
    assert "off-target 50.0 → 0.0% [" in sure
    few = headline(comparison_of(make_run(tmp_path / "few", items=2)))
    assert "off-target 50.0 → 0.0%, not distinguishable [" in few
    assert "accuracy 100.0 → 97.5%, not distinguishable [" in sure  # one item of forty


@pytest.mark.parametrize(
    ("low", "high", "level"), [(-0.01, 0.02, True), (-0.021, 0.0, False), (-0.01, 0.03, False)]
)
def test_level_means_the_whole_interval(low: float, high: float, level: bool) -> None:
    assert is_level(Interval((low + high) / 2, low, high, 10)) is level


def test_one_model_is_described_and_compared_with_nothing(tmp_path: Path) -> None:
    found = comparison_of(make_run(tmp_path / "one", variants=["gemma"]))
    said = headline(found)
    assert said.startswith("gemma: off-target 50.0% [")
    assert "→" not in said
    assert "level" not in said


def test_the_subject_is_lens_or_the_only_other_or_the_best(tmp_path: Path) -> None:
    names = ["backbone", "xsft", "lens-seed1", "lens"]
    assert subject_of(comparison_of(make_run(tmp_path / "a", variants=names))) == "lens"
    assert subject_of(comparison_of(make_run(tmp_path / "b", variants=["backbone", "mine"]))) == "mine"
    assert subject_of(comparison_of(make_run(tmp_path / "c", variants=["backbone", "x", "y"]))) in ("x", "y")


def test_a_subject_without_numbers_has_no_sentence(tmp_path: Path) -> None:
    holes = [("lens", f"lens_x_{code}", "out of memory") for code in CODES]
    assert headline(comparison_of(make_run(tmp_path / "run", holes=holes))) == ""
    assert columns(2, [0])["off_target"] == [1.0, 0.0]


def test_it_stands_first_on_the_page_in_the_table_and_in_the_terminal(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", items=40)
    found = comparison_of(run)
    said = headline(found)
    assert tables.to_markdown(found).splitlines()[2] == f"**{said}**"
    assert json.loads(tables.to_json(found))["headline"] == said
    html = report.to_html(found, load([run])[0])
    assert f'<p class="headline">{said}</p>' in html
    shown = CliRunner().invoke(app, ["compare", str(run)], catch_exceptions=False).stdout
    assert " ".join(shown.splitlines()[1:6]).replace("  ", " ").find(said[:60]) >= 0


def test_a_card_of_results_and_the_part_for_a_variant(demo: Comparison, tmp_path: Path) -> None:
    text = of_results(demo)
    assert text.startswith("# demo (simulated)\n\n**lens: off-target")
    assert "simulated" in text
    for name in demo.variants:
        assert f"| {name} |" in text
    part = of_variant(demo, "lens")
    assert "| lens |" in part
    assert "xsft" not in part
    done = CliRunner().invoke(app, ["card", str(DEMO), "--output", str(tmp_path / "card.md")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "card.md").read_text(encoding="utf-8") == text
