"""Names that become paths, from a flag, a table or a store: none leads out of its folder."""

import re

from tuners.errors import BadInput

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def is_plain(name: object) -> bool:
    """Returns whether a name is that of one file or folder, and of no hidden one."""
    return isinstance(name, str) and _PLAIN.fullmatch(name) is not None


def is_below(name: object) -> bool:
    """Returns whether a name, such as ``tune/session-001``, lies below the folder it counts from.

    Not checked is where links on this disk lead: they were put there by whoever may write there.
    """
    if not isinstance(name, str) or not name.isprintable() or "\\" in name:
        return False
    return len(name) < 1000 and all(part not in ("", ".", "..") for part in name.split("/"))


def check_name(name: str) -> None:
    """Refuses a sweep's name that is no plain folder name.

    Raises:
        BadInput: which characters are allowed.
    """
    if not is_plain(name):
        raise BadInput(
            f"name is {name!r}; allowed: up to 100 letters, digits, '.', '_' and '-', the first a"
            " letter or digit"
        )
