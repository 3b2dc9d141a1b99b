"""The sweep's figures as PNG files."""

import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ["MPLBACKEND"] = "Agg"  # a notebook names one that is not installed here

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from rlcore.files import replacing
from rlcore.tasks import TASKS
from tuners.report.charts import (
    DARK,
    GREY,
    ROW_COLORS,
    SCALE,
    Bars,
    Chart,
    Dots,
    Interval,
    Line,
    Mark,
    Panel,
    Parallel,
)
from tuners.validate import gather_curves

_INCHES_A_PIXEL = 0.01
_WIDTH = 8.0  # inches; at 120 dots each
_ABOVE, _BELOW = 0.4, 0.35  # inches for the title, and for a legend


def draw_chart(path: Path, chart: Chart) -> None:
    """Draws a chart as a PNG file."""
    columns = min(chart.columns, len(chart.panels))
    rows = -(-len(chart.panels) // columns)
    height = _INCHES_A_PIXEL * chart.row_height * rows + _ABOVE + _BELOW
    figure, grid = plt.subplots(
        rows, columns, figsize=(max(_WIDTH, 3.0 * columns), height), squeeze=False
    )
    for axes, panel in zip(grid.flat, chart.panels, strict=False):
        _draw_panel(axes, panel)
    for axes in grid.flat[len(chart.panels) :]:
        axes.set_axis_off()
    title = textwrap.fill(chart.title, 110)
    figure.suptitle(title, x=0.01, y=1.0 - 0.1 / height, ha="left", va="top", fontsize=11)
    labels: dict[str, Any] = {}
    for axes in grid.flat:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            labels.setdefault(label, handle)
    if labels:
        figure.legend(
            labels.values(),
            labels.keys(),
            frameon=False,
            loc="lower left",
            ncols=5,
            fontsize=8,
            bbox_to_anchor=(0.0, 0.0),
        )
    _lay_out(figure, rows, columns, has_legend=bool(labels))
    _write(figure, path)


def _lay_out(figure: Figure, rows: int, columns: int, *, has_legend: bool) -> None:
    """Puts the axes between title and legend."""
    width, height = figure.get_size_inches()
    below = _BELOW if has_legend else 0.0
    if rows == 1:
        figure.tight_layout(rect=(0.0, below / height, 1.0, 1.0 - _ABOVE / height))
        return
    # Many panels have short labels, and tight_layout takes seconds to measure them.
    figure.subplots_adjust(
        left=0.7 / width,
        right=1.0 - 0.15 / width,
        top=1.0 - (_ABOVE + 0.3) / height,
        bottom=(below + 0.5) / height,
        wspace=0.5 * columns / (width - 0.5 * columns),
        hspace=0.45,
    )


def _draw_panel(axes: Axes, panel: Panel) -> None:
    for mark in panel.marks:
        _draw_mark(axes, mark)
    axes.set_title(panel.title, loc="left", fontsize=9, fontweight="bold")
    axes.set_xlabel(panel.x_title, fontsize=9)
    axes.set_ylabel(panel.y_title, fontsize=9)
    axes.tick_params(labelsize=8)
    if panel.is_log:
        axes.set_xscale("log")
    if panel.x_range is not None:
        axes.set_xlim(*panel.x_range)
    if panel.y_range is not None:
        axes.set_ylim(*panel.y_range)
    for ticks, set_ticks in ((panel.x_ticks, axes.set_xticks), (panel.y_ticks, axes.set_yticks)):
        if ticks is not None:
            axes.minorticks_off()
            set_ticks([at for at, _ in ticks], [text for _, text in ticks])


def _draw_mark(axes: Axes, mark: Mark) -> None:
    if isinstance(mark, Line):
        style = ":" if mark.is_dashed else "-"
        dot = "." if len(mark.x) == 1 else ""  # a line of one point could not be seen
        axes.plot(
            mark.x,
            mark.y,
            linestyle=style,
            marker=dot,
            color=mark.color,
            linewidth=0.8 if mark.is_faint else mark.width,
            alpha=0.2 if mark.is_faint else 1.0,
            label=None if mark.is_faint else mark.label,
        )
    elif isinstance(mark, Dots):
        axes.scatter(
            mark.x,
            mark.y,
            s=(0.8 * mark.size) ** 2,
            marker="D" if mark.is_diamond else "o",
            facecolor="none" if mark.is_hollow else mark.color,
            edgecolor=mark.color if mark.is_hollow else "white",
            linewidth=0.8,
            alpha=mark.opacity,
            label=mark.label,
            zorder=3,
        )
    elif isinstance(mark, Interval):
        axes.plot([mark.low, mark.high], [mark.y, mark.y], color=mark.color, linewidth=2.5)
    elif isinstance(mark, Bars):
        axes.barh(mark.y, mark.lengths, color=mark.color, height=0.6)
    else:
        _draw_parallel(axes, mark)


def _draw_parallel(axes: Axes, mark: Parallel) -> None:
    """Draws a line a value over upright axes; the best lie on top."""
    values = np.asarray(mark.values)
    colors = LinearSegmentedColormap.from_list("score", SCALE)
    norm = Normalize(values.min(), values.max() if np.ptp(values) else values.min() + 1.0)
    places = range(len(mark.axes))
    for index in np.argsort(values):
        shares = [axis.shares[index] for axis in mark.axes]
        axes.plot(places, shares, color=colors(norm(values[index])), linewidth=1.2)
    for place, axis in zip(places, mark.axes, strict=True):
        axes.axvline(place, color=GREY, linewidth=0.6)
        for at, text in axis.ticks:
            box = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.8}
            axes.annotate(
                text, (place, at), fontsize=6, color=DARK, ha="right", va="center", bbox=box
            )
    axes.set_xticks(places, [axis.title for axis in mark.axes], rotation=30, ha="right")
    axes.set_yticks([])
    axes.spines[["left", "bottom"]].set_visible(False)
    colorbar = axes.figure.colorbar(ScalarMappable(norm, colors), ax=axes, pad=0.02)
    colorbar.set_label(mark.values_title, fontsize=9)


def plot_shapes(
    path: Path,
    trials: Sequence[dict[str, Any]],
    segments: Sequence[dict[str, Any]],
    shapes: Sequence[str],
    task: str,
) -> None:
    """Draws how long episodes get under each shape, and each shape's return against that.

    Left: the mean over seeds, each seed faintly.  Right: a dot a segment, of the episodes trained
    in it: the shaped return over its largest; a shape that agrees with the score rises to the
    right.
    """
    horizon = TASKS[task].horizon
    rows_of = {t["trial"]: t["row"] for t in trials}
    curves = gather_curves(trials, segments, "test")
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5))
    for shape, color in zip((s for s in shapes if s in curves), ROW_COLORS, strict=False):
        steps, lengths = curves[shape].env_steps / 1e6, curves[shape].scores * horizon / 1000.0
        left.plot(steps, lengths.T, color=color, alpha=0.25, linewidth=0.8)
        left.plot(steps, lengths.mean(axis=0), color=color, linewidth=2.2, label=shape)
        dots = [
            (row["training_episode_length"], row["shaped_return"])
            for row in segments
            if rows_of[row["trial"]] == shape and row["shaped_return"] is not None
        ]
        length, shaped = np.array(dots).reshape(-1, 2).T
        largest = np.max(np.abs(shaped), initial=1e-9)
        right.plot(length, shaped / largest, ".", color=color, alpha=0.7, label=shape)
    left.set(xlabel="million env_steps per seed", ylabel="episode length", ylim=(0, 1.04 * horizon))
    left.set_title("What it learns to do", loc="left")
    left.legend(frameon=False, loc="lower right")
    right.set(xlabel="episode length in training", ylabel="shaped return / its largest")
    right.set_title("What it is paid", loc="left")
    figure.tight_layout()
    _write(figure, path)


def _write(figure: Figure, path: Path) -> None:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    try:
        with replacing(path) as beside:
            figure.savefig(beside, format="png", dpi=120)
    finally:
        plt.close(figure)
