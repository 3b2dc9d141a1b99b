"""The token by which a Ray that is started here lets processes in: for this user alone."""

import contextlib
import os
from pathlib import Path

from tuners.cluster.cluster_file import TOKEN_FILE

_GIVEN = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


def keep_token_private() -> None:
    """Sees to it that nobody else on this machine can read Ray's token, making it if need be.

    Ray writes it with the permissions that any file gets: mostly everyone may read it, and with it
    run code as this user through Ray's ports.
    """
    file = Path(TOKEN_FILE).expanduser()
    with contextlib.suppress(OSError):  # not this user's, or not to be written: Ray says so itself
        if file.exists():
            file.chmod(0o600)
        elif not any(os.environ.get(name) for name in _GIVEN):
            _generate()


def _generate() -> None:
    # Private; there is a command for it, but it takes seconds.
    from ray._private.authentication.authentication_token_setup import generate_and_save_token

    before = os.umask(0o077)
    try:
        generate_and_save_token()
    finally:
        os.umask(before)
