"""The order of a sweep's jobs: search, validation on fresh seeds, test on others.

All three phases are jobs of one Tune run, so workers and their compiled programs serve them all.
Jobs of the test that depend on nothing (baseline, "the score as reward") fill the gaps in which a
phase waits for its last job.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from rlcore.rewards import SHAPES
from tuners.config import TrialConfig, parse_config, value_of
from tuners.job_names import BASELINE, FIRST_TRIAL, TASK_SCORE, job_name, trial_name, trial_number
from tuners.objectives import Outcome, ranked
from tuners.searchers import SEARCHERS
from tuners.spec import SweepSpec


@dataclass(frozen=True)
class Job:
    """One Tune trial: a configuration, and the seeds to train it on.

    Attributes:
        name: unique in the sweep; says phase, row and batch.
        phase: ``search``, ``validation`` or ``test``.
        row: the configuration's name: ``baseline``, ``task_score`` or ``trial-<number>``.
        seeds: trained side by side.
        config: what is trained.
        parent: the job from whose last checkpoint it begins, if from any.
        until: env_steps at which it ends, if that is before the config's full length.
    """

    name: str
    phase: str
    row: str
    seeds: tuple[int, ...]
    config: TrialConfig
    parent: str | None = None
    until: int | None = None

    @property
    def end(self) -> int:
        """Env_steps, per seed, of a job that nobody stops."""
        return self.config.full_length if self.until is None else self.until


class NextJob(NamedTuple):
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
        self._finalists: list[str] | None = None
        self._begun = 0  # trials of the search, from the first on, that were handed out
        self._searcher = SEARCHERS[spec.searcher](spec)

    def restore(self, ended: Iterable[tuple[Job, Outcome]], unfinished: Iterable[Job]) -> None:
        """Takes in the jobs of an earlier run; the unfinished ones are handed out first."""
        ended, unfinished = list(ended), list(unfinished)
        jobs = [*(job for job, _ in ended), *unfinished]
        self._remember([job for job in jobs if job.phase == "search"])
        for job, outcome in ended:
            self.jobs[job.name] = job
            self.end(job.name, outcome)
        self._unfinished.extend(unfinished)

    def next_job(self) -> Job | None:
        """Returns the next job, or None if none can be told before a running one ends."""
        if self._unfinished:
            job = self._unfinished.popleft()
        elif (chosen := self._next_new()) is not None:
            job = self._make_job(chosen)
        else:
            return None
        self.jobs[job.name] = job
        return job

    def end(self, name: str, outcome: Outcome) -> None:
        """Takes in how a job ended."""
        self.outcomes[name] = outcome
        if self.jobs[name].phase == "search":
            self._tell(name, outcome)

    def try_again(self, name: str) -> None:
        """Has a job handed out once more, before new ones."""
        self._unfinished.append(self.jobs[name])

    @property
    def num_running(self) -> int:
        """Jobs that are handed out and have not ended."""
        waiting = sum(job.name in self.jobs for job in self._unfinished)
        return len(self.jobs) - len(self.outcomes) - waiting

    @property
    def finished(self) -> bool:
        """Whether every job of the sweep has ended."""
        if self._unfinished or len(self.outcomes) < len(self.jobs):
            return False
        return self._next_new() is None

    @property
    def finalists(self) -> list[str] | None:
        """Rows of the best configurations trained in full, or None before the search ended.

        The baseline is not among them: it is validated in any case.
        """
        if self._finalists is None and self._search_ended():
            self._finalists = self._ranked()[: self.spec.num_finalists]
        return self._finalists

    @property
    def validation(self) -> dict[str, float] | None:
        """Objective over all seeds by row, best first, or None before the validation ended."""
        finalists = self.finalists
        if finalists is None:
            return None
        means = {}
        for row in (BASELINE, *finalists):
            names = [batch.name for batch in self._batches("validation", row)]
            if not self._all_ended(names):
                return None
            means[row] = self._over_seeds(names)
        return dict(sorted(means.items(), key=lambda item: -item[1]))

    @property
    def winner(self) -> str | None:
        """The row that is best by validation, or None before it ended."""
        validation = self.validation
        return next(iter(validation)) if validation is not None else None

    def searched(self, row: str) -> Outcome:
        """Returns how a row ended the search."""
        return self.outcomes[FIRST_TRIAL if row == BASELINE else row]

    @property
    def num_search_jobs(self) -> int:
        """Jobs of the search when it has ended."""
        return self.spec.num_trials

    def floor(self, name: str) -> float:
        """Returns the objective of a job that failed."""
        config = self.jobs[name].config
        return self.spec.judge.floor(config.full_length, config.ppo.steps_per_segment)

    def begins_at(self, name: str) -> int:
        """Returns the env_steps, per seed, that a job has from its parent."""
        job = self.jobs.get(name)
        return 0 if job is None or job.parent is None else self.jobs[job.parent].end

    def expected_env_steps(self) -> int:
        """Returns an upper bound of the environment steps of the whole sweep, all seeds counted."""
        spec = self.spec
        seeds = (
            spec.num_trials * spec.base.ppo.seeds_per_trial
            + (1 + min(spec.num_finalists, spec.num_trials - 1)) * spec.validation_seeds
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

    def _next_new(self) -> NextJob | None:
        return next((job for job in self._candidates() if job.name not in self.jobs), None)

    def _candidates(self) -> Iterator[NextJob]:
        """Yields every job that could run now, the most urgent first."""
        yield from self._searches()
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

    def _searches(self) -> Iterator[NextJob]:
        """Yields the search's jobs, but for those at its beginning that were handed out."""
        begun = self._begun
        while trial_name(begun) in self.jobs:
            begun += 1
        self._begun = begun  # at once: the screen's thread asks, too
        seeds = tuple(self.spec.seeds("search"))
        for number in range(self._begun, self.num_search_jobs):
            name = trial_name(number)
            yield NextJob(name, "search", BASELINE if number == 0 else name, seeds)

    def _search_ended(self) -> bool:
        names = map(trial_name, range(self.num_search_jobs))
        return len(self.outcomes) >= self.num_search_jobs and self._all_ended(names)

    def _ranked(self) -> list[str]:
        """Returns the rows that were trained in full, but for the baseline, the best first.

        Of equally good ones that with the lower number.
        """
        full = {
            self.jobs[name].row: outcome
            for name, outcome in self.outcomes.items()
            if self.jobs[name].phase == "search" and outcome.stop_reason == "budget"
        }
        full.pop(BASELINE, None)
        by_number = {row: full[row] for row in sorted(full, key=trial_number)}
        return ranked(by_number, self.spec.objective)

    def _make_job(self, chosen: NextJob) -> Job:
        return Job(*chosen, config=self.config_of(chosen.row))

    def _tell(self, name: str, outcome: Outcome) -> None:
        self._searcher.tell(trial_number(name), outcome)

    def _remember(self, jobs: list[Job]) -> None:
        values = {
            trial_number(job.name): {name: value_of(job.config, name) for name in self.spec.space}
            for job in jobs
        }
        self._searcher.restore({number: v for number, v in values.items() if number > 0})

    def _batches(self, phase: str, row: str) -> Iterator[NextJob]:
        seeds = self.spec.seeds(phase)
        size = self.spec.base.ppo.seeds_per_trial
        for batch, start in enumerate(range(0, len(seeds), size)):
            yield NextJob(
                job_name(phase, row, batch), phase, row, tuple(seeds[start : start + size])
            )

    def _over_seeds(self, names: list[str]) -> float:
        """Returns the objective over all seeds of a row's jobs."""
        values: list[float] = []
        for name in names:
            outcome = self.outcomes[name]
            values += outcome.seed_objectives or [outcome.objective] * len(self.jobs[name].seeds)
        return self.spec.judge.over_seeds(values, self.floor(names[0]))

    def _all_ended(self, names: Iterable[str]) -> bool:
        return all(name in self.outcomes for name in names)


def job_from_row(row: dict[str, Any]) -> Job:
    """Returns the job behind a row of the trials table.

    Raises:
        BadInput: its config is damaged.
    """
    return Job(
        name=row["trial"],
        phase=row["phase"],
        row=row["row"],
        seeds=tuple(row["seeds"]),
        config=parse_config(row["config"]),
        parent=row["parent"],
        until=row["until"],
    )
