"""What every test shares: JAX on the CPU, checked shapes, float64 on demand."""

import os

# Before anything imports jax.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import pytest
from beartype import beartype
from hypothesis import settings
from jaxtyping import Array, Float, install_import_hook
from xdist.scheduler import LoadFileScheduling

# Most tests run a program for less time than XLA takes to optimise it: this halves the time of all.
# tests/rlcore/test_policy.py trains with the optimisations that a user has. For this process alone.
jax.config.update("jax_disable_most_optimizations", True)

# Files that look at the sweep of fixture smoke, so that it is run in one process, once.
SMOKE = [f"tests/e2e/test_{name}.py" for name in ("sweep", "browser", "report_page")]

# Left out: rlcore.video and rlcore.policy, which annotate no shapes and say themselves what is
# wrong with an argument.
SHAPE_CHECKED = (
    *("rlcore.checkpoint", "rlcore.evaluate", "rlcore.files", "rlcore.ppo"),
    *("rlcore.rewards", "rlcore.tasks", "rlcore.types"),
)


def check_shapes(function: Callable[..., Any]) -> Callable[..., Any]:
    """Checks the annotated types and shapes of a function's arguments and result at each call.

    Not those of a dataclass: its arrays are stacked over seeds when they cross ``jit``, and are
    placeholders while JAX rebuilds it. ``float`` takes a traced scalar too: the number it was.
    """
    if function.__name__ == "__init__":
        return function
    number = float | Float[Array, ""]
    function.__annotations__ = {
        name: number if annotation is float else annotation
        for name, annotation in function.__annotations__.items()
    }
    return beartype(function)


install_import_hook(SHAPE_CHECKED, f"{__name__}.check_shapes")


class TogetherScheduling(LoadFileScheduling):
    """Hands whole files to processes: their tests need the same programs, and maybe one sweep."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "smoke" if file in SMOKE else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> TogetherScheduling:
    return TogetherScheduling(config, log)


# The same examples on each run: a failure is found by a change, not by luck. No deadline: the first
# example of a law compiles.
settings.register_profile("reproducible", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("reproducible")


@pytest.fixture
def x64() -> Iterator[None]:
    """JAX in float64 for one test; make its arrays inside the test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def strict_ranks() -> Iterator[None]:
    """An error where shapes are matched by adding axes in front, which hides mistakes."""
    with jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture(autouse=True)
def environment_of_each_test() -> Iterator[None]:
    """No test sees variables that one before it has set in this process, as scripts do."""
    before = dict(os.environ)
    yield
    changed = {name for name in before.keys() | os.environ.keys() if _differs(name, before)}
    for name in changed - {"PYTEST_CURRENT_TEST"}:
        if name in before:
            os.environ[name] = before[name]
        else:
            del os.environ[name]


def _differs(name: str, before: Mapping[str, str]) -> bool:
    return before.get(name) != os.environ.get(name)
