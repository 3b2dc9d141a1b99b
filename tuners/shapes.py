"""Several named reward shapes of a task, trained alike and laid side by side."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from rlcore.files import replacing
from rlcore.rewards import SHAPES
from rlcore.tasks import TASKS
from tuners.config import TrialConfig
from tuners.console import SweepConsole
from tuners.layout import PLOTS_FOLDER, SHAPES_FILE
from tuners.media import MediaQueue
from tuners.phases import NextJob, Plan
from tuners.report.png_charts import plot_shapes
from tuners.results import read_segments, read_trials
from tuners.run import Ran, run_jobs
from tuners.spec import SweepSpec
from tuners.validate import FINAL_WINDOW, gather_curves

PHASE = "test"
PLOT = "shapes.png"


class ShapesPlan(Plan):
    """Each shape on the same seeds to the end of its budget; nothing is searched."""

    def __init__(self, spec: SweepSpec, shapes: Sequence[str]) -> None:
        """Trains ``shapes``, names in the task's table."""
        super().__init__(spec)
        self.shapes = tuple(shapes)

    @property
    def winner(self) -> str | None:
        """None: shapes are compared, none is chosen."""
        return None

    def config_of(self, row: str) -> TrialConfig:
        """Returns the configuration of the shape called ``row``."""
        return replace(self.spec.base, reward=dict(SHAPES[self.spec.base.task][row]))

    def expected_env_steps(self) -> int:
        """Returns the environment steps of all shapes and seeds."""
        return len(self.shapes) * self.spec.test_seeds * self.spec.base.full_length

    def _candidates(self) -> Iterator[NextJob]:
        for shape in self.shapes:
            yield from self._batches(PHASE, shape)


class ShapesConsole(SweepConsole):
    """A live line a shape."""

    def _phase(self) -> str:
        return f"shapes, {len(self._plan.outcomes)} of {len(list(self._plan._candidates()))} trials"

    def _ranked(self) -> list[dict[str, Any]]:
        return sorted(self._latest.values(), key=lambda row: -row["objective"])

    def _best_table(self) -> Table:
        table = Table(box=None, padding=(0, 2), header_style="dim")
        for title in ("shape", "score", "episode length", "shaped return", "env_steps"):
            table.add_column(title, justify="left" if title == "shape" else "right")
        for row in list(self._latest.values()):
            shaped = row["shaped_return"]
            table.add_row(
                self._plan.jobs[row["trial"]].row,
                f"{row['score']:.0f}",
                f"{row['episode_length']:.0f}",
                "-" if shaped is None else f"{shaped:.1f}",
                f"{row['env_steps']:,}",
            )
        return table


@dataclass(frozen=True)
class ShapeSummary:
    """What training by one shape led to.

    Attributes:
        shape: its name.
        episode_length: simulation steps at the end of training, mean over seeds.
        shortest: of the worst seed.
        longest: of the best seed.
        shaped_return: at the end, in the shape's own currency.
        agreement: correlation of shaped return with score over training episodes, mean over
            segments and seeds; None where either never varied.
    """

    shape: str
    episode_length: float
    shortest: float
    longest: float
    shaped_return: float | None
    agreement: float | None


def run_shapes(
    spec: SweepSpec,
    shapes: Sequence[str],
    *,
    console: Console,
    videos: bool,
    address: str | None = None,
) -> tuple[list[ShapeSummary], Ran]:
    """Trains the shapes and returns what each led to, and how it went.

    Writes ``shapes.json`` and a plot beside the tables of a sweep.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    plan = ShapesPlan(spec, shapes)
    summaries: list[ShapeSummary] = []

    def conclude(media: MediaQueue, screen: SweepConsole) -> list[str]:
        trials, segments = read_trials(spec.folder), read_segments(spec.folder)
        summaries.extend(summarise(trials, segments, shapes, TASKS[spec.base.task].horizon))
        with replacing(spec.folder / SHAPES_FILE) as beside:
            beside.write_text(json.dumps([asdict(summary) for summary in summaries], indent=2))
        screen.note("drawing")
        plot_shapes(plot_path(spec.folder), trials, segments, shapes, spec.base.task)
        return media.wait(timeout=120.0)

    ran = run_jobs(
        spec,
        plan,
        ShapesConsole(plan, console),
        address,
        lambda trial: videos,
        conclude,
    )
    return summaries, ran


def summarise(
    trials: Iterable[dict[str, Any]],
    segments: Sequence[dict[str, Any]],
    shapes: Sequence[str],
    horizon: int,
) -> list[ShapeSummary]:
    """Returns a summary a shape, in the order of ``shapes``; one that failed is left out."""
    trials = list(trials)
    curves = gather_curves(trials, segments, PHASE)
    summaries = []
    for shape in shapes:
        if shape not in curves:
            continue
        lengths = curves[shape].scores[:, -FINAL_WINDOW:].mean(axis=1) * horizon / 1000.0
        names = {trial["trial"] for trial in trials if trial["row"] == shape}
        rows = [row for row in segments if row["trial"] in names]
        last = max(row["env_steps"] for row in rows)
        summaries.append(
            ShapeSummary(
                shape=shape,
                episode_length=float(np.mean(lengths)),
                shortest=float(np.min(lengths)),
                longest=float(np.max(lengths)),
                shaped_return=_mean(r["shaped_return"] for r in rows if r["env_steps"] == last),
                agreement=_mean(row["return_score_correlation"] for row in rows),
            )
        )
    return summaries


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def plot_path(folder: Path) -> Path:
    """Returns where the plot of a finished run lies."""
    return folder / PLOTS_FOLDER / PLOT
