"""Scoring an exported policy."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlcore.evaluate import evaluate
from rlcore.policy import Policy
from rlcore.ppo.distributions import distribution_of
from rlcore.ppo.networks import apply_layers
from rlcore.tasks import TASKS
from rlcore.video import Recording
from tuners.config import TrialConfig, load_config
from tuners.errors import BadInput
from tuners.programs import make_task
from tuners.progress import recording_of


def load_export(folder: Path) -> tuple[TrialConfig, Policy]:
    """Returns what ``tuners/export.py`` wrote into a folder.

    Raises:
        BadInput: the folder holds no readable export.
    """
    config = load_config(folder / "config.yaml")
    path = folder / "policy.safetensors"
    try:
        policy = Policy.load(path)
    except (OSError, ValueError) as error:
        raise BadInput(f"policy {path} cannot be read: {error}") from error
    if policy.task != config.task:
        raise BadInput(f"policy {path} was trained on {policy.task}, but its config: {config.task}")
    task = TASKS[config.task]
    shape = (policy.kernels[0].shape[0], policy.kernels[-1].shape[1])
    if shape != (task.observation_size, task.action_size):
        raise BadInput(
            f"policy {path} takes {shape[0]} observations and gives {shape[1]} actions, but"
            f" {config.task} has {task.observation_size} and {task.action_size}"
        )
    return config, policy


def check_episodes(episodes: int, seed: int) -> None:
    """Refuses numbers with which nothing can be evaluated.

    Raises:
        BadInput: which.
    """
    if episodes < 1:
        raise BadInput(f"episodes is {episodes}, but must be at least 1")
    if not 0 <= seed < 2**32:
        raise BadInput(f"seed is {seed}, but must be between 0 and {2**32 - 1}")


def evaluate_export(folder: Path, episodes: int, seed: int) -> tuple[dict[str, float], Recording]:
    """Returns the score and its companions by name, and three episodes to look at.

    Args:
        folder: what ``tuners/export.py`` wrote.
        episodes: evaluation starts behind the score.
        seed: decides the starts.

    Raises:
        BadInput: the folder holds no readable export, or ``episodes`` is not positive.
    """
    check_episodes(episodes, seed)
    config, policy = load_export(folder)
    task = make_task(config)
    kernels, biases = [
        [jnp.asarray(array) for array in arrays] for arrays in (policy.kernels, policy.biases)
    ]

    @jax.jit
    def run(key: jax.Array) -> Any:
        def act(observation: jax.Array) -> jax.Array:
            output = apply_layers(kernels, biases, policy.activation, observation)
            return distribution_of(task).mode(output)

        return evaluate(task, act, key, episodes, config.ppo.action_repeat)

    score, record = jax.device_get(run(jax.random.key(seed)))
    scores = {field.name: float(np.mean(getattr(score, field.name))) for field in fields(score)}
    return scores, recording_of(task, record)
