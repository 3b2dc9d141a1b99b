"""Population based training (Jaderberg et al. 2017) as a plan, in whole generations.

A generation trains every member for ``grace_period`` env_steps.  Then the worst quarter goes on
from the checkpoints of members drawn from the best quarter, with their values moved a little.  What
comes out is a schedule: which values held from which env_steps on.  Finalists train it again from
the beginning, on fresh seeds, as any configuration.

All that is drawn follows from sweep seed, generation and member, so a resume draws the same.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from tuners.config import TrialConfig, route, value_of
from tuners.job_names import (
    FIRST_TRIAL,
    is_trial,
    member_name,
    split_member,
    trial_name,
    trial_number,
)
from tuners.objectives import Outcome
from tuners.phases import BASELINE, Job, NextJob, Plan
from tuners.spec import SweepSpec

QUARTER = 4
STEP = 0.2  # standard deviation of a move, as a share of the range
REDRAWN = 0.25  # share of choices that are drawn anew


class PopulationPlan(Plan):
    """Trains a population of ``num_trials`` members; the first begins as the baseline."""

    def __init__(self, spec: SweepSpec) -> None:
        """Begins a sweep."""
        super().__init__(spec)
        self.generations = -(-spec.base.full_length // spec.grace_period)
        self._families: dict[str, tuple[str | None, dict[str, Any]]] = {}

    def config_of(self, row: str) -> TrialConfig:
        """Returns the configuration a row trains: for a member, its schedule to the end."""
        if is_trial(row):
            return self._config(member_name(row, self.generations - 1))
        return super().config_of(row)

    def searched(self, row: str) -> Outcome:
        """Returns how a row ended the search.

        No member trained the baseline to the end once the first took over from another: then its
        objective is NaN.
        """
        member = FIRST_TRIAL if row == BASELINE else row
        outcome = self.outcomes[member_name(member, self.generations - 1)]
        if row == BASELINE and self._took_over(member):
            return replace(outcome, objective=math.nan)
        return outcome

    def _make_job(self, chosen: NextJob) -> Job:
        if chosen.phase != "search":
            return super()._make_job(chosen)
        _, generation = split_member(chosen.name)
        interval, full = self.spec.grace_period, self.spec.base.full_length
        return Job(
            *chosen,
            config=self._config(chosen.name),
            parent=self._family(chosen.name)[0],
            until=min(full, (generation + 1) * interval),
        )

    def _tell(self, name: str, outcome: Outcome) -> None:
        """The searcher draws the first generation and learns nothing."""

    def _remember(self, jobs: list[Job]) -> None:
        """Nor does it need to be told of an earlier run."""

    def _search_names(self) -> Iterator[str]:
        for generation in range(self.generations):
            names = self._generation(generation)
            yield from names
            if not self._all_ended(names):
                return

    def _searches(self) -> Iterator[NextJob]:
        seeds = tuple(self.spec.seeds("search"))
        for name in self._search_names():
            yield NextJob(name, "search", split_member(name)[0], seeds)

    @property
    def num_search_jobs(self) -> int:
        """Jobs of the search when it has ended."""
        return self.spec.num_trials * self.generations

    def _ranked(self) -> list[str]:
        last = self._generation(self.generations - 1)
        rows = [split_member(name)[0] for name in self._best_first(last)]
        first = FIRST_TRIAL  # the baseline itself, as long as it took nothing over
        return [row for row in rows if row != first or self._took_over(row)]

    def _search_ended(self) -> bool:
        return self._all_ended(self._generation(self.generations - 1))

    def _generation(self, number: int) -> list[str]:
        return [member_name(trial_name(i), number) for i in range(self.spec.num_trials)]

    def _best_first(self, names: list[str]) -> list[str]:
        """Returns those that reached the end of their generation, the best first."""
        ends = {name: self.outcomes[name] for name in names}
        whole = [name for name, outcome in ends.items() if outcome.stop_reason == "budget"]
        return sorted(whole, key=lambda name: ends[name].rank)

    def _config(self, name: str) -> TrialConfig:
        """Returns the schedule that ended in this member of a generation."""
        stages = [self._family(member)[1] for member in self._line(name)]
        changes = [
            (
                number * self.spec.grace_period,
                {name: value for name, value in stage.items() if self._moves(name)},
            )
            for number, stage in enumerate(stages)
            if number > 0 and stage != stages[number - 1]
        ]
        return replace(self.spec.base.with_values(stages[0]), schedule=tuple(changes))

    def _line(self, name: str) -> list[str]:
        """Returns whom a member goes on from, the first of all at the front, and the member."""
        line = [name]
        while (parent := self._family(line[0])[0]) is not None:
            line.insert(0, parent)
        return line

    def _took_over(self, row: str) -> bool:
        """Returns whether a row goes on from another's checkpoint, in any generation."""
        line = self._line(member_name(row, self.generations - 1))
        return any(split_member(name)[0] != row for name in line)

    def _family(self, name: str) -> tuple[str | None, dict[str, Any]]:
        """Returns whose checkpoint a member goes on from, and its values."""
        if name not in self._families:
            self._families[name] = self._descend(name)
        return self._families[name]

    def _descend(self, name: str) -> tuple[str | None, dict[str, Any]]:
        row, generation = split_member(name)
        number = trial_number(row)
        if generation == 0:
            if number > 0:
                return None, self._searcher.suggest(number)
            return None, {name: value_of(self.spec.base, name) for name in self.spec.space}
        before = self._generation(generation - 1)
        ranked = self._best_first(before)
        own = member_name(row, generation - 1)
        count = max(1, len(before) // QUARTER)
        if not ranked or own in ranked[: len(before) - count]:
            return own, self._family(own)[1]
        generator = np.random.default_rng([self.spec.seed, number, generation])
        parent = ranked[int(generator.integers(min(count, len(ranked))))]
        return parent, self._moved(self._family(parent)[1], generator)

    def _moved(self, values: Mapping[str, Any], generator: np.random.Generator) -> dict[str, Any]:
        space = self.spec.space
        return {
            name: space[name].moved(values[name], STEP, REDRAWN, generator)
            if self._moves(name)
            else values[name]
            for name in sorted(values)
        }

    def _moves(self, name: str) -> bool:
        """Returns whether a parameter may change while a trial trains: not what acts once."""
        where = route(self.spec.base.task, name)
        return where in ("hyperparameter", "reward") and name != "init_log_std"
