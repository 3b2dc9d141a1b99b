"""What Tune is told to start for a sweep's trials."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from tests.tuners.small import refusal, small_spec
from tuners import workers
from tuners.packs.trainable import PackedTrainable
from tuners.trainable import SegmentTrainable
from tuners.workers import largest_cluster, refuse_without_gpu, workers_of


@pytest.fixture
def cluster(monkeypatch):
    """A cluster of 8 cores and 2 GPUs; keepers that were started, and ended."""
    seen = SimpleNamespace(kept=[], ended=[])

    def keep_packs(name, slots, environment, gpus):
        assert gpus == 2
        seen.kept.append((slots, environment))
        return name

    fake = SimpleNamespace(
        cluster_resources=lambda: {"CPU": 8.0, "GPU": 2.0}, kill=seen.ended.append
    )
    monkeypatch.setattr(workers, "keep_packs", keep_packs)
    monkeypatch.setattr(workers, "ray", fake)
    return seen


def test_without_packs_each_trial_has_a_core_of_its_own(cluster, tmp_path):
    with workers_of(small_spec(tmp_path)) as found:
        assert found.trainable is SegmentTrainable
        assert (found.resources, found.at_once) == ({"cpu": 1.0, "gpu": 0.0}, 8)
        assert found.config == {"checkpoint_seconds": 1.0}
    assert cluster.kept == []


def test_many_trials_write_checkpoints_more_seldom(cluster, tmp_path):
    """The driver takes part in each: of all together it gets no more than fifty a second."""
    spec = small_spec(tmp_path, slots=64, gpus_per_trial=1.0, num_trials=1000)
    with workers_of(spec) as found:
        assert found.config["checkpoint_seconds"] == found.at_once / 50 > 1.0
    with workers_of(replace(spec, num_trials=60)) as found:
        assert found.config["checkpoint_seconds"] == 60 / 50
    with workers_of(replace(spec, num_trials=60, storage="s3://bucket/runs")) as found:
        assert found.config["checkpoint_seconds"] == 60 / 5, "each request costs"


def test_or_a_part_of_a_gpu(cluster, tmp_path):
    with workers_of(small_spec(tmp_path, gpus_per_trial=0.5)) as found:
        assert (found.trainable, found.at_once) == (SegmentTrainable, 4)


def test_trials_that_want_a_gpu_are_refused_on_a_machine_without(cluster, tmp_path, monkeypatch):
    """Ray would wait for one without a word."""
    spec = small_spec(tmp_path, gpus_per_trial=1.0)
    refuse_without_gpu(spec)
    monkeypatch.setattr(workers.ray, "cluster_resources", lambda: {"CPU": 8.0})
    assert "trains on GPUs, but Ray finds none" in refusal(refuse_without_gpu, spec)
    refuse_without_gpu(small_spec(tmp_path))


def test_a_gpu_that_jax_cannot_use_is_refused(cluster, tmp_path, monkeypatch):
    """JAX would train on the CPU without a word."""
    spec = small_spec(tmp_path, gpus_per_trial=1.0)
    monkeypatch.setenv("JAX_PLATFORMS", "")
    monkeypatch.setattr(workers, "has_cuda", lambda: True)
    refuse_without_gpu(spec)
    monkeypatch.setattr(workers, "has_cuda", lambda: False)
    assert "make setup LOCK=requirements-cuda12.lock" in refusal(refuse_without_gpu, spec)
    refuse_without_gpu(small_spec(tmp_path))


@pytest.mark.parametrize("slots", [2, 3, 6, 7, 16, 48, 64, 256, 300, 1000])
def test_a_pack_is_full_when_its_gpu_is(cluster, tmp_path, slots):
    """Ray rounds shares to four digits: none may be rounded up, or the last would not fit."""
    spec = small_spec(tmp_path, slots=slots, gpus_per_trial=1.0, num_trials=2 * slots)
    with workers_of(spec) as found:
        share = found.resources["gpu"]
        assert found.trainable is PackedTrainable
        assert round(share, 4) == share
        (slots_made, _), *_ = cluster.kept
        assert slots <= slots_made == int(1.0 / share)
        assert found.resources["cpu"] == 0.0, "a light process"
        assert found.at_once >= 2 * slots
    assert cluster.ended == [found.config["pack_keeper"]]


def test_trials_are_shared_among_gpus(cluster, tmp_path):
    """Ray would fill one before it takes the next."""
    spec = small_spec(tmp_path, slots=64, gpus_per_trial=1.0, num_trials=63)
    with workers_of(spec) as found:
        assert found.at_once == 2 * 32
    assert cluster.kept[0][0] == 32


def test_packs_on_a_cpu_share_its_cores(cluster, tmp_path):
    with workers_of(small_spec(tmp_path, slots=4)) as found:
        assert (found.resources, found.at_once) == ({"cpu": 0.25, "gpu": 0.0}, 32)
    assert cluster.kept == [(4, {})]


def test_packs_on_a_gpu_know_their_precision(cluster, tmp_path):
    spec = small_spec(tmp_path, slots=4, gpus_per_trial=1.0, precision="tensorfloat32")
    with workers_of(spec):
        ((_, environment),) = cluster.kept
    assert environment["JAX_DEFAULT_MATMUL_PRECISION"] == "default", "which is that on a GPU"


def test_packs_end_with_a_sweep_that_fails(cluster, tmp_path):
    with pytest.raises(KeyboardInterrupt), workers_of(small_spec(tmp_path, slots=4)):
        raise KeyboardInterrupt
    assert len(cluster.ended) == 1


CLUSTER = """
max_workers: 8
head_node_type: head
available_node_types:
  head: {max_workers: 0, resources: {CPU: 0}}
  l4: {max_workers: 8, resources: {CPU: 8, GPU: 1}}
  a10g: {max_workers: 20, resources: {CPU: 8, GPU: 2}}
  t4: {}
"""


def test_a_cluster_counts_as_large_as_it_may_grow(cluster, tmp_path):
    config = tmp_path / "ray_bootstrap_config.yaml"
    config.write_text(CLUSTER)
    assert largest_cluster(config) == {"CPU": 64.0, "GPU": 16.0}


def test_types_of_which_a_part_is_allowed_count_together(cluster, tmp_path):
    config = tmp_path / "ray_bootstrap_config.yaml"
    config.write_text(CLUSTER.replace("8, res", "5, res").replace("20, res", "2, res"))
    assert largest_cluster(config) == {"CPU": 56.0, "GPU": 9.0}
    config.write_text(CLUSTER.replace("8, res", "5, res").replace("20, res", "4, res"))
    assert largest_cluster(config) == {"CPU": 64.0, "GPU": 12.0}, "no more machines than allowed"


@pytest.mark.parametrize("text", [None, "{", "[]", "max_workers: many"])
def test_a_cluster_that_nobody_may_grow_counts_as_it_is(cluster, tmp_path, text):
    config = tmp_path / "ray_bootstrap_config.yaml"
    if text is not None:
        config.write_text(text)
    assert largest_cluster(config) == {"CPU": 8.0, "GPU": 2.0}
