"""Which code, packages and settings of JAX made a result."""

import hashlib
import subprocess
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import jax

import rlcore
import tuners
from rlcore.tasks import TASKS
from tuners import results

VERSIONED = ("ray", "jax", "flax", "optax", "mlflow", "numpy")
# An environment may set them for all that a person runs.
JAX_SETTINGS = (
    "jax_enable_x64",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_random_seed_offset",
)
DECIDE_CURVES = ("jax", "flax", "optax", *JAX_SETTINGS)


def code_version() -> str:
    """Returns a hash of what decides a curve: the source of ``rlcore`` and the file schemas."""
    digest = hashlib.sha256(str(results.SCHEMA_VERSION).encode())
    for schema in (results.TRIALS_SCHEMA, *map(results.segments_schema, TASKS)):
        digest.update(schema.to_string(show_field_metadata=False).encode())
    _read_sources(digest, rlcore)
    return digest.hexdigest()[:12]


def program_version() -> str:
    """Returns a hash of all code that runs on a worker, which must be the driver's."""
    digest = hashlib.sha256()
    for package in (rlcore, tuners):
        _read_sources(digest, package)
    return digest.hexdigest()[:12]


def _read_sources(digest: Any, package: ModuleType) -> None:
    root = Path(str(package.__file__)).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode())
        digest.update(path.read_bytes())


def git_revision() -> str:
    """Returns the checkout's revision, or "unknown" outside one."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(rlcore.__file__).parent,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found.stdout.strip()


def versions() -> dict[str, str]:
    """Returns what results depend on beside the code: versions of packages, settings of JAX."""
    settings = {name: str(getattr(jax.config, name, None)) for name in JAX_SETTINGS}
    return {name: version(name) for name in VERSIONED} | settings
