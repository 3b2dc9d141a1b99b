"""A pack: many trials trained by one compiled program on one device.

Trials take a slot, train segment by segment beside whoever is there, and leave; nothing is compiled
anew as they come and go.  ``server.py`` puts a pack behind Ray.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlcore.evaluate import Episodes
from rlcore.ppo.slots import put_slot, stack, take_slot
from rlcore.ppo.train import TrainState
from tuners.config import TrialConfig
from tuners.programs import fresh_state, seconds_saved, slots_program
from tuners.progress import Effort, Progress, reports_of


@dataclass(frozen=True)
class Snapshot:
    """A trial's state after a segment, on the host; it is written before the trial asks again."""

    progress: Progress
    state: TrainState
    episodes: Episodes | None

    def write(self, folder: Path) -> None:
        """Writes the trial's checkpoint into ``folder``."""
        self.progress.write_checkpoint(folder, self.state, self.episodes)


class _OnHost:
    """Stacked arrays of the device, which all come to the host when one entry is asked for.

    Entry by entry it would take as long for each of them, with the device idle.
    """

    def __init__(self, stacked: Any) -> None:
        """Fetches nothing yet."""
        self._stacked = stacked
        self._here: Any = None

    def __getitem__(self, entry: int) -> Any:
        if self._here is None:
            self._here, self._stacked = jax.device_get(_copied(self._stacked)), None
        return jax.tree.map(lambda leaf: leaf[entry], self._here)


@jax.jit
def _copied(tree: Any) -> Any:
    """Returns copies: on a CPU what is fetched is the device's own memory, which is donated.

    Of random keys, which would stay on the device, their bits, as a checkpoint has them.
    """

    def bits(leaf: jax.Array) -> jax.Array:
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jax.random.key_data(leaf) if is_key else leaf

    return jax.tree.map(lambda leaf: jnp.copy(bits(leaf)), tree)


@dataclass
class _Occupant:
    """A trial in its slot; ``episodes`` are a lane of those that a run of the program returned."""

    slot: int
    progress: Progress
    episodes: tuple[_OnHost, int] | None = None


class Pack:
    """Slots for trials that share one static config.

    Not safe for several threads: whoever drives it makes one call at a time.

    Attributes:
        slots: trials that it holds at most.
    """

    def __init__(self, slots: int) -> None:
        """Compiles nothing: the first trial says what."""
        self.slots = slots
        self._occupants: dict[str, _Occupant] = {}
        self._free = list(reversed(range(slots)))
        self._states: Any = None
        self._states_on_host = _OnHost(None)  # as the states are now
        self._parameters: Any = None
        self._programs: _Programs | None = None

    @property
    def jobs(self) -> list[str]:
        """Names of the trials in it."""
        return list(self._occupants)

    def enter(self, job: str, entry: Mapping[str, Any]) -> None:
        """Gives a trial a slot.

        Args:
            job: its name.
            entry: what ``tuners/run.py`` tells Tune of a job; its checkpoint, if any, in a folder.

        Raises:
            ValueError: its checkpoint is damaged, or of another config.
        """
        progress = Progress.from_entry(entry)
        state = fresh_state(progress.config, progress.seeds)
        if entry["resume_from"] is not None:
            state = progress.read_checkpoint(Path(entry["resume_from"]), state)
        self.leave(job)
        self._open(state, progress)
        occupant = _Occupant(self._free.pop(), progress)
        self._occupants[job] = occupant
        self._put(occupant, state)

    def load(self, job: str, folder: Path) -> None:
        """Puts a trial back to where its checkpoint has it.

        Raises:
            ValueError: the checkpoint is damaged or of another config.
        """
        occupant = self._occupants[job]
        template = jax.eval_shape(lambda: take_slot(self._states, occupant.slot))
        state = occupant.progress.read_checkpoint(folder, template)
        self._put(occupant, state)

    def leave(self, job: str) -> None:
        """Frees a trial's slot, if it has one."""
        occupant = self._occupants.pop(job, None)
        if occupant is not None:
            self._free.append(occupant.slot)

    def advance(self, jobs: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Trains a segment of each of ``jobs``; returns their rows by name."""
        assert self._programs is not None
        occupants = [self._occupants[job] for job in jobs]
        for occupant in occupants:
            if occupant.progress.follow_schedule():
                self._put_parameters(occupant)
        width, program = self._programs.narrowest(len(jobs))
        lanes = np.full(width, self.slots, np.int32)
        lanes[: len(jobs)] = [occupant.slot for occupant in occupants]
        task, *numbers = self._parameters
        wall, cpu = time.perf_counter(), time.process_time()
        states, metrics, episodes = program(task, self._states, *numbers, lanes)
        self._set_states(states)
        metrics = jax.device_get(metrics)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        waited = self._programs.seconds_waited()
        effort = Effort(wall, cpu / len(jobs), waited, self.slots, len(jobs))
        self._programs.count_waste(len(jobs), width, wall)
        rows, filmed = {}, _OnHost(episodes)
        reports = reports_of(metrics)  # of empty lanes too, which come last
        for lane, (job, occupant) in enumerate(zip(jobs, occupants, strict=True)):
            rows[job] = occupant.progress.take_in(reports[lane], effort)
            if not rows[job]["diverged"]:
                occupant.episodes = filmed, lane
        return rows

    def snapshot(self, job: str) -> Snapshot:
        """Returns a trial as it is now."""
        occupant = self._occupants[job]
        state = self._states_on_host[occupant.slot]
        episodes = None
        if occupant.episodes is not None:
            filmed, lane = occupant.episodes
            episodes = filmed[lane]
        return Snapshot(occupant.progress, state, episodes)

    def _open(self, state: TrainState, progress: Progress) -> None:
        if self._programs is None:
            self._set_states(stack(state, self.slots))
            self._parameters = stack(progress.parameters, self.slots)
            self._programs = _Programs(self.slots, progress.config)

    def _set_states(self, states: Any) -> None:
        self._states, self._states_on_host = states, _OnHost(states)

    def _put(self, occupant: _Occupant, state: TrainState) -> None:
        self._set_states(put_slot(self._states, occupant.slot, state))
        self._put_parameters(occupant)

    def _put_parameters(self, occupant: _Occupant) -> None:
        parameters = occupant.progress.parameters
        self._parameters = put_slot(self._parameters, occupant.slot, parameters)


class _Programs:
    """The program of a pack in several widths: that of all slots, and powers of two below.

    The widest comes first.  A narrower one is compiled beside training once empty lanes have cost
    what compiling does.
    """

    def __init__(self, slots: int, config: TrialConfig) -> None:
        """Compiles the widest program."""
        self._slots = slots
        self._config = config
        started, saved = time.perf_counter(), seconds_saved()
        self._ready = {slots: slots_program(config, slots, slots)}
        self._waited = time.perf_counter() - started
        self._price = self._waited + seconds_saved() - saved
        self._wasted: dict[int, float] = {}

    def narrowest(self, count: int) -> tuple[int, Any]:
        """Returns the narrowest program there is for so many trials, and its width."""
        width = min(width for width in self._ready if width >= count)
        return width, self._ready[width]

    def count_waste(self, count: int, width: int, seconds: float) -> None:
        """Takes in that ``count`` trials were trained by a program of ``width``."""
        wanted = min(self._slots, 1 << (count - 1).bit_length())
        before = self._wasted.get(wanted, 0.0)
        self._wasted[wanted] = before + seconds * (1.0 - wanted / width)
        if before <= self._price < self._wasted[wanted]:
            threading.Thread(target=self._compile, args=(wanted,)).start()

    def seconds_waited(self) -> float:
        """Returns for how long trials waited for a program since this was last asked."""
        seconds, self._waited = self._waited, 0.0
        return seconds

    def _compile(self, width: int) -> None:
        program = slots_program(self._config, self._slots, width)
        self._ready = self._ready | {width: program}  # not in place: another thread may read it
