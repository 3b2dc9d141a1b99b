"""Both families of actions, by hand and by counting."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from rlcore.ppo.config import Hyperparameters
from rlcore.ppo.distributions import Categorical, Gaussian, distribution_of
from rlcore.tasks import TASKS

LOGITS = jnp.log(jnp.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]))


def test_each_task_has_the_family_of_its_actions():
    expected = {"swingup": Gaussian, "dmc_swingup": Gaussian, "balance": Categorical}
    found = {name: type(distribution_of(TASKS[name])) for name in expected}
    assert found == expected


def test_gaussian_log_prob_and_entropy():
    # Density of N(0, 1.5) a deviation off: -1/2 - log 1.5 - log(2 pi) / 2; two of them add up.
    params = {"log_std": jnp.full(2, math.log(1.5))}
    one = -0.5 - 0.4054651 - 0.9189385
    actions = 7.0 + 1.5 * jnp.array([[1.0, -1.0], [0.0, 0.0]])
    log_prob = Gaussian().log_prob(params, jnp.full((2, 2), 7.0), actions)
    np.testing.assert_allclose(log_prob, [2 * one, 2 * one + 1], rtol=1e-5)
    entropy = Gaussian().entropy(params, LOGITS)
    np.testing.assert_allclose(entropy, 2 * (0.4054651 + 1.4189385), rtol=1e-6)


def test_the_deviation_is_brought_back_into_its_range():
    params = {"network": {"bias": LOGITS}, "log_std": jnp.array([-9.0, -2.0, 0.3, 0.5, 9.0])}
    projected = Gaussian().project(params)
    np.testing.assert_allclose(projected["log_std"], [-2.0, -2.0, 0.3, 0.5, 0.5])
    assert projected["network"] is params["network"]
    assert Categorical().project(params) is params


def test_a_gaussian_begins_with_the_deviation_asked_for():
    extra = Gaussian().extra_params(2, Hyperparameters(init_log_std=-0.7))
    np.testing.assert_allclose(extra["log_std"], [-0.7, -0.7])
    assert Categorical().extra_params(2, Hyperparameters()) == {}


def test_categorical_log_prob_mode_and_entropy():
    actions = jnp.array([[1], [2]])
    log_prob = Categorical().log_prob({}, LOGITS + 5.0, actions)
    np.testing.assert_allclose(log_prob, np.log([0.3, 0.8]), rtol=1e-5)
    np.testing.assert_array_equal(Categorical().mode(LOGITS), [[0], [2]])
    entropies = [1.0296530, 0.6390319]
    np.testing.assert_allclose(Categorical().entropy({}, LOGITS), np.mean(entropies), rtol=1e-5)


def test_choices_are_drawn_as_often_as_their_probability_says():
    draws = 40_000
    noise = Categorical().noise(jax.random.key(0), (draws, 2, 3))
    chosen = Categorical().sample({}, jnp.broadcast_to(LOGITS, noise.shape), noise)
    assert chosen.shape == (draws, 2, 1)
    for column, probabilities in enumerate(np.exp(LOGITS)):
        counts = np.bincount(np.asarray(chosen[:, column, 0]), minlength=3)
        expected = draws * probabilities
        assert np.sum((counts - expected) ** 2 / expected) < 13.8  # once in a thousand


def test_the_gradient_of_a_log_prob_is_the_score_function():
    gradient = jax.grad(lambda x: jnp.sum(Categorical().log_prob({}, x, jnp.array([[1], [2]]))))
    expected = np.array([[0, 1, 0], [0, 0, 1]]) - np.exp(LOGITS)
    np.testing.assert_allclose(gradient(LOGITS), expected, atol=1e-6)
