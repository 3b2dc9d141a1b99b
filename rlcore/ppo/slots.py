"""Many trials in one program: each sits in a slot of stacked states [P, S, ...].

On a GPU, nets this small leave the device idle between kernels; a kernel over many trials takes
hardly longer than over one.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from rlcore.evaluate import Episodes
from rlcore.ppo.config import Hyperparameters, PPOConfig
from rlcore.ppo.train import SegmentMetrics, TrainState, train_one_segment
from rlcore.rewards import RewardParams
from rlcore.types import PyTree


@partial(jax.jit, static_argnums=0, donate_argnums=2)
def train_slots(
    config: PPOConfig,
    tasks: Any,
    states: TrainState,
    hyperparameters: Hyperparameters,
    reward_params: RewardParams,
    slots: Int[Array, " W"],
) -> tuple[TrainState, SegmentMetrics, Episodes]:
    """Returns all states, those in ``slots`` a segment later, and what these report [W, S, ...].

    Every argument but ``slots`` is stacked over P slots.  A trial learns what ``train_segment``
    teaches it alone, up to the rounding of batched products.  Where ``slots`` says P, nobody is
    trained: what is computed there is dropped, so one program serves any number of trials up to W.
    ``states`` is donated.
    """

    def flat(leaf: Array) -> Array:  # slots and seeds are one axis: fewer, larger operations
        return leaf.reshape(-1, *leaf.shape[2:])

    def per_seed(leaf: Array) -> Array:
        return jnp.repeat(leaf, config.seeds_per_trial, axis=0)

    def per_slot(leaf: Array) -> Array:
        return leaf.reshape(-1, config.seeds_per_trial, *leaf.shape[1:])

    occupied = _at(states, slots)
    shared = jax.tree.map(per_seed, _at((tasks, hyperparameters, reward_params), slots))
    task, numbers, reward = shared
    trained = jax.vmap(partial(train_one_segment, config))(
        task, jax.tree.map(flat, occupied), numbers, reward
    )
    after, metrics, episodes = jax.tree.map(per_slot, trained)
    states = jax.tree.map(lambda leaf, new: leaf.at[slots].set(new, mode="drop"), states, after)
    return states, metrics, episodes


def _at(stacked: PyTree, slots: Int[Array, " W"]) -> PyTree:
    return jax.tree.map(lambda leaf: leaf.at[slots].get(mode="clip"), stacked)


@partial(jax.jit, static_argnums=1)
def stack(entry: PyTree, slots: int) -> PyTree:
    """Returns a state, or parameters, for every slot: copies of ``entry``."""
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (slots, *jnp.shape(leaf))), entry)


@partial(jax.jit, donate_argnums=0)
def put_slot(stacked: PyTree, slot: Int[Array, ""] | int, entry: PyTree) -> PyTree:
    """Returns ``stacked``, which is donated, with ``entry`` in one slot."""
    return jax.tree.map(lambda leaf, new: leaf.at[slot].set(new), stacked, entry)


@jax.jit
def take_slot(stacked: PyTree, slot: Int[Array, ""] | int) -> PyTree:
    """Returns what is in one slot."""
    return jax.tree.map(lambda leaf: leaf[slot], stacked)
