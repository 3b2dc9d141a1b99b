"""A node whose GPU cannot be used, in a real Ray cluster: its trials go elsewhere.

The GPUs are only pretended; packs train on the CPU.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from tests.e2e.on_ray import ON_RAY, run_quietly
from tests.e2e.record import assert_whole, trials_once
from tests.tuners.small import SEGMENT, small_spec
from tuners.gpu import UnusableGPU
from tuners.packs import server
from tuners.packs.pack import Pack
from tuners.ray_settings import SETTINGS

pytestmark = [*ON_RAY, pytest.mark.services]

SEARCH = {"media": False, "num_trials": 12, "budget": 2 * SEGMENT, "grace_period": SEGMENT}
ON_GPU = {"slots": 3, "gpus_per_trial": 1.0}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A head without a GPU."""
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    monkeypatch.setenv("JAX_ENABLE_X64", "1")  # as its driver, ``run_quietly``, has it
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    head = {"num_cpus": 2, "num_gpus": 0, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=head)
    yield made
    made.shutdown()


def break_packs_on(node: str, tries: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def make_pack(slots: int) -> Pack:
        class Broken(Pack):
            def enter(self, job: str, entry: object) -> None:
                with tries.open("a") as file:
                    file.write(f"{job}\n")
                raise UnusableGPU("JAX has no GPU on this node: it would train on the cpu")

        return (Broken if ray.get_runtime_context().get_node_id() == node else Pack)(slots)

    monkeypatch.setattr(server, "make_pack", make_pack)


def test_no_trial_is_lost_to_a_node_whose_gpu_cannot_be_used(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, _ = cluster.add_node(num_cpus=0, num_gpus=1), cluster.add_node(num_cpus=0, num_gpus=1)
    tries = tmp_path / "tries"
    break_packs_on(bad.node_id, tries, monkeypatch)
    ran = run_quietly(small_spec(tmp_path / "runs", **SEARCH, **ON_GPU), cluster.address)
    assert ran.result.failures == []
    assert_whole(ran.spec.folder)
    assert {trial["status"] for trial in trials_once(ran.spec.folder).values()} == {"finished"}
    tried = len(tries.read_text().split())
    assert 1 <= tried <= 2 * ON_GPU["slots"], "once for each part of the GPU, or little more"
