"""``run_sweep`` on the Ray cluster that the session shares: its phases, and a trial that fails."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.e2e.record import assert_whole, segments_once, trials_once
from tests.tuners.small import SEGMENT, small_spec
from tuners import run, tracking
from tuners.ray_settings import SETTINGS
from tuners.run import SweepResult, run_sweep
from tuners.space import Choice, Uniform
from tuners.spec import SweepSpec, prepare

pytestmark = [
    pytest.mark.ray,
    # Of Ray, which shares sockets and subprocesses with what it starts.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

# One traced and one static parameter.
SPACE = {"learning_rate": Uniform(1e-4, 1e-2), "num_minibatches": Choice((2, 4))}
SMALL = {"num_trials": 3, "budget": 4 * SEGMENT, "grace_period": SEGMENT, "space": SPACE}


@pytest.fixture(scope="session")
def ray_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a local Ray cluster with two cores."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHAPESWEEP_CACHE", str(tmp_path_factory.mktemp("programs")))
        for name, value in SETTINGS.items():
            patch.setenv(name, value)
        cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False}
        )
        yield cluster.address
        cluster.shutdown()


@dataclass(frozen=True)
class Ran:
    spec: SweepSpec
    result: SweepResult


def without_mlflow(folder: Path, tracking_uri: str) -> "subprocess.Popen[bytes]":
    """A follower that writes nothing."""
    program = "import sys; sys.stdin.read()"
    return subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE)


def run_quietly(spec: SweepSpec, address: str, *, resume: bool = False) -> Ran:
    prepare(spec, resume=resume)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracking, "start_following", without_mlflow)
        return Ran(spec, run_sweep(spec, console=Console(quiet=True), address=address))


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
    again = run_quietly(ran.spec, ray_address, resume=True)
    assert segments_once(ran.spec.folder) == before
    assert again.result.comparison == ran.result.comparison


def test_a_trial_that_fails_each_time_does_not_end_the_sweep(ray_address, tmp_path, monkeypatch):
    attempts = tmp_path / "attempts"
    attempts.mkdir()

    class Failing(run.SegmentTrainable):
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

    monkeypatch.setattr(run, "SegmentTrainable", Failing)
    monkeypatch.setattr(run, "RETRIES", 1)
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
