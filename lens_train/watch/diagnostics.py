"""The effect of training on the states of held-out prompts, layer by layer: `training/diagnostics.json`.

The state of a prompt is that of its last token. States are read before the first step and after the last.
Keys of the file (lists run over `layers`; a language maps to such a list; shares and accuracies lie in 0-1):

    format            1
    held_out          which prompts: `source` (`dev`: the dev data; `rest`: items of the training data that
                      were neither probed nor trained on; `train`: training prompts), `text` (the source in
                      words), `items` per language, `sha256` of the prompts
    languages         codes; `central` names the central one
    layers            decoder layers that were read, counted from 0; of a streamed model only those from the
                      first trained one on (the others would need another pass over the whole checkpoint)
    trained_layers    layers that were trained; layers below the first of them do not change
    loss_layers       layers that the losses read
    before, after     each holds
      separability      share of prompts nearest to the mean of their own language; means are taken over every
                        other item, prompts from the rest, then the other way round
      language_variance share of the variance of all states that lies between the means of the languages
      specific_share    share of that variance inside the probe's specific subspace
      agnostic_share    the same along the probe's agnostic line
      means_explained   share of the variance between the means of the languages inside the specific subspace:
                        how well the low-rank split, made on the probe's prompts, fits these
      norm              language -> mean length of a state
      spread            language -> root mean square distance of its prompts from their mean
      effective_rank    language -> exp of the entropy of the variances along the principal axes around that
                        mean; at most items - 1
      retrieval         language (the central one is left out) -> share of prompts whose nearest central
                        prompt, by cosine, is their own translation
      retrieval_centred the same with each language's mean taken off first: the difference between languages
                        then plays no part
    angles            degrees between the subspaces of these prompts' means `before` and after: `specific`
                      (the largest principal angle) and `agnostic`; `probe`: largest principal angle between
                      the specific subspace of the probe and that of these prompts, both before training
    chance            values for random guesses: `separability`, `retrieval`
    projection        `layer`; `explained` (share of variance of each of two axes); `before` and `after`:
                      language -> [x, y] of each item. The axes are the two principal ones of both together
    warnings          sentences; empty if nothing is wrong
    seconds           time that the diagnostics took
    skipped           the reason, if there are too few prompts; then only `format` and `warnings` are there,
    too
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lens_eval.base.errors import UserError
from lens_eval.base.files import write_text
from lens_eval.base.reading import read_object
from lens_eval.base.shapes import require_diagnostics
from lens_eval.base.terminal import say
from lens_train.decoder import Decoder
from lens_train.plan import HeldOut
from lens_train.subspace import Subspaces, project, split
from lens_train.trunk import Trunk
from lens_train.walk import Kept

FILE = "diagnostics.json"
FORMAT = 1
FEWEST = 4
"""Fewest prompts per language; with fewer, nothing is computed."""
COLLAPSE = 0.5
"""A rank, spread or accuracy below this share of its value before training gives a warning."""

Rows = Mapping[str, Sequence[int]]
"""Language -> row in a trunk of each item."""


@dataclass(frozen=True)
class About:
    """The prompts, languages and layers that are watched."""

    held_out: HeldOut
    languages: tuple[str, ...]
    central: str
    layers: tuple[int, ...]
    """Layers that are read, counted from 0."""
    trained: tuple[int, ...]
    read: tuple[int, ...]
    """Layers that the losses read."""


@dataclass(frozen=True)
class Watch:
    """Held-out prompts, and their states before training."""

    about: About
    trunk: Trunk
    rows: Rows
    lower: Tensor
    """States below the first trained layer, which never change; (rows, layers, width)."""
    before: Tensor
    """(languages, items, layers, width), float32, on the CPU."""
    seconds: float

    @staticmethod
    def on_prompts(
        decoder: Decoder, prompts: Mapping[str, Sequence[Sequence[int]]], about: About, budget: int
    ) -> Watch:
        """Run prompts, language -> token ids per item, through all layers."""
        begun = time.monotonic()
        flat = [prompt for code in prompts for prompt in prompts[code]]
        items, start = len(about.held_out.texts), about.trained[0]
        rows = {code: range(at * items, (at + 1) * items) for at, code in enumerate(prompts)}
        kept = Kept.make(decoder, flat, range(len(flat)), start, budget, lower=True)
        trunk = Trunk.build(decoder, flat, range(len(flat)), start, budget, kept=kept)
        return Watch.on_trunk(trunk, rows, about, kept.lower, begun)

    @staticmethod
    def on_trunk(
        trunk: Trunk, rows: Rows, about: About, lower: Tensor | None = None, begun: float | None = None
    ) -> Watch:
        """Watch the first prompts of an existing trunk.

        Args:
            trunk: a trunk of any prompts.
            rows: language -> row in the trunk of each item.
            about: the prompts, languages and layers that are watched.
            lower: states of the last token below the trunk's first layer, (prompts, layers, width); None =
                watch only from that layer on.
            begun: time at which the work began; None = now.
        """
        begun = time.monotonic() if begun is None else begun
        items = len(about.held_out.texts)
        own = {code: list(places)[:items] for code, places in rows.items()}
        if lower is None:
            lower = torch.empty(len(trunk.prompts), 0, trunk.decoder.width)
        return Watch(about, trunk, own, lower, _states(trunk, own, lower), time.monotonic() - begun)

    def write(self, folder: Path, subspaces: Subspaces) -> dict[str, Any]:
        """Read the states again, write `diagnostics.json`, and print its warnings on standard error."""
        begun = time.monotonic()
        after = _states(self.trunk, self.rows, self.lower)
        document = diagnose(self.before, after, self.about, subspaces)
        document["seconds"] = round(self.seconds + time.monotonic() - begun, 2)
        write_text(folder / FILE, json.dumps(document, ensure_ascii=False) + "\n")
        for warning in document["warnings"]:
            say(f"lens: warning: {warning}", err=True)
        return document


@torch.no_grad()
def _states(trunk: Trunk, rows: Rows, lower: Tensor) -> Tensor:
    """States at the last token, (languages, items, layers, width), with the current weights."""
    every = [row for places in rows.values() for row in places]
    tops = trunk.top(every, range(trunk.start, len(trunk.decoder)), last_only=every)
    parts = [[torch.cat([lower[row], tops[row][:, -1].cpu()]) for row in places] for places in rows.values()]
    return torch.stack([torch.stack(part) for part in parts])


def diagnose(before: Tensor, after: Tensor, about: About, subspaces: Subspaces) -> dict[str, Any]:
    """Compute the document from states, (languages, items, layers, width) each; see the module docstring."""
    items = before.shape[1]
    if items < FEWEST:
        reason = f"fewer than {FEWEST} prompts per language ({items})"
        return {"format": FORMAT, "skipped": reason, "warnings": []}
    before, after = before.double(), after.double()
    first, second = measure(before, about, subspaces), measure(after, about, subspaces)
    return {
        "format": FORMAT,
        "held_out": {
            "source": about.held_out.source,
            "text": about.held_out.text,
            "items": items,
            "sha256": about.held_out.texts.sha256,
        },
        "languages": list(about.languages),
        "central": about.central,
        "layers": list(about.layers),
        "trained_layers": list(about.trained),
        "loss_layers": list(about.read),
        "before": first,
        "after": second,
        "angles": angles(before, after, about, subspaces),
        "chance": {"separability": round(1 / len(before), 4), "retrieval": round(1 / items, 4)},
        "projection": projection(before, after, about),
        "warnings": find_collapses(first, second, about.layers, 1 / items),
    }


def measure(states: Tensor, about: About, subspaces: Subspaces) -> dict[str, Any]:
    """All measures before or after training; states are (languages, items, layers, width)."""
    codes, pivot = about.languages, about.languages.index(about.central)
    found: dict[str, Any] = {name: [] for name in ("separability", "language_variance")}
    found |= {name: [] for name in ("specific_share", "agnostic_share", "means_explained")}
    for place, layer in enumerate(about.layers):
        here = states[:, :, place]
        line = subspaces.agnostic[layer].double()
        found["separability"].append(_number(separability(here)))
        shares = variance_shares(here, subspaces.specific[layer].double(), line / line.norm())
        for name, share in shares.items():
            found[name].append(_number(share))
    for name, function in {"norm": mean_norm, "spread": spread, "effective_rank": effective_rank}.items():
        found[name] = {
            code: [_number(function(states[place, :, layer])) for layer in range(len(about.layers))]
            for place, code in enumerate(codes)
        }
    for name, points in {"retrieval": states, "retrieval_centred": states - states.mean(1, True)}.items():
        found[name] = {
            code: [
                _number(retrieval(points[place, :, layer], points[pivot, :, layer]))
                for layer in range(len(about.layers))
            ]
            for place, code in enumerate(codes)
            if place != pivot
        }
    return found


def separability(states: Tensor) -> float:
    """Share of prompts that lie nearest to the mean of their own language; (languages, items, width).

    Means are taken over every other item, and the prompts of the remaining items are assigned to them; then
    the halves are swapped. So no prompt and no translation of it enters the means that it is compared with.
    """
    right = 0
    for fold in (0, 1):
        means = states[:, fold::2].mean(dim=1)
        nearest = torch.cdist(states[:, 1 - fold :: 2], means).argmin(dim=-1)
        right += int((nearest == torch.arange(len(states))[:, None]).sum())
    return right / (states.shape[0] * states.shape[1])


def variance_shares(states: Tensor, specific: Tensor, line: Tensor) -> dict[str, float]:
    """Shares of the variance of states between languages and in the subspaces.

    Args:
        states: (languages, items, width).
        specific: orthonormal basis of the specific subspace, (rank, width).
        line: unit vector along the agnostic line, (width,).
    """
    centred = states - states.mean(dim=(0, 1))
    between = centred.mean(dim=1)
    total = _size(centred.square().mean(dim=(0, 1)).sum())
    means = _size(between.square().mean(dim=0).sum())
    return {
        "language_variance": means / total,
        "specific_share": _size(project(centred, specific).square().mean(dim=(0, 1)).sum()) / total,
        "agnostic_share": _size((centred @ line).square().mean()) / total,
        "means_explained": _size(project(between, specific).square().mean(dim=0).sum()) / means,
    }


def mean_norm(states: Tensor) -> float:
    """Mean length; (items, width)."""
    return float(states.norm(dim=-1).mean())


def spread(states: Tensor) -> float:
    """Root mean square distance from the mean; (items, width)."""
    return float((states - states.mean(dim=0)).square().sum(dim=-1).mean().sqrt())


def effective_rank(states: Tensor) -> float:
    """Exp of the entropy of the variances along the principal axes (Roy, Vetterli 2007); (items, width)."""
    centred = states - states.mean(dim=0)
    variances = torch.linalg.eigvalsh(centred @ centred.T).clamp(min=0)
    if not float(variances.sum()):
        return 0.0
    shares = variances / variances.sum()
    return float(torch.special.entr(shares).sum().exp())


def retrieval(states: Tensor, central: Tensor) -> float:
    """Share of prompts whose nearest central prompt, by cosine, is their translation; (items, width) each."""
    unit = torch.nn.functional.normalize
    nearest = (unit(states, dim=-1) @ unit(central, dim=-1).T).argmax(dim=-1)
    return float((nearest == torch.arange(len(states))).double().mean())


def angles(
    before: Tensor, after: Tensor, about: About, subspaces: Subspaces
) -> dict[str, list[float | None]]:
    """Degrees between the subspaces before and after, and between the probe's and these prompts'."""
    found: dict[str, list[float | None]] = {"specific": [], "agnostic": [], "probe": []}
    rank = subspaces.specific.shape[1]
    for place, layer in enumerate(about.layers):
        common, specific = split(before[:, :, place].mean(dim=1), rank)
        common_now, specific_now = split(after[:, :, place].mean(dim=1), rank)
        found["specific"].append(_number(angle(specific, specific_now)))
        lines = [(vector / vector.norm())[None] for vector in (common, common_now)]
        found["agnostic"].append(_number(angle(*lines)))
        found["probe"].append(_number(angle(specific, subspaces.specific[layer].double())))
    return found


def angle(first: Tensor, second: Tensor) -> float:
    """Largest principal angle, degrees, of two subspaces given by orthonormal rows, (rank, width) each."""
    apart = torch.linalg.matrix_norm(first - first @ second.T @ second, ord=2)
    return math.degrees(math.asin(min(1.0, float(apart))))


def projection(before: Tensor, after: Tensor, about: About) -> dict[str, Any]:
    """Two principal axes of the states of the last layer that the losses read, before and after together."""
    layer = max(about.read)
    pair = torch.stack([before, after])[..., about.layers.index(layer), :]
    centred = pair - pair.mean(dim=(0, 1, 2))
    flat = centred.flatten(0, 2)
    values, vectors = torch.linalg.eigh(flat @ flat.T)
    axes = torch.nn.functional.normalize(vectors[:, [-1, -2]].T @ flat, dim=-1)
    # The sign of an axis is arbitrary: its largest entry is made positive, so that runs can be compared.
    axes = axes * axes.gather(1, axes.abs().argmax(dim=1, keepdim=True)).sign()
    points = centred @ axes.T
    document: dict[str, Any] = {
        "layer": layer,
        "explained": [_number(float(value / values.sum())) for value in values[[-1, -2]]],
    }
    for name, moment in zip(("before", "after"), points, strict=True):
        document[name] = {
            code: [[_number(float(number)) for number in point] for point in moment[place]]
            for place, code in enumerate(about.languages)
        }
    return document


def find_collapses(
    before: Mapping[str, Any], after: Mapping[str, Any], layers: Sequence[int], chance: float
) -> list[str]:
    """Warnings in words: per measure, the language and layer with the worst value."""
    words = {
        "effective_rank": "effective rank (number of directions in which the prompts of a language differ)",
        "spread": "spread (distance of the prompts of a language from their mean)",
        "norm": "norm (length of the states)",
        "retrieval_centred": "retrieval (share of prompts that find their translation)",
    }
    found = []
    for name, what in words.items():
        least = 5 * chance if name == "retrieval_centred" else 0.0
        pairs = [
            (now / was, code, layer, was, now)
            for code in before[name]
            for layer, was, now in zip(layers, before[name][code], after[name][code], strict=True)
            if was is not None and now is not None and was > least
        ]
        ratio, code, layer, was, now = min(pairs, default=(1.0, "", 0, 0.0, 0.0))
        if name == "norm" and pairs and max(pairs)[0] > 1 / COLLAPSE:
            ratio, code, layer, was, now = max(pairs)
        if ratio < COLLAPSE or (name == "norm" and ratio > 1 / COLLAPSE):
            word = "collapse" if ratio < COLLAPSE else "explosion"
            found.append(
                f"{word}: {what} of {code} at layer {layer} went from {was:.3g} to {now:.3g} by "
                "training. Try a lower learning_rate, fewer steps, a larger retain_weight, or retain_over: "
                "tokens"
            )
    return found


def load_diagnostics(run: Path) -> dict[str, Any]:
    """Read the document of a trained variant's folder.

    Raises:
        UserError: there is no document, or it is damaged.
    """
    path = run / "training" / FILE
    if not path.is_file():
        raise UserError(
            f"{run} holds no training/{FILE}; name a folder that `lens train` has written with method lens"
        )
    try:
        document = read_object(path, "record of diagnostics")
    except UserError as error:
        raise UserError(f"{path} is damaged ({error}); train again, or take the file from a copy") from None
    if document.get("format") != FORMAT:
        raise UserError(f"{path} has format {document.get('format')}; this version reads format {FORMAT}")
    require_diagnostics(document, f"{path} is damaged")
    return document


def _number(value: float) -> float | None:
    """Round to four digits, more than the number of prompts justifies; None for NaN, which JSON lacks."""
    return float(f"{value:.4g}") if math.isfinite(value) else None


def _size(value: Tensor) -> float:
    """A sum of squares as a divisor; never 0, also if all states are equal."""
    return max(float(value), torch.finfo(torch.float64).tiny)


def summary(document: Mapping[str, Any]) -> list[str]:
    """The document in a few lines, for a terminal."""
    if "skipped" in document:
        return [f"no diagnostics: {document['skipped']}"]
    top, before, after = (
        document["layers"].index(max(document["loss_layers"])),
        document["before"],
        document["after"],
    )
    held = document["held_out"]
    lines = [
        f"layer {document['layers'][top]}, {held['items']} prompts per language: {held['text']}",
        f"{'':30}before   after",
    ]
    for name, words in {
        "separability": "nearest to own mean",
        "language_variance": "variance between languages",
        "specific_share": "variance, specific subspace",
        "agnostic_share": "variance, agnostic line",
    }.items():
        lines.append(_row(words, before[name][top], after[name][top]))
    for name, words in {
        "norm": "length",
        "spread": "spread",
        "effective_rank": "effective rank",
        "retrieval": "translation found",
        "retrieval_centred": "translation found, centred",
    }.items():
        lines += [
            _row(f"{words} {code}", before[name][code][top], after[name][code][top]) for code in before[name]
        ]
    turned = {name: document["angles"][name][top] for name in ("specific", "agnostic")}
    lines.append(
        "turned by training, degrees: "
        + ", ".join(f"{name} {_cell(value)}" for name, value in turned.items())
    )
    return lines + [f"warning: {warning}" for warning in document["warnings"]]


def _row(words: str, before: float | None, after: float | None) -> str:
    return f"{words:28}{_cell(before):>8}{_cell(after):>8}"


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
