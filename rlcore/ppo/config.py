"""What configures PPO: a static part (one compile per distinct value) and a traced part."""

import math
from dataclasses import dataclass, fields

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

ACTIVATIONS = ("tanh", "relu", "swish")
SHUFFLES = ("envs", "samples")
ADVANTAGE_NORMALIZATIONS = ("batch", "minibatch", "none")
MAX_COUNT = 1_000_000
MAX_LAYERS, MAX_WIDTH = 32, 65_536


@dataclass(frozen=True)
class PPOConfig:
    """Static config: whatever a shape, a loop length or a Python branch reads.

    Attributes:
        num_envs: environments stepped side by side, per seed.
        rollout_length: decisions per environment and update.
        num_minibatches: gradient steps per epoch.
        epochs: passes over each rollout.
        hidden_sizes: widths of the hidden layers, of actor and critic alike.
        activation: one of ``ACTIVATIONS``.
        shuffle: minibatches of whole environments (``envs``, faster) or of single samples.
        advantage_normalization: over the rollout, each minibatch, or not at all.
        normalize_reward: divide rewards by the running deviation of their discounted sum.
        clip_value: clip the value loss as well as the policy's, by the same ``clip_range`` in the
            unit of returns.
        action_repeat: simulation steps for which an action is held.
        updates_per_segment: PPO updates in one compiled segment.
        seeds_per_trial: seeds trained side by side.
        evaluation_episodes: episodes behind each score.
    """

    num_envs: int = 128
    rollout_length: int = 64
    num_minibatches: int = 8
    epochs: int = 4
    hidden_sizes: tuple[int, ...] = (64, 64)
    activation: str = "tanh"
    shuffle: str = "envs"
    advantage_normalization: str = "batch"
    normalize_reward: bool = True
    clip_value: bool = False
    action_repeat: int = 1
    updates_per_segment: int = 4
    seeds_per_trial: int = 2
    evaluation_episodes: int = 16

    def __post_init__(self) -> None:
        """Refuses what no program could be compiled from.

        Raises:
            ValueError: one plain line, what was given and what is allowed.
        """
        for entry in fields(self):
            name, value = entry.name, getattr(self, entry.name)
            if entry.type is bool and not isinstance(value, bool):
                raise ValueError(f"{name} is {value!r}; allowed: true, false")
            if entry.type is not int:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is {value!r}, but must be a whole number of at least 1")
            if value > MAX_COUNT:
                raise ValueError(f"{name} is {value}, but must be at most {MAX_COUNT:,}")
        if not self.hidden_sizes or any(type(n) is not int or n < 1 for n in self.hidden_sizes):
            raise ValueError(
                f"hidden_sizes is {self.hidden_sizes}; allowed: one or more widths >= 1"
            )
        if len(self.hidden_sizes) > MAX_LAYERS or max(self.hidden_sizes) > MAX_WIDTH:
            raise ValueError(
                f"hidden_sizes is {self.hidden_sizes}, but must be at most {MAX_LAYERS} widths of"
                f" at most {MAX_WIDTH:,}"
            )
        for name, allowed in _CHOICES.items():
            if not isinstance(getattr(self, name), str) or getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} is '{getattr(self, name)}'; allowed: {', '.join(allowed)}"
                )
        shuffled = "num_envs" if self.shuffle == "envs" else "num_envs x rollout_length"
        total = self.num_envs * (1 if self.shuffle == "envs" else self.rollout_length)
        if total % self.num_minibatches:
            nearest = _nearest_divisors(total, self.num_minibatches)
            raise ValueError(
                f"num_minibatches is {self.num_minibatches}, but must divide {shuffled} = {total};"
                f" {nearest}"
            )

    @property
    def steps_per_update(self) -> int:
        """Environment steps per seed in one update."""
        return self.num_envs * self.rollout_length

    @property
    def steps_per_segment(self) -> int:
        """Environment steps per seed in one segment."""
        return self.steps_per_update * self.updates_per_segment


_CHOICES = {
    "activation": ACTIVATIONS,
    "shuffle": SHUFFLES,
    "advantage_normalization": ADVANTAGE_NORMALIZATIONS,
}


def _nearest_divisors(total: int, wanted: int) -> str:
    small = [n for n in range(1, math.isqrt(total) + 1) if total % n == 0]
    divisors = [*small, *(total // n for n in small)]
    below = max(n for n in divisors if n < wanted)
    above = min((n for n in divisors if n > wanted), default=None)
    return f"the largest is {below}" if above is None else f"the nearest are {below} and {above}"


Scalar = Float[Array, ""] | float


@struct.dataclass
class Hyperparameters:
    """Traced scalars: they change arithmetic, never the program.

    ``learning_rate`` falls linearly to ``learning_rate_end`` over ``budget`` environment steps.
    With a ``weight_decay`` Adam is AdamW; it decays all parameters, also the policy's log
    deviation, towards 0.  Give ``as_arrays()`` to what is compiled: Python's numbers would be
    traced anew.
    """

    learning_rate: Scalar = 2e-3
    learning_rate_end: Scalar = 0.0
    gamma: Scalar = 0.99
    gae_lambda: Scalar = 0.95
    clip_range: Scalar = 0.2
    entropy_coef: Scalar = 0.0
    value_coef: Scalar = 0.5
    max_grad_norm: Scalar = 0.5
    init_log_std: Scalar = -0.5
    adam_eps: Scalar = 1e-5
    weight_decay: Scalar = 0.0
    budget: Scalar = 500_000.0

    def as_arrays(self) -> "Hyperparameters":
        """Returns the same numbers as arrays of the working precision: one trace for all."""
        return jax.tree.map(lambda value: jnp.asarray(value, dtype=float), self)


HYPERPARAMETERS = tuple(field.name for field in fields(Hyperparameters))
STATIC = tuple(field.name for field in fields(PPOConfig))
