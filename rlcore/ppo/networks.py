"""Separate actor and critic."""

import math
from collections.abc import Callable, Sequence
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlcore.ppo.config import PPOConfig
from rlcore.types import PyTree

_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "swish": jax.nn.swish,
}


@jax.custom_vjp
def _transposed_product(kernel: Float[Array, "I O"], x: Float[Array, "I N"]) -> Float[Array, "O N"]:
    """Returns ``kernel.T @ x``, such that neither it nor its gradient contracts leading axes.

    XLA's CPU backend is up to eight times slower there.  With samples in columns only a kernel,
    which is small, is ever transposed, and the barrier makes that a copy of its own.
    """
    return jax.lax.optimization_barrier(kernel.T) @ x


def _transposed_product_forward(kernel: Array, x: Array) -> tuple[Array, tuple[Array, Array]]:
    return _transposed_product(kernel, x), (kernel, x)


def _transposed_product_backward(saved: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    kernel, x = saved
    grad = jax.lax.optimization_barrier(grad)
    return jax.lax.dot_general(x, grad, (((1,), (1,)), ((), ()))), kernel @ grad


_transposed_product.defvjp(_transposed_product_forward, _transposed_product_backward)


class Dense(nn.Module):
    """A layer over samples in columns, with orthogonal initial weights and zero biases."""

    width: int
    scale: float

    @nn.compact
    def __call__(self, x: Float[Array, "I N"]) -> Float[Array, "O N"]:
        """Returns the layer's output for each column of ``x``."""
        shape, dtype = (x.shape[0], self.width), jnp.result_type(float)
        kernel = self.param("kernel", nn.initializers.orthogonal(self.scale), shape, dtype)
        bias = self.param("bias", nn.initializers.zeros, self.width, dtype)
        return _transposed_product(kernel, x) + bias[:, None]


class MLP(nn.Module):
    """Dense layers; hidden ones are scaled by sqrt 2, the head by ``head_scale``."""

    hidden_sizes: tuple[int, ...]
    output_size: int
    activation: str
    head_scale: float

    @nn.compact
    def __call__(self, x: Float[Array, "*batch I"]) -> Float[Array, "*batch O"]:
        """Returns the head's output for each row of ``x``."""
        columns = jax.lax.optimization_barrier(x.reshape(-1, x.shape[-1]).T)
        for width in self.hidden_sizes:
            columns = Dense(width, math.sqrt(2.0))(columns)
            columns = _ACTIVATIONS[self.activation](columns)
        columns = Dense(self.output_size, self.head_scale)(columns)
        return columns.T.reshape(*x.shape[:-1], self.output_size)


def actor(config: PPOConfig, action_size: int) -> MLP:
    """Returns the network from observations to the parameters of the action's distribution."""
    return MLP(config.hidden_sizes, action_size, config.activation, head_scale=0.01)


def critic(config: PPOConfig) -> MLP:
    """Returns the network from observations to the value, one column wide."""
    return MLP(config.hidden_sizes, 1, config.activation, head_scale=1.0)


def policy_output(
    config: PPOConfig, params: PyTree, observation: Float[Array, "*batch O"], action_size: int
) -> Float[Array, "*batch A"]:
    """Returns what the actor says of each observation; ``distributions.py`` reads it."""
    output = actor(config, action_size).apply(params["network"], observation)
    return cast(Array, output)


def value(
    config: PPOConfig, params: PyTree, observation: Float[Array, "*batch O"]
) -> Float[Array, "*batch"]:
    """Returns the critic's value of each observation."""
    column = critic(config).apply(params, observation)
    return cast(Array, column)[..., 0]


def apply_layers(
    kernels: Sequence[Array], biases: Sequence[Array], activation: str, x: Float[Array, "*batch I"]
) -> Float[Array, "*batch O"]:
    """Returns what an ``MLP`` with these weights, as an exported policy holds them, returns."""
    for kernel, bias in zip(kernels[:-1], biases[:-1], strict=True):
        x = _ACTIVATIONS[activation](x @ kernel + bias)
    return x @ kernels[-1] + biases[-1]
