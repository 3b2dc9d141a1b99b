"""The reward-hacking alarm: planted hacks are found, healthy training is not taken for one."""

import numpy as np
import pytest

from tests.tuners.report.tables import Page, Tables, curve, search_values
from tests.tuners.small import SEGMENT
from tuners.report.hacking import _noise, agreement, find_hack, hacks, paired, rank_correlation
from tuners.report.reward_charts import hacking_chart
from tuners.report.sweep_record import load_record
from tuners.report.write import write_report

UP = [10.0 * i for i in range(12)]
PEAK_THEN_FALL = [0.0, 300.0, 600.0, 800.0, 750.0, 680.0, 600.0, 520.0, 430.0, 350.0, 280.0, 200.0]


def test_a_return_that_rises_while_the_score_falls_is_a_hack():
    falling = [800.0 - 50 * i for i in range(12)]
    found = find_hack(UP, falling)
    assert found.correlation == pytest.approx(-1.0)
    # First third: 800, 750, 700, 650; last: 400, 350, 300, 250.
    assert (found.best, found.last) == pytest.approx((725.0, 325.0))
    assert found.rise == pytest.approx(80.0)


def test_a_score_that_rose_before_it_fell_is_a_hack_too():
    found = find_hack(UP, PEAK_THEN_FALL)
    assert found is not None
    assert found.best > 700
    assert found.last < 300


@pytest.mark.parametrize(
    ("shaped", "scores"),
    [
        (UP, [60.0 * i for i in range(12)]),  # both rise
        (UP[::-1], PEAK_THEN_FALL),  # both fall: forgotten, not hacked
        (UP, [800.0] * 12),  # the score stays
        (UP, [800.0 - 3 * i for i in range(12)]),  # it falls by nothing that matters
        ([5.0] * 12, [800.0 - 50 * i for i in range(12)]),  # the return stays
        (UP, [0.0, 100.0, 200.0, 300.0, 400.0, 500.0, 600.0, 700.0, 800.0, 750.0, 700.0, 650.0]),
        (UP[:4], [800.0, 600.0, 400.0, 200.0]),  # too few segments to tell
        ([], []),
    ],
)
def test_other_curves_are_no_hack(shaped, scores):
    assert find_hack(shaped, scores) is None


def test_noise_alone_is_no_hack():
    """Of 300 trials of 16 segments none; a false alarm in one of 300 would fail this."""
    generator = np.random.default_rng(0)
    rise = np.linspace(0.0, 1.0, 16)
    for _ in range(100):
        noise = generator.normal(size=(2, 16))
        assert find_hack(50 * noise[0], 400 + 150 * noise[1]) is None  # learns nothing
        flicker = np.where(generator.random(16) < 0.3, 100.0, 830.0)
        assert find_hack(100 * rise + 10 * noise[0], flicker) is None  # dips on its way
        healthy = 800 * np.minimum(1.0, 3 * rise) + 30 * noise[1]
        assert find_hack(100 * rise + 10 * noise[0], healthy) is None


def test_a_hack_is_found_through_noise():
    """In 95 of 100 trials or more; the score falls by 500 under a noise of 60."""
    generator = np.random.default_rng(1)
    rise = np.linspace(0.0, 1.0, 16)
    found = 0
    for _ in range(100):
        noise = generator.normal(size=(2, 16))
        hack = find_hack(100 * rise + 8 * noise[0], 750 - 500 * rise + 60 * noise[1])
        found += hack is not None
    assert found >= 95


@pytest.mark.parametrize("slope", [0.0, 50.0])
def test_the_noise_of_a_segment_is_told_from_a_trend(slope):
    """Of normal noise it is the standard deviation."""
    values = np.random.default_rng(2).normal(scale=8.0, size=20_000)
    assert _noise(values + slope * np.arange(20_000)) == pytest.approx(8.0, rel=0.03)


def test_rank_correlation_by_hand():
    assert rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([10.0, 30.0, 90.0])) == 1.0
    assert rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([2.0, 3.0, 1.0])) == -0.5
    # Ranks 1.5, 1.5, 3 and 1, 2, 3.
    tied = rank_correlation(np.array([5.0, 5.0, 9.0]), np.array([1.0, 2.0, 3.0]))
    assert tied == pytest.approx(np.sqrt(0.75))
    assert rank_correlation(np.array([5.0, 5.0]), np.array([1.0, 2.0])) == 0.0


def test_segments_without_a_finished_episode_are_passed_over():
    rows = [
        {"shaped_return": None, "score": 1.0},
        {"shaped_return": 5.0, "score": 2.0},
        {"shaped_return": float("nan"), "score": 3.0},
        {"score": 4.0},
    ]
    assert paired(rows) == ([5.0], [2.0])


def test_agreement_is_the_median_of_the_last_half():
    values = [-1.0, None, -1.0, 0.2, 0.4, 0.9]
    assert agreement([{"return_score_correlation": value} for value in values]) == 0.4
    assert agreement([{"return_score_correlation": None}]) is None


@pytest.fixture
def planted(tmp_path):
    """A sweep in which trial-002 is a hack, trial-001 is healthy, and the score is its own."""
    tables = Tables(tmp_path, num_trials=3)
    falling, rising = [700.0 - 80 * i for i in range(8)], [10.0 * i for i in range(8)]
    tables.trial("trial-000", curve(500.0), row="baseline")
    tables.trial("trial-001", curve(600.0), shaped=rising)
    tables.trial("trial-002", falling, shaped=rising)
    tables.trial("test-task_score-0", falling, phase="test", row="task_score", shaped=rising)
    return tables.write()


def test_only_the_planted_hack_is_flagged(planted):
    assert set(hacks(load_record(planted))) == {"trial-002"}


def test_a_reward_that_was_changed_on_the_way_is_not_flagged(tmp_path):
    """Its shaped return rises as the weight does; that of one whose other numbers changed stays."""
    tables = Tables(tmp_path, num_trials=2)
    falling, rising = [700.0 - 80 * i for i in range(8)], [10.0 * i for i in range(8)]
    heavier = [(4 * SEGMENT, {"reward.cos.weight": 0.9})]
    tables.trial("trial-000", falling, shaped=rising, schedule=heavier)
    tables.trial(
        "trial-001", falling, shaped=rising, schedule=[(4 * SEGMENT, {"learning_rate": 1e-3})]
    )
    record = load_record(tables.write())
    assert set(hacks(record)) == {"trial-001"}
    chart = hacking_chart(record)
    assert len(chart.panels[0].marks) == 1 and "1 of 1 trials" in chart.title
    assert "whose reward was changed on the way are left out" in chart.note


def test_the_report_warns_of_it_and_draws_it_in_red(planted):
    page = Page(write_report(planted))
    (line,) = [text for text in page.text.split(".") if "reward hacking:" in text]
    assert "trial-002 looks like reward hacking: its shaped return rose by" in line
    assert "while its score fell from 660 to 180" in line
    red = [
        trace
        for trace in page.figures["figure-hacking"]["data"]
        if trace["line"]["color"] == "#c0392b"
    ]
    (flagged,) = red
    assert flagged["x"] == pytest.approx([i / 7 for i in range(8)], abs=1e-5)
    assert flagged["y"] == [700.0 - 80 * i for i in range(8)]


def test_how_many_trials_could_be_judged_is_said(tmp_path):
    tables = Tables(tmp_path, num_trials=3)
    tables.trial("trial-000", [900.0] * 8, row="baseline")
    tables.trial("trial-001", [100.0, 200.0], values=search_values(1), stop_reason="asha")
    tables.trial("trial-002", [100.0 * n for n in range(8)], values=search_values(2))
    title = hacking_chart(load_record(tables.write())).title
    assert title == (
        "Shaped return against score: 0 of 1 trials earned more while doing worse; 2 others ended"
        " too soon after their best"
    )
