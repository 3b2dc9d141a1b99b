"""The login of MLflow: in this process's environment, and in nothing that is written or shown.

A sweep keeps its tracking URI with ``***`` for the password.  Who opens the store asks for the
whole one.
"""

import os
import re
from urllib.parse import unquote

from tuners.errors import BadInput

HIDDEN = "***"
_URI, _NAME, _PASSWORD, _TOKEN = (
    f"MLFLOW_TRACKING_{part}" for part in ("URI", "USERNAME", "PASSWORD", "TOKEN")
)
_LOGIN = re.compile(r"://([^:@/\s]*):([^\s'\"<>]*)@")  # a password may hold a slash
_SECRET = re.compile(
    r"([?&](?:[^=&\s]*(?:pass|pwd|token|secret)[^=&\s]*|odbc_connect)=)[^&\s'\"]*", re.IGNORECASE
)
_ANY_LOGIN = re.compile(r"://[^/\s'\"<>][^\s'\"<>]*@")


def masked(text: str) -> str:
    """Returns a text without what may be logins in the URIs that it names."""
    return _SECRET.sub(rf"\1{HIDDEN}", _ANY_LOGIN.sub(f"://{HIDDEN}@", text))


def error_line(error: BaseException) -> str:
    """Returns what an error of a library says, in one line, short, and with no login in it."""
    return masked(" ".join(str(error).split()) or type(error).__name__)[:300]


def hide_login(uri: str) -> str:
    """Returns a tracking URI without its password, which goes to this process's environment."""
    hidden = without_password(uri)
    if hidden != uri:
        os.environ[_URI] = uri
    return hidden


def without_login(uri: str) -> str:
    """Returns a tracking URI with neither name nor password: what a browser is given."""
    return _LOGIN.sub("://", uri)


def whole_uri(uri: str) -> str:
    """Returns a tracking URI that MLflow can open, from one that ``hide_login`` returned.

    The login of a server goes into the environment by MLflow's own names, so that no error that
    names the address tells it.

    Raises:
        BadInput: the password is not in the environment any more.
    """
    if HIDDEN not in uri:
        return uri
    given = os.environ.get(_URI, "")
    is_there = without_password(given) == uri
    if not uri.startswith("http"):
        if is_there:
            return given
        raise BadInput(f"{_missing(uri)} or give --tracking-uri with it")
    if is_there and (login := _LOGIN.search(given)):
        os.environ[_NAME], os.environ[_PASSWORD] = map(unquote, login.groups())
    elif not (os.environ.get(_TOKEN) or (os.environ.get(_NAME) and os.environ.get(_PASSWORD))):
        raise BadInput(f"{_missing(uri)} or {_NAME} and {_PASSWORD}")
    return without_login(uri)


def without_password(uri: str) -> str:
    """Returns a tracking URI with ``***`` where it has a password."""
    return _SECRET.sub(rf"\1{HIDDEN}", _LOGIN.sub(rf"://\1:{HIDDEN}@", uri))


def _missing(uri: str) -> str:
    return f"the password of MLflow at {uri} is not kept with the sweep: set {_URI} with it,"
