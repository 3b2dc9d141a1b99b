"""A pack of trials: its rows and files are those of trials alone, and nothing is compiled anew."""

import threading
from collections import deque
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from rlcore.checkpoint import read_metadata
from rlcore.video import load_recording
from tests.e2e.processes import wait_until
from tests.rlcore.small import arrays
from tests.tuners.small import CONFIG, SEGMENT, without
from tuners import programs
from tuners.layout import RECORDING_FILE, STATE_FILE
from tuners.objectives import Objective
from tuners.packs import pack as module
from tuners.packs.pack import Pack
from tuners.programs import num_programs
from tuners.schedulers import asha
from tuners.trial import Trial

SLOTS = 4
TIMES = ("time", "steps_per_second", "wall_seconds", "cpu_seconds", "compile_seconds", "programs")
EFFORT = (*TIMES, "slots", "live_slots")


def config_of(number):
    """Trials that differ in all that a search space may change without a compile."""
    combine = ("sum", "product")[number % 2]
    values = {"learning_rate": 1e-3 * (1 + number), "reward.combine": combine}
    return CONFIG.with_values(values | {"task.pole_mass": 0.1 + 0.001 * number})


def entry(number, **changes):
    """What Tune tells a trainable of a job."""
    seeds = [2 * number, 2 * number + 1]
    given = {"config": config_of(number).to_dict(), "seeds": seeds, "objective": ("area", 0.0)}
    return given | {"phase": "search", "until": None, "resume_from": None} | changes


def alone(number, segments, **changes):
    """A trial by itself after some segments."""
    given = entry(number, **changes)
    config = type(CONFIG).from_dict(given["config"])
    trial = Trial(config, given["seeds"], Objective(*given["objective"]), given["until"])
    for _ in range(segments):
        trial.advance()
    return trial


def filled(*numbers):
    """A pack with some trials in it, named by their numbers."""
    pack = Pack(SLOTS)
    for number in numbers:
        pack.enter(str(number), entry(number))
    return pack


def assert_alike(row, other):
    """Two rows of one trial, up to the rounding of batched products."""
    assert set(row) == set(other)
    for name in set(row) - set(EFFORT):
        ours, theirs = row[name], other[name]
        if isinstance(theirs, str) or theirs is None:
            assert ours == theirs, name
        else:
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3, err_msg=name)


def test_the_row_of_a_trial_is_that_of_the_trial_alone():
    rows = filled(0, 1, 2).advance(["0", "2"])
    assert list(rows) == ["0", "2"]
    for name, row in rows.items():
        assert_alike(row, alone(int(name), 1).last_row)
        assert (row["slots"], row["live_slots"]) == (SLOTS, 2)


def test_trials_share_the_time_of_a_segment():
    pack = filled(0, 1)
    pack.advance(pack.jobs)
    rows = list(pack.advance(pack.jobs).values())
    assert rows[0]["wall_seconds"] == rows[1]["wall_seconds"]
    assert rows[0]["steps_per_second"] == pytest.approx(2 * SEGMENT / rows[0]["wall_seconds"])
    assert rows[0]["compile_seconds"] == 0.0


def test_a_slot_that_was_left_is_taken_again():
    pack = filled(0, 1, 2)
    pack.enter("3", entry(3))
    pack.advance(["0", "3"])
    pack.leave("3")
    pack.leave("nobody")
    pack.enter("4", entry(4))
    assert_alike(pack.advance(["4"])["4"], alone(4, 1).last_row)
    assert set(pack.jobs) == {"0", "1", "2", "4"}


def test_a_trial_that_enters_again_begins_anew_in_one_slot():
    pack = filled(0)
    pack.advance(["0"])
    pack.enter("0", entry(0))
    assert pack.advance(["0"])["0"]["env_steps"] == SEGMENT
    assert pack.jobs == ["0"]


def test_a_trial_saved_and_loaded_goes_on_where_it_was(tmp_path):
    pack = filled(0, 1)
    for _ in range(2):
        pack.advance(pack.jobs)
    pack.snapshot("1").write(tmp_path)
    row = pack.advance(["1", "0"])["1"]
    assert read_metadata(tmp_path / STATE_FILE)["env_steps"] == 2 * SEGMENT
    pack.load("1", tmp_path)
    assert_alike(pack.advance(["1"])["1"], row)

    other = filled(2)
    other.enter("1", entry(1, resume_from=str(tmp_path)))
    assert_alike(other.advance(["1"])["1"], row)


def test_a_checkpoint_of_a_pack_is_one_of_a_trial_and_the_other_way_round(tmp_path):
    pack = filled(0, 1)
    pack.advance(pack.jobs)
    for name in ("pack", "alone"):
        (tmp_path / name).mkdir()
    pack.snapshot("1").write(tmp_path / "pack")
    trial = alone(1, 1)
    trial.save(tmp_path / "alone")
    assert read_metadata(tmp_path / "pack" / STATE_FILE).keys() == {
        *("config", "seeds", "env_steps", "scores", "diverged")
    }
    ours, theirs = (load_recording(tmp_path / of / RECORDING_FILE) for of in ("pack", "alone"))
    np.testing.assert_allclose(ours.states, theirs.states, atol=1e-2)
    trial.load(tmp_path / "pack")
    pack.load("1", tmp_path / "alone")
    assert_alike(pack.advance(["1"])["1"], trial.advance())


def test_a_damaged_checkpoint_lets_nobody_in(tmp_path):
    (tmp_path / STATE_FILE).write_bytes(b"not a checkpoint")
    pack = filled(0)
    with pytest.raises(ValueError, match="damaged"):
        pack.enter("1", entry(1, resume_from=str(tmp_path)))
    assert pack.jobs == ["0"]


def test_a_trial_that_diverges_is_a_result_and_its_neighbour_goes_on():
    pack, healthy = filled(0, 1, 2, 3), filled(0, 1, 2, 3)  # full: there is one width for both
    for each in (pack, healthy):
        each.advance(each.jobs)
    broken = jax.tree.map(lambda leaf: leaf.at[1].multiply(np.nan), pack._states.params)
    pack._states = pack._states.replace(params=broken)
    rows, expected = pack.advance(pack.jobs), healthy.advance(healthy.jobs)
    assert (rows["1"]["diverged"], rows["1"]["done"], rows["1"]["objective"]) == (True, True, 0.0)
    assert without(rows["0"], *TIMES) == without(expected["0"], *TIMES), "to the last bit"
    assert pack.snapshot("1").episodes is not None, "those of the segment before"


def test_a_schedule_is_followed():
    changes = CONFIG.to_dict() | {"schedule": [[2 * SEGMENT, {"learning_rate": 0.005}]]}
    pack = filled(0)
    pack.enter("1", entry(1, config=changes, until=3 * SEGMENT))
    rows = [pack.advance(["0", "1"])["1"] for _ in range(3)]
    rates = [row["learning_rate"] / (1 - (2 * n - 1) / 16) for n, row in enumerate(rows, start=1)]
    np.testing.assert_allclose(rates, [0.002, 0.002, 0.005], rtol=1e-5)
    assert [row["done"] for row in rows] == [False, False, True]


def test_a_program_from_disk_has_the_price_of_compiling_one(monkeypatch):
    """Else the narrower ones, which are not there yet, would seem to cost as little."""
    saved = iter((2.0, 9.0))
    monkeypatch.setattr(module, "seconds_saved", lambda: next(saved))
    widths = module._Programs(SLOTS, CONFIG)
    assert widths._price == pytest.approx(widths._waited + 7.0)


def test_a_narrower_program_is_compiled_once_empty_lanes_have_cost_as_much(monkeypatch):
    compiled, done = [], threading.Event()

    def compile_width(config, slots, width):
        compiled.append(width)
        if width < slots:
            done.set()
        return f"program of {width}"

    monkeypatch.setattr(module, "slots_program", compile_width)
    widths = module._Programs(SLOTS, CONFIG)
    widths._price = 10.0
    assert widths.narrowest(1) == (4, "program of 4")
    widths.count_waste(4, 4, 1000.0)
    widths.count_waste(3, 4, 1000.0)  # nothing between 2 and 4
    widths.count_waste(1, 4, 10.0)  # 7.5 s lost
    assert compiled == [4]
    widths.count_waste(1, 4, 10.0)
    assert done.wait(10.0)
    assert compiled == [4, 1]
    wait_until(lambda: widths.narrowest(1)[0] == 1, "the narrower program is used")
    assert widths.narrowest(2) == (4, "program of 4")
    widths.count_waste(1, 4, 1000.0)
    assert compiled == [4, 1], "once"


def run_script(num_trials, trainer, spec):
    """Forty trials through four slots in one order, with ASHA's decisions; all that was said.

    Each round every slot trains a segment and reports, in the order of the slots; a trial that
    ends makes room for the next.
    """
    scheduler = asha(spec)
    waiting = deque(range(num_trials))
    slots = [None] * SLOTS
    rows = {}
    while waiting or any(slot is not None for slot in slots):
        for place in range(SLOTS):
            if slots[place] is None and waiting:
                slots[place] = waiting.popleft()
                trainer.begin(slots[place])
        numbers = [number for number in slots if number is not None]
        for number, row in zip(numbers, trainer.advance(numbers), strict=True):
            rows.setdefault(number, []).append(row)
            named = SimpleNamespace(
                trial_id=str(number), config={"job": str(number), "phase": "search"}
            )
            if row["env_steps"] == SEGMENT:
                scheduler.on_trial_add(None, named)
            stops = scheduler.on_trial_result(None, named, row) == "STOP"
            if stops or row["done"]:
                scheduler.on_trial_complete(None, named, row)
                slots[slots.index(number)] = None
                trainer.end(number)
    return rows, scheduler.rungs


class Alone:
    """Trains each trial by itself."""

    def __init__(self):
        self.trials = {}

    def begin(self, number):
        self.trials[number] = alone(number, 0)

    def advance(self, numbers):
        return [self.trials[number].advance() for number in numbers]

    def end(self, number):
        del self.trials[number]


class Packed:
    """Trains them in a pack; counts the programs."""

    def __init__(self):
        self.pack = Pack(SLOTS)
        self.programs = set()

    def begin(self, number):
        self.pack.enter(str(number), entry(number))

    def advance(self, numbers):
        rows = self.pack.advance([str(number) for number in numbers])
        self.programs.add(num_programs())
        return [rows[str(number)] for number in numbers]

    def end(self, number):
        self.pack.leave(str(number))


@pytest.fixture
def float64_programs(x64, monkeypatch):
    """Programs of this test alone: those of others are of float32."""
    monkeypatch.setattr(programs, "_programs", {})
    monkeypatch.setattr(programs, "_initializers", {})


def test_forty_trials_through_four_slots_are_what_they_are_alone(float64_programs):
    """In one order: the same trials, rungs and objectives, and one program for all of them.

    In float64, where the rounding of batched products does not grow to what ASHA could see.
    """
    spec = SimpleNamespace(
        grace_period=2 * SEGMENT, reduction_factor=3, judge=Objective(), base=CONFIG
    )
    packed = Packed()
    ours, our_rungs = run_script(40, packed, spec)
    theirs, their_rungs = run_script(40, Alone(), spec)
    assert {n: len(rows) for n, rows in ours.items()} == {n: len(r) for n, r in theirs.items()}
    assert {len(rows) for rows in ours.values()} >= {2, 6, 8}, "some stop at each rung"
    for number, rows in ours.items():
        for row, other in zip(rows, theirs[number], strict=True):
            assert row["objective"] == pytest.approx(other["objective"], rel=1e-6, abs=1e-6)
            np.testing.assert_allclose(row["seed_scores"], other["seed_scores"], 1e-6, 1e-6)
    assert our_rungs.keys() == their_rungs.keys()
    for rung, recorded in our_rungs.items():
        assert recorded == pytest.approx(their_rungs[rung], rel=1e-6, abs=1e-6)
    assert len(packed.programs) == 1, "nothing was compiled while trials came and went"


def test_a_pack_keeps_the_bits_of_who_does_not_train():
    pack = filled(0, 1)
    before = arrays(pack.snapshot("1").state)
    pack.advance(["0"])
    for path, leaf in arrays(pack.snapshot("1").state).items():
        np.testing.assert_array_equal(leaf, before[path], err_msg=path)
