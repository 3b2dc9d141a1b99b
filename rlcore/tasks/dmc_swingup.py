"""The cart-pole swing-up of the DeepMind Control Suite."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Key

from rlcore.tasks.dynamics import CartPoleState, hanging, smooth_score_rate


@struct.dataclass
class DMCSwingUp:
    """``cartpole-swingup`` of the Control Suite (Tassa et al. 2018), without its simulator.

    Observation: ``[x, cos theta, sin theta, x_dot, theta_dot]``.
    Action: one number, clipped to [-1, 1]; the force is ``force_limit`` times it.
    Termination: the cart leaves the rail, |x| > ``rail``; the suite's own bounces back there.
    Time limit: 1000 steps of 0.01 s.
    Starts, in training and evaluation alike: hanging at rest in the middle, disturbed by a
    standard deviation of 0.01.
    Score: the suite's smooth reward, mean over the horizon times 1000: its return.

    Units: masses kg, lengths m, inertia kg m^2, gravity m/s^2, force N, damping of the cart
    N s/m and of the hinge N m s.  ``half_length`` reaches to the pole's centre of mass, about
    which ``pole_inertia`` is taken.
    """

    cart_mass: float = 1.0
    pole_mass: float = 0.1
    half_length: float = 0.5
    pole_inertia: float = 0.00942459
    gravity: float = 9.81
    force_limit: float = 10.0
    cart_damping: float = 5e-4
    hinge_damping: float = 2e-6
    rail: float = 1.8

    name: ClassVar[str] = "dmc_swingup"
    horizon: ClassVar[int] = 1000
    dt: ClassVar[float] = 0.01
    observation_size: ClassVar[int] = 5
    action_size: ClassVar[int] = 1
    discrete: ClassVar[bool] = False
    start_names: ClassVar[tuple[str, str]] = ("hanging start", "hanging start")

    @property
    def hinge_inertia(self) -> float:
        """Moment of inertia of the pole about its hinge, kg m^2."""
        return self.pole_inertia + self.pole_mass * self.half_length**2

    def reset(self, key: Key[Array, ""], n: int) -> CartPoleState:
        """Returns ``n`` starts, hanging at rest; the key is consumed."""
        return hanging(key, n)

    def reset_evaluation(self, key: Key[Array, ""], n: int) -> CartPoleState:
        """Returns ``n`` starts as in training; the key is consumed."""
        return hanging(key, n)

    def step(self, state: CartPoleState, action: Float[Array, "*batch 1"]) -> CartPoleState:
        """Returns the state 0.01 s later, by one step of the classical Runge-Kutta method."""
        force = self.force_limit * jnp.clip(action[..., 0], -1.0, 1.0)
        k1 = self._rate(state, force)
        k2 = self._rate(_advance(state, k1, self.dt / 2.0), force)
        k3 = self._rate(_advance(state, k2, self.dt / 2.0), force)
        k4 = self._rate(_advance(state, k3, self.dt), force)
        mean = jax.tree.map(lambda a, b, c, d: (a + 2.0 * b + 2.0 * c + d) / 6.0, k1, k2, k3, k4)
        return _advance(state, mean, self.dt)

    def _rate(self, state: CartPoleState, force: Float[Array, "*batch"]) -> CartPoleState:
        """Returns the state's derivative: the two equations of motion, solved by Cramer's rule."""
        sin, cos = jnp.sin(state.theta), jnp.cos(state.theta)
        moment = self.pole_mass * self.half_length
        total_mass = self.cart_mass + self.pole_mass
        cart = force - self.cart_damping * state.x_dot + moment * jnp.square(state.theta_dot) * sin
        pole = moment * self.gravity * sin - self.hinge_damping * state.theta_dot
        determinant = total_mass * self.hinge_inertia - jnp.square(moment * cos)
        return CartPoleState(
            x=state.x_dot,
            x_dot=(self.hinge_inertia * cart - moment * cos * pole) / determinant,
            theta=state.theta_dot,
            theta_dot=(total_mass * pole - moment * cos * cart) / determinant,
        )

    def observe(self, state: CartPoleState) -> Float[Array, "*batch 5"]:
        """Returns ``[x, cos theta, sin theta, x_dot, theta_dot]``."""
        sin, cos = jnp.sin(state.theta), jnp.cos(state.theta)
        return jnp.stack([state.x, cos, sin, state.x_dot, state.theta_dot], axis=-1)

    def terminated(self, state: CartPoleState) -> Bool[Array, "*batch"]:
        """Returns whether the cart has left the rail."""
        return jnp.abs(state.x) > self.rail

    def score_rate(
        self, next_state: CartPoleState, action: Float[Array, "*batch 1"]
    ) -> Float[Array, "*batch"]:
        """Returns the suite's smooth reward of one step, in [0, 1]."""
        return smooth_score_rate(next_state, action)

    def force(self, action: Float[Array, "*batch 1"]) -> Float[Array, "*batch"]:
        """Returns the action itself."""
        return action[..., 0]


def _advance(state: CartPoleState, rate: CartPoleState, dt: float) -> CartPoleState:
    return jax.tree.map(lambda value, derivative: value + dt * derivative, state, rate)
