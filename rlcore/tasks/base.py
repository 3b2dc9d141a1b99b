"""The contract of a task: physics, resets, observation, termination, score.  Never a reward."""

from typing import ClassVar, Protocol, TypeVar

from jaxtyping import Array, Bool, Float, Key, Num

StateT = TypeVar("StateT")


class Task(Protocol[StateT]):
    """A stateless control task over batches of environments.

    A task is a frozen pytree: its physical constants are traced leaves, so that changing one
    compiles nothing anew.  ``horizon`` counts simulation steps of ``dt`` seconds.  Where the task
    is ``discrete`` an action is an index below ``action_size``, in an axis of length 1; where it
    is not, an action is one number (``action_size`` 1): within [-1, 1], what is beyond is clipped
    by ``step``.

    Evaluation and films know a cart and a pole: the state is a ``CartPoleState``, whose cart may
    stay at 0.  A score of 800 of 1000 counts as solved: scale ``score_rate`` such that it is.
    """

    rail: Float[Array, ""] | float  # m, to each side; a film draws it
    half_length: Float[Array, ""] | float  # m, of the pole

    name: ClassVar[str]
    horizon: ClassVar[int]
    dt: ClassVar[float]
    observation_size: ClassVar[int]
    action_size: ClassVar[int]
    discrete: ClassVar[bool]
    start_names: ClassVar[tuple[str, str]]  # of an evaluation start, and of a training start

    def reset(self, key: Key[Array, ""], n: int) -> StateT:
        """Returns ``n`` states to begin training episodes from; the key is consumed."""
        ...

    def reset_evaluation(self, key: Key[Array, ""], n: int) -> StateT:
        """Returns ``n`` states to begin evaluation episodes from; the key is consumed."""
        ...

    def step(self, state: StateT, action: Num[Array, "*batch D"]) -> StateT:
        """Returns the state one simulation step later."""
        ...

    def observe(self, state: StateT) -> Float[Array, "*batch O"]:
        """Returns what the policy sees."""
        ...

    def terminated(self, state: StateT) -> Bool[Array, "*batch"]:
        """Returns whether the task has ended in this state.  Time limits do not count."""
        ...

    def score_rate(
        self, next_state: StateT, action: Num[Array, "*batch D"]
    ) -> Float[Array, "*batch"]:
        """Returns the fitness of one step, in [0, 1].  Its mean over the horizon is the score."""
        ...

    def force(self, action: Num[Array, "*batch D"]) -> Float[Array, "*batch"]:
        """Returns the force that the action asks for, in units of the full force; not clipped."""
        ...
