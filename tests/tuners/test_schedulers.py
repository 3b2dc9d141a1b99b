"""Schedulers by scripted reports: who passes a rung, and rungs that a resume rebuilds."""

import random
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, MedianStoppingRule, TrialScheduler

from tests.tuners.small import SEGMENT, small_spec
from tuners.objectives import Objective
from tuners.schedulers import SCHEDULERS
from tuners.stopping import SearchPhaseASHA, is_searched

GO, STOP = TrialScheduler.CONTINUE, TrialScheduler.STOP
RUNG = 2 * SEGMENT  # the smoke preset's grace period; the next rung is at three times that
FULL = 8 * SEGMENT


def scheduler():
    return SCHEDULERS["asha"](SimpleNamespace(**SETTINGS))


SETTINGS = {
    "grace_period": RUNG,
    "reduction_factor": 3,
    "base": SimpleNamespace(budget=FULL),
    "judge": Objective(),
}


def trial(job, phase="search", session=1):
    """Tune's trial; its id is another one after a resume, its job's name is not."""
    return SimpleNamespace(config={"job": job, "phase": phase}, trial_id=f"{session}-{job}")


def report(asha, tried, env_steps, area):
    """What Tune does with a report; returns the decision."""
    result = {"env_steps": env_steps, "objective": area}
    if env_steps >= FULL:  # the trial says itself that it is done
        asha.on_trial_complete(None, tried, result)
        return STOP
    decision = asha.on_trial_result(None, tried, result)
    if decision == STOP:
        asha.on_trial_complete(None, tried, result)
    return decision


def add(asha, *jobs, **settings):
    trials = [trial(job, **settings) for job in jobs]
    for tried in trials:
        asha.on_trial_add(None, tried)
    return trials


def test_the_asha_of_a_sweep(tmp_path):
    asha = SCHEDULERS["asha"](small_spec(tmp_path))
    assert isinstance(asha, SearchPhaseASHA)
    assert asha.rungs == {RUNG: {}, 3 * RUNG: {}}
    assert asha.metric == "objective"


def test_the_rungs_are_as_far_apart_as_the_sweep_says(tmp_path):
    asha = SCHEDULERS["asha"](small_spec(tmp_path, reduction_factor=2))
    assert set(asha.rungs) == {RUNG, 2 * RUNG, 4 * RUNG}


def test_without_a_scheduler_everybody_goes_on(tmp_path):
    fifo = SCHEDULERS["none"](small_spec(tmp_path, scheduler="none"))
    assert isinstance(fifo, FIFOScheduler)
    assert fifo.on_trial_result(None, trial("trial-001"), {"objective": 0.0}) == GO


def test_decisions_at_a_rung_by_hand():
    """A report passes that is at least at the upper third of those before it."""
    asha = scheduler()
    a, b, c, d, e = add(asha, "a", "b", "c", "d", "e")
    assert report(asha, a, RUNG, 100.0) == GO, "nobody came before"
    assert report(asha, b, RUNG, 50.0) == STOP
    assert report(asha, c, RUNG, 150.0) == GO
    # Two thirds of the way through 50, 100, 150 lies 100 + 50 / 3 = 116.7.
    assert report(asha, d, RUNG, 116.0) == STOP
    # Through 50, 100, 116, 150: 116.
    assert report(asha, e, RUNG, 116.0) == GO
    assert asha.rungs[RUNG] == {"a": 100.0, "b": 50.0, "c": 150.0, "d": 116.0, "e": 116.0}
    assert asha.rungs[3 * RUNG] == {}


def test_nobody_is_stopped_before_the_first_rung_or_between_two():
    asha = scheduler()
    first, second = add(asha, "a", "b")
    for segment in range(1, 6):
        assert report(asha, first, segment * SEGMENT, 900.0) == GO
    assert report(asha, second, SEGMENT, 0.0) == GO
    assert report(asha, second, RUNG, 900.0) == GO
    for segment in (3, 4, 5):
        assert report(asha, second, segment * SEGMENT, 0.0) == GO
    assert asha.rungs[3 * RUNG] == {}


def test_about_a_third_passes():
    asha = scheduler()
    draw = random.Random(1)
    passed = 0
    for number in range(300):
        (tried,) = add(asha, f"trial-{number:03d}")
        passed += report(asha, tried, RUNG, draw.random()) == GO
    # 100 expected and a few more, for the first ones meet few others; 8 is the deviation.
    assert 70 <= passed <= 140


def test_the_first_to_come_passes_and_worse_ones_do_not():
    asha = scheduler()
    trials = add(asha, *"abcdefgh")
    decisions = [report(asha, tried, RUNG, 100.0 - rank) for rank, tried in enumerate(trials)]
    assert decisions == [GO] + [STOP] * 7


@pytest.mark.parametrize("phase", ["validation", "test"])
def test_other_phases_run_to_the_end_and_leave_no_mark(phase):
    asha = scheduler()
    (good,) = add(asha, "trial-000")
    report(asha, good, RUNG, 900.0)
    (other,) = add(asha, f"{phase}-baseline-0", phase=phase)
    assert not is_searched(other)
    for segment in range(1, 9):
        result = {"env_steps": segment * SEGMENT, "objective": 0.0}
        assert asha.on_trial_result(None, other, result) == GO
    asha.on_trial_complete(None, other, {"env_steps": FULL, "objective": 0.0})
    asha.on_trial_error(None, other)
    asha.on_trial_remove(None, other)
    assert asha.rungs == {RUNG: {"trial-000": 900.0}, 3 * RUNG: {}}


def test_a_trial_that_ends_counts_at_its_rung():
    asha = scheduler()
    (diverged,) = add(asha, "trial-000")
    asha.on_trial_complete(None, diverged, {"env_steps": RUNG, "objective": 0.0})
    assert asha.rungs[RUNG] == {"trial-000": 0.0}


def test_a_trial_that_fails_may_be_added_again():
    """Tune does so before each retry."""
    asha = scheduler()
    (tried,) = add(asha, "trial-000")
    report(asha, tried, RUNG, 500.0)
    for _ in range(2):
        asha.on_trial_error(None, tried)
        asha.on_trial_add(None, tried)
    assert report(asha, tried, RUNG, 500.0) == GO
    assert asha.rungs[RUNG] == {"trial-000": 500.0}
    asha.on_trial_error(None, tried)
    asha.on_trial_remove(None, tried)


def test_nobody_is_stopped_where_the_baseline_ends(tmp_path):
    """Segments of another length, if they are searched, may leave more of the budget."""
    spec = small_spec(tmp_path, budget=FULL + SEGMENT // 2)
    assert spec.base.full_length == FULL
    asha = SCHEDULERS["asha"](spec)
    (tried,) = add(asha, "trial-001")
    result = {"env_steps": FULL, "objective": 900.0}
    assert asha.on_trial_result(None, tried, result) == GO


@pytest.mark.parametrize("name", ["asha", "median"])
def test_a_trial_that_was_stopped_and_comes_back_is_stopped_there_again(name):
    """Its last checkpoint could not be saved: Tune goes on from the one before, and asks anew."""
    rule = SCHEDULERS[name](SimpleNamespace(**SETTINGS))
    for job in "abc":
        rule.on_trial_add(None, trial(job))
        rule.on_trial_result(None, trial(job), at(2, 500.0))
    bad = trial("bad")
    rule.on_trial_add(None, bad)
    assert rule.on_trial_result(None, bad, at(2, 1.0)) == STOP
    rule.on_trial_error(None, bad)
    rule.on_trial_add(None, bad)
    assert rule.on_trial_result(None, bad, at(1, 1.0)) == GO, "so far it was trained before"
    assert rule.on_trial_result(None, bad, at(2, 1.0)) == STOP


def test_a_report_repeated_changes_nothing():
    asha = scheduler()
    first, second = add(asha, "a", "b")
    report(asha, first, RUNG, 500.0)
    report(asha, second, RUNG, 600.0)
    before = asha.rungs
    for env_steps in (SEGMENT, RUNG, 3 * SEGMENT):
        assert report(asha, first, env_steps, 0.0) == GO
    assert asha.rungs == before


def test_a_replay_is_in_the_rows_order_and_takes_the_search_only():
    asha = scheduler()
    asha.replay(
        [
            {"trial": "b", "phase": "search", "env_steps": RUNG, "objective": 5.0},
            {"trial": "b", "phase": "search", "env_steps": 3 * SEGMENT, "objective": 6.0},
            {"trial": "v", "phase": "validation", "env_steps": RUNG, "objective": 9.0},
            {"trial": "a", "phase": "search", "env_steps": SEGMENT, "objective": 7.0},
            {"trial": "b", "phase": "search", "env_steps": 3 * RUNG, "objective": 8.0},
        ]
    )
    assert asha.rungs == {RUNG: {"b": 5.0}, 3 * RUNG: {"b": 8.0}}


class Search:
    """Trials that report in a drawn order, as workers do, until they are stopped."""

    def __init__(self, seed, num_trials):
        self.draw = random.Random(seed)
        self.curves = {
            f"trial-{number:03d}": [float(self.draw.randrange(6)) for _ in range(8)]
            for number in range(num_trials)
        }
        self.reported = dict.fromkeys(self.curves, 0)
        self.ended = set()
        self.rows = []

    def step(self, *schedulers_and_trials):
        """One report, to each of the schedulers; returns their decisions."""
        job = self.draw.choice([job for job in self.curves if job not in self.ended])
        self.reported[job] += 1
        segment = self.reported[job]
        area = self.curves[job][segment - 1]
        self.rows.append(row(job, segment, area))
        decisions = [
            report(asha, trials[job], segment * SEGMENT, area)
            for asha, trials in schedulers_and_trials
        ]
        if decisions[0] == STOP:
            self.ended.add(job)
        return decisions

    @property
    def goes_on(self):
        return len(self.ended) < len(self.curves)


def row(job, segment, area):
    return {
        "trial": job,
        "phase": "search",
        "env_steps": segment * SEGMENT,
        "objective": area,
    }


@settings(max_examples=100)
@given(seed=st.integers(0, 10**6), num_trials=st.integers(1, 8), cut=st.integers(0, 60))
def test_a_resumed_scheduler_decides_as_the_uninterrupted_one(seed, num_trials, cut):
    search = Search(seed, num_trials)
    undisturbed = scheduler()
    trials = {job: trial(job) for job in search.curves}
    add(undisturbed, *search.curves)
    while search.goes_on and len(search.rows) < cut:
        search.step((undisturbed, trials))

    resumed = scheduler()
    resumed.replay(search.rows)
    assert resumed.rungs == undisturbed.rungs
    again = {job: trial(job, session=2) for job in search.curves if job not in search.ended}
    add(resumed, *again, session=2)
    for job, tried in again.items():  # from its checkpoint on, it reports once more
        behind = search.draw.randrange(search.reported[job] + 1)
        for segment in range(behind + 1, search.reported[job] + 1):
            assert report(resumed, tried, segment * SEGMENT, search.curves[job][segment - 1]) == GO
    assert resumed.rungs == undisturbed.rungs

    while search.goes_on:
        ours, theirs = search.step((undisturbed, trials), (resumed, again))
        assert ours == theirs
    assert resumed.rungs == undisturbed.rungs


def median_rule():
    return SCHEDULERS["median"](SimpleNamespace(**SETTINGS))


def test_the_median_rule_by_hand():
    """The best so far against the median of the others' means; three others at the least."""
    rule = median_rule()
    a, b, c, d, e = (trial(job) for job in "abcde")
    for good, level in ((a, 100.0), (b, 200.0), (c, 300.0)):
        for segment in (1, 2, 3):
            assert rule.on_trial_result(None, good, at(segment, level)) == GO
    assert rule.on_trial_result(None, d, at(1, 0.0)) == GO, "before the grace period"
    assert rule.on_trial_result(None, d, at(2, 199.0)) == STOP
    assert rule.on_trial_result(None, e, at(2, 200.0)) == GO


def test_the_median_rule_leaves_other_phases_alone():
    rule = median_rule()
    for job in "abc":
        rule.on_trial_result(None, trial(job), at(2, 500.0))
    other = trial("validation-baseline-0", phase="validation")
    assert rule.on_trial_result(None, other, at(2, 0.0)) == GO
    rule.on_trial_complete(None, other, at(8, 0.0))
    assert rule.on_trial_result(None, trial("d"), at(2, 0.0)) == STOP, "nor do they count"


def test_the_median_rule_counts_no_report_twice():
    """Tune tells the last report of a trial again when it ends, and a retry reports again."""
    rule = median_rule()
    for job, level in (("a", 100.0), ("b", 200.0), ("c", 300.0)):
        for segment in (1, 2, 3, 2, 3):
            rule.on_trial_result(None, trial(job), at(segment, level * segment))
        rule.on_trial_complete(None, trial(job), at(3, level * 3))
    assert rule.counted == {"a": 3, "b": 3, "c": 3}


def test_steps_to_the_threshold_are_compared_by_area():
    """At a rung all who are below it have the same: nobody would ever be stopped."""
    settings = SimpleNamespace(**SETTINGS | {"judge": Objective("steps_to_threshold")})
    assert SCHEDULERS["asha"](settings).metric == "area"
    assert SCHEDULERS["median"](settings).metric == "area"


def test_a_resumed_median_rule_decides_as_the_uninterrupted_one():
    draw = random.Random(3)
    levels = {f"trial-{n:03d}": draw.random() for n in range(12)}
    undisturbed, rows, decisions = median_rule(), [], {}
    for job, level in levels.items():
        for segment in range(1, 8):
            rows.append(row(job, segment, level * segment))
            decisions[job] = undisturbed.on_trial_result(None, trial(job), rows[-1])
            if decisions[job] == STOP:
                break
    resumed = median_rule()
    assert resumed.replay(rows) == {job for job, last in decisions.items() if last == STOP}
    assert 0 < sum(last == STOP for last in decisions.values()) < 12
    for level in (0.0, 0.3, 0.6, 1.0):
        new = trial(f"new-{level}", session=2)
        ours, theirs = (r.on_trial_result(None, new, at(2, level)) for r in (undisturbed, resumed))
        assert ours == theirs


class Known(NamedTuple):
    """What Tune's own rule asks of a trial."""

    trial_id: int


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 3), st.integers(0, 9)), max_size=60))
def test_the_median_rule_decides_as_tunes_own(script):
    """Reports of six jobs, some with longer segments; who was stopped reports no more."""
    tunes = MedianStoppingRule(
        *("env_steps", "objective", "max", RUNG), min_time_slice=float("inf")
    )
    ours, steps, stopped = median_rule(), {}, set()
    for number, segments, objective in script:
        if number in stopped:
            continue
        steps[number] = steps.get(number, 0) + segments
        result = at(steps[number], float(objective))
        decision = ours.on_trial_result(None, trial(f"trial-{number}"), result)
        assert decision == tunes.on_trial_result(None, Known(number), result)
        if decision == STOP:
            stopped.add(number)


@pytest.mark.parametrize("name", ["asha", "median", "none"])
def test_trials_run_in_the_order_in_which_they_came(name):
    """One that is tried again stands at the end; ended and running ones are passed over."""
    rule = SCHEDULERS[name](SimpleNamespace(**SETTINGS))
    trials = [waiting(job) for job in ("trial-000", "trial-001", "validation-baseline-0")]
    for tried in trials:
        rule.on_trial_add(None, tried)
    chosen = []
    while (tried := rule.choose_trial_to_run(None)) is not None:
        chosen.append(tried.config["job"])
        tried.status = Trial.RUNNING
        if chosen == ["trial-000"]:
            tried.status = Trial.PENDING
            rule.on_trial_error(None, tried)
            rule.on_trial_add(None, tried)
        elif tried.config["job"] == "trial-001":
            tried.status = Trial.TERMINATED
    assert chosen == ["trial-000", "trial-001", "validation-baseline-0", "trial-000"]


def waiting(job):
    phase = "search" if job.startswith("trial") else "validation"
    tried = trial(job, phase=phase)
    tried.status = Trial.PENDING
    tried.is_finished = lambda: tried.status in (Trial.TERMINATED, Trial.ERROR)
    return tried


def at(segment, objective):
    return {"env_steps": segment * SEGMENT, "objective": objective}
