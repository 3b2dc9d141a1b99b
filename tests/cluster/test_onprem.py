"""cluster.onprem.yaml on machines reached by SSH, as a user has them, with what goes wrong.

One story, told in the order of the file: each fixture is what a user does, on from the one before.
"""

import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.hosts import Hosts, end_session, why_not
from tests.cluster.laptop import CLUSTER_FILE, HEAD, VENV, WORKERS, Laptop, Started
from tests.e2e.record import Curves, assert_whole, segments_once, trials_once
from tuners.layout import TUNE_FOLDER
from tuners.results import read_segments

pytestmark = pytest.mark.cluster

# Trials long enough to be caught in the middle.
LONG = "--preset smoke --num-trials 6 --budget 131072"
# Settings of the machines, not of the cluster file: most of the time would be compiling.
BASHRC = "export JAX_PLATFORMS=cpu JAX_DISABLE_MOST_OPTIMIZATIONS=1\n"
RAY_UP = f"ray up --yes {CLUSTER_FILE}"


class Cluster:
    """The hosts, and the laptop from which they are used."""

    def __init__(self, folder: Path) -> None:
        for name in ("hosts", "logs"):
            (folder / name).mkdir()
        self.hosts = Hosts(folder / "hosts", [VENV])
        self.laptop = Laptop(self.hosts, folder / "logs")
        self.runs = self.hosts.shared / "shapesweep" / "runs"
        for name, address in {"head": HEAD, **WORKERS}.items():
            self.switch_on(name, address)

    def switch_on(self, name: str, address: str) -> None:
        host = self.hosts.start(name, address)
        bashrc = host.home / ".bashrc"
        if not bashrc.exists():
            bashrc.write_text(BASHRC)

    def mlflow_problem(self, sweep: str) -> str:
        """What MLflow on the head lacks of a sweep, asked through a forwarded port."""
        forward = self.laptop.start(f"ray exec {CLUSTER_FILE} -p 5000 'sleep 600'", "forward")
        check = (
            "import pathlib; from tests.e2e.record import assert_one_run_a_trial as check;"
            f" check('http://127.0.0.1:5000', pathlib.Path({str(self.runs / sweep)!r}))"
        )
        ask = "import urllib.request as u; u.urlopen('http://127.0.0.1:5000/health', timeout=5)"
        try:
            wait_for(lambda: self._in_network(ask).returncode == 0, forward, 60.0)
            done = self._in_network(check)
            return done.stdout if done.returncode else ""
        finally:
            end_session(forward.process)

    def _in_network(self, program: str) -> subprocess.CompletedProcess[str]:
        """Runs Python here, but in the laptop's network."""
        command = f"{shlex.quote(sys.executable)} -c {shlex.quote(program)}"
        return subprocess.run(
            self.hosts.command("laptop", command, only_network=True),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def wait_for(condition: Callable[[], bool], started: Started, seconds: float) -> None:
    """Waits for what a command that runs is to bring about."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert not started.ended, f"ended too early:\n{started.output[-5000:]}"
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s:\n{started.output[-5000:]}"
        time.sleep(0.2)


def reported(folder: Path) -> list[dict[str, Any]]:
    """The segments so far; none before there is a table."""
    return read_segments(folder) if (folder / "trials.parquet").exists() else []


def tune_reported(folder: Path) -> set[str]:
    """Trials that Ray Tune itself knows, by the folders that it makes for them."""
    return {path.name for path in (folder / TUNE_FOLDER).glob("session-*/*") if path.is_dir()}


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The machines, with no Ray on them."""
    reason = why_not()
    if reason:
        pytest.fail(f"no hosts can be made here: {reason}", pytrace=False)
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        made.laptop.run("ray get-auth-token --generate > /dev/null")
        yield made
    finally:
        made.hosts.close()


def assert_not_up(machines: Cluster) -> None:
    shown = machines.laptop.try_to(f"python sweeps/reward_search.py --cluster {CLUSTER_FILE}", 60)
    assert shown.returncode == 2, shown.stdout
    assert shown.stdout.splitlines()[-1].endswith(f"is not up: type `ray up {CLUSTER_FILE}`")


def test_a_cluster_that_is_not_up_is_said(machines):
    assert_not_up(machines)


@pytest.fixture(scope="module")
def cluster(machines: Cluster) -> Cluster:
    """After `ray up`."""
    machines.laptop.run(RAY_UP, seconds=120)
    return machines


@pytest.fixture(scope="module")
def cut(cluster: Cluster) -> Path:
    """A sweep that a worker's power cut hit in the middle."""
    folder = cluster.runs / "cut"
    running = cluster.laptop.start(
        f"ray submit {CLUSTER_FILE} sweeps/reward_search.py {LONG} --name cut", "submit"
    )
    wait_for(lambda: len(reported(folder)) > 20, running, 180.0)
    busy = reported(folder)[-1]["worker"].partition(":")[0]
    cluster.hosts.cut(busy)
    assert running.wait(240.0) == 0, running.output[-5000:]
    assert {row["worker"].partition(":")[0] for row in reported(folder)} == set(WORKERS)
    cluster.switch_on(busy, WORKERS[busy])
    return folder


def test_a_power_cut_loses_no_trial_and_doubles_none(cut):
    assert_whole(cut)
    assert sorted(trials_once(cut)) == sorted(tune_reported(cut))
    searched = [row for row in trials_once(cut).values() if row["phase"] == "search"]
    assert len(searched) == 6


def test_compiled_programs_are_shared(cluster, cut):
    """So is the lock on each, for which the next machine waits."""
    assert list((cluster.runs.parent / "cache").glob("*.lock"))


def test_mlflow_on_the_head_shows_all_of_it(cluster, cut):
    assert not cluster.mlflow_problem("cut")


def test_the_best_is_fetched_to_the_laptop(cluster, cut):
    cluster.laptop.run(
        f"ray exec {CLUSTER_FILE} 'python shapesweep/sweeps/export_best.py --sweep cut --out best'"
    )
    cluster.laptop.run(f"ray rsync-down {CLUSTER_FILE} '~/best/' ./best/")
    shown = cluster.laptop.run("python sweeps/evaluate.py best --episodes 2")
    assert "score" in shown


@pytest.fixture(scope="module")
def before_the_loss(cluster: Cluster, cut: Path) -> Curves:
    """Segments of a sweep, submitted with --cluster, when the head was lost with all on it."""
    folder = cluster.runs / "lost"
    running = cluster.laptop.start(
        f"python sweeps/reward_search.py --cluster {CLUSTER_FILE} {LONG} --name lost", "cluster"
    )
    wait_for(lambda: len(reported(folder)) > 50, running, 120.0)
    running.interrupt()
    assert running.wait(20.0) == 130, running.output
    assert "ray job logs --follow" in running.output
    seen = len(reported(folder))
    deadline = time.monotonic() + 60.0
    while len(reported(folder)) <= seen:
        assert time.monotonic() < deadline, f"the job ended with its watcher:\n{running.output}"
        time.sleep(0.2)
    cluster.hosts.cut("head")
    known = segments_once(folder)
    cluster.hosts.forget("head")
    return known


@pytest.fixture(scope="module")
def resumed(cluster: Cluster, before_the_loss: Curves) -> Path:
    """The same sweep, resumed on a new head with empty disks."""
    cluster.switch_on("head", HEAD)
    cluster.laptop.try_to(f"ray down --yes {CLUSTER_FILE}")
    cluster.laptop.run(RAY_UP, seconds=120)
    cluster.laptop.run(
        f"python sweeps/reward_search.py --cluster {CLUSTER_FILE} --resume lost", seconds=240
    )
    return cluster.runs / "lost"


def test_a_lost_head_loses_nothing_that_was_reported(resumed, before_the_loss):
    assert_whole(resumed)
    after = segments_once(resumed)
    for key, row in before_the_loss.items():
        assert after[key]["seed_scores"] == row["seed_scores"]


def test_mlflow_on_the_new_head_shows_all_of_it(cluster, resumed):
    assert not cluster.mlflow_problem("lost")


def test_the_old_sweep_is_still_in_mlflow_on_the_new_head(cluster, resumed):
    assert not cluster.mlflow_problem("cut")


def test_ray_down_ends_ray_on_the_head(cluster, resumed):
    cluster.laptop.run(f"ray down --yes {CLUSTER_FILE}")
    assert_not_up(cluster)
