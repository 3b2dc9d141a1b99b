"""The order of a sweep's jobs: search, validation on fresh seeds, test on others.

All three phases are jobs of one Tune run, so workers and their compiled programs serve them all.
Jobs of the test that depend on nothing (baseline, "the score as reward") fill the gaps in which a
phase waits for its last job.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from rlcore.rewards import SHAPES
from tuners.config import TrialConfig, value_of
from tuners.objectives import PARETO, Outcome, pareto_ranks
from tuners.searchers import SEARCHERS
from tuners.spec import SweepSpec

BASELINE = "baseline"
TASK_SCORE = "task_score"


@dataclass(frozen=True)
class Job:
    """One Tune trial: a configuration, and the seeds to train it on.

    Attributes:
        name: unique in the sweep; says phase, row and batch.
        phase: ``search``, ``validation`` or ``test``.
        row: the configuration's name: ``baseline``, ``task_score`` or ``trial-<number>``.
        seeds: trained side by side.
        config: what is trained.
    """

    name: str
    phase: str
    row: str
    seeds: tuple[int, ...]
    config: TrialConfig


class _Next(NamedTuple):
    """A job before its config is asked for: a searcher is asked as late as can be."""

    name: str
    phase: str
    row: str
    seeds: tuple[int, ...]


class Plan:
    """Hands out jobs in order, and learns how they ended.

    It holds no state that the trials table does not: ``restore`` brings it back from there.
    """

    def __init__(self, spec: SweepSpec) -> None:
        """Begins a sweep."""
        self.spec = spec
        self.jobs: dict[str, Job] = {}
        self.outcomes: dict[str, Outcome] = {}
        self._unfinished: deque[Job] = deque()
        self._searcher = SEARCHERS[spec.searcher](spec)

    def restore(self, ended: Iterable[tuple[Job, Outcome]], unfinished: Iterable[Job]) -> None:
        """Takes in the jobs of an earlier run; the unfinished ones are handed out first."""
        ended, unfinished = list(ended), list(unfinished)
        self._searcher.restore(
            {
                number: {name: value_of(job.config, name) for name in self.spec.space}
                for job in (*(job for job, _ in ended), *unfinished)
                if job.phase == "search" and (number := trial_number(job.name)) > 0
            }
        )
        for job, outcome in ended:
            self.jobs[job.name] = job
            self.end(job.name, outcome)
        self._unfinished.extend(unfinished)

    def next_job(self) -> Job | None:
        """Returns the next job, or None if none can be told before a running one ends."""
        if self._unfinished:
            job = self._unfinished.popleft()
        elif (chosen := self._next_new()) is not None:
            job = Job(*chosen, config=self.config_of(chosen.row))
        else:
            return None
        self.jobs[job.name] = job
        return job

    def end(self, name: str, outcome: Outcome) -> None:
        """Takes in how a job ended."""
        self.outcomes[name] = outcome
        if self.jobs[name].phase == "search":
            self._searcher.tell(trial_number(name), outcome)

    @property
    def finished(self) -> bool:
        """Whether every job of the sweep has ended."""
        if self._unfinished or not self._all_ended(self.jobs):
            return False
        return self._next_new() is None

    @property
    def finalists(self) -> list[str] | None:
        """Rows of the best configurations trained in full, or None before the search ended.

        The baseline is not among them: it is validated in any case.
        """
        if not self._all_ended(self._search_names()):
            return None
        full = {
            self.jobs[name].row: outcome
            for name, outcome in self.outcomes.items()
            if self.jobs[name].phase == "search" and outcome.stop_reason == "budget"
        }
        full.pop(BASELINE, None)
        fronts = pareto_ranks(full) if self.spec.objective == PARETO else dict.fromkeys(full, 0)
        ranked = sorted(full, key=lambda row: (fronts[row], -full[row].objective, row))
        return ranked[: self.spec.num_finalists]

    @property
    def validation(self) -> dict[str, float] | None:
        """Mean objective by row, best first, or None before the validation ended."""
        finalists = self.finalists
        if finalists is None:
            return None
        means = {}
        for row in (BASELINE, *finalists):
            names = [batch.name for batch in self._batches("validation", row)]
            if not self._all_ended(names):
                return None
            means[row] = float(np.mean([self.outcomes[name].objective for name in names]))
        return dict(sorted(means.items(), key=lambda item: -item[1]))

    @property
    def winner(self) -> str | None:
        """The row that is best by validation, or None before it ended."""
        validation = self.validation
        return next(iter(validation)) if validation is not None else None

    def expected_env_steps(self) -> int:
        """Returns an upper bound of the environment steps of the whole sweep, all seeds counted."""
        spec = self.spec
        seeds = (
            spec.num_trials * spec.base.ppo.seeds_per_trial
            + (1 + spec.num_finalists) * spec.validation_seeds
            + 3 * spec.test_seeds
        )
        return seeds * spec.base.full_length

    def config_of(self, row: str) -> TrialConfig:
        """Returns the configuration a row trains."""
        if row == BASELINE:
            return self.spec.base
        if row == TASK_SCORE:
            return replace(self.spec.base, reward=dict(SHAPES[self.spec.base.task][TASK_SCORE]))
        if row in self.jobs:
            return self.jobs[row].config
        return self.spec.base.with_values(self._searcher.suggest(trial_number(row)))

    def _next_new(self) -> _Next | None:
        return next((job for job in self._candidates() if job.name not in self.jobs), None)

    def _candidates(self) -> Iterator[_Next]:
        """Yields every job that could run now, the most urgent first."""
        seeds = tuple(self.spec.seeds("search"))
        for number, name in enumerate(self._search_names()):
            yield _Next(name, "search", BASELINE if number == 0 else name, seeds)
        finalists = self.finalists
        for row in finalists or ():
            yield from self._batches("validation", row)
        if finalists is not None:
            yield from self._batches("validation", BASELINE)
        winner = self.winner
        if winner is not None:
            yield from self._batches("test", winner)
        yield from self._batches("test", TASK_SCORE)
        yield from self._batches("test", BASELINE)
        yield from self._batches("validation", BASELINE)

    def _search_names(self) -> Iterator[str]:
        return (trial_name(number) for number in range(self.spec.num_trials))

    def _batches(self, phase: str, row: str) -> Iterator[_Next]:
        seeds = self.spec.seeds(phase)
        size = self.spec.base.ppo.seeds_per_trial
        for batch, start in enumerate(range(0, len(seeds), size)):
            yield _Next(job_name(phase, row, batch), phase, row, tuple(seeds[start : start + size]))

    def _all_ended(self, names: Iterable[str]) -> bool:
        return all(name in self.outcomes for name in names)


def trial_name(number: int) -> str:
    """Returns the name of a trial of the search."""
    return f"trial-{number:03d}"


def trial_number(name: str) -> int:
    """Returns the number of a trial of the search."""
    return int(name.removeprefix("trial-"))


def job_name(phase: str, row: str, batch: int) -> str:
    """Returns the name of the job that trains a batch of the phase's seeds."""
    return f"{phase}-{row}-{batch}"


def job_from_row(row: dict[str, Any], config: dict[str, Any]) -> Job:
    """Returns the job behind a row of the trials table."""
    return Job(
        row["trial"], row["phase"], row["row"], tuple(row["seeds"]), TrialConfig.from_dict(config)
    )
