"""Score and episode statistics of a policy.  No reward parameter in any signature."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Key, Num

from rlcore.types import PyTree

SHOWN_EPISODES = 3
UPRIGHT_COS = 0.95


@struct.dataclass
class Score:
    """The task's own fitness and its companions, means over evaluation episodes.

    Attributes:
        score: in [0, 1000].
        upright_fraction: share of the last half of the horizon spent with cos theta > 0.95.
        episode_length: simulation steps until the episode was terminated, or the horizon.
        time_to_upright: seconds until cos theta first exceeds 0.95; the horizon's if never.
        distance: metres travelled by the cart.
    """

    score: Float[Array, ""]
    upright_fraction: Float[Array, ""]
    episode_length: Float[Array, ""]
    time_to_upright: Float[Array, ""]
    distance: Float[Array, ""]


@struct.dataclass
class Episodes:
    """Some evaluation episodes step by step, for drawing.

    States hold their columns (x, x_dot, theta, theta_dot); actions are in units of the full force,
    not clipped; score rates are 0 after a termination; lengths count simulation steps up to and
    including the one that terminated.
    """

    states: Float[Array, "T1 N 4"]
    actions: Float[Array, "T N"]
    score_rates: Float[Array, "T N"]
    lengths: Float[Array, " N"]


def evaluate(
    task: Any,
    policy: Callable[[Float[Array, "N O"]], Num[Array, "N D"]],
    key: Key[Array, ""],
    episodes: int,
    action_repeat: int = 1,
) -> tuple[Score, Episodes]:
    """Returns the score of a deterministic policy, and three episodes to look at.

    The score comes from ``episodes`` evaluation starts.  Shown are the first of them and two
    training starts, which do not count.  Each action is held for ``action_repeat`` simulation
    steps, which must divide the horizon.  The key is consumed.
    """
    scored_key, shown_key = jax.random.split(key)
    start = jax.tree.map(
        lambda *leaves: jnp.concatenate(leaves),
        task.reset_evaluation(scored_key, episodes),
        task.reset(shown_key, SHOWN_EPISODES - 1),
    )
    shown = jnp.array([0, *range(episodes, episodes + SHOWN_EPISODES - 1)])

    def simulate(carry: tuple[PyTree, Array], action: Array) -> tuple[Any, Any]:
        state, alive = carry
        next_state = task.step(state, action)
        rate = task.score_rate(next_state, action) * alive
        still = alive * (1.0 - task.terminated(next_state).astype(alive.dtype))
        frozen = jax.tree.map(lambda new, old: jnp.where(alive > 0, new, old), next_state, state)
        return (frozen, still), (frozen, rate, alive, task.force(action)[shown])

    def decision(carry: tuple[PyTree, Array], nothing: None) -> tuple[Any, Any]:
        action = policy(task.observe(carry[0]))
        steps = []
        for _ in range(action_repeat):
            carry, recorded = simulate(carry, action)
            steps.append(recorded)
        return carry, jax.tree.map(lambda *leaves: jnp.stack(leaves), *steps)

    alive = jnp.ones(episodes + SHOWN_EPISODES - 1)
    _, history = jax.lax.scan(decision, (start, alive), None, length=task.horizon // action_repeat)
    states, rates, alive_t, actions = jax.tree.map(
        lambda leaf: leaf.reshape(-1, leaf.shape[-1]), history
    )
    record = Episodes(
        states=jnp.concatenate([start.to_array()[None, shown], states.to_array()[:, shown]]),
        actions=actions,
        score_rates=rates[:, shown],
        lengths=jnp.sum(alive_t, axis=0)[shown],
    )
    counted = jax.tree.map(lambda leaf: leaf[:, :episodes], (states, rates, alive_t))
    return _score(task, jax.tree.map(lambda leaf: leaf[:episodes], start), *counted), record


def _score(task: Any, start: PyTree, states: PyTree, rates: Array, alive: Array) -> Score:
    upright = (jnp.cos(states.theta) > UPRIGHT_COS) & (alive > 0)
    first = jnp.where(jnp.any(upright, axis=0), jnp.argmax(upright, axis=0) + 1, task.horizon)
    steps = jnp.diff(states.x, axis=0, prepend=start.x[None])
    return Score(
        score=1000.0 * jnp.mean(rates),
        upright_fraction=jnp.mean(upright[task.horizon // 2 :].astype(rates.dtype)),
        episode_length=jnp.mean(jnp.sum(alive, axis=0)),
        time_to_upright=jnp.mean(first * task.dt),
        distance=jnp.mean(jnp.sum(jnp.abs(steps), axis=0)),
    )
