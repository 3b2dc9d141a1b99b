"""JAX on a GPU: whether it can use one, with which precision, and that no CPU trains instead."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from tuners.login import error_line

INSTALL_CUDA = "`rm -rf .venv; make setup LOCK=requirements-cuda12.lock` installs one that can"
# Of products on a GPU, and JAX's names for them.  Of its own "tensorfloat32" XLA makes float32
# wherever a kernel of Triton's is faster than one of cuBLAS.
PRECISIONS = {"float32": "float32", "tensorfloat32": "default"}


def has_cuda() -> bool:
    """Returns whether the JAX installed here can use NVIDIA's GPUs."""
    return any(find_spec(f"jax_cuda{major}_plugin") is not None for major in (12, 13))


def gpu_environment(precision: str) -> dict[str, str]:
    """Returns what a process that trains on a GPU needs in its environment before it imports JAX.

    Args:
        precision: of matrix products; name in ``PRECISIONS``.  JAX's own default on NVIDIA's GPUs
            is tensorfloat32, whose factors have ten bits.
    """
    return {
        # Named, a GPU that fails to start is an error; of one that is not seen JAX says nothing.
        "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS") or "cuda,cpu",
        "JAX_DEFAULT_MATMUL_PRECISION": PRECISIONS[precision],
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # other processes train on the same GPU
    }


@contextmanager
def hearing_jax() -> Iterator[list[str]]:
    """Yields a list of why JAX's plug-ins for devices did not start: it only logs that."""
    heard: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info and record.exc_info[1] is not None:
                heard.append(error_line(record.exc_info[1]))

    logger, ear = logging.getLogger("jax._src.xla_bridge"), Ear()
    logger.addHandler(ear)
    try:
        yield heard
    finally:
        logger.removeHandler(ear)


class UnusableGPU(RuntimeError):
    """A process was to train on a GPU that JAX cannot use."""


def require_gpu() -> None:
    """Loads JAX, and lets no process train on a CPU that was to train on a GPU.

    Where the driver shows no device, JAX leaves out "cuda", also if JAX_PLATFORMS names it, and
    takes the CPU without a word.

    Raises:
        UnusableGPU: in a line, where; not if JAX_PLATFORMS is "cpu": who says so wants the CPU.
    """
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        return
    import jax

    with hearing_jax() as heard:
        try:
            device = jax.devices()[0]
        except RuntimeError as error:
            why = error_line(error)
        else:
            if device.platform == "gpu":
                return
            why = f"it would train on the {device.platform}"
    raise UnusableGPU("; ".join([f"JAX has no GPU on {socket.gethostname()}: {why}", *heard]))
