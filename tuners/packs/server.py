"""Packs behind Ray: whoever trains a trial asks its pack for each segment.

Nothing that loads JAX is imported here at module level: a pack's process is bound to its device
first, and those that only ask never load it.
"""

import asyncio
import contextlib
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tuners.gpu import require_gpu
from tuners.pinning import pin_to_free_core
from tuners.store import at_hand

CPU = "cpu"
_WRITERS = 4
_IDLE_SECONDS = 120.0


def make_pack(slots: int) -> Any:
    """Returns an empty pack."""
    from tuners.packs.pack import Pack

    return Pack(slots)


class PackServer:
    """Advances a pack when all of its trials have asked for their next segment, or nearly all.

    The trials are light processes elsewhere.  A failure while the pack trains ends this process:
    its trials fail with it, and Tune begins each again from its checkpoint.  It ends two minutes
    after its last trial has left, since an autoscaler gives no node back on which a process runs;
    the keeper starts another when it is asked for one.
    """

    def __init__(self, make_pack: Callable[[int], Any], slots: int, on_cpu: bool = False) -> None:
        """Makes the pack; on a CPU this process is pinned to a core first."""
        if on_cpu:
            pin_to_free_core()
        self._slots = slots
        self._pack = make_pack(slots)
        self._device = ThreadPoolExecutor(1)  # a pack takes one call at a time
        self._files = ThreadPoolExecutor(_WRITERS)
        self._processes: dict[str, int] = {}  # of every trial in a slot: the one that asks for it
        self._asked: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._awaited: set[str] = set()
        self._changed = asyncio.Event()
        self._seconds = 0.0  # that the last segment took
        self._training: asyncio.Task[None] | None = None
        self._ending: asyncio.TimerHandle | None = None

    async def enter(
        self,
        job: str,
        entry: Mapping[str, Any],
        *,
        process: int,
        leaving: str | None = None,
    ) -> bool:
        """Gives a trial a slot: a free one, or that of a trial whose process died without leaving.

        Args:
            job: its name.
            entry: what ``tuners/run.py`` tells Tune of a job.
            process: the id, on this node, of the process that asks for it.
            leaving: the trial before it in the same process, whose slot becomes free.

        Returns:
            Whether there was one.

        Raises:
            ValueError: its checkpoint is damaged, or of another config.
            UnusableGPU: the pack's; the CPU would be slow, and its curves not those of a GPU.
        """
        self._end_later()
        self._take_back(job)  # asked by a process of this trial that died
        held = self._processes.keys() - {job, leaving}
        dead = set(filter(self._is_dead, held))
        if len(held) - len(dead) >= self._slots:
            return False
        self._processes[job] = process
        self._awaited.add(job)  # before another leaves: the others do not train without it
        if leaving not in (None, job):
            await self.leave(leaving)
        for other in dead:
            if self._is_dead(other):  # still: its next process may have come meanwhile
                await self.leave(other)
        try:
            await self._on_device(require_gpu)
            with contextlib.ExitStack() as stack:
                if (place := entry["resume_from"]) is not None:  # it is fetched beside training
                    folder = await asyncio.get_running_loop().run_in_executor(
                        self._files, lambda: stack.enter_context(at_hand(place))
                    )
                    entry = {**entry, "resume_from": folder}
                await self._on_device(self._pack.enter, job, entry)
        except Exception:
            await self.leave(job)
            raise
        return True

    async def advance(self, job: str) -> dict[str, Any]:
        """Trains a trial's next segment beside the others'; returns its row."""
        self._check_in_slot(job)
        self._awaited.add(job)
        self._asked[job] = asyncio.get_running_loop().create_future()
        self._changed.set()
        if self._training is None:
            self._training = asyncio.create_task(self._train())
        return await self._asked[job]

    async def save(self, job: str, folder: str) -> None:
        """Writes a trial's checkpoint."""
        self._check_in_slot(job)
        snapshot = await self._on_device(self._pack.snapshot, job)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._files, snapshot.write, Path(folder))

    async def load(self, job: str, folder: str) -> None:
        """Puts a trial back to where its checkpoint has it."""
        self._check_in_slot(job)
        await self._on_device(self._pack.load, job, Path(folder))

    async def leave(self, job: str) -> None:
        """Frees a trial's slot."""
        self._awaited.discard(job)
        self._changed.set()
        if self._processes.pop(job, None) is None:
            return
        self._take_back(job)
        await self._on_device(self._pack.leave, job)
        self._end_later()

    def _end_later(self) -> None:
        """Ends this process in a while, unless by then a trial is there whose process lives."""
        if self._ending is not None:
            self._ending.cancel()
        self._ending = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._end_if_idle)

    def _end_if_idle(self) -> None:
        if all(map(self._is_dead, self._processes)):
            self._give_up(0)
        else:
            self._end_later()

    def _take_back(self, job: str) -> None:
        """Ends a trial's wait for a segment."""
        if (asked := self._asked.pop(job, None)) is not None:
            asked.set_exception(RuntimeError(f"{job} lost its slot"))

    def _is_dead(self, job: str) -> bool:
        """Returns whether a trial has a slot, and its process ended without leaving it."""
        if job not in self._processes:
            return False
        try:
            os.kill(self._processes[job], 0)
        except (ProcessLookupError, PermissionError):  # the latter: it is somebody else's by now
            return True
        return False

    def _check_in_slot(self, job: str) -> None:
        if job not in self._processes:
            raise RuntimeError(f"{job} has no slot in this pack")

    async def _train(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._gather()
            asked, self._asked = self._asked, {}
            self._awaited &= asked.keys()  # the others have their next turn when they ask again
            try:
                rows = await self._on_device(self._pack.advance, list(asked))
            except Exception as error:
                traceback.print_exc()
                loop.call_later(1.0, self._give_up, 1)
                for future in asked.values():
                    if not future.done():
                        future.set_exception(error)
                return
            for job, future in asked.items():
                self._seconds = rows[job]["wall_seconds"]
                if not future.done():
                    future.set_result(rows[job])

    async def _gather(self) -> None:
        """Waits until every trial that may ask has asked, or until waiting costs too much.

        Going without some costs each of them a segment; waiting costs that to all who have asked.
        A trial that has ended is waited for as well: the next one may take its slot.
        """
        begun: float | None = None
        while True:
            self._changed.clear()
            missing = len(self._awaited - self._asked.keys())
            if self._asked and not missing:
                return
            patience = None
            if self._asked:
                begun = time.monotonic() if begun is None else begun
                spent = time.monotonic() - begun
                patience = self._seconds * missing / len(self._asked) - spent
                if patience <= 0:
                    return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), patience)

    async def _on_device(self, call: Callable[..., Any], *arguments: Any) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._device, partial(call, *arguments))

    def _give_up(self, status: int) -> None:
        sys.stderr.flush()
        os._exit(status)


class Place(NamedTuple):
    """Where a pack is, and what it trains.

    Attributes:
        node: Ray's id of the node.
        device: the GPU's id there, or "cpu-0", "cpu-1", ...
        static: task and static config; a pack trains one program.
    """

    node: str
    device: str
    static: str


class Holder:
    """Holds a part of a GPU by being there; of another one than was meant it lets go at once."""

    def __init__(self, device: str) -> None:
        """Ends this process unless Ray gave it a part of ``device``."""
        if [str(gpu) for gpu in ray.get_gpu_ids()] != [device]:
            ray.actor.exit_actor()


class PackKeeper:
    """Makes packs on demand, one a place, and a new one for each that died.  They end with it."""

    def __init__(
        self,
        make_pack: Callable[[int], Any],
        slots: int,
        environment: Mapping[str, str],
        gpus: int,
    ) -> None:
        """Packs get ``slots`` slots, and ``environment`` beside what binds them to their device.

        ``gpus`` are those of the cluster, once it has grown.
        """
        self._make_pack = make_pack
        self._slots = slots
        self._environment = environment
        self._gpus = gpus
        self._packs: dict[Place, tuple[int, Any]] = {}
        self._unusable: set[tuple[str, str]] = set()
        self._holders: list[Any] = []

    def pack(self, place: Place, dead: int | None = None) -> tuple[int, Any]:
        """Returns number and handle of the pack at a place; another one if that ``dead`` died."""
        number, _ = self._packs.get(place, (dead, None))
        if number == dead:
            self._packs[place] = (0 if dead is None else dead + 1), self._start(place)
        return self._packs[place]

    def hold(self, place: Place, share: float) -> bool:
        """Keeps a part of a GPU that cannot be used from other trials, once the one there has gone.

        Such a GPU always has room: trial after trial would fail there, until none may try again.
        Of the cluster's last GPU nothing is held: the trials would wait for ever.

        Returns:
            Whether it will be held.
        """
        self._unusable.add((place.node, place.device))
        if len(self._unusable) >= self._gpus:
            return False
        options = {
            "num_cpus": 0,
            "num_gpus": share,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(place.node, soft=False),
        }
        self._holders.append(ray.remote(Holder).options(**options).remote(place.device))
        return True

    def _start(self, place: Place) -> Any:
        on_cpu = place.device.startswith(CPU)
        bound = {"JAX_PLATFORMS": "cpu"} if on_cpu else {"CUDA_VISIBLE_DEVICES": place.device}
        options = {
            "num_cpus": 0,  # its trials hold what it uses
            "scheduling_strategy": NodeAffinitySchedulingStrategy(place.node, soft=False),
            "runtime_env": {"env_vars": {**self._environment, **bound}},
            "max_concurrency": 2 * self._slots + 8,
        }
        return (
            ray.remote(PackServer).options(**options).remote(self._make_pack, self._slots, on_cpu)
        )


def keep_packs(name: str, slots: int, environment: Mapping[str, str], gpus: int) -> Any:
    """Starts the keeper of a sweep's packs under a name that its trials look for; returns it.

    It runs on this node, and ends with this process if nobody ends it before.
    """
    here = ray.get_runtime_context().get_node_id()
    options = {
        "name": name,
        "num_cpus": 0,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(here, soft=False),
    }
    keeper = ray.remote(PackKeeper).options(**options)
    return keeper.remote(make_pack, slots, dict(environment), gpus)
