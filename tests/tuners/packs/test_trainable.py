"""When a light process takes and leaves slots, with packs that only note it."""

import os
from types import SimpleNamespace

import pytest

from tuners.packs import trainable as module
from tuners.packs.trainable import PackedTrainable
from tuners.trainable import CheckpointClock


@pytest.fixture
def process(monkeypatch):
    """A process as Tune has it before ``setup``, and what it does to packs, in order."""
    done = []

    def enter(self, config, leaving=None):
        done.append(("enter", config["job"], "leaving", leaving))
        self._clock = CheckpointClock(1.0)
        self._place, self._job = config["place"], config["job"]
        calls = {name: SimpleNamespace(remote=lambda job: {"trial": job}) for name in ("advance",)}
        self._pack = SimpleNamespace(place=self._place, **calls)

    monkeypatch.setattr(PackedTrainable, "_enter", enter)
    monkeypatch.setattr(
        module, "_leave", lambda pack, job: job and done.append(("leave", pack.place, job))
    )
    monkeypatch.setattr(module.ray, "get", lambda value: value)
    made = object.__new__(PackedTrainable)
    made.done = done
    return made


def entry(job, place="gpu 0"):
    return {"job": job, "place": place}


def test_a_process_that_is_given_up_while_it_starts_touches_no_slot(process):
    """Tune has handed its trial to another process meanwhile, which trains it."""
    process.setup(entry("trial-000"))
    process.cleanup()
    assert process.done == []


def test_a_slot_is_taken_at_the_first_segment(process):
    process.setup(entry("trial-000"))
    assert process.step()["trial"] == "trial-000"
    process.step()
    process.cleanup()
    enter, leave = process.done
    assert enter == ("enter", "trial-000", "leaving", None)
    assert leave == ("leave", "gpu 0", "trial-000")


def test_the_next_trial_takes_over_the_slot(process):
    process.setup(entry("trial-000"))
    process.step()
    process.reset_config(entry("trial-001"))
    assert process.done == [("enter", "trial-000", "leaving", None)]
    process.step()
    assert process.done[1:] == [("enter", "trial-001", "leaving", "trial-000")]


def test_a_trial_of_another_pack_frees_the_slot_in_the_first(process):
    process.setup(entry("trial-000"))
    process.step()
    process.reset_config(entry("trial-001", place="gpu 1"))
    process.step()
    assert process.done[2:] == [("leave", "gpu 0", "trial-000")]


def test_a_process_that_is_given_up_with_its_next_trial_leaves_the_last_ones_slot(process):
    process.setup(entry("trial-000"))
    process.step()
    process.reset_config(entry("trial-001"))
    process.cleanup()
    assert process.done[1:] == [("leave", "gpu 0", "trial-000")]


class FullPack:
    """A pack, in place of Ray's handle of it, that has no slot the first few times."""

    def __init__(self, times):
        self.left = times
        self.asked = []
        self.enter = SimpleNamespace(remote=self._enter)

    def _enter(self, job, entry, **how):
        self.asked.append((job, how))
        self.left -= 1
        return self.left < 0


@pytest.fixture
def arrive(monkeypatch):
    """Has a process enter a pack; returns what the pack was asked, and how often it was waited."""

    def enter(pack):
        waited = []
        keeper = SimpleNamespace(pack=SimpleNamespace(remote=lambda place: (0, pack)))
        monkeypatch.setattr(module.ray, "get", lambda value: value)
        monkeypatch.setattr(module.ray, "get_actor", lambda name: keeper)
        monkeypatch.setattr(module, "_places", lambda config: iter(["gpu 0"]))
        monkeypatch.setattr(module.time, "sleep", waited.append)
        made = object.__new__(PackedTrainable)
        config = {"pack_keeper": "keeper", "job": "trial-000", "config": {}}
        config["checkpoint_seconds"] = 1.0
        made._enter(config, leaving="trial-007")
        return made, waited

    return enter


def test_who_finds_a_pack_full_waits_for_a_slot(arrive):
    """A process that is being ended holds its slot for a moment."""
    pack = FullPack(2)
    made, waited = arrive(pack)
    assert len(waited) == 2
    assert made._pack is pack
    assert pack.asked == [("trial-000", {"process": os.getpid(), "leaving": "trial-007"})] * 3


def test_nobody_waits_for_a_slot_for_ever(arrive):
    with pytest.raises(RuntimeError, match="no pack of this node has a slot for trial-000"):
        arrive(FullPack(1000))
