"""What a chaos run disturbs: a sweep of real processes, with a record kept outside of it."""

import contextlib
import json
import os
import sqlite3
import struct
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.processes import Running, Scripts, alive, begun_at, descendants, kill, wait_until
from tests.e2e.test_tracking import SERVER, answers, free_port
from tuners.results import read_segments_after

NAME = "sweep"
PATIENCE = 900.0  # s: a guard against hangs, not a measurement
DISK = "48m"
_CLOCK = Path(__file__).with_name("clock")
_LONG = ("--preset", "smoke", "--budget", "65536", "--media", "False")


@dataclass(frozen=True)
class Variant:
    """A kind of sweep.

    Attributes:
        script: that begins it.
        flags: it is given.
        compared: with one that nobody disturbed: "all" of its curves and its winner, the curves
            that both have ("common"), or nothing ("none").
    """

    script: str
    flags: tuple[str, ...]
    compared: str


VARIANTS = {
    "plain": Variant("reward_search", (*_LONG, "--scheduler", "none"), "all"),
    "asha": Variant("reward_search", _LONG, "common"),
    # In float32 a curve depends, in its last digits, on how many slots were live.
    "packs": Variant("reward_search", (*_LONG, "--scheduler", "none", "--slots", "2"), "none"),
    # What is proposed depends on which trials had ended.
    "tpe": Variant("hyperparam_search", (*_LONG, "--searcher", "tpe", "--num-trials", "6"), "none"),
    "population": Variant(
        "hyperparam_search",
        ("--preset", "smoke", "--media", "False", "--scheduler", "pbt", "--num-trials", "8"),
        "all",
    ),
    "train": Variant("train", ("--preset", "smoke", "--budget", "131072"), "all"),
}


class Watcher:
    """Writes down each report that became durable, as soon as it did: an append-only record."""

    def __init__(self, folder: Path, file: Path) -> None:
        """Watches the sweep in ``folder`` until it is closed."""
        self.seen: dict[tuple[str, int], str] = {}
        self.changed: list[str] = []
        self._folder = folder
        self._file = file
        self._read = 0
        self._looks = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    def catch_up(self) -> None:
        """Waits until all that is durable now has been written down."""
        after = self._looks + 2  # one may have begun before
        wait_until(lambda: self._looks >= after, "the watcher looks", PATIENCE)

    def _watch(self) -> None:
        with self._file.open("a") as file:
            while not self._ended.wait(0.05):
                # The table is being damaged, or its disk taken away.
                with contextlib.suppress(ValueError, OSError, KeyError):
                    self._take_in(file)
                self._looks += 1

    def _take_in(self, file: Any) -> None:
        rows, self._read = read_segments_after(self._folder, self._read)
        for row in rows:
            key, text = (row["trial"], row["env_steps"]), repr(row)
            if key not in self.seen:
                self.seen[key] = text
                file.write(json.dumps([*key, text]) + "\n")
            elif self.seen[key] != text:
                self.changed.append(f"{key} was {self.seen[key]}, and became {text}")
        file.flush()


class Server:
    """MLflow's server on a loopback port, with a store of its own."""

    def __init__(self, scripts: Scripts) -> None:
        self._scripts = scripts
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.store = scripts.folder / "served.db"
        self._running: Running | None = None
        self.start()

    def start(self) -> None:
        store = ["--backend-store-uri", f"sqlite:///{self.store}", "--artifacts-destination"]
        address = ["served", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        server = self._scripts.start_command(["mlflow", "server", *store, *address], **SERVER)
        wait_until(lambda: server.ended or answers(self.url), "MLflow answers", PATIENCE)
        assert not server.ended, server.output
        self._running = server

    def kill(self) -> None:
        assert self._running is not None
        self._running.kill()

    @property
    def pids(self) -> set[int]:
        assert self._running is not None
        return {self._running.pid, *descendants(self._running.pid)}

    def copy_store(self) -> Path:
        """Returns a copy of the database as it is now, made while it serves."""
        path = self.store.with_suffix(".copy")
        path.unlink(missing_ok=True)
        with (
            contextlib.closing(sqlite3.connect(self.store)) as source,
            contextlib.closing(sqlite3.connect(path)) as target,
        ):
            source.backup(target)
        return path


class World:
    """A sweep, what runs it, and all that it ever started."""

    def __init__(
        self, folder: Path, variant: Variant, *, served: bool = False, small_disk: bool = False
    ) -> None:
        """Begins the sweep.

        Args:
            folder: empty.
            variant: of sweep.
            served: whether MLflow is a server; else a file.
            small_disk: whether sweeps lie on a disk of their own, which takes root.
        """
        self.variant = variant
        self._clock = folder / "clock"
        self.set_clock(0.0)
        self._ray = tempfile.mkdtemp(prefix="chaos-", dir="/tmp")  # for short names of sockets
        self.scripts = Scripts(folder / "work", environment(self._clock, Path(self._ray)))
        self.runs = self.scripts.folder / "runs"
        self.runs.mkdir()
        self._mounts = 0
        if small_disk:
            self.mount("-t", "tmpfs", "-o", f"size={DISK}", "tmpfs")
        self.folder = self.runs / NAME
        self.watcher = Watcher(self.folder, folder / "acknowledged.jsonl")
        self.server = Server(self.scripts) if served else None
        self._processes: set[tuple[int, str]] = set()
        self._noted = 0.0
        self._before = 0  # reports when it was last gone on with
        self.running = self.start(variant.script, *variant.flags, "--name", NAME, *self._tracking)

    @property
    def tracking_uri(self) -> str:
        """Where MLflow has the sweep."""
        if self.server is not None:
            return self.server.url
        return f"sqlite:///{self.scripts.folder}/mlflow.db"

    @property
    def _tracking(self) -> tuple[str, ...]:
        return () if self.server is None else ("--tracking-uri", self.server.url)

    def start(self, script: str, *arguments: str) -> Running:
        return self.scripts.start(script, *arguments)

    def resume(self) -> None:
        """Goes on, if nothing runs."""
        if self.running.ended:
            self.watcher.catch_up()
            self._before = len(self.watcher.seen)
            self.running = self.start(self.variant.script, "--resume", NAME)

    def wait_for(self, count: int) -> bool:
        """Waits until so many reports are durable, one of them since it was gone on with.

        Returns:
            Whether it still runs then.
        """
        count = max(count, self._before + 1)

        def come() -> bool:
            self._note_now_and_then()
            return len(self.watcher.seen) >= count or self.running.ended

        wait_until(come, f"{count} reports", PATIENCE)
        return not self.running.ended

    def wait_for_end(self, seconds: float = PATIENCE) -> int:
        """Waits until what runs has ended; returns its exit code."""

        def ended() -> bool:
            self._note_now_and_then()
            return self.running.ended

        wait_until(ended, "the end", seconds)
        return self.running.wait().code

    def note_processes(self) -> None:
        """Remembers what the driver has started: a pid may be given again."""
        for pid in {self.running.pid, *descendants(self.running.pid)}:
            with contextlib.suppress(OSError, IndexError):
                self._processes.add((pid, begun_at(pid)))

    def _note_now_and_then(self) -> None:
        """At each look it would take a tenth of a core."""
        if time.monotonic() > self._noted + 0.5:
            self.note_processes()
            self._noted = time.monotonic()

    def left_running(self) -> list[int]:
        """Pids of all that a driver had started and that has not ended."""
        found = []
        for pid, begun in self._processes:
            with contextlib.suppress(OSError, IndexError):
                if alive(pid) and begun_at(pid) == begun:
                    found.append(pid)
        return found

    def set_clock(self, seconds: float) -> None:
        """Lets the clocks of all processes be so much ahead of the machine's."""
        if not self._clock.exists():
            self._clock.write_bytes(bytes(8))
        with self._clock.open("r+b") as file:
            file.write(struct.pack("d", seconds))

    def mount(self, *arguments: str) -> None:
        """Puts another file system over the folder of sweeps."""
        subprocess.run(["mount", *arguments, str(self.runs)], check=True)
        self._mounts += 1

    def make_read_only(self) -> None:
        """Lets nobody write into the folder of sweeps, until ``unmount``."""
        self.mount("--bind", str(self.runs))
        command = ["mount", "-o", "remount,bind,ro", str(self.runs)]

        def is_done() -> bool:  # refused while a file is being written
            return subprocess.run(command, capture_output=True).returncode == 0

        wait_until(is_done, "nobody writes", PATIENCE)

    def unmount(self) -> None:
        """Takes away what ``mount`` or ``make_read_only`` put there last."""
        subprocess.run(["umount", "--lazy", str(self.runs)], check=True)
        self._mounts -= 1

    def close(self) -> None:
        """Ends everything."""
        self.watcher.close()
        for pid in self.left_running():
            kill(pid)
        self.scripts.close()
        while self._mounts:
            self.unmount()
        subprocess.run(["rm", "-rf", self._ray], check=True)


def environment(clock: Path, ray_folder: Path) -> dict[str, str]:
    """Returns what processes of a chaos run have in their environment."""
    foreign = ("RAY_", "MLFLOW_", "SHAPESWEEP_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    programs = Path(tempfile.gettempdir()) / "chaos-programs"
    return kept | {
        "SHAPESWEEP_CACHE": str(programs),
        "RAY_TMPDIR": str(ray_folder),
        "JAX_PLATFORMS": "cpu",
        "COLUMNS": "120",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(_CLOCK), os.environ.get("PYTHONPATH", "")]),
        "CHAOS_CLOCK": str(clock),
    }
