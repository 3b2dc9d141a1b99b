"""Schedulers that stop trials of the search phase, with memories that a resume can rebuild.

What they remember is kept under the job's name, not under Tune's trial id, so that it can be
rebuilt from a sweep's segments table: Tune itself forgets it.
"""

import bisect
import math
import statistics
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

_FEWEST_OTHERS = 3  # whose median is taken


class InOrder(FIFOScheduler):
    """Lets trials run in the order in which they came.

    Tune's own way to do so looks through all trials there ever were, before each report.
    """

    def __init__(self, **settings: Any) -> None:
        """Begins without trials; ``settings`` are Tune's."""
        super().__init__(**settings)
        self._queue: dict[str, Trial] = {}

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Puts a trial at the end of the queue, also one that was in it and is tried again."""
        self._queue.pop(trial.trial_id, None)
        self._queue[trial.trial_id] = trial

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Returns the first trial that waits."""
        self._queue = {key: t for key, t in self._queue.items() if not t.is_finished()}
        return next((t for t in self._queue.values() if t.status == Trial.PENDING), None)


class SearchPhase(InOrder):
    """Stops trials of the search phase; other phases run to the end."""

    def __init__(self, **settings: Any) -> None:
        """Has stopped nobody yet."""
        super().__init__(**settings)
        self._stopped: dict[str, int] = {}  # env_steps at which each job was

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Returns whether the trial goes on.

        One that was stopped reports once more if its last checkpoint could not be saved: Tune goes
        on from the one before, and has forgotten the decision.
        """
        if not is_searched(trial):
            return TrialScheduler.CONTINUE
        job, now = trial.config["job"], result["env_steps"]
        if now >= self._stopped.get(job, math.inf):
            return TrialScheduler.STOP
        decision = self._decide(tune_controller, trial, result)
        if decision == TrialScheduler.STOP:
            self._stopped[job] = now
        return decision

    @abstractmethod
    def replay(self, rows: Iterable[dict[str, Any]]) -> set[str]:
        """Takes in an earlier run's reports, in their order; returns the jobs to be stopped."""

    @abstractmethod
    def _decide(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Returns whether a trial goes on that was not stopped before."""


class SearchPhaseASHA(SearchPhase, AsyncHyperBandScheduler):
    """ASHA (Li et al. 2020) on env_steps over the search phase."""

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Takes in a trial of the search phase."""
        InOrder.on_trial_add(self, tune_controller, trial)
        if is_searched(trial):
            AsyncHyperBandScheduler.on_trial_add(self, tune_controller, _by_name(trial))

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Counts the last report at its rung, and lets go of the trial."""
        if is_searched(trial):
            super().on_trial_complete(tune_controller, _by_name(trial), result)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Lets go of a trial that failed for good, or was taken back."""
        self._trial_info.pop(_by_name(trial).trial_id, None)

    on_trial_remove = on_trial_error

    def replay(self, rows: Iterable[dict[str, Any]]) -> set[str]:
        """Brings the rungs to where the reports left them; returns the jobs below a cut."""
        stopped = set()
        for row in rows:
            if row["phase"] == "search":
                (bracket,) = self._brackets
                trial: Any = _Named(row["trial"])
                value = self._metric_op * row[self.metric]
                if bracket.on_result(trial, row["env_steps"], value) == TrialScheduler.STOP:
                    stopped.add(row["trial"])
        return stopped

    @property
    def rungs(self) -> dict[int, dict[str, float]]:
        """What each job reported at a rung's env_steps."""
        (bracket,) = self._brackets
        return {int(milestone): dict(recorded) for milestone, recorded in bracket._rungs}

    def _decide(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        named = _by_name(trial)
        return str(AsyncHyperBandScheduler.on_trial_result(self, tune_controller, named, result))


class SearchPhaseMedian(SearchPhase):
    """Median stopping (Golovin et al. 2017) over the search phase.

    A trial whose best objective is below the median of the others' running means is stopped.
    Tune's own rule takes all means anew at each report; here they are kept.
    """

    def __init__(self, metric: str, grace_period: int) -> None:
        """Judges by ``metric``, higher is better, from ``grace_period`` env_steps on."""
        super().__init__()
        self._metric: str = metric
        self._grace_period = grace_period
        self._reports: dict[str, _Reports] = {}
        # By env_steps: of each job that has come so far, the mean of its reports until then.
        self._means: dict[int, dict[str, float]] = {}

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Counts the last report."""
        if is_searched(trial):
            self._take_in(trial.config["job"], result)

    def replay(self, rows: Iterable[dict[str, Any]]) -> set[str]:
        """Takes in the reports of an earlier run; returns the jobs below the median."""
        stopped: set[str] = set()
        for row in rows:
            name = row["trial"]
            if row["phase"] != "search" or name in stopped:
                continue
            if self._judge(name, row) == TrialScheduler.STOP:
                stopped.add(name)
        return stopped

    @property
    def counted(self) -> dict[str, int]:
        """How many reports of each job were counted."""
        return {job: len(reports.values) for job, reports in self._reports.items()}

    def _decide(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        return self._judge(trial.config["job"], result)

    def _judge(self, job: str, result: dict[str, Any]) -> str:
        now = result["env_steps"]
        if not self._take_in(job, result) or now < self._grace_period:
            return TrialScheduler.CONTINUE
        others = [mean for other, mean in self._means[now].items() if other != job]
        best = max(self._reports[job].values)
        if len(others) < _FEWEST_OTHERS or best >= statistics.median(others):
            return TrialScheduler.CONTINUE
        return TrialScheduler.STOP

    def _take_in(self, job: str, result: dict[str, Any]) -> bool:
        """Counts a report; returns False for one that was: Tune tells the last one twice."""
        now = result["env_steps"]
        reports = self._reports.setdefault(job, _Reports([], []))
        before = reports.times[-1] if reports.times else 0
        if now <= before:
            return False
        if now >= self._grace_period and now not in self._means:
            self._means[now] = {}
            for other, earlier in self._reports.items():
                if earlier.times and earlier.times[-1] >= now:
                    self._note_mean(other, now)
        reports.times.append(now)
        reports.values.append(result[self._metric])
        for time in self._means:
            if before < time <= now:
                self._note_mean(job, time)
        return True

    def _note_mean(self, job: str, until: int) -> None:
        """Keeps the mean of a job's reports from the grace period on, if there is one."""
        reports = self._reports[job]
        first = bisect.bisect_left(reports.times, self._grace_period)
        last = bisect.bisect_right(reports.times, until)
        if first < last and math.isfinite(mean := statistics.fmean(reports.values[first:last])):
            self._means[until][job] = mean


@dataclass(frozen=True)
class _Reports:
    """What a job has reported: env_steps in rising order, and the value at each."""

    times: list[int]
    values: list[float]


def replay(scheduler: Any, rows: Iterable[dict[str, Any]]) -> set[str]:
    """Returns the jobs that ``rows`` of reports bid a scheduler stop; none if it stops nobody.

    It remembers the reports from then on.
    """
    return scheduler.replay(rows) if isinstance(scheduler, SearchPhase) else set()


@dataclass(frozen=True)
class _Named:
    """A trial as a scheduler's book-keeping sees it: known by its job's name."""

    trial_id: str


def _by_name(trial: Trial) -> Any:
    return _Named(trial.config["job"])


def is_searched(trial: Trial) -> bool:
    """Returns whether the trial belongs to the search phase."""
    return bool(trial.config["phase"] == "search")
