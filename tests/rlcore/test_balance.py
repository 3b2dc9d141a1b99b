"""The balancing task and its five shapes, against stored transitions and the live Gymnasium."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore.rewards import SHAPES, TERMS, make_reward_params, shaped_reward
from rlcore.tasks.balance import Balance
from rlcore.tasks.dynamics import CartPoleState
from tests.rlcore.small import golden

TASK = Balance()
NOTEBOOK_SHAPES = ("survival", "mean", "product", "geometric", "kinetic")


@jax.jit
def stepped(states, actions):
    return TASK.step(CartPoleState.from_array(states), actions[..., None]).to_array()


@jax.jit
def rewarded(params, states, actions, next_states):
    before, after = CartPoleState.from_array(states), CartPoleState.from_array(next_states)
    ended = TASK.terminated(after)
    reward, _ = shaped_reward(
        TERMS["balance"], params, TASK, before, actions[..., None], after, ended, gamma=0.99
    )
    return reward


def test_steps_are_the_stored_ones_in_float64(x64, strict_ranks):
    next_states = stepped(
        jnp.asarray(golden("balance")["state"]), jnp.asarray(golden("balance")["action"])
    )
    np.testing.assert_allclose(next_states, golden("balance")["next_state"], rtol=0, atol=1e-10)
    terminated = TASK.terminated(CartPoleState.from_array(next_states))
    assert 0 < np.sum(terminated) < len(terminated)
    np.testing.assert_array_equal(terminated, golden("balance")["terminated"])


@pytest.mark.parametrize("shape", NOTEBOOK_SHAPES)
def test_rewards_are_the_stored_ones_in_float64(x64, strict_ranks, shape):
    params = make_reward_params(TERMS["balance"], SHAPES["balance"][shape])
    arrays = (jnp.asarray(golden("balance")[name]) for name in ("state", "action", "next_state"))
    reward = rewarded(params, *arrays)
    np.testing.assert_allclose(reward, golden("balance")[f"reward_{shape}"], rtol=0, atol=1e-10)


def test_the_five_shapes_share_one_trace():
    traced = []

    @jax.jit
    def reward_of(params):
        traced.append(params)
        state = CartPoleState.from_array(jnp.zeros(4))
        reward, _ = shaped_reward(
            TERMS["balance"],
            params,
            TASK,
            state,
            jnp.array([0]),
            state,
            jnp.array(False),
            gamma=1.0,
        )
        return reward

    for shape in NOTEBOOK_SHAPES:
        reward_of(make_reward_params(TERMS["balance"], SHAPES["balance"][shape]))
    assert len(traced) == 1


def test_transplanted_states_go_on_as_in_gymnasium(x64):
    """States of our own resets and random actions, put into the live environment."""
    environment = gymnasium.make("CartPole-v1").unwrapped
    environment.reset(seed=0)
    generator = np.random.default_rng(0)
    spread = [4.0, 3.0, 0.25, 3.0]
    ends = 0
    for _ in range(300):
        state = generator.uniform(-1, 1, 4) * spread
        environment.state = tuple(state)
        environment.steps_beyond_terminated = None
        action = int(generator.integers(2))
        _, reward, terminated, _, _ = environment.step(action)
        after = stepped(jnp.asarray(state), jnp.asarray(action))
        np.testing.assert_allclose(after, environment.state, rtol=0, atol=1e-12)
        assert bool(TASK.terminated(CartPoleState.from_array(after))) is bool(terminated)
        assert reward == 1.0
        ends += terminated
    assert 0 < ends < 300


def test_starts_lie_in_gymnasiums_box():
    start = np.asarray(TASK.reset(jax.random.key(0), 4000).to_array())
    assert np.all(np.abs(start) <= 0.05)
    np.testing.assert_allclose(np.std(start, axis=0), 0.1 / np.sqrt(12), rtol=0.05)


def test_the_score_is_the_mean_episode_length():
    """Always pushing to the right topples the pole after about ten steps."""
    from rlcore.evaluate import evaluate

    score, _ = evaluate(
        TASK, lambda seen: jnp.ones((*seen.shape[:-1], 1), jnp.int32), jax.random.key(0), 32
    )
    assert 8 <= score.episode_length <= 11
    np.testing.assert_allclose(score.score, 1000 * score.episode_length / 500, rtol=1e-5)
