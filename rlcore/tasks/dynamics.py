"""The cart-pole's state and equations of motion."""

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float


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
