"""Scores of a task that coasts, so that every number is known."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from rlcore import evaluate as evaluate_module
from rlcore.evaluate import SHOWN_EPISODES, evaluate
from rlcore.rewards import RewardParams
from rlcore.tasks.dynamics import CartPoleState
from rlcore.tasks.swingup import SwingUp

HORIZON = 10


@struct.dataclass
class Coasting:
    """Cart and pole keep their velocities; the score rate is the action, and the rail 1 m."""

    starts: jax.Array
    others: jax.Array

    name = "coasting"
    horizon = HORIZON
    dt = 0.1
    observation_size = 2
    action_size = 1
    discrete = False

    def reset_evaluation(self, key, n):
        return CartPoleState.from_array(self.starts)

    def reset(self, key, n):
        return CartPoleState.from_array(self.others[:n])

    def step(self, state, action):
        return state.replace(
            x=state.x + self.dt * state.x_dot, theta=state.theta + self.dt * state.theta_dot
        )

    def observe(self, state):
        return jnp.stack([state.x, state.theta], axis=-1)

    def terminated(self, state):
        return jnp.abs(state.x) > 1.0

    def score_rate(self, next_state, action):
        return action[..., 0]

    def force(self, action):
        return action[..., 0]


HANGING = [0.0, 0.0, np.pi, 0.0]


def evaluated(*starts, policy=None, others=(HANGING, HANGING), action_repeat=1):
    task = Coasting(jnp.array(starts), jnp.array(others))
    policy = policy or (lambda observation: jnp.ones((*observation.shape[:-1], 1)))
    score, episodes = evaluate(task, policy, jax.random.key(0), len(starts), action_repeat)
    return jax.tree.map(float, score), jax.tree.map(np.asarray, episodes)


def test_a_perfect_episode_scores_1000():
    score, _ = evaluated(HANGING)
    assert score.score == pytest.approx(1000.0)
    assert score.episode_length == HORIZON


def test_an_action_is_held_and_an_episode_may_end_while_it_is():
    # 0.05 m a step; the policy sees every second one, and the score rate is its action.
    _, episodes = evaluated(
        [0.0, 0.5, np.pi, 0.0], policy=lambda x: 2.0 * x[..., :1], action_repeat=2
    )
    held = [0.0, 0.0, 0.2, 0.2, 0.4, 0.4, 0.6, 0.6, 0.8, 0.8]
    np.testing.assert_allclose(episodes.actions[:, 0].ravel(), held, atol=1e-6)
    # 0.25 m a step: beyond 1 m with the fifth, the first of a decision's two.
    score, episodes = evaluated([0.0, 2.5, np.pi, 0.0], action_repeat=2)
    assert score.score == pytest.approx(500.0)
    assert score.episode_length == 5.0
    np.testing.assert_array_equal(episodes.lengths[0], 5)
    np.testing.assert_array_equal(episodes.score_rates[:, 0], [1.0] * 5 + [0.0] * 5)


def test_steps_after_a_termination_count_nothing():
    # 0.25 m a step: beyond 1 m with the fifth, which still counts.
    score, episodes = evaluated([0.0, 2.5, np.pi, 0.0])
    assert score.score == pytest.approx(500.0)
    assert score.episode_length == 5.0
    np.testing.assert_array_equal(episodes.lengths[0], 5)
    np.testing.assert_array_equal(episodes.score_rates[:, 0], [1.0] * 5 + [0.0] * 5)
    assert score.distance == pytest.approx(1.25)


def test_the_score_is_the_mean_over_episodes():
    score, _ = evaluated(HANGING, [0.0, 2.5, np.pi, 0.0], [0.0, -2.5, np.pi, 0.0], HANGING)
    assert score.score == pytest.approx(750.0)
    assert score.episode_length == pytest.approx(7.5)
    assert score.distance == pytest.approx(0.625)


def test_the_policy_sees_the_observation_and_its_actions_are_kept():
    # x = 0, 0.05 ... : the action, so the rate, is twice the position before each step.
    score, episodes = evaluated([0.0, 0.5, 1.0, 0.0], policy=lambda o: 2.0 * o[..., :1])
    np.testing.assert_allclose(episodes.actions[:, 0], 0.1 * np.arange(HORIZON), atol=1e-6)
    assert score.score == pytest.approx(450.0)


def test_upright_fraction_is_of_the_last_half():
    always, _ = evaluated([0.0, 0.0, 0.0, 0.0])
    assert always.upright_fraction == 1.0
    # cos(0.32) < 0.95 < cos(0.31). Leaving at 0.06 a step: after 5 steps 0.3, later beyond.
    early, _ = evaluated([0.0, 0.0, 0.0, 0.6])
    assert early.upright_fraction == 0.0
    # Arriving: 0.6, 0.55 ... after 5 steps 0.35, then 0.3 and nearer: the last five.
    late, _ = evaluated([0.0, 0.0, 0.6, -0.5])
    assert late.upright_fraction == 1.0
    half, _ = evaluated([0.0, 0.0, 0.0, 0.0], HANGING)
    assert half.upright_fraction == 0.5


def test_an_episode_that_ended_is_not_upright():
    ended, _ = evaluated([0.0, 2.5, 0.0, 0.0])
    assert ended.upright_fraction == 0.0


def test_time_to_upright():
    at_once, _ = evaluated([0.0, 0.0, 0.0, 0.0])
    assert at_once.time_to_upright == pytest.approx(0.1)  # after the first step
    never, _ = evaluated(HANGING)
    assert never.time_to_upright == pytest.approx(1.0)  # the whole horizon
    # 0.6 - 0.05 n < 0.3176 with the sixth step; one of two: the mean.
    arriving, _ = evaluated([0.0, 0.0, 0.6, -0.5], HANGING)
    assert arriving.time_to_upright == pytest.approx((0.6 + 1.0) / 2)
    # Upright only after the cart has left the rail does not count.
    too_late, _ = evaluated([0.0, 4.0, 0.6, -0.5])
    assert too_late.time_to_upright == pytest.approx(1.0)


def test_distance_is_travelled_not_net():
    there_and_back, _ = evaluated([0.0, 0.5, np.pi, 0.0], [0.0, -0.5, np.pi, 0.0])
    assert there_and_back.distance == pytest.approx(0.5)


def test_shown_episodes_do_not_count():
    lost = [0.0, 50.0, np.pi, 0.0]
    score, episodes = evaluated(HANGING, HANGING, others=(lost, lost))
    assert score.score == pytest.approx(1000.0)
    np.testing.assert_array_equal(episodes.lengths, [HORIZON, 1, 1])


def test_shown_episodes_are_the_first_start_and_two_others():
    others = ([0.5, 0.0, 1.0, 0.0], [-0.5, 0.0, 2.0, 0.0])
    moving = [0.0, 0.5, np.pi, 1.0]
    _, episodes = evaluated(moving, HANGING, others=others)
    assert episodes.states.shape == (HORIZON + 1, SHOWN_EPISODES, 4)
    assert episodes.actions.shape == episodes.score_rates.shape == (HORIZON, SHOWN_EPISODES)
    np.testing.assert_allclose(episodes.states[0], [moving, *others], rtol=1e-6)
    np.testing.assert_allclose(episodes.states[-1, 0], [0.5, 0.5, np.pi + 1, 1.0], rtol=1e-5)


def test_a_policy_that_is_no_number_shows_in_the_score():
    score, _ = evaluated(HANGING, policy=lambda o: jnp.full((*o.shape[:-1], 1), jnp.nan))
    assert np.isnan(score.score)


def test_a_key_decides_the_starts():
    def idle(observation):
        return jnp.zeros((*observation.shape[:-1], 1))

    run = jax.jit(lambda key: evaluate(SwingUp(), idle, key, 2))
    (one, shown), (again, _), (other, others) = (run(jax.random.key(k)) for k in (0, 0, 1))
    assert one.score == again.score != other.score
    starts, other_starts = np.asarray(shown.states[0]), np.asarray(others.states[0])
    assert np.all(np.abs(starts[0] - [0, 0, np.pi, 0]) < 0.06)  # hanging
    assert not np.any(starts[0] == other_starts[0])
    assert not np.any(starts[1:, [0, 2]] == other_starts[1:, [0, 2]])
    np.testing.assert_array_equal(starts[1:, [1, 3]], 0.0)  # from any angle, at rest


def test_no_reward_parameter_reaches_the_score():
    assert "rlcore.rewards" not in inspect.getsource(evaluate_module)
    for name, function in inspect.getmembers(evaluate_module, inspect.isfunction):
        assert RewardParams not in inspect.get_annotations(function).values(), name
        assert not [p for p in inspect.signature(function).parameters if "reward" in p], name
