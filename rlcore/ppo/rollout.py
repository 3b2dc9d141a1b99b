"""Stepping the environments with the current policy, and what follows from the rewards."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Key, Num

from rlcore.ppo import networks
from rlcore.ppo.config import PPOConfig
from rlcore.ppo.distributions import distribution_of
from rlcore.types import PyTree, Transition


@struct.dataclass
class EpisodeState:
    """What continues from one update to the next, per environment.

    ``length`` counts decisions; the returns and ``score`` are sums so far.  ``whole`` is 0 in an
    episode that began part of the way through.
    """

    env: PyTree
    length: Float[Array, " B"]
    shaped_return: Float[Array, " B"]
    discounted_return: Float[Array, " B"]
    score: Float[Array, " B"]
    whole: Float[Array, " B"]


def begin_episodes(task: Any, config: PPOConfig, key: Key[Array, ""]) -> EpisodeState:
    """Returns fresh episodes, as if begun at staggered times: time limits do not coincide."""
    zeros = jnp.zeros(config.num_envs)
    decisions = task.horizon // config.action_repeat
    length = jnp.floor(jnp.linspace(0.0, decisions, config.num_envs, endpoint=False))
    whole = (length == 0.0).astype(length.dtype)
    return EpisodeState(task.reset(key, config.num_envs), length, zeros, zeros, zeros, whole)


def collect(
    task: Any, config: PPOConfig, actor_params: PyTree, episodes: EpisodeState, key: Key[Array, ""]
) -> tuple[EpisodeState, Transition]:
    """Returns the episodes ``rollout_length`` decisions later, and the transitions [T, B].

    Noise and reset states of the whole rollout are drawn in one call each, outside the loop.
    """
    noise_key, reset_key = jax.random.split(key)
    distribution = distribution_of(task)
    shape = (config.rollout_length, config.num_envs)
    decisions = task.horizon // config.action_repeat
    noise = distribution.noise(noise_key, (*shape, task.action_size))
    fresh = jax.tree.map(
        lambda leaf: leaf.reshape(shape + leaf.shape[1:]),
        task.reset(reset_key, shape[0] * shape[1]),
    )

    def step(carry: tuple[PyTree, Array], inputs: tuple[Array, PyTree]) -> tuple[Any, Transition]:
        (state, length), (noise_t, fresh_t) = carry, inputs
        output_t = networks.policy_output(
            config, actor_params, task.observe(state), task.action_size
        )
        action_t = distribution.sample(actor_params, output_t, noise_t)
        next_state, terminated = decide(task, config.action_repeat, state, action_t)
        truncated = (length + 1.0 >= decisions) & ~terminated
        ended = terminated | truncated
        begun = jax.tree.map(lambda new, old: jnp.where(ended, new, old), fresh_t, next_state)
        transition = Transition(state, output_t, action_t, next_state, terminated, truncated)
        return (begun, jnp.where(ended, 0.0, length + 1.0)), transition

    (state, length), transitions = jax.lax.scan(
        step, (episodes.env, episodes.length), (noise, fresh)
    )
    return replace(episodes, env=state, length=length), transitions


def decide(
    task: Any, action_repeat: int, state: PyTree, action: Num[Array, "*batch D"]
) -> tuple[PyTree, Bool[Array, "*batch"]]:
    """Returns the state after ``action_repeat`` simulation steps, and whether the task ended.

    A state in which it ended stays as it is.
    """
    state = task.step(state, action)
    terminated = task.terminated(state)
    for _ in range(action_repeat - 1):
        after = task.step(state, action)
        state = jax.tree.map(partial(jnp.where, terminated), state, after)
        terminated = terminated | task.terminated(state)
    return state, terminated


@struct.dataclass
class EpisodeStatistics:
    """Running sums at each step, and where a whole episode finished."""

    length: Float[Array, "T B"]
    shaped_return: Float[Array, "T B"]
    discounted_return: Float[Array, "T B"]
    score: Float[Array, "T B"]
    finished: Float[Array, "T B"]


def follow_returns(
    before: EpisodeState,
    after: EpisodeState,
    reward: Float[Array, "T B"],
    score_rate: Float[Array, "T B"],
    ended: Float[Array, "T B"],
    gamma: Float[Array, ""] | float,
) -> tuple[EpisodeState, EpisodeStatistics]:
    """Returns ``after`` with its running sums brought up to date, and the sums at each step.

    The sums at a step include its reward; they begin anew after the end of an episode.
    """

    def step(carry: tuple[Array, ...], inputs: tuple[Array, ...]) -> tuple[Any, Any]:
        length, total, discounted, score, whole = carry
        reward_t, score_rate_t, ended_t = inputs
        sums = (
            length + 1.0,
            total + reward_t,
            gamma * discounted + reward_t,
            score + score_rate_t,
        )
        begun = tuple(value * (1.0 - ended_t) for value in sums)
        return (*begun, jnp.maximum(whole, ended_t)), (*sums, whole * ended_t)

    first = (
        before.length,
        before.shaped_return,
        before.discounted_return,
        before.score,
        before.whole,
    )
    last, statistics = jax.lax.scan(step, first, (reward, score_rate, ended))
    after = replace(
        after, shaped_return=last[1], discounted_return=last[2], score=last[3], whole=last[4]
    )
    return after, EpisodeStatistics(*statistics)
