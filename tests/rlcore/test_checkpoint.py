"""States as files: whole, recognised, and continued from to the last bit."""

import json
import os
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from rlcore.checkpoint import load_checkpoint, read_metadata, save_checkpoint
from rlcore.ppo.config import PPOConfig
from tests.rlcore.small import TINY, assert_same_bits, fresh_state, state_template, train

METADATA = {"trial": "abc", "hidden_sizes": [8], "score": 12.5, "nothing": None}


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "state.safetensors"
    save_checkpoint(path, fresh_state(), METADATA)
    return path


def rewritten(path, **header):
    """The same arrays under another header; a value of None leaves an entry out."""
    arrays = safetensors.numpy.load_file(path)
    with safetensors.safe_open(path, framework="numpy") as file:
        entries = file.metadata() | header
    entries = {name: value for name, value in entries.items() if value is not None}
    path.write_bytes(safetensors.numpy.save(arrays, metadata=entries))


def refusal(path, template=None):
    """The message with which a file is refused."""
    with pytest.raises(ValueError) as refused:
        load_checkpoint(path, template or state_template())
    message = str(refused.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_a_state_comes_back_to_the_last_bit(saved):
    loaded, metadata = load_checkpoint(saved, fresh_state())
    assert_same_bits(loaded, fresh_state())
    assert metadata == read_metadata(saved) == METADATA


def test_the_template_need_not_be_computed(saved):
    loaded, _ = load_checkpoint(saved, state_template())
    assert_same_bits(loaded, fresh_state())
    assert jax.tree.structure(loaded) == jax.tree.structure(fresh_state())


def test_training_continues_as_if_never_interrupted(tmp_path):
    path = tmp_path / "state.safetensors"
    state, _ = train(fresh_state(), segments=2)
    save_checkpoint(path, state, {})
    uninterrupted = train(state, segments=2)
    loaded, _ = load_checkpoint(path, fresh_state())
    assert_same_bits(train(loaded, segments=2), uninterrupted)


def test_numbers_that_are_none_come_back(tmp_path):
    state = fresh_state()
    state = state.replace(params=jax.tree.map(lambda leaf: leaf * np.nan, state.params))
    save_checkpoint(tmp_path / "diverged", state, {})
    assert_same_bits(load_checkpoint(tmp_path / "diverged", fresh_state())[0], state)


def test_nothing_but_the_file_is_left(saved):
    assert os.listdir(saved.parent) == [saved.name]


def test_a_file_cut_short_is_refused(saved):
    whole = saved.read_bytes()
    for length in (0, 7, 8, 100, len(whole) // 2, len(whole) - 1):
        saved.write_bytes(whole[:length])
        assert "damaged" in refusal(saved, fresh_state())


def test_a_flipped_byte_in_the_header_is_refused(saved):
    whole = saved.read_bytes()
    for position in (0, 3, 7, 8, 9, whole.index(b"dtype"), whole.index(b"data_offsets")):
        flipped = bytearray(whole)
        flipped[position] ^= 0x10
        saved.write_bytes(flipped)
        refusal(saved, fresh_state())


def test_a_flipped_byte_in_the_arrays_is_refused(saved):
    whole = saved.read_bytes()
    (header_length,) = struct.unpack_from("<Q", whole)
    for position in (8 + header_length + 5, len(whole) - 1):
        flipped = bytearray(whole)
        flipped[position] ^= 0x10
        saved.write_bytes(flipped)
        assert "damaged" in refusal(saved, fresh_state())


def test_bytes_after_the_end_are_refused(saved):
    saved.write_bytes(saved.read_bytes() + b"more")
    assert "damaged" in refusal(saved, fresh_state())


def test_other_files_are_refused(tmp_path):
    foreign = tmp_path / "foreign.safetensors"
    safetensors.numpy.save_file({"weights": np.ones(3)}, foreign)
    assert "not a checkpoint" in refusal(foreign, fresh_state())
    safetensors.numpy.save_file({"weights": np.ones(3)}, foreign, metadata={"format": "np"})
    assert "not a checkpoint" in refusal(foreign, fresh_state())
    for content in (b"a text\nof two lines\n", b"\x00" * 64, json.dumps(METADATA).encode()):
        foreign.write_bytes(content)
        refusal(foreign, fresh_state())


def test_another_version_is_refused_by_its_number(saved):
    rewritten(saved, schema_version="99")
    message = refusal(saved, fresh_state())
    assert "99" in message
    assert "version 1" in message


@pytest.mark.parametrize("metadata", [None, "{", "[1, 2]", "7", '"text"'])
def test_a_header_without_readable_metadata_is_refused(saved, metadata):
    rewritten(saved, metadata=metadata)
    assert "damaged" in refusal(saved, fresh_state())


@pytest.mark.parametrize(
    "changes", [{"hidden_sizes": (16,)}, {"num_envs": 8}, {"hidden_sizes": (8, 8)}]
)
def test_a_state_of_another_config_is_refused(saved, changes):
    other = PPOConfig(**vars(TINY) | changes)
    assert "config" in refusal(saved, state_template(other))


def test_a_state_of_another_number_of_seeds_is_refused(saved):
    assert "config" in refusal(saved, state_template(seeds=(1, 2, 3)))


def test_a_state_of_another_precision_is_refused(tmp_path):
    """Not rounded without a word: it could not continue bit for bit."""
    state = fresh_state()
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), state.params)
        save_checkpoint(tmp_path / "double", state.replace(params=params), {})
    assert "float64" in refusal(tmp_path / "double", state)


def test_keys_of_another_generator_are_refused(tmp_path):
    state = fresh_state()
    keys = jax.random.split(jax.random.key(0, impl="rbg"), 2)
    save_checkpoint(tmp_path / "rbg", state.replace(key=keys), {})
    assert "key" in refusal(tmp_path / "rbg", state)


def test_a_file_that_is_not_there(tmp_path):
    for load in (lambda path: load_checkpoint(path, fresh_state()), read_metadata):
        with pytest.raises(FileNotFoundError):
            load(tmp_path / "missing")


@pytest.mark.parametrize("failing", ["replace", "fsync"])
def test_a_write_that_fails_leaves_the_earlier_file_alone(saved, monkeypatch, failing):
    before = saved.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(saved, fresh_state(seeds=(8, 9)), {})
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


def test_a_folder_that_is_not_there_is_said_so(tmp_path):
    with pytest.raises(FileNotFoundError):
        save_checkpoint(tmp_path / "missing" / "state", fresh_state(), {})
