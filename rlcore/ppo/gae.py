"""Generalised advantage estimation."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def generalized_advantages(
    r_t: Float[Array, "T B"],
    v_t: Float[Array, "T B"],
    v_next_t: Float[Array, "T B"],
    terminated_t: Bool[Array, "T B"],
    truncated_t: Bool[Array, "T B"],
    *,
    gamma: Float[Array, ""] | float,
    gae_lambda: Float[Array, ""] | float,
) -> Float[Array, "T B"]:
    """Returns the advantages A_t (Schulman et al. 2016, equation 16).

        delta_t = r_t + gamma V(s_{t+1}) - V(s_t)
        A_t = delta_t + gamma lambda A_{t+1}

    At a termination V(s_{t+1}) counts as 0.  At a time limit it does not: ``v_next_t`` is the
    value of the episode's own last observation, never of the next episode's first.  The sum ends
    at both.
    """
    not_terminated = 1.0 - terminated_t.astype(r_t.dtype)
    continues = 1.0 - (terminated_t | truncated_t).astype(r_t.dtype)
    delta_t = r_t + gamma * not_terminated * v_next_t - v_t
    decay_t = gamma * gae_lambda * continues

    def step(advantage_tp1: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
        delta, decay = inputs
        advantage = delta + decay * advantage_tp1
        return advantage, advantage

    _, advantage_t = jax.lax.scan(step, jnp.zeros_like(r_t[0]), (delta_t, decay_t), reverse=True)
    return advantage_t
