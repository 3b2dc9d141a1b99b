"""Schedulers that stop trials of the search phase, with memories that a resume can rebuild.

What they remember is kept under the job's name, not under Tune's trial id, so that it can be
rebuilt from a sweep's segments table: Tune itself forgets it.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, MedianStoppingRule, TrialScheduler


class SearchPhaseASHA(AsyncHyperBandScheduler):
    """ASHA (Li et al. 2020) on env_steps over the search phase; other phases run to the end."""

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Takes in a trial of the search phase."""
        if is_searched(trial):
            super().on_trial_add(tune_controller, _by_name(trial))

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Returns whether the trial goes on."""
        if not is_searched(trial):
            return TrialScheduler.CONTINUE
        return str(super().on_trial_result(tune_controller, _by_name(trial), result))

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Counts the last report at its rung, and lets go of the trial."""
        if is_searched(trial):
            super().on_trial_complete(tune_controller, _by_name(trial), result)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Lets go of a trial that failed for good."""
        self._trial_info.pop(_by_name(trial).trial_id, None)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        """Lets go of a trial that was taken back."""
        self._trial_info.pop(_by_name(trial).trial_id, None)

    def replay(self, rows: Iterable[dict[str, Any]]) -> set[str]:
        """Brings the rungs to where the reports of an earlier run, in their order, left them.

        Returns:
            The jobs below the cut at a rung.  An interruption may have kept that from them.
        """
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


class SearchPhaseMedian(MedianStoppingRule):
    """Median stopping (Golovin et al. 2017) over the search phase; other phases run to the end.

    A trial whose best objective is below the median of the others' running means is stopped.
    """

    def __init__(self, metric: str, grace_period: int) -> None:
        """Judges by ``metric``, higher is better, from ``grace_period`` env_steps on."""
        self._columns = ("env_steps", metric)
        never: Any = math.inf
        super().__init__(
            time_attr="env_steps",
            metric=metric,
            mode="max",
            grace_period=grace_period,
            min_time_slice=never,  # pauses a trial
        )

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Returns whether the trial goes on."""
        if not is_searched(trial):
            return TrialScheduler.CONTINUE
        return self._judge(_by_name(trial), result)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Counts the last report."""
        named: Any = _by_name(trial)
        if is_searched(trial) and not self._knows(named, result):
            super().on_trial_complete(tune_controller, named, self._read(result))

    def replay(self, rows: Iterable[dict[str, Any]]) -> set[str]:
        """Takes in the reports of an earlier run; returns the jobs below the median."""
        stopped: set[str] = set()
        for row in rows:
            name = row["trial"]
            if row["phase"] != "search" or name in stopped:
                continue
            if self._judge(_Named(name), row) == TrialScheduler.STOP:
                stopped.add(name)
        return stopped

    def _knows(self, named: Any, result: dict[str, Any]) -> bool:
        """Returns whether a report was counted already: Tune tells the last one twice."""
        counted: list[dict[str, Any]] = self._results.get(named, [])
        return bool(counted) and result["env_steps"] <= counted[-1]["env_steps"]

    def _judge(self, named: Any, result: dict[str, Any]) -> str:
        if self._knows(named, result):
            return TrialScheduler.CONTINUE
        nobody: Any = None  # a controller is asked only where trials are paused
        return str(super().on_trial_result(nobody, named, self._read(result)))

    def _read(self, result: dict[str, Any]) -> dict[str, Any]:
        return {name: result[name] for name in self._columns}


def replay(scheduler: Any, rows: Iterable[dict[str, Any]]) -> set[str]:
    """Returns the jobs that ``rows`` of reports bid a scheduler stop; none if it stops nobody.

    It remembers them from then on.
    """
    stops = isinstance(scheduler, SearchPhaseASHA | SearchPhaseMedian)
    return scheduler.replay(rows) if stops else set()


@dataclass(frozen=True)
class _Named:
    """A trial as a scheduler's book-keeping sees it: known by its job's name."""

    trial_id: str


def _by_name(trial: Trial) -> Any:
    return _Named(trial.config["job"])


def is_searched(trial: Trial) -> bool:
    """Returns whether the trial belongs to the search phase."""
    return bool(trial.config["phase"] == "search")
