"""The scripts as real processes: started in a session of their own, watched, and ended by pid."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 600.0  # seconds; a sweep takes about 20 on two idle cores, and minutes on busy ones


@dataclass(frozen=True)
class Finished:
    """What a process left behind."""

    code: int
    stdout: str
    stderr: str


class Running:
    """A process in a session of its own; its output goes to files, so that no pipe can fill."""

    def __init__(self, command: list[str], folder: Path, env: dict[str, str]) -> None:
        self.folder = folder
        number = len(list(folder.glob("stdout-*")))
        self._files = folder / f"stdout-{number}", folder / f"stderr-{number}"
        with self._files[0].open("wb") as stdout, self._files[1].open("wb") as stderr:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def output(self) -> str:
        return self._files[0].read_text() + self._files[1].read_text()

    def wait(self, seconds: float = PATIENCE) -> Finished:
        """Waits for the end; what has not ended by then is ended and fails the test."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"still running after {seconds:.0f} s:\n{self.output}") from None
        return Finished(code, *(path.read_text() for path in self._files))

    def interrupt(self) -> None:
        """Sends what Ctrl-C in a terminal sends: SIGINT to the whole foreground group."""
        os.killpg(self.pid, signal.SIGINT)

    def kill(self, spared: Iterable[int] = ()) -> None:
        """Ends the process and all that descend from it at once, with no chance to clean up."""
        doomed = {self.pid, *descendants(self.pid)} - set(spared)
        for pid in doomed:
            kill(pid)
        self._process.wait(30)
        # Ray's workers are made by its raylet: one may have been on its way.
        for pid in doomed:
            wait_until(lambda pid=pid: not alive(pid), f"process {pid} ended", 30)


class Scripts:
    """Starts the project's scripts in a folder, as a user would; ``close`` ends what still runs."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.env = env
        self.python = sys.executable
        self._started: list[Running] = []

    def start(self, script: str, *arguments: object, **env: str) -> Running:
        """Starts ``sweeps/<script>.py``; ``env`` adds to the environment."""
        path = str(ROOT / "sweeps" / f"{script}.py")
        return self.start_command([self.python, path, *map(str, arguments)], **env)

    def start_command(self, command: list[str], **env: str) -> Running:
        running = Running(command, self.folder, self.env | env)
        self._started.append(running)
        return running

    def type(self, line: str, **env: str) -> Running:
        """Starts what a person would type into a shell."""
        return self.start_command(["sh", "-c", line], **env)

    def run(self, script: str, *arguments: object, seconds: float = PATIENCE) -> Finished:
        return self.start(script, *arguments).wait(seconds)

    def succeed(self, script: str, *arguments: object, seconds: float = PATIENCE) -> str:
        """Runs a script that must end well; returns what it printed."""
        finished = self.run(script, *arguments, seconds=seconds)
        assert finished.code == 0, finished
        return finished.stdout

    def close(self) -> None:
        for running in self._started:
            if not running.ended:
                running.kill()


def wait_until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not so after {seconds:.0f} s: {what}")
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """Whether any thread of the process runs; one that ended and was not waited for does not.

    Files and ports are held until its last thread has ended, which may be after its first.
    """
    try:
        state, threads = _stat(pid)[0], int(_stat(pid)[17])
    except OSError:
        return False
    return state not in "ZX" or threads > 1


def begun_at(pid: int) -> str:
    """When the process began, in the kernel's ticks: a pid may be given again."""
    return _stat(pid)[19]


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def descendants(pid: int) -> set[int]:
    """Pids of the children, their children, and so on."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            children.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
        except OSError:
            continue
    found: set[int] = set()
    pending = [pid]
    while pending:
        new = children.get(pending.pop(), [])
        found.update(new)
        pending += new
    return found


def _stat(pid: int) -> list[str]:
    """State, parent and the rest of /proc/<pid>/stat; the name before may hold anything."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def listening_beyond_loopback(pids: Iterable[int]) -> set[str]:
    """Addresses, as the kernel writes them, at which the processes take calls from elsewhere."""
    sockets = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                sockets.add(os.readlink(link))
            except OSError:
                continue
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            (
                _,
                local,
                _,
                state,
                *_,
            ) = line.split()
            inode = line.split()[9]
            if state == LISTENS and f"socket:[{inode}]" in sockets and not _is_loopback(local):
                found.add(local)
    return found


LISTENS = "0A"
# 127.0.0.1, ::1 and ::ffff:127.0.0.1: words of four bytes, each in the machine's own order.
_LOOPBACK = (
    "0100007F",
    "00000000000000000000000001000000",
    "0000000000000000FFFF00000100007F",
)


def _is_loopback(address: str) -> bool:
    return address.partition(":")[0] in _LOOPBACK
