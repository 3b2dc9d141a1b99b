"""Many trials in one program: each learns what it would alone, and touches nobody beside it."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore.ppo.config import Hyperparameters
from rlcore.ppo.slots import put_slot, stack, take_slot, train_slots
from rlcore.ppo.train import train_segment
from rlcore.tasks.swingup import SwingUp
from tests.rlcore.small import TINY, arrays, assert_same_bits, fresh_state, swingup_reward

SLOTS = 4
EMPTY = SLOTS  # in a list of slots
# Of three trials: everything that may differ between trials of one static config.
SEEDS = ((3, 7), (11, 12), (3, 8))
RATES = (1e-3, 5e-3, 2e-3)
REWARDS = ({}, {"combine": "product", "height01.weight": 1.0}, {"cos.weight": 0.3})
POLES = (0.1, 0.12, 0.08)


def parameters(number):
    """Task, hyperparameters and reward parameters of a trial."""
    task = SwingUp(pole_mass=jnp.asarray(POLES[number], float))
    task = jax.tree.map(lambda value: jnp.asarray(value, dtype=float), task)
    numbers = Hyperparameters(learning_rate=RATES[number], gamma=0.98 + 0.005 * number)
    return task, numbers.as_arrays(), swingup_reward(REWARDS[number])


def state_of(number):
    task, numbers, _ = parameters(number)
    return fresh_state(task=task, seeds=SEEDS[number], hyperparameters=numbers)


def full_pack():
    """States and parameters of the three trials in slots 2, 0 and 3; nobody is in slot 1."""
    states, stacked = stack(state_of(0), SLOTS), stack(parameters(0), SLOTS)
    for number, slot in enumerate((2, 0, 3)):
        states = put_slot(states, slot, state_of(number))
        stacked = put_slot(stacked, slot, parameters(number))
    return states, stacked


def advance(states, stacked, slots):
    task, numbers, reward = stacked
    return train_slots(TINY, task, states, numbers, reward, jnp.array(slots, jnp.int32))


def alone(number, segments=1):
    task, numbers, reward = parameters(number)
    state = state_of(number)
    for _ in range(segments):
        state, metrics, episodes = train_segment(TINY, task, state, numbers, reward)
    return state, metrics, episodes


def assert_close(one, other, tolerance):
    for (path, a), b in zip(arrays(one).items(), arrays(other).values(), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, err_msg=path)


def test_in_float64_a_trial_learns_what_it_learns_alone(x64):
    """Segment after segment: only the rounding of batched products differs."""
    states, stacked = full_pack()
    for _ in range(3):
        states, metrics, episodes = advance(states, stacked, [2, 0, 3, EMPTY])
    for number, slot in enumerate((2, 0, 3)):
        state, metrics_alone, episodes_alone = alone(number, segments=3)
        assert_close(take_slot(states, slot), state, 1e-9)
        assert_close(take_slot(metrics, number), metrics_alone, 1e-9)
        assert_close(take_slot(episodes, number), episodes_alone, 1e-9)


def test_in_float32_it_does_so_up_to_rounding():
    """Rounding differs in the last bits, and training magnifies that from segment to segment."""
    states, stacked = full_pack()
    states, metrics, _ = advance(states, stacked, [2, 0, 3, EMPTY])
    for number, slot in enumerate((2, 0, 3)):
        state, metrics_alone, _ = alone(number)
        assert_close(take_slot(states, slot).params, state.params, 1e-5)
        assert_close(take_slot(metrics, number).score, metrics_alone.score, 1e-3)


def test_keys_and_steps_are_exactly_those_of_a_trial_alone():
    states, stacked = full_pack()
    states, *_ = advance(states, stacked, [2, 0, 3, EMPTY])
    for number, slot in enumerate((2, 0, 3)):
        ours, theirs = take_slot(states, slot), alone(number)[0]
        assert_same_bits(ours.key, theirs.key)
        assert_same_bits(ours.env_steps, theirs.env_steps)


def test_who_is_not_named_is_not_trained():
    states, stacked = full_pack()
    before = jax.tree.map(lambda leaf: leaf.copy(), states)
    states, *_ = advance(states, stacked, [0, EMPTY, EMPTY, EMPTY])
    for slot in (1, 2, 3):
        assert_same_bits(take_slot(states, slot), take_slot(before, slot))
    assert list(np.asarray(states.env_steps[:, 0])) == [TINY.steps_per_segment, 0, 0, 0]


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_a_trial_that_diverges_changes_no_bit_of_its_neighbours(broken):
    states, stacked = full_pack()
    healthy, metrics, _ = advance(states, stacked, [2, 0, 3, EMPTY])
    states, stacked = full_pack()
    ill = take_slot(states, 0)
    ill = replace(ill, params=jax.tree.map(lambda leaf: leaf * broken, ill.params))
    states, ill_metrics, _ = advance(put_slot(states, 0, ill), stacked, [2, 0, 3, EMPTY])
    assert [bool(np.all(ill_metrics.diverged[lane])) for lane in range(3)] == [False, True, False]
    for lane, slot in ((0, 2), (2, 3)):
        assert_same_bits(take_slot(states, slot), take_slot(healthy, slot))
        assert_same_bits(take_slot(ill_metrics, lane), take_slot(metrics, lane))


def test_a_place_in_the_program_decides_nothing():
    states, stacked = full_pack()
    one, metrics, _ = advance(states, stacked, [2, 0, 3, EMPTY])
    states, stacked = full_pack()
    other, swapped, _ = advance(states, stacked, [3, 2, 0, EMPTY])
    assert_same_bits(one, other)
    assert_same_bits(take_slot(metrics, 0), take_slot(swapped, 1))


def test_nothing_is_compiled_again_as_trials_come_and_go():
    states, stacked = full_pack()
    states, *_ = advance(states, stacked, [2, 0, 3, EMPTY])
    programs = train_slots._cache_size()
    for number, slots in enumerate(([2, 0], [0, EMPTY], [3, 1], [1, 2])):
        states = put_slot(states, slots[0], state_of(number % 3))
        stacked = put_slot(stacked, slots[0], parameters((number + 1) % 3))
        states, *_ = advance(states, stacked, [*slots, EMPTY, EMPTY])
    assert train_slots._cache_size() == programs
