"""Plots of a run's log and diagnostics, and of a sweep's trade-off; matplotlib is the extra `report`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lens_eval.base.errors import UserError
from lens_eval.base.files import make_folder, written_aside
from lens_eval.base.reading import read_objects
from lens_eval.base.shapes import require_shape

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
"""Colours that colour-blind readers can distinguish (Okabe and Ito)."""
MARKERS = "osD^vP*X"
MISSING = "plots need matplotlib: pip install 'lens-multilingual[report]'"


def new_figure(rows: int, columns: int, width: float, height: float) -> tuple[Any, Any]:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError(MISSING) from None
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25)
    return figure, axes


def save_figure(figure: Any, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_aside(path) as aside:
        figure.savefig(aside, format="png", dpi=130)
    return path


def style_of(place: int) -> dict[str, Any]:
    return {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place // len(COLOURS) % len(MARKERS)]}


def draw_run(run: Path, document: Mapping[str, Any]) -> list[Path]:
    """Draw losses, layers and projection of a variant's folder into `training/plots`.

    Raises:
        UserError: matplotlib is not installed.
    """
    folder = run / "training" / "plots"
    log = _read_log(run / "training" / "log.jsonl")
    make_folder(folder, below=run)
    drawn = [_draw_losses(log, folder / "losses.png")] if log else []
    if "skipped" not in document:
        drawn += [
            _draw_layers(document, folder / "layers.png"),
            _draw_projection(document, folder / "projection.png"),
        ]
    return drawn


def _read_log(file: Path) -> list[dict[str, Any]]:
    """The steps of a log, each with the loss terms of the first.

    Raises:
        UserError: the log is not there, or a line is no such step.
    """
    rows = list(read_objects(file))
    wanted = dict.fromkeys(_terms(rows[0][1]) if rows else (), float)
    for where, row in rows:
        require_shape(row, {"step": int, **wanted}, where)
    return [row for _, row in rows]


def _terms(record: Mapping[str, Any]) -> list[str]:
    """Loss terms of a step that are drawn."""
    return [name for name in record if name in ("loss", "retain") or name.startswith(("separate.", "align."))]


def _draw_losses(log: Sequence[Mapping[str, Any]], path: Path) -> Path:
    figure, axes = new_figure(1, 1, 7, 4)
    axis = axes[0, 0]
    steps = [record["step"] for record in log]
    terms = _terms(log[0])
    for place, name in enumerate(terms):
        style = {**style_of(place), "marker": None, "linewidth": 2.2 if name == "loss" else 1.3}
        axis.plot(steps, [record[name] for record in log], label=name, **style)
    axis.set(
        xlabel="step", ylabel="loss (before its weight)", yscale="symlog" if _has_zero(log, terms) else "log"
    )
    axis.legend(fontsize=7, ncols=2)
    axis.set_title("Loss terms per step", loc="left")
    return save_figure(figure, path)


def _has_zero(log: Sequence[Mapping[str, Any]], terms: Sequence[str]) -> bool:
    return any(record[name] <= 0 for record in log for name in terms)


def _draw_layers(document: Mapping[str, Any], path: Path) -> Path:
    figure, axes = new_figure(2, 4, 15, 6.5)
    layers, codes = document["layers"], document["languages"]
    for axis in axes.flat:
        axis.set_xlabel("layer")
        axis.axvspan(min(document["trained_layers"]) - 0.5, max(layers) + 0.5, color="0.94", zorder=0)
    shares = {"separability": "nearest own mean", "language_variance": "variance between languages"}
    shares |= {"means_explained": "of it in the specific subspace"}
    _pair_lines(axes[0, 0], document, shares, "Languages told apart")
    inside = {"specific_share": "specific subspace", "agnostic_share": "agnostic line"}
    _pair_lines(axes[0, 1], document, inside, "Share of all variance")
    for place, (name, values) in enumerate(document["angles"].items()):
        axes[0, 2].plot(layers, _gaps(values), label=name, markersize=4, **style_of(place))
    axes[0, 2].set_title("Angles of subspaces, degrees", loc="left", fontsize=10)
    axes[0, 2].legend(fontsize=7)
    titles = {"norm": "Length of a state", "spread": "Distance from the language's mean"}
    titles |= {"effective_rank": "Effective rank", "retrieval": "Translation found (cosine)"}
    titles |= {"retrieval_centred": "Translation found, language means off"}
    for axis, (name, title) in zip([axes[0, 3], *axes[1]], titles.items(), strict=True):
        for code in document["before"][name]:
            style = {**style_of(codes.index(code)), "markersize": 4}
            axis.plot(layers, _gaps(document["before"][name][code]), linestyle="--", alpha=0.6, **style)
            axis.plot(layers, _gaps(document["after"][name][code]), label=code, **style)
        axis.set_title(title, loc="left", fontsize=10)
        axis.set_ylim(bottom=0)
        axis.legend(fontsize=7, ncols=2)
        if name.startswith("retrieval"):
            axis.axhline(document["chance"]["retrieval"], color="0.4", linestyle=":")
    held = document["held_out"]
    figure.suptitle(
        f"Dashed before, solid after training; trained layers shaded. {held['items']} prompts per language: "
        f"{held['text']}",
        fontsize=10,
    )
    return save_figure(figure, path)


def _pair_lines(axis: Any, document: Mapping[str, Any], measures: Mapping[str, str], title: str) -> None:
    for place, (name, words) in enumerate(measures.items()):
        style = {**style_of(place), "markersize": 4}
        axis.plot(document["layers"], _gaps(document["before"][name]), linestyle="--", alpha=0.6, **style)
        axis.plot(document["layers"], _gaps(document["after"][name]), label=words, **style)
    axis.set_ylim(0, 1.02)
    axis.set_title(title, loc="left", fontsize=10)
    axis.legend(fontsize=7)


def _gaps(values: Sequence[float | None]) -> list[float]:
    return [float("nan") if value is None else value for value in values]


def _draw_projection(document: Mapping[str, Any], path: Path) -> Path:
    figure, axes = new_figure(1, 2, 11, 5)
    projection = document["projection"]
    for axis, moment in zip(axes[0], ("before", "after"), strict=True):
        for place, code in enumerate(document["languages"]):
            points = projection[moment][code]
            style = {**style_of(place), "s": 16, "alpha": 0.75, "linewidths": 0}
            axis.scatter([point[0] for point in points], [point[1] for point in points], label=code, **style)
        axis.set_title(moment, loc="left")
        axis.set(xlabel=_axis_words(projection, 0), ylabel=_axis_words(projection, 1))
    axes[0, 1].sharex(axes[0, 0])
    axes[0, 1].sharey(axes[0, 0])
    for axis in axes[0]:
        axis.autoscale()
    axes[0, 0].legend(fontsize=8)
    held = document["held_out"]
    figure.suptitle(
        f"States at layer {projection['layer']} of {held['items']} prompts per language", fontsize=10
    )
    return save_figure(figure, path)


def _axis_words(projection: Mapping[str, Any], axis: int) -> str:
    share = projection["explained"][axis]
    return f"principal axis {axis + 1}" + ("" if share is None else f" ({100 * share:.0f}% of the variance)")
