"""How many slots pay: the rule, and when measuring stops."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import jax
import pytest
from ray.exceptions import RayTaskError

from tests.tuners.small import CONFIG, refusal, small_spec
from tuners.gpu import UnusableGPU, gpu_environment
from tuners.packs import calibration
from tuners.packs.calibration import (
    MEMORY,
    WIDTHS,
    choose_slots,
    rates_by_width,
    slots_that_pay,
    time_pack,
)
from tuners.space import Choice


@pytest.mark.parametrize(
    ("rates", "chosen"),
    [
        ({4: 1.0}, 4),
        ({4: 1.0, 16: 3.9, 64: 12.0, 256: 13.0}, 64),
        ({4: 1.0, 16: 1.2, 64: 9.0}, 4),
        ({4: 1.0, 16: 0.5}, 4),
        ({4: 1.0, 16: 4.0, 64: 16.0, 256: 64.0}, 256),
    ],
)
def test_as_many_as_pay(rates, chosen):
    assert choose_slots(rates) == chosen


@pytest.fixture
def measured(monkeypatch):
    """Widths that were timed, on a device that trains twice as fast with four times the trials."""
    widths = []

    def time_pack(config, width):
        widths.append(width)
        return width**0.5 if width <= 64 else 8.1

    monkeypatch.setattr(calibration, "time_pack", time_pack)
    return widths


def test_measuring_stops_where_more_trials_bring_too_little(measured):
    assert choose_slots(rates_by_width(CONFIG, WIDTHS, MEMORY)) == 64
    assert measured == [4, 16, 64, 256]


def test_no_more_slots_are_tried_than_there_are_trials(measured, remembered):
    assert calibration._measure_once(CONFIG.to_dict(), 32, MEMORY) == 32
    assert measured == [4, 16]


def test_all_trials_share_a_pack_that_has_no_room_for_more(measured, remembered, monkeypatch):
    """Of 63 trials at 16 a time four would follow each other; measured were 4 and 16."""
    needed = 0.1
    monkeypatch.setattr(
        calibration, "_memory_for", lambda factor: factor * (needed if 16 in measured else 0.1)
    )
    assert calibration._measure_once(CONFIG.to_dict(), 63, MEMORY) == 63
    assert calibration._measure_once(CONFIG.to_dict(), 3, MEMORY) == 4
    (remembered / "slots.json").unlink()
    measured.clear()
    needed = MEMORY / 2
    assert calibration._measure_once(CONFIG.to_dict(), 63, MEMORY) == 32, "all that have room"
    needed = 0.1
    assert calibration._measure_once(CONFIG.to_dict(), 1000, MEMORY) == 64, "256 did not pay"


def test_no_more_slots_are_tried_than_light_processes_fit_the_host(
    measured, remembered, monkeypatch
):
    monkeypatch.setattr(calibration, "_processes_that_fit", lambda: 20)
    assert calibration._measure_once(CONFIG.to_dict(), 1000, MEMORY) == 20
    assert measured == [4, 16]


def test_processes_share_the_memory_of_their_host(monkeypatch):
    """Of a host with two GPUs, in a cluster with more."""
    nodes = [
        {"NodeID": name, "Resources": {"GPU": gpus, "memory": 32e9}}
        for name, gpus in {"a": 8.0, "b": 2.0}.items()
    ]
    monkeypatch.setattr(calibration.ray, "nodes", lambda: nodes)
    here = SimpleNamespace(get_node_id=lambda: "b")
    monkeypatch.setattr(calibration.ray, "get_runtime_context", lambda: here)
    assert calibration._processes_that_fit() == 80


def test_no_more_slots_are_tried_than_memory_holds(measured, monkeypatch):
    monkeypatch.setattr(calibration, "_memory_for", lambda factor: 0.9 if len(measured) > 1 else 0)
    assert choose_slots(rates_by_width(CONFIG, WIDTHS, MEMORY)) == 16


def test_measuring_ends_where_memory_does_not_hold_what_was_hoped(monkeypatch):
    def time_pack(config, width):
        if width > fits:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return float(width)

    monkeypatch.setattr(calibration, "time_pack", time_pack)
    fits = 16
    assert rates_by_width(CONFIG, WIDTHS, MEMORY) == {4: 4.0, 16: 16.0}
    fits = 1
    with pytest.raises(jax.errors.JaxRuntimeError):
        rates_by_width(CONFIG, WIDTHS, MEMORY)


def test_on_a_cpu_trials_are_not_packed(tmp_path):
    assert slots_that_pay(small_spec(tmp_path, slots=0), gpus=0) == 1


def test_the_rate_of_a_pack_counts_every_trial_and_seed(monkeypatch):
    class Timed:
        """A pack whose trials train 1,000 steps/s each, all seeds counted."""

        def __init__(self, slots):
            self.jobs = []

        def enter(self, job, entry):
            self.jobs.append(job)

        def advance(self, jobs):
            return {job: {"steps_per_second": 1000.0, "wall_seconds": 0.01} for job in jobs}

    monkeypatch.setattr("tuners.packs.pack.Pack", Timed)
    assert time_pack(CONFIG, 3) == 3000.0


@pytest.fixture
def remembered(tmp_path, monkeypatch):
    """The folder with what was measured before, on a host with room for any number of trials."""
    monkeypatch.setattr("tuners.programs.use_compilation_cache", lambda: tmp_path)
    monkeypatch.setattr(calibration, "_processes_that_fit", lambda: 1000)
    return tmp_path


def test_a_choice_is_remembered(measured, remembered, monkeypatch):
    for _ in range(2):
        assert calibration._measure_once(CONFIG.to_dict(), 32, MEMORY) == 32
        assert calibration._measure_once(CONFIG.to_dict(), 48, MEMORY) == 48
        assert measured == [4, 16], "once for all numbers of trials with the same choice"
    assert calibration._measure_once(CONFIG.to_dict(), 8, MEMORY) == 8
    with jax.default_matmul_precision("tensorfloat32"):
        measured.clear()
        assert calibration._measure_once(CONFIG.to_dict(), 32, MEMORY) == 32
        assert measured == [4, 16], "products take another time"
    monkeypatch.setattr(jax, "__version__", "0.11")
    measured.clear()
    assert calibration._measure_once(CONFIG.to_dict(), 32, MEMORY) == 32
    assert measured == [4, 16], "other programs"
    (remembered / "slots.json").write_text("not JSON")
    measured.clear()
    assert calibration._measure_once(CONFIG.to_dict(), 32, MEMORY) == 32
    assert measured == [4, 16]


def test_a_cpu_in_place_of_the_gpu_is_not_measured(measured, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cuda,cpu")
    with pytest.raises(UnusableGPU):
        calibration._measure_once(CONFIG.to_dict(), 32, MEMORY)
    assert measured == []


class ScriptedRay:
    """Ray, with what is asked of it; measuring gives 16, or fails with ``cause``."""

    def __init__(self) -> None:
        self.waiting: list[str] = []  # for a GPU each
        self.most = 0  # that ever waited
        self.environment: dict[str, str] = {}  # in which is measured
        self.measured: tuple[Any, ...] = ()
        self.cause: Exception | None = None

    def remote(self, num_gpus: int, **options: Any) -> Any:
        assert num_gpus == 1

        def make(function: Any) -> Any:
            def ask(*arguments: Any) -> str:
                if arguments:
                    self.measured = arguments
                    self.environment = options["runtime_env"]["env_vars"]
                self.waiting.append(function.__name__)
                self.most = max(self.most, len(self.waiting))
                return str(function.__name__)

            return SimpleNamespace(remote=ask)

        return make

    def get(self, asked: str) -> int:
        self.waiting.remove(asked)
        if self.cause is not None:
            raise RayTaskError(asked, "a traceback", self.cause)
        return 16

    def cancel(self, asked: str) -> None:
        self.waiting.remove(asked)


@pytest.fixture
def scripted(monkeypatch, tmp_path):
    """Ray, and the spec of a sweep that is to find out how many slots pay."""
    ray = ScriptedRay()
    monkeypatch.setattr(calibration, "ray", ray)
    return ray, small_spec(tmp_path, slots=0, gpus_per_trial=1.0)


def test_all_gpus_are_asked_for_until_one_has_been_measured(scripted):
    """One alone would be asked for of one type of machine, which may not be to be had."""
    ray, spec = scripted
    assert slots_that_pay(spec, 8) == 16
    assert (ray.most, ray.waiting) == (8, [])


def test_it_is_measured_as_it_will_be_trained(scripted):
    """At the sweep's precision, in its part of the memory, for as many trials as come at most."""
    ray, spec = scripted
    slots_that_pay(replace(spec, num_trials=17, precision="tensorfloat32"), 2)
    assert ray.environment == gpu_environment("tensorfloat32") != gpu_environment("float32")
    assert ray.measured == (spec.base.to_dict(), 9, MEMORY)
    slots_that_pay(replace(spec, space={"num_minibatches": Choice((2, 4))}), 2)
    assert ray.measured[2] == MEMORY / 2, "each static config has a pack there"
    sizes = spec.base.ppo.hidden_sizes
    larger = tuple(3 * size for size in sizes)
    slots_that_pay(replace(spec, space={"hidden_sizes": Choice((sizes, larger))}), 2)
    assert ray.measured[2] == pytest.approx(MEMORY / 4), "the other needs three times as much"


def test_for_a_searcher_that_learns_fewer_are_measured(scripted):
    """No more than a quarter of its trials ever train at once."""
    ray, spec = scripted
    slots_that_pay(replace(spec, num_trials=64, searcher="tpe"), 2)
    assert ray.measured[1] == 64 / 4 / 2


def test_a_gpu_that_cannot_be_used_is_bad_input(scripted):
    ray, spec = scripted
    ray.cause = UnusableGPU("JAX has no GPU on node-7: it would train on the cpu")
    assert "JAX has no GPU on node-7" in refusal(slots_that_pay, spec, 8)
    assert ray.waiting == []


def test_a_mistake_of_ours_in_measuring_stays_one(scripted):
    ray, spec = scripted
    ray.cause = KeyError("width")
    with pytest.raises(RayTaskError):
        slots_that_pay(spec, 1)
