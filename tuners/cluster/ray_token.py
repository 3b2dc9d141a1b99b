"""The token by which a Ray that is started here lets processes in: for this user alone."""

import contextlib
import os
import secrets
from pathlib import Path

from tuners.cluster.cluster_file import TOKEN_FILE


def keep_token_private() -> None:
    """Sees to it that nobody else on this machine can read Ray's token, making it if need be.

    Ray writes it with the permissions that any file gets: mostly everyone may read it, and with it
    run code as this user through Ray's ports.
    """
    file = Path(os.path.expanduser(TOKEN_FILE))
    with contextlib.suppress(OSError, RuntimeError):
        if file.exists():
            file.chmod(0o600)
        elif not _is_given():
            _generate()
    if not _is_given() and not _can_read(file):
        # A home that is full, cannot be written, or is none: as in a container.
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _is_given() -> bool:
    """Returns whether Ray has a token from elsewhere, or needs none."""
    named = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    return bool(named) or (os.environ.get("RAY_AUTH_MODE") or "token") != "token"


def _can_read(file: Path) -> bool:
    try:
        return bool(file.read_text().strip())
    except OSError:
        return False


def _generate() -> None:
    # Private; there is a command for it, but it takes seconds.
    from ray._private.authentication.authentication_token_setup import generate_and_save_token

    before = os.umask(0o077)
    try:
        generate_and_save_token()
    finally:
        os.umask(before)
