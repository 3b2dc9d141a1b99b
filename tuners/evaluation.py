"""Scoring an exported policy."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlcore.evaluate import evaluate
from rlcore.policy import Policy
from rlcore.ppo.networks import apply_layers
from rlcore.video import Recording
from tuners.config import load_config
from tuners.space import BadInput
from tuners.trial import make_task, recording_of


def evaluate_export(folder: Path, episodes: int, seed: int) -> tuple[dict[str, float], Recording]:
    """Returns the score and its companions by name, and three episodes to look at.

    Args:
        folder: what ``tuners/export.py`` wrote.
        episodes: hanging starts behind the score.
        seed: decides the starts.

    Raises:
        BadInput: the folder holds no readable export, or ``episodes`` is not positive.
    """
    if episodes < 1:
        raise BadInput(f"episodes is {episodes}, but must be at least 1")
    if not 0 <= seed < 2**32:
        raise BadInput(f"seed is {seed}, but must be between 0 and {2**32 - 1}")
    config = load_config(folder / "config.yaml")
    try:
        policy = Policy.load(folder / "policy.safetensors")
    except (OSError, ValueError) as error:
        raise BadInput(f"policy {folder / 'policy.safetensors'} cannot be read: {error}") from error
    task = make_task(config)
    shape = (policy.kernels[0].shape[0], policy.kernels[-1].shape[1])
    if shape != (task.observation_size, task.action_size):
        raise BadInput(
            f"policy {folder / 'policy.safetensors'} takes {shape[0]} observations and gives"
            f" {shape[1]} actions, but {config.task} has {task.observation_size} and"
            f" {task.action_size}"
        )

    kernels, biases = [
        [jnp.asarray(array) for array in arrays] for arrays in (policy.kernels, policy.biases)
    ]

    @jax.jit
    def run(key: jax.Array) -> Any:
        def act(observation: jax.Array) -> jax.Array:
            return apply_layers(kernels, biases, policy.activation, observation)

        return evaluate(task, act, key, episodes)

    score, record = jax.device_get(run(jax.random.key(seed)))
    scores = {field.name: float(np.mean(getattr(score, field.name))) for field in fields(score)}
    return scores, recording_of(task, record)
