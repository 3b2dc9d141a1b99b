"""The registries of reward terms and named reward shapes, by task."""

from typing import Any

from rlcore.rewards import balance, swingup
from rlcore.rewards.compose import (
    COMBINATIONS,
    RewardParams,
    Term,
    make_reward_params,
    shaped_reward,
)

__all__ = [
    "COMBINATIONS",
    "SHAPES",
    "TERMS",
    "RewardParams",
    "Term",
    "make_reward_params",
    "shaped_reward",
]

TERMS: dict[str, dict[str, Term]] = {
    "swingup": swingup.TERMS,
    "balance": balance.TERMS,
    "dmc_swingup": swingup.TERMS,
}
SHAPES: dict[str, dict[str, dict[str, Any]]] = {
    "swingup": swingup.SHAPES,
    "balance": balance.SHAPES,
    "dmc_swingup": swingup.DMC_SHAPES,
}
