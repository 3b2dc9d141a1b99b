"""What asks a driver to stop: Ctrl-C, and the SIGTERM of a shutdown, a batch system or `kill`."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def take_sigterm_as_ctrl_c() -> None:
    """Lets SIGTERM raise KeyboardInterrupt; again after Ray has started, which takes it over."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@contextmanager
def noticing(interrupted: threading.Event) -> Iterator[None]:
    """Sets ``interrupted`` at the first such signal; a second is answered as before."""
    before: dict[int, Any] = {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(number: int, frame: Any) -> None:
        interrupted.set()
        restore()

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        restore()
