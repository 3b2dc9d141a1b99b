"""What trials are judged by: one number made of the scores of a trial's seeds over training.

Every objective is a column of the final table, so a search looks for what the test will measure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tuners.validate import COLUMNS, THRESHOLD, Curves, Values, measure

PARETO = "pareto"
OBJECTIVES = (*COLUMNS, PARETO)


@dataclass(frozen=True)
class Objective:
    """How a trial's curves become one number; higher is better.

    Attributes:
        name: ``final_score`` (mean of the last evaluations), ``area`` (mean of all: it rises with
            the score reached as with reaching it soon), ``steps_to_threshold`` (its negative, in
            million env_steps) or ``pareto``: final score and steps at once.  Searcher and finalists
            go by both; where one number is needed, the area stands for them.
        spread_penalty: how many standard deviations over seeds are taken off their mean.
    """

    name: str = "area"
    spread_penalty: float = 0.0

    def value(self, curves: Curves) -> float:
        """Returns the objective of a trial that has got as far as ``curves``.

        However far apart its seeds are, it is no worse than to have learned nothing.
        """
        worst = self.floor(int(curves.env_steps[-1]), int(curves.env_steps[0]))
        return self.over_seeds(self.of_seeds(measure(curves)), worst)

    def of_seeds(self, measured: Mapping[str, Values]) -> Values:
        """Returns, of what ``measure`` says, one number a seed; higher is better."""
        return self._sign * measured[self.column]

    def over_seeds(self, values: Sequence[float] | Values, worst: float) -> float:
        """Returns the objective of all seeds together, no lower than ``worst``."""
        spread = np.std(values, ddof=1) if len(values) > 1 else 0.0
        return max(float(np.mean(values) - self.spread_penalty * spread), worst)

    def floor(self, full_length: int, segment: int) -> float:
        """Returns the objective of a trial that failed: that of one that learned nothing.

        Args:
            full_length: env_steps of a whole trial, per seed.
            segment: env_steps of a segment, per seed.
        """
        return 0.0 if self._sign > 0 else -(full_length + segment) / 1e6

    @property
    def title(self) -> str:
        """What a person reads for it."""
        title = COLUMNS[self.column].title
        if self.name == "steps_to_threshold":
            title = f"minus steps to {THRESHOLD:.0f} (M)"
        return f"{title} − {self.spread_penalty:g} std" if self.spread_penalty else title

    @property
    def rung_column(self) -> str:
        """The column of a report by which schedulers compare trials.

        Steps to the threshold are the same for all who are below it: there it is the area.
        """
        return "area" if self.name == "steps_to_threshold" else "objective"

    @property
    def column(self) -> str:
        """The column of the final table that it is made of."""
        return "area" if self.name == PARETO else self.name

    @property
    def _sign(self) -> float:
        return 1.0 if COLUMNS[self.column].higher_is_better else -1.0


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        objective: of its last report, or the floor if it failed.
        seed_objectives: the same for each seed; empty if it failed.
        stop_reason: ``budget``, ``diverged``, ``error``, or the scheduler that stopped it.
        env_steps: trained, per seed.
        final_score: of its last report.
        steps_to_threshold: of its last report, in million env_steps.
    """

    objective: float
    stop_reason: str
    env_steps: int = 0
    final_score: float = 0.0
    steps_to_threshold: float = 0.0
    seed_objectives: tuple[float, ...] = ()

    @classmethod
    def from_row(cls, row: Mapping[str, Any], stop_reason: str) -> "Outcome":
        """Returns the outcome of a job from its last report or its row in the trials table."""
        return cls(
            objective=float(row["objective"] or 0.0),
            stop_reason=stop_reason,
            env_steps=row.get("env_steps") or 0,
            final_score=row.get("final_score") or 0.0,
            steps_to_threshold=row.get("steps_to_threshold") or 0.0,
            seed_objectives=tuple(row.get("seed_objectives") or ()),
        )

    @property
    def rank(self) -> tuple[float, float]:
        """Sorts trials, the best first: where none gets above the threshold, by final score."""
        return -self.objective, -self.final_score


def objective_text(value: float) -> str:
    """Returns an objective as a person reads it: a score whole, million env_steps with decimals."""
    return f"{value:.0f}" if abs(value) >= 10 else f"{value:.2f}"


def gap_text(value: float) -> str:
    """Returns a difference of objectives as a person reads it, with its sign."""
    return f"{value:+.0f}" if abs(value) >= 10 else f"{value:+.2f}"


def ranked(outcomes: Mapping[str, Outcome], objective: str) -> list[str]:
    """Returns rows, the best first; equally good ones stay in their order."""
    fronts = pareto_ranks(outcomes) if objective == PARETO else dict.fromkeys(outcomes, 0)
    return sorted(outcomes, key=lambda row: (fronts[row], outcomes[row].rank))


def pareto_ranks(outcomes: Mapping[str, Outcome]) -> dict[str, int]:
    """Returns the front each row lies on: 0 for those that no other beats in both columns."""
    left = {row: (-o.final_score, o.steps_to_threshold) for row, o in outcomes.items()}
    ranks: dict[str, int] = {}
    rank = 0
    while left:
        best = first_front(left)
        ranks |= dict.fromkeys(best, rank)
        left = {row: point for row, point in left.items() if row not in ranks}
        rank += 1
    return ranks


def first_front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Returns the names of the points that no other is below in both parts; equal ones are."""
    front: list[str] = []
    for row in sorted(points, key=lambda row: points[row]):
        last = points[front[-1]] if front else (0.0, np.inf)
        if points[row][1] < last[1] or points[row] == last:
            front.append(row)
    return front
