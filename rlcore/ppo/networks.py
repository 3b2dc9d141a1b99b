"""Separate actor and critic, and the Gaussian policy."""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlcore.ppo.config import PPOConfig

LOG_STD_RANGE = (-2.0, 0.5)
_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "swish": jax.nn.swish,
}


class MLP(nn.Module):
    """Dense layers with orthogonal initial weights and zero biases.

    Hidden layers are scaled by sqrt 2, the head by ``head_scale``.
    """

    hidden_sizes: tuple[int, ...]
    output_size: int
    activation: str
    head_scale: float

    @nn.compact
    def __call__(self, x: Float[Array, "*batch I"]) -> Float[Array, "*batch O"]:
        """Returns the head's output for each row of ``x``."""
        for width in self.hidden_sizes:
            x = nn.Dense(width, kernel_init=nn.initializers.orthogonal(math.sqrt(2.0)))(x)
            x = _ACTIVATIONS[self.activation](x)
        return nn.Dense(
            self.output_size, kernel_init=nn.initializers.orthogonal(self.head_scale)
        )(x)


def actor(config: PPOConfig, action_size: int) -> MLP:
    """Returns the network from observations to the mean of the action."""
    return MLP(config.hidden_sizes, action_size, config.activation, head_scale=0.01)


def critic(config: PPOConfig) -> MLP:
    """Returns the network from observations to the value, one column wide."""
    return MLP(config.hidden_sizes, 1, config.activation, head_scale=1.0)


def clamp_log_std(log_std: Float[Array, " A"]) -> Float[Array, " A"]:
    """Returns the log standard deviation kept in ``LOG_STD_RANGE``."""
    return jnp.clip(log_std, *LOG_STD_RANGE)


def gaussian_log_prob(
    noise: Float[Array, "*batch A"], log_std: Float[Array, " A"]
) -> Float[Array, "*batch"]:
    """Returns the log density of actions that lie ``noise`` deviations from the mean."""
    return jnp.sum(-0.5 * jnp.square(noise) - log_std - 0.5 * math.log(2.0 * math.pi), axis=-1)


def gaussian_entropy(log_std: Float[Array, " A"]) -> Float[Array, ""]:
    """Returns the differential entropy of the policy, in nats."""
    return jnp.sum(log_std + 0.5 * math.log(2.0 * math.pi * math.e))
