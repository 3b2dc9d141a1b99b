"""When a light process takes and leaves slots, with packs that only note it."""

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
        self._clock = CheckpointClock()
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
