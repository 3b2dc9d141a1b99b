"""The token by which a Ray that is started here lets processes in: for this user alone."""

import os
import secrets
from pathlib import Path

from tuners.cluster.cluster_file import TOKEN_FILE

_GIVEN = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


def keep_token_private() -> None:
    """Sees to it that nobody else on this machine can read Ray's token, making it if need be.

    Ray writes it with the permissions that any file gets: mostly everyone may read it, and with it
    run code as this user through Ray's ports.
    """
    file = Path(os.path.expanduser(TOKEN_FILE))
    is_given = any(os.environ.get(name) for name in _GIVEN)
    try:
        if file.exists():
            file.chmod(0o600)
        elif not is_given:
            _generate()
    except (OSError, RuntimeError):  # a home that cannot be written, or none: as in a container
        if not is_given and not os.access(file, os.R_OK):
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # of this Ray alone


def _generate() -> None:
    # Private; there is a command for it, but it takes seconds.
    from ray._private.authentication.authentication_token_setup import generate_and_save_token

    before = os.umask(0o077)
    try:
        generate_and_save_token()
    finally:
        os.umask(before)
