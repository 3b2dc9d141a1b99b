"""Trainings so small that a test can wait for them, shared so that each compiles once."""

from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlcore.ppo.config import Hyperparameters, PPOConfig
from rlcore.ppo.train import SegmentMetrics, TrainState, init_state, train_segment
from rlcore.rewards import SHAPES, TERMS, RewardParams, make_reward_params
from rlcore.tasks.swingup import SwingUp

TINY = PPOConfig(
    num_envs=4,
    rollout_length=8,
    num_minibatches=2,
    epochs=2,
    hidden_sizes=(8,),
    updates_per_segment=2,
    seeds_per_trial=2,
    evaluation_episodes=3,
)
SEEDS = (3, 7)


@cache
def golden(task: str) -> dict[str, np.ndarray]:
    """Returns the stored reference transitions of a task, in float64."""
    with np.load(Path(__file__).parents[1] / "golden" / f"{task}_reference.npz") as file:
        return {name: file[name] for name in file}


def swingup_reward(changes: Mapping[str, Any] | None = None) -> RewardParams:
    """Returns the hand-tuned reward shape with some of its numbers changed."""
    values = SHAPES["swingup"]["baseline"] | dict(changes or {})
    return make_reward_params(TERMS["swingup"], values)


def fresh_state(
    config: PPOConfig = TINY,
    *,
    task: Any = None,
    seeds: Sequence[int] = SEEDS,
    hyperparameters: Hyperparameters | None = None,
) -> TrainState:
    """Returns a state to train from; a number not given is a default."""
    numbers = (hyperparameters or Hyperparameters()).as_arrays()
    return init_state(config, task or SwingUp(), numbers, jnp.array(seeds))


def state_template(config: PPOConfig = TINY, *, seeds: Sequence[int] = SEEDS) -> TrainState:
    """Returns the shapes of a state without computing one."""
    numbers = Hyperparameters().as_arrays()
    return jax.eval_shape(partial(init_state, config, SwingUp()), numbers, jnp.array(seeds))


def train(
    state: TrainState,
    config: PPOConfig = TINY,
    *,
    task: Any = None,
    hyperparameters: Hyperparameters | None = None,
    reward: RewardParams | None = None,
    segments: int = 1,
) -> tuple[TrainState, SegmentMetrics]:
    """Returns the state and the metrics after some segments; the state given is donated."""
    numbers = (hyperparameters or Hyperparameters()).as_arrays()
    shape = reward if reward is not None else swingup_reward()
    for _ in range(segments):
        state, metrics, _ = train_segment(config, task or SwingUp(), state, numbers, shape)
    return state, metrics


def arrays(tree: Any) -> dict[str, np.ndarray]:
    """Returns a tree's leaves by path, keys as their bits."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): _bits(leaf) for path, leaf in leaves}


def assert_same_bits(one: Any, other: Any) -> None:
    """Asserts that two trees hold the same leaves to the last bit, NaN included."""
    ones, others = arrays(one), arrays(other)
    assert list(ones) == list(others)
    for path, array in ones.items():
        assert array.dtype == others[path].dtype, path
        np.testing.assert_array_equal(array, others[path], err_msg=path)


def _bits(leaf: Any) -> np.ndarray:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return np.asarray(jax.random.key_data(leaf))
    return np.asarray(leaf)
