"""What every registered task keeps to: see rlcore/tasks/base.py."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcore.rewards import SHAPES, TERMS, make_reward_params
from rlcore.tasks import TASKS
from rlcore.tasks.dynamics import CartPoleState
from rlcore.video import LARGEST, SMALLEST

N = 6


@partial(jax.jit, static_argnums=0)
def stepped_and_scored(task_class, state, action):
    next_state = task_class().step(state, action)
    return task_class().score_rate(next_state, action)


def test_a_task_has_a_line_in_every_registry():
    assert set(TASKS) == set(TERMS) == set(SHAPES)
    for name in TASKS:
        assert {"baseline", "task_score"} <= set(SHAPES[name]), name
        assert "task_score" in TERMS[name], name


@pytest.fixture(params=sorted(TASKS))
def task(request):
    return TASKS[request.param]()


def test_evaluation_and_films_are_given_the_cart_and_the_pole_that_they_know(task):
    for reset in (task.reset, task.reset_evaluation):
        assert (
            type(jax.eval_shape(lambda reset=reset: reset(jax.random.key(0), N))) is CartPoleState
        )
    assert SMALLEST <= task.rail <= LARGEST
    assert SMALLEST <= 2 * task.half_length <= LARGEST
    assert task.action_size == 1 or task.discrete


def actions(task, *shape):
    """Some action of the task, the same in every environment."""
    return jnp.ones((*shape, 1), jnp.int32) if task.discrete else jnp.full((*shape, 1), 0.5)


def assert_floats(array, shape):
    assert array.shape == shape
    assert array.dtype == jnp.zeros(()).dtype  # the working precision


def assert_states(states, shape):
    leaves = jax.tree.leaves(states)
    assert leaves
    for leaf in leaves:
        assert_floats(leaf, shape)


def check_shapes_and_types(task):
    key = jax.random.key(0)
    action = actions(task, N)
    start = jax.eval_shape(lambda: task.reset(key, N))
    hanging = jax.eval_shape(lambda: task.reset_evaluation(key, N))
    after = jax.eval_shape(task.step, start, action)
    assert_states(start, (N,))
    assert_states(hanging, (N,))
    assert_states(after, (N,))
    assert_floats(jax.eval_shape(task.observe, start), (N, task.observation_size))
    assert_floats(jax.eval_shape(task.score_rate, after, action), (N,))
    assert_floats(jax.eval_shape(task.force, action), (N,))
    terminated = jax.eval_shape(task.terminated, after)
    assert terminated.shape == (N,)
    assert terminated.dtype == bool
    assert jax.tree.structure(after) == jax.tree.structure(start)


def test_shapes_and_types_in_float32(task):
    check_shapes_and_types(task)


def test_shapes_and_types_in_float64(task, x64):
    check_shapes_and_types(task)


def test_any_batch_shape_will_do(task):
    start = task.reset(jax.random.key(0), N)
    grid = jax.tree.map(lambda leaf: leaf.reshape(2, 3), start)
    action = actions(task, N)
    rows, cells = (
        task.step(state, action.reshape(*shape, -1))
        for state, shape in ((start, (N,)), (grid, (2, 3)))
    )
    for row, cell in zip(jax.tree.leaves(rows), jax.tree.leaves(cells), strict=True):
        np.testing.assert_array_equal(row.reshape(2, 3), cell)
    np.testing.assert_array_equal(
        task.observe(start).reshape(2, 3, task.observation_size), task.observe(grid)
    )


def test_no_episode_begins_at_its_end(task):
    for reset in (task.reset, task.reset_evaluation):
        start = reset(jax.random.key(5), 512)
        assert not np.any(task.terminated(start))
        assert np.all(np.isfinite(task.observe(start)))


def test_a_key_decides_its_starts(task):
    for reset in (task.reset, task.reset_evaluation):
        one, again, other = (reset(jax.random.key(seed), N) for seed in (0, 0, 1))
        assert all(jax.tree.leaves(jax.tree.map(np.array_equal, one, again)))
        assert not all(jax.tree.leaves(jax.tree.map(np.array_equal, one, other)))
        first = jax.tree.map(lambda leaf: np.unique(leaf).size == N, one)
        assert any(jax.tree.leaves(first)), "the starts of one key are all alike"


@pytest.mark.parametrize("name", sorted(TASKS))
@given(data=st.data())
def test_the_score_rate_lies_in_the_unit_interval(name, data):
    task = TASKS[name]
    leaves, structure = jax.tree.flatten(jax.eval_shape(lambda: task().reset(jax.random.key(0), 1)))
    numbers = st.floats(-100, 100, width=32)
    state = jax.tree.unflatten(structure, [jnp.array([data.draw(numbers)]) for _ in leaves])
    action = jnp.array([[data.draw(st.integers(0, 1) if task.discrete else numbers)]])
    assert 0 <= stepped_and_scored(task, state, action)[0] <= 1


def test_its_constants_are_traced_and_its_limits_are_not(task):
    assert jax.tree.leaves(task), "physical constants are leaves"
    assert isinstance(task.horizon, int)
    assert isinstance(task.dt, float)
    assert type(task).name in TASKS
    assert TASKS[type(task).name] is type(task)


def test_its_reward_shapes_can_be_made(task):
    assert {"baseline", "task_score"} <= set(SHAPES[task.name])
    for values in SHAPES[task.name].values():
        make_reward_params(TERMS[task.name], values)
