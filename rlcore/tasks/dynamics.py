"""What the cart-pole tasks share: state, motion of a frictionless pole, the smooth score."""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Key

Scalar = Float[Array, ""] | float


@struct.dataclass
class CartPoleState:
    """Position and velocity of cart and pole.  ``theta`` = 0 is upright.

    Units: x in m, x_dot in m/s, theta in rad, theta_dot in rad/s.
    """

    x: Float[Array, "*batch"]
    x_dot: Float[Array, "*batch"]
    theta: Float[Array, "*batch"]
    theta_dot: Float[Array, "*batch"]

    @classmethod
    def from_array(cls, values: Float[Array, "*batch 4"]) -> "CartPoleState":
        """Returns the state whose columns are (x, x_dot, theta, theta_dot)."""
        return cls(*(values[..., i] for i in range(4)))

    def to_array(self) -> Float[Array, "*batch 4"]:
        """Returns the columns (x, x_dot, theta, theta_dot)."""
        return jnp.stack([self.x, self.x_dot, self.theta, self.theta_dot], axis=-1)


def tolerance(
    value: Float[Array, "*batch"], margin: Float[Array, ""] | float
) -> Float[Array, "*batch"]:
    """Returns exp(-(value/margin)^2 ln 10): 1 at 0, and 0.1 at the margin."""
    return jnp.exp(-jnp.square(value / margin) * jnp.log(10.0))


def euler_step(
    state: CartPoleState,
    force: Float[Array, "*batch"],
    *,
    cart_mass: Scalar,
    pole_mass: Scalar,
    half_length: Scalar,
    gravity: Scalar,
    dt: float,
) -> CartPoleState:
    """Returns the state ``dt`` later, by one explicit Euler step.

    Positions advance with the old velocities (Barto, Sutton and Anderson 1983, as in Gym).
    Units: force N, masses kg, half length of the pole m, gravity m/s^2, dt s.
    """
    sin, cos = jnp.sin(state.theta), jnp.cos(state.theta)
    total_mass, pole_moment = cart_mass + pole_mass, pole_mass * half_length
    temp = (force + pole_moment * jnp.square(state.theta_dot) * sin) / total_mass
    theta_acc = (gravity * sin - cos * temp) / (
        half_length * (4.0 / 3.0 - pole_mass * jnp.square(cos) / total_mass)
    )
    x_acc = temp - pole_moment * theta_acc * cos / total_mass
    return CartPoleState(
        x=state.x + dt * state.x_dot,
        x_dot=state.x_dot + dt * x_acc,
        theta=state.theta + dt * state.theta_dot,
        theta_dot=state.theta_dot + dt * theta_acc,
    )


def smooth_score_rate(
    state: CartPoleState, action: Float[Array, "*batch 1"]
) -> Float[Array, "*batch"]:
    """Returns the Control Suite's smooth cart-pole reward (Tassa et al. 2018), in [0, 1]."""
    effort = jnp.square(jnp.clip(action[..., 0], -1.0, 1.0))
    upright = (1.0 + jnp.cos(state.theta)) / 2.0
    centred = (1.0 + tolerance(state.x, 2.0)) / 2.0
    gentle = (4.0 + jnp.maximum(0.0, 1.0 - effort)) / 5.0
    calm = (1.0 + tolerance(state.theta_dot, 5.0)) / 2.0
    return upright * centred * gentle * calm


def hanging(key: Key[Array, ""], n: int) -> CartPoleState:
    """Returns ``n`` states hanging at rest in the middle, disturbed by a deviation of 0.01."""
    noise = 0.01 * jax.random.normal(key, (n, 4))
    return CartPoleState.from_array(noise + jnp.array([0.0, 0.0, jnp.pi, 0.0]))
