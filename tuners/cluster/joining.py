"""Joins a Ray cluster, or says at once why it cannot be, where Ray would wait for minutes."""

import errno
import logging
import os
import shlex
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rlcore.files import check_room
from tuners.cluster.examination import GB, free_memory
from tuners.cluster.faults import MIN_MEMORY
from tuners.cluster.ray_token import keep_token_private
from tuners.errors import BadInput, in_a_line
from tuners.interrupts import take_sigterm_as_ctrl_c
from tuners.ray_settings import LOCAL, joins_cluster

_ANSWERS_WITHIN = 3.0  # seconds to open a connection
_LOOKS_EVERY = 5.0  # seconds, whether Ray is there
_RAY_TAKES = 0.8  # GB: its own processes, before any worker (measured)
_SHOW_CURSOR = "\x1b[?25h"  # which the live screen had hidden
_RAY_DIED = (
    "error: Ray's node on this machine, or its head, has died; what was reported is kept, and a"
    " sweep goes on with --resume"
)


@contextmanager
def joined(
    address: str | None,
    script: str = "sweeps/reward_search.py",
    say: Callable[[str], None] = print,
) -> Iterator[None]:
    """Joins the cluster at ``address``, or starts Ray here; leaves it at the end.

    Args:
        address: as given to ``ray.init``.
        script: the file that was started; named where a command is printed.
        say: is told in a line if fewer cores are used than there are.

    Raises:
        BadInput: it cannot be joined, and what to type instead.
    """
    there = check_joinable(address, script) if joins_cluster(address) else None
    import ray

    try:
        if there is None:
            keep_token_private()
            _init(
                LOCAL,
                include_dashboard=False,
                num_cpus=_cores_to_use(say),
                runtime_env=_quoted_python(),
            )
        else:
            _join(address, there)
        with _ending_with_ray():
            yield
    finally:
        ray.shutdown()


@contextmanager
def _ending_with_ray() -> Iterator[None]:
    """Ends this process, with a line, if Ray's node here or its head dies: Tune would wait for it.

    At once and without cleaning up, as a kill would: all of that would wait for Ray as well.  What
    was reported is in the tables by then.
    """
    import ray

    context = ray.get_runtime_context()
    ended, here, head = threading.Event(), context.get_node_id(), _resolved(context.gcs_address)

    def is_dead() -> bool:
        # Nothing listens there any more; of a machine that is silent Ray itself is the judge.
        if isinstance(_connection_error(head), ConnectionRefusedError):
            return True
        with suppress(Exception):  # what holds the table of nodes does not answer
            return any(node["NodeID"] == here and not node["Alive"] for node in ray.nodes())
        return False

    def watch() -> None:
        while not ended.wait(_LOOKS_EVERY):
            if is_dead():
                print(f"{_SHOW_CURSOR * sys.stderr.isatty()}{_RAY_DIED}", file=sys.stderr)
                sys.stderr.flush()
                os._exit(1)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join(timeout=_LOOKS_EVERY)


def _join(address: str | None, there: str) -> None:
    """Joins the cluster that answers at ``there``.

    Raises:
        BadInput: it does not let this process in.
    """
    # It answers, or this would not be tried; one that refuses us is asked 20 times by default.
    os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "3")
    try:
        _init(address)
    except ConnectionError as error:
        raise BadInput(
            f"the cluster at {there} does not let this process in ({in_a_line(error.__cause__)}):"
            " set RAY_AUTH_MODE here as on its head, where `ray get-auth-token` shows the token"
        ) from error
    except RuntimeError as error:
        if "Version mismatch" not in str(error):
            raise
        raise BadInput(
            f"{error} start it here with the Python that Ray was started with"
        ) from error


def _quoted_python() -> dict[str, str] | None:
    """Returns what lets workers start where the path of Python has a space, if it has one.

    Ray makes a line for a shell of it; of a Ray that `ray start` began it cannot be mended here.
    """
    quoted = shlex.quote(sys.executable)
    return None if quoted == sys.executable else {"py_executable": quoted}


def _cores_to_use(say: Callable[[str], None]) -> int:
    """Returns how many cores are this process's, and no more than there is memory for.

    Ray counts those of the machine, or of the container, also where `taskset` or a batch system has
    left fewer; and it would begin trials on all of them, and end them when the memory is full.
    """
    from ray._private.utils import get_num_cpus  # there is no public way to ask before it runs

    cores = max(1, int(get_num_cpus(override_docker_cpu_warning=True)))  # a container may have half
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        cores = min(cores, len(os.sched_getaffinity(0)))
    free = free_memory() / GB
    fit = max(1, int((free - _RAY_TAKES) / MIN_MEMORY))
    if fit < cores:
        say(
            f"{free:.1f} GB of memory are free, so Ray gets {fit} of {cores} cores: it takes"
            f" {_RAY_TAKES} GB itself, and a trial up to {MIN_MEMORY:.0f} GB"
        )
    return min(cores, fit)


def _init(address: str | None, **arguments: Any) -> None:
    import ray

    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **arguments)
    except SystemExit:  # SIGTERM: until here it was Ray's
        raise KeyboardInterrupt from None
    except Exception as error:  # Ray has no types for these
        if "AF_UNIX path length" in str(error):
            raise BadInput(
                f"RAY_TMPDIR is '{os.environ.get('RAY_TMPDIR')}', too long for the names of Ray's"
                " sockets in it: set a shorter one, such as /tmp"
            ) from error
        check_room(Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()))
        if "timed out" not in str(error).lower():
            raise
        raise TimeoutError(
            errno.ETIMEDOUT,
            "Ray did not start on this machine within half a minute, so busy is it: end other"
            " programs, then start again, a sweep with --resume",
        ) from error
    take_sigterm_as_ctrl_c()


def check_joinable(address: str | None, script: str) -> str | None:
    """Returns the address that ``ray.init`` would join, or None if it would start Ray here.

    Args:
        address: as given to ``ray.init``; None looks at RAY_ADDRESS, then for a cluster here.
        script: the file that was started; named where a command is printed.

    Raises:
        BadInput: nothing can be joined there from here, and what to type instead.
    """
    # Private, but this is how ray.init itself decides, and there is no public way to ask it.
    from ray._private import services as untyped

    services: Any = untyped
    given = address or os.environ.get("RAY_ADDRESS") or ""
    submit = f"`ray submit cluster.yaml {script}`"
    if "://" in given:
        raise BadInput(
            f"address is '{given}', but {script} runs on a machine of the cluster: type {submit},"
            f" or on the head `python {script}`"
        )
    services.find_gcs_addresses.cache_clear()
    try:
        found = services.canonicalize_bootstrap_address(address)
        known = None if found is None else _resolved(found)
    except ConnectionError as error:
        raise BadInput(
            "no Ray cluster runs on this machine: start one with `ray start --head`, leave out"
            f" --address auto to use this machine alone, or type {submit}"
        ) from error
    except (ValueError, OSError) as error:
        raise BadInput(
            f"address is '{given}', but must be HOST:PORT of a host that is known"
        ) from error
    if known is None:
        return None
    if _connection_error(known) is not None:
        raise BadInput(_silent(given, f"{known[0]}:{known[1]}"))
    if known not in map(_resolved, services.find_gcs_addresses()):
        raise BadInput(
            f"this machine is not part of the cluster at {found}, and Ray joins no other: type"
            f" {submit}, or on the head `python {script}`"
        )
    return found


def _silent(given: str, where: str) -> str:
    if given:
        return (
            f"no Ray cluster answers at {where}: start it with `ray up cluster.yaml` or"
            " `ray start --head`, or leave out --address (and RAY_ADDRESS) to use this machine"
        )
    return (
        f"the Ray cluster that ran on this machine last, at {where}, does not answer any more:"
        " type `ray stop` to forget it, then the same again"
    )


def _resolved(address: str) -> tuple[str, int]:
    """Returns the IP and the port of HOST:PORT."""
    host, _, port = address.rpartition(":")
    return socket.gethostbyname(host.strip("[]")), int(port)


def _connection_error(where: tuple[str, int]) -> OSError | None:
    """Returns why no connection opens there, or None if one does."""
    try:
        with socket.create_connection(where, timeout=_ANSWERS_WITHIN):
            return None
    except OSError as error:
        return error
