"""The parts of PPO's objective by hand, and how an update uses them."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rlcore.ppo import losses, networks, update
from rlcore.ppo.config import Hyperparameters, PPOConfig
from rlcore.ppo.distributions import Gaussian
from rlcore.ppo.train import _learning_rate
from rlcore.ppo.update import (
    Samples,
    gradient_and_metrics,
    loss_and_metrics,
    make_optimizer,
    minibatch_rows,
    optimize,
    random_orders,
)
from rlcore.tasks.swingup import SwingUp

pytestmark = pytest.mark.usefixtures("strict_ranks")


def assert_equal(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-7)


def test_policy_loss():
    # Gains 1.5 1 clipped to 1.2;  0.5 1 kept: the smaller;  1.5 -1 kept;  0.5 -1 clipped to -0.8
    ratio, advantage = jnp.array([1.5, 0.5, 1.5, 0.5]), jnp.array([1.0, 1.0, -1.0, -1.0])
    assert_equal(losses.policy_loss(ratio, advantage, 0.2), -(1.2 + 0.5 - 1.5 - 0.8) / 4)


def test_policy_loss_inside_the_clip_range_is_the_mean_gain():
    ratio, advantage = jnp.array([1.1, 0.9]), jnp.array([3.0, -2.0])
    assert_equal(losses.policy_loss(ratio, advantage, 0.2), -(3.3 - 1.8) / 2)


@pytest.mark.parametrize(
    ("ratio", "gain", "moves"), [(1.5, 1, False), (0.5, 1, True), (1.5, -1, True)]
)
def test_only_a_gain_beyond_the_clip_range_has_no_gradient(ratio, gain, moves):
    slope = jax.grad(losses.policy_loss)(jnp.array([ratio]), jnp.array([float(gain)]), 0.2)
    assert_equal(slope, [-gain if moves else 0.0])


def test_value_loss_is_half_the_mean_square():
    assert_equal(losses.value_loss(jnp.array([1.0, 2.0]), jnp.array([4.0, 2.0])), 9 / 4)


def test_clipped_value_loss_takes_the_worse():
    # Old values 0, range 1/2. Values 2, -0.25, 2 are clipped to 0.5, -0.25, 0.5; targets 1, 1, 3:
    # max(1, 0.25) + max(1.5625, 1.5625) + max(1, 6.25)
    value, old = jnp.array([2.0, -0.25, 2.0]), jnp.zeros(3)
    target = jnp.array([1.0, 1.0, 3.0])
    expected = (1 + 1.5625 + 6.25) / 6
    assert_equal(losses.clipped_value_loss(value, old, target, 0.5), expected)
    assert_equal(losses.clipped_value_loss(value + 7, old + 7, target + 7, 0.5), expected)


def test_clipping_a_value_that_has_not_moved_changes_nothing():
    value, target = jnp.array([1.0, -2.0]), jnp.array([0.0, 5.0])
    found = losses.clipped_value_loss(value, value, target, 0.1)
    assert_equal(found, losses.value_loss(value, target))


def test_approx_kl():
    # (r - 1) - log r at r = 1, 2, 1/2
    log_ratio = jnp.log(jnp.array([1.0, 2.0, 0.5]))
    assert_equal(losses.approx_kl(log_ratio), (0 + (1 - 0.6931472) + (-0.5 + 0.6931472)) / 3)


@given(hnp.arrays(np.float64, 5, elements=st.floats(-2, 2)))
def test_approx_kl_is_never_negative(log_ratio):
    with jax.enable_x64(True):
        assert losses.approx_kl(jnp.asarray(log_ratio)) >= 0


def test_clip_fraction():
    ratio = jnp.array([1.0, 1.15, 0.85, 1.25, 0.7, 1.3, 0.5, 2.0])
    assert losses.clip_fraction(ratio, 0.2) == 5 / 8


def test_explained_variance():
    target = jnp.array([1.0, 2.0, 3.0, 4.0])
    assert losses.explained_variance(target, target) == 1.0
    assert losses.explained_variance(target + 5.0, target) == 1.0  # a bias is not variance
    assert losses.explained_variance(jnp.full(4, 2.5), target) == 0.0
    assert_equal(losses.explained_variance(-target, target), 1 - 4)
    # Var(target) = 1.25; left over: 0, 0, 0, 1 of variance 3/16
    assert_equal(
        losses.explained_variance(jnp.array([1.0, 2.0, 3.0, 3.0]), target), 1 - 0.1875 / 1.25
    )


def test_explained_variance_of_a_target_that_does_not_vary_is_zero():
    same = jnp.full((2, 3), 7.0)
    assert losses.explained_variance(same, same) == 0.0
    assert losses.explained_variance(jnp.arange(6.0).reshape(2, 3), same) == 0.0


def test_normalized_advantages():
    found = losses.normalize_advantages(jnp.array([[1.0, 3.0], [5.0, 7.0]]))
    assert_equal(found, np.array([[-3.0, -1.0], [1.0, 3.0]]) / math.sqrt(5))
    assert_equal(losses.normalize_advantages(jnp.full(3, 4.0)), np.zeros(3))


@pytest.mark.parametrize(
    ("env_steps", "expected"), [(0, 1e-3), (250, 8e-4), (500, 6e-4), (1000, 2e-4), (5000, 2e-4)]
)
def test_learning_rate_falls_linearly_over_the_budget(env_steps, expected):
    numbers = Hyperparameters(learning_rate=1e-3, learning_rate_end=2e-4, budget=1000.0)
    assert_equal(_learning_rate(numbers.as_arrays(), jnp.array(env_steps)), expected)


TASK = SwingUp()
CONFIG = PPOConfig(num_envs=4, rollout_length=3, num_minibatches=2, epochs=3, hidden_sizes=(8,))


def on_policy_samples(params, config=CONFIG):
    """Samples [12] of the policy itself, as a rollout makes them."""
    observation_key, noise_key = jax.random.split(jax.random.key(0))
    observation = jax.random.normal(observation_key, (12, 5))
    noise = jax.random.normal(noise_key, (12, 1))
    output = networks.actor(config, 1).apply(params["actor"]["network"], observation)
    action = Gaussian().sample(params["actor"], output, noise)
    log_prob = Gaussian().log_prob(params["actor"], output, action)
    value = networks.critic(config).apply(params["critic"], observation)[:, 0]
    advantage = jnp.linspace(-1.0, 2.0, 12)
    return Samples(observation, action, log_prob, value, advantage, value + 2.0)


def random_params(config=CONFIG, seed=1):
    generator = np.random.default_rng(seed)

    def random(network):
        shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 5)))
        return jax.tree.map(lambda leaf: jnp.array(generator.normal(size=leaf.shape)), shapes)

    mean, critic = random(networks.actor(config, 1)), random(networks.critic(config))
    return {"actor": {"network": mean, "log_std": jnp.array([-0.3])}, "critic": critic}


def test_the_loss_of_the_policy_that_acted():
    with jax.numpy_rank_promotion("allow"):
        params = random_params()
        numbers = Hyperparameters(value_coef=0.25, entropy_coef=0.1).as_arrays()
        loss, metrics = loss_and_metrics(params, CONFIG, TASK, on_policy_samples(params), numbers)
    entropy = -0.3 + 1.4189385
    np.testing.assert_allclose(metrics.policy_loss, -0.5, rtol=1e-5)  # ratio 1: the mean advantage
    np.testing.assert_allclose(metrics.value_loss, 2.0, rtol=1e-5)
    np.testing.assert_allclose(metrics.entropy, entropy, rtol=1e-5)
    np.testing.assert_allclose(metrics.approx_kl, 0.0, atol=1e-6)
    assert metrics.clip_fraction == 0.0
    np.testing.assert_allclose(loss, -0.5 + 0.25 * 2.0 - 0.1 * entropy, rtol=1e-5)


@pytest.mark.parametrize("clip_value", [False, True])
def test_a_value_loss_is_clipped_if_the_config_says_so(clip_value):
    config = replace(CONFIG, clip_value=clip_value)
    with jax.numpy_rank_promotion("allow"):
        params = random_params()
        acted = on_policy_samples(params)
        samples = replace(acted, value=acted.value - 1.0)  # now 1 above it, 2 below the target
        numbers = Hyperparameters(clip_range=0.25).as_arrays()
        _, metrics = loss_and_metrics(params, config, TASK, samples, numbers)
    expected = 0.5 * (2.75 if clip_value else 2.0) ** 2
    np.testing.assert_allclose(metrics.value_loss, expected, rtol=1e-5)


def test_advantages_may_be_normalised_by_the_minibatch():
    config = PPOConfig(**vars(CONFIG) | {"advantage_normalization": "minibatch"})
    with jax.numpy_rank_promotion("allow"):
        params = random_params()
        numbers = Hyperparameters().as_arrays()
        _, metrics = gradient_and_metrics(params, config, TASK, on_policy_samples(params), numbers)
    np.testing.assert_allclose(metrics.policy_loss, 0.0, atol=1e-6)


@pytest.mark.parametrize("normalization", ["minibatch", "none"])
def test_a_gradient_computed_in_passes_is_the_gradient(monkeypatch, x64, normalization):
    config = PPOConfig(**vars(CONFIG) | {"advantage_normalization": normalization})
    numbers = Hyperparameters(entropy_coef=0.1).as_arrays()
    with jax.numpy_rank_promotion("allow"):
        params = random_params()
        samples = on_policy_samples(random_params(seed=2))  # of an older policy: ratios differ
        whole = gradient_and_metrics(params, config, TASK, samples, numbers)
        monkeypatch.setattr(update, "CPU_PASS", (2, 5))
        in_passes = gradient_and_metrics(params, config, TASK, samples, numbers)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), whole, in_passes)


@pytest.mark.parametrize(
    ("count", "passes"), [(1024, 1), (2048, 1), (2050, 2), (32768, 16), (4099, 1), (3000, 2)]
)
def test_passes_are_equal_and_fit_the_cache(count, passes):
    assert update._passes(count) == passes


@pytest.mark.parametrize("shape", [(7, 3), (2, 7, 3)])
def test_the_columns_of_a_network_are_its_samples(x64, shape):
    """Output and gradient are those of dense layers written out, whatever the axes before."""
    config = PPOConfig(hidden_sizes=(8, 6))
    x = jax.random.normal(jax.random.key(3), shape)
    network = networks.actor(config, 2)
    params = network.init(jax.random.key(0), x)

    def written_out(params, x):
        for name in ("Dense_0", "Dense_1"):
            x = jnp.tanh(x @ params["params"][name]["kernel"] + params["params"][name]["bias"])
        return x @ params["params"]["Dense_2"]["kernel"] + params["params"]["Dense_2"]["bias"]

    with jax.numpy_rank_promotion("allow"):
        for f in (network.apply, written_out):
            assert f(params, x).shape == (*shape[:-1], 2)
        results = [
            jax.value_and_grad(lambda p, x, f=f: jnp.sum(jnp.sin(100 * f(p, x))), (0, 1))(params, x)
            for f in (network.apply, written_out)
        ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-9), *results)


def one_step(hyperparameters, gradient, params):
    optimizer = make_optimizer(hyperparameters.as_arrays(), jnp.array(0.1))
    updates, _ = optimizer.update(gradient, optimizer.init(params), params)
    return updates


def test_adams_first_step_is_the_learning_rate_against_the_gradient(x64):
    params = {"a": jnp.array([1.0, 2.0]), "b": jnp.array([-3.0])}
    gradient = {"a": jnp.array([0.01, -0.02]), "b": jnp.array([0.03])}
    for decay in (0.0, 0.5):
        numbers = Hyperparameters(max_grad_norm=9.0, adam_eps=1e-12, weight_decay=decay)
        updates = one_step(numbers, gradient, params)
        assert_equal(updates["a"], [-0.1 * (1 + decay * 1.0), -0.1 * (-1 + decay * 2.0)])
        assert_equal(updates["b"], [-0.1 * (1 + decay * -3.0)])


def test_adams_second_step_by_hand(x64):
    """Gradients 1 and -1: the means are (0.09 - 0.1) / 0.19 and 1, corrected for their start."""
    optimizer = make_optimizer(
        Hyperparameters(max_grad_norm=9.0, adam_eps=0.0).as_arrays(), jnp.array(0.1)
    )
    params = jnp.zeros(1)
    _, state = optimizer.update(jnp.array([1.0]), optimizer.init(params), params)
    updates, _ = optimizer.update(jnp.array([-1.0]), state, params)
    assert_equal(updates, [-0.1 * (0.9 * 0.1 - 0.1) / (1 - 0.9**2)])


def test_the_gradient_is_clipped_as_a_whole():
    """Not element by element: with a huge eps Adam's step shows the clipped gradient itself."""
    params = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
    gradient = {"a": jnp.array([30.0]), "b": jnp.array([40.0])}
    numbers = Hyperparameters(max_grad_norm=0.5, adam_eps=1e6)
    updates = one_step(numbers, gradient, params)
    clipped = jax.tree.map(lambda update: -update * 1e6 / 0.1, updates)
    np.testing.assert_allclose(optax.tree.norm(clipped), 0.5, rtol=1e-5)
    np.testing.assert_allclose(clipped["a"] / clipped["b"], 0.75, rtol=1e-5)


def test_a_deviation_at_its_bound_is_trained_on(x64):
    """Entropy is all that counts: it rises to the bound, rests there, and falls when it costs."""
    config = PPOConfig(**vars(CONFIG) | {"num_envs": 12, "rollout_length": 1, "num_minibatches": 2})
    params = random_params()
    with jax.numpy_rank_promotion("allow"):
        samples = replace(on_policy_samples(params), advantage=jnp.zeros(12))
    rollout = jax.tree.map(lambda leaf: leaf[None], samples)
    bounds = []
    for entropy_coef in (1.0, 1.0, -1.0, -1.0):
        numbers = Hyperparameters(entropy_coef=entropy_coef, value_coef=0.0).as_arrays()
        state = make_optimizer(numbers, jnp.array(0.5)).init(params)
        with jax.numpy_rank_promotion("allow"):
            params, _, _ = optimize(
                *(params, state, config, TASK, rollout, jax.random.key(0)),
                hyperparameters=numbers,
                learning_rate=jnp.array(0.5),
            )
        bounds.append(float(params["actor"]["log_std"][0]))
    assert_equal(bounds, [0.5, 0.5, -2.0, -2.0])


def test_every_order_is_as_likely_as_any_other():
    """24,000 orders of four rows: the chi-squared statistic of the 24 orders, 23 degrees."""
    orders = np.asarray(random_orders(jax.random.key(0), 24_000, 4))
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 24
    assert np.sum((counts - 1000) ** 2 / 1000) < 49.7  # exceeded once in a thousand


@pytest.mark.parametrize("count", [1, 2, 128, 5000])
def test_orders_are_whole_and_forget_where_a_row_began(count):
    orders = np.asarray(random_orders(jax.random.key(1), 3, count))
    np.testing.assert_array_equal(np.sort(orders), np.arange(count)[None].repeat(3, 0))
    if count > 100:
        correlation = [np.corrcoef(order, np.arange(count))[0, 1] for order in orders]
        assert np.max(np.abs(correlation)) < 4 / math.sqrt(count)


@pytest.mark.parametrize("shuffle", ["envs", "samples"])
def test_an_epoch_visits_every_row_once(shuffle):
    config = PPOConfig(**vars(CONFIG) | {"shuffle": shuffle})
    t, b = jnp.meshgrid(jnp.arange(3.0), jnp.arange(4.0), indexing="ij")
    samples = Samples(10.0 * b[..., None], t[..., None], t, b, t, 10.0 * b + t)
    rows, order = minibatch_rows(config, samples, jax.random.key(0))
    count = 4 if shuffle == "envs" else 12
    assert order.shape == (3 * 2, count // 2)
    epochs = order.reshape(3, count)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(count))
    assert len(np.unique(epochs, axis=0)) == 3
    # A row holds what belongs together.
    np.testing.assert_array_equal(rows.target, rows.observation[..., 0] + rows.action[..., 0])
    if shuffle == "envs":
        np.testing.assert_array_equal(rows.target, 10 * np.arange(4)[:, None] + np.arange(3))
