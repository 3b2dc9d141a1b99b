"""Objectives by hand: one number from a trial's curves, and fronts of two."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuners.objectives import OBJECTIVES, PARETO, Objective, Outcome, pareto_ranks
from tuners.validate import COLUMNS, Curves

STEPS = np.array([1, 2, 3, 4]) * 100_000
# One seed stays above 800 from the third segment on, the other never is.
CURVES = Curves(STEPS, np.array([[100.0, 700.0, 850.0, 900.0], [0.0, 0.0, 300.0, 400.0]]))
FINAL, AREA = (2450 / 3, 700 / 3), (637.5, 175.0)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("final_score", FINAL),
        ("area", AREA),
        ("steps_to_threshold", (-0.3, -0.5)),  # the first segment above; one beyond the last
        (PARETO, AREA),
    ],
)
def test_an_objective_is_a_mean_over_seeds_less_a_penalty(name, values):
    assert Objective(name).value(CURVES) == pytest.approx(np.mean(values))
    expected = np.mean(values) - 0.5 * abs(values[0] - values[1]) / np.sqrt(2)
    assert Objective(name, 0.5).value(CURVES) == pytest.approx(expected)


def test_every_column_of_the_final_table_is_an_objective():
    assert (*COLUMNS, "pareto") == OBJECTIVES


@pytest.mark.parametrize("name", OBJECTIVES)
def test_to_fail_is_no_better_than_to_learn_nothing(name):
    objective = Objective(name)
    nothing = Curves(STEPS, np.zeros((2, 4)))
    assert objective.floor(400_000, 100_000) == pytest.approx(objective.value(nothing))
    assert objective.floor(400_000, 100_000) < objective.value(CURVES)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_seeds_far_apart_are_no_worse_than_to_have_learned_nothing(name):
    """Or a trial that failed would be better than one that half of its seeds solved."""
    apart = Curves(STEPS, np.array([[900.0] * 4, [0.0] * 4]))
    nothing = Curves(STEPS, np.zeros((2, 4)))
    assert Objective(name, 5.0).value(apart) == Objective(name, 5.0).value(nothing)


def outcome(final_score, steps):
    return Outcome(0.0, "budget", 0, final_score, steps)


def test_fronts_by_hand():
    outcomes = {
        "high": outcome(900.0, 0.4),
        "soon": outcome(850.0, 0.1),
        "between": outcome(880.0, 0.2),
        "worse": outcome(880.0, 0.3),
        "worst": outcome(700.0, 0.5),
        "twin": outcome(850.0, 0.1),
    }
    assert pareto_ranks(outcomes) == {
        **{"high": 0, "soon": 0, "between": 0, "twin": 0},
        **{"worse": 1, "worst": 2},
    }
    assert pareto_ranks({}) == {}


@given(points=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=12))
def test_fronts_are_peeled_off_one_by_one(points):
    """The definition, slowly: a front is what no other of those left beats."""
    outcomes = {str(i): outcome(float(a), float(b)) for i, (a, b) in enumerate(points)}
    left, rank, expected = dict(enumerate(points)), 0, {}
    while left:
        front = [i for i, p in left.items() if not any(beats(q, p) for q in left.values())]
        expected |= {str(i): rank for i in front}
        left = {i: p for i, p in left.items() if i not in front}
        rank += 1
    assert pareto_ranks(outcomes) == expected


def beats(one, other):
    """Whether a (score, steps) is nowhere worse, and somewhere better."""
    return one != other and one[0] >= other[0] and one[1] <= other[1]
