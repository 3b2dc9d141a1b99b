"""Rollouts of a task whose every step is known, and what follows from their rewards."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rlcore.ppo import networks
from rlcore.ppo.config import PPOConfig
from rlcore.ppo.rollout import EpisodeState, begin_episodes, collect, decide, follow_returns
from rlcore.ppo.train import RunningVariance, _values

T, B = 12, 3


@struct.dataclass
class Clock:
    """Episodes that count their steps; ``origin`` tells which reset each began with."""

    steps: jax.Array
    origin: jax.Array


@struct.dataclass
class Counting:
    """Ends after ``ends_after`` steps. Time limit: 5 steps."""

    ends_after: float = 1e9

    name = "counting"
    horizon = 5
    dt = 1.0
    observation_size = 2
    action_size = 1
    discrete = False

    def reset(self, key, n):
        return Clock(jnp.zeros(n), jnp.arange(n, dtype=float))

    def step(self, state, action):
        return Clock(state.steps + 1.0, state.origin)

    def observe(self, state):
        return jnp.stack([state.steps, state.origin], axis=-1)

    def terminated(self, state):
        return state.steps >= self.ends_after


def config_of(length):
    return PPOConfig(num_envs=B, rollout_length=length, num_minibatches=1, hidden_sizes=(4,))


def silent_actor(log_std=-0.5):
    """Parameters of an actor whose mean is 0."""
    network = networks.actor(config_of(T), 1)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 2)))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes)
    return {"network": zeros, "log_std": jnp.full(1, log_std)}


def fresh_episodes(lengths=(0.0, 0.0, 0.0)):
    """Episodes of known origin, -1, and of given lengths so far."""
    zeros = jnp.zeros(B)
    lengths = jnp.array(lengths)
    clock = Clock(lengths, jnp.full(B, -1.0))
    return EpisodeState(clock, lengths, zeros, zeros, zeros, (lengths == 0.0).astype(float))


def rollout(task, length=T, episodes=None, **actor):
    episodes = fresh_episodes() if episodes is None else episodes
    key = jax.random.key(1)
    return collect(task, config_of(length), silent_actor(**actor), episodes, key)


def test_first_episodes_have_staggered_lengths():
    config = PPOConfig(num_envs=4, num_minibatches=1)

    class Long(Counting):
        horizon = 500

    episodes = begin_episodes(Long(), config, jax.random.key(0))
    np.testing.assert_array_equal(episodes.length, [0, 125, 250, 375])
    np.testing.assert_array_equal(episodes.env.steps, np.zeros(4))
    np.testing.assert_array_equal(episodes.discounted_return, np.zeros(4))
    np.testing.assert_array_equal(episodes.whole, [1, 0, 0, 0])


def test_time_limits_fall_at_staggered_steps():
    after, transitions = rollout(Counting(), episodes=fresh_episodes((0.0, 1.0, 4.0)))
    ends = [list(np.flatnonzero(column)) for column in transitions.truncated.T]
    assert ends == [[4, 9], [3, 8], [0, 5, 10]]
    assert not np.any(transitions.terminated)
    np.testing.assert_array_equal(after.length, [2, 3, 1])


def test_terminations():
    after, transitions = rollout(Counting(ends_after=3.0))
    ends = [list(np.flatnonzero(column)) for column in transitions.terminated.T]
    assert ends == [[2, 5, 8, 11]] * 3
    assert not np.any(transitions.truncated)
    np.testing.assert_array_equal(after.length, np.zeros(B))


@pytest.mark.parametrize("ends_after", [1.0, 3.0, 4.0, 5.0, 6.0])
def test_a_step_never_both_terminates_and_is_cut_off(ends_after):
    _, transitions = rollout(Counting(ends_after), episodes=fresh_episodes((0.0, 2.0, 4.0)))
    assert not np.any(transitions.terminated & transitions.truncated)
    assert np.any(transitions.terminated) == (ends_after <= 5)
    assert np.any(transitions.truncated) == (ends_after > 5)


@pytest.mark.parametrize("ends_after", [3.0, 1e9])
def test_next_states_are_those_before_a_reset(ends_after):
    _, transitions = rollout(Counting(ends_after))
    np.testing.assert_array_equal(transitions.next_state.steps, transitions.state.steps + 1)
    np.testing.assert_array_equal(transitions.next_state.origin, transitions.state.origin)


def test_an_ended_episode_begins_anew_from_a_start_of_its_own():
    _, transitions = rollout(Counting(ends_after=4.0))
    ended = np.asarray(transitions.terminated | transitions.truncated)
    steps, origin = np.asarray(transitions.state.steps), np.asarray(transitions.state.origin)
    assert np.all(steps[1:][ended[:-1]] == 0)
    np.testing.assert_array_equal(steps[1:][~ended[:-1]], steps[:-1][~ended[:-1]] + 1)
    began = origin[1:][ended[:-1]]
    assert len(np.unique(began)) == began.size == 2 * B
    np.testing.assert_array_equal(origin[1:][~ended[:-1]], origin[:-1][~ended[:-1]])


def test_episodes_continue_from_one_rollout_to_the_next():
    at_once, whole = rollout(Counting(), 12, fresh_episodes((0.0, 2.0, 4.0)))
    between, first = rollout(Counting(), 4, fresh_episodes((0.0, 2.0, 4.0)))
    in_two, second = rollout(Counting(), 8, between)
    np.testing.assert_array_equal(at_once.length, in_two.length)
    for name in ("terminated", "truncated"):
        halves = [getattr(first, name), getattr(second, name)]
        np.testing.assert_array_equal(getattr(whole, name), np.concatenate(halves))
    np.testing.assert_array_equal(
        whole.state.steps, np.concatenate([first.state.steps, second.state.steps])
    )


@pytest.mark.parametrize("repeat", [1, 2, 4])
def test_an_action_is_held_for_its_simulation_steps(repeat):
    start = Clock(jnp.zeros(B), jnp.arange(B, dtype=float))
    after, terminated = decide(Counting(), repeat, start, jnp.zeros((B, 1)))
    np.testing.assert_array_equal(after.steps, repeat)
    assert not np.any(terminated)


def test_a_decision_ends_with_the_step_that_ended_the_task():
    start = Clock(jnp.array([0.0, 1.0, 2.0]), jnp.arange(B, dtype=float))
    after, terminated = decide(Counting(ends_after=4.0), 3, start, jnp.zeros((B, 1)))
    np.testing.assert_array_equal(after.steps, [3, 4, 4])
    np.testing.assert_array_equal(terminated, [False, True, True])


def test_a_time_limit_counts_simulation_steps():
    """Ten steps, two a decision: the fifth decision is the last."""

    class Ten(Counting):
        horizon = 10

    config = replace(config_of(12), action_repeat=2)
    _, transitions = collect(Ten(), config, silent_actor(), fresh_episodes(), jax.random.key(0))
    truncated = np.flatnonzero(transitions.truncated[:, 0])
    np.testing.assert_array_equal(truncated, [4, 9])
    np.testing.assert_array_equal(transitions.next_state.steps[truncated, 0], [10, 10])


@pytest.mark.parametrize(("log_std", "std"), [(-0.5, 0.60653066), (0.5, 1.6487213)])
def test_actions_are_the_mean_and_scaled_noise(log_std, std):
    _, transitions = rollout(Counting(), log_std=log_std)
    noise_key, _ = jax.random.split(jax.random.key(1))
    noise = jax.random.normal(noise_key, (T, B, 1))
    np.testing.assert_allclose(transitions.action, std * noise, rtol=1e-6)
    np.testing.assert_array_equal(transitions.output, 0.0)
    assert transitions.action.shape == (T, B, 1)


def followed(reward, ended, before=None, gamma=0.5):
    before = fresh_episodes() if before is None else before
    reward, ended = (jnp.array(list_, dtype=float)[:, None] for list_ in (reward, ended))
    one = jax.tree.map(lambda leaf: leaf[:1], before)
    return follow_returns(one, one, reward, reward / 8, ended, jnp.array(gamma))


def test_returns_by_hand():
    after, sums = followed([1, 2, 4, 8], [0, 1, 0, 0])
    np.testing.assert_array_equal(sums.length[:, 0], [1, 2, 1, 2])
    np.testing.assert_array_equal(sums.shaped_return[:, 0], [1, 3, 4, 12])
    # They run forward, G_t = gamma G_{t-1} + r_t, and begin anew after the end of an episode.
    np.testing.assert_array_equal(sums.discounted_return[:, 0], [1, 2.5, 4, 10])
    np.testing.assert_array_equal(sums.score, sums.shaped_return / 8)
    assert after.shaped_return == 12.0
    assert after.discounted_return == 10.0


def test_returns_begin_anew_after_an_end_at_the_last_step():
    after, sums = followed([1, 2], [0, 1])
    assert sums.shaped_return[-1] == 3.0
    assert after.shaped_return == after.discounted_return == 0.0


def test_returns_continue_from_one_rollout_to_the_next():
    rewards, ends = [1, 2, 4, 8, 16], [0, 0, 0, 1, 0]
    at_once, whole = followed(rewards, ends)
    between, first = followed(rewards[:2], ends[:2])
    between = between.replace(length=between.length + 2)  # `collect` carries the lengths
    in_two, second = followed(rewards[2:], ends[2:], between)
    for name in ("length", "shaped_return", "discounted_return"):
        halves = [getattr(first, name), getattr(second, name)]
        np.testing.assert_array_equal(getattr(whole, name), np.concatenate(halves))
    assert at_once.discounted_return == in_two.discounted_return


def test_an_episode_that_began_part_of_the_way_through_is_not_counted():
    """Its return lacks what came before; the next one in its environment is whole."""
    begun_late = fresh_episodes((2.0, 0.0, 0.0))
    between, first = followed([1, 1], [0, 1], begun_late)
    _, second = followed([1, 1, 1], [0, 1, 1], between)
    found = np.concatenate([first.finished, second.finished])[:, 0]
    np.testing.assert_array_equal(found, [0, 0, 0, 1, 1])
    _, whole = followed([1, 1], [0, 1])
    np.testing.assert_array_equal(whole.finished[:, 0], [0, 1])


BATCHES = st.lists(
    hnp.arrays(np.float64, (4, 3), elements=st.floats(-1e3, 1e3)), min_size=1, max_size=5
)


@given(batches=BATCHES, offset=st.sampled_from([0.0, 1e4]))
def test_running_variance_is_that_of_all_values_seen(batches, offset):
    seen = np.stack(batches) + offset
    with jax.enable_x64(True):
        zero = jnp.zeros(())
        running = RunningVariance(zero, zero, zero)
        for batch in seen:
            running = running.include(jnp.asarray(batch))
        assert running.count == seen.size
        np.testing.assert_allclose(running.mean, np.mean(seen), rtol=1e-12, atol=1e-10)
        np.testing.assert_allclose(running.std, np.std(seen), rtol=1e-9, atol=1e-7)


@pytest.mark.parametrize("ends_after", [1e9, 3.0], ids=["time limits", "terminations"])
@pytest.mark.parametrize("length", [3, 5, T])
def test_the_value_of_the_state_that_a_step_led_to(x64, length, ends_after):
    task, config = Counting(ends_after), config_of(length)
    episodes = fresh_episodes(lengths=(0.0, 2.0, 4.0))
    _, transitions = rollout(task, length, episodes)
    critic = networks.critic(config).init(jax.random.key(2), jnp.zeros((1, 2)))

    observation = task.observe(transitions.state)

    value, next_value = _values(config, task, critic, observation, transitions)

    expected = networks.value(config, critic, observation)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    expected = networks.value(config, critic, task.observe(transitions.next_state))
    read = ~np.asarray(transitions.terminated)
    np.testing.assert_allclose(next_value[read], expected[read], rtol=1e-12)
    if ends_after > 5:
        assert read.all() and np.asarray(transitions.truncated).sum(axis=0).max() == -(-length // 5)
