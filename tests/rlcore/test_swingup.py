"""The swing-up's physics, against stored transitions and against laws."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcore.rewards import TERMS, shaped_reward
from rlcore.tasks.dynamics import CartPoleState, tolerance
from rlcore.tasks.swingup import SwingUp
from tests.rlcore import numpy_swingup
from tests.rlcore.small import golden, swingup_reward

TASK = SwingUp()


def golden_inputs():
    """State and action of each stored transition, the rollouts' each from its stored state."""
    stored = golden("swingup")
    states = [stored["state"], stored["rollout_state"][:-1].reshape(-1, 4)]
    actions = [stored["action"], stored["rollout_action"].reshape(-1, 1)]
    return np.concatenate(states), np.concatenate(actions)


def golden_next_states():
    stored = golden("swingup")
    return np.concatenate([stored["next_state"], stored["rollout_state"][1:].reshape(-1, 4)])


def golden_rewards():
    return np.concatenate(
        [golden("swingup")["reward"], golden("swingup")["rollout_reward"].ravel()]
    )


@jax.jit
def stepped(states, actions):
    """Next states [N, 4] and baseline rewards [N]."""
    state = CartPoleState.from_array(states)
    next_state = TASK.step(state, actions)
    ended = TASK.terminated(next_state)
    reward, _ = shaped_reward(
        TERMS["swingup"], swingup_reward(), TASK, state, actions, next_state, ended, gamma=0.99
    )
    return next_state.to_array(), reward


@jax.jit
def observed(states):
    return TASK.observe(CartPoleState.from_array(states))


def assert_close_in_float32(actual, expected):
    # A sum near 0 of parts near 1 (x + dt x_dot, sin at pi, the reward's terms) keeps the parts'
    # rounding: float32 cannot be closer than relative to the column's own scale.
    assert actual.dtype == np.float32
    scale = np.max(np.abs(expected), axis=0)
    assert np.all(np.abs(actual - expected) <= 1e-5 * np.abs(expected) + 1e-5 * scale)


def test_steps_are_the_stored_ones_in_float64(x64, strict_ranks):
    next_states, rewards = stepped(*map(jnp.asarray, golden_inputs()))
    assert next_states.dtype == rewards.dtype == np.float64
    np.testing.assert_allclose(next_states, golden_next_states(), rtol=0, atol=1e-10)
    np.testing.assert_allclose(rewards, golden_rewards(), rtol=0, atol=1e-10)


def test_observations_and_terminations_are_the_stored_ones_in_float64(x64, strict_ranks):
    observation = observed(jnp.asarray(golden("swingup")["state"]))
    np.testing.assert_allclose(observation, golden("swingup")["observation"], rtol=0, atol=1e-10)
    next_states, _ = stepped(
        jnp.asarray(golden("swingup")["state"]), jnp.asarray(golden("swingup")["action"])
    )
    terminated = TASK.terminated(CartPoleState.from_array(next_states))
    assert 0 < np.sum(terminated) < len(terminated)
    np.testing.assert_array_equal(terminated, golden("swingup")["terminated"])


def test_steps_and_observations_are_the_stored_ones_in_float32(strict_ranks):
    next_states, rewards = stepped(*map(jnp.asarray, golden_inputs()))
    assert_close_in_float32(next_states, golden_next_states())
    assert_close_in_float32(rewards, golden_rewards())
    observation = observed(jnp.asarray(golden("swingup")["state"]))
    assert_close_in_float32(observation, golden("swingup")["observation"])


def test_a_step_from_rest_by_hand(x64):
    # Upright at rest, full force: temp = 20 / 1.1, so theta_acc = -temp / (0.5 (4/3 - 0.1 / 1.1))
    # = -29.268292..., x_acc = temp - 0.05 theta_acc / 1.1 = 19.512195...
    start = CartPoleState.from_array(jnp.zeros(4))
    after = TASK.step(start, jnp.array([3.0]))  # clipped to 1
    np.testing.assert_allclose(
        after.to_array(),
        [0.0, 0.02 * 19.51219512195122, 0.0, -0.02 * 29.26829268292683],
        rtol=1e-14,
    )


def test_positions_advance_with_the_old_velocities():
    start = CartPoleState.from_array(jnp.array([0.5, 1.0, 0.25, -2.0]))
    after = TASK.step(start, jnp.array([-1.0]))
    np.testing.assert_allclose([after.x, after.theta], [0.52, 0.21], rtol=1e-6)


def test_observation_by_hand():
    state = CartPoleState.from_array(jnp.array([-1.2, 4.0, np.pi / 2, 1.5]))
    np.testing.assert_allclose(TASK.observe(state), [-0.5, 2.0, 0.0, 1.0, 0.5], atol=1e-7)


@pytest.mark.parametrize(("x", "ended"), [(2.4, False), (-2.4, False), (2.401, True), (-3.0, True)])
def test_it_ends_beyond_the_rail(x, ended):
    turned_and_fast = CartPoleState.from_array(jnp.array([x, 9.0, 7.0, -30.0]))
    assert bool(TASK.terminated(turned_and_fast)) is ended


def test_constants_are_used_as_given():
    task = SwingUp(gravity=0.0, force_limit=0.0)
    floating = CartPoleState.from_array(jnp.array([0.0, 0.5, 2.0, 0.0]))
    after = task.step(floating, jnp.array([1.0]))
    np.testing.assert_allclose(after.to_array(), [0.01, 0.5, 2.0, 0.0], rtol=1e-6)
    pushed = SwingUp(cart_mass=2.0, pole_mass=0.5, gravity=0.0)
    upright = CartPoleState.from_array(jnp.zeros(4))
    acceleration = pushed.step(upright, jnp.array([1.0])).theta_dot / 0.02
    np.testing.assert_allclose(acceleration, -(20 / 2.5) / (0.5 * (4 / 3 - 0.5 / 2.5)), rtol=1e-6)
    np.testing.assert_allclose(SwingUp(pole_mass=0.3).hinge_inertia, 0.3 / 3, rtol=1e-6)
    assert bool(SwingUp(rail=1.0).terminated(CartPoleState.from_array(jnp.full(4, 1.5))))


def euler(dt, duration, start, action):
    """Where the task's own steps of ``dt`` seconds lead."""

    class Timed(SwingUp):
        pass

    Timed.dt = dt
    task = Timed()

    def step(state, _):
        return task.step(state, jnp.asarray([action])), None

    state, _ = jax.lax.scan(step, CartPoleState.from_array(start), length=round(duration / dt))
    return np.asarray(state.to_array())


def fine_integration(duration, start, action, steps=2000):
    """Runge and Kutta's fourth-order integration of the equations."""
    state, h = np.asarray(start), duration / steps
    for _ in range(steps):
        k1 = numpy_swingup.derivative(state, action)
        k2 = numpy_swingup.derivative(state + h / 2 * k1, action)
        k3 = numpy_swingup.derivative(state + h / 2 * k2, action)
        k4 = numpy_swingup.derivative(state + h * k3, action)
        state = state + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return state


def slope(dts, errors):
    return np.polyfit(np.log(dts), np.log(errors), 1)[0]


DTS = [0.005, 0.0025, 0.00125, 0.000625]


def test_the_integration_converges_with_order_one(x64):
    start = jnp.array([0.1, -0.5, 2.5, 1.0])
    exact = fine_integration(0.5, start, 0.3)
    errors = [np.linalg.norm(euler(dt, 0.5, start, 0.3) - exact) for dt in DTS]
    assert slope(DTS, errors) == pytest.approx(1.0, abs=0.1)


def test_without_force_energy_is_kept_to_first_order(x64):
    start = jnp.array([0.0, 0.5, 2.0, -1.0])
    at_first = numpy_swingup.energy(np.asarray(start))
    drifts = [abs(numpy_swingup.energy(euler(dt, 0.5, start, 0.0)) - at_first) for dt in DTS]
    assert drifts[0] < 0.02  # J; from hanging to upright it takes 0.98 J
    assert slope(DTS, drifts) == pytest.approx(1.0, abs=0.1)


STATES = st.tuples(
    st.floats(-3, 3, width=32),
    st.floats(-10, 10, width=32),
    st.floats(-10, 10, width=32),
    st.floats(-20, 20, width=32),
)
ACTIONS = st.floats(-3, 3, width=32)


@given(state=STATES, action=ACTIONS)
def test_the_mirror_image_moves_as_the_mirror_image(state, action):
    state, action = CartPoleState.from_array(jnp.array(state)), jnp.array([action])
    mirrored = jax.tree.map(jnp.negative, state)
    after, mirrored_after = TASK.step(state, action), TASK.step(mirrored, -action)
    np.testing.assert_array_equal(mirrored_after.to_array(), -after.to_array())
    assert TASK.score_rate(mirrored_after, -action) == TASK.score_rate(after, action)
    np.testing.assert_array_equal(
        TASK.observe(mirrored), TASK.observe(state) * jnp.array([-1.0, -1.0, 1.0, -1.0, -1.0])
    )


def test_score_rate_by_hand():
    assert TASK.score_rate(CartPoleState.from_array(jnp.zeros(4)), jnp.zeros(1)) == 1.0
    # Hanging counts 0, wherever else. At every margin: 1/2, 0.55, 4/5, 0.55.
    hanging = CartPoleState.from_array(jnp.array([0.0, 0.0, np.pi, 0.0]))
    np.testing.assert_allclose(TASK.score_rate(hanging, jnp.zeros(1)), 0.0, atol=1e-7)
    margins = CartPoleState.from_array(jnp.array([2.0, 7.0, np.pi / 2, -5.0]))
    for action in (1.0, -4.0):  # clipped
        np.testing.assert_allclose(
            TASK.score_rate(margins, jnp.array([action])), 0.5 * 0.55 * 0.8 * 0.55, rtol=1e-6
        )


def test_tolerance_by_hand():
    np.testing.assert_allclose(
        tolerance(jnp.array([0.0, 2.0, -2.0, 4.0]), 2.0), [1.0, 0.1, 0.1, 1e-4], rtol=1e-5
    )


STARTS = 4096


def assert_distributed(sample, cumulative):
    """Kolmogorov and Smirnov: for a fresh key, a right sample fails once in 10 000 times."""
    ordered = cumulative(np.sort(np.asarray(sample, np.float64)))
    ranks = np.arange(len(ordered) + 1) / len(ordered)
    distance = max(np.max(ranks[1:] - ordered), np.max(ordered - ranks[:-1]))
    assert distance < 2.225 / math.sqrt(len(ordered))


def normal_cumulative(values):
    return np.array([0.5 * (1 + math.erf(value / math.sqrt(2))) for value in values])


def test_training_starts_lie_anywhere_at_any_angle_at_rest():
    start = TASK.reset(jax.random.key(0), STARTS)
    assert np.all(np.abs(start.x) <= 1)
    assert np.all((start.theta >= 0) & (start.theta <= 2 * np.pi + 1e-6))
    assert_distributed(start.x, lambda x: (x + 1) / 2)
    assert_distributed(start.theta, lambda theta: theta / (2 * np.pi))
    assert not np.any(start.x_dot) and not np.any(start.theta_dot)
    # Independent: |r| sqrt(n) is beyond 4 once in 16 000 times.
    assert abs(np.corrcoef(start.x, start.theta)[0, 1]) < 4 / math.sqrt(STARTS)


def test_evaluation_starts_hang_with_a_small_disturbance():
    start = TASK.reset_evaluation(jax.random.key(1), STARTS).to_array()
    noise = (np.asarray(start, np.float64) - [0, 0, np.pi, 0]) / 0.01
    for column in noise.T:
        assert_distributed(column, normal_cumulative)
    correlations = np.corrcoef(noise.T)[np.triu_indices(4, 1)]
    assert np.max(np.abs(correlations)) < 4.5 / math.sqrt(STARTS)  # six pairs: once in 24 000
