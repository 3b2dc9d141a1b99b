"""What a trial knows of itself, wherever it is trained: its scores so far, its rows, its files."""

import math
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Self

import jax
import numpy as np

from rlcore.checkpoint import load_checkpoint, save_checkpoint
from rlcore.evaluate import Episodes
from rlcore.ppo.train import SegmentMetrics, TrainState
from rlcore.video import Recording, save_recording
from tuners.config import TrialConfig
from tuners.layout import RECORDING_FILE, STATE_FILE
from tuners.objectives import Objective
from tuners.programs import num_programs, parameters_of
from tuners.validate import Curves, best_seed, measure


@dataclass(frozen=True)
class Effort:
    """What a segment took.

    Attributes:
        wall_seconds: in the program.
        cpu_seconds: of this process meanwhile, shared among the trials that it trained.
        compile_seconds: before it, 0 if the program was there.
        slots: of the pack, 1 without one.
        live_slots: trials that the program trained.
    """

    wall_seconds: float
    cpu_seconds: float
    compile_seconds: float = 0.0
    slots: int = 1
    live_slots: int = 1


class Report(NamedTuple):
    """What a trial reports of a segment.

    Attributes:
        columns: means over seeds; None where a seed has no finite number.
        scores: one a seed; no number if it diverged.
        diverged: one a seed: whether a loss, weight or score is not finite.
    """

    columns: dict[str, float | None]
    scores: list[float]
    diverged: list[bool]


class Progress:
    """A configuration and its seeds, and how far their training has come.

    Attributes:
        config: what is trained.
        seeds: one a copy; together with the config they decide everything.
        objective: what the trial is judged by.
        fails_together: whether it diverges with the first of its seeds, as in the search, where its
            values are to blame, or with the last, as where each seed is one sample of many.
        end: env_steps, per seed, at which it is finished.
        env_steps: trained so far, per seed.
        parameters: that the next segment is trained with.
    """

    def __init__(
        self,
        config: TrialConfig,
        seeds: list[int],
        objective: Objective | None = None,
        until: int | None = None,
        fails_together: bool = True,
    ) -> None:
        """Begins at the beginning."""
        self.config = config
        self.seeds = seeds
        self.objective = objective or Objective()
        self.fails_together = fails_together
        self.end = config.full_length if until is None else until
        self.env_steps = 0
        self._scores: list[list[float]] = []  # of each seed, segment by segment
        self._diverged = [False] * len(seeds)
        self._now = config.at(0)
        self.parameters = parameters_of(self._now)

    @classmethod
    def from_entry(cls, entry: Mapping[str, Any]) -> Self:
        """Begins what ``tuners/run.py`` tells Tune of a job."""
        return cls(
            TrialConfig.from_dict(entry["config"]),
            entry["seeds"],
            Objective(*entry["objective"]),
            entry["until"],
            fails_together=entry["phase"] == "search",
        )

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to train."""
        return self.env_steps >= self.end

    def follow_schedule(self) -> bool:
        """Brings the parameters to where the schedule has them; returns whether any changed."""
        config = self.config.at(self.env_steps)
        changed = config != self._now
        if changed:
            self._now, self.parameters = config, parameters_of(config)
        return changed

    def take_in(self, report: Report, effort: Effort) -> dict[str, Any]:
        """Counts a segment; returns its row, as ``tuners/results.py`` describes it."""
        self.env_steps += self.config.ppo.steps_per_segment
        self._diverged = [a or b for a, b in zip(self._diverged, report.diverged, strict=True)]
        diverged = (any if self.fails_together else all)(self._diverged)
        scores = [
            0.0 if diverged or gone else score
            for score, gone in zip(report.scores, self._diverged, strict=True)
        ]
        self._scores.append(scores)
        trained = self.config.ppo.steps_per_segment * len(self.seeds)
        return {
            **report.columns,
            "segment": self.env_steps // self.config.ppo.steps_per_segment,
            "env_steps": self.env_steps,
            "simulation_steps": self.env_steps * self.config.ppo.action_repeat,
            "time": time.time(),
            "score": float(np.mean(scores)),
            **self._judge(diverged),
            "seed_scores": scores,
            "diverged": diverged,
            "steps_per_second": trained / effort.wall_seconds,
            **vars(effort),
            "worker": _worker(),
            "programs": num_programs(),
            "device": _device(),
            "done": diverged or self.finished,
        }

    def write_checkpoint(self, folder: Path, state: TrainState, episodes: Episodes | None) -> None:
        """Writes the state, and the last evaluation episodes of the best seed, into ``folder``."""
        metadata = {
            "config": self.config.to_dict(),
            "seeds": self.seeds,
            "env_steps": self.env_steps,
            "scores": self._scores,
            "diverged": self._diverged,
        }
        save_checkpoint(folder / STATE_FILE, state, metadata)
        if episodes is not None:
            save_recording(folder / RECORDING_FILE, self.recording_of_best(episodes))

    def read_checkpoint(self, folder: Path, template: TrainState) -> TrainState:
        """Returns the state that ``write_checkpoint`` wrote, and goes on from there.

        Raises:
            ValueError: the checkpoint is damaged or of another config.
        """
        state, metadata = load_checkpoint(folder / STATE_FILE, template)
        self.env_steps = metadata["env_steps"]
        self._scores, self._diverged = metadata["scores"], metadata["diverged"]
        return state

    def recording_of_best(self, episodes: Episodes) -> Recording:
        """Returns the episodes of the best seed as ``rlcore/video.py`` draws them."""
        best, _ = best_seed(self._scores)
        one = jax.tree.map(lambda leaf: leaf[best], episodes)
        return recording_of(self.parameters.task, one)

    def _judge(self, diverged: bool) -> dict[str, Any]:
        """Returns the columns of the final table as they stand now, and the objective.

        Of a trial that diverged, as they stand in the end, with a score of 0 from now on.
        """
        segment = self.config.ppo.steps_per_segment
        scores = np.transpose(self._scores)
        if diverged:
            left = max(0, self.config.num_segments - len(self._scores))
            scores = np.pad(scores, ((0, 0), (0, left)))
        curves = Curves(segment * np.arange(1, scores.shape[1] + 1), scores)
        measured = measure(curves)
        columns = {name: float(np.mean(values)) for name, values in measured.items()}
        if diverged and self.fails_together:
            floor = self.objective.floor(self.config.full_length, segment)
            return {**columns, "objective": floor, "seed_objectives": [floor] * len(self.seeds)}
        values = self.objective.of_seeds(measured)
        worst = self.objective.floor(int(curves.env_steps[-1]), segment)
        return {
            **columns,
            "objective": self.objective.over_seeds(values, worst),
            "seed_objectives": values.tolist(),
        }


def recording_of(task: Any, episodes: Episodes) -> Recording:
    """Returns one seed's evaluation episodes as ``rlcore/video.py`` draws them."""
    return Recording(
        states=np.asarray(episodes.states),
        actions=np.asarray(episodes.actions),
        score_rates=np.asarray(episodes.score_rates),
        lengths=np.asarray(episodes.lengths).astype(np.int64),
        dt=task.dt,
        rail=float(task.rail),
        pole_length=2.0 * float(task.half_length),
        captions=(task.start_names[0], task.start_names[1], task.start_names[1]),
    )


@cache
def _worker() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


@cache
def _device() -> str:
    return jax.devices()[0].device_kind


def reports_of(metrics: SegmentMetrics) -> list[Report]:
    """Returns what each trial reports of a segment.

    Args:
        metrics: of several trials, on the host: arrays [W, S, ...].
    """
    columns = _means_over_seeds(metrics)
    table = np.stack(list(columns.values()), axis=-1)
    rows = [[x if math.isfinite(x) else None for x in row] for row in table.tolist()]
    diverged = np.asarray(metrics.diverged) > 0
    scores = np.asarray(metrics.score.score).tolist()
    return [
        Report(dict(zip(columns, row, strict=True)), *rest)
        for row, *rest in zip(rows, scores, diverged.tolist(), strict=True)
    ]


def _means_over_seeds(metrics: SegmentMetrics) -> dict[str, np.ndarray]:
    """Returns a column for each metric that is one number a seed, and three for each term."""
    score = {f.name: getattr(metrics.score, f.name) for f in fields(metrics.score)}
    score.pop("score")
    numbers = {
        **score,
        **metrics.update._asdict(),
        "learning_rate": metrics.learning_rate,
        "explained_variance": metrics.explained_variance,
        "shaped_return": metrics.shaped_return,
        "training_episode_length": metrics.training_episode_length,
    }
    columns = {name: np.mean(values, axis=-1) for name, values in numbers.items()}
    # A seed whose episodes all had one length, or one return, has none: it says nothing.
    correlation = np.ma.masked_invalid(metrics.return_score_correlation)
    columns["return_score_correlation"] = correlation.mean(axis=-1).filled(np.nan)
    for name, values in metrics.terms.items():
        columns[f"term_{name}_mean"] = np.mean(values[..., 0], axis=-1)
        columns[f"term_{name}_min"] = np.min(values[..., 1], axis=-1)
        columns[f"term_{name}_max"] = np.max(values[..., 2], axis=-1)
    return columns
