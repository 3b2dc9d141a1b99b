"""Ctrl-C and SIGTERM: the first is noticed, the second raises."""

import contextlib
import signal
import sys
import threading

import pytest

from tuners.interrupts import noticing, take_sigterm_as_ctrl_c


@pytest.fixture(autouse=True)
def handlers(monkeypatch):
    """Puts back those of pytest; nobody has been asked to stop."""
    monkeypatch.setattr("tuners.interrupts._asked", threading.Event())
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def test_sigterm_raises_what_ctrl_c_does():
    take_sigterm_as_ctrl_c()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_was_lost_is_raised_before_anything_is_begun(number):
    """In a callback of a library it is: JAX has one for the garbage collector."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    take_sigterm_as_ctrl_c()
    with contextlib.suppress(KeyboardInterrupt):
        signal.raise_signal(number)
    with pytest.raises(KeyboardInterrupt), noticing(threading.Event()):
        raise AssertionError("it began")


def test_of_what_was_lost_no_traceback_is_printed_but_of_other_errors(capsys):
    take_sigterm_as_ctrl_c()
    for error in (KeyboardInterrupt, ZeroDivisionError):

        class Callback:
            def __del__(self, error: type[BaseException] = error) -> None:
                raise error

        Callback()
    said = capsys.readouterr().err
    assert "ZeroDivisionError" in said
    assert "KeyboardInterrupt" not in said


def test_a_ctrl_c_that_is_ignored_stays_so():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    take_sigterm_as_ctrl_c()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


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
