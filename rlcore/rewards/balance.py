"""Reward terms of the balancing task, and the five shapes of its notebook, on the next state."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rlcore.rewards.compose import Term, itself
from rlcore.tasks.balance import Balance
from rlcore.tasks.dynamics import CartPoleState

Action = Int[Array, "*batch 1"]
Value = Float[Array, "*batch"]
State = CartPoleState

_REACH = 0.2095  # rad and m, where angle and position are worth nothing


def _alive(task: Balance, state: State, action: Action, next_state: State) -> Value:
    return jnp.ones_like(next_state.theta)


def _angle(task: Balance, state: State, action: Action, next_state: State) -> Value:
    return 1.0 - jnp.abs(next_state.theta) / _REACH


def _position(task: Balance, state: State, action: Action, next_state: State) -> Value:
    return 1.0 - jnp.abs(next_state.x) / _REACH


def _kinetic(task: Balance, state: State, action: Action, next_state: State) -> Value:
    return -jnp.square(next_state.x_dot) - jnp.square(next_state.theta_dot)


def _task_score(task: Balance, state: State, action: Action, next_state: State) -> Value:
    return task.score_rate(next_state, action)


TERMS = {
    "alive": Term(_alive, unit=itself),
    "angle": Term(_angle, unit=itself),  # negative far out, unless ``clip`` is on
    "position": Term(_position, unit=itself),
    "kinetic": Term(_kinetic, unit=jnp.exp),
    "task_score": Term(_task_score, unit=itself, uses_action=True, searchable=False),
}

SHAPES: dict[str, dict[str, Any]] = {
    "survival": {"combine": "sum", "alive.weight": 1.0},
    "mean": {"combine": "mean", "angle.weight": 1.0, "position.weight": 1.0},
    "product": {"combine": "product", "angle.weight": 1.0, "position.weight": 1.0},
    "geometric": {"combine": "geometric", "angle.weight": 1.0, "position.weight": 1.0},
    "kinetic": {"combine": "sum", "alive.weight": 1.0, "kinetic.weight": 0.05},
    "task_score": {"combine": "sum", "task_score.weight": 1.0},
}
# What Gymnasium itself pays.
SHAPES["baseline"] = SHAPES["survival"]
