"""The best configuration and policy of a sweep as files that need nothing of this project.

A new exporter is a function and a line in ``EXPORTERS``.
"""

import inspect
import json
import os
import secrets
import shutil
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import rlcore.policy
from rlcore.checkpoint import load_arrays
from rlcore.policy import Policy
from rlcore.tasks import TASKS
from rlcore.video import load_recording, write_video
from tuners.config import TrialConfig
from tuners.errors import BadInput
from tuners.final_table import interval_name
from tuners.layout import (
    RECORDING_FILE,
    STATE_FILE,
    TRIALS_FILE,
    video_path,
)
from tuners.login import whole_uri
from tuners.outputs import check_writable
from tuners.results import read_trials
from tuners.spec import check_is_search, load_spec
from tuners.store import fetch
from tuners.tracking import SUMMARY, read_state
from tuners.validate import best_seed, read_conclusion


@dataclass(frozen=True)
class Best:
    """What a sweep found.

    Attributes:
        folder: the sweep's.
        comparison: what ``comparison.json`` holds.
        config: the winner's.
        policy: the winner's best validation seed.
        seed: that seed.
        trial: the validation trial it was trained in.
        checkpoint: that trial's last, named within the sweep's folder.
    """

    folder: Path
    comparison: Mapping[str, Any]
    config: TrialConfig
    policy: Policy
    seed: int
    trial: str
    checkpoint: str


def load_best(folder: Path) -> Best:
    """Returns the winner of a finished sweep.

    Raises:
        BadInput: it is no search or has not finished, or its checkpoint is gone or damaged.
    """
    spec = load_spec(folder)
    needed = ("sweep", "winner", "table", "best_trial", "test_seeds", "config")
    comparison = read_conclusion(folder, spec.num_trials, *needed)
    if comparison is None:
        check_is_search(spec)
        raise BadInput(
            f"sweep '{folder.name}' has not finished: let the script that began it go on"
            f" with it (--resume {folder.name})"
        )
    name, config = comparison["best_trial"], TrialConfig.from_dict(comparison["config"])
    trial = {t["trial"]: t for t in read_trials(folder)}.get(name)
    if trial is None or trial["checkpoint"] is None:
        raise BadInput(f"{folder / TRIALS_FILE} lacks {name}; restore it from a copy")
    if comparison["winner"] not in comparison["table"]:
        raise BadInput(f"every test job of {comparison['winner']} failed: there is no best")
    try:
        state = fetch(folder, f"{trial['checkpoint']}/{STATE_FILE}")
        arrays, metadata = load_arrays(state)
        best, _ = best_seed(metadata["scores"])
        policy = policy_from_checkpoint(arrays, config, best)
        seed = metadata["seeds"][best]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        reason = error if isinstance(error, OSError | ValueError) else "it is of another config"
        raise BadInput(f"the winner's checkpoint cannot be read: {reason}") from error
    return Best(folder, comparison, config, policy, seed, trial["trial"], trial["checkpoint"])


def policy_from_checkpoint(
    arrays: Mapping[str, np.ndarray], config: TrialConfig, seed_index: int
) -> Policy:
    """Returns the deterministic policy of one seed in a checkpoint's arrays."""
    layers = range(len(config.ppo.hidden_sizes) + 1)
    prefix = "params/actor/network/params"
    return Policy(
        kernels=tuple(arrays[f"{prefix}/Dense_{i}/kernel"][seed_index] for i in layers),
        biases=tuple(arrays[f"{prefix}/Dense_{i}/bias"][seed_index] for i in layers),
        activation=config.ppo.activation,
        task=config.task,
        discrete=TASKS[config.task].discrete,
    )


def export(best: Best, out: Path) -> None:
    """Writes every export into the new folder ``out``; it appears when it is whole.

    Raises:
        BadInput: ``out`` exists, or cannot be written.
    """
    check_out(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = out.with_name(f".{out.name}.{secrets.token_hex(4)}.tmp")
    beside.mkdir()
    try:
        for name, write in EXPORTERS.items():
            write(best, beside / name)
        beside.rename(out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def check_out(out: Path) -> None:
    """Refuses a folder that exists or cannot be made.

    Raises:
        BadInput: which.
    """
    if os.path.lexists(out):
        raise BadInput(f"--out {out} exists; name a folder that does not")
    check_writable(out, "--out")


def _write_config(best: Best, path: Path) -> None:
    path.write_text(yaml.safe_dump(best.config.to_dict(), sort_keys=False))


def _write_policy(best: Best, path: Path) -> None:
    best.policy.save(path)


def _write_policy_code(best: Best, path: Path) -> None:
    shutil.copyfile(rlcore.policy.__file__, path)


def _write_statistics(best: Best, path: Path) -> None:
    path.write_text(json.dumps(best.comparison, indent=2))


def _write_video(best: Best, path: Path) -> None:
    """Shows the seed whose policy is exported."""
    drawn = video_path(best.folder, best.trial)
    if drawn.exists():
        shutil.copyfile(drawn, path)
    else:
        recording = fetch(best.folder, f"{best.checkpoint}/{RECORDING_FILE}")
        write_video(path, load_recording(recording))


def _write_readme(best: Best, path: Path) -> None:
    score = best.comparison["table"][best.comparison["winner"]]["final_score"]
    task = TASKS[best.config.task]
    path.write_text(
        _README.format(
            sweep=best.comparison["sweep"],
            winner=best.comparison["winner"],
            task=best.config.task,
            seed=best.seed,
            score=score["value"],
            low=score["low"],
            high=score["high"],
            seeds=best.comparison["test_seeds"],
            interval=interval_name(best.comparison["test_seeds"]),
            observation=task.observation_size,
            action="an index" if task.discrete else "in [-1, 1]",
            about=inspect.cleandoc(task.__doc__ or ""),
            held=f"{best.config.ppo.action_repeat * task.dt:g}",
            start=task.start_names[0],
            others=task.start_names[1],
        )
    )


_README = """# A policy for `{task}`

The winner (`{winner}`) of sweep `{sweep}`. Its configuration scored {score:.0f} of 1000
({interval} [{low:.0f}, {high:.0f}]) on {seeds} test seeds; this policy is the one of its best
validation seed ({seed}).

It runs with NumPy alone, in this folder:

    import numpy as np
    from policy import Policy

    policy = Policy.load("policy.safetensors")
    action = policy(np.zeros({observation}))   # [..., {observation}] -> [..., 1], {action}

It acts every {held} s on `{task}`. x is the cart's place, theta the pole's angle, 0 upright:

{about}

| file | what it is |
|---|---|
| `config.yaml` | what was trained; `python sweeps/train.py --config config.yaml` does it anew |
| `policy.safetensors` | the weights |
| `policy.py` | runs them |
| `test.json` | the test against the baseline and the score as reward |
| `video.mp4` | three episodes: {start}, {others}, {others} |
"""

EXPORTERS: dict[str, Callable[[Best, Path], None]] = {
    "config.yaml": _write_config,
    "policy.safetensors": _write_policy,
    "policy.py": _write_policy_code,
    "test.json": _write_statistics,
    "video.mp4": _write_video,
    "README.md": _write_readme,
}

# Joined to the source of ``rlcore/policy.py``: a model that needs NumPy and MLflow alone.
_MODEL_CODE = """

import mlflow


class PolicyModel(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        self.policy = Policy.load(context.artifacts["policy"])

    def predict(self, context, model_input: np.ndarray, params=None):
        return self.policy(np.asarray(model_input, dtype=np.float32))


mlflow.models.set_model(PolicyModel())
"""


def _is_there(run_id: str) -> bool:
    """Returns whether MLflow knows a run: a database may have been deleted, or set back."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        MlflowClient().get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
    return True


def register(best: Best, out: Path, tracking_uri: str) -> str:
    """Registers the exported policy as an MLflow model and logs the export in the summary run.

    Returns:
        The model's URI, for ``mlflow models predict -m``.

    Raises:
        Exception: whatever MLflow raises when it cannot be reached.
    """
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    mlflow.set_tracking_uri(whole_uri(tracking_uri))
    run_id = read_state(best.folder).get("runs", {}).get(SUMMARY)
    if run_id is None or not _is_there(run_id):
        name = best.folder.name
        raise BadInput(f"MLflow has no run of the sweep; first: sweeps/track.py {name}")
    size = TASKS[best.config.task].observation_size
    single, index = np.dtype(np.float32), np.dtype(np.int64)
    signature = ModelSignature(
        inputs=Schema([TensorSpec(single, (-1, size))]),
        outputs=Schema([TensorSpec(index if best.policy.discrete else single, (-1, 1))]),
    )
    with tempfile.TemporaryDirectory() as scratch:
        code = Path(scratch) / "policy_model.py"
        code.write_text(Path(rlcore.policy.__file__).read_text() + _MODEL_CODE)
        with mlflow.start_run(run_id=run_id), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice on signatures; this model states its own
            mlflow.log_artifacts(str(out), "best")
            model = mlflow.pyfunc.log_model(
                name="policy",
                python_model=str(code),
                artifacts={"policy": str(out / "policy.safetensors")},
                pip_requirements=[f"mlflow=={mlflow.__version__}", f"numpy=={np.__version__}"],
                signature=signature,
                registered_model_name=f"shapesweep-{best.config.task}",
            )
    return f"models:/shapesweep-{best.config.task}/{model.registered_model_version}"
