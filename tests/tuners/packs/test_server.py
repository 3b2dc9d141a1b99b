"""When a pack trains, and for whom: the server without Ray, around a pack that a test scripts."""

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from tuners.gpu import UnusableGPU
from tuners.packs import server
from tuners.packs.server import PackKeeper, PackServer, Place

ENTRY: dict[str, Any] = {"resume_from": None}


class ScriptedPack:
    """Notes what it is asked; a segment takes as long as the test holds it."""

    def __init__(self, slots: int) -> None:
        self.entered: list[str] = []
        self.segments: list[list[str]] = []
        self.begun_from: list[Path | None] = []
        self.left: list[str] = []
        self.saved: list[Path] = []
        self.seconds = 0.0  # that it says a segment took
        self.may_train = threading.Event()
        self.may_train.set()
        self.failure: Exception | None = None

    def enter(self, job: str, entry: Any) -> None:
        if "error" in entry:
            raise entry["error"]
        self.entered.append(job)
        self.begun_from.append(entry["resume_from"])

    def leave(self, job: str) -> None:
        self.left.append(job)

    def advance(self, jobs: list[str]) -> dict[str, dict[str, Any]]:
        self.segments.append(sorted(jobs))
        self.may_train.wait(10.0)
        if self.failure is not None:
            raise self.failure
        return {job: {"job": job, "wall_seconds": self.seconds} for job in jobs}

    def snapshot(self, job: str) -> Any:
        return self

    def write(self, folder: Path) -> None:
        self.saved.append(folder)


class Scene:
    """A server and its pack, with trials a, b, c, ... in it."""

    def __init__(self, slots: int = 4) -> None:
        self.server = PackServer(ScriptedPack, slots)
        self.pack: ScriptedPack = self.server._pack

    async def enter(self, *jobs: str) -> None:
        for job in jobs:
            assert await self.server.enter(job, ENTRY, process=os.getpid())

    async def ask(self, *jobs: str) -> list[dict[str, Any]]:
        return list(await asyncio.gather(*(self.server.advance(job) for job in jobs)))


def play(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scene, 20.0))


def test_one_segment_trains_all_who_asked():
    async def scene() -> None:
        s = Scene()
        await s.enter("a", "b", "c")
        rows = await s.ask("a", "b", "c")
        assert [row["job"] for row in rows] == ["a", "b", "c"]
        assert s.pack.segments == [["a", "b", "c"]]

    play(scene())


def test_it_waits_for_who_may_yet_ask():
    async def scene() -> None:
        s = Scene()
        await s.enter("a", "b")
        s.pack.seconds = 10.0
        await s.ask("a", "b")
        first = asyncio.create_task(s.server.advance("a"))
        await asyncio.sleep(0.05)
        assert len(s.pack.segments) == 1, "b is still expected"
        await asyncio.gather(first, s.server.advance("b"))
        assert s.pack.segments[1:] == [["a", "b"]]

    play(scene())


def test_it_does_not_wait_longer_than_that_is_worth():
    async def scene() -> None:
        s = Scene()
        await s.enter("a", "b", "c")
        s.pack.seconds = 0.2
        await s.ask("a", "b", "c")
        begun = asyncio.get_running_loop().time()
        s.pack.seconds = 1000.0  # from now on
        await s.ask("a", "b")  # c does not ask: half of a segment is what it would lose
        waited = asyncio.get_running_loop().time() - begun
        assert s.pack.segments[1:] == [["a", "b"]]
        assert waited >= 0.09
        await s.ask("a", "b")
        assert s.pack.segments[2:] == [["a", "b"]], "c is not waited for again"
        await s.ask("a", "b", "c")
        assert s.pack.segments[3:] == [["a", "b", "c"]], "until it asks"

    play(scene())


def test_who_has_left_is_not_waited_for():
    async def scene() -> None:
        s = Scene()
        await s.enter("a", "b")
        s.pack.seconds = 1000.0
        await s.ask("a", "b")
        asked = asyncio.create_task(s.server.advance("a"))
        await asyncio.sleep(0.01)
        await s.server.leave("b")
        assert s.pack.left == ["b"]
        await asked
        assert s.pack.segments[1:] == [["a"]]

    play(scene())


def test_who_takes_over_a_slot_is_waited_for():
    """A trial was stopped: the others do not train without the one that comes after it."""

    async def scene() -> None:
        s = Scene(slots=2)
        await s.enter("a", "b")
        s.pack.seconds = 1000.0
        await s.ask("a", "b")
        asked = asyncio.create_task(s.server.advance("a"))
        await asyncio.sleep(0.01)
        assert await s.server.enter("c", ENTRY, process=os.getpid(), leaving="b")
        await asyncio.sleep(0.01)
        assert s.pack.left == ["b"]
        assert len(s.pack.segments) == 1
        await asyncio.gather(asked, s.server.advance("c"))
        assert s.pack.segments[1:] == [["a", "c"]]

    play(scene())


def test_who_asks_while_others_train_is_in_the_next_segment():
    async def scene() -> None:
        s = Scene()
        await s.enter("a", "b")
        s.pack.may_train.clear()
        first = asyncio.create_task(s.server.advance("a"))
        while not s.pack.segments:
            await asyncio.sleep(0.01)
        second = asyncio.create_task(s.server.advance("b"))
        await asyncio.sleep(0.01)
        s.pack.may_train.set()
        await asyncio.gather(first, second)
        assert s.pack.segments == [["a"], ["b"]]

    play(scene())


@pytest.fixture
def ended() -> int:
    """The id of a process that was."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_who_comes_again_keeps_its_slot_although_all_processes_had_died():
    """Their next ones enter while the segment still trains that those had asked for."""
    process = subprocess.Popen(["sleep", "600"])

    async def scene() -> None:
        s = Scene(slots=4)
        for job in "abcd":
            assert await s.server.enter(job, ENTRY, process=process.pid)
        s.pack.may_train.clear()
        asked = [asyncio.create_task(s.server.advance(job)) for job in "abcd"]
        await asyncio.sleep(0.01)
        process.kill()
        process.wait()
        again = [
            asyncio.create_task(s.server.enter(job, ENTRY, process=os.getpid())) for job in "abcd"
        ]
        await asyncio.sleep(0.01)
        s.pack.may_train.set()
        assert await asyncio.gather(*again) == [True] * 4
        await asyncio.gather(*asked, return_exceptions=True)
        assert [row["job"] for row in await s.ask(*"abcd")] == list("abcd")

    play(scene())


def test_a_full_pack_lets_nobody_in_unless_a_process_died(ended):
    async def scene() -> None:
        s = Scene(slots=2)
        await s.enter("a")
        assert await s.server.enter("b", ENTRY, process=ended)
        s.pack.may_train.clear()
        asked = asyncio.create_task(s.server.advance("a"))
        await asyncio.sleep(0.01)
        entering = asyncio.create_task(s.server.enter("c", ENTRY, process=os.getpid()))
        await asyncio.sleep(0.01)
        s.pack.may_train.set()
        assert await entering
        await asked
        assert s.pack.left == ["b"], "whose process died"
        with pytest.raises(RuntimeError, match="b has no slot in this pack"):
            await s.server.advance("b")
        assert not await s.server.enter("d", ENTRY, process=os.getpid())
        await s.enter("a")  # it begins anew in its own slot

    play(scene())


@pytest.mark.parametrize("error", [ValueError("damaged"), OSError("the store is away")])
def test_a_trial_that_cannot_begin_leaves_its_slot_free(error):
    async def scene() -> None:
        s = Scene(slots=1)
        with pytest.raises(type(error), match=str(error)):
            await s.server.enter("a", ENTRY | {"error": error}, process=os.getpid())
        await s.enter("b")

    play(scene())


def test_nobody_enters_a_pack_whose_gpu_cannot_be_used(monkeypatch):
    """JAX has a CPU only in this process, and nobody asked for that."""

    async def scene() -> None:
        s = Scene(slots=1)
        monkeypatch.setenv("JAX_PLATFORMS", "cuda,cpu")
        with pytest.raises(UnusableGPU):
            await s.server.enter("a", ENTRY, process=os.getpid())
        assert s.pack.entered == []

    play(scene())


def test_a_trial_that_begins_again_keeps_its_slot():
    """Its checkpoint was damaged."""

    async def scene() -> None:
        s = Scene(slots=1)
        await s.enter("a")
        assert await s.server.enter("a", ENTRY, process=os.getpid(), leaving="a")
        await s.ask("a")
        assert s.pack.left == []

    play(scene())


def test_nobody_trains_for_a_process_that_died():
    """The trial's next process would go on a segment too far, and that one would be in no table."""

    async def scene() -> None:
        s = Scene()
        await s.enter("a", "b")
        s.pack.seconds = 1000.0  # b is worth waiting for
        await s.ask("a", "b")
        dead = asyncio.create_task(s.server.advance("a"))
        await asyncio.sleep(0.01)
        await s.enter("a")
        with pytest.raises(RuntimeError, match="a lost its slot"):
            await dead
        await s.ask("a", "b")
        assert s.pack.segments == [["a", "b"]] * 2

    play(scene())


def test_a_checkpoint_is_fetched_beside_training(monkeypatch):
    """From a store it takes seconds: the others train meanwhile."""
    fetched = threading.Event()

    @contextlib.contextmanager
    def at_hand(place: str) -> Iterator[Path]:
        assert fetched.wait(10.0)
        yield Path("here", place)

    monkeypatch.setattr(server, "at_hand", at_hand)

    async def scene() -> None:
        s = Scene()
        await s.enter("a")
        entry = {"resume_from": "state"}
        entering = asyncio.create_task(s.server.enter("b", entry, process=os.getpid()))
        await s.ask("a")
        assert s.pack.entered == ["a"]
        fetched.set()
        assert await entering
        assert s.pack.begun_from == [None, Path("here", "state")]

    play(scene())


def test_a_checkpoint_is_written_beside_training():
    async def scene() -> None:
        s = Scene()
        await s.enter("a")
        await s.ask("a")
        await s.server.save("a", "folder")
        assert s.pack.saved == [Path("folder")]
        with pytest.raises(RuntimeError, match="z has no slot"):
            await s.server.save("z", "folder")

    play(scene())


async def out_of_memory(monkeypatch) -> tuple[Scene, asyncio.Event]:
    """A pack that fails in its next segment, and what is set when it ends by itself."""
    s, ended = Scene(), asyncio.Event()
    monkeypatch.setattr(s.server, "_give_up", lambda status: status == 1 and ended.set())
    await s.enter("a", "b")
    s.pack.failure = MemoryError("out of memory")
    return s, ended


def test_a_failure_in_training_fails_its_trials_and_ends_the_pack(monkeypatch, capsys):
    async def scene() -> None:
        s, ended = await out_of_memory(monkeypatch)
        asked = [asyncio.create_task(s.server.advance(job)) for job in "ab"]
        for task in asked:
            with pytest.raises(MemoryError, match="out of memory"):
                await task
        await ended.wait()

    play(scene())
    assert "out of memory" in capsys.readouterr().err


def test_a_pack_whose_training_fails_ends_though_a_trial_waits_no_more(monkeypatch, capsys):
    async def scene() -> None:
        s, ended = await out_of_memory(monkeypatch)
        s.pack.may_train.clear()
        asked = [asyncio.create_task(s.server.advance(job)) for job in "ab"]
        await asyncio.sleep(0.1)
        asked[0].cancel()
        await asyncio.sleep(0.1)
        s.pack.may_train.set()
        with pytest.raises(MemoryError, match="out of memory"):
            await asked[1]
        await ended.wait()

    play(scene())
    assert "out of memory" in capsys.readouterr().err


def test_a_pack_that_nobody_needs_ends(monkeypatch):
    """On a machine that is paid for: no autoscaler gives one back on which a process runs."""
    monkeypatch.setattr(server, "_IDLE_SECONDS", 0.2)

    async def scene() -> None:
        s, ends = Scene(), []
        monkeypatch.setattr(s.server, "_give_up", ends.append)
        await s.enter("a", "b")
        await s.server.leave("a")
        await asyncio.sleep(0.4)
        assert ends == [], "b is there"
        await s.server.leave("b")
        await s.enter("c")
        await asyncio.sleep(0.4)
        assert ends == [], "c came in time"
        await s.enter("d")
        await asyncio.gather(s.server.leave("c"), s.server.leave("d"))
        await s.enter("e")
        await asyncio.sleep(0.4)
        assert ends == [], "e came in time, after two had left at once"
        await s.server.leave("e")
        await asyncio.sleep(0.4)
        assert ends == [0]

    play(scene())


def test_a_pack_whose_last_trial_was_killed_ends(monkeypatch):
    """It has not left its slot; a trial that is tried again elsewhere does not come here."""
    monkeypatch.setattr(server, "_IDLE_SECONDS", 0.2)

    async def scene() -> None:
        s, ends = Scene(), []
        monkeypatch.setattr(s.server, "_give_up", ends.append)
        process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        assert await s.server.enter("a", ENTRY, process=process.pid)
        await asyncio.sleep(0.5)
        assert ends == []
        process.kill()
        process.communicate()
        await asyncio.sleep(0.5)
        assert ends == [0]

    play(scene())


def test_of_the_last_gpu_nothing_is_held(monkeypatch):
    """All trials would wait, and nobody would hear why."""
    held = []

    class Held:
        def options(self, **options):
            held.append(options["num_gpus"])
            return self

        def remote(self, device):
            return device

    monkeypatch.setattr(server.ray, "remote", lambda made: Held())
    keeper = PackKeeper(ScriptedPack, 4, {}, gpus=3)
    first, second, last = (Place(node * 56, "0", "") for node in "abc")
    for place in (first, first, second):
        assert keeper.hold(place, 0.25)
    assert not keeper.hold(last, 0.25)
    assert held == [0.25] * 3
