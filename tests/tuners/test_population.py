"""Population based training by scripted outcomes, and schedules as configs."""

import math
import random
from types import SimpleNamespace

import numpy as np
import pytest

from tests.tuners.small import (
    CONFIG,
    SEGMENT,
    budget,
    names,
    refusal,
    segment_row,
    small_spec,
    trial_row,
)
from tuners.config import TrialConfig, value_of
from tuners.job_names import member_name, split_member
from tuners.objectives import Outcome
from tuners.phases import job_from_row
from tuners.population import PopulationPlan
from tuners.report.sweep_record import load_record
from tuners.results import ResultsWriter, config_json
from tuners.space import Choice, LogUniform, OneMinusLogUniform, Uniform
from tuners.spec import prepare
from tuners.trial import Trial

SPACE = {
    "learning_rate": LogUniform(1e-4, 1e-2),
    "reward.peak.weight": Uniform(0.0, 2.0),
    "num_minibatches": Choice((2, 4)),
    "init_log_std": Uniform(-1.0, 0.3),  # acts once, at the beginning
}
INTERVAL = 2 * SEGMENT


def spec_of(folder, **overrides):
    """Eight members, four generations of two segments."""
    entries = {"scheduler": "pbt", "num_trials": 8, "space": SPACE, "grace_period": INTERVAL}
    return small_spec(folder, **entries | overrides)


@pytest.fixture
def plan(tmp_path):
    return PopulationPlan(spec_of(tmp_path))


def train_generation(plan, objectives=range(8)):
    """Ends the jobs of the next generation; member i with the i-th objective."""
    jobs = [plan.next_job() for _ in range(8)]
    for job, objective in zip(jobs, objectives, strict=True):
        plan.end(job.name, budget(float(objective)))
    return jobs


def values_of(config):
    return {name: value_of(config, name) for name in SPACE}


def test_a_generation_begins_when_the_one_before_has_ended(plan):
    first = [plan.next_job() for _ in range(8)]
    assert names(first) == [f"trial-00{number}-g0" for number in range(8)]
    assert {(job.until, job.parent, job.phase) for job in first} == {(INTERVAL, None, "search")}
    following = plan.next_job()
    assert following.phase == "test", "what depends on nothing fills the gap"
    for job in first:
        plan.end(job.name, budget(1.0))
    assert plan.next_job().name == "trial-000-g1"


def test_the_first_generation_is_the_baseline_and_random_draws(plan):
    configs = [job.config for job in train_generation(plan)]
    assert values_of(configs[0]) == values_of(CONFIG)
    assert len({str(values_of(config)) for config in configs}) == 8
    assert all(config.schedule == () for config in configs)


def test_the_worst_quarter_goes_on_from_the_best(plan):
    train_generation(plan)
    second = train_generation(plan)
    for job in second[2:]:
        assert job.parent == job.name.replace("-g1", "-g0"), "on from its own checkpoint"
        assert job.config.schedule == ()
    for job in second[:2]:
        assert job.parent in ("trial-006-g0", "trial-007-g0")
        donor = plan.jobs[job.parent].config
        assert values_of(job.config.at(0)) == values_of(donor), "its history is the donor's"
        ((begins, moved),) = job.config.schedule
        assert begins == INTERVAL
        assert set(moved) == {"learning_rate", "reward.peak.weight"}, (
            "nothing moves that cannot act any more"
        )
        now = job.config.at(INTERVAL)
        assert values_of(now) == values_of(donor) | moved
        assert now.hyperparameters["learning_rate"] != donor.hyperparameters["learning_rate"]
    assert {job.until for job in second} == {2 * INTERVAL}


def test_members_that_are_equally_good_are_ranked_by_their_final_scores(plan):
    """Below the threshold all have the same steps to it: their numbers say nothing."""
    jobs = [plan.next_job() for _ in range(8)]
    for number, job in enumerate(jobs):
        plan.end(job.name, Outcome(-0.5, "budget", final_score=100.0 * number))
    parents = {job.name: job.parent for job in (plan.next_job() for _ in range(8))}
    assert {parents["trial-000-g1"], parents["trial-001-g1"]} <= {"trial-006-g0", "trial-007-g0"}
    assert parents["trial-006-g1"] == "trial-006-g0"


def test_a_member_that_failed_takes_over_from_a_good_one(plan):
    jobs = [plan.next_job() for _ in range(8)]
    for number, job in enumerate(jobs):
        reason = {7: "diverged", 6: "error"}.get(number, "budget")
        plan.end(job.name, Outcome(float(number), reason))
    parents = {job.name: job.parent for job in (plan.next_job() for _ in range(8))}
    assert {parents["trial-006-g1"], parents["trial-007-g1"]} <= {"trial-004-g0", "trial-005-g0"}
    for number in range(6):
        assert parents[f"trial-00{number}-g1"] == f"trial-00{number}-g0", "two gave way already"


def test_each_sweep_and_each_generation_moves_in_its_own_way(tmp_path):
    def moved(seed):
        plan = PopulationPlan(spec_of(tmp_path, seed=seed))
        # The same values in all: what differs is what they are moved by.
        plan._searcher = SimpleNamespace(suggest=lambda number: values_of(CONFIG))
        train_generation(plan)
        return [[job.config.schedule[-1][1] for job in train_generation(plan)[:2]] for _ in "ab"]

    one, other = moved(0), moved(1)
    assert one != other
    assert one[0] != one[1]


def test_a_population_that_failed_as_a_whole_is_won_by_the_baseline(plan):
    while (job := plan.next_job()) is not None:
        failed = job.phase == "search"
        plan.end(job.name, Outcome(0.0, "error") if failed else budget(1.0))
    assert plan.finished
    assert plan.winner == "baseline"


def test_finalists_train_their_schedule_again_from_the_beginning(plan):
    draw = random.Random(0)
    for _ in range(4):
        last = train_generation(plan, [draw.random() for _ in range(8)])
    assert len(last[0].config.schedule) <= 3
    best = max(last, key=lambda job: plan.outcomes[job.name].objective)
    assert plan.finalists == [best.row]
    validated = plan.next_job()
    assert (validated.phase, validated.row) == ("validation", best.row)
    assert validated.config == best.config
    assert (validated.parent, validated.until) == (None, None)
    assert plan.searched(best.row) == plan.outcomes[best.name]
    alone = not plan.config_of("trial-000").schedule
    assert (plan.searched("baseline") == plan.outcomes["trial-000-g3"]) == alone


def test_a_baseline_that_took_nothing_over_is_no_finalist(plan):
    for _ in range(4):
        train_generation(plan, [9, *range(7)])
    assert plan.finalists == ["trial-007"]


@pytest.mark.parametrize(("first", "is_known"), [(9.0, True), (-1.0, False)])
def test_the_baseline_is_searched_as_long_as_the_first_member_keeps_to_it(plan, first, is_known):
    for _ in range(4):
        train_generation(plan, [first, *range(7)])
    assert math.isfinite(plan.searched("baseline").objective) == is_known


def test_a_takeover_that_moves_no_value_is_one(tmp_path, monkeypatch):
    """The first member goes on from another's checkpoint: it is the baseline no more."""
    monkeypatch.setattr("tuners.population.REDRAWN", 0.0)
    plan = PopulationPlan(spec_of(tmp_path, space={"reward.peak.on": Choice((True, False))}))
    for _ in range(4):
        train_generation(plan, [-1.0, *range(7)])
    assert plan.config_of("trial-000").schedule == ()
    assert math.isnan(plan.searched("baseline").objective)
    assert "trial-000" in plan._ranked()


def test_the_last_generation_ends_with_the_budget(tmp_path):
    plan = PopulationPlan(spec_of(tmp_path, budget=7 * SEGMENT))
    ends = [train_generation(plan)[0].until for _ in range(4)]
    assert ends == [2 * SEGMENT, 4 * SEGMENT, 6 * SEGMENT, 7 * SEGMENT]
    assert plan.finalists is not None


@pytest.mark.parametrize("cut", [3, 8, 13, 27])
def test_a_resumed_population_draws_the_same(tmp_path, cut):
    """Killed after ``cut`` jobs: all that is drawn follows from the tables."""
    objectives = [random.Random(5).sample(range(100), 8) for _ in range(4)]
    whole = PopulationPlan(spec_of(tmp_path))
    for generation in objectives:
        train_generation(whole, generation)
    jobs = list(whole.jobs.values())
    rows = [
        trial_row(
            *(job.name, job.phase, job.row),
            seeds=list(job.seeds),
            parent=job.parent,
            until=job.until,
            config=config_json(job.config.to_dict()),
        )
        for job in jobs[:cut]
    ]
    resumed = PopulationPlan(spec_of(tmp_path))
    ended = [job_from_row(row) for row in rows]
    resumed.restore([(job, whole.outcomes[job.name]) for job in ended], [])
    for expected in jobs[cut:]:
        job = resumed.next_job()
        assert job == expected
        resumed.end(job.name, whole.outcomes[job.name])
    assert resumed.finalists == whole.finalists


def test_a_report_shows_members_from_beginning_to_end(tmp_path):
    """Whatever checkpoints they went on from."""
    spec = spec_of(tmp_path, num_trials=4)
    prepare(spec, resume=False)
    plan, writer = PopulationPlan(spec), ResultsWriter(spec.folder, "swingup")
    draw = random.Random(2)
    while (job := plan.next_job()) is not None and job.phase == "search":
        first = plan.jobs[job.parent].end // SEGMENT if job.parent else 0
        for segment in range(first + 1, job.end // SEGMENT + 1):
            writer.add_segment(segment_row(job.name, segment))
        ended = {"status": "finished", "stop_reason": "budget", "objective": draw.random()}
        entries = {"parent": job.parent, "until": job.until, "seeds": list(job.seeds)}
        config = config_json(job.config.to_dict())
        row = trial_row(job.name, "search", job.row, config=config, **entries)
        writer.put_trial(row | ended | {"final_score": 1.0, "steps_to_threshold": 1.0})
        plan.end(job.name, budget(ended["objective"]))
    writer.flush()
    record = load_record(spec.folder)
    assert [trial["trial"] for trial in record.search] == [f"trial-00{n}" for n in range(4)]
    for trial in record.search:
        steps = [row["env_steps"] for row in record.segments[trial["trial"]]]
        assert steps == [segment * SEGMENT for segment in range(1, 9)]
        full = plan.config_of(trial["row"])
        assert record.config(trial) == full.at(8 * SEGMENT), "what held in the end"
        assert record.config_of_row(trial["row"]) == full
    assert any(plan.config_of(trial["row"]).schedule for trial in record.search)


def test_the_tenth_generation_comes_after_the_ninth(tmp_path):
    spec = spec_of(tmp_path, num_trials=2)
    prepare(spec, resume=False)
    writer, parent = ResultsWriter(spec.folder, "swingup"), None
    for generation in range(12):
        name = f"trial-001-g{generation}"
        writer.put_trial(trial_row(name, row="trial-001", parent=parent, objective=generation))
        writer.add_segment(segment_row(name, generation + 1))
        parent = name
    writer.flush()
    record = load_record(spec.folder)
    assert [trial["objective"] for trial in record.search] == [11.0]
    assert [row["segment"] for row in record.segments["trial-001"]] == list(range(1, 13))


def test_progress_counts_what_each_job_trains_itself(plan):
    train_generation(plan)
    train_generation(plan)
    assert plan.begins_at("trial-003-g0") == 0
    assert plan.begins_at("trial-003-g1") == INTERVAL
    assert plan.num_search_jobs == 32


def test_pbt_draws_by_itself(tmp_path):
    line = refusal(spec_of, tmp_path, searcher="tpe")
    assert line.startswith("searcher is 'tpe', but scheduler pbt")


def test_names_of_members():
    assert split_member(member_name("trial-012", 3)) == ("trial-012", 3)


@pytest.mark.parametrize(
    "domain", [Uniform(-1.0, 1.0), LogUniform(1e-4, 1e-2), OneMinusLogUniform(0.9, 0.999)]
)
def test_a_move_stays_near_and_inside(domain):
    generator = np.random.default_rng(0)
    middle = domain.at(0.5)
    moved = [domain.moved(middle, 0.2, 0.0, generator) for _ in range(500)]
    assert all(domain.contains(value) for value in moved)
    steps = np.array([domain.fraction(value) for value in moved]) - 0.5
    # Normal with a deviation of 0.2, cut off at 0.5: 0.196; five standard errors.
    assert abs(np.std(steps) - 0.196) < 0.03
    assert domain.contains(domain.moved(domain.high * 5.0, 0.2, 0.0, generator)), "from outside too"


def test_a_choice_is_drawn_anew_now_and_then():
    generator = np.random.default_rng(0)
    domain = Choice(("a", "b"))
    moved = [domain.moved("a", 0.2, 0.5, generator) for _ in range(400)]
    assert 0.15 < moved.count("b") / 400 < 0.35  # 0.25 expected, five standard errors


SCHEDULE = ((2 * SEGMENT, {"learning_rate": 0.005}), (4 * SEGMENT, {"reward.peak.weight": 0.1}))


def with_schedule(schedule):
    return TrialConfig.from_dict(CONFIG.to_dict() | {"schedule": schedule})


def test_a_schedule_is_part_of_a_config():
    config = with_schedule(SCHEDULE)
    assert TrialConfig.from_dict(config.to_dict()) == config
    assert "schedule" not in CONFIG.to_dict()
    assert config.at(0) == config.at(2 * SEGMENT - 1) == CONFIG
    assert config.at(2 * SEGMENT) == CONFIG.with_values({"learning_rate": 0.005})
    both = {"learning_rate": 0.005, "reward.peak.weight": 0.1}
    assert config.at(9 * SEGMENT) == CONFIG.with_values(both)


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        ([[SEGMENT + 1, {}]], f"must rise in whole segments of {SEGMENT}"),
        ([[0, {}]], "after 0, but must rise"),
        ([[2 * SEGMENT, {}], [SEGMENT, {}]], f"{SEGMENT} env_steps after {2 * SEGMENT}"),
        ([["soon", {}]], "schedule has soon env_steps"),
        ([[SEGMENT, {"num_envs": 8}]], "num_envs, which cannot change during training"),
        ([[SEGMENT, {"gamma": 2.0}]], "gamma is 2, but must be at least 0 and at most 1"),
        ([[SEGMENT, {"colour": 2.0}]], "unknown parameter 'colour'"),
        ([[SEGMENT]], "must list pairs of env_steps and values"),
        (7, "schedule has 7, but must list pairs"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(schedule, said):
    assert said in refusal(with_schedule, schedule)


def test_a_trial_follows_its_schedule_with_one_program(tmp_path):
    trial = Trial(with_schedule(SCHEDULE), [0, 1])
    rates, programs = [], set()
    for segment in range(1, 7):
        row = trial.advance()
        programs.add(row["programs"])
        rates.append(row["learning_rate"] / (1.0 - (2 * segment - 1) / 16))
        if segment == 3:
            trial.save(tmp_path)
    np.testing.assert_allclose(rates, [0.002, 0.002, *[0.005] * 4], rtol=1e-5)
    assert len(programs) == 1, "nothing was compiled anew"
    assert float(trial.parameters.reward.weights["peak"][()]) == pytest.approx(0.1)
    resumed = Trial(with_schedule(SCHEDULE), [0, 1])
    resumed.load(tmp_path)
    for _ in range(3):
        row = resumed.advance()
    assert row["seed_scores"] == trial.last_row["seed_scores"], "to the last bit"


def test_a_trial_ends_where_it_is_told_to():
    trial = Trial(CONFIG, [0, 1], until=2 * SEGMENT)
    assert [trial.advance()["done"] for _ in range(2)] == [False, True]
