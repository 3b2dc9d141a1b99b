"""Policies as plain arrays: the same actions as in JAX, the same score in another simulator."""

import itertools
import json
import shutil
import struct
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

import rlcore.policy
from rlcore.evaluate import evaluate
from rlcore.policy import Policy
from rlcore.ppo import networks
from rlcore.ppo.config import ACTIVATIONS, PPOConfig
from rlcore.ppo.train import policy_of
from rlcore.rewards import TERMS, make_reward_params
from rlcore.tasks.dynamics import CartPoleState
from rlcore.tasks.swingup import SwingUp
from tests.rlcore import numpy_swingup
from tests.rlcore.small import fresh_state, train

TRAINED = PPOConfig(updates_per_segment=16, seeds_per_trial=1)  # 65 536 steps a segment


def random_policy(sizes=(5, 8, 8, 1), activation="tanh", **changes):
    generator = np.random.default_rng(0)
    pairs = list(itertools.pairwise(sizes))
    fields = {
        "kernels": tuple(generator.normal(size=pair).astype(np.float32) for pair in pairs),
        "biases": tuple(generator.normal(size=b).astype(np.float32) for _, b in pairs),
        "activation": activation,
        "task": "swingup",
    }
    return Policy(**fields | changes)


def exported(params, seed=0):
    """The policy of one seed of a state's parameters."""
    dense = params["actor"]["network"]["params"]
    layers = [dense[f"Dense_{i}"] for i in range(len(dense))]
    return Policy(
        kernels=tuple(np.asarray(layer["kernel"][seed]) for layer in layers),
        biases=tuple(np.asarray(layer["bias"][seed]) for layer in layers),
        activation="tanh",
        task="swingup",
    )


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "policy.safetensors"
    random_policy().save(path)
    return path


def test_an_action_by_hand():
    policy = Policy(
        kernels=(
            np.array([[1.0, -2.0], [0.5, 0.0]], np.float32),
            np.array([[2.0], [1.0]], np.float32),
        ),
        biases=(np.array([0.0, 1.0], np.float32), np.array([-1.0], np.float32)),
        activation="relu",
        task="swingup",
    )
    # Hidden relu(0.5 + 0.25, -1 + 1) = 0.75, 0: action 1.5 - 1.
    # Hidden relu(0.4, -0.8 + 1) = 0.4, 0.2: 0.8 + 0.2 - 1. Hidden 9, 0: clipped.
    np.testing.assert_allclose(policy(np.array([0.5, 0.5])), [0.5])
    np.testing.assert_allclose(
        policy(np.array([[0.4, 0.0], [9.0, 0.0]])), [[0.0], [1.0]], atol=1e-6
    )


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_actions_are_those_of_the_network_in_jax(activation):
    policy = random_policy(activation=activation)
    config = PPOConfig(hidden_sizes=(8, 8), activation=activation)
    params = {
        f"Dense_{i}": {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)}
        for i, (kernel, bias) in enumerate(zip(policy.kernels, policy.biases, strict=True))
    }
    observations = np.random.default_rng(1).normal(size=(500, 5)).astype(np.float32)
    mean = networks.actor(config, 1).apply({"params": params}, jnp.asarray(observations))
    layers = networks.apply_layers(
        [jnp.asarray(kernel) for kernel in policy.kernels],
        [jnp.asarray(bias) for bias in policy.biases],
        activation,
        jnp.asarray(observations),
    )
    np.testing.assert_allclose(layers, mean, rtol=0, atol=1e-5)
    expected = np.clip(mean, -1.0, 1.0)
    assert np.mean(np.abs(expected) < 1.0) > 0.2
    np.testing.assert_allclose(policy(observations), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_far_off_observations_give_actions_without_a_warning(activation):
    action = random_policy(activation=activation)(np.array([[1e4, -1e4, 1e4, 1e4, -1e4]] * 2))
    assert np.all(np.abs(action) <= 1)


def test_observations_of_any_batch_shape():
    policy = random_policy()
    observations = np.random.default_rng(1).normal(size=(3, 2, 5))
    assert policy(observations).shape == (3, 2, 1)
    np.testing.assert_array_equal(policy(observations)[1, 1], policy(observations[1, 1]))


@pytest.mark.parametrize("shape", [(4,), (3, 6), ()])
def test_observations_of_another_width_are_refused(shape):
    with pytest.raises(ValueError, match="5 wide"):
        random_policy()(np.zeros(shape))


@pytest.fixture(scope="module")
def trained():
    """Parameters and score of a policy trained as a user would: XLA's optimisations are on."""
    reward = make_reward_params(TERMS["swingup"], {"task_score.weight": 1.0})
    jax.config.update("jax_disable_most_optimizations", False)
    try:
        state, metrics = train(fresh_state(TRAINED, seeds=(0,)), TRAINED, reward=reward, segments=4)
    finally:
        jax.config.update("jax_disable_most_optimizations", True)
    return jax.tree.map(np.asarray, state.params), float(metrics.score.score[0])


def test_a_quarter_of_a_million_steps_solve_the_task(trained):
    # Six seeds of this scored 831 to 859 when the design was measured; not solved is below 400.
    assert trained[1] > 750


def test_an_independent_simulation_gives_the_same_score(trained):
    """The whole chain, exported, against the equations of the design written once more."""
    params, _ = trained
    generator = np.random.default_rng(0)
    starts = generator.normal([0, 0, np.pi, 0], 0.01, size=(16, 4)).astype(np.float32)

    class FixedStarts(SwingUp):
        def reset_evaluation(self, key, n):
            return CartPoleState.from_array(jnp.asarray(starts))

    task = FixedStarts()
    policy = policy_of(TRAINED, task, jax.tree.map(lambda leaf: leaf[0], params))
    score, episodes = jax.jit(lambda key: evaluate(task, policy, key, 16))(jax.random.key(0))
    np.testing.assert_array_equal(episodes.states[0, 0], starts[0])
    found = numpy_swingup.simulate(exported(params), starts.astype(np.float64))
    assert np.mean(found) == pytest.approx(float(score.score), abs=1.0)
    # Also each on its own, which a mean could hide: the one episode kept.
    kept = 1000 * float(np.mean(episodes.score_rates[:, 0]))
    assert found[0] == pytest.approx(kept, abs=1.0)


def test_a_state_exports_each_of_its_seeds(tmp_path):
    params = jax.tree.map(np.asarray, fresh_state(seeds=(3, 7)).params)
    one, other = exported(params, 0), exported(params, 1)
    observations = np.random.default_rng(1).normal(size=(9, 5)).astype(np.float32)
    assert not np.allclose(one(observations), other(observations), atol=1e-6)
    config = PPOConfig(hidden_sizes=(8,))
    means = jax.vmap(
        lambda of_seed: policy_of(config, SwingUp(), of_seed)(jnp.asarray(observations))
    )
    for policy, mean in zip((one, other), means(params), strict=True):
        policy.save(tmp_path / "policy")
        found = Policy.load(tmp_path / "policy")(observations)
        np.testing.assert_allclose(found, mean, rtol=0, atol=1e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_policy_comes_back_to_the_last_bit(tmp_path, activation):
    policy = random_policy(activation=activation)
    policy.save(tmp_path / "policy")
    loaded = Policy.load(str(tmp_path / "policy"))
    for name in ("kernels", "biases"):
        for array, other in zip(getattr(policy, name), getattr(loaded, name), strict=True):
            assert array.dtype == other.dtype
            np.testing.assert_array_equal(array, other)
    assert (loaded.activation, loaded.task) == (activation, "swingup")
    observations = np.random.default_rng(1).normal(size=(9, 5))
    np.testing.assert_array_equal(policy(observations), loaded(observations))


def test_the_file_is_a_safetensors_file(saved):
    arrays = safetensors.numpy.load_file(saved)
    np.testing.assert_array_equal(arrays["layer1.kernel"], random_policy().kernels[1])
    with safetensors.safe_open(saved, framework="numpy") as file:
        assert file.metadata()["activation"] == "tanh"


WITHOUT_JAX = """
import sys
for name in ("jax", "jaxlib", "flax", "safetensors", "rlcore"):
    sys.modules[name] = None
import numpy as np
from policy import Policy
print(Policy.load(sys.argv[1])(np.full((2, 5), 0.1)).tolist())
"""


def test_it_runs_as_a_file_of_its_own_where_jax_cannot_be_imported(saved):
    shutil.copy(rlcore.policy.__file__, saved.parent / "policy.py")
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_JAX, saved.name],
        cwd=saved.parent,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    np.testing.assert_array_equal(json.loads(run.stdout), random_policy()(np.full((2, 5), 0.1)))


def test_a_write_that_fails_leaves_the_earlier_file_alone(saved, monkeypatch):
    before = saved.read_bytes()

    def fail(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(rlcore.policy.os, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        random_policy(sizes=(5, 1)).save(saved)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        Policy.load(tmp_path / "missing")


def assert_refused(path):
    with pytest.raises(ValueError) as refused:
        Policy.load(path)
    message = str(refused.value)
    assert str(path) in message
    assert "\n" not in message


def test_a_file_cut_short_or_too_long_is_refused(saved):
    whole = saved.read_bytes()
    for content in (*(whole[:n] for n in (0, 7, 8, 100, len(whole) - 1)), whole + b"more"):
        saved.write_bytes(content)
        assert_refused(saved)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "foreign"
    safetensors.numpy.save_file({"weights": np.ones(3, np.float32)}, path)
    assert_refused(path)
    safetensors.numpy.save_file({"weights": np.ones(3)}, path, metadata={"format": "np"})
    assert_refused(path)
    for content in (b"a text\nof two lines\n", b"\x00" * 64, b"\xff" * 64, b"[" * 100_000):
        path.write_bytes(content)
        assert_refused(path)


def with_header(path, change):
    """Rewrites a policy's JSON header."""
    content = path.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    text = json.dumps(change(header) or header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


DAMAGE = {
    "no layers": lambda header: {"__metadata__": header["__metadata__"]},
    "no metadata": lambda header: header.pop("__metadata__") and None,
    "a bias missing": lambda header: header.pop("layer1.bias") and None,
    "a kernel of no known name": lambda header: header.update(a=header.pop("layer2.kernel")),
    "another shape": lambda header: header["layer0.kernel"].update(shape=[8, 5]),
    "a bias too long": lambda header: header.update({"layer2.bias": header["layer0.bias"]}),
    "a flat kernel": lambda header: header["layer1.kernel"].update(shape=[64]),
    "a huge shape": lambda header: header["layer0.kernel"].update(shape=[10**30]),
    "a shape of text": lambda header: header["layer0.kernel"].update(shape="8"),
    "another type": lambda header: header["layer0.kernel"].update(dtype="F64"),
    "one offset": lambda header: header["layer0.kernel"].update(data_offsets=[0]),
    "offsets of text": lambda header: header["layer0.kernel"].update(data_offsets=["0", "9"]),
    "another format": lambda header: header["__metadata__"].update(format="shapesweep-train-state"),
    "an unknown activation": lambda header: header["__metadata__"].update(activation="gelu"),
    "a list": lambda header: [header],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_header_that_describes_no_policy_is_refused(saved, damage):
    with_header(saved, DAMAGE[damage])
    assert_refused(saved)


def test_a_deeply_nested_header_is_refused(saved):
    text = b'{"__metadata__": ' + b"[" * 100_000
    saved.write_bytes(struct.pack("<Q", len(text)) + text)
    assert_refused(saved)


@pytest.fixture(scope="module")
def mangled(tmp_path_factory):
    path = tmp_path_factory.mktemp("mangled") / "policy"
    random_policy(sizes=(2, 2, 1)).save(path)
    return path, path.read_bytes()


@settings(max_examples=300)
@given(data=st.data())
def test_mangled_bytes_give_a_policy_or_a_value_error(mangled, data):
    path, whole = mangled
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, max(len(content) - 1, 0)))
        removed = data.draw(st.integers(0, 12))
        inserted = data.draw(st.binary(max_size=4) | st.text('{}[]":,0123456789eE-', max_size=4))
        content[start : start + removed] = (
            inserted if isinstance(inserted, bytes) else inserted.encode()
        )
    path.write_bytes(content)
    try:
        policy = Policy.load(path)
    except ValueError as error:
        assert str(path) in str(error)
    else:
        with np.errstate(all="ignore"):  # mangled weights are any numbers
            assert policy(np.zeros((3, len(policy.kernels[0])))).shape[:-1] == (3,)


@given(content=st.binary(max_size=200))
def test_any_bytes_are_refused(mangled, content):
    path, _ = mangled
    path.write_bytes(content)
    assert_refused(path)
