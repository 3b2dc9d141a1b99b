"""What a sweep does before and after Tune: goes on from its tables, and concludes."""

import json

import numpy as np
import pytest
import safetensors.numpy

from rlcore.checkpoint import FORMAT, SCHEMA_VERSION, _checksum
from tests.tuners.small import SEGMENT, names, segment_row, small_spec, trial_row
from tuners.adapter import outcome_of
from tuners.objectives import Outcome
from tuners.phases import Plan
from tuners.results import ResultsWriter, config_json, read_trials
from tuners.run import _conclude, _plain_about_the_disk, _restore, best_validated_trial
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


def restore(spec):
    """What a resumed run begins with: plan, checkpoints by job, rungs."""
    plan, scheduler = Plan(spec), SCHEDULERS["asha"](spec)
    writer = ResultsWriter(spec.folder, "swingup")
    checkpoints = _restore(spec, plan, writer, scheduler)
    writer.flush()
    return plan, checkpoints, scheduler.rungs


def test_a_new_sweep_begins_at_the_beginning(spec):
    plan, checkpoints, rungs = restore(spec)
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
    plan, checkpoints, rungs = restore(spec)
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
    plan, checkpoints, _ = restore(spec)
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
    plan, checkpoints, _ = restore(spec)
    assert plan.outcomes == {
        "trial-001": Outcome(80.0, "budget", 8 * SEGMENT, 80.0, 9e-6 * SEGMENT)
    }
    assert "trial-001" not in checkpoints


def test_a_trial_without_its_last_checkpoint_trains_up_to_it_again(spec):
    """Its policy is wanted as it was at the end."""
    writer = begin(spec, "trial-000", "trial-001")
    report(writer, "trial-001", *range(1, FULL + 1), done=True, stop_reason="budget")
    older = checkpoint(spec, "trial-001", 0, 4)
    plan, checkpoints, _ = restore(spec)
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
    assert restore(spec)[1] == {"trial-000": behind}


def test_without_a_checkpoint_that_leaves_no_hole_a_trial_begins_anew(spec):
    writer = begin(spec, "trial-000")
    report(writer, "trial-000", 1, 2, 3)
    checkpoint(spec, "trial-000", 0, 4)
    assert restore(spec)[1] == {}


def test_a_job_that_failed_is_not_tried_again(spec):
    writer = begin(spec, "trial-000", "trial-001")
    failed = {"status": "error", "stop_reason": "error", "objective": 0.0}
    writer.put_trial({"trial": "trial-000"} | failed)
    writer.flush()
    plan, _, _ = restore(spec)
    assert plan.outcomes == {"trial-000": Outcome(0.0, "error")}
    assert names([plan.next_job(), plan.next_job()]) == ["trial-001", "trial-002"]


@pytest.fixture
def finished(tmp_path):
    """A finished sweep: trial-002 has won, with two jobs in validation and in test."""
    spec = small_spec(tmp_path, validation_seeds=4, test_seeds=4)
    prepare(spec, resume=False)
    plan, writer = Plan(spec), ResultsWriter(spec.folder, "swingup")
    while (job := plan.next_job()) is not None:
        objective = {"trial-002": 850.0, "baseline": 500.0}.get(job.row, 100.0)
        writer.put_trial(
            trial_row(
                *(job.name, job.phase, job.row),
                seeds=list(job.seeds),
                status="finished",
                stop_reason="budget",
                objective=objective,
                final_score=objective + 20.0 * (job.phase == "search"),
                checkpoint=f"tune/{job.name}",
            )
        )
        for segment in range(1, FULL + 1):
            scores = [objective, objective]
            writer.add_segment(segment_row(job.name, segment, job.phase, seed_scores=scores))
        ended = writer.trials[job.name]
        plan.end(job.name, outcome_of(ended, "budget"))
    writer.flush()
    return spec, plan, writer


def test_a_conclusion_is_a_file_that_says_all(finished):
    spec, plan, _ = finished
    comparison = _conclude(spec, plan)
    written = json.loads((spec.folder / "comparison.json").read_text())
    assert written["winner"] == "trial-002"
    assert written["config"] == plan.config_of("trial-002").to_dict()
    assert set(written["table"]) == {"trial-002", "baseline", "task_score"}
    assert written["table"]["trial-002"]["final_score"]["value"] == 850.0
    assert written["improvement"]["final_score"] == 1.0
    assert written["over_tuning"] == comparison.over_tuning == 20.0
    assert written["validation"] == {"trial-002": 850.0, "baseline": 500.0}
    assert written["best_trial"] == "validation-trial-002-0"
    assert (written["sweep"], written["test_seeds"]) == ("sweep", 4)


def test_the_policy_comes_from_the_validation_job_with_the_best_seed(finished):
    spec, plan, writer = finished
    assert best_validated_trial(spec, plan) == "validation-trial-002-0"
    # One seed of the second job was better over the last three segments.
    for segment, scores in enumerate(([0.0, 0.0], [600.0, 990.0], [0.0, 890.0]), start=FULL + 1):
        for name in ("validation-trial-002-1", "test-trial-002-1"):
            phase = name.partition("-")[0]
            writer.add_segment(segment_row(name, segment, phase, seed_scores=scores))
    writer.add_segment(segment_row("validation-trial-002-1", 99, seed_scores=[0.0, 990.0]))
    writer.flush()
    assert best_validated_trial(spec, plan) == "validation-trial-002-0"
    writer.add_segment(
        segment_row("validation-trial-002-1", 100, "validation", seed_scores=[0.0, 990.0])
    )
    writer.flush()
    assert best_validated_trial(spec, plan) == "validation-trial-002-1"


def test_a_job_without_a_checkpoint_has_no_policy_to_give(finished):
    spec, plan, writer = finished
    writer.put_trial({"trial": "validation-trial-002-0", "checkpoint": None})
    writer.flush()
    assert best_validated_trial(spec, plan) == "validation-trial-002-1"


@pytest.mark.parametrize("error", [RuntimeError("what Tune makes of it"), OSError("anything")])
def test_a_full_disk_is_said_in_one_line(tmp_path, monkeypatch, error):
    def full(folder):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tuners.run.check_room", full)
    spec = small_spec(tmp_path)
    with pytest.raises(OSError) as raised, _plain_about_the_disk(spec):
        raise error
    assert raised.value.errno == 28
    assert raised.value.strerror == (
        f"{spec.folder}: No space left on device; what was reported is kept, and --resume sweep"
        " goes on once it can be written"
    )


def test_what_was_full_for_a_moment_is_said_too(tmp_path):
    spec = small_spec(tmp_path)
    spec.folder.mkdir()
    with pytest.raises(OSError, match="goes on once"), _plain_about_the_disk(spec):
        raise OSError(30, "Read-only file system")


def test_other_errors_are_left_as_they_are(tmp_path):
    spec = small_spec(tmp_path)
    spec.folder.mkdir()
    for error in (RuntimeError("mine"), OSError(2, "mine"), KeyboardInterrupt("mine")):
        with pytest.raises(type(error), match="mine"), _plain_about_the_disk(spec):
            raise error
    assert list(spec.folder.iterdir()) == []
