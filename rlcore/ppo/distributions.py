"""What the actor's output means: the mean of a Gaussian, or the logits of a choice.

Both families have the same methods.  ``params`` is the actor's part of the train state: its
network, and what ``extra_params`` returned.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from rlcore.ppo.config import Hyperparameters
from rlcore.types import PyTree

LOG_STD_RANGE = (-2.0, 0.5)


class Gaussian:
    """Independent Gaussians; the deviation is trained and does not depend on the state."""

    def extra_params(self, size: int, hyperparameters: Hyperparameters) -> dict[str, Array]:
        """Returns ``log_std`` [A]."""
        return {"log_std": jnp.full(size, hyperparameters.init_log_std)}

    def noise(self, key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "..."]:
        """Returns standard normal numbers."""
        return jax.random.normal(key, shape)

    def sample(
        self, params: PyTree, output: Float[Array, "*batch A"], noise: Float[Array, "*batch A"]
    ) -> Float[Array, "*batch A"]:
        """Returns the mean plus ``noise`` deviations."""
        return output + jnp.exp(params["log_std"]) * noise

    def mode(self, output: Float[Array, "*batch A"]) -> Float[Array, "*batch A"]:
        """Returns the mean."""
        return output

    def log_prob(
        self, params: PyTree, output: Float[Array, "*batch A"], action: Float[Array, "*batch A"]
    ) -> Float[Array, "*batch"]:
        """Returns the log density of each action."""
        log_std = params["log_std"]
        noise = (action - output) * jnp.exp(-log_std)
        return jnp.sum(-0.5 * jnp.square(noise) - log_std - 0.5 * math.log(2.0 * math.pi), axis=-1)

    def entropy(self, params: PyTree, output: Float[Array, "*batch A"]) -> Float[Array, ""]:
        """Returns the differential entropy, the same in every state."""
        return jnp.sum(params["log_std"] + 0.5 * math.log(2.0 * math.pi * math.e))

    def project(self, params: PyTree) -> PyTree:
        """Returns ``params`` after a gradient step with the deviation back in its range.

        Clamped where it is used, it would rest beyond the bound: the gradient there is zero.
        """
        return {**params, "log_std": jnp.clip(params["log_std"], *LOG_STD_RANGE)}


class Categorical:
    """A choice among A actions, told as an index in an axis of length 1."""

    def extra_params(self, size: int, hyperparameters: Hyperparameters) -> dict[str, Array]:
        """Returns nothing."""
        return {}

    def noise(self, key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "..."]:
        """Returns standard Gumbel numbers."""
        return jax.random.gumbel(key, shape)

    def sample(
        self, params: PyTree, output: Float[Array, "*batch A"], noise: Float[Array, "*batch A"]
    ) -> Int[Array, "*batch 1"]:
        """Returns the index of the largest disturbed logit (Maddison et al. 2014)."""
        return self.mode(output + noise)

    def mode(self, output: Float[Array, "*batch A"]) -> Int[Array, "*batch 1"]:
        """Returns the index of the largest logit."""
        return jnp.argmax(output, axis=-1, keepdims=True).astype(jnp.int32)

    def log_prob(
        self, params: PyTree, output: Float[Array, "*batch A"], action: Int[Array, "*batch 1"]
    ) -> Float[Array, "*batch"]:
        """Returns the log probability of each action."""
        # A product with a one-hot row: XLA's CPU backend is slow at gathering single numbers.
        chosen = jax.nn.one_hot(action[..., 0], output.shape[-1], dtype=output.dtype)
        return jnp.sum(chosen * jax.nn.log_softmax(output), axis=-1)

    def entropy(self, params: PyTree, output: Float[Array, "*batch A"]) -> Float[Array, ""]:
        """Returns the mean over states of -sum p log p."""
        log_p = jax.nn.log_softmax(output)
        return -jnp.mean(jnp.sum(jnp.exp(log_p) * log_p, axis=-1))

    def project(self, params: PyTree) -> PyTree:
        """Returns ``params``: logits have no bounds."""
        return params


def distribution_of(task: Any) -> Gaussian | Categorical:
    """Returns the family that fits the task's actions."""
    return Categorical() if task.discrete else Gaussian()
