"""A sweep goes on from where its tables and checkpoints have it."""

import json

import numpy as np
import pytest
import safetensors.numpy

from rlcore.checkpoint import FORMAT, SCHEMA_VERSION, _checksum
from tests.tuners.small import SEGMENT, names, segment_row, small_spec, trial_row
from tuners.objectives import Outcome
from tuners.phases import Plan
from tuners.results import ResultsWriter, config_json, read_trials
from tuners.resume import restore
from tuners.schedulers import SCHEDULERS
from tuners.spec import prepare

FULL = 8


@pytest.fixture
def spec(tmp_path):
    spec = small_spec(tmp_path)
    prepare(spec, resume=False)
    return spec


def begin(spec, *jobs):
    """A sweep's tables after its first jobs have begun; returns their writer."""
    plan, writer = Plan(spec), ResultsWriter(spec.folder, "swingup")
    for name in jobs:
        job = plan.next_job()
        assert job.name == name
        writer.put_trial(
            trial_row(
                *(job.name, job.phase, job.row),
                seeds=list(job.seeds),
                config=config_json(job.config.to_dict()),
            )
        )
    return writer


def report(writer, trial, *segments, **last):
    """Adds a trial's reports; ``last`` changes the last of them."""
    for segment in segments:
        changes = last if segment == segments[-1] else {}
        writer.add_segment(segment_row(trial, segment, writer.trials[trial]["phase"], **changes))
    writer.flush()


def checkpoint(spec, trial, number, segments):
    """A checkpoint as far as a resume looks at it before a worker loads it: it is whole."""
    folder = spec.folder / "tune" / "session-001" / trial / f"checkpoint_{number:06d}"
    folder.mkdir(parents=True)
    metadata = {"format": FORMAT, "schema_version": str(SCHEMA_VERSION)}
    metadata["metadata"] = json.dumps({"env_steps": segments * SEGMENT})
    path, arrays = folder / "state.safetensors", {"x": np.zeros(1)}
    metadata["crc32"] = _checksum(arrays, metadata["metadata"])
    safetensors.numpy.save_file(arrays, path, metadata=metadata)
    return str(folder.relative_to(spec.folder))


def restored(spec):
    """What a resumed run begins with: plan, checkpoints by job, rungs."""
    plan, scheduler = Plan(spec), SCHEDULERS["asha"](spec)
    writer = ResultsWriter(spec.folder, "swingup")
    checkpoints = restore(spec, plan, writer, scheduler)
    return plan, checkpoints, scheduler.rungs


def test_a_new_sweep_begins_at_the_beginning(spec):
    plan, checkpoints, rungs = restored(spec)
    assert plan.next_job().name == "trial-000"
    assert checkpoints == {}
    assert rungs == {2 * SEGMENT: {}, 6 * SEGMENT: {}}


def test_jobs_that_were_running_go_on_from_their_checkpoints(spec):
    writer = begin(spec, "trial-000", "trial-001", "trial-002")
    ended = {"status": "finished", "stop_reason": "asha", "objective": 5.0, "final_score": 2.0}
    writer.put_trial({"trial": "trial-001"} | ended)
    report(writer, "trial-000", *range(1, 6))
    report(writer, "trial-001", 1, 2)
    report(writer, "trial-002", 1)
    checkpoint(spec, "trial-000", 0, 3)
    newest = checkpoint(spec, "trial-000", 1, 4)
    plan, checkpoints, rungs = restored(spec)
    assert plan.outcomes == {"trial-001": Outcome(5.0, "asha", final_score=2.0)}
    assert names([plan.next_job() for _ in range(3)]) == ["trial-000", "trial-002", "trial-003"]
    assert checkpoints == {"trial-000": newest}, "the other one begins anew"
    assert rungs[2 * SEGMENT] == {"trial-000": 20.0, "trial-001": 20.0}


@pytest.mark.parametrize("reason", ["asha", "diverged"])
def test_a_trial_that_was_stopped_is_not_begun_again(spec, reason):
    """The machine went down between its last report and the note of its end."""
    writer = begin(spec, "trial-000", "trial-001")
    report(writer, "trial-001", 1, 2, done=True, stop_reason=reason, objective=3.0)
    checkpoint(spec, "trial-001", 0, 2)
    plan, checkpoints, _ = restored(spec)
    expected = Outcome(3.0, reason, 2 * SEGMENT, 20.0, 3e-6 * SEGMENT)
    assert plan.outcomes == {"trial-001": expected}
    assert checkpoints == {}
    assert plan.next_job().name == "trial-000"
    row = read_trials(spec.folder)[1]
    assert (row["status"], row["stop_reason"]) == ("finished", reason)
    assert (row["env_steps"], row["score"], row["ended"]) == (2 * SEGMENT, 22.0, 1002.0)
    assert row["checkpoint"] == "tune/session-001/trial-001/checkpoint_000000"


def test_a_trial_that_had_spent_its_budget_is_not_trained_beyond_it(spec):
    """Its last checkpoint is at the end: a worker that loads it would train one more segment."""
    writer = begin(spec, "trial-000", "trial-001")
    report(writer, "trial-001", *range(1, FULL + 1), done=True, stop_reason="budget")
    checkpoint(spec, "trial-001", 0, FULL)
    plan, checkpoints, _ = restored(spec)
    assert plan.outcomes == {
        "trial-001": Outcome(80.0, "budget", 8 * SEGMENT, 80.0, 9e-6 * SEGMENT)
    }
    assert "trial-001" not in checkpoints


def test_a_trial_without_its_last_checkpoint_trains_up_to_it_again(spec):
    """Its policy is wanted as it was at the end."""
    writer = begin(spec, "trial-000", "trial-001")
    report(writer, "trial-001", *range(1, FULL + 1), done=True, stop_reason="budget")
    older = checkpoint(spec, "trial-001", 0, 4)
    plan, checkpoints, _ = restored(spec)
    assert plan.outcomes == {}
    assert checkpoints == {"trial-001": older}


@pytest.mark.parametrize("ahead", [4, FULL])
def test_no_report_is_left_out_because_a_checkpoint_came_before_it(spec, ahead):
    """Reports are written about once a second: a killed driver loses some that workers had sent.

    A checkpoint beyond the last report in the table would leave a hole in the curve.
    """
    writer = begin(spec, "trial-000")
    report(writer, "trial-000", 1, 2, 3)
    behind = checkpoint(spec, "trial-000", 0, 3)
    checkpoint(spec, "trial-000", 1, ahead)
    assert restored(spec)[1] == {"trial-000": behind}


def test_without_a_checkpoint_that_leaves_no_hole_a_trial_begins_anew(spec):
    writer = begin(spec, "trial-000")
    report(writer, "trial-000", 1, 2, 3)
    checkpoint(spec, "trial-000", 0, 4)
    assert restored(spec)[1] == {}


def test_a_job_that_failed_is_not_tried_again(spec):
    writer = begin(spec, "trial-000", "trial-001")
    failed = {"status": "error", "stop_reason": "error", "objective": 0.0}
    writer.put_trial({"trial": "trial-000"} | failed)
    writer.flush()
    plan, _, _ = restored(spec)
    assert plan.outcomes == {"trial-000": Outcome(0.0, "error")}
    assert names([plan.next_job(), plan.next_job()]) == ["trial-001", "trial-002"]
