"""Ray Tune's view of a trial in a pack: a light process that asks for each segment.

It never loads JAX: the pack of its GPU, which ``tuners/packs/server.py`` makes, trains.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayActorError

from tuners.gpu import UnusableGPU
from tuners.packs.server import CPU, Place
from tuners.trainable import CheckpointClock, begin_again

_MOST_DEATHS = 3  # of a pack while a trial enters it
_TRIES, _BETWEEN_TRIES = 10, 0.5  # to find a free slot, and seconds
_IN_LINE = 2.0  # seconds after which who asked Ray for a part of a GPU is the next to get it


class PackedTrainable(tune.Trainable):
    """Trains one job of a sweep after another in a slot of a pack on its node and GPU.

    The config of a job is what ``tuners/run.py`` makes of it for Tune.
    """

    _place: Place | None
    _pack: Any
    _job: str

    def setup(self, config: dict[str, Any]) -> None:
        """Notes the job; it takes a slot when it is first asked for something.

        Tune may hand the job to another process while this one starts, and then ends this one: the
        slot that it took would be the other's.
        """
        self._next: dict[str, Any] | None = config
        self._place, self._pack, self._job = None, None, ""

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Notes the next job; until it takes a slot the last one keeps its own."""
        self._next = new_config
        return True

    def step(self) -> dict[str, Any]:
        """Returns the row of the next segment once the pack has trained it."""
        self._begin()
        return self._clock.mark(ray.get(self._pack.advance.remote(self._job)))

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Has the pack, which is on this node, write the trial's state."""
        ray.get(self._pack.save.remote(self._job, checkpoint_dir))

    def load_checkpoint(self, checkpoint_dir: Any) -> None:
        """Continues from a state that ``save_checkpoint`` had written; else from the start."""
        self._begin()
        try:
            ray.get(self._pack.load.remote(self._job, checkpoint_dir))
        except ValueError as error:
            begin_again(self._job, error)
            self._enter(self.config, leaving=self._job)

    def cleanup(self) -> None:
        """Leaves the slot, if it ever took one."""
        _leave(self._pack, self._job)

    def _begin(self) -> None:
        """Begins the job that was noted, and leaves the slot of the one before."""
        if self._next is None:
            return
        config, self._next = self._next, None
        place, pack, job = self._place, self._pack, self._job
        self._enter(config, leaving=job or None)
        if self._place != place:
            _leave(pack, job)

    def _enter(self, config: dict[str, Any], leaving: str | None = None) -> None:
        """Takes a slot here, once there is one: who is being ended holds his for a moment."""
        self._clock = CheckpointClock(config["checkpoint_seconds"])
        keeper = ray.get_actor(config["pack_keeper"])
        for _ in range(_TRIES):
            for place in _places(config["config"]):
                pack = _enter_one(keeper, place, config, leaving=leaving)
                if pack is not None:
                    self._place, self._pack, self._job = place, pack, config["job"]
                    return
            time.sleep(_BETWEEN_TRIES)
        raise RuntimeError(f"no pack of this node has a slot for {config['job']}")


def _places(config: dict[str, Any]) -> Iterator[Place]:
    """Yields where this trial may be trained: on the GPU it was given, or on any core here."""
    node = ray.get_runtime_context().get_node_id()
    devices = [str(gpu) for gpu in ray.get_gpu_ids()]
    if not devices:
        resources = next(entry["Resources"] for entry in ray.nodes() if entry["NodeID"] == node)
        devices = [f"{CPU}-{core}" for core in range(int(resources.get("CPU", 1)))]
    static = json.dumps([config["task"], config["ppo"]], sort_keys=True)
    for device in devices:
        yield Place(node, device, static)


def _enter_one(keeper: Any, place: Place, config: dict[str, Any], leaving: str | None) -> Any:
    """Returns the pack at a place if it has a slot for a job."""
    how = {"process": os.getpid(), "leaving": leaving}
    number, pack = ray.get(keeper.pack.remote(place))
    for _ in range(_MOST_DEATHS):
        try:
            entered = ray.get(pack.enter.remote(config["job"], config, **how))
            return pack if entered else None
        except RayActorError:
            number, pack = ray.get(keeper.pack.remote(place, dead=number))
        except UnusableGPU:
            share = ray.get_runtime_context().get_assigned_resources()["GPU"]
            if ray.get(keeper.hold.remote(place, share)):
                time.sleep(_IN_LINE)
            raise
    raise RuntimeError(f"the pack at {place.device} died {_MOST_DEATHS} times")


def _leave(pack: Any, job: str) -> None:
    if not job:
        return
    with contextlib.suppress(RayActorError):  # it died: nobody has a slot there
        ray.get(pack.leave.remote(job))
