"""Statistics of the test: literal answers, SciPy's where it has them."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import trim_mean

from tests.tuners.small import SEGMENT, refusal, segment_row, trial_row
from tuners.validate import (
    COLUMNS,
    AtEnd,
    Comparison,
    Curves,
    Estimate,
    best_seed,
    compare,
    estimate,
    gather_curves,
    interquartile_mean,
    measure,
    probability_of_improvement,
    read_comparison,
    slot_use,
    utilisation,
)

numbers = st.floats(-1e3, 1e3, allow_subnormal=False)


def test_interquartile_means_by_hand():
    assert interquartile_mean(np.array([7.0])) == 7.0
    assert interquartile_mean(np.array([1.0, 3.0])) == 2.0
    assert interquartile_mean(np.array([100.0, 2.0, 4.0, -50.0])) == 3.0
    # Of three values the middle one counts 1/3, the others 1/12 each: (1 + 4 x 2 + 9) / 6.
    assert interquartile_mean(np.array([9.0, 1.0, 2.0])) == pytest.approx(3.0)
    # Of five, the middle three count 1/5, and the second and fourth lose a quarter of theirs:
    # weights 0, 0.15, 0.2, 0.15, 0 -> (0.15 x 2 + 0.2 x 3 + 0.15 x 10) / 0.5.
    assert interquartile_mean(np.array([3.0, 1.0, 99.0, 10.0, 2.0])) == pytest.approx(4.8)


def test_interquartile_mean_goes_along_the_last_axis():
    values = np.array([[0.0, 1.0, 2.0, 3.0], [100.0, 5.0, 5.0, -100.0]])
    np.testing.assert_allclose(interquartile_mean(values), [1.5, 5.0])


@given(
    values=st.integers(1, 6).flatmap(lambda n: st.lists(numbers, min_size=4 * n, max_size=4 * n))
)
def test_interquartile_mean_is_scipys_where_quarters_are_whole(values):
    assert interquartile_mean(np.array(values)) == pytest.approx(trim_mean(values, 0.25), abs=1e-9)


@given(values=st.lists(numbers, min_size=1, max_size=13))
def test_interquartile_mean_is_that_of_the_values_four_times_over(values):
    """Then quarters are whole: the parts at the edges are what SciPy makes of the copies."""
    assert interquartile_mean(np.array(values)) == pytest.approx(
        trim_mean(np.repeat(values, 4), 0.25), abs=1e-9
    )


def test_probabilities_of_improvement_by_hand():
    ours, theirs = np.array([1.0, 2.0]), np.array([0.0, 2.0])
    # Pairs (1, 0) better, (1, 2) worse, (2, 0) better, (2, 2) a tie.
    assert probability_of_improvement(ours, theirs, True).value == 2.5 / 4
    assert probability_of_improvement(ours, theirs, False).value == 1.5 / 4
    assert probability_of_improvement(ours, ours, True).value == 0.5
    assert probability_of_improvement(ours + 10, theirs, True) == Estimate(1.0, 1.0, 1.0)
    assert probability_of_improvement(ours + 10, theirs, False) == Estimate(0.0, 0.0, 0.0)
    one, three = np.array([3.0]), np.array([1.0, 3.0, 5.0])
    assert probability_of_improvement(one, three, True).value == 0.5


def test_the_best_seed_is_one_that_lives():
    assert best_seed([[1.0, 2.0], [9.0, 3.0], [9.0, 4.0]]) == (0, pytest.approx(19 / 3))
    assert best_seed([[1.0, 2.0], [9.0, 3.0], [0.0, 4.0]]) == (1, 3.0), "the other diverged"
    assert best_seed([[9.0, 3.0], [9.0, 0.0], [0.0, 0.0]])[0] == 0, "it lived longest"


def test_rows_that_are_alike_are_seldom_told_apart():
    """Of the intervals of rows without a difference some 5 % leave one half out, at eight seeds."""
    generator = np.random.default_rng(0)
    found = [
        probability_of_improvement(*generator.standard_normal((2, 8)), True) for _ in range(300)
    ]
    left_out = np.mean([not p.low <= 0.5 <= p.high for p in found])
    assert 0.01 < left_out < 0.09
    apart = generator.standard_normal((20, 2, 16)) + np.array([[1.5], [0.0]])
    assert np.mean([probability_of_improvement(*rows, True).low > 0.5 for rows in apart]) > 0.9


few = st.lists(st.integers(0, 3).map(float), min_size=1, max_size=6).map(np.array)


@given(ours=few, theirs=few)
def test_improvement_either_way_adds_up_to_one(ours, theirs):
    forth = probability_of_improvement(ours, theirs, True).value
    back = probability_of_improvement(theirs, ours, True).value
    assert forth + back == pytest.approx(1.0)
    assert forth == pytest.approx(probability_of_improvement(theirs, ours, False).value)


def steps_of(scores):
    """Steps to the threshold of one seed, in segments of 0.1 M steps."""
    curves = Curves(np.arange(1, len(scores) + 1) * 100_000, np.array([scores]))
    return measure(curves)["steps_to_threshold"][0] / 0.1


@pytest.mark.parametrize(
    ("scores", "segments"),
    [
        ([900, 900, 900, 900], 1),
        ([0, 900, 900, 900], 2),
        ([0, 900, 100, 900], 4),  # a dip: it counts from where it stays above
        ([900, 900, 900, 0], 5),  # a dip at the end: never for good
        ([0, 0, 0, 0], 5),  # never: one segment beyond the last
        ([0, 0, 0, 900], 4),
        ([800, 800, 800, 800], 5),  # above means above
        ([800, 800.5, 801, 1000], 2),
    ],
)
def test_steps_until_above_the_threshold_for_good(scores, segments):
    assert steps_of(scores) == pytest.approx(segments)


def test_one_number_a_seed_in_each_column():
    scores = np.array([[0.0, 300.0, 600.0, 900.0], [900.0, 900.0, 900.0, 900.0]])
    values = measure(Curves(np.array([250_000, 500_000, 750_000, 1_000_000]), scores))
    assert list(values) == list(COLUMNS)
    np.testing.assert_allclose(values["final_score"], [600.0, 900.0])
    np.testing.assert_allclose(values["area"], [450.0, 900.0])
    np.testing.assert_allclose(values["steps_to_threshold"], [1.0, 0.25])


def test_a_curve_of_one_segment():
    values = measure(Curves(np.array([1000]), np.array([[850.0], [10.0]])))
    np.testing.assert_allclose(values["final_score"], [850.0, 10.0])
    np.testing.assert_allclose(values["steps_to_threshold"], [0.001, 0.002])


def finished(name, row, **columns):
    return trial_row(name, "test", row, status="finished", **columns)


def curve(name, scores, phase="test", segment=100):
    """A trial's segments; each entry of ``scores`` holds one score a seed."""
    return [
        segment_row(name, i + 1, phase, env_steps=(i + 1) * segment, seed_scores=seeds)
        for i, seeds in enumerate(scores)
    ]


def test_batches_become_the_seeds_of_one_row():
    trials = [finished("test-a-1", "a"), finished("test-b-0", "b"), finished("test-a-0", "a")]
    segments = [
        *curve("test-a-1", [[5.0, 6.0], [7.0, 8.0]]),
        *curve("test-b-0", [[9.0, 9.0]]),
        *curve("test-a-0", [[1.0, 2.0], [3.0, 4.0]]),
    ]
    curves = gather_curves(trials, segments, "test")
    assert set(curves) == {"a", "b"}
    assert curves["a"].env_steps.tolist() == [100, 200]
    assert curves["a"].scores.tolist() == [[1, 3], [2, 4], [5, 7], [6, 8]]
    assert curves["b"].scores.tolist() == [[9], [9]]


def test_seeds_stay_in_the_order_of_their_batches_beyond_ten():
    trials = [finished(f"test-a-{batch}", "a", seeds=[batch]) for batch in range(12)]
    segments = [row for b in range(12) for row in curve(f"test-a-{b}", [[float(b)]])]
    scores = gather_curves(trials, segments, "test")["a"].scores
    assert scores[:, 0].tolist() == [float(batch) for batch in range(12)]


def test_segments_may_come_in_any_order():
    rows = curve("test-a-0", [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    curves = gather_curves([finished("test-a-0", "a")], rows[::-1], "test")
    assert curves["a"].env_steps.tolist() == [100, 200, 300]
    assert curves["a"].scores.tolist() == [[1, 3, 5], [2, 4, 6]]


def test_a_seed_that_diverged_scores_nothing_from_there_on():
    trials = [
        finished("test-a-0", "a", stop_reason="diverged"),
        finished("test-a-1", "a", stop_reason="budget"),
    ]
    segments = [
        *curve("test-a-0", [[1.0, 2.0], [0.0, 0.0]], segment=SEGMENT),
        *curve("test-a-1", [[3.0, 4.0]] * 8, segment=SEGMENT),
    ]
    curves = gather_curves(trials, segments, "test")
    assert curves["a"].env_steps.tolist() == [SEGMENT * n for n in range(1, 9)]
    assert curves["a"].scores.tolist() == [[1] + [0] * 7, [2] + [0] * 7, [3] * 8, [4] * 8]


def test_a_row_whose_every_seed_diverged_is_measured_to_the_end():
    """Cut short, it would seem to have come above the threshold sooner than one that never did."""
    trial = finished("test-a-0", "a", stop_reason="diverged")
    rows = curve("test-a-0", [[700.0, 700.0], [0.0, 0.0]], segment=SEGMENT)
    curves = gather_curves([trial], rows, "test")["a"]
    assert curves.env_steps.tolist() == [SEGMENT * n for n in range(1, 9)]
    values = measure(curves)
    assert values["area"].tolist() == [700.0 / 8] * 2
    assert values["steps_to_threshold"].tolist() == [9 * SEGMENT / 1e6] * 2


def test_a_trial_that_failed_leaves_its_seeds_out():
    trials = [finished("test-a-0", "a"), trial_row("test-a-1", "test", "a", status="error")]
    segments = [*curve("test-a-0", [[1.0, 2.0]]), *curve("test-a-1", [[900.0, 900.0]])]
    assert gather_curves(trials, segments, "test")["a"].scores.tolist() == [[1], [2]]


def test_a_report_that_is_lost_is_no_score_of_nothing():
    trials = [finished("test-a-0", "a"), finished("test-a-1", "a")]
    segments = [*curve("test-a-0", [[1.0, 2.0]] * 3), *curve("test-a-1", [[3.0, 4.0]] * 2)]
    assert "segments.parquet lacks reports of test-a-1; restore" in refusal(
        gather_curves, trials, segments, "test"
    )


def test_other_phases_do_not_count():
    trials = [finished("test-a-0", "a"), trial_row("trial-001", "search", status="finished")]
    segments = [*curve("test-a-0", [[1.0, 2.0]]), *curve("trial-001", [[9.0, 9.0]], "search")]
    assert set(gather_curves(trials, segments, "test")) == {"a"}
    assert gather_curves(trials, segments, "validation") == {}


def test_an_estimate_is_the_interquartile_mean_with_an_interval_around_it():
    values = np.array([810.0, 820.0, 830.0, 840.0, 850.0, 860.0, 870.0, 100.0])
    found = estimate(values)
    assert found.value == pytest.approx(trim_mean(values, 0.25))
    assert values.min() <= found.low < found.value < found.high <= values.max()
    assert estimate(values) == found, "the same numbers give the same interval"


def test_an_interval_is_that_of_the_interquartile_mean():
    """Of sixteen seeds the one that failed is never in the middle half, but in the mean."""
    found = estimate(np.array([100.0] + [850.0] * 15))
    assert (found.value, found.low, found.high) == (850.0, 850.0, 850.0)


def test_equal_seeds_leave_no_interval():
    found = estimate(np.full(8, 500.0))
    assert (found.value, found.low, found.high) == pytest.approx((500.0, 500.0, 500.0))


def test_an_interval_covers_as_often_as_it_says():
    """Of 20 seeds, a nominal 95 % bootstrap interval covers nearly that; 400 repetitions.

    Its own coverage is about 0.92; below 0.86 is five standard deviations away.
    """
    generator = np.random.default_rng(3)
    hits = 0
    for _ in range(400):
        found = estimate(generator.normal(0.0, 1.0, 20))
        hits += found.low <= 0.0 <= found.high
    assert 0.86 < hits / 400 < 0.99


def two_rows(ours, theirs):
    """Curves of one segment: the final score is the score."""
    steps = np.array([100_000])
    return {
        "trial-001": Curves(steps, np.array(ours, float)[:, None]),
        "baseline": Curves(steps, np.array(theirs, float)[:, None]),
    }


def compared(ours, theirs):
    settings = {"winner": "trial-001", "over_tuning": 50.0}
    return compare(two_rows(ours, theirs), **settings, validated={"trial-001": 1.0})


def test_a_comparison_by_hand():
    comparison = compared([850, 850, 850, 850], [500, 500, 900, 900])
    assert comparison.estimates["trial-001"]["final_score"].value == 850.0
    assert comparison.estimates["baseline"]["final_score"].value == 700.0
    assert comparison.estimates["trial-001"]["steps_to_threshold"].value == pytest.approx(0.1)
    better = comparison.improvement["baseline"]
    assert better["final_score"].value == 0.5
    # Half of the baseline's seeds take as long, the others take longer: (0.5 + 1) / 2.
    assert better["steps_to_threshold"].value == 0.75
    assert comparison.over_tuning == 50.0
    assert comparison.test_seeds == 4
    assert comparison.validated == {"trial-001": 1.0}
    assert comparison.at_end["trial-001"] == AtEnd(above=4, seeds=4, never=0.2)
    assert comparison.at_end["baseline"] == AtEnd(above=2, seeds=4, never=0.2)


def test_the_winner_is_compared_with_every_other_row():
    curves = two_rows([850] * 4, [500] * 4)
    curves["task_score"] = Curves(curves["baseline"].env_steps, curves["baseline"].scores + 400.0)
    curves["few"] = Curves(curves["baseline"].env_steps, curves["baseline"].scores[:3])
    rest = {"over_tuning": 0.0, "validated": {}}
    comparison = compare(curves, winner="trial-001", **rest)
    assert set(comparison.improvement) == {"baseline", "task_score"}
    assert comparison.better_in("baseline") == [column.title for column in COLUMNS.values()]
    assert comparison.worse_in("baseline") == []
    assert comparison.better_in("task_score") == []
    assert comparison.worse_in("task_score") == [COLUMNS[c].title for c in ("final_score", "area")]
    assert Comparison.from_dict(comparison.to_dict()) == comparison
    assert set(compare(curves, winner="baseline", **rest).improvement) == {
        *("trial-001", "task_score")
    }


def test_what_may_be_chance_is_neither_better_nor_worse():
    comparison = compared([850] * 4, [500] * 4)
    for probability in (Estimate(0.4, 0.1, 0.7), Estimate(0.6, 0.3, 0.9)):
        unsure = replace(comparison, improvement={"baseline": {"area": probability}})
        assert (unsure.better_in("baseline"), unsure.worse_in("baseline")) == ([], [])


def test_three_seeds_a_side_prove_nothing():
    """One order in ten of the six has all three of one side in front, by chance alone."""
    for ours, theirs in (([900] * 3, [500] * 4), ([900] * 4, [500] * 3)):
        comparison = compared(ours, theirs)
        assert (comparison.improvement, comparison.test_seeds) == ({}, 3)


def test_the_use_of_slots_by_hand():
    """Of four slots two trained for a second, and then all for another."""
    rows = [
        *[{"wall_seconds": 1.0, "slots": 4, "live_slots": 2}] * 2,
        *[{"wall_seconds": 1.0, "slots": 4, "live_slots": 4}] * 4,
    ]
    assert slot_use(rows) == 6 / 8
    assert slot_use([{"wall_seconds": 1.0, "slots": 1, "live_slots": 1}]) is None


def test_utilisation_by_hand():
    rows = [
        {"time": 12.0, "wall_seconds": 2.0, "cpu_seconds": 2.0},
        {"time": 14.0, "wall_seconds": 1.0, "cpu_seconds": 1.0},
        {"time": 13.0, "wall_seconds": 3.0, "cpu_seconds": 3.0},
    ]
    # From 10 to 14 s on two cores: 8 core seconds, 6 of them inside segments.
    assert utilisation(rows, 2.0) == 0.75
    assert utilisation(rows, 4.0) == 0.375
    assert utilisation([], 2.0) == 0.0


def test_a_comparison_of_another_version_is_said_to_be_one(tmp_path):
    (tmp_path / "comparison.json").write_text('{"winner": "baseline"}')
    said = refusal(read_comparison, tmp_path, "winner", "at_end")
    assert "is damaged at at_end, or of another version of this program" in said


def test_a_comparison_without_the_end_of_a_row_is_damaged(tmp_path):
    entries = compared([850] * 4, [500] * 4).to_dict()
    path = tmp_path / "comparison.json"
    path.write_text(json.dumps(entries))
    assert read_comparison(tmp_path)["at_end"]["baseline"]["above"] == 0
    del entries["at_end"]["baseline"]
    path.write_text(json.dumps(entries))
    assert "is damaged at at_end" in refusal(read_comparison, tmp_path)
