"""Sweeps through packs on a real Ray cluster: what they find, and what happens when parts die.

The cluster's GPU is only pretended, so that Ray's accounting of parts of a GPU is tested; the packs
train on the CPU.
"""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import ray

from tests.e2e.on_ray import ON_RAY, Ran, run_quietly
from tests.e2e.processes import alive, command_line, descendants, wait_until
from tests.e2e.record import Curves, assert_whole, segments_once, trials_once
from tests.tuners.small import SEGMENT, small_spec
from tuners import workers
from tuners.layout import STATE_FILE
from tuners.packs import server
from tuners.packs.pack import Pack
from tuners.packs.trainable import PackedTrainable

pytestmark = [*ON_RAY, pytest.mark.slow]

SLOTS = 4
TRIALS = 16  # forty through packs, and each alone: tests/tuners/packs/test_pack.py
SEARCH = {"media": False, "num_trials": TRIALS, "budget": 8 * SEGMENT, "grace_period": 2 * SEGMENT}
ON_GPU = {"slots": SLOTS, "gpus_per_trial": 1.0}


def assert_same_curves(ours: Curves, theirs: Curves) -> None:
    """Where both trained a trial, it scored the same, up to the rounding of batched products.

    In float64, as the shared cluster trains, that does not grow to anything visible.
    """
    common = ours.keys() & theirs.keys()
    assert len(common) >= TRIALS
    for key in common:
        np.testing.assert_allclose(
            ours[key]["seed_scores"], theirs[key]["seed_scores"], rtol=1e-6, atol=1e-6
        )


@pytest.fixture(scope="module")
def alone(ray_address: str, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A search in which each trial has a process of its own."""
    return run_quietly(small_spec(tmp_path_factory.mktemp("alone"), **SEARCH), ray_address)


@pytest.fixture(scope="module")
def packed(ray_address: str, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The same search through one pack."""
    folder = tmp_path_factory.mktemp("packed")
    return run_quietly(small_spec(folder, **SEARCH, **ON_GPU), ray_address)


def test_a_search_through_packs_is_that_without_them(packed: Ran, alone: Ran):
    for ran in (packed, alone):
        assert_whole(ran.spec.folder)
        assert ran.result.failures == []
    ours, theirs = (trials_once(ran.spec.folder) for ran in (packed, alone))
    searched = [name for name in ours if name.startswith("trial-")]
    assert len(searched) == TRIALS
    for name in searched:
        assert json.loads(ours[name]["config"]) == json.loads(theirs[name]["config"])
        assert ours[name]["seeds"] == theirs[name]["seeds"]
    assert_same_curves(*(segments_once(ran.spec.folder) for ran in (packed, alone)))


def test_one_program_trains_every_trial(packed: Ran):
    """Narrower ones may have been compiled beside it: powers of two below the slots."""
    rows = list(segments_once(packed.spec.folder).values())
    assert len({row["worker"] for row in rows}) == 1, "one pack"
    assert max(row["programs"] for row in rows) <= 1 + math.log2(SLOTS)
    assert sum(row["compile_seconds"] > 0 for row in rows) <= SLOTS, "before its first segment"
    assert {row["slots"] for row in rows} == {SLOTS}
    assert max(row["live_slots"] for row in rows) == SLOTS
    assert packed.result.slot_use is not None


def test_no_process_is_left_when_a_sweep_has_ended(packed: Ran, ray_address: str):
    def of_packs() -> list[str]:
        names = map(command_line, descendants(os.getpid()))
        return [name for name in names if "PackServer" in name or "PackKeeper" in name]

    packs = {row["worker"] for row in segments_once(packed.spec.folder).values()}
    assert len(packs) == 1
    (pid,) = (int(worker.rpartition(":")[2]) for worker in packs)
    wait_until(lambda: not alive(pid), "the pack has ended")
    wait_until(lambda: not of_packs(), "who kept it has, too")


def test_a_static_parameter_has_a_pack_for_each_value(ray_address: str, tmp_path: Path):
    from tuners.space import Choice, Uniform

    space = {"learning_rate": Uniform(1e-4, 1e-2), "num_minibatches": Choice((2, 4))}
    search = {
        "media": False,
        "num_trials": 6,
        "budget": 4 * SEGMENT,
        "grace_period": SEGMENT,
        "space": space,
    }
    ran = run_quietly(small_spec(tmp_path, **search, **ON_GPU), ray_address)
    assert_whole(ran.spec.folder)
    trials = trials_once(ran.spec.folder)
    by_pack: dict[str, set[int]] = {}
    for (name, _), row in segments_once(ran.spec.folder).items():
        ppo = json.loads(trials[name]["config"])["ppo"]
        by_pack.setdefault(row["worker"], set()).add(ppo["num_minibatches"])
    assert sorted(map(sorted, by_pack.values())) == [[2], [4]]


def test_processes_stay_where_for_a_while_there_is_no_job(
    ray_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """At the end of each generation all wait for the last, and no job waits for a process."""
    begun = tmp_path / "begun"
    begun.mkdir()

    class Together(PackedTrainable):
        def setup(self, config: dict[str, Any]) -> None:
            super().setup(config)
            (begun / str(os.getpid())).touch()

        def step(self) -> dict[str, Any]:
            # One would have trained all before the others have begun.
            wait_until(lambda: len(list(begun.iterdir())) >= SLOTS, "all have begun")
            return super().step()

    monkeypatch.setattr(workers, "PackedTrainable", Together)
    search = {**SEARCH, "num_trials": SLOTS, "scheduler": "pbt"}
    ran = run_quietly(small_spec(tmp_path, **search, **ON_GPU), ray_address)
    assert_whole(ran.spec.folder)
    assert len(list(begun.iterdir())) == SLOTS
    rows = segments_once(ran.spec.folder).values()
    later = [
        r["live_slots"] for r in rows if r["phase"] == "search" and r["env_steps"] > 2 * SEGMENT
    ]
    assert max(later) > 1, "not one after the other"


def once(file: Path) -> bool:
    """Returns whether this is the first call for ``file``, in any process."""
    try:
        os.close(os.open(file, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def pack_with_accidents(folder: Path) -> Callable[[int], Pack]:
    """A pack in which trial-003 diverges, and that dies, once, when trial-006 trains."""

    class Unlucky(Pack):
        def advance(self, jobs: Any) -> dict[str, dict[str, Any]]:
            ill = self._occupants.get("trial-003")
            if "trial-003" in jobs and ill is not None and ill.progress.env_steps == SEGMENT:
                broken = jax.tree.map(
                    lambda leaf: leaf.at[ill.slot].multiply(np.nan), self._states.params
                )
                self._states = self._states.replace(params=broken)
            if "trial-006" in jobs and once(folder / "pack"):
                os._exit(1)
            return super().advance(jobs)

    return Unlucky


def trainable_with_accidents(folder: Path) -> type:
    """A process that dies, once, while trial-008 trains, and finds trial-010's state damaged."""

    class Unlucky(PackedTrainable):
        def step(self) -> dict[str, Any]:
            row = super().step()
            if self._job == "trial-008" and row["env_steps"] == SEGMENT and once(folder / "trial"):
                os._exit(1)
            if self._job == "trial-010" and row["env_steps"] == SEGMENT and once(folder / "bit"):
                self._go_back_to_what_is_damaged(folder / "checkpoint")
            return row

        def _go_back_to_what_is_damaged(self, checkpoint: Path) -> None:
            checkpoint.mkdir()
            self.save_checkpoint(str(checkpoint))
            with (checkpoint / STATE_FILE).open("r+b") as file:
                file.seek(-5, os.SEEK_END)
                file.write(b"\xff")
            self.load_checkpoint(str(checkpoint))
            super().step()
            (folder / "went on").touch()

    return Unlucky


def test_a_search_survives_a_divergence_a_dead_pack_a_dead_trial_and_a_damaged_checkpoint(
    ray_address: str, tmp_path: Path, alone: Ran, monkeypatch: pytest.MonkeyPatch
):
    def make_pack(slots: int) -> Pack:
        return pack_with_accidents(tmp_path)(slots)

    monkeypatch.setattr(server, "make_pack", make_pack)
    monkeypatch.setattr(workers, "PackedTrainable", trainable_with_accidents(tmp_path))
    ran = run_quietly(small_spec(tmp_path / "runs", **SEARCH, **ON_GPU), ray_address)
    assert (tmp_path / "pack").exists()
    assert (tmp_path / "trial").exists()
    assert (tmp_path / "bit").exists()
    assert ran.result.failures == []
    assert_whole(ran.spec.folder)
    trials = trials_once(ran.spec.folder)
    assert {trial["status"] for trial in trials.values()} == {"finished"}
    assert (tmp_path / "went on").exists(), "its slot was kept"
    assert trials["trial-003"]["stop_reason"] == "diverged"
    assert len({row["worker"] for row in segments_once(ran.spec.folder).values()}) == 2
    ours = segments_once(ran.spec.folder)
    ill = {key for key, row in ours.items() if row["diverged"]}
    assert ill == {("trial-003", 2 * SEGMENT)}
    theirs = segments_once(alone.spec.folder)
    assert_same_curves({key: ours[key] for key in ours.keys() - ill}, theirs)
    assert ray.is_initialized() is False
