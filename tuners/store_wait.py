"""A store that is away while a sweep runs: waited for, so that no trial is blamed for it."""

import errno
from collections.abc import Callable
from time import monotonic, sleep
from typing import NoReturn

from tuners.errors import BadInput
from tuners.store import check_store

_PATIENCE, _AGAIN = 600.0, 5.0  # s that a store may be away; between looks at it


class StoreWait:
    """Waits for a sweep's store.

    Attributes:
        fault: why the store ended the sweep, if it did: of an error that a callback raises, Tune
            leaves a text.
    """

    def __init__(self, storage: str, is_interrupted: Callable[[], bool]) -> None:
        """Has not looked yet; an interruption ends every wait."""
        self.fault = ""
        self._storage = storage
        self._is_interrupted = is_interrupted
        self._answered = float("-inf")

    def wait(self, say: Callable[[str], None]) -> None:
        """Returns once the store answers.

        Args:
            say: is told once why it does not, before it is waited for.

        Raises:
            OSError: it has been away for too long.
        """
        begun, said = monotonic(), False
        # A machine that is lost fails hundreds of jobs at once, and a look takes half a second.
        while not (self._is_interrupted() or monotonic() < self._answered + _AGAIN):
            try:
                check_store(self._storage, None)
                self._answered = monotonic()
                return
            except BadInput as error:
                if not said:
                    said = True
                    say(str(error))
                if monotonic() - begun >= _PATIENCE:
                    self.give_up(str(error))
            sleep(_AGAIN)

    def give_up(self, fault: str) -> NoReturn:
        """Ends the sweep.

        Raises:
            OSError: always.
        """
        self.fault = fault
        raise OSError(errno.EIO, fault)
