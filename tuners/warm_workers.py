"""Processes that have trained one job stay for the next.

Importing JAX, or Ray for the light process of a pack, and loading a program takes seconds.  Tune
keeps a process only while a trial waits for one: at the end of a generation, and between search and
validation, none does, and it would end all but one, which would then train the next jobs in turn.
"""

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

from ray.tune.execution import tune_controller
from ray.tune.utils.object_cache import _ObjectCache

KEPT_SECONDS = 30.0  # without a job; then an autoscaler may have the machine


class _WarmWorkers(_ObjectCache):
    """Tune's cache of idle processes; every job of a sweep can use each, so all are kept a while.

    A class of Tune's own workings: the bound on Ray in ``pyproject.toml`` says of which version.
    """

    def __init__(self, may_keep_one: bool = True) -> None:
        """Keeps nothing yet."""
        super().__init__(may_keep_one=may_keep_one)
        self._changed = time.monotonic()

    def cache_object(self, key: Any, obj: Any) -> bool:
        """Keeps a process."""
        self._changed = time.monotonic()
        self._cached_objects[key].append(obj)
        self._num_cached_objects += 1
        return True

    def flush_cached_objects(self, force_all: bool = False) -> Generator[Any, None, None]:
        """Yields the processes to be ended."""
        if force_all or time.monotonic() - self._changed > KEPT_SECONDS:
            yield from super().flush_cached_objects(force_all)


@contextmanager
def keeping_workers() -> Iterator[None]:
    """Within it, Tune keeps the processes of jobs that ended for those that come soon."""
    before = tune_controller._ObjectCache
    tune_controller._ObjectCache = _WarmWorkers  # type: ignore[misc]
    try:
        yield
    finally:
        tune_controller._ObjectCache = before  # type: ignore[misc]
