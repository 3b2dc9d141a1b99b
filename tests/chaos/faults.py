"""The faults of chaos runs: each is done to a sweep that runs, and leaves it running again."""

import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from tests.chaos.world import NAME, World
from tests.e2e.processes import alive, command_line, descendants, kill, wait_until
from tuners.layout import (
    LOCK_FILE,
    SEGMENTS_FOLDER,
    SPEC_FILE,
    STATE_FILE,
    STUDY_FILE,
    TRACKING_FILE,
    TRIALS_FILE,
    trial_of,
)
from tuners.results import read_segments, read_trials

HOUR = 3600.0
MINUTE = 60.0
Do = Callable[[World, random.Random], None]


@dataclass(frozen=True)
class Fault:
    """Something that happens to a sweep.

    Attributes:
        about: in words, for the table in docs/reliability.md.
        do: brings it about, checks what is promised at once, and sees that the sweep goes on.
        variants: of sweep that it can happen to; all if empty.
        served: whether it takes a tracking server.
        small_disk: whether it takes a disk of the sweep's own.
    """

    about: str
    do: Do
    variants: tuple[str, ...] = ()
    served: bool = False
    small_disk: bool = False


FAULTS: dict[str, Fault] = {}
_WITH_RAY = ("plain", "asha", "packs", "tpe", "population")


def fault(
    about: str, variants: tuple[str, ...] = (), *, served: bool = False, small_disk: bool = False
) -> Callable[[Do], Do]:
    """Puts a function into ``FAULTS`` under its own name."""

    def put(do: Do) -> Do:
        FAULTS[do.__name__] = Fault(about, do, variants, served, small_disk)
        return do

    return put


# Processes.


@fault("`kill -9` of the driver")
def driver_killed(world: World, draw: random.Random) -> None:
    kill(world.running.pid)
    world.running.wait()
    world.resume()


@fault("`kill -9` of the driver and all it had started")
def everything_killed(world: World, draw: random.Random) -> None:
    world.running.kill()
    world.resume()


@fault("`kill -9` of a trial's process", _WITH_RAY)
def worker_killed(world: World, draw: random.Random) -> None:
    for pid in _workers(world)[:1]:
        kill(pid)


@fault("`kill -9` of all trials' processes at once", _WITH_RAY)
def all_workers_killed(world: World, draw: random.Random) -> None:
    for pid in _workers(world):
        kill(pid)


@fault("`kill -9` of a pack", ("packs",))
def pack_killed(world: World, draw: random.Random) -> None:
    pids = _with_title(world, "ray::PackServer")
    assert pids, "no pack is there"
    kill(draw.choice(pids))


@fault("`kill -9` of Ray's raylet", _WITH_RAY)
def raylet_killed(world: World, draw: random.Random) -> None:
    _kill_part_of_ray(world, "/raylet/raylet ")


@fault("`kill -9` of Ray's GCS server", _WITH_RAY)
def gcs_killed(world: World, draw: random.Random) -> None:
    _kill_part_of_ray(world, "/gcs_server ")


@fault("`kill -9` of the process that writes to MLflow")
def follower_killed(world: World, draw: random.Random) -> None:
    for pid in _with_title(world, "-m tuners.following"):
        kill(pid)


@fault("SIGTERM to the driver")
def terminated(world: World, draw: random.Random) -> None:
    os.kill(world.running.pid, signal.SIGTERM)
    _assert_interrupted(world)
    world.resume()


@fault("Ctrl-C")
def interrupted(world: World, draw: random.Random) -> None:
    world.running.interrupt()
    _assert_interrupted(world)
    world.resume()


@fault("Ctrl-C twice")
def interrupted_twice(world: World, draw: random.Random) -> None:
    world.running.interrupt()
    time.sleep(draw.uniform(0.0, 0.5))
    if not world.running.ended:
        world.running.interrupt()
    world.wait_for_end(120.0)
    world.resume()


@fault("SIGSTOP of the driver for a minute")
def driver_stopped(world: World, draw: random.Random) -> None:
    _stop([world.running.pid], MINUTE)


@fault("SIGSTOP of a trial's process for a minute", _WITH_RAY)
def worker_stopped(world: World, draw: random.Random) -> None:
    _stop(_workers(world)[:1], MINUTE)


@fault("SIGSTOP of everything for a minute, as of a laptop that is closed")
def everything_stopped(world: World, draw: random.Random) -> None:
    _stop([world.running.pid, *descendants(world.running.pid)], MINUTE)
    world.wait_for(len(world.watcher.seen) + 1)
    world.resume()


# The tracking server.


@fault("tracking server killed, back after some seconds", served=True)
def server_killed(world: World, draw: random.Random) -> None:
    assert world.server is not None
    world.server.kill()
    time.sleep(draw.uniform(1.0, 10.0))
    world.server.start()


@fault("tracking server frozen for half a minute", served=True)
def server_frozen(world: World, draw: random.Random) -> None:
    assert world.server is not None
    _stop(world.server.pids, MINUTE / 2)


@fault("tracking server answers every call with 500", served=True)
def server_errs(world: World, draw: random.Random) -> None:
    assert world.server is not None
    world.server.kill()
    broken = HTTPServer(("127.0.0.1", world.server.port), _Broken)
    thread = threading.Thread(target=broken.serve_forever)
    thread.start()
    time.sleep(draw.uniform(2.0, 10.0))
    broken.shutdown()
    thread.join()
    broken.server_close()
    world.server.start()


@fault("tracking server back with an older copy of its database", served=True)
def server_set_back(world: World, draw: random.Random) -> None:
    assert world.server is not None
    copy = world.server.copy_store()
    goes_on = world.wait_for(len(world.watcher.seen) + draw.randrange(20, 120))
    world.server.kill()
    for beside in world.server.store.parent.glob(f"{world.server.store.name}-*"):
        beside.unlink()
    copy.replace(world.server.store)
    world.server.start()
    if not goes_on:  # nobody follows it any more
        world.scripts.succeed("track", NAME)


class _Broken(BaseHTTPRequestHandler):
    def _answer(self) -> None:
        self.send_response(500)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815, the library's names

    def log_message(self, *_: object) -> None:
        """Says nothing."""


# The disk.


@fault("disk full, with room again later", small_disk=True)
def disk_full(world: World, draw: random.Random) -> None:
    filler = world.runs / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (2**20, 2**12):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    _assert_ended_plainly(world, "No space left on device")
    filler.unlink()
    world.resume()


@fault("sweep's folder made read-only, and writable again", small_disk=True)
def folder_read_only(world: World, draw: random.Random) -> None:
    world.make_read_only()
    _assert_ended_plainly(world, "Read-only file system")
    world.unmount()
    world.resume()


# Damaged files, while nothing runs.


@fault("newest checkpoint of a trial cut short")
def checkpoint_cut(world: World, draw: random.Random) -> None:
    world.running.kill()
    for path in _checkpoints(world)[:1]:
        _cut(path, draw)
    world.resume()


@fault("a bit flipped in the newest checkpoint of a trial")
def checkpoint_flipped(world: World, draw: random.Random) -> None:
    world.running.kill()
    for path in _checkpoints(world)[:1]:
        _flip(path, draw)
    world.resume()


@fault("all checkpoints of the unfinished trials damaged")
def checkpoints_lost(world: World, draw: random.Random) -> None:
    world.running.kill()
    for path in _checkpoints(world):
        _cut(path, draw)
    world.resume()


@fault("file of the segments table cut short")
def segments_cut(world: World, draw: random.Random) -> None:
    _refused_until_restored(world, draw.choice(_segment_files(world)), _cut, draw)


@fault("a bit flipped in a file of the segments table")
def segments_flipped(world: World, draw: random.Random) -> None:
    _refused_until_restored(world, draw.choice(_segment_files(world)), _flip, draw)


@fault("trials table cut short")
def trials_cut(world: World, draw: random.Random) -> None:
    _refused_until_restored(world, world.folder / TRIALS_FILE, _cut, draw)


@fault("a bit flipped in the trials table")
def trials_flipped(world: World, draw: random.Random) -> None:
    _refused_until_restored(world, world.folder / TRIALS_FILE, _flip, draw)


@fault("`sweep.yaml` cut short")
def spec_cut(world: World, draw: random.Random) -> None:
    _refused_until_restored(world, world.folder / SPEC_FILE, _cut, draw)


@fault("a bit flipped in `sweep.yaml`")
def spec_flipped(world: World, draw: random.Random) -> None:
    _refused_until_restored(world, world.folder / SPEC_FILE, _flip, draw)


@fault("`mlflow.json` overwritten with rubbish")
def tracking_file_damaged(world: World, draw: random.Random) -> None:
    world.running.kill()
    (world.folder / TRACKING_FILE).write_bytes(draw.randbytes(100))
    world.resume()


@fault("last line of Optuna's journal cut short", ("tpe",))
def journal_cut(world: World, draw: random.Random) -> None:
    world.running.kill()
    journal = world.folder / STUDY_FILE
    journal.write_bytes(journal.read_bytes()[: -draw.randrange(2, 20)])
    world.resume()


@fault("Optuna's journal lost", ("tpe",))
def journal_lost(world: World, draw: random.Random) -> None:
    world.running.kill()
    (world.folder / STUDY_FILE).unlink()
    world.resume()


@fault("lock file overwritten, and unfinished files of a killed process left behind")
def leftovers(world: World, draw: random.Random) -> None:
    world.running.kill()
    (world.folder / LOCK_FILE).write_bytes(draw.randbytes(30))
    for name in (TRIALS_FILE, f"{SEGMENTS_FOLDER}/00000099-00000099.parquet"):
        path = world.folder / name
        path.with_name(f".{path.name}.{draw.randbytes(4).hex()}.tmp").write_bytes(b"half")
    world.resume()


# The clock, and other drivers.


@fault("clock set back by an hour")
def clock_set_back(world: World, draw: random.Random) -> None:
    world.set_clock(-HOUR)
    before = len(world.watcher.seen)
    world.wait_for(before + 20)
    assert world.running.ended or len(world.watcher.seen) >= before + 20


@fault("a second sweep of the same name, begun while the first runs")
def name_taken(world: World, draw: random.Random) -> None:
    variant = world.variant
    second = world.start(variant.script, *variant.flags, "--name", NAME).wait()
    assert (second.code, second.stderr.count("\n")) == (2, 1), second
    assert "exists" in second.stderr


@fault("two sweeps of the same name begun at once")
def begun_twice(world: World, draw: random.Random) -> None:
    variant = world.variant
    both = [world.start(variant.script, *variant.flags, "--name", "twin") for _ in range(2)]
    wait_until(lambda: any(running.ended for running in both), "one is refused", MINUTE * 5)
    refused = next(running for running in both if running.ended)
    assert refused.wait().code == 2, refused.output
    assert "'twin' exists" in refused.output
    for running in both:
        if not running.ended:
            running.kill()


@fault("a sweep that runs, resumed once more")
def resumed_while_it_runs(world: World, draw: random.Random) -> None:
    second = world.start(world.variant.script, "--resume", NAME).wait()
    if second.code != 0:  # it had ended meanwhile
        assert (second.code, second.stderr.count("\n")) == (2, 1), second
        assert "is being driven by process" in second.stderr


@fault("a killed sweep resumed twice at once")
def resumed_twice(world: World, draw: random.Random) -> None:
    world.running.kill()
    both = [world.start(world.variant.script, "--resume", NAME) for _ in range(2)]
    wait_until(lambda: any(running.ended for running in both), "one is refused", MINUTE * 10)
    refused, driver = sorted(both, key=lambda running: not running.ended)
    assert refused.wait().code == 2, refused.output
    assert "is being driven by process" in refused.output
    world.running = driver


def _workers(world: World) -> list[int]:
    """Processes that train, the one that reported last first."""
    rows = read_segments(world.folder)
    pids = dict.fromkeys(int(row["worker"].rpartition(":")[2]) for row in reversed(rows))
    return [pid for pid in pids if alive(pid)]


def _with_title(world: World, text: str) -> list[int]:
    return [pid for pid in descendants(world.running.pid) if text in command_line(pid)]


def _kill_part_of_ray(world: World, text: str) -> None:
    """Without it there is no Ray: the driver ends, if not well, and is gone on from."""
    pids = _with_title(world, text)
    assert pids, f"no process has {text}"
    for pid in pids:
        kill(pid)
    world.wait_for_end(MINUTE * 5)
    world.resume()


def _stop(pids: Iterable[int], seconds: float) -> None:
    stopped = [pid for pid in pids if alive(pid)]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)
    for pid in stopped:
        if alive(pid):
            os.kill(pid, signal.SIGCONT)


def _assert_interrupted(world: World) -> None:
    world.wait_for_end(MINUTE * 5)
    finished = world.running.wait()
    assert finished.code in (0, 130), finished  # 0: it was through
    assert "Traceback" not in finished.stderr, finished
    assert finished.code == 0 or f"--resume {NAME}" in finished.stdout, finished


def _assert_ended_plainly(world: World, reason: str) -> None:
    world.wait_for_end(MINUTE * 5)
    finished = world.running.wait()
    if finished.code == 0:
        return  # it was through
    assert finished.code == 1, finished
    assert "Traceback" not in finished.stderr, finished
    assert reason in finished.stderr.splitlines()[-1], finished


def _checkpoints(world: World) -> list[Path]:
    """Checkpoints of trials that have not ended, the latest first."""
    rows = read_trials(world.folder)
    running = {row["trial"] for row in rows if row["status"] == "running"}
    found = [
        path
        for path in world.folder.glob(f"tune/*/*/checkpoint_*/{STATE_FILE}")
        if trial_of(path.parents[1].name) in running
    ]
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


def _segment_files(world: World) -> list[Path]:
    return sorted((world.folder / SEGMENTS_FOLDER).glob("[0-9]*.parquet"))


def _refused_until_restored(
    world: World, path: Path, damage: Callable[[Path, random.Random], None], draw: random.Random
) -> None:
    """What cannot be made again is named in one line; a user has a copy, and goes on from it."""
    world.running.kill()
    if not path.exists():  # merged into another meanwhile
        path = draw.choice(_segment_files(world))
    copy = world.scripts.folder / "copy"
    shutil.copy(path, copy)
    world.watcher.catch_up()
    damage(path, draw)
    reports = len(world.watcher.seen)
    world.resume()
    if world.wait_for(reports + 1):
        return  # what was damaged is read by nobody: the end will show
    finished = world.running.wait()
    if finished.code == 0:
        return
    assert finished.code == 2, finished
    assert finished.stderr.count("\n") == 1, finished
    assert str(path.relative_to(world.scripts.folder)) in finished.stderr, finished
    shutil.copy(copy, path)
    world.resume()


def _cut(path: Path, draw: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: draw.randrange(len(content))])


def _flip(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)
