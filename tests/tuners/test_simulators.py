"""Exported policies in Gymnasium and the Control Suite: what they see, do and are refused."""

import dataclasses
import sys

import numpy as np
import pytest

from rlcore.policy import Policy
from rlcore.ppo.config import PPOConfig
from tests.suite import needs_suite
from tuners.config import TrialConfig, baseline
from tuners.errors import BadInput
from tuners.simulators import SIMULATORS, returns_in


def config_of(task, **ppo):
    return TrialConfig(task=task, reward=baseline(task), ppo=PPOConfig(**ppo), budget=10**6)


def linear(task, weights, discrete):
    """A policy of one layer."""
    kernel = np.array(weights, dtype=np.float32)
    bias = np.zeros(kernel.shape[1], dtype=np.float32)
    return Policy((kernel,), (bias,), "tanh", task, discrete=discrete)


# Push towards where the pole leans and falls.
BALANCING = linear("balance", [[-0.1, 0.1], [-0.2, 0.2], [-5, 5], [-1, 1]], True)
FALLING = linear("balance", [[0, 0], [0, 0], [5, -5], [1, -1]], True)
PUSHING = linear("dmc_swingup", [[0.0], [-9.0], [0.0], [0.0], [0.0]], False)  # hanging: cos = -1


def test_a_balancing_policy_balances_in_gymnasium():
    returns = returns_in("gymnasium", BALANCING, config_of("balance"), 5, 0)
    assert returns.tolist() == [500.0] * 5
    returns = returns_in("gymnasium", FALLING, config_of("balance"), 5, 0)
    assert np.all(returns < 15)


def test_an_action_is_held_in_gymnasium():
    asked = []

    def policy(observation):
        asked.append(observation)
        return FALLING(observation)

    (steps,) = returns_in("gymnasium", policy, config_of("balance", action_repeat=4), 1, 0)
    assert 5 < steps < 15
    assert len(asked) == -(-steps // 4)


def test_seeds_decide_the_starts():
    one, again, other = (
        returns_in("gymnasium", FALLING, config_of("balance"), 8, seed) for seed in (0, 0, 50)
    )
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


@needs_suite
def test_the_suites_return_is_our_score_while_the_cart_is_inside():
    """A policy that pushes the cart a little aside: the pole swings, alike in both."""
    import jax
    import jax.numpy as jnp

    from rlcore.evaluate import evaluate
    from rlcore.tasks.dmc_swingup import DMCSwingUp

    kernel, push = np.array([[-1.0], [0.0], [0.0], [-0.3], [0.0]], np.float32), 0.8
    aside = dataclasses.replace(PUSHING, kernels=(kernel,), biases=(np.array([push], np.float32),))
    theirs = returns_in("dm_control", aside, config_of("dmc_swingup", action_repeat=4), 3, 0)
    ours, _ = jax.jit(
        lambda key: evaluate(DMCSwingUp(), lambda x: x @ jnp.array(kernel) + push, key, 8, 4)
    )(jax.random.key(0))
    # About 35; episodes, which differ in their starts, from 33 to 36.
    assert np.all(theirs > 30.0)
    assert float(np.mean(theirs)) == pytest.approx(float(ours.score), rel=0.1)


@needs_suite
def test_the_suite_shows_what_the_policy_was_trained_on():
    """cos is the second number, sin the third: hanging, -1 and nearly 0."""
    seen = []

    def policy(observation):
        seen.append(np.array(observation))
        return PUSHING(observation)

    returns_in("dm_control", policy, config_of("dmc_swingup", action_repeat=4), 1, 0)
    assert seen[0][1] == pytest.approx(-1.0, abs=0.01)
    assert abs(seen[0][2]) < 0.1
    assert seen[-1][0] > 0.1, "it reads cos, and pushes to the right"


@pytest.mark.parametrize(
    ("simulator", "task", "said"),
    [
        ("isaac", "balance", "--in is 'isaac'; allowed: gymnasium, dm_control"),
        ("gymnasium", "swingup", "gymnasium runs policies for balance; this one is for swingup"),
        ("dm_control", "balance", "dm_control runs policies for dmc_swingup"),
    ],
)
def test_what_a_simulator_does_not_have_is_refused(simulator, task, said):
    with pytest.raises(BadInput, match=said):
        returns_in(simulator, BALANCING, config_of(task), 1, 0)


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_a_simulator_that_is_not_installed_is_named(simulator, monkeypatch):
    monkeypatch.setitem(sys.modules, simulator, None)
    task, _ = SIMULATORS[simulator]
    with pytest.raises(BadInput, match=rf"{simulator}, which is not installed.*simulators"):
        returns_in(simulator, BALANCING, config_of(task), 1, 0)
