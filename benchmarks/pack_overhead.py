"""What a pack costs beside training: seconds a report, and what its trials' processes take.

    python benchmarks/pack_overhead.py [SLOTS]      # about a minute; 16 slots, or 2 and more

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

import psutil
from rich.console import Console

from benchmarks.instant import search
from tuners.ray_settings import apply_ray_settings
from tuners.spec import prepare

SEGMENTS = 24
TRIALS_A_SLOT = 6


def timed_trainable(folder: Path) -> type:
    """Returns the trials' class; each process leaves the CPU time it had when its first began."""
    from tuners.packs.trainable import PackedTrainable

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
    from tests.tuners.small import SEGMENT, small_spec
    from tuners.console import SweepConsole
    from tuners.results import read_segments

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
        threading.Thread(target=watch, args=(processes, ended)).start()
        try:
            quiet = Console(quiet=True)
            search(spec, lambda plan: SweepConsole(plan, quiet), timed_trainable(begun))
        finally:
            ended.set()
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
