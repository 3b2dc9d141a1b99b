"""A reward shape in words: what changed, and how near it is to the score."""

import json
from dataclasses import replace

import pytest

from rlcore.rewards import SHAPES
from rlcore.video import save_recording
from tests.tuners.small import CONFIG, small_spec, swing, trial_row
from tuners.config import TrialConfig
from tuners.describe import active_terms, describe_change, likeness_to_score
from tuners.results import ResultsWriter


def shape(**values):
    """A config whose reward is just this; a dot is written as two underscores."""
    reward = {name.replace("__", "."): value for name, value in values.items()}
    return TrialConfig(ppo=CONFIG.ppo, budget=CONFIG.budget, reward=reward)


def test_nothing_changed():
    assert describe_change(CONFIG, CONFIG) == ["nothing"]
    same = {"learning_rate": 0.002, "reward.calm.margin": 1.0, "num_minibatches": 2}
    assert describe_change(CONFIG, CONFIG.with_values(same)) == ["nothing"]


def test_settings_of_ppo_and_of_the_task_have_their_lines():
    values = {"learning_rate": 0.1, "num_minibatches": 4, "task.pole_mass": 0.2}
    assert describe_change(CONFIG, CONFIG.with_values(values)) == [
        "changed: num_minibatches (2 -> 4)",
        "changed: learning_rate (0.002 -> 0.1)",
        "changed: task.pole_mass (0.1 -> 0.2)",
    ]


def test_each_kind_of_change_has_its_line():
    before = shape(cos__weight=1.0, peak__weight=1.5, effort__weight=0.0005)
    after = shape(cos__weight=1.0, peak__weight=0.5, peak__sharpness=2.0, calm__weight=0.25)
    assert describe_change(before, after) == [
        "new: calm (weight 0.25, margin 5)",
        "gone: effort (weight 0.0005)",
        "changed: peak (weight 1.5, sharpness 10 -> weight 0.5, sharpness 2)",
    ]


def test_another_way_of_combining_comes_first():
    before, after = shape(cos__weight=1.0), shape(cos__weight=1.0, combine="product")
    assert describe_change(before, after) == ["terms are combined by product, not by sum"]


def test_a_term_that_is_switched_off_is_gone():
    off = CONFIG.with_values({"reward.peak.on": False})
    assert describe_change(CONFIG, off) == ["gone: peak (weight 1.5, sharpness 10)"]
    assert describe_change(off, off.with_values({"reward.peak.weight": 0.1})) == ["nothing"]
    assert describe_change(CONFIG, CONFIG.with_values({"reward.peak.on": True})) == ["nothing"]


def test_a_penalty_has_no_effect_in_a_product():
    product = shape(cos__weight=1.0, effort__weight=0.1, combine="product")
    assert active_terms(product) == {"cos": {"weight": 1.0}}
    assert describe_change(shape(cos__weight=1.0, effort__weight=0.1), product) == [
        "terms are combined by product, not by sum",
        "gone: effort (weight 0.1); it has no part in a product reward",
    ]


def test_the_active_terms_of_the_baseline():
    assert active_terms(CONFIG) == {
        "cos": {"weight": 1.0},
        "peak": {"weight": 1.5, "sharpness": 10.0},
        "position": {"weight": 0.01},
        "position_upright": {"weight": 0.3, "gate": 0.95},
        "spin_upright": {"weight": 0.05, "gate": 0.95},
        "effort": {"weight": 0.0005},
    }
    assert active_terms(shape(combine="sum")) == {}


def sweep_with(folder, config, *recordings):
    """A sweep whose row "trial-001" was tested in a job for each of the recordings."""
    spec = small_spec(folder)
    writer = ResultsWriter(spec.folder, "swingup")
    spec.save()
    for number, recording in enumerate(recordings):
        name = f"test-trial-001-{number}"
        (spec.folder / name).mkdir()
        save_recording(spec.folder / name / "recording.safetensors", recording)
        writer.put_trial(
            trial_row(
                *(name, "test", "trial-001"),
                config=json.dumps(config.to_dict()),
                checkpoint=name,
            )
        )
    writer.flush()
    return spec


def likeness(spec):
    return float(likeness_to_score(spec, "trial-001").rpartition(" ")[2])


def test_the_score_as_reward_is_like_the_score(tmp_path):
    config = TrialConfig(ppo=CONFIG.ppo, reward=SHAPES["swingup"]["task_score"])
    assert likeness(sweep_with(tmp_path, config, swing(), swing())) == 1.0


def test_the_opposite_of_the_score_is_unlike_it(tmp_path):
    spec = sweep_with(tmp_path, shape(task_score__weight=-2.0), swing())
    assert likeness(spec) == -1.0


def test_another_shape_lies_between(tmp_path):
    assert 0.2 < likeness(sweep_with(tmp_path, CONFIG, swing())) < 0.95


def test_steps_after_an_episodes_end_do_not_count(tmp_path):
    """Nothing happens there: the score's rate is 0 while a reward would go on."""
    config = TrialConfig(ppo=CONFIG.ppo, reward=SHAPES["swingup"]["task_score"])
    spec = sweep_with(tmp_path, config, swing(lengths=(200, 60, 20)))
    assert likeness(spec) == 1.0


@pytest.mark.filterwarnings("error")
def test_a_reward_that_never_changes_is_like_nothing(tmp_path):
    spec = sweep_with(tmp_path, shape(alive__weight=1.0), swing())
    assert likeness_to_score(spec, "trial-001") is None


def test_without_a_recording_nothing_is_said(tmp_path):
    spec = sweep_with(tmp_path, CONFIG)
    assert likeness_to_score(spec, "trial-001") is None
    spec = sweep_with(tmp_path, CONFIG, swing())
    assert likeness_to_score(spec, "trial-002") is None
    (spec.folder / "test-trial-001-0" / "recording.safetensors").unlink()
    assert likeness_to_score(spec, "trial-001") is None


def test_a_recording_that_is_only_in_the_store_counts_and_a_damaged_one_does_not(tmp_path):
    config = TrialConfig(ppo=CONFIG.ppo, reward=SHAPES["swingup"]["task_score"])
    spec = replace(
        sweep_with(tmp_path / "runs", config, swing(), swing()), storage=f"file://{tmp_path}/store"
    )
    spec.save()
    away = tmp_path / "store" / spec.name
    away.mkdir(parents=True)
    (spec.folder / "test-trial-001-0").rename(away / "test-trial-001-0")
    (spec.folder / "test-trial-001-1" / "recording.safetensors").write_bytes(b"cut")
    assert likeness(spec) == 1.0


def test_only_the_rows_own_test_counts(tmp_path):
    """Its episodes in search and validation were looked at when it was chosen."""
    spec = sweep_with(tmp_path, shape(task_score__weight=1.0), swing())
    writer = ResultsWriter(spec.folder, "swingup")
    row = writer.trials.pop("test-trial-001-0")
    writer.put_trial(row | {"trial": "trial-001", "phase": "search"})
    writer.put_trial(row | {"trial": "validation-trial-001-0", "phase": "validation"})
    writer.flush()
    assert likeness_to_score(spec, "trial-001") is None
