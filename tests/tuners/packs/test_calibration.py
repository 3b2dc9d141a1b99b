"""How many slots pay: the rule, and when measuring stops."""

import pytest

from tests.tuners.small import CONFIG, small_spec
from tuners.packs import calibration
from tuners.packs.calibration import choose_slots, rates_by_width, slots_that_pay, time_pack


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
    assert choose_slots(rates_by_width(CONFIG, most=1000)) == 64
    assert measured == [4, 16, 64, 256]


def test_no_more_slots_are_tried_than_there_are_trials(measured):
    assert choose_slots(rates_by_width(CONFIG, most=32)) == 16
    assert measured == [4, 16]


def test_no_more_slots_are_tried_than_memory_holds(measured, monkeypatch):
    monkeypatch.setattr(calibration, "_memory_for", lambda factor: 0.9 if len(measured) > 1 else 0)
    assert choose_slots(rates_by_width(CONFIG, most=1000)) == 16


def test_on_a_cpu_trials_are_not_packed(tmp_path):
    assert slots_that_pay(small_spec(tmp_path, slots=0), gpus=0) == 1


def test_the_rate_of_a_pack_counts_every_trial_and_seed():
    assert time_pack(CONFIG, 2) > 1000.0


def test_a_choice_is_remembered(measured, tmp_path, monkeypatch):
    monkeypatch.setattr("tuners.programs.use_compilation_cache", lambda: tmp_path)
    for _ in range(2):
        assert calibration._measure_once(CONFIG.to_dict(), 32) == 16
        assert measured == [4, 16], "once"
    assert calibration._measure_once(CONFIG.to_dict(), 8) == 4
    (tmp_path / "slots.json").write_text("not JSON")
    measured.clear()
    assert calibration._measure_once(CONFIG.to_dict(), 32) == 16
    assert measured == [4, 16]
