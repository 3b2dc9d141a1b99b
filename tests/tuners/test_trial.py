"""One trial in this process: its rows, its files, its program, its divergence."""

import math
from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from rlcore.checkpoint import read_metadata
from rlcore.ppo.config import Hyperparameters
from rlcore.rewards import SHAPES
from rlcore.video import load_recording
from tests.rlcore.small import assert_same_bits
from tests.tuners.small import CONFIG, SEGMENT, without
from tuners import trial as module
from tuners.checkpoints import newest_checkpoint
from tuners.layout import RECORDING_FILE, STATE_FILE
from tuners.objectives import Objective
from tuners.programs import make_task, num_programs
from tuners.progress import Effort, Progress, Report
from tuners.results import ResultsWriter, read_segments, segments_schema
from tuners.trial import Trial

SEEDS = [3, 7]
ADDED_BY_THE_SWEEP = {"trial", "phase", "stop_reason"}
TIMES = ("time", "steps_per_second", "wall_seconds", "cpu_seconds", "compile_seconds")


@pytest.fixture(scope="module")
def trained():
    """A trial after two segments, with their rows; nobody changes it."""
    trial = Trial(CONFIG, SEEDS)
    return SimpleNamespace(trial=trial, rows=[trial.advance(), trial.advance()])


def new_trial(segments=0, config=CONFIG, seeds=SEEDS):
    trial = Trial(config, seeds)
    for _ in range(segments):
        trial.advance()
    return trial


def diverge(trial):
    """Leaves the trial as a gradient that exploded would."""
    broken = jax.tree.map(lambda leaf: leaf * np.nan, trial.state.params)
    trial.state = trial.state.replace(params=broken)


def test_a_row_has_the_columns_of_the_table(trained):
    columns = set(segments_schema("swingup").names) - ADDED_BY_THE_SWEEP
    for row in trained.rows:
        assert set(row) == columns


def test_a_row_fits_the_table(trained, tmp_path):
    writer = ResultsWriter(tmp_path, "swingup")
    writer.add_segment(trained.rows[0] | {"trial": "trial-000", "phase": "search"})
    writer.flush()
    (read,) = read_segments(tmp_path)
    assert without(read, *ADDED_BY_THE_SWEEP) == trained.rows[0]


def test_the_numbers_of_a_row(trained):
    first, second = trained.rows
    assert (first["env_steps"], second["env_steps"]) == (SEGMENT, 2 * SEGMENT)
    assert first["simulation_steps"] == SEGMENT
    assert len(first["seed_scores"]) == 2
    assert first["score"] == pytest.approx(np.mean(first["seed_scores"]))
    assert first["final_score"] == first["area"] == first["score"]
    assert second["area"] == pytest.approx((first["score"] + second["score"]) / 2)
    assert second["objective"] == second["area"]
    assert second["steps_to_threshold"] == pytest.approx(3e-6 * SEGMENT), "not yet above it"
    assert (first["diverged"], first["done"]) == (False, False)
    assert 0 <= first["score"] <= 1000
    # It falls to 0 over 16 updates; the fourth begins after three.
    start = Hyperparameters().learning_rate
    assert second["learning_rate"] == pytest.approx(start * (1 - 3 / 16))
    assert first["term_cos_min"] <= first["term_cos_mean"] <= first["term_cos_max"]
    assert first["steps_per_second"] == pytest.approx(2 * SEGMENT / first["wall_seconds"])
    assert second["compile_seconds"] == 0.0
    # No time limit falls into the first few steps of 16 environments at the least.
    assert first["shaped_return"] is None or math.isfinite(first["shaped_return"])


def entry(**changes):
    """What a worker is told of a job."""
    entries = {"config": CONFIG.to_dict(), "seeds": SEEDS, "objective": ("area", 0.0)}
    return entries | {"until": None, "phase": "search"} | changes


def test_a_job_trains_by_its_sweeps_objective_and_phase():
    told = entry(objective=("final_score", 0.5), until=2 * SEGMENT, phase="validation")
    progress = Progress.from_entry(told)
    assert progress.objective == Objective("final_score", 0.5)
    assert progress.end == 2 * SEGMENT
    assert not progress.fails_together, "beside it are other seeds of the row"
    assert Progress.from_entry(entry()).fails_together


EFFORT = Effort(wall_seconds=1.0, cpu_seconds=1.0, compile_seconds=0.0)


def test_to_diverge_early_is_no_shorter_way_to_the_threshold():
    progress = Progress(CONFIG, SEEDS, Objective("steps_to_threshold"))
    row = progress.take_in(Report({}, [0.0, 0.0], [True, False]), EFFORT)
    assert row["objective"] == -(CONFIG.full_length + SEGMENT) / 1e6
    assert row["seed_objectives"] == [row["objective"]] * 2


def test_seeds_far_apart_are_no_worse_than_a_failure():
    progress = Progress(CONFIG, SEEDS, Objective("area", spread_penalty=5.0))
    row = progress.take_in(Report({}, [900.0, 0.0], [False, False]), EFFORT)
    assert (row["objective"], row["seed_objectives"]) == (0.0, [900.0, 0.0])


def test_the_final_score_looks_back_three_segments():
    trial = new_trial()
    scores = [trial.advance()["score"] for _ in range(4)]
    assert trial.last_row["final_score"] == pytest.approx(np.mean(scores[1:]))


def test_the_area_is_the_mean_of_all_segments_and_survives_a_checkpoint(tmp_path):
    trial = new_trial()
    scores = [trial.advance()["score"] for _ in range(5)]
    assert trial.last_row["area"] == pytest.approx(np.mean(scores))
    trial.save(tmp_path)
    loaded = new_trial()
    loaded.load(tmp_path)
    scores.append(loaded.advance()["score"])
    assert loaded.last_row["area"] == pytest.approx(np.mean(scores))


def test_a_seed_decides_its_training_whatever_trains_beside_it(trained):
    swapped = new_trial(2, seeds=SEEDS[::-1]).last_row
    np.testing.assert_allclose(swapped["seed_scores"], trained.rows[1]["seed_scores"][::-1])
    assert new_trial(2, seeds=[4, 5]).last_row["seed_scores"] != swapped["seed_scores"]


def test_a_trial_saved_and_loaded_continues_bit_for_bit(tmp_path):
    trial = new_trial(2)
    trial.save(tmp_path)
    loaded = new_trial()
    loaded.load(tmp_path)
    assert_same_bits(loaded.state, trial.state)
    for _ in range(2):
        ours, theirs = trial.advance(), loaded.advance()
        assert without(ours, *TIMES) == without(theirs, *TIMES)
    assert_same_bits(loaded.state, trial.state)


def test_a_checkpoint_says_what_it_is_of(trained, tmp_path):
    trained.trial.save(tmp_path)
    metadata = read_metadata(tmp_path / STATE_FILE)
    assert metadata["config"] == CONFIG.to_dict()
    assert metadata["seeds"] == SEEDS
    assert metadata["env_steps"] == 2 * SEGMENT
    assert metadata["scores"] == [row["seed_scores"] for row in trained.rows]


def test_the_episodes_of_the_better_seed_are_kept(trained, tmp_path):
    trained.trial.save(tmp_path)
    recording = load_recording(tmp_path / RECORDING_FILE)
    best = int(np.argmax(np.mean([row["seed_scores"] for row in trained.rows], axis=0)))
    kept = jax.tree.map(lambda leaf: leaf[best], trained.trial.episodes)
    np.testing.assert_array_equal(recording.states, kept.states)
    np.testing.assert_array_equal(recording.actions, kept.actions)
    assert recording.horizon == 500
    assert (recording.dt, recording.rail) == (0.02, pytest.approx(2.4))


def test_a_trial_saved_before_its_first_segment_has_no_episodes(tmp_path):
    trial = new_trial()
    trial.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [STATE_FILE]


def test_the_pole_is_drawn_as_long_as_it_is(trained, tmp_path):
    new_trial(1, CONFIG.with_values({"task.half_length": 0.25})).save(tmp_path)
    assert load_recording(tmp_path / RECORDING_FILE).pole_length == 0.5


def test_a_checkpoint_of_another_config_is_refused(trained, tmp_path, monkeypatch):
    trained.trial.save(tmp_path)
    monkeypatch.setattr(module, "segment_program", lambda config: None)  # nothing is trained
    with pytest.raises(ValueError, match="use the config it came with"):
        Trial(CONFIG.with_values({"hidden_sizes": (8,)}), SEEDS).load(tmp_path)


def test_trials_of_one_static_config_share_one_program(trained):
    programs = num_programs()
    others = {"learning_rate": 0.01, "reward.combine": "product", "task.gravity": 5.0}
    changed = new_trial(1, CONFIG.with_values(others), seeds=[100, 101])
    assert num_programs() == programs
    assert changed.last_row["compile_seconds"] == 0.0
    assert changed.last_row["programs"] == programs
    assert changed.last_row["seed_scores"] != trained.rows[0]["seed_scores"]


def test_a_budget_of_its_own_needs_no_program_of_its_own(trained):
    programs = num_programs()
    longer = new_trial(1, replace(CONFIG, budget=99_999))
    assert num_programs() == programs
    assert longer.last_row["learning_rate"] > trained.rows[0]["learning_rate"]


def test_a_trial_is_done_at_the_end_of_its_budget():
    config = replace(CONFIG, budget=2 * SEGMENT + 7)
    trial = new_trial(config=config)
    assert [trial.advance()["done"] for _ in range(2)] == [False, True]
    assert trial.finished


def test_a_divergence_is_a_result():
    trial = new_trial(2)
    before, area = trial.episodes, trial.last_row["area"]
    diverge(trial)
    row = trial.advance()
    assert (row["diverged"], row["done"]) == (True, True)
    assert (row["score"], row["seed_scores"]) == (0.0, [0.0, 0.0])
    assert row["policy_loss"] is None
    assert row["env_steps"] == 3 * SEGMENT
    assert row["objective"] == row["final_score"] == 0.0
    full, segment = CONFIG.full_length, CONFIG.ppo.steps_per_segment
    assert row["area"] == pytest.approx(area * 2 / CONFIG.num_segments), "0 to the end"
    assert row["steps_to_threshold"] == pytest.approx((full + segment) / 1e6)
    assert trial.episodes is before, "the last episodes worth looking at"


def test_a_divergence_beyond_the_budget_is_a_result_too():
    """A generation of a population may end beyond the last whole segment of a member's budget."""
    trial = Trial(replace(CONFIG, budget=2 * SEGMENT), SEEDS, until=3 * SEGMENT)
    for _ in range(2):
        trial.advance()
    diverge(trial)
    assert trial.advance()["diverged"]


def test_a_divergence_fits_the_table_and_its_trial_can_be_saved(tmp_path):
    trial = new_trial()
    diverge(trial)
    row = trial.advance()
    assert row["objective"] == 0.0
    trial.save(tmp_path)
    assert not (tmp_path / RECORDING_FILE).exists(), "it has no episode worth looking at"
    writer = ResultsWriter(tmp_path, "swingup")
    writer.add_segment(row | {"trial": "trial-000", "phase": "search"})
    writer.flush()
    assert read_segments(tmp_path)[0]["policy_loss"] is None


def test_one_seed_that_diverged_stops_both():
    trial = new_trial()
    half = jax.tree.map(lambda leaf: leaf.at[0].multiply(np.nan), trial.state.params)
    trial.state = trial.state.replace(params=half)
    row = trial.advance()
    assert row["diverged"]
    assert row["seed_scores"] == [0.0, 0.0]


def test_of_samples_of_a_configuration_only_the_one_that_diverged_counts_as_nothing():
    """Else what a seed counts for would depend on who is trained beside it."""
    trial = Trial(CONFIG, SEEDS, fails_together=False)
    healthy, both = new_trial(2), [trial.advance(), trial.advance()]
    half = jax.tree.map(lambda leaf: leaf.at[0].multiply(np.nan), trial.state.params)
    trial.state = trial.state.replace(params=half)
    row, expected = trial.advance(), healthy.advance()
    assert (row["diverged"], row["done"]) == (False, False)
    assert row["seed_scores"] == [0.0, expected["seed_scores"][1]]
    before = sum(earlier["seed_scores"][0] for earlier in both)
    assert row["seed_objectives"] == pytest.approx([before / 3, expected["seed_objectives"][1]])
    assert row["objective"] == pytest.approx(np.mean(row["seed_objectives"]))
    diverge(trial)
    assert trial.advance()["diverged"], "nobody is left"


@pytest.mark.parametrize("first", [0, 1])
def test_what_is_kept_of_samples_is_of_one_that_lives(tmp_path, first):
    """However good the one was that diverged; of those that all diverged the last to live."""
    trial = Trial(CONFIG, SEEDS, fails_together=False)
    trial.advance()
    trial._scores[0] = [870.0, 300.0] if first == 0 else [300.0, 870.0]
    for ends in (first, 1 - first):
        broken = jax.tree.map(lambda leaf, i=ends: leaf.at[i].multiply(np.nan), trial.state.params)
        trial.state = trial.state.replace(params=broken)
        row = trial.advance()
        trial.save(tmp_path)
        states = load_recording(tmp_path / RECORDING_FILE).states
        np.testing.assert_array_equal(states, trial.episodes.states[1 - first])
        assert row["seed_scores"][first] == 0.0
    assert row["diverged"]
    again = Trial(CONFIG, SEEDS, fails_together=False)
    again.load(tmp_path)
    assert again.advance()["diverged"]


def test_a_seed_that_diverged_does_not_come_back(tmp_path):
    """As where a loss was infinite once, and its weights are numbers even so."""
    progress = Progress(CONFIG, SEEDS, fails_together=False)
    for diverged in ([True, False], [False, False]):
        row = progress.take_in(Report({}, [700.0, 800.0], diverged), Effort(1.0, 1.0))
        assert (row["seed_scores"], row["diverged"]) == ([0.0, 800.0], False)


def test_a_shape_is_what_is_trained_on(trained):
    config = replace(CONFIG, reward=SHAPES["swingup"]["task_score"])
    row = new_trial(1, config).last_row
    assert row["term_cos_mean"] == pytest.approx(trained.rows[0]["term_cos_mean"], abs=0.3)
    assert row["policy_loss"] != trained.rows[0]["policy_loss"]


def test_constants_reach_the_task():
    task = make_task(CONFIG.with_values({"task.gravity": 1.5}))
    assert float(task.gravity) == 1.5
    assert float(task.cart_mass) == 1.0
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(task))


def test_the_furthest_readable_checkpoint_is_the_newest(trained, tmp_path):
    assert newest_checkpoint(tmp_path, "trial-000") is None
    # Tune ended the second name in digits: its first try had failed before it ran.
    early, late = (
        tmp_path / "tune" / name / "checkpoint_000000"
        for name in ("session-002/trial-000", "session-001/trial-000_0a7f")
    )
    another = tmp_path / "tune" / "session-001" / "trial-0001" / "checkpoint_000000"
    for folder, segments in ((early, 1), (late, 2), (another, 3)):
        folder.mkdir(parents=True)
        new_trial(segments).save(folder)
    assert newest_checkpoint(tmp_path, "trial-000") == late
    assert newest_checkpoint(tmp_path, "trial-001") is None
    state = late / STATE_FILE
    whole = state.read_bytes()
    for damaged in (whole[:100], whole[:-1], whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]):
        state.write_bytes(damaged)
        assert newest_checkpoint(tmp_path, "trial-000") == early
