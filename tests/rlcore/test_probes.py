"""Problems so small that their answers are known, learned by the whole of PPO.

After Andy Jones, "Debugging reinforcement learning systems" (2021), and Rejax: each needs one thing
more than the one before. A failure tells which part is broken. Task, discount and reward are all
traced, so one program learns them all.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from rlcore import rewards
from rlcore.ppo import networks
from rlcore.ppo.config import Hyperparameters, PPOConfig
from rlcore.ppo.train import policy_of
from rlcore.rewards import Term, make_reward_params
from rlcore.tasks.dynamics import CartPoleState
from tests.rlcore.small import fresh_state, train

ENDLESS = 1e9


@struct.dataclass
class Probe:
    """An episode is of one side, -1 or 1, which stands in ``x``; ``theta`` counts its steps.

    Observation: the side, and 0 in the first step, 1 in any other. Ends after ``steps``. Time
    limit: 2 steps.
    """

    steps: float = 1.0

    name = "probe"
    horizon = 2
    dt = 1.0
    observation_size = 2
    action_size = 1
    discrete = False

    def reset(self, key, n):
        rest = jnp.zeros(n)
        return CartPoleState(jax.random.rademacher(key, (n,), rest.dtype), rest, rest, rest)

    def reset_evaluation(self, key, n):
        return self.reset(key, n)

    def step(self, state, action):
        return state.replace(theta=state.theta + 1.0)

    def observe(self, state):
        return jnp.stack([state.x, jnp.minimum(state.theta, 1.0)], axis=-1)

    def terminated(self, state):
        return state.theta >= self.steps

    def score_rate(self, next_state, action):
        return jnp.zeros_like(next_state.x)

    def force(self, action):
        return action[..., 0]


PROBE_TERMS = {
    "one": Term(lambda task, state, action, after: jnp.ones_like(after.x)),
    "side": Term(lambda task, state, action, after: after.x),
    "late": Term(lambda task, state, action, after: (after.theta == 2.0).astype(after.x.dtype)),
    "near_half": Term(lambda task, state, action, after: -jnp.square(action[..., 0] - 0.5)),
    "near_side": Term(
        lambda task, state, action, after: -jnp.square(action[..., 0] - 0.5 * after.x)
    ),
}
CONFIG = PPOConfig(
    num_envs=16,
    rollout_length=8,
    num_minibatches=2,
    epochs=4,
    hidden_sizes=(16,),
    normalize_reward=False,
    updates_per_segment=100,
    seeds_per_trial=2,
    evaluation_episodes=3,
)
# Left at the start, right at the start, left later, right later.
OBSERVATIONS = jnp.array([[-1.0, 0.0], [1.0, 0.0], [-1.0, 1.0], [1.0, 1.0]])


@pytest.fixture
def learned(monkeypatch):
    """Values and mean actions [seed, observation] after learning a probe."""
    monkeypatch.setitem(rewards.TERMS, "probe", PROBE_TERMS)

    def learn(term, *, steps=1.0, gamma=0.5, **shape):
        task = Probe(steps)
        numbers = Hyperparameters(learning_rate=5e-3, gamma=gamma, budget=2 * 12800.0)
        state, metrics = train(
            fresh_state(CONFIG, task=task, hyperparameters=numbers),
            CONFIG,
            task=task,
            hyperparameters=numbers,
            reward=make_reward_params(PROBE_TERMS, {f"{term}.weight": 1.0, **shape}),
            segments=2,
        )
        np.testing.assert_array_equal(metrics.diverged, [0, 0])
        critic = networks.critic(CONFIG)
        values = jax.vmap(lambda params: critic.apply(params, OBSERVATIONS)[:, 0])
        actions = jax.vmap(lambda params: policy_of(CONFIG, task, params)(OBSERVATIONS)[:, 0])
        return np.asarray(values(state.params["critic"])), np.asarray(actions(state.params))

    return learn


def assert_learned(found, *expected):
    np.testing.assert_allclose(found[:, : len(expected)], [expected] * 2, atol=0.05)


def test_a_constant_reward(learned):
    """The value's loss and its optimiser: V = 1."""
    values, _ = learned("one")
    assert_learned(values, 1.0, 1.0)


def test_a_reward_that_depends_on_the_observation(learned):
    """The observation reaches the critic: V = -1 and 1."""
    values, _ = learned("side")
    assert_learned(values, -1.0, 1.0)


@pytest.mark.parametrize("gamma", [0.5, 0.9])
def test_a_reward_that_comes_a_step_late(learned, gamma):
    """Discounting: V = gamma, then 1."""
    values, _ = learned("late", steps=2.0, gamma=gamma)
    assert_learned(values, gamma, gamma, 1.0, 1.0)


def test_a_reward_that_depends_on_the_action(learned):
    """The policy's gradient: the mean action is 1/2 everywhere."""
    _, actions = learned("near_half")
    assert_learned(actions, 0.5, 0.5)


def test_a_reward_that_depends_on_both(learned):
    """The observation reaches the actor, advantages belong to their actions: half the side."""
    _, actions = learned("near_side")
    assert_learned(actions, -0.5, 0.5)


def test_a_time_limit_is_no_termination(learned):
    """An endless reward of 1: V = 1 + gamma + gamma^2 ... = 1 / (1 - gamma), not 1 + gamma."""
    values, _ = learned("one", steps=ENDLESS)
    assert_learned(values, 2.0, 2.0, 2.0, 2.0)


def test_a_potential_is_taken_off_the_value_with_gamma_and_across_time_limits(learned):
    """V - phi, with phi the side: 2 - (-1) and 2 - 1.  An episode cut short has no end to pay."""
    values, _ = learned("one", steps=ENDLESS, **{"side.potential": 1.0})
    assert_learned(values, 3.0, 1.0, 3.0, 1.0)


def test_a_time_limits_value_is_that_of_the_last_observation(learned):
    """Not of the next episode's first, whose side is another half of the time: V = -2 and 2."""
    values, _ = learned("side", steps=ENDLESS)
    assert_learned(values, -2.0, 2.0, -2.0, 2.0)
