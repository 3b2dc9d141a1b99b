"""The best of a sweep as files: what they hold, that they run alone, and what is refused."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml

from rlcore.evaluate import evaluate
from rlcore.ppo.train import policy_of
from tests.tuners.small import CONFIG, refusal, small_spec, trial_row
from tuners.config import TrialConfig, load_config
from tuners.evaluation import evaluate_export
from tuners.export import EXPORTERS, check_out, export, load_best, register
from tuners.layout import STATE_FILE
from tuners.results import ResultsWriter
from tuners.spec import prepare
from tuners.trial import Trial
from tuners.validate import COLUMNS

BEST_TRIAL = "validation-trial-001-0"
FILES = {"config.yaml", "policy.safetensors", "policy.py", "test.json", "video.mp4", "README.md"}
OBSERVATIONS = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A finished sweep as files: its winner was trained on the seeds 10000 and 10001."""
    spec = small_spec(tmp_path_factory.mktemp("runs"))
    prepare(spec, resume=False)
    config = CONFIG.with_values({"learning_rate": 0.005, "task.gravity": 9.0, "action_repeat": 2})
    trial = Trial(config, [10_000, 10_001])
    trial.advance()
    # The second is better over the last three segments.
    trial._scores = [[9.0, 0.0], [1.0, 5.0], [2.0, 3.0], [2.0, 3.0]]
    checkpoint = spec.folder / "tune" / "session-001" / BEST_TRIAL / "checkpoint_000000"
    checkpoint.mkdir(parents=True)
    trial.save(checkpoint)
    writer = ResultsWriter(spec.folder, "swingup")
    row = trial_row(BEST_TRIAL, "validation", "trial-001", seeds=trial.seeds)
    writer.put_trial(row | {"checkpoint": str(checkpoint.relative_to(spec.folder))})
    writer.put_trial(trial_row("trial-000"))
    writer.flush()
    (spec.folder / "comparison.json").write_text(json.dumps(comparison(config)))
    (spec.folder / "media").mkdir()
    (spec.folder / "media" / f"{BEST_TRIAL}.mp4").write_bytes(b"a video")
    return SimpleNamespace(
        folder=spec.folder, trial=trial, config=config, checkpoint=checkpoint / STATE_FILE
    )


def comparison(config):
    cell = {"value": 870.4, "low": 860.0, "high": 880.0}
    return {
        "sweep": "sweep",
        "winner": "trial-001",
        "config": config.to_dict(),
        "table": {"trial-001": dict.fromkeys(COLUMNS, cell)},
        "best_trial": BEST_TRIAL,
        "test_seeds": 2,
        "num_trials": 4,
    }


@pytest.fixture(scope="module")
def exported(sweep, tmp_path_factory):
    out = tmp_path_factory.mktemp("exports") / "deep" / "best"
    export(load_best(sweep.folder), out)
    return out


@pytest.fixture
def changed(sweep):
    """The sweep, whose files a test may change; they are put back."""
    files = [path for path in sweep.folder.rglob("*") if path.is_file()]
    before = {path: path.read_bytes() for path in files}
    yield sweep
    for path, content in before.items():
        path.write_bytes(content)


def policy_by_seed(sweep, seed_index):
    """The trainer's own network."""
    params = jax.tree.map(lambda leaf: leaf[seed_index], sweep.trial.state.params)
    return policy_of(sweep.config.ppo, sweep.trial.parameters.task, params)


def actions_of(sweep, seed_index):
    return np.clip(policy_by_seed(sweep, seed_index)(jnp.asarray(OBSERVATIONS)), -1.0, 1.0)


def test_the_winners_best_validation_seed_is_found(sweep):
    best = load_best(sweep.folder)
    assert (best.seed, best.trial) == (10_001, BEST_TRIAL)
    assert best.config == sweep.config
    assert best.policy.task == "swingup"
    np.testing.assert_allclose(best.policy(OBSERVATIONS), actions_of(sweep, 1), atol=1e-6)
    assert np.abs(best.policy(OBSERVATIONS) - actions_of(sweep, 0)).max() > 1e-4


def test_an_export_is_whole(exported):
    assert {path.name for path in exported.iterdir()} == FILES == set(EXPORTERS)
    assert [path.name for path in exported.parent.iterdir()] == ["best"]
    assert oct(exported.stat().st_mode)[-3:] == "755", "others may read it"


def test_the_config_can_be_trained_anew(sweep, exported):
    assert load_config(exported / "config.yaml") == sweep.config
    entries = yaml.safe_load((exported / "config.yaml").read_text())
    assert TrialConfig.from_dict(entries) == sweep.config
    assert next(iter(entries)) == "task", "in an order that reads well"


def test_the_statistics_and_the_video_are_the_sweeps(sweep, exported):
    assert json.loads((exported / "test.json").read_text()) == comparison(sweep.config)
    assert (exported / "video.mp4").read_bytes() == b"a video"


ALONE = """
import json, sys
sys.modules.update(dict.fromkeys(("jax", "flax", "safetensors", "rlcore", "tuners")))
sys.path.insert(0, sys.argv[1])
import numpy as np
from policy import Policy
policy = Policy.load(sys.argv[1] + "/policy.safetensors")
observations = np.array(json.loads(sys.argv[2]), np.float32)
print(json.dumps(policy(observations).tolist()))
"""


def run_alone(program, *arguments, cwd):
    command = [sys.executable, "-I", "-B", "-c", program, *arguments]
    process = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_the_policy_runs_with_numpy_alone(sweep, exported, tmp_path):
    said = run_alone(ALONE, str(exported), json.dumps(OBSERVATIONS.tolist()), cwd=tmp_path)
    np.testing.assert_allclose(json.loads(said), actions_of(sweep, 1), atol=1e-6)


def test_the_readme_says_what_it_is_and_its_example_runs(exported):
    text = (exported / "README.md").read_text()
    assert "scored 870 of 1000" in text
    assert "lowest, highest [860, 880]" in text
    assert "(10001)" in text
    for name in FILES - {"README.md"}:
        assert f"`{name}`" in text
    lines = text.splitlines()
    example = "\n".join(line[4:] for line in lines if line.startswith("    "))
    program = f"import sys; sys.path.insert(0, '.')\n{example}\nprint(action.shape)"
    assert run_alone(program, cwd=exported) == "(1,)\n"


def test_a_video_that_was_never_drawn_is_drawn(changed, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("tuners.export.write_video", lambda *a: drawn.append(a) or a[0].touch())
    (changed.folder / "media" / f"{BEST_TRIAL}.mp4").unlink()
    export(load_best(changed.folder), tmp_path / "best")
    ((_, recording),) = drawn
    np.testing.assert_array_equal(recording.states, changed.trial.recording().states)


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_folder_that_exists_is_refused(sweep, tmp_path, kind):
    out = tmp_path / "best"
    out.mkdir() if kind == "folder" else out.write_text("mine")
    for call in (lambda: check_out(out), lambda: export(load_best(sweep.folder), out)):
        assert f"--out {out} exists; name a folder that does not" in refusal(call)
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
    assert list(out.iterdir()) == [] if kind == "folder" else out.read_text() == "mine"


def test_an_export_is_as_open_to_others_as_its_user_has_it(sweep, tmp_path):
    before = os.umask(0o077)
    try:
        export(load_best(sweep.folder), tmp_path / "best")
    finally:
        os.umask(before)
    assert (tmp_path / "best").stat().st_mode & 0o777 == 0o700


def test_a_folder_below_a_file_is_refused(sweep, tmp_path):
    (tmp_path / "file").write_text("")
    assert "is not a folder" in refusal(export, load_best(sweep.folder), tmp_path / "file" / "best")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_exporter_that_fails_leaves_nothing_behind(sweep, tmp_path, monkeypatch, error):
    def fail(best, path):
        path.write_bytes(b"half")
        raise error

    monkeypatch.setitem(EXPORTERS, "last.bin", fail)
    with pytest.raises(type(error)):
        export(load_best(sweep.folder), tmp_path / "best")
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_that_has_not_finished_is_refused(tmp_path):
    spec = small_spec(tmp_path, name="mine")
    assert "no sweep 'mine'" in refusal(load_best, spec.folder)
    spec.folder.mkdir()
    spec.save()
    message = refusal(load_best, spec.folder)
    assert (
        "sweep 'mine' has not finished: let the script that began it go on with it (--resume mine)"
        in message
    )


def test_a_sweep_that_is_being_extended_is_refused(changed):
    entries = json.loads((changed.folder / "comparison.json").read_text())
    (changed.folder / "comparison.json").write_text(json.dumps(entries | {"num_trials": 2}))
    assert "has not finished" in refusal(load_best, changed.folder)


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")  # MLflow's
def test_a_run_that_mlflow_has_lost_is_written_first(changed, exported, tmp_path):
    uri = f"sqlite:///{tmp_path}/empty.db"
    state = {"experiment_id": "1", "experiment": "a", "runs": {"sweep": "0" * 32}, "files": []}
    lost = {"tracking_uri": uri, "described": [], "logged": {}, "ended": []}
    path = changed.folder / "mlflow.json"
    path.write_text(json.dumps(state | lost))
    try:
        message = refusal(register, load_best(changed.folder), exported, uri)
    finally:
        path.unlink()
    assert message == "MLflow has no run of the sweep; first: sweeps/track.py sweep"


def damage(path):
    path.write_bytes(path.read_bytes()[:100])


def test_a_checkpoint_that_is_gone_or_damaged_is_refused(changed):
    damage(changed.checkpoint)
    message = refusal(load_best, changed.folder)
    assert "the winner's checkpoint cannot be read" in message
    assert str(changed.checkpoint) in message
    changed.checkpoint.unlink()
    assert str(changed.checkpoint) in refusal(load_best, changed.folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_a_damaged_comparison_is_refused(changed, content):
    path = changed.folder / "comparison.json"
    path.write_text(content)
    assert str(path) in refusal(load_best, changed.folder)


def test_a_trials_table_that_lacks_the_winner_is_refused(changed):
    (changed.folder / "trials.parquet").unlink()
    assert BEST_TRIAL in refusal(load_best, changed.folder)


def test_an_export_is_scored_as_it_was_trained(sweep, exported):
    scores, recording = evaluate_export(exported, episodes=4, seed=3)
    task = sweep.trial.parameters.task
    expected, _ = evaluate(task, policy_by_seed(sweep, 1), jax.random.key(3), 4, action_repeat=2)
    assert scores == pytest.approx(jax.tree.map(float, vars(expected)), rel=1e-4)
    assert recording.horizon == 500
    start, second = recording.states[:2, 0]
    np.testing.assert_allclose(start, [0.0, 0.0, np.pi, 0.0], atol=0.1)
    assert second[0] == pytest.approx(start[0] + 0.02 * start[1], abs=1e-6)


def test_the_task_of_an_export_is_the_configs(sweep, exported, tmp_path):
    (tmp_path / "policy.safetensors").write_bytes((exported / "policy.safetensors").read_bytes())
    heavy = replace(sweep.config, constants={"gravity": 30.0})
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(heavy.to_dict()))
    assert evaluate_export(tmp_path, 4, 3)[0] != evaluate_export(exported, 4, 3)[0]


def test_what_cannot_be_scored_is_refused(exported, tmp_path):
    assert "config.yaml" in refusal(evaluate_export, tmp_path, 4, 0)
    (tmp_path / "config.yaml").write_bytes((exported / "config.yaml").read_bytes())
    assert "policy.safetensors" in refusal(evaluate_export, tmp_path, 4, 0)
    (tmp_path / "policy.safetensors").write_bytes(b"no policy")
    assert "policy.safetensors" in refusal(evaluate_export, tmp_path, 4, 0)
    assert "episodes is 0, but must be at least 1" in refusal(evaluate_export, exported, 0, 0)
    assert "seed is -1" in refusal(evaluate_export, exported, 4, -1)


def test_a_policy_of_another_task_of_the_same_size_is_refused(sweep, exported, tmp_path):
    (tmp_path / "policy.safetensors").write_bytes((exported / "policy.safetensors").read_bytes())
    other = replace(sweep.config, task="dmc_swingup", constants={})
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(other.to_dict()))
    assert "trained on swingup, but its config" in refusal(evaluate_export, tmp_path, 4, 0)


def test_a_policy_that_does_not_fit_its_task_is_refused(exported, tmp_path):
    from rlcore.policy import Policy

    (tmp_path / "config.yaml").write_bytes((exported / "config.yaml").read_bytes())
    one = np.ones((3, 1), np.float32)
    Policy((one,), (one[0],), "tanh", "swingup").save(tmp_path / "policy.safetensors")
    assert "policy.safetensors" in refusal(evaluate_export, tmp_path, 4, 0)
