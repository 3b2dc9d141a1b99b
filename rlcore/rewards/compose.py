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
from jaxtyping import Array, Bool, Float, Int, Num

COMBINATIONS = ("sum", "mean", "product", "geometric")
MULTIPLIED = ("product", "geometric")  # over the terms that have a map to [0, 1]
# Stands for a factor of 0 under a logarithm: with a small share of the weights, w, a geometric mean
# is then not 0 but _TINY**w of the other factors' (0.03 of it for a twentieth).
_TINY = 1e-30


@dataclass(frozen=True)
class Term:
    """One ingredient of a reward shape.

    Attributes:
        value: ``(task, state, action, next_state, **parameters) -> [*batch]``, unweighted.
        unit: maps the value to [0, 1], as products and geometric means take it; None keeps the
            term out of them.
        parameters: names and defaults of the inner parameters (sharpness, gates, margins).
        uses_action: whether the value depends on the action; a potential has no such term.
        searchable: whether a search space may name it.
    """

    value: Callable[..., Float[Array, "*batch"]]
    unit: Callable[[Array], Array] | None = None
    parameters: Mapping[str, float] = field(default_factory=dict)
    uses_action: bool = False
    searchable: bool = True


def itself(value: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Returns the value: the map to [0, 1] of a term that lies there already."""
    return value


@struct.dataclass
class RewardParams:
    """The traced numbers of one reward shape.

    Attributes:
        combine: index into ``COMBINATIONS``.
        clip: 1 to clip the factors of a product to [0, 1], 0 to take them as they are.
        weights: one number a term; 0 for one that is switched off.
        potentials: the weight of each term in the potential; none for those that use the action.
        parameters: the terms' inner parameters.
    """

    combine: Int[Array, ""]
    clip: Float[Array, ""]
    weights: dict[str, Float[Array, ""]]
    potentials: dict[str, Float[Array, ""]]
    parameters: dict[str, dict[str, Float[Array, ""]]]


def make_reward_params(terms: Mapping[str, Term], values: Mapping[str, Any]) -> RewardParams:
    """Returns the parameters of the shape that ``values`` describes.

    Args:
        terms: the task's table of terms.
        values: ``combine``, ``clip``, ``<term>.weight``, ``<term>.on``, ``<term>.potential`` and
            ``<term>.<parameter>``; a weight or potential not named is 0, and an inner parameter
            not named has its default.

    Raises:
        ValueError: an unknown name or way of combining.
    """
    known = reward_defaults(terms)
    for name in values:
        if name not in known:
            raise ValueError(f"unknown reward parameter '{name}'; known: {', '.join(known)}")
    shape = {**known, **values}
    if shape["combine"] not in COMBINATIONS:
        raise ValueError(f"combine is '{shape['combine']}'; allowed: {', '.join(COMBINATIONS)}")

    def number(name: str) -> Float[Array, ""]:
        return jnp.asarray(float(shape[name]))

    return RewardParams(
        combine=jnp.asarray(COMBINATIONS.index(shape["combine"]), jnp.int32),
        clip=number("clip"),
        weights={
            name: jnp.asarray(float(shape[f"{name}.weight"]) * bool(shape[f"{name}.on"]))
            for name in terms
        },
        potentials={
            name: number(f"{name}.potential")
            for name, term in terms.items()
            if not term.uses_action
        },
        parameters={
            name: {key: number(f"{name}.{key}") for key in term.parameters}
            for name, term in terms.items()
        },
    )


def reward_defaults(terms: Mapping[str, Term]) -> dict[str, Any]:
    """Returns every name a reward shape over ``terms`` may set, with what holds where it is not."""
    defaults: dict[str, Any] = {"combine": "sum", "clip": False}
    for name, term in terms.items():
        own = {"weight": 0.0, "on": True, **({} if term.uses_action else {"potential": 0.0})}
        defaults |= {f"{name}.{key}": value for key, value in {**own, **term.parameters}.items()}
    return defaults


def shaped_reward(
    terms: Mapping[str, Term],
    params: RewardParams,
    task: Any,
    state: Any,
    action: Num[Array, "*batch D"],
    next_state: Any,
    terminated: Bool[Array, "*batch"],
    *,
    gamma: Float[Array, ""] | float,
) -> tuple[Float[Array, "*batch"], dict[str, Float[Array, "*batch"]]]:
    """Returns the reward of one step, and the unweighted value u_i of each term.

    The terms' combination, with f_i = unit_i(u_i), clipped to [0, 1] if ``clip``:

    - sum: ``sum_i w_i u_i``
    - mean: ``sum_i w_i u_i / sum_i |w_i|``
    - product: ``prod_i (1 - w_i (1 - f_i))``
    - geometric: ``(prod_i f_i ^ w_i) ^ (1 / sum_i w_i)``, always clipped

    The last two are over the terms that have a map to [0, 1]; a weight of 0 takes a term out of
    each.  To it comes ``gamma phi(next_state) - phi(state)`` with the potential
    ``phi(s) = sum_i p_i u_i(s, s)``, which changes no optimal policy (Ng, Harada and Russell
    1999).  A terminal state's potential is 0, as that needs.

    Raises:
        TypeError: a term's value is no array of shape ``[*batch]``.
    """

    def value(name: str, state: Any, next_state: Any) -> Float[Array, "*batch"]:
        found = terms[name].value(task, state, action, next_state, **params.parameters[name])
        if (given := getattr(found, "shape", type(found).__name__)) != jnp.shape(terminated):
            raise TypeError(
                f"reward term '{name}' gives {given}, but must give the shape of its states,"
                f" {jnp.shape(terminated)}"
            )
        return found

    values = {name: value(name, state, next_state) for name in terms}
    combined = _combine(terms, params, values)
    continues = 1.0 - terminated.astype(combined.dtype)
    potential = sum(
        _weighed(
            weight,
            gamma * continues * value(name, next_state, next_state) - value(name, state, state),
        )
        for name, weight in params.potentials.items()
    )
    return combined + potential, values


def _combine(
    terms: Mapping[str, Term], params: RewardParams, values: dict[str, Float[Array, "*batch"]]
) -> Float[Array, "*batch"]:
    weights = params.weights
    total = sum(_weighed(weights[name], value) for name, value in values.items())
    mean = total / _or_one(sum(map(jnp.abs, weights.values()), jnp.zeros(())))
    product, logarithm, exponents = jnp.ones_like(total), jnp.zeros_like(total), jnp.zeros(())
    for name, term in terms.items():
        if term.unit is None:
            continue
        factor = term.unit(values[name])
        clipped = jnp.clip(factor, 0.0, 1.0)
        factor = jnp.where(params.clip > 0, clipped, factor)
        product = product * (1.0 - _weighed(weights[name], 1.0 - factor))
        logarithm = logarithm + _weighed(weights[name], jnp.log(jnp.maximum(clipped, _TINY)))
        exponents = exponents + weights[name]
    geometric = jnp.exp(logarithm / _or_one(exponents))
    return jax.lax.select_n(params.combine, total, mean, product, geometric)


def _weighed(weight: Float[Array, ""], value: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Returns their product; of a weight of 0 it is 0, even if the value is no number."""
    return weight * jnp.where(weight == 0, 0.0, value)


def _or_one(weight: Float[Array, ""]) -> Float[Array, ""]:
    """Returns the weight if it is above 0, else 1: of nothing, the mean is 0 as the sum is."""
    return jnp.where(weight > 0, weight, 1.0)
