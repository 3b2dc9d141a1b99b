"""Searches that learn, killed, resumed and extended; populations; starts from another's best."""

import random

import pytest
from optuna.trial import TrialState

from tests.e2e.conftest import LONG, PLAIN, Sweep
from tests.e2e.processes import Running, Scripts
from tests.e2e.record import assert_one_run_a_trial, assert_whole, curves, mlflow_runs, trials_once
from tests.e2e.test_resume import disturb, in_the_middle
from tuners.config import load_config
from tuners.optuna_search import open_study
from tuners.spec import load_spec

pytestmark = pytest.mark.slow

SEED = 5


@pytest.fixture(scope="module")
def extended(make_scripts):
    """TPE over PPO's hyperparameters: killed twice at random moments, resumed, then extended."""
    scripts = make_scripts("tpe")
    draw = random.Random(SEED)
    moments = sorted(draw.randrange(20, 250) for _ in range(2))
    disturbed = disturb(
        scripts,
        "tpe",
        (*LONG, *PLAIN, "--searcher", "tpe", "--num-trials", "6"),
        [lambda segments, _, count=count: len(segments) >= count for count in moments],
        Running.kill,
        "hyperparam_search",
    )
    assert disturbed.sweep.finished.code == 0, disturbed.sweep.finished
    finished = scripts.run("hyperparam_search", "--extend", "tpe", "--num-trials", "3")
    return Sweep(scripts, "tpe", finished)


def searched(folder):
    """Trials of the search by name, in the order of their numbers."""
    trials = sorted(trials_once(folder).items())
    return {name: trial for name, trial in trials if trial["phase"] == "search"}


def test_an_extended_sweep_ends_well(extended):
    assert extended.finished.code == 0, extended.finished
    assert_whole(extended.folder)
    assert "9 trials" in extended.finished.stdout
    assert "was extended, 1 x, after a look at these test seeds" in extended.finished.stdout
    assert list(searched(extended.folder)) == [f"trial-{number:03d}" for number in range(9)]


def test_each_trial_is_there_once_in_every_record(extended):
    assert_one_run_a_trial(extended.tracking_uri, extended.folder)
    trials = open_study(extended.folder, "area").get_trials()
    assert [trial.number for trial in trials] == list(range(9))
    space = load_spec(extended.folder).space
    rows = list(searched(extended.folder).values())
    assert trials[0].state == TrialState.FAIL, "the preset's two minibatches are not in the space"
    for trial, row in zip(trials[1:], rows[1:], strict=True):
        expected = {"budget": TrialState.COMPLETE, "asha": TrialState.PRUNED}
        assert trial.state == expected[row["stop_reason"]], row["trial"]
        assert trial.value == row["objective"]
        assert set(trial.params) == set(space)


def test_mlflow_shows_how_a_trial_came_about(extended):
    runs = {run.data.tags["trial"]: run for run in mlflow_runs(extended.tracking_uri, "tpe")}
    assert runs["trial-000"].data.tags["origin"] == "baseline"
    assert runs["trial-005"].data.tags["origin"] == "tpe"
    assert runs["trial-008"].data.tags["origin"] == "tpe, extension 1"
    summary = runs["sweep"].data.tags
    assert (summary["extended"], summary["searcher"], summary["status"]) == (
        *("+3 trials", "tpe", "finished"),
    )


def test_a_sweep_begins_with_the_best_of_another(extended):
    scripts = extended.scripts
    flags = (*PLAIN, "--preset", "smoke", "--name", "warm", "--warm-start", "tpe")
    scripts.succeed("joint_search", *flags, "--searcher", "tpe")
    spec = load_spec(scripts.folder / "runs" / "warm")
    assert spec.warm_start == "tpe" and spec.first_values
    first = trials_once(spec.folder)["trial-001"]
    runs = {run.data.tags["trial"]: run for run in mlflow_runs(extended.tracking_uri, "warm")}
    assert runs["trial-001"].data.tags["origin"] == "warm start from tpe"
    rate = runs["trial-001"].data.params["learning_rate"]
    assert float(rate) == spec.first_values[0]["learning_rate"]
    assert f'"learning_rate": {rate}' in first["config"]


POPULATION = (*PLAIN, "--preset", "smoke", "--scheduler", "pbt", "--num-trials", "8")


@pytest.fixture(scope="module")
def population(make_scripts):
    """Population based training that nobody disturbed."""
    scripts = make_scripts("population")
    return Sweep(scripts, "pbt", scripts.run("hyperparam_search", *POPULATION, "--name", "pbt"))


def test_a_population_ends_with_a_schedule(population):
    assert population.finished.code == 0, population.finished
    assert_whole(population.folder)
    assert_one_run_a_trial(population.tracking_uri, population.folder)
    last = [row for name, row in searched(population.folder).items() if name.endswith("-g3")]
    assert len(last) == 8
    assert any('"schedule"' in row["config"] for row in last)


def test_a_schedule_is_exported_and_trained_again(population):
    scripts: Scripts = population.scripts
    scripts.succeed("export_best", "pbt", "--out", "best", "--register", "False")
    config = load_config(scripts.folder / "best" / "config.yaml")
    said = scripts.succeed("train", "--config", "best/config.yaml", "--name", "again")
    assert f"{config.full_length:,}" in said


def test_a_population_killed_and_resumed_is_the_one_that_was_not(population, make_scripts):
    """Every draw follows from the tables, and every curve goes on bit for bit."""
    disturbed = disturb(
        make_scripts("killed_population"),
        "pbt",
        POPULATION,
        [in_the_middle],
        Running.kill,
        "hyperparam_search",
    )
    assert disturbed.sweep.finished.code == 0, disturbed.sweep.finished
    assert curves(disturbed.sweep.folder) == curves(population.folder)
