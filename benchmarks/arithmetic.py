"""How fast a device multiplies matrices, and how many operations training takes: the limit."""

from collections.abc import Sequence
from itertools import pairwise


def operations_per_step(observations: int, actions: int, hidden: Sequence[int], epochs: int) -> int:
    """Returns the floating-point operations of the networks for each environment step.

    A rollout costs one pass of both networks; each epoch costs three passes of both, but for the
    gradient that nobody needs, to the observations.
    """
    actor, critic = (
        sum(2 * before * after for before, after in pairwise([observations, *hidden, outputs]))
        for outputs in (actions, 1)
    )
    gradient = 3 * (actor + critic) - 2 * 2 * observations * hidden[0]
    return epochs * gradient + actor + critic
