"""Cart-pole swing-up with a continuous force."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Key

from rlcore.tasks.dynamics import CartPoleState, euler_step, hanging, smooth_score_rate


@struct.dataclass
class SwingUp:
    """Swing a hanging pole up by pushing its cart, and keep it there.

    Observation: ``[x/2.4, x_dot/2, cos theta, sin theta, theta_dot/3]``.
    Action: one number, clipped to [-1, 1]; the force is ``force_limit`` times it.
    Termination: the cart leaves the rail, |x| > ``rail``.  Time limit: 500 steps of 0.02 s.
    Training starts: x ~ U(-1, 1), theta ~ U(0, 2 pi), at rest.
    Evaluation starts: hanging at rest in the middle, disturbed by a standard deviation of 0.01.
    Score: the Control Suite's smooth cart-pole reward (Tassa et al. 2018), mean over the horizon
    times 1000.

    Units: masses kg, lengths m, gravity m/s^2, force N.
    """

    cart_mass: float = 1.0
    pole_mass: float = 0.1
    half_length: float = 0.5
    gravity: float = 9.8
    force_limit: float = 20.0
    rail: float = 2.4

    name: ClassVar[str] = "swingup"
    horizon: ClassVar[int] = 500
    dt: ClassVar[float] = 0.02
    observation_size: ClassVar[int] = 5
    action_size: ClassVar[int] = 1
    discrete: ClassVar[bool] = False
    start_names: ClassVar[tuple[str, str]] = ("hanging start", "any angle")

    @property
    def hinge_inertia(self) -> float:
        """Moment of inertia of the pole about its hinge, kg m^2."""
        return 4.0 / 3.0 * self.pole_mass * self.half_length**2

    def reset(self, key: Key[Array, ""], n: int) -> CartPoleState:
        """Returns ``n`` training starts, from any angle; the key is consumed."""
        unit = jax.random.uniform(key, (2, n))
        rest = jnp.zeros(n)
        return CartPoleState(2.0 * unit[0] - 1.0, rest, 2.0 * jnp.pi * unit[1], rest)

    def reset_evaluation(self, key: Key[Array, ""], n: int) -> CartPoleState:
        """Returns ``n`` evaluation starts, hanging at rest; the key is consumed."""
        return hanging(key, n)

    def step(self, state: CartPoleState, action: Float[Array, "*batch 1"]) -> CartPoleState:
        """Returns the state 0.02 s later."""
        return euler_step(
            state,
            self.force_limit * jnp.clip(action[..., 0], -1.0, 1.0),
            cart_mass=self.cart_mass,
            pole_mass=self.pole_mass,
            half_length=self.half_length,
            gravity=self.gravity,
            dt=self.dt,
        )

    def observe(self, state: CartPoleState) -> Float[Array, "*batch 5"]:
        """Returns ``[x/2.4, x_dot/2, cos theta, sin theta, theta_dot/3]``."""
        return jnp.stack(
            [
                state.x / 2.4,
                state.x_dot / 2.0,
                jnp.cos(state.theta),
                jnp.sin(state.theta),
                state.theta_dot / 3.0,
            ],
            axis=-1,
        )

    def terminated(self, state: CartPoleState) -> Bool[Array, "*batch"]:
        """Returns whether the cart has left the rail."""
        return jnp.abs(state.x) > self.rail

    def score_rate(
        self, next_state: CartPoleState, action: Float[Array, "*batch 1"]
    ) -> Float[Array, "*batch"]:
        """Returns the Control Suite's smooth reward of one step, in [0, 1]."""
        return smooth_score_rate(next_state, action)

    def force(self, action: Float[Array, "*batch 1"]) -> Float[Array, "*batch"]:
        """Returns the action itself."""
        return action[..., 0]
