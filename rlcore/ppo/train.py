"""The trainer: a state of arrays, and one jitted segment that advances it."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int, Integer, Key

from rlcore.evaluate import Episodes, Score, evaluate
from rlcore.ppo import losses, networks
from rlcore.ppo.config import Hyperparameters, PPOConfig
from rlcore.ppo.distributions import distribution_of
from rlcore.ppo.gae import generalized_advantages
from rlcore.ppo.rollout import (
    EpisodeState,
    EpisodeStatistics,
    begin_episodes,
    collect,
    follow_returns,
)
from rlcore.ppo.update import Samples, UpdateMetrics, make_optimizer, optimize
from rlcore.rewards import TERMS, RewardParams, shaped_reward
from rlcore.types import PyTree, Transition, named_key


@struct.dataclass
class RunningVariance:
    """Count, mean and sum of squared deviations of all values seen (Chan et al. 1979)."""

    count: Float[Array, ""]
    mean: Float[Array, ""]
    deviations: Float[Array, ""]

    def include(self, values: Float[Array, "..."]) -> "RunningVariance":
        """Returns the statistics with ``values`` counted in."""
        total = self.count + values.size
        delta = jnp.mean(values) - self.mean
        deviations = (
            self.deviations
            + jnp.sum(jnp.square(values - jnp.mean(values)))
            + jnp.square(delta) * self.count * values.size / total
        )
        return RunningVariance(total, self.mean + delta * values.size / total, deviations)

    @property
    def std(self) -> Float[Array, ""]:
        """Standard deviation."""
        return jnp.sqrt(self.deviations / self.count)


@struct.dataclass
class TrainState:
    """Everything a seed's training continues from, arrays only; stacked over seeds [S]."""

    params: PyTree
    opt_state: PyTree
    episodes: EpisodeState
    return_variance: RunningVariance
    key: Key[Array, ""]
    evaluation_key: Key[Array, ""]
    env_steps: Int[Array, ""]


@struct.dataclass
class SegmentMetrics:
    """What one segment reports, one number a seed [S], reduced on the device.

    ``shaped_return``, its correlation with the score and ``training_episode_length`` are of the
    whole training episodes that finished, and NaN where none did: the first episode of most
    environments begins part of the way through.
    ``terms`` holds the unweighted mean, minimum and maximum of each reward term over the segment.
    """

    score: Score
    update: UpdateMetrics
    learning_rate: Float[Array, " S"]
    explained_variance: Float[Array, " S"]
    shaped_return: Float[Array, " S"]
    return_score_correlation: Float[Array, " S"]
    training_episode_length: Float[Array, " S"]
    terms: dict[str, Float[Array, " S 3"]]
    diverged: Float[Array, " S"]


@partial(jax.jit, static_argnums=0)
def init_state(
    config: PPOConfig, task: Any, hyperparameters: Hyperparameters, seeds: Integer[Array, " S"]
) -> TrainState:
    """Returns fresh training states, one a seed.  A seed alone decides its whole training.

    One seed after the other: jaxlib's QR factorisation, which draws orthogonal weights, of several
    matrices at once waits on a CPU for threads that may all be waiting in another one.
    """
    return jax.lax.map(lambda seed: _init_one(config, task, hyperparameters, seed), seeds)


def _init_one(
    config: PPOConfig, task: Any, hyperparameters: Hyperparameters, seed: Integer[Array, ""]
) -> TrainState:
    key = jax.random.key(seed)
    observation = jnp.zeros((1, task.observation_size))
    network = networks.actor(config, task.action_size)
    params = {
        "actor": {
            "network": network.init(named_key(key, "actor"), observation),
            **distribution_of(task).extra_params(task.action_size, hyperparameters),
        },
        "critic": networks.critic(config).init(named_key(key, "critic"), observation),
    }
    zero = jnp.zeros(())
    return TrainState(
        params=params,
        opt_state=make_optimizer(hyperparameters, zero).init(params),
        episodes=begin_episodes(task, config, named_key(key, "reset")),
        return_variance=RunningVariance(zero, zero, zero),
        key=named_key(key, "train"),
        evaluation_key=named_key(key, "evaluate"),
        env_steps=jnp.zeros((), jnp.int32),
    )


@partial(jax.jit, static_argnums=0, donate_argnums=2)
def train_segment(
    config: PPOConfig,
    task: Any,
    state: TrainState,
    hyperparameters: Hyperparameters,
    reward_params: RewardParams,
) -> tuple[TrainState, SegmentMetrics, Episodes]:
    """Returns the states one segment later, its metrics, and three episodes a seed to look at.

    One program per static config and task class: hyperparameters, reward parameters and physical
    constants are traced.  ``state`` is donated.
    """
    return jax.vmap(
        lambda one: train_one_segment(config, task, one, hyperparameters, reward_params),
    )(state)


def train_one_segment(
    config: PPOConfig,
    task: Any,
    state: TrainState,
    hyperparameters: Hyperparameters,
    reward_params: RewardParams,
) -> tuple[TrainState, SegmentMetrics, Episodes]:
    """Returns one seed's state a segment later, its metrics, and its evaluation episodes."""
    state, history = run_updates(config, task, state, hyperparameters, reward_params)
    score, episodes = evaluate(
        task,
        policy_of(config, task, state.params),
        jax.random.clone(state.evaluation_key),  # the same starts after every segment
        config.evaluation_episodes,
        config.action_repeat,
    )
    finished = jnp.sum(history["episodes"].finished)
    update_metrics = jax.tree.map(jnp.mean, history["update"])
    metrics = SegmentMetrics(
        score=score,
        update=update_metrics,
        learning_rate=history["learning_rate"][-1],
        explained_variance=jnp.mean(history["explained_variance"]),
        shaped_return=jnp.sum(history["shaped_return"]) / finished,
        return_score_correlation=_correlation(history["episodes"]),
        training_episode_length=jnp.sum(history["training_episode_length"]) / finished,
        terms={name: _reduce_terms(value) for name, value in history["terms"].items()},
        diverged=_is_diverged(state.params, update_metrics, score),
    )
    return state, metrics, episodes


def run_updates(
    config: PPOConfig,
    task: Any,
    state: TrainState,
    hyperparameters: Hyperparameters,
    reward_params: RewardParams,
) -> tuple[TrainState, dict[str, Any]]:
    """Returns one seed's state a segment's updates later, and what each update reports."""

    def update(state: TrainState, _: None) -> tuple[TrainState, dict[str, Any]]:
        return _update(config, task, state, hyperparameters, reward_params)

    return jax.lax.scan(update, state, None, length=config.updates_per_segment)


def policy_of(config: PPOConfig, task: Any, params: PyTree) -> Any:
    """Returns the deterministic policy: observations to the most likely action."""
    distribution = distribution_of(task)
    return lambda observation: distribution.mode(
        networks.policy_output(config, params["actor"], observation, task.action_size)
    )


def _update(
    config: PPOConfig,
    task: Any,
    state: TrainState,
    hyperparameters: Hyperparameters,
    reward_params: RewardParams,
) -> tuple[TrainState, dict[str, Any]]:
    """One rollout and its optimisation epochs."""
    key, rollout_key, shuffle_key = jax.random.split(state.key, 3)
    episodes, transitions = collect(
        task, config, state.params["actor"], state.episodes, rollout_key
    )
    reward, terms = shaped_reward(
        TERMS[task.name],
        reward_params,
        task,
        transitions.state,
        transitions.action,
        transitions.next_state,
        transitions.terminated,
        gamma=hyperparameters.gamma,
    )
    score_rate = task.score_rate(transitions.next_state, transitions.action)
    ended = (transitions.terminated | transitions.truncated).astype(reward.dtype)
    episodes, statistics = follow_returns(
        state.episodes, episodes, reward, score_rate, ended, hyperparameters.gamma
    )
    return_variance = state.return_variance.include(statistics.discounted_return)
    if config.normalize_reward:
        reward = reward / (return_variance.std + 1e-8)

    samples = _samples(config, task, state.params, transitions, reward, hyperparameters)
    learning_rate = _learning_rate(hyperparameters, state.env_steps)
    params, opt_state, update_metrics = optimize(
        state.params,
        state.opt_state,
        config,
        task,
        samples,
        shuffle_key,
        hyperparameters=hyperparameters,
        learning_rate=learning_rate,
    )
    state = replace(
        state,
        params=params,
        opt_state=opt_state,
        episodes=episodes,
        return_variance=return_variance,
        key=key,
        env_steps=state.env_steps + config.steps_per_update,
    )
    return state, {
        "update": update_metrics,
        "learning_rate": learning_rate,
        "explained_variance": losses.explained_variance(samples.value, samples.target),
        "shaped_return": jnp.sum(statistics.shaped_return * statistics.finished),
        "episodes": statistics,
        "training_episode_length": jnp.sum(statistics.length * statistics.finished),
        "terms": {
            name: jnp.stack([jnp.mean(value), jnp.min(value), jnp.max(value)])
            for name, value in terms.items()
        },
    }


def _samples(
    config: PPOConfig,
    task: Any,
    params: PyTree,
    transitions: Transition,
    reward: Float[Array, "T B"],
    hyperparameters: Hyperparameters,
) -> Samples:
    """Returns what the losses read: log probabilities, values, advantages and targets."""
    observation = task.observe(transitions.state)
    value, next_value = _values(config, task, params["critic"], observation, transitions)
    advantage = generalized_advantages(
        reward,
        value,
        next_value,
        transitions.terminated,
        transitions.truncated,
        gamma=hyperparameters.gamma,
        gae_lambda=hyperparameters.gae_lambda,
    )
    target = advantage + value
    if config.advantage_normalization == "batch":
        advantage = losses.normalize_advantages(advantage)
    log_prob = distribution_of(task).log_prob(
        params["actor"], transitions.output, transitions.action
    )
    return Samples(observation, transitions.action, log_prob, value, advantage, target)


def _values(
    config: PPOConfig,
    task: Any,
    critic_params: PyTree,
    observation: Float[Array, "T B O"],
    transitions: Transition,
) -> tuple[Float[Array, "T B"], Float[Array, "T B"]]:
    """Returns the critic's value of each step's observation, and of the state that it led to.

    That is the next step's state, but after the last step and at a time limit, which an environment
    meets at most once in a horizon: only there is the critic asked again.  What it says after a
    termination, of the next episode, no advantage reads.
    """
    steps, horizon = config.rollout_length, task.horizon // config.action_repeat
    truncated = transitions.truncated
    limits = [
        begin + jnp.argmax(truncated[begin : begin + horizon], axis=0)
        for begin in range(0, steps, horizon)
    ]
    rows = jnp.stack([jnp.full(config.num_envs, steps - 1), *limits])
    led_to = jax.tree.map(
        lambda leaf: leaf[rows, jnp.arange(config.num_envs)], transitions.next_state
    )
    seen = jnp.concatenate([observation, task.observe(led_to)])
    value = networks.value(config, critic_params, seen)
    value_at_limit = jnp.repeat(value[steps + 1 :], horizon, axis=0)[:steps]
    return value[:steps], jnp.where(truncated, value_at_limit, value[1 : steps + 1])


def _learning_rate(hyperparameters: Hyperparameters, env_steps: Int[Array, ""]) -> Array:
    """Returns the learning rate of the update that begins after ``env_steps``."""
    progress = jnp.minimum(env_steps / hyperparameters.budget, 1.0)
    start, end = hyperparameters.learning_rate, hyperparameters.learning_rate_end
    return start + (end - start) * progress


def _reduce_terms(history: Float[Array, "U 3"]) -> Float[Array, " 3"]:
    mean, low, high = history[:, 0], history[:, 1], history[:, 2]
    return jnp.stack([jnp.mean(mean), jnp.min(low), jnp.max(high)])


def _correlation(episodes: EpisodeStatistics) -> Float[Array, ""]:
    """Returns how finished episodes' shaped returns correlate with their scores.

    NaN where either does not vary.
    """
    finished, count = episodes.finished, jnp.sum(episodes.finished)
    shaped, score = (
        (value - jnp.sum(value * finished) / count) * finished
        for value in (episodes.shaped_return, episodes.score)
    )
    return jnp.sum(shaped * score) / jnp.sqrt(
        jnp.sum(jnp.square(shaped)) * jnp.sum(jnp.square(score))
    )


def _is_diverged(*trees: PyTree) -> Float[Array, ""]:
    finite = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(trees)]
    return 1.0 - jnp.all(jnp.stack(finite)).astype(float)
