"""What the doctor does in the driver alone; tests/e2e has it on clusters."""

import threading

import pytest

from tuners.cluster.doctor import _within

pytestmark = [
    # Of Ray, when it is imported.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def test_a_store_that_holds_who_writes_to_it_for_ever():
    released = threading.Event()

    def leave(node):
        released.wait()
        return ""

    assert _within(0.1, leave, "driver") == "no answer within 0 s"
    released.set()
    assert _within(10.0, leave, "driver") == ""
