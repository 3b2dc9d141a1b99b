"""What asks a driver to stop: Ctrl-C, and the SIGTERM of a shutdown, a batch system or `kill`."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_asked = threading.Event()  # since this process began


def take_sigterm_as_ctrl_c() -> None:
    """Lets both raise KeyboardInterrupt; again after Ray has started, which takes SIGTERM over.

    Ctrl-C stays ignored where it is, as in a script's background.
    """
    sys.unraisablehook = _tell
    signal.signal(signal.SIGTERM, _ask)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _ask)


def _tell(lost: "sys.UnraisableHookArgs") -> None:
    """Tells of an error that could not be raised, but for ours: ``noticing`` knows of it."""
    if not isinstance(lost.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(lost)


def _ask(number: int, frame: Any) -> None:
    _asked.set()
    raise KeyboardInterrupt


@contextmanager
def noticing(interrupted: threading.Event) -> Iterator[None]:
    """Sets ``interrupted`` at the first such signal; a second is answered as before.

    Raises:
        KeyboardInterrupt: there was one already, and what it raised was lost: whoever is called by
            a library, as when garbage is collected, cannot raise.
    """
    if _asked.is_set():
        raise KeyboardInterrupt
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
