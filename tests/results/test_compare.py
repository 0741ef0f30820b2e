"""Comparison: numbers from samples, paired and clustered; what does not compare is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lm_eval_files import write_results
from report_run import make_run

from lens_eval.base.errors import UserError
from lens_eval.results.compare import AVERAGE, AVERAGE_ALL, compare
from lens_eval.results.read import load

BASE = {
    "lens_x_zh": {"acc": [1.0, 0.0, 0.0, 0.0] * 10, "off_target": [1.0] * 40},
    "lens_x_sw": {"acc": [1.0, 0.0, 0.0, 0.0] * 10, "off_target": [1.0, 0.0] * 20},
    "lens_x_en": {"acc": [1.0] * 40, "off_target": [0.0] * 40},
}
BETTER = {
    "lens_x_zh": {"acc": [1.0, 1.0, 0.0, 0.0] * 10, "off_target": [0.0] * 40},
    "lens_x_sw": {"acc": [1.0, 0.0, 0.0, 0.0] * 10, "off_target": [0.0] * 40},
    "lens_x_en": {"acc": [1.0] * 40, "off_target": [0.0] * 40},
}


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    write_results(tmp_path / "a", BASE, model="org/base")
    write_results(tmp_path / "b", BETTER, model="org/better", compressed=True)
    return tmp_path / "a", tmp_path / "b"


def test_numbers_are_means_of_the_samples(two: tuple[Path, Path]) -> None:
    scores, _, _ = load(two)
    table = compare(scores)
    assert table.variants == ("org/base", "org/better")
    assert table.families == ("lens_x",)
    assert table.languages["lens_x"] == ("zh", "sw", "en")
    means = {
        key[2:]: entry.interval.mean
        for key, entry in table.entries.items()
        if key[:2] == ("lens_x", "off_target")
    }
    assert means["org/base", "zh"] == 1.0
    assert means["org/base", AVERAGE] == pytest.approx(0.75)
    assert means["org/base", AVERAGE_ALL] == pytest.approx(0.5)
    assert means["org/better", AVERAGE] == 0.0


def test_intervals_hold_the_mean_and_the_difference_is_marked_only_where_it_is_clear(
    two: tuple[Path, Path],
) -> None:
    table = compare(load(two)[0])
    for entry in table.entries.values():
        assert entry.interval.low <= entry.interval.mean <= entry.interval.high
    better = {
        language: table.get("lens_x", "off_target", "org/better", language)
        for language in ("zh", "en", AVERAGE)
    }
    assert better["zh"] is not None
    assert better["zh"].differs
    assert better[AVERAGE] is not None
    assert better[AVERAGE].difference is not None
    assert better[AVERAGE].difference.mean == pytest.approx(-0.75)
    # The control: the same numbers are no difference.
    assert better["en"] is not None
    assert not better["en"].differs
    reference = table.get("lens_x", "off_target", "org/base", "zh")
    assert reference is not None
    assert reference.difference is None


def test_parallel_items_are_not_counted_as_independent(tmp_path: Path) -> None:
    """The same answers in ten languages tell no more than in one; other answers do."""
    codes = ("zh", "sw", "ar", "ja", "ko", "bn", "es", "fr", "de", "ru")
    same = [float(i % 3 == 0) for i in range(60)]
    write_results(tmp_path / "same", {f"lens_x_{c}": {"acc": same} for c in codes})
    shifted = {
        f"lens_x_{c}": {"acc": [float((i + 7 * k) % 3 == 0) for i in range(60)]} for k, c in enumerate(codes)
    }
    write_results(tmp_path / "other", shifted)

    def width(folder: str, language: str) -> float:
        entry = compare(load([tmp_path / folder])[0]).get("lens_x", "acc", "org/model", language)
        assert entry is not None
        return entry.interval.high - entry.interval.low

    assert width("same", AVERAGE) == pytest.approx(width("same", "zh"), rel=0.05)
    assert width("other", AVERAGE) < 0.6 * width("other", "zh")


def test_the_quick_way_for_parallel_items_gives_the_same_interval(tmp_path: Path) -> None:
    from lens_eval.base.statistics import paired_difference

    for name, tasks in (("a", BASE), ("b", BETTER)):
        write_results(tmp_path / name, tasks, model=name)
    entry = compare(load([tmp_path / "a", tmp_path / "b"])[0]).get("lens_x", "off_target", "b", AVERAGE)
    codes = ("lens_x_zh", "lens_x_sw")
    ours, theirs = ([v for t in codes for v in runs[t]["off_target"]] for runs in (BETTER, BASE))
    whole = paired_difference(ours, theirs, [i for _ in codes for i in range(40)])
    assert entry is not None
    assert entry.difference is not None
    for side in ("mean", "low", "high", "n"):
        assert getattr(entry.difference, side) == pytest.approx(getattr(whole, side))


def test_languages_of_unequal_size_count_alike(tmp_path: Path) -> None:
    write_results(tmp_path, {"lens_x_zh": {"acc": [1.0] * 90}, "lens_x_sw": {"acc": [0.0] * 10}})
    entry = compare(load([tmp_path])[0]).get("lens_x", "acc", "org/model", AVERAGE)
    assert entry is not None
    assert entry.interval.mean == pytest.approx(0.5)
    assert entry.interval.n == 100
    assert 0.0 <= entry.interval.low < 0.5 < entry.interval.high <= 1.0


@pytest.mark.parametrize(
    ("changes", "check", "words"),
    [
        ({"first_item": 1}, "items", "other items \\(40 of 40 differ"),
        ({"version": "2"}, "version", "other task versions \\(2 and 1\\)"),
        ({"shots": 8}, "shots", "other numbers of shots \\(8 and 0\\)"),
        ({"prompt": "Q: {question}"}, "prompts", "other prompt templates"),
        ({"template": "chat"}, "prompts", "other chat templates"),
    ],
)
def test_what_does_not_compare_is_refused_by_name_and_can_be_allowed(
    tmp_path: Path, changes: dict[str, object], check: str, words: str
) -> None:
    write_results(tmp_path / "a", BASE)
    write_results(tmp_path / "same", BETTER, model="org/same")
    write_results(tmp_path / "b", BETTER, model="org/other", **changes)  # type: ignore[arg-type]
    compare(load([tmp_path / "a", tmp_path / "same"])[0])  # the control
    with pytest.raises(UserError, match=words) as caught:
        compare(load([tmp_path / "a", tmp_path / "b"])[0])
    assert f"--allow {check}" in str(caught.value)
    allowed = compare(load([tmp_path / "a", tmp_path / "b"])[0], allow=[check])
    assert any("org/other" in note for note in allowed.notes)


def test_fewer_items_are_other_items(tmp_path: Path) -> None:
    write_results(tmp_path / "a", BASE)
    write_results(tmp_path / "b", {t: {"acc": c["acc"][:5]} for t, c in BASE.items()}, model="org/few")
    with pytest.raises(UserError, match="other items \\(5 and 40 of them\\)"):
        compare(load([tmp_path / "a", tmp_path / "b"])[0])


def test_a_missing_language_leaves_holes_and_no_average_over_fewer(tmp_path: Path) -> None:
    write_results(tmp_path / "a", BASE)
    write_results(tmp_path / "b", {"lens_x_zh": BETTER["lens_x_zh"]}, model="org/part")
    table = compare(load([tmp_path / "a", tmp_path / "b"])[0])
    assert table.get("lens_x", "acc", "org/part", "zh") is not None
    assert table.get("lens_x", "acc", "org/part", "sw") is None
    assert table.get("lens_x", "acc", "org/part", AVERAGE) is None
    assert table.get("lens_x", "acc", "org/model", AVERAGE) is not None


def test_results_of_tasks_that_are_not_ours(tmp_path: Path) -> None:
    """Without our metadata the language is read off the task's name, and a task without one stands alone."""
    tasks = {"xnli_sw": {"acc": [1.0, 0.0]}, "xnli_en": {"acc": [1.0, 1.0]}, "piqa": {"acc": [0.0, 1.0]}}
    write_results(tmp_path, tasks, metadata=False)
    table = compare(load([tmp_path])[0])
    assert table.families == ("xnli", "piqa")
    assert table.languages == {"xnli": ("sw", "en"), "piqa": ("",)}
    assert not table.simulated


def test_the_latest_of_several_results_counts(tmp_path: Path) -> None:
    write_results(tmp_path, BASE, stamp="2026-01-01T00-00-00.000000")
    write_results(tmp_path, BETTER, stamp="2026-01-02T00-00-00.000000")
    entry = compare(load([tmp_path])[0]).get("lens_x", "off_target", "org/model", "zh")
    assert entry is not None
    assert entry.interval.mean == 0.0


def test_names_can_be_given_and_equal_names_are_told_apart(two: tuple[Path, Path]) -> None:
    assert compare(load([f"one={two[0]}", f"two={two[1]}"])[0]).variants == ("one", "two")
    assert compare(load([two[0], two[0]])[0]).variants == ("org/base", "org/base (a)")


def test_a_name_is_that_of_the_only_variant_of_a_run(tmp_path: Path) -> None:
    """`lens eval` calls its variant as the folder of the model is called."""
    for folder, variant in (("one", "model"), ("two", "trained")):
        make_run(tmp_path / folder, codes=("en", "zh"), variants=(variant,))
    table = compare(load([f"before={tmp_path / 'one'}", f"after={tmp_path / 'two'}"])[0], reference="after")
    assert (table.variants, table.reference) == (("before", "after"), "after")
    scores, document, _ = load([f"before={tmp_path / 'one'}"])
    assert compare(scores, run=document).variants == ("before",)
    # Control: the variants of a run that holds several keep their names.
    make_run(tmp_path / "both", codes=("en", "zh"), variants=("backbone", "lens"))
    assert {each.variant for each in load([f"name={tmp_path / 'both'}"])[0]} == {"backbone", "lens"}


def _of_eval(folder: Path, variant: str = "lens") -> Path:
    """A folder as `lens eval` leaves it: the variant is called as the model's folder is."""
    make_run(folder, codes=("en", "zh"), variants=(variant,))
    return folder


def test_runs_whose_paths_end_alike_are_all_shown(tmp_path: Path) -> None:
    runs = [_of_eval(tmp_path / "runs" / name / "lens") for name in ("a", "b", "c")]
    assert compare(load(runs)[0]).variants == ("lens", "lens (b/lens)", "lens (c/lens)")
    # The same below one folder, and the same folder three times.
    below = compare(load([tmp_path / "runs"])[0]).variants
    assert below == ("lens (a/lens)", "lens (b/lens)", "lens (c/lens)")
    assert compare(load([runs[0]] * 3)[0]).variants == ("lens", "lens (lens)", "lens (lens 2)")
    named = [f"{name}={run}" for name, run in zip("xyz", runs, strict=True)]
    assert compare(load(named)[0]).variants == ("x", "y", "z")


def test_models_whose_paths_end_alike_are_all_shown(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_results(tmp_path / name, BASE, model=f"/models/{name}/lens")
    assert compare(load([tmp_path])[0]).variants == ("a/lens", "b/lens")
    assert compare(load([f"before={tmp_path}"])[0]).variants == ("a/lens (before)", "b/lens (before)")
    # Control: tasks of one model in several places are one row.
    for task, numbers in BASE.items():
        write_results(tmp_path / "parts" / task, {task: numbers}, model="org/base")
    assert compare(load([tmp_path / "parts"])[0]).variants == ("org/base",)


def test_holes_follow_the_name_of_their_run(tmp_path: Path) -> None:
    runs = []
    for name in ("a", "b"):
        make_run(
            tmp_path / name,
            codes=("en", "zh"),
            variants=("lens", "xsft"),
            holes=[("xsft", "lens_x_zh", "no")],
        )
        runs.append(tmp_path / name)
    assert [hole.variant for hole in load(runs)[2]] == ["xsft", "xsft (b)"]
    with pytest.raises(UserError, match="names no variant"):
        load([f"={runs[0]}"])


def test_the_reference_is_chosen_or_refused(two: tuple[Path, Path]) -> None:
    scores, _, _ = load(two)
    assert compare(scores, reference="org/better").reference == "org/better"
    with pytest.raises(UserError, match="did you mean org/better"):
        compare(scores, reference="org/beter")
    with pytest.raises(UserError, match="unknown check 'itmes' \\(did you mean items"):
        compare(scores, allow=["itmes"])


def test_files_that_are_corrupt_cut_short_or_foreign_are_named(tmp_path: Path) -> None:
    file = write_results(tmp_path, BASE)
    load([tmp_path])  # the control
    samples = next(tmp_path.glob("samples_lens_x_zh_*"))
    whole = samples.read_bytes()
    lines = whole.splitlines(keepends=True)
    samples.write_bytes(b"".join(lines[:7]))
    with pytest.raises(UserError, match="cut short: 7 items of 40"):
        load([tmp_path])
    samples.write_bytes(whole[:-40])
    with pytest.raises(UserError, match="line 40: not JSON"):
        load([tmp_path])
    samples.write_bytes(b'{"a": 1}\n')
    with pytest.raises(UserError, match="no file of lm_eval samples"):
        load([tmp_path])
    samples.unlink()
    with pytest.raises(UserError, match="--log_samples"):
        load([tmp_path])
    file.write_text('{"results": {}}', encoding="utf-8")
    with pytest.raises(UserError, match="no results file of lm_eval"):
        load([tmp_path])
    file.write_text('{"results": ', encoding="utf-8")
    with pytest.raises(UserError, match="not JSON"):
        load([tmp_path])
    with pytest.raises(UserError, match="no results folder"):
        load([tmp_path / "nothing"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no lm_eval results"):
        load([tmp_path / "empty"])


def test_a_cut_gzip_is_named(tmp_path: Path) -> None:
    write_results(tmp_path, BASE, compressed=True)
    samples = next(tmp_path.glob("samples_lens_x_zh_*"))
    samples.write_bytes(samples.read_bytes()[:-20])
    with pytest.raises(UserError, match="corrupt or cut short"):
        load([tmp_path])


def test_text_metrics_and_other_numbers_do_no_harm(tmp_path: Path) -> None:
    """`answered_in` is a word; a length is a number that is no share."""
    file = write_results(tmp_path, {"lens_x_zh": {"acc": [1.0, 0.0], "length": [3.0, 9.0]}})
    samples = next(tmp_path.glob("samples_*"))
    rows = [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        row["answered_in"] = "zh"
        row["metrics"].append("answered_in")
    samples.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    table = compare(load([file.parent])[0])
    assert table.metrics["lens_x"] == ("acc", "length")
    entry = table.get("lens_x", "length", "org/model", "zh")
    assert entry is not None
    assert entry.interval.mean == 6.0
