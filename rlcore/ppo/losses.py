"""The terms of PPO's objective (Schulman et al. 2017), each a mean over samples."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def policy_loss(
    ratio: Float[Array, " N"],
    advantage: Float[Array, " N"],
    clip_range: Float[Array, ""] | float,
) -> Float[Array, ""]:
    """Returns -E[min(r A, clip(r, 1 - eps, 1 + eps) A)]: equation 7, as a loss."""
    clipped = jnp.clip(ratio, 1.0 - clip_range, 1.0 + clip_range)
    return -jnp.mean(jnp.minimum(ratio * advantage, clipped * advantage))


def value_loss(value: Float[Array, " N"], target: Float[Array, " N"]) -> Float[Array, ""]:
    """Returns E[(V - target)^2] / 2."""
    return 0.5 * jnp.mean(jnp.square(value - target))


def clipped_value_loss(
    value: Float[Array, " N"],
    old_value: Float[Array, " N"],
    target: Float[Array, " N"],
    clip_range: Float[Array, ""] | float,
) -> Float[Array, ""]:
    """Returns E[max((V - target)^2, (clip(V) - target)^2)] / 2, V clipped around its old value."""
    clipped = old_value + jnp.clip(value - old_value, -clip_range, clip_range)
    worst = jnp.maximum(jnp.square(value - target), jnp.square(clipped - target))
    return 0.5 * jnp.mean(worst)


def approx_kl(log_ratio: Float[Array, " N"]) -> Float[Array, ""]:
    """Returns E[(r - 1) - log r], an unbiased low-variance estimate of KL(old || new)."""
    return jnp.mean(jnp.expm1(log_ratio) - log_ratio)


def clip_fraction(
    ratio: Float[Array, " N"], clip_range: Float[Array, ""] | float
) -> Float[Array, ""]:
    """Returns the share of samples whose ratio left the clip range."""
    return jnp.mean((jnp.abs(ratio - 1.0) > clip_range).astype(ratio.dtype))


def explained_variance(
    value: Float[Array, "*batch"], target: Float[Array, "*batch"]
) -> Float[Array, ""]:
    """Returns 1 - Var(target - V) / Var(target); 0 where the target does not vary."""
    variance = jnp.var(target)
    unexplained = jnp.var(target - value)
    return jnp.where(variance > 0, 1.0 - unexplained / jnp.where(variance > 0, variance, 1.0), 0.0)


def normalize_advantages(advantage: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Returns advantages of mean 0 and standard deviation 1."""
    return (advantage - jnp.mean(advantage)) / (jnp.std(advantage) + 1e-8)
