"""What trains the jobs of a sweep: a process for each trial, or packs that light processes ask."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import yaml

from tuners.errors import BadInput
from tuners.gpu import INSTALL_CUDA, gpu_environment, has_cuda
from tuners.packs.calibration import slots_that_pay
from tuners.packs.server import keep_packs
from tuners.packs.trainable import PackedTrainable
from tuners.spec import SweepSpec
from tuners.trainable import SegmentTrainable

_FINEST = 10_000  # Ray counts resources in parts of so many
# A second; but the driver, which takes 3 ms for each, has no time for more than so many a second,
# and a bucket, of which each asks some 17 requests, would cost more than the GPUs.
_CHECKPOINT_SECONDS, _CHECKPOINTS_A_SECOND, _IN_A_STORE = 1.0, 50, 5


@dataclass(frozen=True)
class Workers:
    """What Tune is told to start for each trial.

    Attributes:
        trainable: its class.
        resources: what one of them occupies.
        at_once: as many as the cluster holds, once it has grown: so many wait, that an autoscaler
            sees how many machines are wanted.
        config: that each is given beside its job's.
    """

    trainable: type
    resources: dict[str, float]
    at_once: int
    config: dict[str, Any]


def refuse_without_gpu(spec: SweepSpec) -> None:
    """Refuses to train on the GPU of a machine that has none, or none that JAX can use.

    For the first Ray would wait, and in place of the second JAX would take the CPU, both silently.

    Raises:
        BadInput: what to do instead.
    """
    if not spec.uses_gpu:
        return
    if not ray.cluster_resources().get("GPU"):
        raise BadInput(
            f"preset {spec.preset} trains on GPUs, but Ray finds none: take --preset laptop, or a"
            " cluster that has some"
        )
    if os.environ.get("JAX_PLATFORMS") != "cpu" and not has_cuda():
        raise BadInput(
            f"preset {spec.preset} trains on GPUs, but the JAX installed here cannot:"
            f" {INSTALL_CUDA}, or take --preset laptop"
        )


@contextmanager
def workers_of(spec: SweepSpec) -> Iterator[Workers]:
    """Yields what trains a sweep's jobs on the cluster that this process has joined.

    Packs end with it.
    """
    gpus = int(largest_cluster().get("GPU", 0.0))
    slots = spec.slots or slots_that_pay(spec, gpus)
    if gpus > 1 and spec.uses_gpu:  # Ray fills one before it takes the next
        slots = min(slots, -(-spec.num_trials // gpus))
    if slots == 1:
        resources = {"cpu": 1.0, "gpu": spec.gpus_per_trial}
        yield _workers(spec, SegmentTrainable, resources)
        return
    share = math.floor(_FINEST / slots) / _FINEST
    slots = int(1.0 / share)  # that Ray lets in: a few more than asked for above a hundred
    resources = {"cpu": 0.0, "gpu": share} if spec.uses_gpu else {"cpu": share, "gpu": 0.0}
    name = f"packs-{spec.name}-{os.getpid()}"
    environment = gpu_environment(spec.precision) if spec.uses_gpu else {}
    keeper = keep_packs(name, slots, environment, gpus)
    try:
        yield _workers(spec, PackedTrainable, resources, pack_keeper=name)
    finally:
        ray.kill(keeper)


def _workers(
    spec: SweepSpec, trainable: type, resources: dict[str, float], **config: Any
) -> Workers:
    at_once = _at_once(resources)
    together = min(at_once, spec.num_trials)
    most_a_second = _CHECKPOINTS_A_SECOND if spec.storage is None else _IN_A_STORE
    config["checkpoint_seconds"] = max(_CHECKPOINT_SECONDS, together / most_a_second)
    return Workers(trainable, resources, at_once, config)


def _at_once(resources: dict[str, float]) -> int:
    there = largest_cluster()
    needed = {"CPU": resources["cpu"], "GPU": resources["gpu"]}
    return max(1, min(int(there.get(name, 0.0) / part) for name, part in needed.items() if part))


def largest_cluster(config: Path = Path("~/ray_bootstrap_config.yaml")) -> dict[str, float]:
    """Returns how many CPU and GPU there are, or may be once the cluster has grown.

    Args:
        config: what ``ray up`` leaves on the head; without it a cluster stays as it is.
    """
    there = ray.cluster_resources()
    try:
        entries = yaml.safe_load(config.expanduser().read_text())
        kinds, head = entries["available_node_types"], entries["head_node_type"]
        most = int(entries["max_workers"])
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError):
        return there
    grown = dict(there)
    for name in ("CPU", "GPU"):
        each = [
            (kind.get("resources") or {}).get(name, 0.0)
            for kind_name, kind in kinds.items()
            for _ in range(min(kind.get("max_workers", most), most))
            if kind_name != head
        ]
        grown[name] = max(there.get(name, 0.0), sum(sorted(each)[-most:]))
    return grown
