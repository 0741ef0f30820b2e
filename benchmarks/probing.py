"""Probing of real models: time, and what `probe_items: auto` saves and changes.

`python -m benchmarks probing` writes results/bench/probing.{md,json}. The environment variable
LENS_REAL_MODELS names a folder that holds models as `qwen/` and `english/`, and parallel prompts to train on
as `prompts/tr.jsonl`; `--data` names the texts to probe with, 300 in each of seven languages. What is absent
is left out, and the table says so. Each model is probed with all texts and with `auto`; then the top is
trained with either set of directions in the same order of the items, and with the former in another order,
which shows how large a difference between two runs is that nobody minds.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, write_table

LANGUAGES = ("en", "zh", "ja", "ko", "ar", "bn", "sw")
DATA = ROOT.parent / "shared" / "data" / "lens_official" / "aya_en_zh_ja_ar_ko_bn_sw_300"
GOALS = {"qwen": 4.5, "english": 1.2}
"""Minutes of wall time on two idle cores, with the default settings."""
SEED, OTHER_SEED, RATE = 42, 43, 1.0e-4


def probing(model: Path, data: Path, items: Any, dtype: str) -> dict[str, Any]:
    """Probe once; returns the subspaces and what they cost."""
    from lens_train import lens
    from lens_train.config import LensConfig

    with tempfile.TemporaryDirectory() as name:
        settings = {"probe_items": items, "dtype": dtype}
        wall, cpu = time.monotonic(), time.process_time()
        subspaces = lens.probe_folder(
            str(model), data, LensConfig.build(LANGUAGES, "en", settings), Path(name) / "out", "cpu"
        )
        return {
            "subspaces": subspaces,
            "wall": time.monotonic() - wall,
            "cpu": time.process_time() - cpu,
        }


def change(model: Path, train: Path, subspaces: Any, dtype: str, seed: int) -> Any:
    """Train over a trunk of its own; returns what was added to the weights, all in one vector."""
    from torch.nn.utils import parameters_to_vector

    from lens_train import lens
    from lens_train.job import Job
    from lens_train.stream import open_decoder

    with tempfile.TemporaryDirectory() as name:
        subspaces.save(Path(name) / "subspaces")
        settings = {
            "subspaces": str(Path(name) / "subspaces"),
            "dtype": dtype,
            "learning_rate": RATE,
            "diagnose": 0,
        }
        output = Path(name) / "out"
        plan = lens.make_plan(
            Job("lens", str(model), train, LANGUAGES, output, seed=seed, device="cpu", settings=settings)
        )
        decoder = open_decoder(str(model), plan.device, plan.dtype, plan.config.stream, len(plan.trained))
        prepared = lens.prepare(plan, decoder, lens.keep_states(plan, decoder))
        before = parameters_to_vector(prepared.parameters.values()).detach().clone()
        assert plan.subspaces is not None
        lens.trainer(plan, prepared, plan.subspaces, None).run()
        return parameters_to_vector(prepared.parameters.values()).detach() - before


def angle(first: Any, second: Any) -> float:
    """Degrees between two vectors."""
    from torch.nn.functional import cosine_similarity

    return math.degrees(math.acos(min(1.0, float(cosine_similarity(first, second, dim=-1)))))


def measure(name: str, model: Path, data: Path, train: Path, dtype: str) -> list[dict[str, Any]]:
    """Rows of one model."""
    found = {items: probing(model, data, items, dtype) for items in (300, "auto")}
    whole, few = found[300]["subspaces"], found["auto"]["subspaces"]
    apart = max(
        angle(whole.directions[code][-1], few.directions[code][-1]) for code in LANGUAGES if code != "en"
    )
    moved: dict[str, float | None] = {"auto": None, "order": None}
    if train.is_file():
        first = change(model, train, whole, dtype, SEED)
        moved["auto"] = angle(first, change(model, train, few, dtype, SEED))
        moved["order"] = angle(first, change(model, train, whole, dtype, OTHER_SEED))
    rows = []
    for items, one in found.items():
        auto = items == "auto"
        rows.append(
            {
                "model": name,
                "probe_items": items,
                "items probed": one["subspaces"].identity["items"],
                "dtype": one["subspaces"].identity["dtype"],
                "minutes": one["wall"] / 60,
                "CPU minutes": one["cpu"] / 60,
                "goal, minutes": GOALS.get(name, "") if auto else "",
                "largest error of a direction": max(one["subspaces"].identity["standard_error"].values()),
                "directions apart, last layer": f"{apart:.1f}°" if auto else "",
                "change apart": _degrees(moved["auto"]) if auto else "",
                "another order apart": "" if auto else _degrees(moved["order"]),
            }
        )
    return rows


def _degrees(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.1f}°"


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--models", type=Path, default=os.environ.get("LENS_REAL_MODELS"))
    parser.add_argument("--names", nargs="+", default=sorted(GOALS))
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--dtype", default="auto")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    left_out: list[str] = []
    for name in arguments.names:
        folder = arguments.models / name if arguments.models else None
        if folder is None or not (folder / "config.json").is_file():
            left_out.append(f"{name}: no such model; LENS_REAL_MODELS names the folder that holds it.")
        elif not arguments.data.exists():
            left_out.append(f"{name}: no texts to probe with; give --data.")
        else:
            train = arguments.models / "prompts" / "tr.jsonl"
            rows += measure(name, folder, arguments.data, train, arguments.dtype)
    notes = [
        "Texts in seven languages, 300 each at most, from the folder of the model to saved subspaces.",
        "`largest error`: standard error of a language's direction over its length in the layer that the "
        "losses read. `directions apart`: the largest angle of a language between all items and auto.",
        "`change apart`: angle between what training adds to the weights with the directions of auto and of "
        "all items; `another order`: with those of all items, between two orders of the training items.",
        *left_out,
    ]
    write_table("probing", "Probing real models", rows or [{"model": "none measured"}], notes)


if __name__ == "__main__":
    main()
