"""A reward shape: terms, their weights and inner parameters, and how they combine.

Everything is a traced number, the way of combining included, so shapes of different structure
share one compiled program.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

COMBINATIONS = ("sum", "product")


@dataclass(frozen=True)
class Term:
    """One ingredient of a reward shape.

    Attributes:
        value: ``(task, state, action, next_state, **parameters) -> [*batch]``, unweighted.
        unit: maps the value to [0, 1] for products; None keeps the term out of products.
        parameters: names and defaults of the inner parameters (sharpness, gates, margins).
        searchable: whether a search space may name it.
    """

    value: Callable[..., Float[Array, "*batch"]]
    unit: Callable[[Array], Array] | None = None
    parameters: Mapping[str, float] = field(default_factory=dict)
    searchable: bool = True


@struct.dataclass
class RewardParams:
    """The traced numbers of one reward shape.

    Attributes:
        combine: index into ``COMBINATIONS``.
        weights: one number a term.
        switches: 1 for a term in use, 0 for one left out, whatever its weight.
        parameters: the terms' inner parameters.
    """

    combine: Int[Array, ""]
    weights: dict[str, Float[Array, ""]]
    switches: dict[str, Float[Array, ""]]
    parameters: dict[str, dict[str, Float[Array, ""]]]


def make_reward_params(terms: Mapping[str, Term], values: Mapping[str, Any]) -> RewardParams:
    """Returns the parameters of the shape that ``values`` describes.

    Args:
        terms: the task's table of terms.
        values: ``combine``, ``<term>.weight``, ``<term>.on`` and ``<term>.<parameter>``; a
            weight not named is 0, and an inner parameter not named has its default.

    Raises:
        ValueError: an unknown name or way of combining.
    """
    known = reward_names(terms)
    for name in values:
        if name not in known:
            raise ValueError(f"unknown reward parameter '{name}'; known: {', '.join(known)}")
    combine = values.get("combine", "sum")
    if combine not in COMBINATIONS:
        raise ValueError(f"combine is '{combine}'; allowed: {', '.join(COMBINATIONS)}")

    def number(name: str, default: float) -> Float[Array, ""]:
        return jnp.asarray(float(values.get(name, default)))

    return RewardParams(
        combine=jnp.asarray(COMBINATIONS.index(combine), jnp.int32),
        weights={name: number(f"{name}.weight", 0.0) for name in terms},
        switches={name: number(f"{name}.on", 1.0) for name in terms},
        parameters={
            name: {
                key: number(f"{name}.{key}", default) for key, default in term.parameters.items()
            }
            for name, term in terms.items()
        },
    )


def reward_names(terms: Mapping[str, Term]) -> list[str]:
    """Returns every name a reward shape over ``terms`` may set."""
    names = ["combine"]
    for name, term in terms.items():
        names += [f"{name}.weight", f"{name}.on", *(f"{name}.{key}" for key in term.parameters)]
    return names


def shaped_reward(
    terms: Mapping[str, Term],
    params: RewardParams,
    task: Any,
    state: Any,
    action: Float[Array, "*batch A"],
    next_state: Any,
) -> tuple[Float[Array, "*batch"], dict[str, Float[Array, "*batch"]]]:
    """Returns the reward of one step, and the unweighted value u_i of each term.

    sum: ``sum_i w_i u_i``.  product: ``prod_i (1 - w_i (1 - unit_i(u_i)))`` over the terms that
    have a map to [0, 1]; a weight of 0 takes a term out of both.
    """
    values = {
        name: term.value(task, state, action, next_state, **params.parameters[name])
        for name, term in terms.items()
    }
    weights = {name: params.weights[name] * params.switches[name] for name in terms}
    total = sum(weights[name] * value for name, value in values.items())
    product = jnp.ones_like(total)
    for name, term in terms.items():
        if term.unit is not None:
            product = product * (1.0 - weights[name] * (1.0 - term.unit(values[name])))
    return jax.lax.select_n(params.combine, total, product), values
