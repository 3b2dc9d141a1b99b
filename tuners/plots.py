"""The sweep's figures as PNG files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from rlcore.files import replacing
from rlcore.tasks import TASKS
from tuners.validate import THRESHOLD, gather_curves, interquartile_mean

_COLORS = {"asha": "#b9c2cc", "budget": "#2f6f9f", "diverged": "#c0392b", "error": "#c0392b"}
_ROW_COLORS = ("#2f6f9f", "#d9822b", "#c0392b", "#4f9d69", "#8e5ea2")


def plot_test(
    path: Path,
    trials: Sequence[dict[str, Any]],
    segments: Sequence[dict[str, Any]],
    rows: Sequence[str],
) -> None:
    """Draws the test's learning curves: the interquartile mean of a row, each seed faintly."""
    curves = gather_curves(trials, segments, "test")
    figure, axes = plt.subplots(figsize=(8, 4.5))
    axes.axhline(THRESHOLD, color="#999999", linewidth=0.8, linestyle=":")
    for row, color in zip((row for row in rows if row in curves), _ROW_COLORS, strict=False):
        steps = curves[row].env_steps / 1e6
        for seed in curves[row].scores:
            axes.plot(steps, seed, color=color, alpha=0.18, linewidth=0.8)
        middle = interquartile_mean(curves[row].scores.T)
        axes.plot(steps, middle, color=color, linewidth=2.2, label=row)
    axes.set(xlabel="million env_steps per seed", ylabel="score", ylim=(0, 1000))
    axes.set_title("Test: interquartile mean over fresh seeds", loc="left")
    axes.legend(frameon=False, loc="lower right")
    _save(figure, path)


def plot_search(
    path: Path, trials: Sequence[dict[str, Any]], segments: Sequence[dict[str, Any]]
) -> None:
    """Draws the search: a line a trial, coloured by how it ended."""
    reasons = {t["trial"]: t["stop_reason"] for t in trials if t["phase"] == "search"}
    figure, axes = plt.subplots(figsize=(8, 4.5))
    seen: set[str] = set()
    for name, reason in reasons.items():
        rows = [row for row in segments if row["trial"] == name]
        steps = np.array([row["env_steps"] for row in rows]) / 1e6
        label = reason if reason not in seen else None
        seen.add(reason or "")
        color = _COLORS.get(reason or "", "#444444")
        axes.plot(
            steps, [row["objective"] for row in rows], color=color, linewidth=1.2, label=label
        )
    axes.set(xlabel="million env_steps per seed", ylabel="objective", ylim=(0, 1000))
    axes.set_title("Search: every trial, by what ended it", loc="left")
    axes.legend(frameon=False, loc="upper left")
    _save(figure, path)


def plot_shapes(
    path: Path,
    trials: Sequence[dict[str, Any]],
    segments: Sequence[dict[str, Any]],
    shapes: Sequence[str],
    task: str,
) -> None:
    """Draws how long episodes get under each shape, and each shape's return against that.

    Left: the mean over seeds, each seed faintly.  Right: a dot a segment, the shaped return over
    its largest; a shape that agrees with the score rises to the right.
    """
    horizon = TASKS[task].horizon
    rows_of = {t["trial"]: t["row"] for t in trials}
    curves = gather_curves(trials, segments, "test")
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5))
    for shape, color in zip((s for s in shapes if s in curves), _ROW_COLORS, strict=False):
        steps, lengths = curves[shape].env_steps / 1e6, curves[shape].scores * horizon / 1000.0
        left.plot(steps, lengths.T, color=color, alpha=0.25, linewidth=0.8)
        left.plot(steps, lengths.mean(axis=0), color=color, linewidth=2.2, label=shape)
        dots = [
            (row["episode_length"], row["shaped_return"])
            for row in segments
            if rows_of[row["trial"]] == shape and row["shaped_return"] is not None
        ]
        length, shaped = np.array(dots).reshape(-1, 2).T
        largest = np.max(np.abs(shaped), initial=1e-9)
        right.plot(length, shaped / largest, ".", color=color, alpha=0.7, label=shape)
    left.set(xlabel="million env_steps per seed", ylabel="episode length", ylim=(0, 1.04 * horizon))
    left.set_title("What it learns to do", loc="left")
    left.legend(frameon=False, loc="lower right")
    right.set(xlabel="episode length", ylabel="shaped return / its largest")
    right.set_title("What it is paid", loc="left")
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    try:
        with replacing(path) as beside:
            figure.savefig(beside, format="png", dpi=120)
    finally:
        plt.close(figure)
