"""Many settings over one trunk: train each, judge it on dev prompts, and choose one.

Probing and the frozen layers are run once. Each setting trains only the top layers, from the same weights.
Its weights are bit-identical to those of `lens train` with that setting. The folder of a sweep:

    points/<key>.json     a finished setting: measures, losses, replies; the key hashes all that decides it
    training/subspaces/   the probe, for training the chosen setting
    sweep.json table.md table.csv tradeoff.png chosen.yaml   the outcome

If a sweep is killed and started again, it resumes after the last finished setting. Settings can be added
later.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch

from lens_eval.base import reading
from lens_eval.base.errors import UserError, did_you_mean
from lens_eval.base.files import holds_nothing, lock, make_folder, write_json
from lens_eval.base.identity import environment, key_of
from lens_eval.base.progress import progress
from lens_eval.base.reached import libraries_of, reached, source_of
from lens_eval.language.languages import DEFAULT_LANGUAGES
from lens_train import export, lens, methods, plan
from lens_train.config import LensConfig
from lens_train.decoder import Decoder
from lens_train.devices import dtype_name
from lens_train.probing import renderer, save_folder
from lens_train.stream import open_decoder
from lens_train.sweep.choice import choose
from lens_train.sweep.rows import Outcome, Point, Request, Row
from lens_train.watch.dev import DevData, DevJudge, as_written, shown_share
from lens_train.watch.outcome import stored_type

FILE = "sweep.json"
FORMAT = 1
SWEPT = (
    "learning_rate",
    "displacement",
    "align_weight",
    "separate_weight",
    "retain_weight",
    "retain_over",
    "loss_layers",
    "steps",
    "epochs",
    "schedule",
    "warmup",
    "weight_decay",
    "clip_norm",
    "batch_size",
    "micro_batch_size",
    "seed",
)
"""Settings that can vary, because they change neither probe nor trunk."""


def make_points(
    spec: Mapping[str, Any], varied: Mapping[str, Sequence[Any]] | None = None
) -> tuple[Point, ...]:
    """Settings of a sweep: every combination of the `grid`, and those of the `list`.

    Args:
        spec: `grid` (name -> values) and `list` (mappings of name -> value), either or both.
        varied: more axes of the grid.

    Raises:
        UserError: nothing varies, or a setting is unknown or would need another trunk.
    """
    for name in spec:
        if name not in ("grid", "list"):
            raise UserError(
                f"a sweep has no part {name!r}{did_you_mean(name, ('grid', 'list'))}; it has grid, list"
            )
    grid, listed = spec.get("grid") or {}, spec.get("list") or []
    if not isinstance(grid, Mapping) or not all(
        isinstance(values, list) and values for values in grid.values()
    ):
        raise UserError("grid must map each setting to a list of values, as `learning_rate: [1e-5, 3e-5]`")
    if not isinstance(listed, list) or not all(isinstance(point, Mapping) for point in listed):
        raise UserError("list must hold mappings, as `- {learning_rate: 1e-5, displacement: 0.5}`")
    axes = {**grid, **(varied or {})}
    points = (
        [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())] if axes else []
    )
    found: list[Point] = []
    for point in [*points, *map(dict, listed)]:
        if point not in found:
            found.append(point)
    if not found:
        raise UserError(
            "nothing to vary: give `--vary learning_rate=1e-5,3e-5`, or a file with `grid` or `list`"
        )
    for name in {name for point in found for name in point}:
        _require_swept(name)
    return tuple(found)


def _require_swept(name: str) -> None:
    if name in SWEPT:
        return
    known = [own.name for own in fields(LensConfig)]
    if name in known or name in lens.RUN_SETTINGS:
        raise UserError(
            f"{name} cannot vary within a sweep: it would need another probe or trunk. Run one sweep for "
            f"each value of it (--set {name}=...). What can vary: {', '.join(SWEPT)}"
        )
    raise UserError(f"unknown setting {name!r}{did_you_mean(name, SWEPT)}; what can vary: {', '.join(SWEPT)}")


def sweep(request: Request, say: Callable[[str], None] = print) -> Outcome:
    """Train and judge the settings that are not finished, and write the outcome.

    Raises:
        UserError: the request is wrong; raised before any work.
    """
    folder = request.job.output
    if methods.processes() > 1:
        raise UserError("lens sweep runs in one process; start it without `accelerate launch`")
    job = replace(request.job, settings={**request.job.settings, "diagnose": 0, "show_replies": 0})
    plan = lens.make_plan(job)
    plans = [_plan_of(plan, point) for point in request.points]
    dev = DevData.read(request.dev_data, plan.config.languages, request.dev_limit)
    _check_judge(plan.config)
    about = _about(plan, dev, request)
    _check_folder(folder, about)
    with lock(folder):
        if not (folder / FILE).is_file():
            write_json(folder / FILE, {"format": FORMAT, "about": about, "rows": []})
        work = _Work(request, plan, dev, about, say)
        rows = work.rows(plans)
        return _finish(request, plan, about, work.backbone, rows)


def _plan_of(plan: plan.Plan, point: Point) -> plan.Plan:
    own = dict(point)
    seed = own.pop("seed", plan.job.seed)
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise UserError(f"seed must be a whole number, got {seed!r}")
    return lens.with_settings(plan, own, seed)


def _check_judge(config: LensConfig) -> None:
    from lens_eval.language.off_target import Judge

    judge = Judge(config.central, sorted({*DEFAULT_LANGUAGES, *config.languages}))
    for code in config.languages:
        judge.target(code)


def _about(plan: plan.Plan, dev: DevData, request: Request) -> dict[str, Any]:
    """The facts that all rows of one folder share, without paths."""
    shared = {name: value for name, value in plan.job.settings.items() if name not in lens.RUN_SETTINGS}
    probed = plan.probe_data.sha256 if plan.probe_data is not None else ""
    given = dict(plan.subspaces.identity) if plan.subspaces is not None else {}
    return {
        "model": {**plan.identity, "name": Path(plan.identity["name"]).name},
        "languages": list(plan.config.languages),
        "central": plan.config.central,
        "settings": json.loads(json.dumps(shared, default=list)),
        "seed": plan.job.seed,
        "train": {
            "name": plan.train_data.name,
            "items": len(plan.train_data),
            "sha256": plan.train_data.sha256,
        },
        "probe": key_of({"data": probed, "subspaces": given}),
        "dev": {
            "name": dev.prompts.name,
            "items": len(dev.prompts),
            "sha256": key_of({"prompts": dev.prompts.sha256, "values": dev.values}),
        },
        "max_new_tokens": request.max_new_tokens,
        "dtype": dtype_name(plan.dtype),
        "device": plan.device.type,
    }


def _check_folder(folder: Path, about: Mapping[str, Any]) -> None:
    if holds_nothing(folder):
        return
    if not (folder / FILE).is_file():
        raise UserError(f"output {folder} is not empty and holds no sweep; name another folder")
    try:
        before = dict(reading.read_json(folder / FILE)["about"])
    except (UserError, KeyError, TypeError, ValueError):
        raise UserError(
            f"{folder / FILE} is damaged; remove it to continue with the finished points"
        ) from None
    differing = [key for key in about if before.get(key) != about[key]]
    if differing:
        raise UserError(
            f"output {folder} holds another sweep (it differs in {', '.join(differing)}); name another folder"
        )


class _Work:
    """The points of a sweep, from disk or newly trained; the model is loaded only if a point is missing."""

    def __init__(
        self,
        request: Request,
        plan: plan.Plan,
        dev: DevData,
        about: Mapping[str, Any],
        say: Callable[[str], None],
    ) -> None:
        self.request, self.plan, self.dev, self.say = request, plan, dev, say
        measured = reached(["lens_train.watch.dev"], ["lens_eval.base"])
        modules = {**reached(["lens_train.lens"], ["lens_eval.base", "lens_train.watch"]), **measured}
        self.key = {**about, "code": source_of(modules), "versions": libraries_of(modules)}
        self.points = request.job.output / "points"
        self.base = export.find_tensors(plan.checkpoint.folder)
        self.backbone = Row({})
        self.references: dict[Any, Any] = {}

    def rows(self, plans: Sequence[plan.Plan]) -> tuple[Row, ...]:
        """Every row, in order; each is written to disk as soon as it is known."""
        points = self.request.points
        make_folder(self.points, below=self.request.job.output)
        found = [self._load(self._path(point)) for point in points]
        first = self._load(self._path({"backbone": True}))
        missing = [place for place, record in enumerate(found) if record is None]
        if missing or first is None:
            self._open(first)
        else:
            self.backbone = Row(**first["row"])
        done = len(points) - len(missing)
        with progress(label="sweep", total=len(points), initial=done) as bar:
            for place in missing:
                found[place] = record = self._run(plans[place], points[place])
                write_json(self._path(points[place]), record)
                bar.update()
                self.say(f"[{place + 1}/{len(points)}] {_line(Row(**record['row']))}")
        if len(missing) < len(points):
            self.say(f"{len(points) - len(missing)} of {len(points)} settings were there already")
        return tuple(Row(**record["row"]) for record in found if record is not None)

    def _path(self, point: Point) -> Path:
        return self.points / f"{key_of({**self.key, 'point': point})[:16]}.json"

    @staticmethod
    def _load(path: Path) -> dict[str, Any] | None:
        try:
            if not path.exists():
                return None
            record = reading.read_object(path, "finished setting")
            Row(**record["row"])
            return record
        except (UserError, KeyError, TypeError):
            raise UserError(f"{path} is damaged; remove it to have that setting trained again") from None

    def _open(self, first: Mapping[str, Any] | None) -> None:
        """Load the model, probe, run the trunk, and judge the untrained model."""
        plan = self.plan
        self.decoder = open_decoder(
            plan.checkpoint, plan.device, plan.dtype, plan.config.stream, len(plan.trained)
        )
        if len(self.decoder.spans(len(self.decoder))) > 1:
            raise UserError(
                f"{plan.job.model} would be streamed from disk, but a sweep generates replies, for which the "
                "model must be in memory. Use a larger machine, or `lens train` setting by setting"
            )
        kept = lens.keep_states(plan, self.decoder)
        self.subspaces = lens.find_subspaces(plan, self.decoder, kept)
        self.prepared = lens.prepare(plan, self.decoder, kept)
        self.initial = {name: value.data.clone() for name, value in self.prepared.parameters.items()}
        self.stored = stored_type(trained_tensors(self.decoder, plan, self.base), self.base)
        self.judge = make_judge(plan, self.decoder, self.dev, self.request.max_new_tokens)
        if first is None:
            begun = time.monotonic()
            with as_written(self.prepared.parameters, self.decoder.dtype, self.stored):
                measures, replies = self.judge.judge()
            row = Row({}, measures, seconds=round(time.monotonic() - begun, 2))
            first = {"row": asdict(row), "replies": replies, "tokens": self.judge.first}
            write_json(self._path({"backbone": True}), first)
            self.say(f"untrained: {_line(row)}")
        self.judge.first = {code: list(replies) for code, replies in first["tokens"].items()}
        self.backbone = Row(**first["row"])

    def _run(self, plan: plan.Plan, point: Point) -> dict[str, Any]:
        """Train one setting from the untrained weights and judge it."""
        begun = time.monotonic()
        parameters = self.prepared.parameters
        for name, parameter in parameters.items():
            parameter.data.copy_(self.initial[name])
        trainer = lens.trainer(plan, self.prepared, self.subspaces, None, self.references)
        try:
            log = trainer.run()
        except UserError as error:
            row = Row(point, reason=str(error), seconds=round(time.monotonic() - begun, 2))
            return {"row": asdict(row), "replies": {}, "log": []}
        del trainer
        for parameter in parameters.values():
            parameter.grad = None
        digest = hash_weights(trained_tensors(self.decoder, plan, self.base))
        with as_written(parameters, self.decoder.dtype, self.stored):
            measures, replies = self.judge.judge()
        about = ("step", "learning_rate", "grad_norm", "items", "item_losses", "seconds")
        losses = {name: value for name, value in log[-1].items() if name not in about}
        row = Row(point, measures, losses, digest, seconds=round(time.monotonic() - begun, 2))
        return {"row": asdict(row), "replies": replies, "log": log}


def make_judge(plan: plan.Plan, decoder: Decoder, dev: DevData, tokens: int) -> DevJudge:
    """A judge for the weights that a plan trains, by replies of at most `tokens` tokens; nothing runs yet."""
    render = renderer(plan.tokenizer, plan.config, "train")
    central, budget = plan.config.central, plan.config.batch_tokens
    return DevJudge.make(decoder, plan.tokenizer, dev, render, central, tokens, budget)


def trained_tensors(
    decoder: Decoder, plan: plan.Plan, base: Mapping[str, export.Place]
) -> dict[str, torch.Tensor]:
    """The trained tensors under the names and in the types of the base checkpoint."""
    tensors = export.checkpoint_tensors(decoder.model, lens.parameters_of(decoder, plan.trained), base)
    return {name: tensor.to(base[name].dtype) for name, tensor in tensors.items()}


def hash_weights(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over names and bytes of tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + b"\0")
        digest.update(tensors[name].contiguous().cpu().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _line(row: Row) -> str:
    named = " ".join(f"{name}={value}" for name, value in row.settings.items())
    if row.reason:
        return f"{named}: stopped: {row.reason}"
    shares = row.measures
    text = ", ".join(
        f"{words} {shown_share(shares, name)}%"
        for name, words in (("off_target", "off-target"), ("usable", "usable"), ("loop", "loops"))
    )
    return f"{named + ': ' if named else ''}{text}, {row.seconds:.1f} s"


def _finish(
    request: Request, plan: plan.Plan, about: Mapping[str, Any], backbone: Row, rows: tuple[Row, ...]
) -> Outcome:
    from lens_eval.mini import backbone_path
    from lens_train.sweep import tables

    choice = choose(rows, backbone, request.margin, request.job.central, about["dev"]["items"])
    chosen = choice.chosen
    document = {
        "format": FORMAT,
        "about": about,
        "simulated": plan.checkpoint.folder.resolve() == backbone_path().resolve(),
        "rule": choice.rule,
        "margin": request.margin,
        "chosen": chosen,
        "gentle": choice.gentle,
        "ranking": list(choice.ranking),
        "words": list(choice.words),
        "command": None if chosen is None else command(request, rows[chosen]),
        "backbone": asdict(backbone),
        "rows": [asdict(row) for row in rows],
        "environment": environment(),
    }
    outcome = Outcome(backbone, rows, choice, document)
    if chosen is not None:
        tables.write_chosen(request, rows[chosen])
    tables.write_all(outcome, request.job.output)
    write_json(request.job.output / FILE, document)
    return outcome


def command(request: Request, row: Row) -> str:
    """The command that trains a setting of this sweep, to the same bits."""
    import shlex

    job, folder = request.job, request.job.output
    subspaces = job.settings.get("subspaces") or save_folder(folder)
    parts: list[Any] = [
        "lens",
        "train",
        "--model",
        job.model,
        "--data",
        request.data,
        "--languages",
        ",".join(job.languages),
    ]
    parts += ["--central", job.central] if job.central != "en" else []
    parts += ["--subspaces", subspaces, "--config", folder / "chosen.yaml"]
    seed = row.settings.get("seed", job.seed)
    parts += ["--seed", seed] if seed else []
    parts += ["--output", folder.with_name(folder.name + "-chosen")]
    return " ".join(shlex.quote(str(part)) for part in parts)
