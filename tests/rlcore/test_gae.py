"""Generalised advantages, by hand and by their two limits."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rlcore.ppo.gae import generalized_advantages

pytestmark = pytest.mark.usefixtures("strict_ranks")

R = [1.0, 2.0, 3.0]
V = [1.0, 2.0, 4.0]
V_NEXT = [2.0, 4.0, 8.0]
NEVER = [False, False, False]


def advantages(r=R, v=V, v_next=V_NEXT, terminated=NEVER, truncated=NEVER, gamma=0.5, lam=0.5):
    columns = (jnp.array(list_)[:, None] for list_ in (r, v, v_next, terminated, truncated))
    return generalized_advantages(*columns, gamma=gamma, gae_lambda=lam)[:, 0]


def test_an_episode_that_goes_on():
    # delta = r + v_next / 2 - v = 1, 2, 3;  A = 3, 2 + 3/4, 1 + 2.75/4
    np.testing.assert_array_equal(advantages(), [1.6875, 2.75, 3.0])


def test_a_termination_ends_the_sum_and_has_no_value():
    # delta = 1, 2 + 0 - 2, 3
    np.testing.assert_array_equal(advantages(terminated=[False, True, False]), [1.0, 0.0, 3.0])


def test_a_time_limit_ends_the_sum_and_keeps_the_last_observations_value():
    # delta = 1, 2 + 100/2 - 2, 3
    found = advantages(v_next=[2.0, 100.0, 8.0], truncated=[False, True, False])
    np.testing.assert_array_equal(found, [13.5, 50.0, 3.0])


@pytest.mark.parametrize("signal", ["terminated", "truncated"])
def test_nothing_leaks_from_the_next_episode(signal):
    ends = {signal: [False, True, False]}
    before = advantages(**ends)
    after = advantages(r=[1.0, 2.0, -7.0], v=[1.0, 2.0, 9.0], v_next=[2.0, 4.0, -8.0], **ends)
    np.testing.assert_array_equal(before[:2], after[:2])
    assert before[2] != after[2]


def test_environments_do_not_mix():
    one, other = jnp.array(R), jnp.array([-4.0, 0.0, 2.0])
    r_t = jnp.stack([one, other], axis=1)
    v_t, v_next_t = (jnp.array([list_, list_]).T for list_ in (V, V_NEXT))
    never = jnp.zeros((3, 2), bool)
    both = generalized_advantages(r_t, v_t, v_next_t, never, never, gamma=0.5, gae_lambda=0.5)
    np.testing.assert_array_equal(both[:, 0], advantages())
    np.testing.assert_array_equal(both[:, 1], advantages(r=[-4.0, 0.0, 2.0]))


T, B = 7, 3
NUMBERS = hnp.arrays(np.float64, (T, B), elements=st.floats(-10, 10))
SIGNALS = hnp.arrays(bool, (T, B))
UNIT = st.floats(0, 1)
compiled = jax.jit(generalized_advantages)


@given(r=NUMBERS, v=NUMBERS, v_end=NUMBERS, ends=SIGNALS, limits=SIGNALS, gamma=UNIT)
def test_lambda_one_is_the_discounted_return_minus_the_value(r, v, v_end, ends, limits, gamma):
    limits &= ~ends
    # Within an episode, the value of a step's end is the value of the next step's beginning.
    v_next = np.where(ends | limits, v_end, np.concatenate([v[1:], v_end[-1:]]))
    returns = np.zeros((T, B))
    following = v_next[-1]
    for t in reversed(range(T)):
        following = np.where(limits[t], v_next[t], np.where(ends[t], 0.0, following))
        following = returns[t] = r[t] + gamma * following
    with jax.enable_x64(True):
        found = compiled(
            *map(jnp.asarray, (r, v, v_next, ends, limits)), gamma=gamma, gae_lambda=1.0
        )
    np.testing.assert_allclose(found, returns - v, rtol=0, atol=1e-12 * 10 * T**2)


@given(r=NUMBERS, v=NUMBERS, v_next=NUMBERS, ends=SIGNALS, limits=SIGNALS, gamma=UNIT)
def test_lambda_zero_is_the_td_error(r, v, v_next, ends, limits, gamma):
    limits &= ~ends
    with jax.enable_x64(True):
        found = compiled(
            *map(jnp.asarray, (r, v, v_next, ends, limits)), gamma=gamma, gae_lambda=0.0
        )
    np.testing.assert_allclose(found, r + gamma * np.where(ends, 0.0, v_next) - v, atol=1e-13)


def test_a_wrong_shape_is_refused_while_testing():
    with pytest.raises(jaxtyping.TypeCheckError, match="v_next_t"):
        generalized_advantages(
            jnp.zeros((3, 2)),
            jnp.zeros((3, 2)),
            jnp.zeros((2, 3)),
            jnp.zeros((3, 2), bool),
            jnp.zeros((3, 2), bool),
            gamma=0.9,
            gae_lambda=0.9,
        )
