"""Which idle processes Tune keeps."""

from types import SimpleNamespace

import pytest
from ray.tune.execution import tune_controller

from tuners import warm_workers
from tuners.warm_workers import KEPT_SECONDS, keeping_workers


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(warm_workers, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def cache(clock):
    """As Tune makes it, with three idle processes."""
    with keeping_workers():
        cache = tune_controller._ObjectCache(may_keep_one=True)
    for process in "abc":
        assert cache.cache_object("a core", process)
    return cache


def test_all_are_kept_though_nothing_waits_for_them(cache, clock):
    clock.now += KEPT_SECONDS
    assert list(cache.flush_cached_objects()) == []
    assert [cache.pop_cached_object("a core") for _ in range(4)] == [*"abc", None]


def test_after_a_while_they_are_ended(cache, clock):
    clock.now += KEPT_SECONDS + 1.0
    assert list(cache.flush_cached_objects()) == ["a", "b", "c"]
    assert cache.num_cached_objects == 0


def test_the_last_that_came_counts(cache, clock):
    clock.now += KEPT_SECONDS
    cache.cache_object("a core", "d")
    clock.now += 1.0
    assert list(cache.flush_cached_objects()) == []


def test_none_is_kept_where_tune_ends_them_all(cache):
    assert list(cache.flush_cached_objects(force_all=True)) == ["a", "b", "c"]


def test_tune_is_left_as_it_was():
    before = tune_controller._ObjectCache
    with pytest.raises(KeyError), keeping_workers():
        assert tune_controller._ObjectCache is not before
        raise KeyError
    assert tune_controller._ObjectCache is before
