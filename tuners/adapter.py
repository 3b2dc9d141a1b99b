"""What Ray Tune calls while a sweep runs: the next job, each report, the stop signal."""

import math
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any, Self

from ray.tune import Callback, Stopper
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from rlcore.files import check_room, sync
from tuners.checkpoints import Checkpoints, name_in_sweep
from tuners.errors import last_line
from tuners.layout import STATE_FILE
from tuners.objectives import Outcome
from tuners.phases import Job, Plan
from tuners.results import ResultsWriter
from tuners.searchers import LEARNING
from tuners.stopping import replay
from tuners.store_wait import StoreWait

_FLUSH_SHARE = 0.1  # of the driver's time, at most
RETRIES = 3  # of a job, after which it has reported nothing new
_AWS = "AWS Error"  # in what Arrow says of a bucket

Listener = Callable[[str, dict[str, Any]], None]


class _NotSaved:
    """Keeps Tune from copying what it is given: it would pickle it for a resume of its own."""

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


class PlanSearcher(_NotSaved, Searcher):
    """Gives Tune the jobs of a plan, and nothing more once it was told to stop."""

    def __init__(
        self,
        plan: Plan,
        to_tune: Callable[[Job], dict[str, Any]],
        interrupted: threading.Event,
        most_at_once: float = math.inf,
    ) -> None:
        """Takes jobs from ``plan``; ``to_tune`` turns one into a Tune config.

        While it searches, ``most_at_once`` jobs are handed out and have not ended, at most: a
        searcher that learns would have to propose trials before it knows how others ended.
        """
        super().__init__(metric="objective", mode="max")
        self._plan = plan
        self._to_tune = to_tune
        self._interrupted = interrupted
        self._most_at_once = most_at_once

    def suggest(self, trial_id: str) -> Any:
        """Returns the next job's config, None to be asked again, or FINISHED."""
        if self._interrupted.is_set() or self._plan.finished:
            return str(Searcher.FINISHED)
        is_searching = self._plan.finalists is None
        if is_searching and self._plan.num_running >= self._most_at_once:
            return None
        job = self._plan.next_job()
        return None if job is None else self._to_tune(job)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Does nothing: the plan hears of ended jobs from ``SweepCallback``."""

    def save(self, checkpoint_path: str) -> None:
        """Writes nothing: a sweep resumes from its own tables."""

    def restore(self, checkpoint_path: str) -> None:
        """Reads nothing: a sweep resumes from its own tables."""


class InterruptStopper(_NotSaved, Stopper):
    """After Ctrl-C: every running segment ends and is reported, then its trial stops."""

    def __init__(self, interrupted: threading.Event) -> None:
        """Waits for nobody yet."""
        self.running: set[str] = set()  # names of jobs in a worker
        self.stopped: set[str] = set()  # Tune's ids of trials that end with the last report
        self._interrupted = interrupted

    @property
    def interrupted(self) -> bool:
        """Whether it was."""
        return self._interrupted.is_set()

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Returns whether the trial ends with this report; the scheduler is not asked then."""
        if not self.interrupted:
            return False
        self.stopped.add(trial_id)
        return True

    def stop_all(self) -> bool:
        """Returns whether nothing runs any more, so that waiting trials can go."""
        return self.interrupted and not self.running


class SweepCallback(_NotSaved, Callback):
    """Writes each report to the tables, tells the plan, and tells whoever listens.

    Attributes:
        store: waits for the store, if the checkpoints are there.

    Listeners hear ``("started", trial row)``, ``("segment", segment row)``, ``("failed", its name
    and the reason)`` and ``("ended", trial row)``.
    """

    def __init__(
        self,
        plan: Plan,
        writer: ResultsWriter,
        scheduler: Any,
        stopper: InterruptStopper,
        checkpoints: Checkpoints,
        listeners: list[Listener],
    ) -> None:
        """Has heard of nothing yet.

        Args:
            plan: is told of jobs that end.
            writer: of the tables.
            scheduler: asked what Tune does not ask it.
            stopper: ends trials at an interruption; is told which are in a worker.
            checkpoints: is told of each, and where a job's next try begins.
            listeners: hear everything.
        """
        self._plan = plan
        self._writer = writer
        self._scheduler = scheduler
        self._stopper = stopper
        self._checkpoints = checkpoints
        self._failures: Counter[str] = Counter()
        self._listeners = listeners
        self._next_flush = -math.inf
        self._recovering: set[str] = set()  # Tune's ids of trials whose failure was counted
        storage = plan.spec.storage
        self.store = None if storage is None else StoreWait(storage, lambda: stopper.interrupted)

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Notes that a job is in a worker."""
        job = self._job(trial)
        if not self._stopper.interrupted:  # else nobody waits for it
            self._stopper.running.add(job.name)
        self._begin(job)

    def on_trial_result(
        self,
        iteration: int,
        trials: list[Trial],
        trial: Trial,
        result: dict[str, Any],
        **info: Any,
    ) -> None:
        """Takes in a segment."""
        job = self._job(trial)
        row = dict(result) | {"trial": job.name, "phase": job.phase}
        row["stop_reason"] = self._stop_reason(trial, job, row)
        row["done"] = row["stop_reason"] not in (None, "interrupted")
        result["stop_reason"] = row["stop_reason"]  # Tune hands it to on_trial_complete
        if self._writer.add_segment(row):
            self._failures.pop(job.name, None)
            trial.run_metadata.num_failures = 0  # or Tune gives it up after so many in its life
            self._tell("segment", row)

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Notes how a job ended; one that was interrupted stays unfinished."""
        job = self._job(trial)
        self._stopper.running.discard(job.name)
        last = trial.last_result or {}
        reason = last.get("stop_reason")
        if reason not in (None, "interrupted"):
            self._end(trial, job, Outcome.from_row(last, reason), last)

    def on_trial_recover(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Tells why a job failed that is tried again.

        Raises:
            OSError: the disk is full, or the store is away: another try would fail as well.
        """
        self._stopper.running.discard(self._job(trial).name)  # it waits for a worker
        self._recovering.add(trial.trial_id)
        self._failed(trial)

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Has a job tried again, or notes that it failed for good, after its retries.

        Tune gives up at once what fails while it takes over a process.  If that process has died,
        it says in the same step that it recovers the trial and that it gives it up: one failure.

        Raises:
            OSError: the disk is full, or the store does not take its checkpoints: the job is not to
                blame.
        """
        job = self._job(trial)
        self._stopper.running.discard(job.name)
        if trial.trial_id not in self._recovering:
            self._failed(trial)
        if self._failures[job.name] <= RETRIES:
            if trial.checkpoint:
                self._checkpoints.resume_from[job.name] = name_in_sweep(trial.checkpoint.path)
            self._plan.try_again(job.name)
            return
        reason = _failure(trial)
        if self.store is not None and not self._stopper.interrupted and _AWS in reason:
            self._writer.flush()
            self.store.give_up(f"{job.name} cannot use the store: {reason}")
        self._begin(job)  # it may have failed each time before it ran
        floor = {"objective": self._plan.floor(job.name), "seed_objectives": None}
        last = {**(trial.last_result or {}), **floor}
        self._end(trial, job, Outcome.from_row(last, "error"), last)

    def on_checkpoint(
        self, iteration: int, trials: list[Trial], trial: Trial, checkpoint: Any, **info: Any
    ) -> None:
        """Notes a checkpoint; ``on_step_end`` deletes those that nobody needs any more."""
        self._checkpoints.add(trial.config["job"], checkpoint)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Makes what came in durable, about once a second.

        Less often where it takes long: each time a row is written for every trial there was.
        """
        self._recovering.clear()
        begun = monotonic()  # nobody sets this clock back
        if begun >= self._next_flush:
            self._writer.flush()
            self._checkpoints.delete_spent(self._plan.outcomes)
            ended = monotonic()
            self._next_flush = ended + max(1.0, (ended - begun) / _FLUSH_SHARE)

    def _begin(self, job: Job) -> None:
        """Adds a job to the table, unless it is there."""
        if job.name in self._writer.trials:
            return
        row = self._writer.begin_trial(
            job.name,
            phase=job.phase,
            row=job.row,
            seeds=job.seeds,
            config=job.config.to_dict(),
            parent=job.parent,
            until=job.until,
        )
        self._tell("started", row)

    def _end(self, trial: Trial, job: Job, outcome: Outcome, last: dict[str, Any]) -> None:
        checkpoint = name_in_sweep(trial.checkpoint.path) if trial.checkpoint else None
        if checkpoint is not None and self.store is None:
            # On the disk before a row says that it is there.
            sync(self._writer.folder / checkpoint / STATE_FILE)
        row = self._writer.end_trial(job.name, outcome.stop_reason, last, checkpoint)
        if self._plan.spec.searcher in LEARNING:
            self._writer.flush()  # what such a searcher was told it keeps, also through a kill
        self._plan.end(job.name, outcome)
        self._tell("ended", row)

    def _failed(self, trial: Trial) -> None:
        """Tells of a failure; raises OSError if disk or store, and not the job, is to blame."""
        name, reason = self._job(trial).name, _failure(trial)
        if trial.error_file and not self._failures:  # of others it is in such files, too
            reason += f" (the whole of it: {trial.error_file})"
        self._failures[name] += 1
        self._tell("failed", {"trial": name, "reason": reason})
        check_room(self._writer.folder)
        if self.store is not None:
            self.store.wait(lambda fault: self._say_store_is_away(name, fault))

    def _say_store_is_away(self, job: str, fault: str) -> None:
        self._writer.flush()  # the wait may be long, or end the sweep
        reason = f"the store is away and waited for: {fault}"
        self._tell("failed", {"trial": job, "reason": reason})

    def _stop_reason(self, trial: Trial, job: Job, row: dict[str, Any]) -> str | None:
        if row["diverged"]:
            return "diverged"
        if row["env_steps"] >= job.end:
            return "budget"
        if trial.trial_id in self._stopper.stopped:
            # Tune did not ask the scheduler.  A resume would find the trial below the cut.
            return self._plan.spec.scheduler if replay(self._scheduler, [row]) else "interrupted"
        return self._plan.spec.scheduler if row["done"] else None

    def _job(self, trial: Trial) -> Job:
        return self._plan.jobs[trial.config["job"]]

    def _tell(self, event: str, row: dict[str, Any]) -> None:
        for listener in self._listeners:
            listener(event, row)


def _failure(trial: Trial) -> str:
    """Returns what went wrong, of what Tune wrote of a trial's failure."""
    try:
        return last_line(Path(trial.error_file or "").read_text())
    except OSError:
        return "its process ended"
