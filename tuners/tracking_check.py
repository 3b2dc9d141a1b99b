"""Whether MLflow can be used from here, without writing anything to it."""

import socket
import urllib.request
from urllib.error import HTTPError
from urllib.parse import urlsplit

from tuners.errors import BadInput, in_a_line
from tuners.login import masked, whole_uri, without_login
from tuners.outputs import check_tracking_uri

_ANSWERS_WITHIN = 5.0  # seconds
_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


def tracking_fault(uri: str) -> str:
    """Returns a line that says why MLflow cannot be used from here, or ""."""
    try:
        check_tracking_uri(uri)
        _reach(whole_uri(uri))
    except BadInput as error:
        return f"driver: {error}"
    except Exception as error:  # of sockets, of HTTP, of each database's own client
        reason = masked(in_a_line(error))
        return (
            f"driver: MLflow at {without_login(uri)} cannot be used: {reason}; wanted"
            f" an answer within {_ANSWERS_WITHIN:.0f} s: start it (after a 403 with"
            " --allowed-hosts), or give another --tracking-uri"
        )
    return ""


def _reach(uri: str) -> None:
    """Returns if MLflow's server or database answers.

    Raises:
        Exception: why it does not.
    """
    parts = urlsplit(uri)
    scheme = parts.scheme.split("+")[0]
    if scheme in ("http", "https"):
        _get_health(without_login(uri))  # MLflow asks for a login everywhere else
    elif scheme != "sqlite":
        port = parts.port or _PORTS[scheme]
        # MLflow would try an address where nothing listens again and again, for minutes.
        socket.create_connection((parts.hostname, port), timeout=_ANSWERS_WITHIN).close()
        _log_in(uri)


def _get_health(uri: str) -> None:
    try:
        answer = urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=_ANSWERS_WITHIN)
    except HTTPError as error:  # it is the answer too
        error.close()
        raise
    with answer:
        if answer.read(100).strip() != b"OK":
            raise ConnectionError("something answers there, but it is not MLflow")


def _log_in(uri: str) -> None:
    from mlflow.store.db.utils import create_sqlalchemy_engine

    engine = create_sqlalchemy_engine(uri)
    try:
        engine.connect().close()
    finally:
        engine.dispose()
