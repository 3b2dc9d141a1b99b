"""Train states as files: no pickle, versioned, written beside and then renamed."""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from rlcore.files import replacing
from rlcore.ppo.train import TrainState
from rlcore.types import PyTree

FORMAT = "shapesweep-train-state"
SCHEMA_VERSION = 1


def save_checkpoint(path: Path, state: TrainState, metadata: dict[str, Any]) -> None:
    """Writes a train state and JSON-serialisable ``metadata`` to one safetensors file.

    The file appears under its name only when it is whole.

    Raises:
        OSError: the folder cannot be written.
    """
    arrays = {
        name: np.ascontiguousarray(_plain(leaf)) for name, leaf in _named_leaves(state).items()
    }
    text = json.dumps(metadata)
    header = {
        "format": FORMAT,
        "schema_version": str(SCHEMA_VERSION),
        "metadata": text,
        "crc32": _checksum(arrays, text),
    }
    with replacing(path) as beside:
        save_file(arrays, beside, metadata=header)


def load_checkpoint(path: Path, template: TrainState) -> tuple[TrainState, dict[str, Any]]:
    """Returns the state saved at ``path`` and its metadata.

    Args:
        path: a file written by ``save_checkpoint``.
        template: a state, or its ``jax.eval_shape``, of the same static config.

    Raises:
        ValueError: the file is damaged, not a checkpoint, or of another config or version.
        FileNotFoundError: there is no such file.
    """
    arrays, metadata = load_arrays(path)
    names = _named_leaves(template)
    if set(arrays) != set(names):
        raise ValueError(f"{path} holds another kind of trainer state; use the config it came with")
    leaves = [_restore(path, name, arrays[name], leaf) for name, leaf in names.items()]
    return jax.tree.unflatten(jax.tree.structure(template), leaves), metadata


def load_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Returns the arrays of a checkpoint by name, and its metadata.

    Raises:
        ValueError: the file is damaged or not a checkpoint of this version.
        FileNotFoundError: there is no such file.
    """
    header, metadata = _read_header(path)
    try:
        arrays = load_file(path)
    except (SafetensorError, KeyError, TypeError, AttributeError) as error:  # a type of no array
        raise ValueError(f"{path} is damaged ({error}); use the checkpoint before it") from error
    if header.get("crc32") != _checksum(arrays, header["metadata"]):
        raise ValueError(f"{path} is damaged (its checksum differs); use the checkpoint before it")
    return arrays, metadata


def read_metadata(path: Path) -> dict[str, Any]:
    """Returns the metadata of a checkpoint without reading its arrays.

    Raises:
        ValueError: the file is damaged or not a checkpoint of this version.
        FileNotFoundError: there is no such file.
    """
    return _read_header(path)[1]


def is_whole(path: Path) -> bool:
    """Returns whether ``path`` can be read as a checkpoint, to the last bit that was written."""
    try:
        load_arrays(path)
    except (ValueError, OSError):
        return False
    return True


def _read_header(path: Path) -> tuple[dict[str, str], dict[str, Any]]:
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}); use the checkpoint before it") from error
    if header.get("format") != FORMAT:
        raise ValueError(f"{path} is not a checkpoint of this project")
    if header.get("schema_version") != str(SCHEMA_VERSION):
        raise ValueError(
            f"{path} has checkpoint version {header.get('schema_version')}, but this code"
            f" reads version {SCHEMA_VERSION}"
        )
    try:
        return header, dict(json.loads(header["metadata"]))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}); use the checkpoint before it") from error


def _restore(path: Path, name: str, array: np.ndarray, expected: Any) -> jax.Array:
    """Returns a stored array as the template's leaf has it; never converts it."""
    is_key = jnp.issubdtype(expected.dtype, jax.dtypes.prng_key)
    wanted = jax.eval_shape(jax.random.key_data, expected) if is_key else expected
    if array.shape != wanted.shape or array.dtype != wanted.dtype:
        raise ValueError(
            f"{path}: {name} is {array.dtype}{list(array.shape)}, but the config asks for"
            f" {wanted.dtype}{list(wanted.shape)}; use the config it came with"
        )
    leaf = jnp.asarray(array)
    return jax.random.wrap_key_data(leaf) if is_key else leaf


def _named_leaves(tree: PyTree) -> dict[str, Any]:
    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in paths}


def _plain(leaf: jax.Array | np.ndarray) -> np.ndarray:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return np.asarray(jax.random.key_data(leaf))
    return np.asarray(leaf)


def _checksum(arrays: Mapping[str, np.ndarray], metadata: str) -> str:
    crc = zlib.crc32(metadata.encode())
    for name in sorted(arrays):
        array = arrays[name]
        crc = zlib.crc32(repr((name, array.dtype.str, array.shape)).encode(), crc)
        crc = zlib.crc32(array.tobytes(), crc)
    return f"{crc:08x}"
