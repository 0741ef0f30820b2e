"""What bfloat16 changes against float32: subspaces, losses, trained weights, replies, and the time it takes.

`python -m benchmarks precision`. Two models, each stored in bfloat16, so that both precisions begin with the
same weights: a random Llama (126M, the released recipe) and the built-in model (the demonstration's recipe;
its replies to the dev prompts are judged as `lens sweep` judges them). A run in float32 that takes the items
in another order shows how large a difference is that nobody minds.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from benchmarks.common import Phases, write_table
from benchmarks.random_llama import LANGUAGES, save_data, save_small, save_tokenizer
from lens_eval.mini import resolve_data
from lens_train import lens
from lens_train.checkpoint import Checkpoint
from lens_train.decoder import load_model
from lens_train.devices import DTYPES, resolve_dtype
from lens_train.job import Job
from lens_train.loop import TopTrainer
from lens_train.stream import open_decoder
from lens_train.subspace import Subspaces
from lens_train.sweep.run import make_judge
from lens_train.watch.dev import DevData, as_written

SEED, OTHER_SEED = 42, 43
ROUNDS = 2
RATE = 7.0e-4
"""The demonstration's learning rate."""
BUILTIN_LANGUAGES = ("en", "zh", "sw", "ar")
REPLY_TOKENS = 48

NOTES = (
    "Both precisions begin with the same weights, stored in bfloat16. The trained layers are float32 in both "
    "and are written in bfloat16.",
    "Against the first run of each model: `directions apart`, the largest angle between a language's "
    "directions in any layer; `change apart`, the angle between what training added to the weights.",
    "`loss`: of all items, under the untrained weights, the trained ones, and those once written; `stored "
    "apart`, the angle between what training added and what of it is written.",
    f"Replies to the dev prompts, greedy, at most {REPLY_TOKENS} tokens, by the weights as they are written. "
    f"Seconds: the faster of {ROUNDS} rounds.",
)
LABELS = {
    "off_target": "off target, %",
    "first": "en begins alike, %",
    "right": "right, %",
    "central_right": "en right, %",
}
"""Measures of replies -> columns."""


@dataclass(frozen=True)
class Found:
    """One run."""

    subspaces: Subspaces
    change: Tensor
    """Trained weights less untrained ones, all in one vector."""
    stored: Tensor
    """The same once the weights are written in bfloat16, the type of the checkpoint."""
    losses: Mapping[str, float]
    """Mean loss of all items under the `untrained`, `trained` and `stored` weights."""
    seconds: Mapping[str, float]
    measures: Mapping[str, float]
    """Of the replies, see `lens_train.watch.dev`; empty where none were asked for."""


def run(job: Job, dtype: str, dev: str = "") -> Found:
    """Probe and train in one precision; reply to the prompts `dev` before and after."""
    with tempfile.TemporaryDirectory() as name:  # a run in the folder of another would take up its probe
        return _run(replace(job, output=Path(name)), dtype, dev)


def _run(job: Job, dtype: str, dev: str) -> Found:
    plan = lens.make_plan(replace(job, settings={**job.settings, "dtype": dtype, "diagnose": 0}))
    decoder = open_decoder(job.model, plan.device, plan.dtype, plan.config.stream, len(plan.trained))
    phases = Phases("cpu")
    with phases("probe"):
        subspaces = lens.find_subspaces(plan, decoder)
    with phases("training"):
        prepared = lens.prepare(plan, decoder)
    parameters = prepared.parameters
    untrained = parameters_to_vector(parameters.values()).detach()
    judge = None
    if dev:
        texts = DevData.read(resolve_data(dev), plan.config.languages, None)
        judge = make_judge(plan, decoder, texts, REPLY_TOKENS)
        with as_written(parameters, plan.dtype):
            judge.judge()
    trainer = lens.trainer(plan, prepared, subspaces, None)
    with phases("training"):
        trainer.run()
    trained = parameters_to_vector(parameters.values()).detach()
    measures: dict[str, float] = {}
    if judge is not None:
        with as_written(parameters, plan.dtype):
            measures = judge.judge()[0]
    stored = trained.to(torch.bfloat16).float()
    losses = {
        name: _loss(trainer, weights)
        for name, weights in (("untrained", untrained), ("trained", trained), ("stored", stored))
    }
    change, kept = trained.double() - untrained.double(), stored.double() - untrained.double()
    return Found(subspaces, change, kept, losses, phases.seconds, measures)


@torch.no_grad()
def _loss(trainer: TopTrainer, weights: Tensor) -> float:
    """Mean loss of all items under other weights of the trained layers."""
    vector_to_parameters(weights, trainer.parameters.values())
    items = range(len(next(iter(trainer.rows.values()))))
    size = trainer.config.micro_batch_size
    parts = [trainer.item_terms(items[at : at + size]) for at in range(0, len(items), size)]
    return float(torch.cat([trainer.objective.total(terms) for terms in parts]).mean())


def runs(job: Job, dev: str = "") -> dict[str, Found]:
    """The runs that are compared, the measure first; of the two precisions the faster of some rounds."""
    found = {"float32": run(job, "float32", dev)}
    found["float32, items in another order"] = run(replace(job, seed=OTHER_SEED), "float32", dev)
    found["bfloat16"] = run(job, "bfloat16", dev)
    for _ in range(ROUNDS - 1):
        for dtype in DTYPES:
            again = run(job, dtype).seconds
            fastest = {name: min(took, again[name]) for name, took in found[dtype].seconds.items()}
            found[dtype] = replace(found[dtype], seconds=fastest)
    return found


def rows(model: str, found: Mapping[str, Found]) -> list[dict[str, Any]]:
    """A row per run, its differences against the first."""
    first = next(iter(found.values()))
    table: list[dict[str, Any]] = []
    for name, one in found.items():
        shares = {label: one.measures[key] for key, label in LABELS.items() if one.measures}
        table.append(
            {
                "model": model,
                "run": name,
                "probe, s": one.seconds["probe"],
                "training, s": one.seconds["training"],
                "directions apart": _degrees(_directions(one, first)),
                "change apart": _degrees(_cosine(one.change, first.change)),
                "loss: untrained": one.losses["untrained"],
                "trained": one.losses["trained"],
                "stored": one.losses["stored"],
                "stored apart": _degrees(_cosine(one.stored, one.change)),
                **{label: f"{100 * shares[label]:.1f}" if shares else "" for label in LABELS.values()},
            }
        )
    return table


def _directions(one: Found, other: Found) -> float:
    """Smallest cosine of a language's direction, over languages and layers; the central one has none."""
    mine, yours = one.subspaces.directions, other.subspaces.directions
    cosines = [cosine_similarity(mine[code], yours[code], dim=-1) for code in mine if yours[code].any()]
    return float(torch.cat(cosines).min())


def _cosine(one: Tensor, other: Tensor) -> float:
    return float(cosine_similarity(one, other, dim=0))


def _degrees(cosine: float) -> str:
    return f"{math.degrees(math.acos(min(1.0, cosine))):.2f}°"


def store(source: str, folder: Path) -> str:
    """Save a model's weights in bfloat16, with its tokenizer; returns the folder."""
    load_model(source, "cpu", "bfloat16").save_pretrained(folder)
    Checkpoint.open(source).tokenizer.save_pretrained(folder)
    return str(folder)


def main() -> int:
    """Measure and write the table; 1 where the processor does not multiply in bfloat16."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = str(folder / "model")
        save_data(folder, save_tokenizer(folder / "model"))
        save_small(folder / "model", "bfloat16")
        if resolve_dtype("auto", torch.device("cpu"), Checkpoint.open(model)) != torch.bfloat16:
            print("this processor has no bfloat16 arithmetic: not measured", file=sys.stderr)
            return 1
        data, given = folder / "train", {"probe_data": str(folder / "probe")}
        job = Job("lens", model, data, LANGUAGES, folder, seed=SEED, device="cpu", settings=given)
        table = rows("126M Llama, random", runs(job))
        model, data = store("builtin", folder / "builtin"), resolve_data("builtin:train")
        own = {"learning_rate": RATE}
        job = Job("lens", model, data, BUILTIN_LANGUAGES, folder, seed=SEED, device="cpu", settings=own)
        table += rows("built in (simulated)", runs(job, "builtin:dev"))
    write_table("precision", "Lens in bfloat16 against float32, on a CPU", table, NOTES)
    return 0


if __name__ == "__main__":
    sys.exit(main())
