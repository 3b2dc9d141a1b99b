"""Gymnasium's CartPole-v1: keep a pole upright by pushing its cart left or right."""

import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int, Key

from rlcore.tasks.dynamics import CartPoleState, euler_step


@struct.dataclass
class Balance:
    """Keep the pole within 12 degrees of upright and the cart on its rail.

    Observation: ``[x, x_dot, theta, theta_dot]``.
    Action: 0 pushes to the left, 1 to the right, by ``force_limit``.
    Termination: |x| > ``rail`` or |theta| > ``max_angle``.  Time limit: 500 steps of 0.02 s.
    Starts, in training and evaluation alike: every number of the state ~ U(-0.05, 0.05).
    Score: the mean episode length over 500, times 1000.
    Source: CartPole-v1 of Gymnasium, after Barto, Sutton and Anderson 1983.

    Units: masses kg, lengths m, gravity m/s^2, force N, angle rad.
    """

    cart_mass: float = 1.0
    pole_mass: float = 0.1
    half_length: float = 0.5
    gravity: float = 9.8
    force_limit: float = 10.0
    rail: float = 2.4
    max_angle: float = 12.0 * math.pi / 180.0

    name: ClassVar[str] = "balance"
    horizon: ClassVar[int] = 500
    dt: ClassVar[float] = 0.02
    observation_size: ClassVar[int] = 4
    action_size: ClassVar[int] = 2
    discrete: ClassVar[bool] = True
    start_names: ClassVar[tuple[str, str]] = ("start", "start")

    def reset(self, key: Key[Array, ""], n: int) -> CartPoleState:
        """Returns ``n`` starts, nearly upright; the key is consumed."""
        return CartPoleState.from_array(jax.random.uniform(key, (n, 4), minval=-0.05, maxval=0.05))

    def reset_evaluation(self, key: Key[Array, ""], n: int) -> CartPoleState:
        """Returns ``n`` starts as in training; the key is consumed."""
        return self.reset(key, n)

    def step(self, state: CartPoleState, action: Int[Array, "*batch 1"]) -> CartPoleState:
        """Returns the state 0.02 s later."""
        return euler_step(
            state,
            self.force_limit * self.force(action),
            cart_mass=self.cart_mass,
            pole_mass=self.pole_mass,
            half_length=self.half_length,
            gravity=self.gravity,
            dt=self.dt,
        )

    def observe(self, state: CartPoleState) -> Float[Array, "*batch 4"]:
        """Returns ``[x, x_dot, theta, theta_dot]``."""
        return state.to_array()

    def terminated(self, state: CartPoleState) -> Bool[Array, "*batch"]:
        """Returns whether the cart has left the rail or the pole has fallen."""
        return (jnp.abs(state.x) > self.rail) | (jnp.abs(state.theta) > self.max_angle)

    def score_rate(
        self, next_state: CartPoleState, action: Int[Array, "*batch 1"]
    ) -> Float[Array, "*batch"]:
        """Returns 1: each step until the end counts, the one that ended included."""
        return jnp.ones_like(next_state.x)

    def force(self, action: Int[Array, "*batch 1"]) -> Float[Array, "*batch"]:
        """Returns -1 or 1."""
        return 2.0 * action[..., 0].astype(float) - 1.0
