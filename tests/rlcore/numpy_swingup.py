"""The swing-up and its score once more, in NumPy, from the equations in the design alone.

Nothing here is imported from rlcore: where the two agree, both follow the equations.
"""

from collections.abc import Callable

import numpy as np

CART_MASS, POLE_MASS, HALF_LENGTH = 1.0, 0.1, 0.5
GRAVITY, FORCE_LIMIT = 9.8, 20.0
DT, RAIL, HORIZON = 0.02, 2.4, 500


def derivative(state: np.ndarray, action: np.ndarray) -> np.ndarray:
    """Time derivative [..., 4] of states (x, x_dot, theta, theta_dot) [..., 4], actions [...]."""
    _, x_dot, theta, theta_dot = np.moveaxis(state, -1, 0)
    force = FORCE_LIMIT * np.clip(action, -1.0, 1.0)
    sin, cos = np.sin(theta), np.cos(theta)
    total = CART_MASS + POLE_MASS
    temp = (force + POLE_MASS * HALF_LENGTH * theta_dot**2 * sin) / total
    theta_acc = (GRAVITY * sin - cos * temp) / (HALF_LENGTH * (4 / 3 - POLE_MASS * cos**2 / total))
    x_acc = temp - POLE_MASS * HALF_LENGTH * theta_acc * cos / total
    return np.stack([x_dot, x_acc, theta_dot, theta_acc], axis=-1)


def energy(state: np.ndarray) -> np.ndarray:
    """Kinetic and potential energy [...], J, of cart and uniform pole, from the hinge's height."""
    _, x_dot, theta, theta_dot = np.moveaxis(state, -1, 0)
    moment = POLE_MASS * HALF_LENGTH
    cart_and_pole = (CART_MASS + POLE_MASS) * x_dot**2 / 2
    coupling = moment * x_dot * theta_dot * np.cos(theta)
    turning = 2 / 3 * moment * HALF_LENGTH * theta_dot**2
    return cart_and_pole + coupling + turning + moment * GRAVITY * np.cos(theta)


def observe(state: np.ndarray) -> np.ndarray:
    """Observations [..., 5]."""
    x, x_dot, theta, theta_dot = np.moveaxis(state, -1, 0)
    return np.stack([x / 2.4, x_dot / 2, np.cos(theta), np.sin(theta), theta_dot / 3], axis=-1)


def tolerance(value: np.ndarray, margin: float) -> np.ndarray:
    """1 at 0, 0.1 at the margin."""
    return 10.0 ** -((value / margin) ** 2)


def score_rate(next_state: np.ndarray, action: np.ndarray) -> np.ndarray:
    """The Control Suite's smooth reward [...]."""
    x, _, theta, theta_dot = np.moveaxis(next_state, -1, 0)
    effort = np.clip(action, -1.0, 1.0) ** 2
    return (
        (1 + np.cos(theta))
        / 2
        * (1 + tolerance(x, 2.0))
        / 2
        * (4 + np.maximum(0.0, 1 - effort))
        / 5
        * (1 + tolerance(theta_dot, 5.0))
        / 2
    )


def simulate(policy: Callable[[np.ndarray], np.ndarray], start: np.ndarray) -> np.ndarray:
    """The scores [N] of a policy (observations [N, 5] -> actions [N, 1]) from starts [N, 4]."""
    state, alive, rates = start, np.ones(len(start)), np.zeros(len(start))
    for _ in range(HORIZON):
        action = policy(observe(state))[:, 0]
        state = state + DT * derivative(state, action)
        rates += alive * score_rate(state, action)
        alive *= np.abs(state[:, 0]) <= RAIL
    return 1000 * rates / HORIZON
