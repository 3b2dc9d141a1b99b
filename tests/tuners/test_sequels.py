"""Sweeps that go on: by tables written by hand."""

import json
from dataclasses import replace

import pytest

from tests.tuners.small import SEGMENT, SPACE, budget, names, refusal, small_spec, trial_row
from tuners.layout import COMPARISON_FILE
from tuners.phases import Plan
from tuners.results import ResultsWriter, config_json
from tuners.sequels import (
    _inside,
    begin_with,
    best_configs,
    extend,
    not_taken,
    seeds_spent,
)
from tuners.space import Choice, LogUniform, Uniform
from tuners.spec import load_spec, prepare
from tuners.tracking import origin


@pytest.fixture
def finished(tmp_path):
    """Four trials; the third won, and the second was validated too."""
    spec = small_spec(tmp_path, num_finalists=2)
    prepare(spec, resume=False)
    plan, writer = Plan(spec), ResultsWriter(spec.folder, "swingup")
    ends = {"trial-001": 300.0, "trial-002": 500.0, "trial-003": 200.0}
    while (job := plan.next_job()) is not None:
        objective = ends.get(job.row, 100.0)
        row = trial_row(job.name, job.phase, job.row, config=config_json(job.config.to_dict()))
        writer.put_trial(
            row | {"stop_reason": "budget", "status": "finished", "objective": objective}
        )
        plan.end(job.name, budget(objective))
    writer.flush()
    conclude(spec, plan.validation)
    return spec, plan


def conclude(spec, validation):
    entries = {"num_trials": spec.num_trials, "validation": validation}
    (spec.folder / COMPARISON_FILE).write_text(json.dumps(entries))


def values_of(plan, row):
    return dict(plan.config_of(row).hyperparameters)


def test_an_extended_sweep_has_more_trials_and_remembers_how_many(finished):
    spec, _ = finished
    identity = (spec.folder / "sweep.yaml").read_text().splitlines()[0]
    extended = extend(spec, 3)
    assert (extended.num_trials, extended.extensions) == (7, (3,))
    assert load_spec(spec.folder) == extended
    written = (spec.folder / "sweep.yaml").read_text().splitlines()[0]
    assert written == identity, "MLflow's runs are found again by it"


def test_an_extension_searches_on_and_chooses_from_all(finished):
    spec, before = finished
    plan = Plan(extend(spec, 2))
    plan.restore([(job, before.outcomes[name]) for name, job in before.jobs.items()], [])
    assert not plan.finished
    added = [plan.next_job(), plan.next_job()]
    assert names(added) == ["trial-004", "trial-005"]
    plan.end("trial-004", budget(900.0))
    plan.end("trial-005", budget(1.0))
    assert plan.finalists == ["trial-004", "trial-002"]
    assert plan.next_job().name == "validation-trial-004-0", "the others were validated before"


def test_a_sweep_can_be_extended_again_once_it_is_finished(finished):
    spec, plan = finished
    extended = extend(spec, 1)
    assert "is not finished; first: --resume sweep" in refusal(extend, extended, 1)
    conclude(extended, plan.validation)
    assert extend(extended, 2).extensions == (1, 2)


@pytest.mark.parametrize("count", [None, 0, -3])
def test_an_extension_says_by_how_many(finished, count):
    assert "--extend needs --num-trials" in refusal(extend, finished[0], count)


def test_a_sweep_that_never_ended_is_not_extended(tmp_path):
    spec = small_spec(tmp_path)
    prepare(spec, resume=False)
    assert "first: --resume sweep" in refusal(extend, spec, 1)


def test_a_warm_start_begins_with_the_best_of_another_sweep(finished, tmp_path):
    other, plan = finished
    spec = begin_with(small_spec(tmp_path, name="next", seed=1), other)
    expected = [values_of(plan, "trial-002"), values_of(plan, "trial-001")]
    assert [dict(values) for values in spec.first_values] == expected
    assert spec.warm_start == "sweep"
    fresh = Plan(spec)
    first, second, third = (values_of(fresh, f"trial-00{n}") for n in (1, 2, 3))
    assert [first, second] == expected
    assert third == values_of(Plan(small_spec(tmp_path, seed=1)), "trial-003"), "drawn as ever"
    prepare(spec, resume=False)
    assert load_spec(spec.folder) == spec


def test_a_warm_start_begins_as_near_as_its_space_comes(finished, tmp_path):
    other, plan = finished
    wider = {"gamma": Choice((0.98, 0.99)), "reward.peak.weight": Uniform(0.0, 1.0), **SPACE}
    wider["hidden_sizes"] = Choice(((8,), (9,)))
    spec = begin_with(small_spec(tmp_path, name="next", seed=1, space=wider), other)
    best = values_of(plan, "trial-002") | {"gamma": 0.99, "reward.peak.weight": 1.0}
    assert dict(spec.first_values[0]) == best, "the other's peak weighs 1.5"
    assert not_taken(spec, other) == [
        "outside this space, begun at its edge: reward.peak.weight",
        "not among its choices, drawn anew: hidden_sizes",
    ]
    nothing = small_spec(tmp_path, name="next", seed=1, space={"gamma": Choice((0.5, 0.6))})
    assert "no trial that lies in this search space" in refusal(begin_with, nothing, other)


def test_a_term_that_the_best_had_not_begins_switched_off(finished, tmp_path):
    """Its weight of 0 lies in no logarithmic space: a random one would make another reward."""
    other, _ = finished
    space = {
        "reward.calm.on": Choice((True, False)),
        "reward.calm.weight": LogUniform(0.01, 1.0),
        "reward.calm.margin": Uniform(1.0, 9.0),
        "reward.cos.on": Choice((True, False)),
    }
    spec = begin_with(small_spec(tmp_path, name="next", seed=1, space=space), other)
    assert spec.first_values[0]["reward.calm.on"] is False
    assert spec.first_values[0]["reward.cos.on"] is True, "the baseline has it"
    assert not_taken(spec, other) == ["not in it, as in the baseline: learning_rate"]


def test_a_sweep_without_a_finalist_gives_nothing(finished, tmp_path):
    other, _ = finished
    conclude(other, {"baseline": 100.0})
    following = small_spec(tmp_path, name="next", seed=1)
    assert "no trial that came to its validation" in refusal(begin_with, following, other)


def test_a_warm_start_from_a_sweep_that_still_runs_takes_what_trained_to_the_end(finished):
    spec, plan = finished
    (spec.folder / COMPARISON_FILE).unlink()
    ranked = [plan.config_of(row) for row in ("trial-002", "trial-001")]
    assert best_configs(spec) == ranked


def test_of_trials_as_good_as_each_other_the_one_with_the_higher_score_comes_first(finished):
    """As in the plan: below the threshold all have the same steps to it."""
    spec, plan = finished
    (spec.folder / COMPARISON_FILE).unlink()
    writer = ResultsWriter(spec.folder, "swingup")
    for number in (1, 2, 3):
        name = f"trial-00{number}"
        writer.put_trial({"trial": name, "objective": -0.5, "final_score": 100.0 * number})
    writer.flush()
    ranked = [plan.config_of(row) for row in ("trial-003", "trial-002")]
    assert best_configs(spec) == ranked


def test_a_warm_start_from_a_population_takes_what_held_in_the_end(finished, tmp_path):
    spec, _ = finished
    config = small_spec(tmp_path, name="p").base
    schedule = ((SEGMENT, {"gamma": 0.97}),)
    scheduled = replace(config, schedule=schedule)
    assert _inside(replace(spec, space={"gamma": Uniform(0.9, 1.0)}), scheduled) == {"gamma": 0.97}


def test_a_warm_start_that_cannot_be_is_refused(finished, tmp_path):
    other, _ = finished
    balance = small_spec(tmp_path, name="b", task="balance", reward={"alive.weight": 1.0})
    line = refusal(begin_with, balance, other)
    assert line == "sweep 'sweep' is of task swingup, but this one of balance"


def test_what_some_seeds_chose_is_not_judged_by_them_again(finished, tmp_path):
    line = refusal(begin_with, small_spec(tmp_path, name="next"), finished[0])
    assert "seed is 0, as that of sweep 'sweep'" in line


def test_nor_by_those_of_the_sweep_before_the_one_before(finished, tmp_path):
    """A sweep of seed 0, one of seed 1 that began with its best, and one that begins with those."""
    second = begin_with(small_spec(tmp_path, name="second", seed=1), finished[0])
    assert seeds_spent(second) == (1, 0)
    prepare(second, resume=False)
    assert seeds_spent(load_spec(second.folder)) == (1, 0)
    assert "or of one that it began with" in refusal(
        begin_with, small_spec(tmp_path, name="third"), second
    )


def test_a_warm_start_that_has_no_place_is_refused(finished, tmp_path):
    other, _ = finished
    choices = {"num_minibatches": Choice((2, 4))}
    grid = small_spec(tmp_path, name="grid", seed=1, space=choices, searcher="grid")
    assert "searcher grid has a place" in refusal(begin_with, grid, other)
    alone = small_spec(tmp_path, name="alone", seed=1, num_trials=1)
    assert "needs at least 2" in refusal(begin_with, alone, other)


def test_a_population_that_still_runs_gives_nothing_yet(tmp_path):
    spec = small_spec(tmp_path, scheduler="pbt", grace_period=2048)
    prepare(spec, resume=False)
    assert "has not ended" in refusal(best_configs, spec)


def test_mlflow_says_where_a_trial_comes_from(finished, tmp_path):
    other, _ = finished
    spec = begin_with(small_spec(tmp_path, name="next", seed=1), other)
    entries = spec.to_dict() | {"num_trials": 9, "extensions": [2, 3]}
    assert [origin(entries, f"trial-00{number}") for number in range(9)] == [
        *("baseline", "warm start from sweep", "warm start from sweep", "random"),
        *("random, extension 1", "random, extension 1"),
        *("random, extension 2", "random, extension 2", "random, extension 2"),
    ]
