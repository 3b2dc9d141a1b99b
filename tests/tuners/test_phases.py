"""The order of a sweep's jobs, by scripted outcomes: nothing is trained."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.search_quality import BUDGET, BudgetPlan
from rlcore.rewards import SHAPES
from tests.tuners.small import CONFIG, SEGMENT, SPACE, budget, names, refusal, small_spec, trial_row
from tuners.objectives import Outcome
from tuners.phases import Job, Plan, job_from_row
from tuners.space import sample

STOPPED = Outcome(1000.0, "asha")  # however good it was when it was stopped
FAILED = Outcome(0.0, "error")


@pytest.fixture
def spec(tmp_path):
    return small_spec(tmp_path)


def end_all(plan, outcomes):
    for name, outcome in outcomes.items():
        plan.end(name, outcome)


def search(plan, *outcomes):
    """Runs the search; trial i ends as ``outcomes[i]`` says."""
    jobs = [plan.next_job() for _ in outcomes]
    end_all(plan, {job.name: outcome for job, outcome in zip(jobs, outcomes, strict=True)})
    return jobs


def run(plan, script, *, slots=1, order=None, stop_after=None):
    """Runs a plan in ``slots`` workers; returns the jobs as they were handed out, and who runs.

    ``script`` tells each job's outcome by its name; ``order`` (a generator) draws which of the
    running jobs ends next, else it is the one that began first.
    """
    handed, running = [], []
    while not plan.finished:
        while len(running) < slots:
            job = plan.next_job()
            if job is None:
                break
            handed.append(job)
            running.append(job)
        assert running, "no job runs, none is handed out, and the plan is not finished"
        if stop_after is not None and len(plan.outcomes) == stop_after:
            break
        ended = running.pop(order.randrange(len(running)) if order else 0)
        plan.end(ended.name, script(ended))
    return handed, running


def test_a_search_with_a_budget_in_place_of_a_number_of_trials(spec):
    """Of benchmarks/search_quality.py: more trials than the spec has, as they are stopped early."""
    plan, seen = BudgetPlan(spec), []
    while (job := plan.next_job()) is not None:
        seen.append(job.phase)
        if job.phase == "search":
            plan.spent += BUDGET / 6.5
        plan.end(job.name, budget(100.0 - len(seen)))
    assert seen.count("search") == 7
    assert plan.finished
    assert seen[7:] == ["validation"] * (len(seen) - 8) + ["test"]


def test_a_whole_sweep_in_one_worker(spec):
    objectives = {"trial-000": 500.0, "trial-001": 300.0, "trial-002": 700.0, "trial-003": 600.0}
    objectives |= {"validation-trial-002-0": 650.0, "validation-baseline-0": 520.0}
    handed, _ = run(Plan(spec), lambda job: budget(objectives.get(job.name, 0.0)))
    assert names(handed) == [
        *("trial-000", "trial-001", "trial-002", "trial-003"),
        *("validation-trial-002-0", "validation-baseline-0"),
        *("test-trial-002-0", "test-task_score-0", "test-baseline-0"),
    ]


def test_trial_0_is_the_baseline(spec):
    plan = Plan(spec)
    first, second = plan.next_job(), plan.next_job()
    assert (first.name, first.phase, first.row) == ("trial-000", "search", "baseline")
    assert first.config == spec.base
    assert first.seeds == (0, 1)
    assert (second.row, second.phase) == ("trial-001", "search")
    assert second.config == spec.base.with_values(sample(SPACE, spec.seed, 1))
    assert second.config != spec.base


def test_a_configuration_stays_the_same_through_the_phases(spec):
    handed, _ = run(Plan(spec), lambda job: budget(float(job.row != "baseline")))
    by_row = {}
    for job in handed:
        by_row.setdefault(job.row, set()).add(json.dumps(job.config.to_dict(), sort_keys=True))
    assert all(len(configs) == 1 for configs in by_row.values())
    score = next(job for job in handed if job.row == "task_score")
    assert score.config.reward == SHAPES["swingup"]["task_score"]
    assert score.config.ppo == spec.base.ppo


def test_each_phase_has_its_seeds_in_batches(tmp_path):
    spec = small_spec(tmp_path, validation_seeds=4, test_seeds=6)
    handed, _ = run(Plan(spec), lambda job: budget(1.0))
    seeds = {job.name: job.seeds for job in handed}
    assert seeds["validation-baseline-0"] == (10_000, 10_001)
    assert seeds["validation-baseline-1"] == (10_002, 10_003)
    assert seeds["validation-trial-001-1"] == (10_002, 10_003)
    assert [seeds[f"test-baseline-{batch}"] for batch in range(3)] == [
        *((20_000, 20_001), (20_002, 20_003), (20_004, 20_005))
    ]


def test_finalists_are_the_best_of_those_nobody_stopped(tmp_path):
    plan = Plan(small_spec(tmp_path, num_trials=6, num_finalists=2))
    assert plan.finalists is None
    ends = [budget(900.0), budget(300.0), STOPPED, budget(500.0), FAILED, budget(400.0)]
    search(plan, *ends)
    assert plan.finalists == ["trial-003", "trial-005"]


@pytest.mark.parametrize("reason", ["asha", "diverged", "error"])
def test_who_was_stopped_is_no_finalist(spec, reason):
    plan = Plan(spec)
    search(plan, budget(1.0), *[Outcome(900.0, reason)] * 3)
    assert plan.finalists == []


def test_trials_left_out_by_an_earlier_run_are_handed_out(spec):
    """Those that it began need not be the first ones."""
    before = Plan(spec)
    jobs = [before.next_job() for _ in range(4)]
    plan = Plan(spec)
    plan.restore([(jobs[0], budget(1.0)), (jobs[3], budget(2.0))], [jobs[2]])
    assert names([plan.next_job() for _ in range(2)]) == ["trial-002", "trial-001"]
    assert plan.finalists is None
    end_all(plan, {"trial-001": budget(4.0), "trial-002": budget(3.0)})
    assert plan.finalists == ["trial-001"]


def test_of_equally_good_finalists_those_with_the_higher_score_are_taken(tmp_path):
    plan = Plan(small_spec(tmp_path, num_finalists=2, objective="steps_to_threshold"))
    scores = (0.0, 300.0, 500.0, 400.0)
    search(plan, *[Outcome(-1.0, "budget", final_score=score) for score in scores])
    assert plan.finalists == ["trial-002", "trial-003"]


def test_equally_good_finalists_are_taken_by_number(tmp_path):
    plan = Plan(small_spec(tmp_path, num_finalists=2))
    jobs = [plan.next_job() for _ in range(4)]
    for job in reversed(jobs):
        plan.end(job.name, budget(500.0))
    assert plan.finalists == ["trial-001", "trial-002"]


def test_the_baseline_is_validated_in_any_case(spec):
    plan = Plan(spec)
    search(plan, STOPPED, budget(5.0), budget(4.0), budget(3.0))
    assert names([plan.next_job(), plan.next_job()]) == [
        *("validation-trial-001-0", "validation-baseline-0")
    ]


def test_the_winner_is_the_best_by_validation_not_by_search(tmp_path):
    plan = Plan(small_spec(tmp_path, num_finalists=2))
    search(plan, budget(100.0), budget(900.0), budget(800.0), budget(50.0))
    assert plan.winner is None
    ends = {"trial-001": 400.0, "trial-002": 600.0, "baseline": 500.0}
    for row, objective in ends.items():
        assert plan.validation is None
        plan.next_job()
        plan.end(f"validation-{row}-0", budget(objective))
    assert list(plan.validation.items()) == [
        *(("trial-002", 600.0), ("baseline", 500.0), ("trial-001", 400.0))
    ]
    assert plan.winner == "trial-002"
    assert plan.next_job().name == "test-trial-002-0"


def test_finalists_and_winner_are_chosen_by_the_objective(spec):
    plan = Plan(spec)
    ends = [Outcome(*end) for end in ((1.0, "budget", 0, 9.0), (3.0, "budget", 0, 1.0))]
    search(plan, budget(1.0), *ends, STOPPED)
    assert plan.finalists == ["trial-002"], "a little worse at the end, and much sooner"
    for name, end in (("trial-002", (700.0, 500.0)), ("baseline", (200.0, 900.0))):
        plan.next_job()
        plan.end(f"validation-{name}-0", Outcome(end[0], "budget", 0, end[1]))
    assert plan.validation == {"trial-002": 700.0, "baseline": 200.0}
    assert plan.winner == "trial-002"


def test_with_two_objectives_finalists_are_those_that_none_beats_in_both(tmp_path):
    plan = Plan(small_spec(tmp_path, objective="pareto", num_finalists=2))
    ends = ((300.0, 900.0, 0.5), (500.0, 800.0, 0.1), (400.0, 700.0, 0.2))
    outcomes = [
        Outcome(area, "budget", final_score=final, steps_to_threshold=steps)
        for area, final, steps in ends
    ]
    search(plan, budget(1.0), *outcomes)
    assert plan.finalists == ["trial-002", "trial-001"], "trial-003 is behind in both"


def test_a_job_that_failed_is_worth_as_much_as_one_that_learned_nothing(tmp_path):
    plan = Plan(small_spec(tmp_path, objective="steps_to_threshold"))
    job = plan.next_job()
    assert plan.floor(job.name) == pytest.approx(-9 * SEGMENT / 1e6)


def test_seeds_far_apart_are_no_worse_in_validation_than_a_failure(tmp_path):
    plan = Plan(small_spec(tmp_path, spread_penalty=5.0))
    search(plan, budget(100.0), budget(900.0), budget(800.0), budget(50.0))
    plan.end(plan.next_job().name, Outcome(450.0, "budget", seed_objectives=(900.0, 0.0)))
    plan.end(plan.next_job().name, FAILED)
    assert plan.validation == {"baseline": 0.0, "trial-001": 0.0}


def test_validation_is_the_mean_over_batches(tmp_path):
    plan = Plan(small_spec(tmp_path, validation_seeds=4))
    search(plan, budget(100.0), budget(900.0), budget(800.0), budget(50.0))
    jobs = [plan.next_job() for _ in range(4)]
    assert names(jobs)[:2] == ["validation-trial-001-0", "validation-trial-001-1"]
    for job, objective in zip(jobs, (700.0, 300.0, 450.0, 500.0), strict=True):
        plan.end(job.name, budget(objective))
    assert plan.validation == {"trial-001": 500.0, "baseline": 475.0}


def test_a_finalist_that_fails_loses_and_the_sweep_goes_on(spec):
    plan = Plan(spec)
    search(plan, budget(100.0), budget(900.0), budget(800.0), budget(50.0))
    end_all(plan, {plan.next_job().name: FAILED, plan.next_job().name: budget(5.0)})
    assert plan.winner == "baseline"
    handed, _ = run(plan, lambda job: budget(1.0))
    assert names(handed) == ["test-baseline-0", "test-task_score-0"]


def test_a_baseline_that_wins_is_tested_once(spec):
    handed, _ = run(Plan(spec), lambda job: budget(float(job.row == "baseline")))
    assert names(handed)[4:] == [
        *("validation-trial-001-0", "validation-baseline-0"),
        *("test-baseline-0", "test-task_score-0"),
    ]


@pytest.mark.parametrize("reason", ["asha", "error"])
def test_a_search_in_which_nobody_reached_the_end_is_won_by_the_baseline(spec, reason):
    plan = Plan(spec)
    handed, _ = run(
        plan, lambda job: Outcome(9.0, reason) if job.phase == "search" else budget(1.0)
    )
    assert plan.winner == "baseline"
    assert names(handed)[4:] == [*("validation-baseline-0", "test-baseline-0", "test-task_score-0")]


@pytest.mark.parametrize("batches", [((900.0, 0.0), (900.0, 0.0)), ((900.0, 900.0), (0.0, 0.0))])
def test_a_penalty_in_validation_is_for_the_spread_over_all_seeds(tmp_path, batches):
    """However they are dealt to batches; of a batch that failed each seed counts as nothing."""
    plan = Plan(small_spec(tmp_path, validation_seeds=4, spread_penalty=0.5))
    search(plan, budget(100.0), budget(900.0), budget(800.0), budget(50.0))
    for number, values in enumerate(batches):
        job = plan.next_job()
        assert job.name == f"validation-trial-001-{number}"
        plan.end(job.name, Outcome(0.0, "budget", seed_objectives=values))
    for reason in ("budget", "error"):
        values = (800.0, 800.0) if reason == "budget" else ()
        plan.end(plan.next_job().name, Outcome(0.0, reason, seed_objectives=values))
    expected = {"baseline": 400.0 - 0.5 * 461.88, "trial-001": 450.0 - 0.5 * 519.615}
    assert plan.validation == pytest.approx(expected, abs=0.01)


def test_a_tie_in_validation_goes_to_the_baseline(spec):
    plan = Plan(spec)
    run(plan, lambda job: budget(500.0))
    assert plan.winner == "baseline"


def test_gaps_are_filled_with_jobs_that_depend_on_nothing(spec):
    """While the last trial of the search runs, the other workers need not wait."""
    plan = Plan(spec)
    handed = [plan.next_job() for _ in range(7)]
    assert names(handed)[4:] == [*("test-task_score-0", "test-baseline-0", "validation-baseline-0")]
    assert plan.next_job() is None
    assert not plan.finished


def test_a_filler_never_goes_before_what_is_more_urgent(tmp_path):
    plan = Plan(small_spec(tmp_path, num_finalists=2))
    search(plan, *(budget(float(i)) for i in (4, 3, 2, 1)))
    assert names([plan.next_job() for _ in range(3)]) == [
        *("validation-trial-001-0", "validation-trial-002-0", "validation-baseline-0")
    ]
    assert plan.next_job().name == "test-task_score-0"
    for row, objective in (("trial-001", 9.0), ("trial-002", 1.0), ("baseline", 2.0)):
        plan.end(f"validation-{row}-0", budget(objective))
    assert plan.next_job().name == "test-trial-001-0"


def test_none_is_handed_out_while_all_that_is_left_depends_on_a_running_job(spec):
    plan = Plan(spec)
    handed = [plan.next_job() for _ in range(7)]
    assert plan.next_job() is None
    for job in handed[:4]:
        plan.end(job.name, budget(float(job.row == "trial-001")))
    assert plan.next_job().name == "validation-trial-001-0"
    assert plan.next_job() is None
    plan.end("validation-trial-001-0", budget(9.0))
    assert plan.next_job() is None
    plan.end("validation-baseline-0", budget(1.0))
    assert plan.next_job().name == "test-trial-001-0"
    end_all(plan, {"test-trial-001-0": budget(1.0), "test-task_score-0": budget(1.0)})
    assert not plan.finished
    plan.end("test-baseline-0", budget(1.0))
    assert plan.finished
    assert plan.next_job() is None


def test_a_search_of_the_baseline_alone(tmp_path):
    handed, _ = run(Plan(small_spec(tmp_path, num_trials=1)), lambda job: budget(1.0))
    assert names(handed) == [
        *("trial-000", "validation-baseline-0", "test-baseline-0", "test-task_score-0")
    ]


def test_the_bound_on_environment_steps(tmp_path):
    plan = Plan(small_spec(tmp_path))
    assert plan.expected_env_steps() == (4 * 2 + 2 * 2 + 3 * 2) * 8192
    handed, _ = run(plan, lambda job: budget(float(job.row == "trial-002")))
    assert sum(len(job.seeds) for job in handed) * 8192 == plan.expected_env_steps()


def test_a_job_comes_back_from_its_row():
    row = trial_row("validation-trial-001-0", "validation", "trial-001", seeds=[5, 6])
    job = job_from_row(row)
    assert job == Job("validation-trial-001-0", "validation", "trial-001", (5, 6), CONFIG)


def test_a_row_whose_config_is_damaged_is_no_job():
    row = trial_row("trial-001", config='{"task": "swing')
    assert "a config in the trials table is damaged" in refusal(job_from_row, row)


def test_what_was_unfinished_is_handed_out_first(spec):
    plan = Plan(spec)
    jobs = [plan.next_job() for _ in range(3)]
    resumed = Plan(spec)
    resumed.restore([(jobs[1], budget(9.0))], [jobs[0], jobs[2]])
    assert not resumed.finished
    assert names([resumed.next_job() for _ in range(3)]) == ["trial-000", "trial-002", "trial-003"]


specs = st.fixed_dictionaries(
    {
        "num_trials": st.integers(1, 6),
        "num_finalists": st.integers(1, 3),
        "validation_seeds": st.sampled_from([2, 4]),
        "test_seeds": st.sampled_from([2, 4]),
    }
)
slots = st.integers(1, 4)


def scripted(seed):
    """Outcomes that depend on the job alone, with ties and failures among them."""

    def outcome(job):
        draw = random.Random(f"{seed} {job.name}")
        reasons = ["budget", "budget", "asha" if job.phase == "search" else "budget"]
        reason = draw.choice([*reasons, "diverged", "error"])
        return Outcome(0.0 if reason in ("diverged", "error") else draw.choice([1.0, 2.0]), reason)

    return outcome


@given(changes=specs, slots=slots, seed=st.integers(0, 10**6))
def test_each_job_is_handed_out_once_whatever_ends_when(tmp_path_factory, changes, slots, seed):
    spec = small_spec(tmp_path_factory.getbasetemp(), **changes)
    script, order = scripted(seed), random.Random(seed)
    plan = Plan(spec)
    handed, running = run(plan, script, slots=slots, order=order)
    assert running == []
    assert len(set(names(handed))) == len(handed)
    alone = Plan(spec)
    in_order, _ = run(alone, script)
    assert {job.name: job for job in handed} == {job.name: job for job in in_order}
    assert plan.winner == alone.winner
    assert plan.validation == alone.validation
    total = sum(len(job.seeds) for job in handed) * spec.base.full_length
    assert total <= plan.expected_env_steps()


@given(changes=specs, slots=slots, seed=st.integers(0, 10**6), cut=st.integers(0, 12))
def test_a_plan_goes_on_from_any_point_as_if_undisturbed(
    tmp_path_factory, changes, slots, seed, cut
):
    spec = small_spec(tmp_path_factory.getbasetemp(), **changes)
    script = scripted(seed)
    undisturbed = Plan(spec)
    expected, _ = run(undisturbed, script)

    interrupted = Plan(spec)
    before, running = run(
        interrupted, script, slots=slots, order=random.Random(seed), stop_after=cut
    )
    resumed = Plan(spec)
    ended = [(job, interrupted.outcomes[job.name]) for job in before if job not in running]
    resumed.restore(ended, running)
    after, _ = run(resumed, script, slots=slots, order=random.Random(seed + 1))

    assert after[: len(running)] == running
    assert {job.name for job, _ in ended}.isdisjoint(names(after))
    jobs = {job.name: job for job, _ in ended} | {job.name: job for job in after}
    assert jobs == {job.name: job for job in expected}
    assert resumed.winner == undisturbed.winner
    assert resumed.validation == undisturbed.validation


@given(seed=st.integers(0, 10**6), cut=st.integers(0, 9))
def test_in_one_worker_the_remaining_order_is_the_same(tmp_path_factory, seed, cut):
    spec = small_spec(tmp_path_factory.getbasetemp())
    expected, _ = run(Plan(spec), scripted(seed))
    interrupted = Plan(spec)
    before, running = run(interrupted, scripted(seed), stop_after=cut)
    resumed = Plan(spec)
    ended = [(job, interrupted.outcomes[job.name]) for job in before if job not in running]
    resumed.restore(ended, running)
    after, _ = run(resumed, scripted(seed))
    assert names([job for job, _ in ended] + after) == names(expected)
