"""How a sweep waits for its store, on a clock of its own."""

import math
from types import SimpleNamespace

import pytest

from tuners.errors import BadInput
from tuners.store_wait import StoreWait

FAULT = "storage s3://bucket/runs cannot be used: no answer"


@pytest.fixture
def away(monkeypatch):
    """A store that answers from the moment ``back`` on, and who waits for it."""
    away = SimpleNamespace(now=0.0, back=math.inf, looks=0, interrupted=False, said=[])

    def check(storage, fresh):
        assert (storage, fresh) == ("s3://bucket/runs", None)
        away.looks += 1
        if away.now < away.back:
            raise BadInput(FAULT)

    monkeypatch.setattr("tuners.store_wait.check_store", check)
    monkeypatch.setattr("tuners.store_wait.monotonic", lambda: away.now)
    monkeypatch.setattr("tuners.store_wait.sleep", lambda s: setattr(away, "now", away.now + s))
    away.wait = StoreWait("s3://bucket/runs", lambda: away.interrupted)
    return away


def test_it_is_waited_for_and_said_once(away):
    away.back = 60.0
    away.wait.wait(away.said.append)
    assert (away.now, away.said, away.wait.fault) == (60.0, [FAULT], "")


def test_after_ten_minutes_it_ends_the_sweep(away):
    with pytest.raises(OSError, match="no answer"):
        away.wait.wait(away.said.append)
    assert (away.now, away.said, away.wait.fault) == (600.0, [FAULT], FAULT)


def test_it_is_looked_at_once_for_all_that_fail_at_once(away):
    away.back = 0.0
    for _ in range(3):
        away.wait.wait(away.said.append)
    assert away.looks == 1
    away.now = 60.0
    away.wait.wait(away.said.append)
    assert (away.looks, away.said) == (2, [])


def test_an_interruption_ends_the_wait(away):
    away.interrupted = True
    away.wait.wait(away.said.append)
    assert (away.now, away.looks) == (0.0, 0)
