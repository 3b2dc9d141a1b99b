"""A trained policy as plain arrays.  Needs NumPy alone, so an export carries this very file.

policy = Policy.load("policy.safetensors")
action = policy(observation)          # [..., O] -> [..., A], or an index [..., 1] of a choice
"""

import itertools
import json
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FORMAT = "shapesweep-policy"
MAX_BYTES = 2**28
_READ_ERRORS = (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError)
_ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0.0),
    "swish": lambda x: 0.5 * x * (1.0 + np.tanh(0.5 * x)),
}


@dataclass(frozen=True)
class Policy:
    """A deterministic policy: dense layers with one activation between them.

    Attributes:
        kernels: weight matrices [inputs, outputs], first layer first.
        biases: one vector a layer.
        activation: ``tanh``, ``relu`` or ``swish``.
        task: name of the task it was trained on.
        discrete: whether the last layer rates choices; the action is then the best one's index.
    """

    kernels: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    activation: str
    task: str
    discrete: bool = False

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        """Returns the actions [..., A] for observations [..., O]; of choices, indices [..., 1].

        Raises:
            ValueError: the observations have another width than the policy was trained on.
        """
        x = np.asarray(observation, dtype=self.kernels[0].dtype)
        if x.ndim == 0 or x.shape[-1] != self.kernels[0].shape[0]:
            raise ValueError(
                f"observation has shape {x.shape}, but its last axis must be"
                f" {self.kernels[0].shape[0]} wide"
            )
        for kernel, bias in zip(self.kernels[:-1], self.biases[:-1], strict=True):
            x = _ACTIVATIONS[self.activation](x @ kernel + bias)
        output = x @ self.kernels[-1] + self.biases[-1]
        if self.discrete:
            return np.argmax(output, axis=-1, keepdims=True)
        return np.clip(output, -1.0, 1.0)

    def save(self, path: str | Path) -> None:
        """Writes the policy as a safetensors file, beside first and then renamed."""
        arrays: dict[str, np.ndarray] = {}
        for i, (kernel, bias) in enumerate(zip(self.kernels, self.biases, strict=True)):
            arrays |= {f"layer{i}.kernel": kernel, f"layer{i}.bias": bias}
        metadata = {
            "format": FORMAT,
            "activation": self.activation,
            "task": self.task,
            "discrete": str(self.discrete),
        }
        beside = Path(path).with_name(f".{Path(path).name}.{os.getpid()}.tmp")
        try:
            beside.write_bytes(_encode(arrays, metadata))
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | Path) -> "Policy":
        """Returns the policy saved at ``path``.

        Raises:
            ValueError: the file is damaged or not a policy.
            FileNotFoundError: there is no such file.
        """
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
        try:
            if len(content) > MAX_BYTES:
                raise ValueError("larger than any policy")
            arrays, metadata = _decode(content)
            if metadata["format"] != FORMAT or metadata["activation"] not in _ACTIVATIONS:
                raise ValueError("not a policy")
            layers = range(len(arrays) // 2)
            policy = cls(
                kernels=tuple(arrays[f"layer{i}.kernel"] for i in layers),
                biases=tuple(arrays[f"layer{i}.bias"] for i in layers),
                activation=metadata["activation"],
                task=metadata["task"],
                discrete={"True": True, "False": False}[metadata["discrete"]],
            )
            policy._check(len(arrays))
            return policy
        except (*_READ_ERRORS, struct.error) as error:
            raise ValueError(f"{path} is damaged or not a policy; export it again") from error

    def _check(self, arrays: int) -> None:
        """Refuses what no trained policy is; ``arrays`` is how many the file held."""
        widths = [kernel.shape for kernel in self.kernels]
        chained = all(a[1:] == b[:1] for a, b in itertools.pairwise(widths))
        fitting = all(
            kernel.ndim == 2 and bias.shape == kernel.shape[1:]
            for kernel, bias in zip(self.kernels, self.biases, strict=True)
        )
        if not widths or arrays != 2 * len(widths) or not chained or not fitting:
            raise ValueError("layers that do not fit together")


def _encode(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """Returns a safetensors file: header length, JSON header, then the arrays' bytes."""
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    body, offset = [], 0
    for name, array in arrays.items():
        data = np.ascontiguousarray(array, dtype="<f4").tobytes()
        end = offset + len(data)
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [offset, end]}
        body.append(data)
        offset = end
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(body)


def _decode(content: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Returns the arrays and metadata of a safetensors file of float32 arrays."""
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    metadata = header.pop("__metadata__")
    body = memoryview(content)[8 + length :]  # slices of it take no memory
    arrays = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        if entry["dtype"] != "F32" or not 0 <= start <= end <= len(body):
            raise ValueError("damaged header")
        arrays[name] = np.frombuffer(body[start:end], "<f4").reshape(entry["shape"])
    if sum(array.nbytes for array in arrays.values()) != len(body):
        raise ValueError("not the arrays' length")
    return arrays, metadata
