"""The Control Suite's swing-up, against stored transitions and the live simulator."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore.tasks.dmc_swingup import DMCSwingUp
from rlcore.tasks.dynamics import CartPoleState
from tests.rlcore.small import golden
from tests.suite import needs_suite

TASK = DMCSwingUp()
RAIL = 1.75  # nearer to its end the suite's rail bounces, and ours terminates


@jax.jit
def stepped(states, actions):
    """Next states and score rates."""
    after = TASK.step(CartPoleState.from_array(states), actions)
    return after.to_array(), TASK.score_rate(after, actions)


def inside(*states):
    return np.all([np.abs(state[..., 0]) < RAIL for state in states], axis=0)


def test_steps_are_the_stored_ones_in_float64(x64, strict_ranks):
    stored = golden("dmc_swingup")
    next_states, rates = stepped(jnp.asarray(stored["state"]), jnp.asarray(stored["action"]))
    kept = inside(stored["state"], stored["next_state"])
    assert np.sum(kept) > 1000
    np.testing.assert_allclose(next_states[kept], stored["next_state"][kept], rtol=0, atol=1e-6)
    np.testing.assert_allclose(rates[kept], stored["reward"][kept], rtol=0, atol=1e-6)


def test_rollouts_are_the_stored_ones_step_by_step(x64, strict_ranks):
    stored = golden("dmc_swingup")
    for episode, length in enumerate(stored["rollout_length"]):
        states = stored["rollout_state"][episode, : length + 1]
        actions = stored["rollout_action"][episode, :length]
        next_states, rates = stepped(jnp.asarray(states[:-1]), jnp.asarray(actions))
        kept = inside(states[:-1], states[1:])
        assert np.sum(kept) > 20
        np.testing.assert_allclose(next_states[kept], states[1:][kept], rtol=0, atol=1e-6)
        stored_rates = stored["rollout_reward"][episode, :length]
        np.testing.assert_allclose(rates[kept], stored_rates[kept], rtol=0, atol=1e-6)


def test_observations_are_the_stored_ones(x64):
    observed = TASK.observe(CartPoleState.from_array(jnp.asarray(golden("dmc_swingup")["state"])))
    np.testing.assert_allclose(observed, golden("dmc_swingup")["observation"], rtol=0, atol=1e-10)


def test_without_damping_and_force_energy_stays(x64):
    task = DMCSwingUp(cart_damping=0.0, hinge_damping=0.0)
    state = CartPoleState.from_array(jnp.array([0.0, 0.3, 2.0, 1.0]))

    def energy(state):
        moment = task.pole_mass * task.half_length
        kinetic = 0.5 * (task.cart_mass + task.pole_mass) * state.x_dot**2
        kinetic += 0.5 * task.hinge_inertia * state.theta_dot**2
        kinetic += moment * np.cos(state.theta) * state.x_dot * state.theta_dot
        return float(kinetic + moment * task.gravity * np.cos(state.theta))

    before = energy(state)
    for _ in range(200):
        state = task.step(state, jnp.zeros(1))
    assert energy(state) == pytest.approx(before, abs=1e-6)


@pytest.mark.parametrize(("x", "ended"), [(1.8, False), (-1.81, True)])
def test_it_ends_beyond_the_rail(x, ended):
    assert bool(TASK.terminated(CartPoleState.from_array(jnp.array([x, 0, 0, 0])))) is ended


@needs_suite
def test_transplanted_states_go_on_as_in_the_control_suite(x64):
    from dm_control import suite

    environment = suite.load("cartpole", "swingup", task_kwargs={"random": 0})
    environment.reset()
    physics = environment.physics
    generator = np.random.default_rng(0)
    for _ in range(100):
        state = generator.uniform(-1, 1, 4) * [1.5, 3.0, np.pi, 6.0]
        with physics.reset_context():
            physics.data.qpos[:] = state[[0, 2]]
            physics.data.qvel[:] = state[[1, 3]]
        for _ in range(5):
            before = np.array([*physics.data.qpos, *physics.data.qvel])[[0, 2, 1, 3]]
            action = generator.uniform(-1.5, 1.5, 1)
            seen = environment.step(np.clip(action, -1, 1))
            after, rate = stepped(jnp.asarray(before), jnp.asarray(action))
            there = np.array([*physics.data.qpos, *physics.data.qvel])[[0, 2, 1, 3]]
            if abs(before[0]) > RAIL or abs(there[0]) > RAIL:
                break
            np.testing.assert_allclose(after, there, rtol=0, atol=1e-6)
            assert float(rate) == pytest.approx(seen.reward, abs=1e-6)
            environment._reset_next_step = False
