"""cluster.yaml on a cloud, from `ray up` to `ray down`; the cloud is tests/cluster/cloud.py.

One story, told in the order of the file: each fixture is what a user does, on from the one before.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.cloud import CREDENTIALS, LAPTOP, Cloud
from tests.cluster.hosts import Host, Hosts, why_not
from tests.cluster.laptop import Laptop
from tests.cluster.overlay import AWS, BUCKET, VENV
from tests.e2e.processes import wait_until
from tests.e2e.record import assert_whole, reported, trials_once
from tuners.layout import TUNE_FOLDER

pytestmark = pytest.mark.cluster

# The preset is the cluster file's, gpu-cluster.  Short trials, two at once on each GPU: while the
# worker that is left trains those that wait, another takes the place of the lost.
SWEEP = (
    "--slots 2 --num-trials 14 --budget 262144 --scheduler none --seeds-per-trial 1"
    " --num-finalists 1 --validation-seeds 1 --test-seeds 1 --media False --name taken"
)
# The machine image has the packages, which would take minutes to install, and no GPU: what trains
# on the one that Ray was told of does so on the CPU.
BASHRC = f"""\
export PYTHONPATH=~/shapesweep
export JAX_PLATFORMS=cpu JAX_DISABLE_MOST_OPTIMIZATIONS=1
export AWS_ENDPOINT_URL={CREDENTIALS["AWS_ENDPOINT_URL"]}
"""


def install(host: Host) -> None:
    """Puts the files of the machine image into a home."""
    (host.home / ".bashrc").write_text(BASHRC)
    (host.home / "shapesweep").mkdir()
    (host.home / "shapesweep" / ".venv").symlink_to(VENV)


class Account:
    """The cloud of a user, and the laptop from which it is used."""

    def __init__(self, folder: Path) -> None:
        for name in ("hosts", "logs"):
            (folder / name).mkdir()
        self.hosts = Hosts(folder / "hosts", [VENV], is_routed=True)
        self.cloud = Cloud(self.hosts, install, BUCKET, sold_out="g6.2xlarge")
        self.laptop = Laptop(self.hosts, folder / "logs", LAPTOP, AWS, CREDENTIALS)

    @property
    def head(self) -> Any:
        return self.cloud.instances[0]

    @property
    def workers(self) -> list[Any]:
        """All that were ever launched."""
        return self.cloud.instances[1:]

    @property
    def runs(self) -> Path:
        return self.cloud.host(self.head).home / "runs"

    def close(self) -> None:
        try:
            self.laptop.close()
            self.cloud.close()
        finally:
            self.hosts.close()


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """A cloud with nothing in it but a bucket and two instance profiles."""
    reason = why_not()
    if reason:
        pytest.fail(f"no hosts can be made here: {reason}", pytrace=False)
    made = Account(tmp_path_factory.mktemp("cloud"))
    try:
        made.laptop.run("ray get-auth-token --generate > /dev/null")
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def up(account: Account) -> Account:
    """After `ray up`."""
    account.laptop.up()
    return account


def test_ray_up_launches_the_head_alone_and_on_demand(up: Account):
    (head,) = up.cloud.instances
    assert (head.instance_type, head.lifecycle) == ("m7i.2xlarge", None)
    assert up.cloud.profile(head) == "shapesweep-head"


@pytest.fixture(scope="module")
def taken(up: Account) -> Path:
    """A sweep from which the cloud took a worker in the middle."""
    folder = up.runs / "taken"
    running = up.laptop.start(
        f"python sweeps/reward_search.py --cluster {AWS.file} {SWEEP}", "cluster"
    )
    running.until(lambda: len(workers_of(folder)) == 2, 600.0)
    lost = up.workers[0]
    up.cloud.interrupt(lost)
    assert running.wait(900.0) == 0, running.output[-5000:]
    return folder


def workers_of(folder: Path) -> set[str]:
    """Host names of all that have trained."""
    return {row["worker"].partition(":")[0] for row in reported(folder)}


def tune_reported(cloud: Cloud) -> set[str]:
    """Trials that Ray Tune itself knows, by the folders that it makes for them in the bucket."""
    folder = f"shapesweep/runs/taken/{TUNE_FOLDER}/"
    names = (name for name in cloud.names_in_bucket() if name.startswith(folder))
    parts = [name.removeprefix(folder).split("/") for name in names]
    return {part[1] for part in parts if len(part) > 2}


def test_workers_are_spot_instances_and_one_takes_the_place_of_the_lost(up: Account, taken: Path):
    assert len(up.workers) == 3
    for worker in up.workers:
        assert worker.lifecycle == "spot"
        assert up.cloud.profile(worker) == "shapesweep-worker"
    assert workers_of(taken) == {up.cloud.host(worker).name for worker in up.workers}


def test_where_the_first_type_is_refused_the_others_train(up: Account, taken: Path):
    assert up.cloud.refused
    assert {worker.instance_type for worker in up.workers} == {"g5.2xlarge", "g4dn.2xlarge"}


def test_an_interruption_loses_no_trial_and_doubles_none(up: Account, taken: Path):
    assert_whole(taken)
    assert sorted(trials_once(taken)) == sorted(tune_reported(up.cloud))
    searched = [row for row in trials_once(taken).values() if row["phase"] == "search"]
    assert len(searched) == 14


def test_mlflow_on_the_head_shows_all_of_it(up: Account, taken: Path):
    assert not up.laptop.mlflow_problem(taken)


def test_workers_are_given_back_when_nothing_is_left_to_do(up: Account, taken: Path):
    wait_until(lambda: up.cloud.running == [up.head], "no worker runs any more", 300.0)


def test_ray_down_leaves_nothing_that_costs(up: Account, taken: Path):
    up.laptop.down()
    assert up.cloud.running == []
    wait_until(lambda: not any(up.cloud.host(i).is_on for i in up.cloud.instances), "all off", 30)
