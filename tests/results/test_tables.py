"""Tables: every format says the same numbers, fits its place, and hides no hole."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from lm_eval_files import write_results
from rich.console import Console

from lens_eval.base import plain_tables
from lens_eval.language.calibrate import measured_floor
from lens_eval.results import tables
from lens_eval.results.compare import Comparison, compare
from lens_eval.results.read import Hole, load

CODES = ("zh", "sw", "ar", "ja", "ko", "bn", "en")


@pytest.fixture
def comparison(tmp_path: Path) -> Comparison:
    for name, share in (("backbone", 4), ("lens", 2)):
        columns = {
            f"lens_x_{code}": {
                "acc": [float(i % share == 0) for i in range(40)],
                "off_target": [float(i % 3 == 0) for i in range(40)],
            }
            for code in CODES
        }
        write_results(tmp_path / name, columns)
    runs = [f"{name}={tmp_path / name}" for name in ("backbone", "lens")]
    holes = [Hole("broken|<b>", "lens_x_zh", "out | of memory <script>")]
    return compare(load(runs)[0], name="a test", holes=holes)


def _printed(comparison: Comparison, width: int = 80) -> str:
    console = Console(width=width, file=io.StringIO(), highlight=False)
    tables.show(comparison, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_terminal_table_fits_eighty_columns(comparison: Comparison) -> None:
    text = _printed(comparison)
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "25.0" in text
    assert "50.0*" in text
    assert "n = 40 items per language" in text
    assert "Missing: broken|<b>, lens_x_zh: out | of memory <script>" in " ".join(text.split())


def test_the_floor_stands_beside_off_target_rates(comparison: Comparison) -> None:
    floors = measured_floor()
    for text in (tables.to_markdown(comparison), _printed(comparison), tables.to_latex(comparison)):
        assert "false floor" in text
    [row] = [line for line in tables.to_markdown(comparison).splitlines() if line.startswith("| false floor")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    average = sum(floors[code].mean for code in CODES[:-1]) / (len(CODES) - 1)
    assert cells[1:3] == [plain_tables.percent(average), ""]
    assert sorted(cells[3:]) == sorted(plain_tables.percent(floors[code].mean) for code in CODES)
    stored = json.loads(tables.to_json(comparison))["false_off_target_floor"]
    assert stored == {code: floors[code].mean for code in floors if code in CODES}


def test_many_languages_go_on_below(tmp_path: Path) -> None:
    codes = ("zh", "sw", "ar", "ja", "ko", "bn", "es", "fr", "de", "ru", "th", "te", "en")
    write_results(tmp_path, {f"lens_x_{code}": {"acc": [1.0, 0.0]} for code in codes})
    text = _printed(compare(load([tmp_path])[0]))
    assert max(len(line) for line in text.splitlines()) <= 80
    assert all(f" {code}" in text for code in codes)


def test_simulated_stands_on_every_table(comparison: Comparison) -> None:
    from dataclasses import replace

    simulated = replace(comparison, simulated=True)
    count = sum(1 for _ in tables._tables(comparison))
    assert count == 2
    assert _printed(simulated).count("%, simulated") == count
    assert tables.to_markdown(simulated).count("% (simulated)") == count + 1  # and the summary
    assert tables.to_latex(simulated).count("Simulated.") == count
    assert all(row["simulated"] for row in tables.rows(simulated))
    assert "imulated" not in _printed(comparison) + tables.to_markdown(comparison) + tables.to_latex(
        comparison
    )


def test_csv_and_json_hold_every_number(comparison: Comparison) -> None:
    read = list(csv.DictReader(io.StringIO(tables.to_csv(comparison))))
    document = json.loads(tables.to_json(comparison))
    numbers = [row for row in read if row["metric"] != "hole"]
    assert len(numbers) == len(document["rows"]) == len(comparison.entries)
    for row, entry in zip(numbers, comparison.entries.values(), strict=True):
        assert float(row["mean"]) == entry.interval.mean
        assert int(row["n"]) == entry.interval.n
        assert row["differs"] == {True: "True", False: "False"}.get(entry.differs) or entry.difference is None
    assert [row["reason"] for row in read if row["metric"] == "hole"] == ["out | of memory <script>"]


def test_markdown_is_safe_and_complete(comparison: Comparison) -> None:
    text = tables.to_markdown(comparison)
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    summary, rest = lines[:4], lines[4:]
    assert {line.count("|") for line in summary if "broken" not in line} == {5}
    assert {line.count("|") for line in rest if "broken" not in line} == {11}
    assert "50.0 [" in text
    assert "<script>" not in text.replace("\\<script\\>", "")
    assert "+25.0 [" in text


def test_the_summary_has_the_averages_and_the_central_language(comparison: Comparison) -> None:
    header, lens = (
        line for line in tables.summary(comparison, "lens_x") if line.startswith(("| variant", "| lens"))
    )
    assert header.count("average of") == 2
    assert "accuracy, en" in header
    cells = [cell.strip() for cell in lens.strip("|").split("|")]
    shown = [("acc", tables.AVERAGE), ("off_target", tables.AVERAGE), ("acc", "en")]
    entries = [comparison.get("lens_x", metric, "lens", language) for metric, language in shown]
    assert cells[1:] == [plain_tables.markdown_cell(tables.cell(entry)) for entry in entries]


def test_one_language_needs_no_summary(tmp_path: Path) -> None:
    write_results(tmp_path, {"lens_x_zh": {"acc": [1.0, 0.0]}})
    found = compare(load([tmp_path])[0])
    assert tables.summary(found, found.families[0]) == []


def test_latex_escapes_and_closes(comparison: Comparison) -> None:
    text = tables.to_latex(comparison)
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 2
    assert r"lens\_x" in text
    assert r"\toprule" in text
    assert tables._tex("a_b%$\\") == r"a\_b\%\$\textbackslash{}"


def test_files_are_written_whole(comparison: Comparison, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    written = tables.write_all(comparison, folder)
    assert sorted(p.name for p in folder.iterdir()) == ["table.csv", "table.json", "table.md", "table.tex"]
    assert all(path.stat().st_size for path in written)


def test_no_minus_zero() -> None:
    assert plain_tables.percent(-0.0001) == "0.0"
    assert plain_tables.points(-0.0001) == "+0.0"
