"""What a pack costs beside training: seconds a report, and what its trials' processes take.

    python benchmarks/pack_overhead.py [SLOTS]      # about a minute; 16 slots if not given

A whole search phase through Ray Tune, tables and all, with a pack that trains nothing.  A report's
time is the median over seconds in which all actors were up; the processes are looked at meanwhile.
"""

import os
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import psutil
from rich.console import Console

from rlcore.ppo.config import PPOConfig
from tuners.ray_settings import apply_ray_settings

SEGMENTS = 24
TRIALS_A_SLOT = 6


class InstantPack:
    """A pack whose trials have trained as soon as they ask."""

    def __init__(self, slots: int) -> None:
        from tests.tuners.small import segment_row

        self._row = segment_row("", 0) | {"worker": "", "wall_seconds": 1e-6, "cpu_seconds": 0.0}
        self._steps: dict[str, tuple[int, int, int]] = {}
        self.slots = slots

    def enter(self, job: str, entry: dict[str, Any]) -> None:
        """Begins a job."""
        ppo = PPOConfig(**entry["config"]["ppo"] | {"hidden_sizes": (8,)})
        self._steps[job] = 0, ppo.steps_per_segment, entry["config"]["budget"]

    def leave(self, job: str) -> None:
        """Forgets a job."""
        self._steps.pop(job, None)

    def advance(self, jobs: list[str]) -> dict[str, dict[str, Any]]:
        """Returns rows that say little."""
        rows = {}
        for job in jobs:
            steps, segment, budget = self._steps[job]
            self._steps[job] = steps + segment, segment, budget
            changes = {"env_steps": steps + segment, "done": steps + 2 * segment > budget}
            rows[job] = {**self._row, **changes, "time": time.time(), "slots": self.slots}
        return rows

    def snapshot(self, job: str) -> "InstantPack":
        """Returns something that can be written."""
        return self

    def write(self, folder: Path) -> None:
        """Writes a checkpoint of nothing."""
        (folder / "state.safetensors").write_bytes(b"")


def timed_trainable(folder: Path) -> type:
    """Returns the trials' class; each process leaves the CPU time it had when its first began."""
    from tuners.packed_trainable import PackedTrainable

    class Timed(PackedTrainable):
        def setup(self, config: dict[str, Any]) -> None:
            super().setup(config)
            (folder / str(os.getpid())).write_text(str(time.process_time()))

    Timed.__name__ = PackedTrainable.__name__
    return Timed


def watch(processes: dict[int, tuple[float, float]], ended: threading.Event) -> None:
    """Notes CPU seconds and memory (its own, in MB) of each trial's process."""
    while not ended.wait(1.0):
        for process in psutil.Process().children(recursive=True):
            try:
                if "PackedTrainable" in " ".join(process.cmdline()):
                    times, memory = process.cpu_times(), process.memory_full_info()
                    processes[process.pid] = times.user + times.system, memory.pss / 1e6
            except psutil.Error:
                continue


def main(slots: int) -> None:
    """Runs the search and prints what it took."""
    apply_ray_settings(None)
    import ray

    from tests.tuners.small import SEGMENT, small_spec
    from tuners import pack_server, run, workers
    from tuners.console import SweepConsole
    from tuners.phases import Plan
    from tuners.results import read_segments
    from tuners.spec import prepare

    class SearchOnly(Plan):
        def _candidates(self) -> Any:
            return self._searches()

    pack_server.make_pack = InstantPack
    processes: dict[int, tuple[float, float]] = {}
    ended = threading.Event()
    with tempfile.TemporaryDirectory() as folder:
        spec = small_spec(
            Path(folder),
            slots=slots,
            num_trials=slots * TRIALS_A_SLOT,
            budget=SEGMENTS * SEGMENT,
            scheduler="none",
        )
        prepare(spec, resume=False)
        (begun := Path(folder) / "begun").mkdir()
        workers.PackedTrainable = timed_trainable(begun)  # type: ignore[misc, assignment]
        plan = SearchOnly(spec)
        ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=40)
        threading.Thread(target=watch, args=(processes, ended)).start()
        try:
            screen = SweepConsole(plan, Console(quiet=True))
            run._train(spec, plan, screen, MagicMock(), lambda trial: False)
        finally:
            ended.set()
            ray.shutdown()
        times = [row["time"] for row in read_segments(spec.folder)]
        first = [float(file.read_text()) for file in begun.iterdir()]
    print_figures(slots, times, first, processes)


def print_figures(
    slots: int, times: list[float], first: list[float], processes: dict[int, tuple[float, float]]
) -> None:
    """Prints the medians, with the quartiles of a report's time by seconds."""
    seconds = Counter(int(time) for time in times)
    busy = [count for count in seconds.values() if count > max(seconds.values()) / 4]
    middle = [1000.0 / count for count in busy]
    low, high = statistics.quantiles(middle, n=4)[::2]
    median = statistics.median(middle)
    print(f"{len(times)} reports of {slots} slots in {max(times) - min(times):.1f} s")
    print(f"a report, all actors up: {median:.2f} ms [{low:.2f} to {high:.2f}]")
    cpu, memory = zip(*processes.values(), strict=True)
    print(f"{len(processes)} light processes; of each, median and most:")
    print(f"  CPU until it began  {statistics.median(first):.2f} s   {max(first):.2f} s")
    print(f"  CPU until it ended  {statistics.median(cpu):.2f} s   {max(cpu):.2f} s")
    print(f"  memory of its own   {statistics.median(memory):.0f} MB   {max(memory):.0f} MB")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 16)
