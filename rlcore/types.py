"""Types shared by the trainer.

Axis words in array annotations: T time, B environments, S seeds, P pack slots, N samples.
Arrays are time-major: ``[T, B, ...]``.  Precision follows JAX's x64 switch.
"""

import zlib
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Bool, Float, Key, Num

PyTree = Any


class Transition(NamedTuple):
    """One decision in every environment, as recorded by a rollout.

    ``output`` is what the actor said, ``action`` what was drawn from it.  ``next_state`` is the
    state that the decision led to, before any reset: the value of a time limit's last observation
    and the reward are computed from it.
    """

    state: PyTree
    output: Float[Array, "*batch A"]
    action: Num[Array, "*batch D"]
    next_state: PyTree
    terminated: Bool[Array, "*batch"]
    truncated: Bool[Array, "*batch"]


def named_key(key: Key[Array, ""], name: str) -> Key[Array, ""]:
    """Returns the random stream called ``name`` of ``key``.

    Adding a stream does not disturb the others, unlike another child of a split.
    """
    return jax.random.fold_in(key, zlib.crc32(name.encode()))
