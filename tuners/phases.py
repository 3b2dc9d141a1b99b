"""The order of a sweep's jobs: search, validation on fresh seeds, test on others.

All three phases are jobs of one Tune run, so workers and their compiled programs serve them all.
Jobs of the test that depend on nothing (baseline, "the score as reward") fill the gaps in which a
phase waits for its last job.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rlcore.rewards import SHAPES
from tuners.config import TrialConfig
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


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        objective: the score at the end of training.
        stop_reason: ``budget``, ``asha``, ``diverged`` or ``error``.
        area: the mean score over all of training, the area under the score curve.  Finalists and
            winner are chosen by it: it rises with the score reached as with reaching it soon, and
            two seeds tell more about it than about a few evaluations at the end.
    """

    objective: float
    stop_reason: str
    area: float = 0.0


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
        self._suggest = SEARCHERS[spec.searcher](spec.space, spec.seed)

    def restore(self, ended: Iterable[tuple[Job, Outcome]], unfinished: Iterable[Job]) -> None:
        """Takes in the jobs of an earlier run; the unfinished ones are handed out first."""
        for job, outcome in ended:
            self.jobs[job.name] = job
            self.outcomes[job.name] = outcome
        self._unfinished.extend(unfinished)

    def next_job(self) -> Job | None:
        """Returns the next job, or None if none can be told before a running one ends."""
        job = self._unfinished.popleft() if self._unfinished else self._next_new()
        if job is not None:
            self.jobs[job.name] = job
        return job

    def end(self, name: str, outcome: Outcome) -> None:
        """Takes in how a job ended."""
        self.outcomes[name] = outcome

    @property
    def finished(self) -> bool:
        """Whether every job of the sweep has ended."""
        if self._unfinished or not self._all_ended(self.jobs.values()):
            return False
        return self._next_new() is None

    @property
    def finalists(self) -> list[str] | None:
        """Rows of the best configurations trained in full, or None before the search ended.

        The baseline is not among them: it is validated in any case.
        """
        if not self._all_ended(self._search_jobs()):
            return None
        full = [
            (outcome.area, self.jobs[name].row)
            for name, outcome in self.outcomes.items()
            if self.jobs[name].phase == "search" and outcome.stop_reason == "budget"
        ]
        ranked = sorted(full, key=lambda entry: (-entry[0], entry[1]))
        return [row for _, row in ranked if row != BASELINE][: self.spec.num_finalists]

    @property
    def validation(self) -> dict[str, float] | None:
        """Mean area by row, best first, or None before the validation ended."""
        finalists = self.finalists
        if finalists is None:
            return None
        means = {}
        for row in (BASELINE, *finalists):
            jobs = list(self._batches("validation", row))
            if not self._all_ended(jobs):
                return None
            means[row] = float(np.mean([self.outcomes[job.name].area for job in jobs]))
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
        number = int(row.removeprefix("trial-"))
        return self.spec.base.with_values(self._suggest(number))

    def _next_new(self) -> Job | None:
        return next((job for job in self._candidates() if job.name not in self.jobs), None)

    def _candidates(self) -> Iterator[Job]:
        """Yields every job that could run now, the most urgent first."""
        yield from self._search_jobs()
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

    def _search_jobs(self) -> Iterator[Job]:
        seeds = tuple(self.spec.seeds("search"))
        for number in range(self.spec.num_trials):
            name = f"trial-{number:03d}"
            if name in self.jobs:
                yield self.jobs[name]
            else:
                row = BASELINE if number == 0 else name
                yield Job(name, "search", row, seeds, self.config_of(row))

    def _batches(self, phase: str, row: str) -> Iterator[Job]:
        seeds = self.spec.seeds(phase)
        size = self.spec.base.ppo.seeds_per_trial
        for batch, start in enumerate(range(0, len(seeds), size)):
            name = job_name(phase, row, batch)
            if name in self.jobs:
                yield self.jobs[name]
            else:
                config = self.config_of(row)
                yield Job(name, phase, row, tuple(seeds[start : start + size]), config)

    def _all_ended(self, jobs: Iterable[Job]) -> bool:
        return all(job.name in self.outcomes for job in jobs)


def job_name(phase: str, row: str, batch: int) -> str:
    """Returns the name of the job that trains a batch of the phase's seeds."""
    return f"{phase}-{row}-{batch}"


def job_from_row(row: dict[str, Any], config: dict[str, Any]) -> Job:
    """Returns the job behind a row of the trials table."""
    return Job(
        row["trial"], row["phase"], row["row"], tuple(row["seeds"]), TrialConfig.from_dict(config)
    )
