"""Searchers by scripted results: proposals, what Optuna is told, and what a kill changes."""

import json
import math
import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from optuna.trial import TrialState

from tests.tuners.small import CONFIG, SEGMENT, refusal, small_spec
from tuners.layout import STUDY_FILE
from tuners.objectives import PARETO, Outcome
from tuners.optuna_search import from_optuna, open_study, to_optuna
from tuners.phases import Plan
from tuners.searchers import SEARCHERS, most_at_once
from tuners.space import Choice, LogUniform, OneMinusLogUniform, Uniform
from tuners.spec import load_spec, prepare

SUGGESTIONS = Path(__file__).parents[1] / "golden" / "suggestions.json"
SPACE = {
    "learning_rate": LogUniform(1e-4, 1e-2),
    "gamma": OneMinusLogUniform(0.9, 0.999),
    "clip_range": Uniform(0.1, 0.4),
    "hidden_sizes": Choice(((16, 16), (32,))),
    "reward.peak.on": Choice((True, False)),
}
CHOICES = {name: domain for name, domain in SPACE.items() if isinstance(domain, Choice)}
# Each that can be made here: the Gaussian process needs torch.
NAMES = [name for name in SEARCHERS if name != "gp"]
MODEL_BASED = [name for name in NAMES if name not in ("random", "grid")]


def settings(folder, searcher="random", **overrides):
    """What a searcher reads of a sweep's description."""
    space = CHOICES if searcher == "grid" else SPACE
    entries = {"space": space, "seed": 7, "first_values": (), "objective": "area"}
    entries["scheduler"] = "none" if searcher == "cmaes" else "asha"
    return SimpleNamespace(**entries | {"base": CONFIG, "folder": folder / "sweep"} | overrides)


def make(folder, searcher, **overrides):
    return SEARCHERS[searcher](settings(folder, searcher, **overrides))


def worth(values):
    """A made-up objective: best at a learning rate of 1e-3 with a wide clip range."""
    distance = abs(np.log10(values.get("learning_rate", 1e-3)) + 3.0)
    return 800.0 - 200.0 * distance + 100.0 * values.get("clip_range", 0.0)


def ended(values, reason="budget", env_steps=8 * SEGMENT):
    return Outcome(worth(values), reason, env_steps, worth(values), 0.3)


def run(searcher, numbers):
    """Asks and tells one trial after the other; every third is stopped at half its budget."""
    proposed = []
    for number in numbers:
        values = searcher.suggest(number)
        reason = "asha" if number % 3 == 0 else "budget"
        searcher.tell(number, ended(values, reason, 4 * SEGMENT if reason == "asha" else 8))
        proposed.append(values)
    return proposed


def assert_same(values, expected):
    """Equal but for rounding: numbers may cross a file or another machine."""
    assert set(values) == set(expected)
    for name, value in expected.items():
        if isinstance(value, float):
            assert values[name] == pytest.approx(value, rel=1e-6)
        else:
            assert values[name] == (tuple(value) if isinstance(value, list) else value)


def study(folder):
    return open_study(folder / "sweep", "area")


@pytest.mark.parametrize("name", NAMES)
def test_what_is_proposed_lies_in_the_space(tmp_path, name):
    space = settings(tmp_path, name).space
    count = 4 if name == "grid" else 15
    proposed = run(make(tmp_path, name), range(1, 1 + count))
    for values in proposed:
        assert set(values) == set(space)
        assert all(space[key].contains(value) for key, value in values.items())
        CONFIG.with_values(values)
    assert len({json.dumps(values) for values in proposed}) == len(proposed), "no two are alike"


@pytest.mark.parametrize("name", NAMES)
def test_a_trial_asked_for_again_is_the_same(tmp_path, name):
    searcher = make(tmp_path, name)
    first, second = searcher.suggest(1), searcher.suggest(2)
    assert (searcher.suggest(1), searcher.suggest(2)) == (first, second)


@pytest.mark.parametrize("name", NAMES)
def test_a_search_begins_with_the_values_it_was_given(tmp_path, name):
    first = ({"hidden_sizes": (32,), "reward.peak.on": False}, {"reward.peak.on": True})
    searcher = make(tmp_path, name, first_values=first)
    one, two = searcher.suggest(1), searcher.suggest(2)
    assert first[0].items() <= one.items() and first[1].items() <= two.items()
    assert set(two) == set(settings(tmp_path, name).space), "the searcher draws the rest"


def test_the_grid_is_every_combination_once(tmp_path):
    proposed = run(make(tmp_path, "grid"), range(1, 5))
    assert [(v["hidden_sizes"], v["reward.peak.on"]) for v in proposed] == [
        *(((16, 16), True), ((16, 16), False), ((32,), True), ((32,), False))
    ]


def test_the_grid_says_how_many_trials_it_has(tmp_path):
    spec = small_spec(tmp_path, searcher="grid", space=CHOICES)
    assert spec.num_trials == 5, "the baseline and four points"
    assert small_spec(tmp_path, searcher="grid", space=CHOICES, num_trials=3).num_trials == 3
    line = refusal(small_spec, tmp_path, searcher="grid", space=CHOICES, num_trials=6)
    assert line == "num_trials is 6, but the grid and the baseline make at most 5"


def test_the_gaussian_process_says_what_it_needs(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    spec = small_spec(tmp_path, searcher="gp", scheduler="none")
    assert "gp needs torch" in refusal(prepare, spec, resume=False)
    assert not spec.folder.exists()
    monkeypatch.undo()
    monkeypatch.setattr("tuners.spec.check_installed", lambda name: None)
    prepare(spec, resume=False)
    monkeypatch.undo()
    assert load_spec(spec.folder) == spec, "to read what it found takes no torch"


@pytest.mark.parametrize("name", ["random", "grid", "tpe"])
def test_the_proposals_of_a_seed_are_those_of_the_committed_file(tmp_path, name):
    """Written by this test's own code, once: `proposals_of_all` below."""
    expected = json.loads(SUGGESTIONS.read_text())[name]
    proposed = run(make(tmp_path, name), range(1, 1 + len(expected)))
    for ours, theirs in zip(proposed, expected, strict=True):
        assert_same(ours, theirs)


@pytest.mark.parametrize("name", ["random", *MODEL_BASED])
def test_another_seed_proposes_something_else(tmp_path, name):
    ours, theirs, again = (
        run(make(tmp_path / folder, name, seed=seed), range(1, 13))
        for folder, seed in (("a", 1), ("b", 2), ("c", 1))
    )
    assert all(one != other for one, other in zip(ours, theirs, strict=True))
    assert ours == again


def test_tpe_learns_from_what_it_is_told(tmp_path):
    proposed = run(make(tmp_path, "tpe"), range(1, 41))
    early, late = ([worth(values) for values in part] for part in (proposed[:10], proposed[-10:]))
    assert np.median(late) > np.median(early) + 20.0, "as always with this seed"


@pytest.mark.parametrize(
    ("name", "scheduler", "diverged"),
    [
        ("tpe", "asha", TrialState.PRUNED),
        ("tpe", "none", TrialState.COMPLETE),
        ("cmaes", "none", TrialState.COMPLETE),
    ],
)
def test_optuna_is_told_how_each_trial_ended(tmp_path, name, scheduler, diverged):
    searcher = make(tmp_path, name, scheduler=scheduler)
    told = {
        1: Outcome(700.0, "budget", 8 * SEGMENT),
        2: Outcome(300.0, "asha", 2 * SEGMENT),
        3: Outcome(0.0, "diverged", 3 * SEGMENT),
        4: Outcome(0.0, "error", 0),
        5: Outcome(250.0, "median", 4 * SEGMENT),
    }
    for number, outcome in told.items():
        searcher.suggest(number)
        searcher.tell(number, outcome)
    searcher.suggest(6)
    trials = study(tmp_path).get_trials()
    assert [trial.number for trial in trials] == list(range(7)), "the sweep's own numbers"
    assert [trial.state for trial in trials[1:]] == [
        *(TrialState.COMPLETE, TrialState.PRUNED, diverged, TrialState.FAIL),
        *(TrialState.PRUNED, TrialState.RUNNING),
    ]
    assert trials[1].value == 700.0
    assert trials[2].intermediate_values == {2 * SEGMENT: 300.0}
    if diverged == TrialState.COMPLETE:
        assert trials[3].value == 0.0, "samplers learn nothing of a trial that failed"
    else:
        assert trials[3].intermediate_values == {0: 0.0}, "the worst of those that were stopped"
    assert trials[5].intermediate_values == {4 * SEGMENT: 250.0}


def test_the_baseline_is_trial_0_of_the_study(tmp_path):
    """Optuna sees it where it is a point of the space, and is not misled where it is none."""
    inside = {"learning_rate": LogUniform(1e-4, 1e-2)}
    searcher = make(tmp_path / "in", "tpe", space=inside)
    searcher.tell(0, Outcome(640.0, "budget", 8 * SEGMENT))
    (trial,) = study(tmp_path / "in").get_trials()
    assert (trial.params, trial.value) == ({"learning_rate": 0.002}, 640.0)
    outside = {"learning_rate": LogUniform(1e-4, 1e-3)}
    searcher = make(tmp_path / "out", "tpe", space=outside)
    searcher.tell(0, Outcome(640.0, "budget", 8 * SEGMENT))
    (trial,) = study(tmp_path / "out").get_trials()
    assert (trial.params, trial.state) == ({}, TrialState.FAIL)
    assert "outside the search space" in trial.user_attrs["why"]


def test_tpe_leaves_where_trials_diverge_though_none_has_come_to_its_end(tmp_path):
    """Many run at once, the diverged end first: all that is complete would be theirs."""
    searcher = make(tmp_path, "tpe", space={"learning_rate": LogUniform(1e-4, 1.0)})
    diverged = []
    for begun in range(1, 161, 16):
        batch = {number: searcher.suggest(number) for number in range(begun, begun + 16)}
        diverged.append(sum(values["learning_rate"] > 0.05 for values in batch.values()))
        for number, values in batch.items():
            ill = values["learning_rate"] > 0.05
            stopped = Outcome(worth(values), "asha", 2 * SEGMENT)
            searcher.tell(number, Outcome(0.0, "diverged", SEGMENT) if ill else stopped)
    assert diverged[0] > 2, "of the 16 drawn at random"
    assert sum(diverged[-5:]) < 8, "of 80"


def test_of_two_objectives_one_that_diverged_is_pruned_where_trials_are(tmp_path):
    searcher = make(tmp_path, "tpe", objective=PARETO, scheduler="asha")
    searcher.suggest(1)
    searcher.tell(1, Outcome(500.0, "diverged", SEGMENT, 810.0, 0.2))
    trials = open_study(tmp_path / "sweep", PARETO).get_trials()
    assert trials[1].state == TrialState.PRUNED


def test_a_search_for_two_objectives_tells_both(tmp_path):
    searcher = make(tmp_path, "tpe", objective=PARETO, scheduler="none")
    for number, reason in ((1, "budget"), (2, "asha"), (3, "diverged")):
        searcher.suggest(number)
        searcher.tell(number, Outcome(500.0, reason, SEGMENT, 810.0, 0.2))
    searcher.suggest(4)
    trials = open_study(tmp_path / "sweep", PARETO).get_trials()
    assert trials[1].values == [810.0, 0.2]
    states = [TrialState.PRUNED, TrialState.COMPLETE, TrialState.RUNNING]
    assert [trial.state for trial in trials[2:]] == states
    assert trials[3].values == [0.0, 0.2], "its last scores may be of before it diverged"
    assert trials[3].state == TrialState.COMPLETE
    directions = [d.name for d in open_study(tmp_path / "sweep", PARETO).directions]
    assert directions == ["MAXIMIZE", "MINIMIZE"]


@pytest.mark.parametrize("name", MODEL_BASED)
def test_a_search_goes_on_as_if_it_had_not_been_interrupted(tmp_path, name):
    whole = run(make(tmp_path / "whole", name), range(1, 20))
    parts = run(make(tmp_path / "parts", name), range(1, 8))
    parts += run(make(tmp_path / "parts", name), range(8, 15))
    parts += run(make(tmp_path / "parts", name), range(15, 20))
    assert parts == whole


def test_a_study_that_was_lost_is_made_again_from_what_the_tables_know(tmp_path):
    searcher = make(tmp_path, "tpe")
    proposed = run(searcher, range(1, 16))
    following = searcher.suggest(16)
    (tmp_path / "sweep" / STUDY_FILE).unlink()
    again = make(tmp_path, "tpe")
    again.restore(dict(enumerate(proposed, 1)))
    for number, values in enumerate(proposed, 1):
        reason = "asha" if number % 3 == 0 else "budget"
        again.tell(number, ended(values, reason, 4 * SEGMENT if reason == "asha" else 8))
    assert_same(again.suggest(15), proposed[14])
    assert_same(again.suggest(16), following)


def test_a_trial_the_tables_lack_keeps_its_place(tmp_path):
    """Two trials began at once, and a kill came when only the second was noted."""
    proposed = [make(tmp_path, "tpe").suggest(number) for number in (1, 2)]
    (tmp_path / "sweep" / STUDY_FILE).unlink()
    again = make(tmp_path, "tpe")
    again.restore({2: proposed[1]})
    assert_same(again.suggest(2), proposed[1])
    assert set(again.suggest(1)) == set(SPACE)
    assert len(study(tmp_path).get_trials()) == 3


def test_a_line_that_a_kill_left_unfinished_is_taken_off(tmp_path):
    whole = run(make(tmp_path / "whole", "tpe"), range(1, 16))
    parts = run(make(tmp_path / "parts", "tpe"), range(1, 13))
    journal = tmp_path / "parts" / "sweep" / STUDY_FILE
    with journal.open("ab") as file:
        file.write(b'{"op_code":5,"worker_id":"')
    journal.with_name(f"{journal.name}.lock").symlink_to(journal)  # the driver was killed
    assert parts + run(make(tmp_path / "parts", "tpe"), range(13, 16)) == whole


def test_a_kill_in_the_middle_of_a_proposal_leaves_no_trial_half_decided(tmp_path):
    make(tmp_path, "tpe").suggest(1)
    journal = tmp_path / "sweep" / STUDY_FILE
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-2]))  # each value is a line
    assert len(study(tmp_path).get_trials()[1].params) == len(SPACE) - 2
    again = make(tmp_path, "tpe")
    values = again.suggest(1)
    assert set(values) == set(SPACE)
    assert again.suggest(1) == values
    assert len(study(tmp_path).get_trials()) == 2


def test_a_kill_in_the_middle_of_a_trial_that_was_given_leaves_it_in_its_place(tmp_path):
    first = ({"reward.peak.on": False},)
    values = make(tmp_path, "tpe", first_values=first).suggest(1)
    journal = tmp_path / "sweep" / STUDY_FILE
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[: -len(SPACE)]))  # begun, and nothing drawn yet
    again = make(tmp_path, "tpe", first_values=first)
    assert again.suggest(1) == values
    assert again.suggest(2).keys() == values.keys()
    assert len(study(tmp_path).get_trials()) == 3


def test_a_damaged_journal_is_named(tmp_path):
    make(tmp_path, "tpe").suggest(1)
    journal = tmp_path / "sweep" / STUDY_FILE
    journal.write_bytes(b"not a journal\n" + journal.read_bytes())
    line = refusal(make, tmp_path, "tpe")
    assert str(journal) in line and "delete it" in line


@pytest.mark.parametrize(
    ("domain", "value", "raw"),
    [
        (Uniform(0.0, 2.0), 1.5, 1.5),
        (OneMinusLogUniform(0.9, 0.999), 0.75 + 0.2, 0.05),
        (Choice(((16, 16), (32,))), (16, 16), "[16, 16]"),
        (Choice((True, False)), False, False),
        (Choice(("sum", "product")), "sum", "sum"),
    ],
)
def test_values_cross_to_optuna_and_back(domain, value, raw):
    crossed = to_optuna(domain, value)
    assert crossed == (pytest.approx(raw) if isinstance(raw, float) else raw)
    assert type(from_optuna(domain, crossed)) is type(value)
    assert from_optuna(domain, crossed) == pytest.approx(value)


@pytest.mark.parametrize("name", ["random", *MODEL_BASED])
@pytest.mark.parametrize("seed", range(3))
def test_a_sweep_killed_at_any_moment_proposes_the_same_trials(tmp_path, name, seed):
    """One trial at a time: after each kill the tables know of all jobs, or of all but the last.

    The study may know more than the tables: that a trial began, or how it ended.
    """
    draw = random.Random(seed)
    count = 14

    def spec_in(folder):
        scheduler = "none" if name == "cmaes" else "asha"
        entries = {"searcher": name, "scheduler": scheduler, "num_trials": count, "space": SPACE}
        return small_spec(folder, **entries)

    def outcome_of(job):
        reason = "asha" if int(job.name[-3:]) % 3 == 0 else "budget"
        return Outcome(worth(dict(job.config.hyperparameters)), reason, 4 * SEGMENT)

    def search(plan):
        while sum(name.startswith("trial") for name in plan.outcomes) < count:
            yield plan.next_job()

    whole = Plan(spec_in(tmp_path / "whole"))
    for job in search(whole):
        whole.end(job.name, outcome_of(job))

    plan = Plan(spec_in(tmp_path / "parts"))
    begun, ended_jobs = {}, {}  # what the tables know
    jobs = search(plan)
    while (job := next(jobs, None)) is not None:
        if draw.random() < 0.2:  # killed before its beginning was noted
            plan = restored(spec_in(tmp_path / "parts"), begun, ended_jobs)
            jobs = search(plan)
            continue
        begun[job.name] = job
        plan.end(job.name, outcome_of(job))
        if draw.random() < 0.2:  # killed before its end was noted: it is trained again
            plan = restored(spec_in(tmp_path / "parts"), begun, ended_jobs)
            jobs = search(plan)
            continue
        ended_jobs[job.name] = plan.outcomes[job.name]
    assert list(plan.jobs) == [f"trial-{number:03d}" for number in range(count)]
    for trial, job in plan.jobs.items():
        assert job.config == whole.jobs[trial].config
    if name in MODEL_BASED:
        numbers = [t.number for t in open_study(tmp_path / "parts" / "sweep", "area").get_trials()]
        assert numbers == list(range(count)), "each trial once"


def restored(spec, begun, ended_jobs):
    plan = Plan(spec)
    plan.restore(
        [(begun[name], outcome) for name, outcome in ended_jobs.items()],
        [job for name, job in begun.items() if name not in ended_jobs],
    )
    return plan


def proposals_of_all(folder):
    """What the committed file holds."""
    counts = {"random": 5, "grid": 4, "tpe": 16}
    return {name: run(make(folder / name, name), range(1, 1 + n)) for name, n in counts.items()}


@pytest.mark.parametrize(
    ("searcher", "num_trials", "most"),
    [("tpe", 64, 16), ("gp", 9, 4), ("cmaes", 512, 128), ("random", 64, math.inf)],
)
def test_a_searcher_that_learns_has_trials_to_learn_from(tmp_path, searcher, num_trials, most):
    spec = small_spec(tmp_path, num_trials=num_trials)
    assert most_at_once(replace(spec, searcher=searcher, scheduler="none")) == most
    room = most_at_once(replace(spec, searcher=searcher, scheduler="none"), 2)
    assert room == (most if searcher == "random" else 2)
