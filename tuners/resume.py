"""Goes on with a sweep: plan and scheduler are brought to where its tables say it is."""

from pathlib import Path
from typing import Any

from rlcore.checkpoint import read_metadata
from tuners.checkpoints import newest_checkpoint
from tuners.layout import STATE_FILE
from tuners.objectives import Outcome
from tuners.phases import Job, Plan, job_from_row
from tuners.results import OUTCOME_COLUMNS, ResultsWriter, read_segments
from tuners.spec import SweepSpec
from tuners.stopping import replay
from tuners.store import fetch_checkpoints

_REPORT = ("trial", "phase", "env_steps", "time", "stop_reason")
_COLUMNS = (*_REPORT, *OUTCOME_COLUMNS, "seed_objectives")


def restore(spec: SweepSpec, plan: Plan, writer: ResultsWriter, scheduler: Any) -> dict[str, str]:
    """Brings plan and rungs to where the tables say; returns the checkpoints of unfinished jobs.

    They are named relative to the sweep's folder.
    """
    ended, unfinished, checkpoints = [], [], {}
    rows = read_segments(spec.folder, _COLUMNS)
    replay(scheduler, rows)
    last = {row["trial"]: row for row in rows}
    running = [name for name, row in writer.trials.items() if row["status"] == "running"]
    fetch_checkpoints(spec.folder, running)
    for row in writer.trials.values():
        job = job_from_row(row)
        if row["status"] != "running":
            ended.append((job, Outcome.from_row(row, row["stop_reason"])))
            continue
        known = last[job.name]["env_steps"] if job.name in last else 0
        checkpoint = newest_checkpoint(spec.folder, job.name, known)
        reason = _end_reason(job, last.get(job.name), checkpoint, spec.scheduler)
        if reason is not None:
            row = _close(writer, job, last[job.name], checkpoint, reason)
            ended.append((job, Outcome.from_row(row, reason)))
            continue
        unfinished.append(job)
        if checkpoint is not None:
            checkpoints[job.name] = str(checkpoint.relative_to(spec.folder))
    plan.restore(ended, unfinished)
    writer.flush()  # if no job is left, nobody else does
    return checkpoints


def _end_reason(
    job: Job, last: dict[str, Any] | None, checkpoint: Path | None, scheduler: str
) -> str | None:
    """Returns why a trial had ended whose end was not written any more, or None if it goes on.

    One that spent its budget goes on from an earlier checkpoint if its last one is not there.
    """
    reason = None if last is None else last["stop_reason"]
    if reason in (scheduler, "diverged"):
        return reason
    if reason != "budget":
        return None
    saved = read_metadata(checkpoint / STATE_FILE)["env_steps"] if checkpoint else 0
    return "budget" if saved >= job.end else None


def _close(
    writer: ResultsWriter, job: Job, last: dict[str, Any], checkpoint: Path | None, reason: str
) -> dict[str, Any]:
    saved = str(checkpoint.relative_to(writer.folder)) if checkpoint else None
    return writer.end_trial(job.name, reason, last, saved, ended=last["time"])
