"""What `lens score` counted, as a report (JSON) and as tables (Markdown, CSV)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lens_eval.base.metrics import OF_JUDGED
from lens_eval.base.plain_tables import markdown_cell
from lens_eval.base.project import VERSION
from lens_eval.base.separated import write_csv
from lens_eval.base.statistics import Interval
from lens_eval.language.files.score import Scores, make_judge
from lens_eval.language.files.tally import Tally
from lens_eval.language.languages import chinese_script
from lens_eval.language.off_target import OUTCOMES

RATES = ("usable", *OUTCOMES, "off_target", "echo", "loop", "empty")
PARTIAL = {"correct": "has_correct", "correct_on_target": "has_correct", "cut_off": "has_cut_off"}
"""Rates that only some inputs have, and under which name the responses that have them are counted."""
NEAR_SHOWN = 0.02
"""A near language is told of from this share of its sentences on."""
FORMATS = ("md", "csv", "json")


def make_report(scores: Scores) -> dict[str, Any]:
    """Return the report: settings, then per language asked for and overall the rates and their 95%
    intervals.

    Rates are shares of all responses, 0 to 1; on_target + central + other + undetermined is 1. Intervals
    are clustered by item, in `overall` over all languages.
    """
    overall = Tally()
    for tally in scores.languages.values():
        overall.merge(tally)
    settings = scores.settings
    report: dict[str, Any] = {
        "lens_version": VERSION,
        "protocol": settings.protocol,
        **_identity(scores),
        "files": scores.files,
        "broken_lines": scores.broken_count,
        "broken": [{"file": b.file, "line": b.line, "reason": b.reason} for b in scores.broken],
        "left_out": [{"file": file, "reason": reason} for file, reason in scores.left_out],
    }
    languages = {code: scores.languages[code] for code in sorted(scores.languages)}
    if settings.protocol == "lcb":
        from lens_eval.language.confusion_benchmark import lcb_rates, mean_rates

        report["languages"] = {code: lcb_rates(tally, code) for code, tally in languages.items()}
        report["overall"] = mean_rates(report["languages"])
        if sources := report["overall"].get("sources"):
            report["notes"].append(
                f"Rates are means over sources ({', '.join(sources)}), then over languages, as the benchmark "
                "averages; of a source where no reply is long enough the benchmark says 100%, this nothing."
            )
        return report
    floors = _floors(scores)
    report["overall"] = _rates(overall)
    report["languages"] = {
        code: {**_rates(tally), "false_off_target_floor": floors.get(code)}
        for code, tally in languages.items()
    }
    report["notes"] = near_notes(list(languages)) if settings.detector == "lingua" else []
    report["confusion"] = {code: dict(sorted(tally.answered_in.items())) for code, tally in languages.items()}
    return report


def _identity(scores: Scores) -> dict[str, Any]:
    if scores.settings.protocol == "lcb":
        from lens_eval.language.confusion_benchmark import describe

        return describe(scores.settings.detector, scores.settings.words, list(scores.languages))
    return make_judge(scores.settings).describe()


def _floors(scores: Scores) -> dict[str, float]:
    from lens_eval.language.calibrate import false_floor

    codes = [code for code in scores.languages if chinese_script(code) is None]
    return {code: floor.mean for code, floor in false_floor(make_judge(scores.settings), codes).items()}


def near_notes(languages: Sequence[str]) -> list[str]:
    """Return what is known of languages so near to one asked for that a part of their text passes for it."""
    from lens_eval.language.calibrate import measured_near

    notes = []
    for code in languages:
        passing = [p for p in measured_near() if p.asked == code != p.written and p.on_target >= NEAR_SHOWN]
        if passing:
            shown = ", ".join(f"{100 * p.on_target:.0f}% of {p.written}" for p in passing)
            notes.append(f"{code}: of sentences in a near language, {shown} pass for it.")
    return notes


def _rates(tally: Tally) -> dict[str, Any]:
    intervals = {name: tally.interval(name) for name in RATES}
    rates: dict[str, Any] = {"n": tally.count()}
    rates.update({name: interval.mean for name, interval in intervals.items()})
    for name, counted in PARTIAL.items():
        if tally.count(counted):
            intervals[name] = tally.interval(name, counted)
            rates[name] = intervals[name].mean
    if tally.count("undetermined") == tally.count():
        # Of nothing judged there is no rate; a 0 would read as the best there is.
        for name in set(OF_JUDGED) & rates.keys():
            rates[name], intervals[name] = None, Interval(math.nan, math.nan, math.nan, 0)
    rates["intervals"] = {
        name: [_number(interval.low), _number(interval.high)] for name, interval in intervals.items()
    }
    rates["lines"] = {"n": sum(tally.lines.values()), **{k: tally.lines[k] for k in (*OUTCOMES, "set_aside")}}
    letters = math.fsum(tally.letters.values())
    rates["characters"] = {
        k: tally.letters[k] / letters if letters else float(k == "undetermined") for k in OUTCOMES
    }
    if tally.thinking:
        rates["thinking"] = {"n": sum(tally.thinking.values()), **{k: tally.thinking[k] for k in OUTCOMES}}
    return rates


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def render(report: dict[str, Any], form: str) -> str:
    """Return the report as "md" (also for reading in a terminal), "csv" or "json", ending in a newline."""
    if form == "json":
        import json

        return json.dumps(report, ensure_ascii=False, indent=2) + "\n"
    return _csv(report) if form == "csv" else _markdown(report)


def _csv(report: dict[str, Any]) -> str:
    lcb = report["protocol"] == "lcb"
    names = list(_LCB_RATES) if lcb else [*RATES, *_joint(report)]
    header = ["language", "n"]
    for name in names:
        header += [name, f"{name}_low", f"{name}_high"]
    detector = report["detector"]
    header += [*([] if lcb else ["false_off_target_floor"]), "detector", "detector_version"]
    rows = []
    for code, rates in [*report["languages"].items(), ("overall", report["overall"])]:
        cells: list[Any] = [code, rates["n"]]
        for name in names:
            low, high = rates["intervals"].get(name, ("", ""))
            cells += [_plain(rates.get(name)), _plain(low), _plain(high)]
        if not lcb:
            cells.append(_plain(rates.get("false_off_target_floor")))
        rows.append([*cells, detector["name"], detector["version"]])
    return write_csv(header, rows)


def _plain(value: Any) -> Any:
    return "" if value is None else round(value, 6) if isinstance(value, float) else value


_LCB_RATES = ("line_pass_rate", "word_pass_rate")


def _joint(report: dict[str, Any]) -> list[str]:
    return [name for name in PARTIAL if name in report["overall"]]


def percent(value: float | None) -> str:
    """A rate, 0 to 1, in percent; a dash where there is none."""
    return "–" if value is None or math.isnan(value) else f"{100 * value:.1f}"


def with_interval(rates: dict[str, Any], name: str) -> str:
    """A rate of a report in percent, with its interval; a dash where there is none."""
    if rates.get(name) is None:
        return "–"
    if name not in rates["intervals"]:
        return percent(rates[name])
    low, high = rates["intervals"][name]
    return f"{percent(rates[name])} [{percent(low)}, {percent(high)}]"


def _markdown(report: dict[str, Any]) -> str:
    parts = [_table(*_main_table(report))]
    if report["protocol"] != "lcb" and len(report["confusion"]) > 0:
        parts.append(
            "Asked for (rows), answered in (columns), responses:\n\n" + _table(*_confusion_table(report))
        )
    parts.append(_notes(report))
    return "\n".join(parts)


def _main_table(report: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    rows = [*report["languages"].items(), ("overall", report["overall"])]
    if report["protocol"] == "lcb":
        header = ["language", "n", "too short", "line pass rate %", "word pass rate %"]
        return header, [
            [code, str(r["n"]), str(r["skipped"]), *(with_interval(r, name) for name in _LCB_RATES)]
            for code, r in rows
        ]
    joint = _joint(report)
    header = ["language", "n", "usable % [95%]", "off-target % [95%]", "false floor %"]
    header += ["on target %", "central %", "other %", "undetermined %", "echo %", "loop %", "empty"]
    header += [f"{name.replace('_', ' ')} %" for name in joint]
    table = []
    for code, r in rows:
        cells = [
            code,
            str(r["n"]),
            *(with_interval(r, name) for name in ("usable", "off_target")),
            percent(r.get("false_off_target_floor")),
            *(percent(r[name]) for name in (*OUTCOMES, "echo", "loop")),
            str(round(r["empty"] * r["n"])),
        ]
        table.append([*cells, *(percent(r.get(name)) for name in joint)])
    return header, table


def _confusion_table(report: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    confusion = report["confusion"]
    answered = {code for row in confusion.values() for code in row}
    last = [code for code in ("undetermined", "empty") if code in answered]
    columns = [*sorted(answered.difference(last)), *last]
    return ["", *columns], [
        [asked, *(str(row.get(c, 0)) for c in columns)] for asked, row in confusion.items()
    ]


def _table(header: list[str], rows: list[list[str]]) -> str:
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(cells: list[str]) -> str:
        cells = [markdown_cell(cell) for cell in cells]
        padded = [
            cells[0].ljust(widths[0]),
            *(c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True)),
        ]
        return f"| {' | '.join(padded)} |"

    rule = f"|{'|'.join('-' * (w + 1) + (':' if i else '-') for i, w in enumerate(widths))}|"
    return "\n".join([line(header), rule, *map(line, rows)]) + "\n"


def _notes(report: dict[str, Any]) -> str:
    detector = report["detector"]
    notes = [f"Detector {detector['name']} {detector['version']}, lens {report['lens_version']}."]
    if "candidates" in report:
        notes.append(
            f"Candidates {', '.join(report['candidates'])} and the language asked for; "
            f"central {report['central']}."
        )
    notes += report.get("notes", [])
    for file in report["files"]:
        if file["language_from"] == "the file name":
            notes.append(f"{markdown_cell(file['name'])}: language taken from the file name.")
        if file["invalid_utf8_lines"]:
            notes.append(
                f"{markdown_cell(file['name'])}: "
                f"{file['invalid_utf8_lines']} lines with invalid UTF-8, read as U+FFFD."
            )
        if file["dialect"] not in ("", "comma, cells may be in quotes", "tab, quotes are text"):
            notes.append(f"{markdown_cell(file['name'])}: read with the delimiter {file['dialect']}.")
    notes += [
        f"{markdown_cell(each['file'])} is left out: {markdown_cell(each['reason'])}"
        for each in report["left_out"]
    ]
    if report["broken_lines"]:
        notes.append(f"{report['broken_lines']} lines could not be read and are in no rate:")
        notes += [
            f"  {markdown_cell(b['file'])}, line {b['line']}: {markdown_cell(b['reason'])}"
            for b in report["broken"]
        ]
        if report["broken_lines"] > len(report["broken"]):
            notes.append(f"  ... and {report['broken_lines'] - len(report['broken'])} more")
    return "\n".join(notes) + "\n"


def render_calibration(report: dict[str, Any], form: str) -> str:
    """Return a calibration (`calibrate.report`) as "md", "csv" or "json", ending in a newline."""
    if form == "json":
        import json

        return json.dumps(report, ensure_ascii=False, indent=2) + "\n"
    rows = [(language, each) for language, entries in report["languages"].items() for each in entries]
    detector = report["detector"]
    if form == "csv":
        names = ["n", *OUTCOMES, "false_off_target", "agreement"]
        ending = [detector["name"], detector["version"]]
        return write_csv(
            ["language", "letters", *names, "detector", "detector_version"],
            [
                [language, each["letters"] or "all", *(_plain(each[name]) for name in names), *ending]
                for language, each in rows
            ],
        )
    text = "False off-target % / undetermined %, of all texts, by length:\n\n" + calibration_table(report)
    if report["second_detector"]:
        second = report["second_detector"]
        cells = [
            [language, "", *(percent(e["agreement"]) for e in entries)]
            for language, entries in report["languages"].items()
        ]
        text += f"\nAgreement % with {second['name']} {second['version']} where both decide:\n\n"
        text += _table(_calibration_header(report), cells)
    if "near" in report:
        text += "\nText in a near language, on target % / undetermined %:\n\n" + near_table(report["near"])
    return text + (
        f"\nDetector {detector['name']} {detector['version']}; gold text: {markdown_cell(report['source'])}; "
        f"candidates {', '.join(report['candidates'])}.\n"
    )


def near_table(pairs: Sequence[Mapping[str, Any]]) -> str:
    """Return how often text in near languages passes for the one asked for, as a Markdown table."""
    rows = []
    for asked in dict.fromkeys(pair["asked"] for pair in pairs):
        mine = [pair for pair in pairs if pair["asked"] == asked]
        shown = {p["written"]: f"{percent(p['on_target'])} / {percent(p['undetermined'])}" for p in mine}
        own = shown.pop(asked, "–")
        rows.append([asked, own, ", ".join(f"{code} {rates}" for code, rates in shown.items())])
    return _table(["asked", "own text", "in a near language"], rows)


def _calibration_header(report: dict[str, Any]) -> list[str]:
    lengths = dict.fromkeys(each["letters"] for entries in report["languages"].values() for each in entries)
    return ["language", "n", *(f"{length} letters" if length else "whole" for length in lengths)]


def calibration_table(report: dict[str, Any]) -> str:
    """Return false off-target and undetermined rates by language and length as a Markdown table."""
    table = []
    for language, entries in report["languages"].items():
        cells = [f"{percent(e['false_off_target'])} / {percent(e['undetermined'])}" for e in entries]
        table.append([language, str(max(each["n"] for each in entries)), *cells])
    return _table(_calibration_header(report), table)
