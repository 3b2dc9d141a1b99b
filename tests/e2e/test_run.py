"""``run_sweep`` on the Ray cluster that the session shares: its phases, and a trial that fails."""

import os
import signal
from typing import Any

import pytest

from tests.e2e.on_ray import ON_RAY, Ran, run_quietly
from tests.e2e.record import assert_whole, segments_once, trials_once
from tests.tuners.small import SEGMENT, segment_row, small_spec, trial_row
from tuners import adapter, programs, run, workers
from tuners.cluster.doctor import Diagnosis
from tuners.errors import BadInput
from tuners.phases import Plan
from tuners.results import ResultsWriter, config_json
from tuners.space import Choice, Uniform
from tuners.spec import prepare
from tuners.trainable import SegmentTrainable
from tuners.trial import Trial

pytestmark = ON_RAY

# One traced and one static parameter.
SPACE = {"learning_rate": Uniform(1e-4, 1e-2), "num_minibatches": Choice((2, 4))}
SMALL = {
    "media": False,
    "num_trials": 3,
    "budget": 4 * SEGMENT,
    "grace_period": SEGMENT,
    "space": SPACE,
}


@pytest.fixture(scope="module")
def ran(ray_address: str, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return run_quietly(small_spec(tmp_path_factory.mktemp("ran"), **SMALL), ray_address)


def test_a_sweep_ends_with_a_winner_and_a_comparison(ran):
    plan = ran.result.plan
    assert plan.finished
    assert plan.winner in ("baseline", *(plan.finalists or []))
    assert set(ran.result.comparison.estimates) == {plan.winner, "baseline", "task_score"}
    assert ran.result.failures == []
    assert 0.0 < ran.result.utilisation <= 1.0
    assert_whole(ran.spec.folder)


def test_a_worker_compiles_once_for_each_value_of_a_static_parameter(ran):
    trials = trials_once(ran.spec.folder)
    worker_programs: dict[str, set[str]] = {}
    compiled: dict[str, int] = {}
    for (name, _), row in segments_once(ran.spec.folder).items():
        minibatches = "4" if '"num_minibatches": 4' in trials[name]["config"] else "2"
        worker_programs.setdefault(row["worker"], set()).add(minibatches)
        compiled[row["worker"]] = compiled.get(row["worker"], 0) + (row["compile_seconds"] > 0)
        assert row["programs"] == len(worker_programs[row["worker"]])
    assert set.union(*worker_programs.values()) == {"2", "4"}
    assert compiled == {worker: len(programs) for worker, programs in worker_programs.items()}


def test_an_ended_sweep_is_not_trained_again(ran, ray_address):
    before = segments_once(ran.spec.folder)
    (report := ran.spec.folder / "report.html").write_text("not finished")
    again = run_quietly(ran.spec, ray_address, resume=True)
    assert segments_once(ran.spec.folder) == before
    assert repr(again.result.comparison) == repr(ran.result.comparison)  # NaN in it too
    assert not report.exists(), "it was of before the end"


def test_an_unfit_cluster_is_refused_before_the_first_trial(ray_address, tmp_path, monkeypatch):
    monkeypatch.setattr(
        run, "diagnose", lambda *_, **__: Diagnosis([], ["node-7: its store is another"])
    )
    spec = small_spec(tmp_path, **SMALL)
    with pytest.raises(BadInput, match="not fit for a sweep: node-7: its store is another"):
        run_quietly(spec, ray_address)
    assert not (spec.folder / "trials.parquet").exists()


def test_trials_that_cannot_take_over_a_process_are_tried_again(ray_address, tmp_path, monkeypatch):
    """Tune gives up what has not begun: here once by an exception, once by a process that dies."""
    taken = tmp_path / "taken"
    taken.mkdir()

    class Failing(SegmentTrainable):
        def reset_config(self, new_config: dict[str, Any]) -> bool:
            number = len(list(taken.iterdir()))
            (taken / str(number)).touch()
            if number == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            if number == 0:
                raise RuntimeError("out of luck")
            return super().reset_config(new_config)

    monkeypatch.setattr(workers, "SegmentTrainable", Failing)
    counted: list[str] = []
    failed = adapter.SweepCallback._failed

    def count(callback: Any, trial: Any) -> None:
        counted.append(trial.trial_id)
        failed(callback, trial)

    monkeypatch.setattr(adapter.SweepCallback, "_failed", count)
    spec = small_spec(tmp_path, scheduler="none", **SMALL)
    assert run_quietly(spec, ray_address).result.failures == []
    assert len(list(taken.iterdir())) > 2
    assert len(counted) == len(set(counted)) == 2, "Tune tells of the process's death twice"
    assert_whole(spec.folder)


def test_a_trial_goes_on_from_the_checkpoint_of_its_second_try(
    ray_address, tmp_path, monkeypatch, x64
):
    """Whose folder has another name: the first try had failed while it took a process over."""
    begun = tmp_path / "begun"
    begun.mkdir()

    class Noting(SegmentTrainable):
        def _begin(self, config: dict[str, Any]) -> None:
            super()._begin(config)
            (begun / f"{config['job']} {self.trial.env_steps}").touch()

    monkeypatch.setattr(workers, "SegmentTrainable", Noting)
    for known in ("_programs", "_initializers"):  # which may be of float32
        monkeypatch.setattr(programs, known, {})
    spec = small_spec(tmp_path, scheduler="none", **SMALL)
    prepare(spec, resume=False)
    job = Plan(spec).next_job()
    assert job is not None
    trial, writer = Trial(job.config, job.seeds), ResultsWriter(spec.folder, spec.base.task)
    row = {"row": job.row, "seeds": list(job.seeds), "config": config_json(job.config.to_dict())}
    writer.put_trial(trial_row(job.name, job.phase, **row))
    for segment in (1, 2):
        writer.add_segment(segment_row(job.name, segment) | trial.advance())
    writer.flush()
    folder = spec.folder / "tune" / "session-001" / f"{job.name}_0a7f" / "checkpoint_000000"
    folder.mkdir(parents=True)
    trial.save(folder)
    run_quietly(spec, ray_address, resume=True)
    assert f"{job.name} {2 * SEGMENT}" in {path.name for path in begun.iterdir()}
    assert_whole(spec.folder)


def test_a_trial_that_fails_each_time_does_not_end_the_sweep(ray_address, tmp_path, monkeypatch):
    attempts = tmp_path / "attempts"
    attempts.mkdir()

    class Failing(SegmentTrainable):
        def setup(self, config: dict[str, Any]) -> None:
            self.job = config["job"]
            super().setup(config)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.job = new_config["job"]
            return super().reset_config(new_config)

        def step(self) -> dict[str, Any]:
            row = super().step()
            if self.job == "trial-001" and row["env_steps"] == 2 * SEGMENT:
                number = len(list(attempts.iterdir()))
                (attempts / str(number)).touch()
                raise RuntimeError("out of luck")
            return row

    monkeypatch.setattr(workers, "SegmentTrainable", Failing)
    for module in (adapter, run):
        monkeypatch.setattr(module, "RETRIES", 1)
    failed = run_quietly(small_spec(tmp_path, scheduler="none", **SMALL), ray_address)
    trials = trials_once(failed.spec.folder)
    assert trials["trial-001"]["status"] == "error"
    assert trials["trial-001"]["stop_reason"] == "error"
    assert trials["trial-001"]["objective"] == 0.0
    others = {name: trial["status"] for name, trial in trials.items() if name != "trial-001"}
    assert set(others.values()) == {"finished"}
    assert len(list(attempts.iterdir())) == 2
    assert failed.result.failures == ["trial-001 failed 2 times"]
    assert failed.result.plan.winner != "trial-001"
