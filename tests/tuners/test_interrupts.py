"""Ctrl-C and SIGTERM: the first is noticed, the second ends the process."""

import signal
import threading

import pytest

from tuners.interrupts import noticing


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noticed_and_the_second_is_the_systems(number):
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    interrupted = threading.Event()
    with noticing(interrupted):
        assert not interrupted.is_set()
        signal.raise_signal(number)
        assert interrupted.is_set()
        assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


def test_afterwards_signals_are_the_systems_again():
    before = signal.getsignal(signal.SIGTERM)
    with noticing(threading.Event()):
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
