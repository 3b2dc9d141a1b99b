"""The final table as a person reads it, and the verdict on it."""

from dataclasses import replace

import numpy as np
import pytest

from tuners.final_table import (
    COLUMN_TITLES,
    estimate_lines,
    improvement_lines,
    interval_name,
    shown,
    verdict,
)
from tuners.validate import COLUMNS, AtEnd, Comparison, Estimate, estimate

FINAL_SCORE, AREA, STEPS = (column.title for column in COLUMNS.values())
EVEN, BETTER, WORSE = Estimate(0.6, 0.4, 0.8), Estimate(0.8, 0.51, 1.0), Estimate(0.2, 0.0, 0.49)
CELLS = dict.fromkeys(COLUMNS, Estimate(800.0, 700.0, 900.0))


def compared(**others):
    """A comparison of trial-001 with other rows, each by the columns that are not even."""
    rows = dict.fromkeys(("trial-001", "baseline", "task_score"), CELLS)
    improvement = {row: dict.fromkeys(COLUMNS, EVEN) | columns for row, columns in others.items()}
    validated = {"baseline": 700.0, "trial-001": 600.0}
    at_end = dict.fromkeys(rows, AtEnd(7, 8, never=901.0))
    return Comparison(rows, improvement, 0.0, validated, 8, at_end)


def verdict_on(**columns):
    return verdict(compared(baseline=columns), "trial-001")


def test_the_verdict_on_a_baseline_that_won():
    said = verdict(compared(task_score={"area": WORSE}), "baseline")
    assert said.startswith("No configuration found was better than the hand-tuned baseline")
    assert said.endswith(f"it is worse in: {AREA}.")


def test_the_verdict_where_nothing_was_tried_on_fresh_seeds():
    alone = replace(compared(), validated={"baseline": 700.0})
    assert verdict(alone, "baseline").startswith("No configuration came to the validation")


def test_a_line_has_a_cell_for_each_title():
    label, cells = next(estimate_lines(compared(), "trial-001"))
    assert label == "winner (trial-001)"
    assert dict(zip(COLUMN_TITLES, cells, strict=True)) == {
        FINAL_SCORE: ("800", "[700, 900]"),
        AREA: ("800", "[700, 900]"),
        STEPS: ("800.00 M", "[700.00, 900.00]"),
        "seeds above 800": ("7 of 8", ""),
    }
    _, beats = next(improvement_lines(compared(baseline={})))
    assert len(beats) == len(COLUMN_TITLES)


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (Estimate(0.3, 0.1, 0.5), ("0.30 M", "[0.10, 0.50]")),
        (Estimate(0.3, 0.1, 0.557), ("0.30 M", "[0.10, never]")),
        (Estimate(0.557, 0.557, 0.557), ("never", "[never, never]")),
    ],
)
def test_steps_that_stand_for_seeds_that_never_got_there_are_no_figure(cell, text):
    assert shown(cell, COLUMNS["steps_to_threshold"], never=0.557) == text


def test_a_score_may_be_greater_than_the_steps_of_a_seed_that_never_got_there():
    cell = Estimate(800.0, 700.0, 900.0)
    assert shown(cell, COLUMNS["final_score"], never=0.5) == ("800", "[700, 900]")


@pytest.mark.parametrize(
    ("seeds", "name"), [(2, "lowest, highest"), (4, "lowest, highest"), (5, "95 % interval")]
)
def test_intervals_of_few_seeds_are_called_what_they_are(seeds, name):
    assert interval_name(seeds) == name
    values = np.array([100.0, 300.0, 700.0, 900.0, 950.0])[:seeds]
    found = estimate(values)
    spans_all = np.allclose([found.low, found.high], [values.min(), values.max()])
    assert spans_all == (name == "lowest, highest")


def test_the_verdict_on_a_clear_win():
    assert verdict_on(final_score=BETTER, area=BETTER) == (
        f"The winner beats the baseline in: {FINAL_SCORE}, {AREA}."
    )


def test_the_verdict_on_a_win_that_costs_something():
    assert verdict_on(final_score=BETTER, steps_to_threshold=WORSE) == (
        f"The winner beats the baseline in: {FINAL_SCORE}. It is worse in: {STEPS}."
    )


def test_the_verdict_on_no_clear_win():
    assert verdict_on() == (
        "The winner does not clearly beat the baseline on the test seeds in any column."
    )
    assert verdict_on(area=WORSE).endswith(f"in any column. It is worse in: {AREA}.")


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({}, "not clearly better or worse in any column"),
        ({"area": BETTER}, f"better in: {AREA}"),
        ({"area": BETTER, "final_score": WORSE}, f"better in: {AREA}; worse in: {FINAL_SCORE}"),
    ],
)
def test_the_verdict_says_whether_the_search_was_worth_it(columns, said):
    """To train on the score costs no search: what does not beat that is said to."""
    comparison = compared(baseline={"area": BETTER}, task_score=columns)
    assert verdict(comparison, "trial-001") == (
        f"The winner beats the baseline in: {AREA}. Compared with the score itself as the reward,"
        f" which the search may not use, it is {said}."
    )


@pytest.mark.parametrize("failed", ["trial-001", "baseline"])
def test_a_row_whose_every_job_failed_is_said_so(failed):
    """Not a KeyError after an hour of training: the other rows are still worth a table."""
    comparison = compared()
    del comparison.estimates[failed]
    assert verdict(comparison, "trial-001") == (
        f"Every test job of {failed} failed: nothing can be said."
    )


def test_too_few_seeds_tell_nothing():
    comparison = replace(compared(), test_seeds=3)
    said = verdict(comparison, "trial-001")
    assert "cannot be told from 3 test seeds: it takes 4 or more" in said


def test_a_line_for_each_row_that_the_winner_can_be_compared_with():
    comparison = compared(task_score={}, baseline={"area": BETTER})
    even, better = ("0.60", "[0.40, 0.80]"), ("0.80", "[0.51, 1.00]")
    assert list(improvement_lines(comparison)) == [
        ("P(beats baseline)", [even, better, even, ("", "")]),
        ("P(beats score)", [*[even] * 3, ("", "")]),
    ]
    assert list(improvement_lines(compared())) == []
