"""Whole segments: what compiles once, what a seed decides, what diverges."""

import re
from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore.ppo import train as trainer
from rlcore.ppo.config import HYPERPARAMETERS, STATIC, Hyperparameters, PPOConfig
from rlcore.ppo.rollout import EpisodeStatistics
from rlcore.ppo.train import _correlation, _reduce_terms, _update, init_state, train_segment
from rlcore.rewards import COMBINATIONS, SHAPES, TERMS, make_reward_params
from rlcore.tasks import TASKS
from rlcore.tasks.swingup import SwingUp
from tests.rlcore.small import (
    SEEDS,
    TINY,
    arrays,
    assert_same_bits,
    fresh_state,
    swingup_reward,
    train,
)

# Every choice that TINY does not make, in one program.
OTHER = PPOConfig(
    num_envs=4,
    rollout_length=8,
    num_minibatches=2,
    epochs=2,
    hidden_sizes=(8,),
    updates_per_segment=2,
    evaluation_episodes=3,
    activation="swish",
    shuffle="samples",
    advantage_normalization="minibatch",
    normalize_reward=False,
    clip_value=True,
)
OTHER_NUMBERS = {
    "learning_rate": 1e-2,
    "learning_rate_end": 1e-3,
    "gamma": 0.9,
    "gae_lambda": 0.5,
    "clip_range": 1e-4,
    "entropy_coef": 0.1,
    "value_coef": 0.01,
    "max_grad_norm": 0.01,
    "init_log_std": 0.3,
    "adam_eps": 0.1,
    "weight_decay": 0.1,
    "budget": 200.0,
}
PRODUCT = {"combine": "product", "height01.weight": 1.0, "gentle.weight": 0.2}


def seed_of(tree, index):
    return jax.tree.map(lambda leaf: leaf[index : index + 1], tree)


@pytest.fixture(scope="module")
def one_segment():
    """The state and the metrics of TINY after a segment; not to be donated."""
    return train(fresh_state())


def test_a_run_is_reproducible_bit_for_bit():
    one, other = (train(fresh_state(), segments=2) for _ in range(2))
    assert_same_bits(one, other)
    assert np.all(np.isfinite(one[1].score.score))


def test_weights_are_drawn_from_one_matrix_at_a_time():
    """jaxlib factorises several in threads of XLA's pool, and waits for them in others of it.

    With two at once on two cores all of them may wait: a process hung in one of some 80 starts.
    """
    arguments = (SwingUp(), Hyperparameters().as_arrays(), jnp.arange(2, dtype=jnp.uint32))
    program = init_state.lower(TINY, *arguments).as_text()
    calls = re.findall(r"custom_call @lapack_[sd](\w+)_ffi.*-> \(?tensor<([\dx]+)xf", program)
    assert {name for name, _ in calls} == {"geqrf", "orgqr"}
    assert {shape.count("x") for _, shape in calls} == {1}, calls


def test_one_program_serves_all_that_is_traced(one_segment):
    programs = train_segment._cache_size()
    scores = [one_segment[1].score.score]
    for task, numbers, reward in (
        (SwingUp(), Hyperparameters(learning_rate=0.1, gamma=0.5, max_grad_norm=9.0), {}),
        (SwingUp(), Hyperparameters(init_log_std=0.3, entropy_coef=0.1, budget=1e9), {}),
        (SwingUp(), Hyperparameters(), {"cos.weight": 9.0, "peak.sharpness": 1.0}),
        (SwingUp(), Hyperparameters(), {"spin_upright.gate": -1.0, "cos.on": 0.0}),
        (SwingUp(), Hyperparameters(), PRODUCT),
        (SwingUp(gravity=1.6, pole_mass=0.3, rail=9.0), Hyperparameters(), {}),
    ):
        state = fresh_state(task=task, hyperparameters=numbers)
        changed = {"hyperparameters": numbers, "reward": swingup_reward(reward), "task": task}
        scores.append(train(state, **changed)[1].score.score)
    scores.append(train(fresh_state(seeds=(1, 2)))[1].score.score)
    assert train_segment._cache_size() == programs
    assert len(np.unique(scores)) == np.size(scores), "something was not read"


def test_a_static_config_has_a_program_of_its_own(one_segment):
    before = train_segment._cache_size()
    state, metrics = train(fresh_state(OTHER), OTHER)
    assert train_segment._cache_size() == before + 1
    for path, leaf in arrays((state, metrics.score, metrics.update)).items():
        assert np.all(np.isfinite(leaf)), path
    train(state, OTHER)
    assert train_segment._cache_size() == before + 1


@pytest.mark.parametrize("name", HYPERPARAMETERS)
def test_training_reads_every_hyperparameter(name):
    def kernels(numbers):
        state = fresh_state(TINY, hyperparameters=numbers)
        state, _ = train(state, TINY, hyperparameters=numbers)
        return arrays((state.params["actor"]["network"], state.params["critic"]))

    numbers = Hyperparameters(budget=100.0)
    before, after = kernels(numbers), kernels(replace(numbers, **{name: OTHER_NUMBERS[name]}))
    assert any(np.any(before[path] != after[path]) for path in before)


@pytest.mark.parametrize("name", sorted(TASKS))
def test_one_program_serves_all_shapes_weights_and_structures_of_a_task(name):
    task, terms = TASKS[name](), TERMS[name]
    config = replace(TINY, seeds_per_trial=1, action_repeat=2)
    structures = [{"combine": combine, "clip": clip} for combine in COMBINATIONS for clip in (0, 1)]
    shapes = [*SHAPES[name].values(), *structures]
    first = next(term for term in terms if not terms[term].uses_action)
    shapes.append({f"{first}.potential": 0.5, f"{first}.on": 0, f"{first}.weight": 0.7})
    state = init_state(config, task, Hyperparameters().as_arrays(), jnp.array([3]))
    before = train_segment._cache_size()
    for shape in shapes:
        reward = make_reward_params(terms, shape)
        state, metrics = train(state, config, task=task, reward=reward)
    assert train_segment._cache_size() == before + 1
    assert np.all(np.isfinite(metrics.score.score))
    assert np.all((metrics.score.score >= 0) & (metrics.score.score <= 1000))


def finished_episodes(shaped, score, finished):
    def columns(values):
        return jnp.array(values, dtype=float)[None, :, None]

    nothing = jnp.zeros((1, len(finished), 1))
    return EpisodeStatistics(nothing, columns(shaped), nothing, columns(score), columns(finished))


def test_the_correlation_of_return_and_score_by_hand():
    shaped, score = [1.0, 9.0, 4.0, 99.0, 2.0], [10.0, 30.0, 20.0, -5.0, 10.0]
    found = _correlation(finished_episodes(shaped, score, [1, 1, 1, 0, 1]))
    expected = np.corrcoef([1.0, 9.0, 4.0, 2.0], [10.0, 30.0, 20.0, 10.0])[0, 1]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("ended", [[0, 0], [1, 0], [1, 1]])
def test_no_correlation_where_nothing_varies(ended):
    assert np.isnan(_correlation(finished_episodes([1.0, 2.0], [7.0, 7.0], ended)))


def test_every_hyperparameter_becomes_a_number_of_one_type():
    """A Python float beside an array would be a second trace."""
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def total(numbers):
        return sum(jax.tree.leaves(numbers))

    for value in (1, 2.0, np.float32(3), np.float64(4), jnp.array(5.0)):
        numbers = Hyperparameters(**dict.fromkeys(HYPERPARAMETERS, value)).as_arrays()
        assert total(numbers) == len(HYPERPARAMETERS) * float(value)
    assert not set(HYPERPARAMETERS) & set(STATIC)


def test_a_seed_learns_beside_others_what_it_learns_alone():
    pair, pair_metrics = train(fresh_state())
    alone, alone_metrics = train(fresh_state(seeds=SEEDS[1:]))
    beside = seed_of(pair, 1)
    assert_same_bits((alone.key, alone.env_steps), (beside.key, beside.env_steps))
    # Products of matrices are summed in another order when batched: float32's rounding, which 8
    # gradient steps and 16 steps of the physics have magnified little as yet.
    for path, array in arrays(alone).items():
        np.testing.assert_allclose(array, arrays(beside)[path], rtol=1e-4, atol=1e-5, err_msg=path)
    np.testing.assert_allclose(
        alone_metrics.update.value_loss, pair_metrics.update.value_loss[1:], rtol=1e-4
    )
    first, second = arrays(seed_of(pair, 0).params), arrays(beside.params)
    assert all(np.any(first[path] != second[path]) for path in first)


def test_every_seed_has_streams_of_its_own():
    state = fresh_state(seeds=(3, 7, 8))
    bits = [jax.random.key_data(keys) for keys in (state.key, state.evaluation_key)]
    assert len(np.unique(np.concatenate(bits), axis=0)) == 6
    starts = np.asarray(state.episodes.env.theta)
    assert np.unique(starts).size == starts.size


def test_every_update_draws_anew(one_segment):
    """A stream that stood still would give each rollout the same noise."""
    before, after = arrays(fresh_state().key), arrays(one_segment[0].key)
    assert all(np.all(before[path] != after[path]) for path in before)


def test_advantages_are_normalised_over_the_batch():
    """Then their mean is 0, and so is the loss of a policy that does not move."""
    still = Hyperparameters(learning_rate=0.0)
    _, metrics = train(fresh_state(), hyperparameters=still)
    np.testing.assert_allclose(metrics.update.policy_loss, [0, 0], atol=1e-6)
    np.testing.assert_allclose(metrics.update.approx_kl, [0, 0], atol=1e-6)
    np.testing.assert_array_equal(metrics.update.clip_fraction, [0, 0])


def test_the_state_is_donated():
    state = fresh_state()
    given = jax.tree.leaves((state.params, state.opt_state, state.episodes))
    train(state)
    assert all(leaf.is_deleted() for leaf in given)


def test_the_state_holds_arrays_only():
    for leaf in jax.tree.leaves(fresh_state()):
        assert isinstance(leaf, jax.Array)
        assert leaf.shape[0] == len(SEEDS)


def test_a_segment_keeps_the_states_types(one_segment):
    """Another type, if only a weak one, would be a second trace."""

    def types(tree):
        return jax.tree.map(jax.typeof, tree)

    assert types(one_segment[0]) == types(fresh_state())


def test_a_segment_counts_its_steps(one_segment):
    state, metrics = one_segment
    np.testing.assert_array_equal(state.env_steps, [TINY.steps_per_segment] * 2)
    assert TINY.steps_per_segment == 2 * 4 * 8
    np.testing.assert_array_equal(state.return_variance.count, [TINY.steps_per_segment] * 2)
    assert metrics.score.score.shape == (2,)
    assert all(leaf.shape[0] == 2 for leaf in jax.tree.leaves(metrics))


def test_metrics_lie_where_they_must(one_segment):
    _, metrics = one_segment
    assert np.all((metrics.score.score >= 0) & (metrics.score.score <= 1000))
    assert np.all((metrics.score.episode_length >= 1) & (metrics.score.episode_length <= 500))
    assert np.all((metrics.update.clip_fraction >= 0) & (metrics.update.clip_fraction <= 1))
    assert np.all(metrics.update.grad_norm > 0)
    assert np.all(metrics.explained_variance < 1)
    np.testing.assert_array_equal(metrics.diverged, [0, 0])
    for name, (mean, low, high) in zip(
        metrics.terms, map(np.transpose, metrics.terms.values()), strict=True
    ):
        assert np.all((low <= mean + 1e-6) & (mean <= high + 1e-6)), name
    np.testing.assert_array_equal(metrics.terms["alive"], np.ones((2, 3)))


def test_an_update_reports_what_its_own_rollout_led_to(monkeypatch):
    """Scores are of the states that were reached; explained are the targets, by the values."""
    made = {}
    for name in ("collect", "_samples"):
        original = getattr(trainer, name)

        def kept(*arguments, name=name, original=original):
            made[name] = original(*arguments)
            return made[name]

        monkeypatch.setattr(trainer, name, kept)
    task, numbers = SwingUp(), Hyperparameters().as_arrays()
    state = jax.tree.map(lambda leaf: leaf[0], fresh_state())
    _, reported = _update(TINY, task, state, numbers, swingup_reward())
    (_, rollout), samples = made["collect"], made["_samples"]

    reached = task.score_rate(rollout.next_state, rollout.action)
    np.testing.assert_allclose(reported["episodes"].score[0], reached[0], rtol=1e-6)
    left = task.score_rate(rollout.state, rollout.action)
    assert not np.any(np.isclose(reached[0], left[0], rtol=1e-4)), "the two differ"

    unexplained = np.var(samples.target - samples.value) / np.var(samples.target)
    np.testing.assert_allclose(reported["explained_variance"], 1.0 - unexplained, rtol=1e-3)


def test_term_statistics_are_those_of_all_updates_together():
    updates = jnp.array([[1.0, -3.0, 5.0], [3.0, -1.0, 9.0], [8.0, -2.0, 7.0]])
    np.testing.assert_allclose(_reduce_terms(updates), [4.0, -3.0, 9.0])


def test_no_finished_episode_means_no_training_return(one_segment):
    # The first time limit is 125 steps away.
    _, metrics = one_segment
    assert np.all(np.isnan(metrics.shaped_return) & np.isnan(metrics.training_episode_length))


def test_whole_episodes_are_averaged():
    """A segment is 16 steps and a horizon 500.  With no end to the rail all of an episode is paid.

    The first time limit falls in the eighth segment, at step 125, for the environment that began
    with a length of 375; what it was paid is a quarter of a whole episode's.
    """
    endless = SwingUp(rail=1e9)
    alive = make_reward_params(TERMS["swingup"], {"alive.weight": 1.0})
    state, found = fresh_state(task=endless), []
    for _ in range(40):
        state, metrics = train(state, task=endless, reward=alive)
        found.append((metrics.shaped_return, metrics.training_episode_length))
    finished = [segment for segment, values in enumerate(found) if np.all(np.isfinite(values))]
    assert finished == [31, 39], "the environment that began at 0, then that which began at 375"
    for segment in finished:
        np.testing.assert_array_equal(found[segment], np.full((2, 2), 500.0))
    assert sum(np.any(np.isfinite(values)) for values in found) == 2


def test_the_learning_rate_falls_over_the_budget_not_the_segment():
    numbers = Hyperparameters(learning_rate=1e-3, learning_rate_end=1e-4, budget=128.0)
    state, rates = fresh_state(), []
    for _ in range(3):
        state, metrics = train(state, hyperparameters=numbers)
        rates.append(metrics.learning_rate)
    # Each segment's last update begins at 32, 96 and 160 of 128 steps.
    expected = [1e-3 - 9e-4 * 32 / 128, 1e-3 - 9e-4 * 96 / 128, 1e-4]
    np.testing.assert_allclose(rates, np.transpose([expected] * 2), rtol=1e-6)


def test_a_learning_rate_of_zero_changes_no_parameter():
    start = arrays(fresh_state().params)
    state, metrics = train(fresh_state(), hyperparameters=Hyperparameters(learning_rate=0.0))
    for path, array in arrays(state.params).items():
        np.testing.assert_array_equal(array, start[path], err_msg=path)
    assert np.all(metrics.update.grad_norm > 0), "of the gradient, not of the step"


def test_each_segment_is_scored_from_the_same_starts():
    """Evaluation takes nothing from the stream of training keys."""
    still = Hyperparameters(learning_rate=0.0)
    state, first = train(fresh_state(), hyperparameters=still)
    _, second = train(state, hyperparameters=still)
    np.testing.assert_array_equal(first.score.score, second.score.score)


@pytest.mark.parametrize("learning_rate", [1e30, float("nan"), float("inf")])
def test_divergence_is_a_result(learning_rate):
    numbers = Hyperparameters(learning_rate=learning_rate)
    state, metrics = train(fresh_state(), hyperparameters=numbers)
    np.testing.assert_array_equal(metrics.diverged, [1, 1])
    _, metrics = train(state, hyperparameters=numbers)
    np.testing.assert_array_equal(metrics.diverged, [1, 1])


def test_one_diverging_seed_leaves_the_others_alone():
    state = fresh_state()
    log_std = state.params["actor"]["log_std"].at[0].set(jnp.nan)
    actor = state.params["actor"] | {"log_std": log_std}
    state = state.replace(params=state.params | {"actor": actor})
    _, metrics = train(state)
    _, healthy = train(fresh_state())
    np.testing.assert_array_equal(metrics.diverged, [1, 0])
    np.testing.assert_array_equal(metrics.score.score[1], healthy.score.score[1])


@pytest.mark.parametrize("scale", [0.25, 16.0])
def test_reward_normalisation_takes_the_scale_out(scale, one_segment):
    """To the last bit for a power of two, which multiplies without rounding.

    The guard beside the deviation, 1e-8, is lost in float32 beside deviations of about 1.
    """
    weights = {f"{name}.weight": float(w) for name, w in swingup_reward().weights.items()}
    scaled = swingup_reward({name: scale * weight for name, weight in weights.items()})
    state, metrics = train(fresh_state(), reward=scaled)
    assert_same_bits(state.params, one_segment[0].params)
    assert_same_bits(metrics.score, one_segment[1].score)
    np.testing.assert_array_equal(
        state.return_variance.deviations, scale**2 * one_segment[0].return_variance.deviations
    )


def test_what_rewards_are_normalised_by_is_discounted():
    """Of a reward of 1 a step: 1, 1 + gamma, 1 + gamma + gamma^2, ..."""
    numbers = Hyperparameters(gamma=0.5)
    shape = make_reward_params(TERMS["swingup"], {"alive.weight": 1.0})
    state, _ = train(fresh_state(hyperparameters=numbers), hyperparameters=numbers, reward=shape)
    steps = TINY.rollout_length * TINY.updates_per_segment
    returns = [2 - 0.5**step for step in range(steps)]
    seen = state.return_variance
    np.testing.assert_allclose(seen.deviations / seen.count, [np.var(returns)] * 2, rtol=1e-4)


def test_without_normalisation_the_scale_matters():
    one, _ = train(fresh_state(OTHER), OTHER)
    small = swingup_reward({"cos.weight": 0.05, "peak.weight": 0.075})
    other, _ = train(fresh_state(OTHER), OTHER, reward=small)
    critic = "['critic']['params']['Dense_1']['kernel']"
    assert np.max(np.abs(arrays(one.params)[critic] - arrays(other.params)[critic])) > 1e-4


def test_no_key_is_used_twice():
    def uses_a_key_twice(key):
        def step(carry, _):
            return carry + jax.random.normal(key) + jax.random.uniform(key), None

        return jax.lax.scan(step, 0.0, length=2)

    keys = jax.random.split(jax.random.key(0), 2)
    with jax.debug_key_reuse(True):
        with pytest.raises(jax.errors.KeyReuseError):
            jax.jit(jax.vmap(uses_a_key_twice)).trace(keys)
        numbers = Hyperparameters().as_arrays()
        state = init_state(TINY, SwingUp(), numbers, jnp.array(SEEDS))
        train_segment.trace(TINY, SwingUp(), state, numbers, swingup_reward())


def test_training_follows_the_working_precision(x64):
    numbers, start = Hyperparameters().as_arrays(), fresh_state()
    traced = train_segment.trace(TINY, SwingUp(), start, numbers, swingup_reward())
    for tree in (start, traced.out_info):
        types = {leaf.dtype for leaf in jax.tree.leaves(tree)}
        assert np.dtype(np.float64) in types
        assert np.dtype(np.float32) not in types


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"shuffle": "envs", "num_envs": 128, "num_minibatches": 7},
            "num_minibatches is 7, but must divide num_envs = 128; the nearest are 4 and 8",
        ),
        (
            {"shuffle": "samples", "num_envs": 4, "rollout_length": 3, "num_minibatches": 5},
            "num_minibatches is 5, but must divide num_envs x rollout_length = 12;"
            " the nearest are 4 and 6",
        ),
        (
            {"shuffle": "envs", "num_envs": 4, "num_minibatches": 9},
            "num_minibatches is 9, but must divide num_envs = 4; the largest is 4",
        ),
        ({"epochs": 0}, "epochs is 0, but must be a whole number of at least 1"),
        ({"num_envs": 8.0}, "num_envs is 8.0, but must be a whole number of at least 1"),
        ({"epochs": True}, "epochs is True, but must be a whole number of at least 1"),
        ({"hidden_sizes": ()}, "hidden_sizes is (); allowed: one or more widths >= 1"),
        ({"hidden_sizes": (8, 0)}, "hidden_sizes is (8, 0); allowed: one or more widths >= 1"),
        ({"activation": "gelu"}, "activation is 'gelu'; allowed: tanh, relu, swish"),
        ({"shuffle": "no"}, "shuffle is 'no'; allowed: envs, samples"),
    ],
)
def test_a_config_that_cannot_be_compiled_is_refused(changes, message):
    with pytest.raises(ValueError) as refusal:
        PPOConfig(**changes)
    assert str(refusal.value) == message
