"""Stepping the environments with the current policy, and what follows from the rewards."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Key

from rlcore.ppo import networks
from rlcore.ppo.config import PPOConfig
from rlcore.types import PyTree, StepOutput, Transition


@struct.dataclass
class EpisodeState:
    """What continues from one update to the next, per environment.

    ``length`` counts decisions; ``shaped_return`` and ``discounted_return`` are sums so far.
    """

    env: PyTree
    length: Float[Array, " B"]
    shaped_return: Float[Array, " B"]
    discounted_return: Float[Array, " B"]


def begin_episodes(task: Any, config: PPOConfig, key: Key[Array, ""]) -> EpisodeState:
    """Returns fresh episodes, as if begun at staggered times: time limits do not coincide."""
    zeros = jnp.zeros(config.num_envs)
    length = jnp.floor(jnp.linspace(0.0, task.horizon, config.num_envs, endpoint=False))
    return EpisodeState(task.reset(key, config.num_envs), length, zeros, zeros)


def collect(
    task: Any, config: PPOConfig, actor_params: PyTree, episodes: EpisodeState, key: Key[Array, ""]
) -> tuple[EpisodeState, Transition]:
    """Returns the episodes ``rollout_length`` decisions later, and the transitions [T, B].

    Noise and reset states of the whole rollout are drawn in one call each, outside the loop.
    """
    noise_key, reset_key = jax.random.split(key)
    shape = (config.rollout_length, config.num_envs)
    noise = jax.random.normal(noise_key, (*shape, task.action_size))
    fresh = jax.tree.map(
        lambda leaf: leaf.reshape(shape + leaf.shape[1:]),
        task.reset(reset_key, shape[0] * shape[1]),
    )
    std = jnp.exp(networks.clamp_log_std(actor_params["log_std"]))

    def step(carry: tuple[PyTree, Array], inputs: tuple[Array, PyTree]) -> tuple[Any, Transition]:
        (state, length), (noise_t, fresh_t) = carry, inputs
        mean = networks.action_mean(config, actor_params, task.observe(state), task.action_size)
        output = _step(task, state, length, mean + std * noise_t, noise_t, fresh_t)
        return (output.state, output.episode_length), output.transition

    (state, length), transitions = jax.lax.scan(
        step, (episodes.env, episodes.length), (noise, fresh)
    )
    return replace(episodes, env=state, length=length), transitions


def _step(
    task: Any, state: PyTree, length: Array, action: Array, noise: Array, fresh: PyTree
) -> StepOutput:
    """Advances every environment by one decision and begins anew those that ended."""
    next_state = task.step(state, action)
    terminated = task.terminated(next_state)
    truncated = (length + 1.0 >= task.horizon) & ~terminated
    ended = terminated | truncated
    continued = jax.tree.map(lambda new, old: jnp.where(ended, new, old), fresh, next_state)
    transition = Transition(state, action, noise, next_state, terminated, truncated)
    return StepOutput(continued, jnp.where(ended, 0.0, length + 1.0), transition)


@struct.dataclass
class EpisodeStatistics:
    """Running sums at each step, and where an episode ended."""

    length: Float[Array, "T B"]
    shaped_return: Float[Array, "T B"]
    discounted_return: Float[Array, "T B"]
    ended: Float[Array, "T B"]


def follow_returns(
    before: EpisodeState,
    after: EpisodeState,
    reward: Float[Array, "T B"],
    ended: Float[Array, "T B"],
    gamma: Float[Array, ""] | float,
) -> tuple[EpisodeState, EpisodeStatistics]:
    """Returns ``after`` with its running sums brought up to date, and the sums at each step.

    The sums at a step include its reward; they begin anew after the end of an episode.
    """
    continues = 1.0 - ended

    def step(carry: tuple[Array, ...], inputs: tuple[Array, Array]) -> tuple[Any, Any]:
        length, total, discounted = carry
        reward_t, continues_t = inputs
        sums = (length + 1.0, total + reward_t, gamma * discounted + reward_t)
        return tuple(value * continues_t for value in sums), sums

    first = (before.length, before.shaped_return, before.discounted_return)
    last, (length, total, discounted) = jax.lax.scan(step, first, (reward, continues))
    after = replace(after, shaped_return=last[1], discounted_return=last[2])
    return after, EpisodeStatistics(length, total, discounted, ended)
