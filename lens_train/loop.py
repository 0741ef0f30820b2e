"""Train the top layers over a trunk: steps, schedule, log, and a state file to resume from after a kill."""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn

from lens_eval.base.errors import UserError
from lens_eval.base.files import append_text, write_text
from lens_eval.base.progress import progress
from lens_eval.base.reading import parse_json, read_text, shaped
from lens_train.config import LensConfig
from lens_train.files import read_tensors, write_tensors
from lens_train.losses import Objective
from lens_train.processes import rank, world
from lens_train.trunk import Trunk
from lens_train.walk import SAVING_SHARE

LOG = "log.jsonl"
STATE = "state.safetensors"
PATIENCE = 5
"""A run stops once a term has been above its limit for this many steps in a row; see `TopTrainer._limits`."""
SAVE_AT_LEAST = 1.0
"""Shortest time between two saved states, in seconds."""
DISK_SPEED = 1e9
"""Assumed write speed of the disk, in bytes per second, until a state has been saved."""

Rows = Mapping[str, Sequence[int]]
"""Language -> row in the trunk of each item."""


def trained_layers(config: LensConfig, count: int) -> tuple[int, ...]:
    """The layers to train, counted from 0, in a model with `count` layers.

    Raises:
        UserError: the config names layers that the model does not have.
    """
    wanted = config.trained_layers
    if isinstance(wanted, int):
        if not 1 <= wanted <= count:
            raise UserError(
                f"trained_layers is {wanted}, but the model has {count} layers; give 1 to {count}"
            )
        return tuple(range(count - wanted, count))
    if not wanted or any(not -count <= layer < count for layer in wanted):
        raise UserError(f"trained_layers is {list(wanted)}, but the model has layers 0 to {count - 1}")
    return tuple(sorted({layer % count for layer in wanted}))


def read_layers(config: LensConfig, count: int) -> tuple[int, ...]:
    """The layers that the losses read, counted from 0, in a model with `count` layers.

    Raises:
        UserError: the config names layers that the model does not have, or that training does not change.
    """
    if not config.loss_layers or any(not -count <= layer < count for layer in config.loss_layers):
        raise UserError(
            f"loss_layers is {list(config.loss_layers)}, but the model has layers 0 to {count - 1}"
        )
    layers = tuple(layer % count for layer in config.loss_layers)
    lowest = trained_layers(config, count)[0]
    if min(layers) < lowest:
        raise UserError(
            f"loss_layers {list(layers)}: layers below the first trained layer, {lowest}, never change"
        )
    return layers


def free_parameters(layers: nn.ModuleList, wanted: Sequence[int]) -> dict[str, nn.Parameter]:
    """Make the parameters of the layers `wanted` trainable, in float32.

    Returns:
        `<layer>.<name>` -> parameter.
    """
    found: dict[str, nn.Parameter] = {}
    for number in wanted:
        for name, parameter in layers[number].named_parameters():
            parameter.data = parameter.data.float()
            parameter.requires_grad_(True)
            found[f"{number}.{name}"] = parameter
    return found


def step_count(config: LensConfig, items: int) -> int:
    """Optimizer steps of a run; the last batch of a pass may be smaller than the others."""
    return config.steps or config.passes * math.ceil(items / config.batch_size)


def step_items(config: LensConfig, items: int, seed: int) -> list[list[int]]:
    """Items of every step. The order of each pass is drawn from the seed `seed` + number of the pass."""
    steps: list[list[int]] = []
    epoch = 0
    while len(steps) < step_count(config, items):
        order = torch.randperm(items, generator=torch.Generator().manual_seed(seed + epoch)).tolist()
        steps += [order[at : at + config.batch_size] for at in range(0, items, config.batch_size)]
        epoch += 1
    return steps[: step_count(config, items)]


def learning_rate(config: LensConfig, step: int, steps: int) -> float:
    """Learning rate of a step, counted from 0. The warm-up begins at rate 0, as in the released code.

    The config must hold a rate: see `LensConfig.for_width`. The last step is never part of the warm-up,
    because otherwise the only step of a short run would have rate 0.
    """
    assert config.learning_rate is not None
    warm = math.ceil(config.warmup * steps)
    if config.protocol.whole_last_step:
        warm = min(warm, steps - 1)
    if step < warm:
        return config.learning_rate * step / warm
    share = (step - warm) / max(1, steps - warm)
    if config.schedule == "cosine":
        return config.learning_rate * 0.5 * (1 + math.cos(math.pi * share))
    return config.learning_rate * (1 - share if config.schedule == "linear" else 1)


def require_rate(config: LensConfig, items: int) -> None:
    """Refuse a run that would change nothing.

    Raises:
        UserError: the learning rate of every step is 0.
    """
    steps = step_count(config, items)
    if any(learning_rate(config, step, steps) for step in range(steps)):
        return
    if not config.learning_rate:
        raise UserError("learning_rate is 0: nothing would be trained; give a rate above 0")
    raise UserError(
        f"the learning rate of every step would be 0: {items} items make {steps} step(s), all warm-up "
        f"(warmup {config.warmup:g}), as `compat: official` repeats it. Use more items, or `warmup: 0`"
    )


@dataclass
class TopTrainer:
    """One training run over a trunk; `run` performs it."""

    trunk: Trunk
    rows: Rows
    layers: tuple[int, ...]
    """Layers that the losses read, counted from 0."""
    objective: Objective
    parameters: Mapping[str, nn.Parameter]
    config: LensConfig
    seed: int
    folder: Path | None
    """Folder of the log and the state; None = nothing is written or resumed."""
    run_id: str
    """Identity of the run; a state of another run is refused."""
    references: dict[Any, Any] = field(default_factory=dict)
    """Reference states of the untrained model, by the settings that decide them; shared by a sweep's runs."""

    def run(self) -> list[dict[str, Any]]:
        """Train; resume from a saved state if there is one.

        Returns:
            The log, one record per step.

        Raises:
            UserError: a loss is not finite or has exploded.
            KeyboardInterrupt: on Ctrl-C, after the current step has ended and its state is saved.
        """
        plan = step_items(self.config, len(next(iter(self.rows.values()))), self.seed)
        self.reference = self._reference(
            sorted({item for items in plan for item in items[rank() :: world()]})
        )
        self.limits = self._limits()
        self.optimizer = self._optimizer()
        done = self._load_state()
        log = self._open_log(done)
        saved_at, saving = time.monotonic(), self._state_bytes() / DISK_SPEED
        with (
            _interruptible() as interrupted,
            progress(label="training", total=len(plan), initial=done) as bar,
        ):
            for step in range(done, len(plan)):
                record = self._step(step, plan[step], len(plan), log)
                log.append(record)
                self._append_log(record)
                bar.update()
                begun = time.monotonic()
                # After the last step, save only if that is quicker than to repeat the steps since the last
                # save.
                wait = saving if step + 1 == len(plan) else max(SAVE_AT_LEAST, SAVING_SHARE * saving)
                if interrupted or begun - saved_at > wait:
                    self._save_state(step + 1)
                    saved_at = time.monotonic()
                    saving = saved_at - begun
                if interrupted:
                    raise KeyboardInterrupt
        return log

    def item_terms(self, items: Sequence[int]) -> dict[str, Tensor]:
        """Compute every loss term of `items`; term -> (items,)."""
        return self.objective.terms(self._states(items), self._chosen(items))

    def _states(self, items: Sequence[int]) -> dict[str, list[Any]]:
        languages = self.objective.languages
        rows = {code: [self.rows[code][item] for item in items] for code in languages}
        last_only = {row for code in languages if not self.objective.reads_all(code) for row in rows[code]}
        tops = self.trunk.top([row for code in languages for row in rows[code]], self.layers, last_only)
        return {
            code: [self.objective.keep(tops[self.rows[code][item]], code) for item in items]
            for code in languages
        }

    def _chosen(self, items: Sequence[int]) -> dict[str, list[Any]]:
        return {code: [self.reference[item, code] for item in items] for code in self.objective.languages}

    @torch.no_grad()
    def _reference(self, items: Sequence[int]) -> dict[tuple[int, str], Any]:
        """Untrained states that the losses read; clones, because a view would keep all tokens' states."""
        size, languages = self.config.micro_batch_size, self.objective.languages
        reads = [self.objective.reads_all(code) for code in languages]
        key = (tuple(items), size, self.layers, languages, tuple(reads), self.config.retain_over)
        if key in self.references:
            return self.references[key]
        found: dict[tuple[int, str], Any] = {}
        for at in range(0, len(items), size):
            chunk = items[at : at + size]
            for code, prompts in self._states(chunk).items():
                for item, (last, kept) in zip(chunk, prompts, strict=True):
                    found[item, code] = (last.clone(), None if kept is None else kept.clone())
        self.references[key] = found
        return found

    def _step(
        self, step: int, items: Sequence[int], steps: int, log: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        begun = time.monotonic()
        rate = learning_rate(self.config, step, steps)
        self.optimizer.zero_grad(set_to_none=True)
        mine = list(items[rank() :: world()])
        terms = self._backward(mine, len(items))
        norm = self._shared_gradient()
        losses = self._gather(items, mine, terms)
        self._check(losses, norm, log)
        if self.config.clip_norm:
            nn.utils.clip_grads_with_norm_(self.parameters.values(), self.config.clip_norm, norm)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        means = {name: float(value.mean()) for name, value in losses.items()}
        return {
            "step": step + 1,
            "learning_rate": rate,
            "grad_norm": float(norm),
            **means,
            "items": list(items),
            "item_losses": losses["loss"].tolist(),
            "seconds": round(time.monotonic() - begun, 4),
        }

    def _backward(self, items: Sequence[int], count: int) -> dict[str, Tensor]:
        """Accumulate the gradient of the mean loss over `count` items; returns each term of each item."""
        parts: list[dict[str, Tensor]] = []
        size = self.config.micro_batch_size
        for at in range(0, len(items), size):
            terms = self.item_terms(items[at : at + size])
            total = self.objective.total(terms)
            (total.sum() / count).backward()
            parts.append({name: term.detach() for name, term in {"loss": total, **terms}.items()})
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]} if parts else {}

    def _shared_gradient(self) -> Tensor:
        """Sum the gradient over the processes; returns its norm."""
        for parameter in self.parameters.values():
            if parameter.grad is None:  # the layer is above every loss, or this process has no item
                parameter.grad = torch.zeros_like(parameter)
            if world() > 1:
                distributed.all_reduce(parameter.grad)
        gradients = (parameter.grad for parameter in self.parameters.values())
        return nn.utils.get_total_norm([gradient for gradient in gradients if gradient is not None])

    def _gather(
        self, items: Sequence[int], mine: Sequence[int], terms: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Losses of all items of the step, gathered from all processes, in the order of `items`."""
        if world() == 1:
            return {name: term.cpu() for name, term in terms.items()}
        parts: list[Any] = [None] * world()
        distributed.all_gather_object(parts, {name: term.cpu() for name, term in terms.items()})
        names = list(parts[0])
        merged = {name: torch.empty(len(items)) for name in names}
        for process, part in enumerate(parts):
            for name in part:
                merged[name][process :: world()] = part[name]
        return merged

    def _limits(self) -> dict[str, float]:
        """Kind of term -> its value if the squared distance moved is half the states' mean square.

        After a norm, the squared distance of two unrelated states is two mean squares. A subspace contains
        only a part of that distance.
        """
        moved = torch.stack([last.square().mean() for last, _ in self.reference.values()]).mean()
        kept = [kept.square().mean() for _, kept in self.reference.values() if kept is not None]
        retained = float(torch.stack(kept).mean()) if kept and self.config.in_units else float(moved)
        own, plain = self.objective.wanted
        return {
            "separate": float(moved) / own / 2,
            "align": float(moved) / own / 2,
            "retain": retained / plain / 2,
        }

    def _check(self, losses: Mapping[str, Tensor], norm: Tensor, log: Sequence[Mapping[str, Any]]) -> None:
        """Stop if a number is not finite, or if a term has stayed above its limit for `PATIENCE` steps.

        The norm before the losses bounds them, so a run can be ruined without any large number: see
        `_limits`. The first steps of a good run may move states far away, and the next steps move them back.
        So one step above the limit is no reason to stop.
        """
        step = len(log) + 1
        means = {name: float(value.mean()) for name, value in losses.items()}
        first = log[0] if log else means
        broken = [
            name for name, value in {**means, "grad_norm": float(norm)}.items() if not math.isfinite(value)
        ]
        exploded = []
        for name, value in means.items():
            limit = max(self.limits.get(name.partition(".")[0], math.inf), 2 * first[name])
            recent = [value, *(record[name] for record in log[1 - PATIENCE :])]
            if len(recent) >= PATIENCE and min(recent) > limit:
                exploded.append(
                    f"{name} is {value:.3g}; for {PATIENCE} steps it was above half the mean square of the "
                    f"untrained states ({limit:.3g})"
                )
        if broken or exploded:
            what = f"not a finite number: {', '.join(broken)}" if broken else "; ".join(exploded)
            raise UserError(
                f"step {step}: {what}. Try a lower learning_rate (now {self.config.learning_rate:g}) or a "
                f"larger retain_weight (now {self.config.retain_weight:g})"
            )

    def _optimizer(self) -> torch.optim.Optimizer:
        decay = [parameter for parameter in self.parameters.values() if parameter.ndim > 1]
        plain = [parameter for parameter in self.parameters.values() if parameter.ndim <= 1]
        groups = [
            {"params": decay, "weight_decay": self.config.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW([group for group in groups if group["params"]], lr=0.0, fused=self._fused)

    @property
    def _fused(self) -> bool:
        """Whether torch has a fused AdamW for this device; on a CPU it saves a tenth of a step's time."""
        return self.trunk.decoder.device.type in ("cpu", "cuda")

    def _state_bytes(self) -> int:
        """Size of a saved state: float32 weights and the two moments of AdamW."""
        return 12 * sum(parameter.numel() for parameter in self.parameters.values())

    def _save_state(self, step: int) -> None:
        if rank() or self.folder is None:
            return
        tensors = {f"weight.{name}": parameter.data for name, parameter in self.parameters.items()}
        for name, parameter in self.parameters.items():
            for key, value in self.optimizer.state[parameter].items():
                tensors[f"{key}.{name}"] = value
        write_tensors(self.folder / STATE, tensors, {"step": str(step), "run": self.run_id})

    def _load_state(self) -> int:
        """Restore a saved state; returns the number of steps that were done."""
        if self.folder is None or not (path := self.folder / STATE).is_file():
            return 0
        what = "state of training (remove it to train from the start)"
        tensors, metadata = read_tensors(path, what)
        if metadata.get("run") != self.run_id:
            raise UserError(
                f"{path} belongs to another run (with other weights, data, settings or precision); "
                "name another output folder"
            )
        with shaped(path, what):
            for name, parameter in self.parameters.items():
                parameter.data.copy_(tensors.pop(f"weight.{name}"))
            for key, value in tensors.items():
                entry, _, name = key.partition(".")
                parameter = self.parameters[name]
                place = "cpu" if entry == "step" and not self._fused else parameter.device
                self.optimizer.state[parameter][entry] = value.to(place)
            return int(metadata["step"])

    def _open_log(self, done: int) -> list[dict[str, Any]]:
        """Cut the log to the first `done` steps, those of the restored state."""
        if self.folder is None:
            return []
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / LOG
        lines = read_text(path).split("\n") if path.is_file() else []
        with shaped(path, "log of training (remove the folder's training/ to begin anew)"):
            records = [_record(parse_json(lines[place], str(path)), place + 1) for place in range(done)]
        if rank() == 0:
            write_text(path, "".join(json.dumps(record) + "\n" for record in records))
        return records

    def _append_log(self, record: Mapping[str, Any]) -> None:
        if rank() == 0 and self.folder is not None:
            append_text(self.folder / LOG, json.dumps(record) + "\n")


def _record(record: Any, step: int) -> dict[str, Any]:
    """A line of the log; `ValueError` or `TypeError` if it is not that of `step`."""
    if record["step"] != step or not all(map(math.isfinite, _numbers(record))):
        raise ValueError(f"no line of step {step}")
    return dict(record)


def _numbers(record: Mapping[str, Any]) -> list[Any]:
    return [value for value in record.values() if not isinstance(value, list)]


@contextmanager
def _interruptible() -> Iterator[list[bool]]:
    """Record the first Ctrl-C in the list, so that the step can end; a second Ctrl-C stops at once."""
    noted: list[bool] = []
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return

    def note(*_: Any) -> None:
        if noted:
            raise KeyboardInterrupt
        noted.append(True)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)
