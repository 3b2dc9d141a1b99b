"""What a sweep does after Tune: it concludes, and says what ended it."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from tests.tuners.small import segment_row, small_spec, trial_row
from tuners.objectives import Outcome
from tuners.phases import Plan
from tuners.results import ResultsWriter
from tuners.run import _conclude, _gap, _plain_about_storage, _to_tune, best_validated_trial
from tuners.spec import prepare
from tuners.validate import Curves, read_comparison

FULL = 8


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
                objective=objective + 20.0 * (job.phase == "search"),
                final_score=objective,
                checkpoint=f"tune/{job.name}",
            )
        )
        for segment in range(1, FULL + 1):
            scores = [objective, objective]
            writer.add_segment(segment_row(job.name, segment, job.phase, seed_scores=scores))
        ended = writer.trials[job.name]
        plan.end(job.name, Outcome.from_row(ended, "budget"))
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
    better = written["improvement"]["baseline"]["final_score"]
    assert better == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert written["over_tuning"] == comparison.over_tuning == 20.0
    assert written["validation"] == {"trial-002": 850.0, "baseline": 500.0}
    assert written["best_trial"] == "validation-trial-002-0"
    assert (written["sweep"], written["test_seeds"]) == ("sweep", 4)


def test_a_winner_that_was_stopped_in_the_search_has_no_gap(finished):
    """And the file is JSON, which knows no NaN."""
    spec, plan, _ = finished
    searched = plan.searched("trial-002")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "searched", lambda row: replace(searched, stop_reason="asha"))
        assert _conclude(spec, plan).over_tuning is None
    text = (spec.folder / "comparison.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["over_tuning"] is None
    assert read_comparison(spec.folder, "over_tuning")["over_tuning"] is None


def test_a_winner_that_was_stopped_or_not_tested_has_no_gap_to_tell(tmp_path):
    spec = small_spec(tmp_path)
    tested = Curves(np.array([100.0]), np.array([[800.0]]))
    assert _gap(spec, Outcome(900.0, "budget"), tested) == 100.0
    assert _gap(spec, Outcome(900.0, "asha"), tested) is None
    assert _gap(spec, Outcome(math.nan, "budget"), tested) is None, "a baseline that took over"
    assert _gap(spec, Outcome(900.0, "budget"), None) is None


def test_a_worker_is_told_what_its_sweep_is_judged_by(tmp_path):
    spec = small_spec(tmp_path, objective="final_score", spread_penalty=0.5)
    job = replace(Plan(spec).next_job(), until=100)
    told = _to_tune(spec, job, "tune/a")
    assert told["objective"] == ("final_score", 0.5)
    assert (told["until"], told["resume_from"], told["phase"]) == (100, "tune/a", "search")


def test_no_policy_comes_from_a_job_that_diverged_and_if_it_can_from_one_that_ended(finished):
    spec, plan, writer = finished
    for first, second in (("error", "budget"), ("diverged", "error")):
        writer.put_trial({"trial": "validation-trial-002-0", "stop_reason": first})
        writer.put_trial({"trial": "validation-trial-002-1", "stop_reason": second})
        writer.flush()
        assert best_validated_trial(spec, plan) == "validation-trial-002-1"


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
    with pytest.raises(OSError) as raised, _plain_about_storage(spec, None):
        raise error
    assert raised.value.errno == 28
    assert raised.value.strerror == (
        f"{spec.folder}: No space left on device; what was reported is kept, and --resume sweep"
        " goes on once it can be written"
    )


def test_a_folder_that_somebody_deleted_is_not_to_be_resumed(tmp_path):
    spec = small_spec(tmp_path)
    with pytest.raises(FileNotFoundError) as raised, _plain_about_storage(spec, None):
        raise RuntimeError("what Tune makes of it")
    assert raised.value.strerror == f"{spec.folder} is gone, and the sweep with it"


def test_a_store_that_ended_a_sweep_is_said_in_one_line(tmp_path):
    spec = small_spec(tmp_path)
    spec.folder.mkdir()
    fault = "storage s3://bucket/runs cannot be used: no answer"
    store = SimpleNamespace(fault=fault)
    with pytest.raises(OSError) as raised, _plain_about_storage(spec, store):
        raise RuntimeError("what Tune makes of it")
    assert raised.value.strerror == (
        f"{fault}; what was reported is kept, and --resume sweep goes on once it can be written"
    )


def test_a_comparison_of_shapes_is_not_told_to_resume(tmp_path):
    spec = small_spec(tmp_path, space={})
    spec.folder.mkdir()
    with pytest.raises(OSError, match="is kept$"), _plain_about_storage(spec, None):
        raise OSError(28, "No space left on device")


def test_what_was_full_for_a_moment_is_said_too(tmp_path):
    spec = small_spec(tmp_path)
    spec.folder.mkdir()
    with pytest.raises(OSError, match="goes on once"), _plain_about_storage(spec, None):
        raise OSError(30, "Read-only file system")


def test_other_errors_are_left_as_they_are(tmp_path):
    spec = small_spec(tmp_path)
    spec.folder.mkdir()
    for error in (RuntimeError("mine"), OSError(2, "mine"), KeyboardInterrupt("mine")):
        with pytest.raises(type(error), match="mine"), _plain_about_storage(spec, None):
            raise error
    assert list(spec.folder.iterdir()) == []
