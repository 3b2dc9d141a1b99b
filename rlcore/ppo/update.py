"""One PPO update: minibatches and gradient steps."""

import math
from dataclasses import replace
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, Float, Key, Num, UInt

from rlcore.ppo import losses, networks
from rlcore.ppo.config import Hyperparameters, PPOConfig
from rlcore.ppo.distributions import distribution_of
from rlcore.types import PyTree

# On a CPU a gradient is computed by passes of so many samples: their activations stay in the cache.
CPU_PASS = (512, 2048)


@struct.dataclass
class Samples:
    """What the losses read, one row a sample; ``optimize`` is given [T, B] of them."""

    observation: Float[Array, "*batch O"]
    action: Num[Array, "*batch D"]
    log_prob: Float[Array, "*batch"]
    value: Float[Array, "*batch"]
    advantage: Float[Array, "*batch"]
    target: Float[Array, "*batch"]


class UpdateMetrics(NamedTuple):
    """Means over the gradient steps of an update; ``grad_norm`` is that before clipping."""

    policy_loss: Float[Array, ""]
    value_loss: Float[Array, ""]
    entropy: Float[Array, ""]
    approx_kl: Float[Array, ""]
    clip_fraction: Float[Array, ""]
    grad_norm: Float[Array, ""]


def make_optimizer(
    hyperparameters: Hyperparameters, learning_rate: Float[Array, ""]
) -> optax.GradientTransformation:
    """Returns the optimiser for traced hyperparameters: AdamW, which without a decay is Adam.

    It is built anew inside the program each time; only its state, plain arrays, is kept.
    """
    return optax.chain(
        optax.clip_by_global_norm(hyperparameters.max_grad_norm),
        optax.scale_by_adam(b1=0.9, b2=0.999, eps=hyperparameters.adam_eps),
        optax.add_decayed_weights(hyperparameters.weight_decay),
        optax.scale(-learning_rate),
    )


def loss_and_metrics(
    params: PyTree,
    config: PPOConfig,
    task: Any,
    samples: Samples,
    hyperparameters: Hyperparameters,
) -> tuple[Float[Array, ""], UpdateMetrics]:
    """Returns PPO's loss (Schulman et al. 2017, equation 9, negated) and its parts.

    ``grad_norm`` among the parts is left at zero: only the caller knows the gradient.
    """
    actor = params["actor"]
    output = networks.policy_output(config, actor, samples.observation, task.action_size)
    value = networks.value(config, params["critic"], samples.observation)
    distribution = distribution_of(task)
    log_ratio = distribution.log_prob(actor, output, samples.action) - samples.log_prob
    ratio = jnp.exp(log_ratio)

    clip_range = hyperparameters.clip_range
    policy = losses.policy_loss(ratio, samples.advantage, clip_range)
    if config.clip_value:
        value_part = losses.clipped_value_loss(value, samples.value, samples.target, clip_range)
    else:
        value_part = losses.value_loss(value, samples.target)
    entropy = distribution.entropy(actor, output)
    loss = policy + hyperparameters.value_coef * value_part - hyperparameters.entropy_coef * entropy
    metrics = UpdateMetrics(
        policy_loss=policy,
        value_loss=value_part,
        entropy=entropy,
        approx_kl=losses.approx_kl(log_ratio),
        clip_fraction=losses.clip_fraction(ratio, clip_range),
        grad_norm=jnp.zeros_like(loss),
    )
    return loss, metrics


def optimize(
    params: PyTree,
    opt_state: PyTree,
    config: PPOConfig,
    task: Any,
    samples: Samples,
    key: Key[Array, ""],
    *,
    hyperparameters: Hyperparameters,
    learning_rate: Float[Array, ""],
) -> tuple[PyTree, PyTree, UpdateMetrics]:
    """Returns parameters and optimiser state after all epochs over ``samples`` [T, B].

    The key is consumed by the shuffling.
    """
    optimizer = make_optimizer(hyperparameters, learning_rate)
    distribution = distribution_of(task)
    rows, indices = minibatch_rows(config, samples, key)

    def step(carry: tuple[PyTree, PyTree], index: Array) -> tuple[Any, UpdateMetrics]:
        params, opt_state = carry
        minibatch = jax.tree.map(lambda leaf: _flat(leaf[index]), rows)
        gradient, metrics = gradient_and_metrics(params, config, task, minibatch, hyperparameters)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        params = optax.apply_updates(params, updates)
        params = {**params, "actor": distribution.project(params["actor"])}
        return (params, opt_state), metrics._replace(grad_norm=optax.tree.norm(gradient))

    def _flat(leaf: Array) -> Array:
        return leaf.reshape((-1, *leaf.shape[2:])) if config.shuffle == "envs" else leaf

    (params, opt_state), metrics = jax.lax.scan(step, (params, opt_state), indices)
    return params, opt_state, jax.tree.map(jnp.mean, metrics)


def gradient_and_metrics(
    params: PyTree,
    config: PPOConfig,
    task: Any,
    samples: Samples,
    hyperparameters: Hyperparameters,
) -> tuple[PyTree, UpdateMetrics]:
    """Returns the gradient of PPO's loss over a minibatch [N], and the loss's parts."""
    if config.advantage_normalization == "minibatch":
        advantage = losses.normalize_advantages(samples.advantage)
        samples = replace(samples, advantage=advantage)

    def one_pass(samples: Samples) -> tuple[PyTree, UpdateMetrics]:
        gradient = jax.grad(loss_and_metrics, has_aux=True)
        return cast(
            tuple[PyTree, UpdateMetrics], gradient(params, config, task, samples, hyperparameters)
        )

    passes = _passes(samples.value.size)
    if passes == 1:
        return one_pass(samples)
    parts = jax.tree.map(lambda leaf: leaf.reshape((passes, -1, *leaf.shape[1:])), samples)
    return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), jax.lax.map(one_pass, parts))


def _passes(count: int) -> int:
    """Returns in how many equal passes the gradient over ``count`` samples is computed."""
    fewest, most = CPU_PASS
    if jax.default_backend() != "cpu" or count <= most:
        return 1
    divisors = (n for n in range(2, count // fewest + 1) if count % n == 0)
    return next((n for n in divisors if count // n <= most), 1)


def minibatch_rows(
    config: PPOConfig, samples: Samples, key: Key[Array, ""]
) -> tuple[Samples, Array]:
    """Returns samples by row, and the rows of each gradient step [epochs * minibatches, rows].

    A row is one environment's whole rollout, or one sample, as ``config.shuffle`` says; each epoch
    visits every row once.
    """
    if config.shuffle == "envs":
        rows = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), samples)
        count = config.num_envs
    else:
        rows = jax.tree.map(lambda leaf: leaf.reshape((-1, *leaf.shape[2:])), samples)
        count = config.steps_per_update
    order = random_orders(key, config.epochs, count)
    return rows, order.reshape(config.epochs * config.num_minibatches, -1)


def random_orders(key: Key[Array, ""], n: int, count: int) -> UInt[Array, "n count"]:
    """Returns ``n`` random orders of ``count`` rows; the key is consumed.

    Each row's place is sorted by random bits above it in the same word: XLA's CPU backend sorts
    plain words five times as fast as pairs of bits and place.  Sorting again by fresh bits breaks
    ties; there are enough rounds to expect less than one in an order.
    """
    place_bits = max(1, (count - 1).bit_length())
    rounds = math.ceil(2 * place_bits / (32 - place_bits))
    place = jnp.broadcast_to(jnp.arange(count, dtype=jnp.uint32), (n, count))
    order = place
    for round_key in jax.random.split(key, rounds):
        words = jax.random.bits(round_key, (n, count)) >> place_bits << place_bits | place
        places = jnp.sort(words) & (2**place_bits - 1)
        order = jnp.take_along_axis(order, places, axis=1)
    return order
