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
from tuners.validate import THRESHOLD, gather_curves, interquartile_mean

_COLORS = {"asha": "#b9c2cc", "budget": "#2f6f9f", "diverged": "#c0392b", "error": "#c0392b"}
_ROW_COLORS = ("#2f6f9f", "#d9822b", "#4f9d69", "#8e5ea2")


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


def _save(figure: Figure, path: Path) -> None:
    figure.axes[0].spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    try:
        with replacing(path) as beside:
            figure.savefig(beside, format="png", dpi=120)
    finally:
        plt.close(figure)
