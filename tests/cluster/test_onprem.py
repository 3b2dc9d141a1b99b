"""cluster.onprem.yaml on machines reached by SSH, as a user has them, with what goes wrong.

One story, told in the order of the file: each fixture is what a user does, on from the one before.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.hosts import Hosts, why_not
from tests.cluster.laptop import Laptop
from tests.cluster.overlay import HEAD, ONPREM, VENV, WORKERS
from tests.e2e.record import Curves, assert_whole, reported, segments_once, trials_once
from tuners.layout import TUNE_FOLDER

pytestmark = pytest.mark.cluster

# Trials long enough to be caught in the middle.
LONG = "--preset smoke --num-trials 6 --budget 131072"
# Settings of the machines, not of the cluster file: most of the time would be compiling.
BASHRC = "export JAX_PLATFORMS=cpu JAX_DISABLE_MOST_OPTIMIZATIONS=1\n"
CLUSTER_FILE = ONPREM.file
LAPTOP = "10.77.0.1"


class Cluster:
    """The hosts, and the laptop from which they are used."""

    def __init__(self, folder: Path) -> None:
        for name in ("hosts", "logs"):
            (folder / name).mkdir()
        self.hosts = Hosts(folder / "hosts", [VENV])
        self.laptop = Laptop(self.hosts, folder / "logs", LAPTOP, ONPREM, {})
        self.runs = self.hosts.shared / "shapesweep" / "runs"
        for name, address in {"head": HEAD, **WORKERS}.items():
            self.deliver(name, address)

    def deliver(self, name: str, address: str) -> None:
        """Brings a machine with empty disks, and switches it on."""
        host = self.hosts.make(name, address, shared=self.hosts.shared)
        (host.home / ".bashrc").write_text(BASHRC)
        self.hosts.switch_on(name)


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
        made.laptop.close()
        made.hosts.close()


def assert_not_up(machines: Cluster) -> None:
    shown = machines.laptop.try_to(f"python sweeps/reward_search.py --cluster {CLUSTER_FILE}", 60)
    assert shown.returncode == 2, shown.stdout
    assert shown.stdout.splitlines()[-1].endswith("ends a sweep that runs there")


def test_a_cluster_that_is_not_up_is_said(machines):
    assert_not_up(machines)


@pytest.fixture(scope="module")
def cluster(machines: Cluster) -> Cluster:
    """After `ray up`."""
    machines.laptop.up()
    return machines


@pytest.fixture(scope="module")
def cut(cluster: Cluster) -> Path:
    """A sweep that a worker's power cut hit in the middle."""
    folder = cluster.runs / "cut"
    running = cluster.laptop.start(
        f"ray submit {CLUSTER_FILE} sweeps/reward_search.py {LONG} --name cut", "submit"
    )
    running.until(lambda: len(reported(folder)) > 20, 600.0)
    busy = reported(folder)[-1]["worker"].partition(":")[0]
    cluster.hosts.cut(busy)
    assert running.wait(600.0) == 0, running.output[-5000:]
    assert {row["worker"].partition(":")[0] for row in reported(folder)} == set(WORKERS)
    cluster.hosts.switch_on(busy)
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
    assert not cluster.laptop.mlflow_problem(cluster.runs / "cut")


def test_the_best_is_fetched_to_the_laptop(cluster, cut):
    cluster.laptop.run(
        f"ray exec {CLUSTER_FILE} 'python shapesweep/sweeps/export_best.py cut --out best'"
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
    running.until(lambda: len(reported(folder)) > 50, 600.0)
    running.interrupt()
    assert running.wait(120.0) == 130, running.output
    assert "ray job logs --follow" in running.output
    seen = len(reported(folder))
    deadline = time.monotonic() + 180.0
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
    cluster.deliver("head", HEAD)
    cluster.laptop.try_to(f"ray down --yes {CLUSTER_FILE}")
    cluster.laptop.up()
    cluster.laptop.run(
        f"python sweeps/reward_search.py --cluster {CLUSTER_FILE} --resume lost", seconds=900
    )
    return cluster.runs / "lost"


def test_a_lost_head_loses_nothing_that_was_reported(resumed, before_the_loss):
    assert_whole(resumed)
    after = segments_once(resumed)
    for key, row in before_the_loss.items():
        assert after[key]["seed_scores"] == row["seed_scores"]


def test_mlflow_on_the_new_head_shows_all_of_it(cluster, resumed):
    assert not cluster.laptop.mlflow_problem(cluster.runs / "lost")


def test_the_old_sweep_is_still_in_mlflow_on_the_new_head(cluster, resumed):
    assert not cluster.laptop.mlflow_problem(cluster.runs / "cut")


def test_ray_down_ends_ray_on_the_head(cluster, cut):
    cluster.laptop.down()
    assert_not_up(cluster)
