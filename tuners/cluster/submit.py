"""Hands a script to a cluster that `ray up` made, as a Ray job, and shows what it prints.

The job belongs to the head: it goes on when the laptop that submitted it is closed.
"""

import asyncio
import contextlib
import importlib.util
import logging
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tuners.cluster.cluster_file import TOKEN_FILE, check_cluster_file, unchosen_values
from tuners.errors import BadInput
from tuners.login import error_line

DASHBOARD = 8265  # port on the head, where jobs are taken
PROJECT = "~/shapesweep"  # on the head
# s.  Ray's command asks AWS a dozen things before it logs in.
_LOGS_IN_WITHIN = 60.0
_COPIED_WITHIN = 2 * _LOGS_IN_WITHIN
_ANSWERS_WITHIN = 8.0
_SSH_WITHIN = 3.0  # s
_CLIENT = ("aiohttp", "requests", "pydantic")  # what Ray's job client imports
# `ray job stop` is then Ctrl-C: running segments end, and what is known is written.
_STOP = {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": "60"}


def run_on_cluster(
    cluster: Path, script: str, arguments: Sequence[str], files: Mapping[str, Path]
) -> int:
    """Runs a script of the project on the head of a cluster; returns its exit code.

    Ctrl-C stops watching, not the job.

    Args:
        cluster: file that `ray up` was given.
        script: as seen from the project's folder.
        arguments: of its command line.
        files: local files that it reads, by the names that the arguments have for them.

    Raises:
        BadInput: the file is mistaken, or the cluster does not answer.
    """
    # Ray reads the first when it is imported; the others would hide the address given here.
    os.environ["RAY_AUTH_MODE"] = "token"
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        os.environ.pop(name, None)
    check(cluster)
    with _ended_by_signals(), forwarded(cluster) as address:
        client = connect(address, cluster)
        for name, path in files.items():
            _upload(cluster, path, f"{PROJECT}/{name}")
        try:
            job = client.submit_job(
                entrypoint=entrypoint(script, arguments), runtime_env={"env_vars": _STOP}
            )
        except (RuntimeError, OSError) as error:  # what the head answered, or no connection
            reason = error_line(error)
            raise BadInput(f"the head of {cluster} did not take the job: {reason}") from error
        print(f"{job} runs on the cluster, and goes on without this terminal:")
        print(_commands(cluster, job), flush=True)
        return _watch(client, cluster, job)


def check(cluster: Path) -> None:
    """Looks at a cluster file, and at this machine.

    Raises:
        BadInput: what is wrong.
    """
    if not cluster.is_file():
        raise BadInput(f"--cluster is {cluster}, but there is no such file; cluster.yaml is one")
    mistakes = check_cluster_file(cluster) or unchosen_values(cluster)
    if mistakes:
        more = f" (and {len(mistakes) - 1} more)" * (len(mistakes) > 1)
        raise BadInput(f"{cluster}: {mistakes[0]}{more}")
    if any(importlib.util.find_spec(name) is None for name in _CLIENT):
        raise BadInput("Ray's job client is not installed: pip install 'shapesweep[cluster]'")
    token = Path(os.path.expanduser(os.environ.get("RAY_AUTH_TOKEN_PATH") or TOKEN_FILE))
    if "RAY_AUTH_TOKEN" not in os.environ and not token.is_file():
        raise BadInput(f"{token} is not there, the token that this machine shares with the cluster")
    _check_ssh(cluster)


def _check_ssh(cluster: Path) -> None:
    """Looks whether a head whose address the file names takes calls: Ray would wait minutes."""
    config = yaml.safe_load(cluster.read_text())
    if (config.get("auth") or {}).get("ssh_proxy_command"):
        return  # it is reached through another
    provider = config["provider"]
    head = provider.get("external_head_ip") or provider.get("head_ip")
    if head is None:
        return
    try:
        socket.create_connection((head, 22), timeout=_SSH_WITHIN).close()
    except OSError as error:
        raise BadInput(
            f"the head, {head}, does not answer on port 22 ({error.strerror or error}): is it on,"
            " and can this machine reach it?"
        ) from error


def entrypoint(script: str, arguments: Sequence[str]) -> str:
    """Returns the shell command that starts a script on the head."""
    return f"cd {PROJECT} && exec python {shlex.join([script, *arguments])}"


@contextlib.contextmanager
def forwarded(cluster: Path) -> Iterator[str]:
    """Yields the address under which the head's dashboard answers on this machine.

    Raises:
        BadInput: it does not answer.
    """
    here = _free_port()
    command = [*_ray("dashboard"), cluster.name, "-p", str(here), "--remote-port", str(DASHBOARD)]
    with tempfile.TemporaryFile("w+") as said:
        # A session of its own: Ctrl-C is for who watches, and its SSH ends with it.
        process = subprocess.Popen(
            command,
            cwd=cluster.absolute().parent,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        try:
            if not _answers(here, process):
                said.seek(0)
                raise BadInput(_silent(cluster, said.read()))
            yield f"http://127.0.0.1:{here}"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def _ray(command: str) -> list[str]:
    return [sys.executable, "-m", "ray.scripts.scripts", command]


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _answers(port: int, process: "subprocess.Popen[Any]") -> bool:
    """Returns whether what is forwarded there answers before its time is over.

    SSH listens as soon as it has logged in, but hangs up if nothing listens on the head.
    """
    deadline, logged_in = time.monotonic() + _LOGS_IN_WITHIN, False
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0) as s:
            if not logged_in:
                deadline, logged_in = time.monotonic() + _ANSWERS_WITHIN, True
            s.settimeout(2.0)
            s.sendall(b"GET /api/version HTTP/1.0\r\n\r\n")
            if s.recv(16):
                return True
        time.sleep(0.1)
    return False


def _silent(cluster: Path, said: str) -> str:
    """Returns why a cluster does not answer, from what `ray dashboard` said."""
    if "not found" in said and "Head node" in said:
        return (
            f"the cluster of {cluster} is not up, or was not brought up from this machine:"
            f" `ray up {cluster}` does that, and ends a sweep that runs there"
        )
    if "Permission denied" in said:
        return f"the head lets this machine not in: look at auth in {cluster}"
    return f"no Ray answers on the head of {cluster}: `ray up {cluster}` starts it again"


def connect(address: str, cluster: Path) -> Any:
    """Returns Ray's job client.

    Raises:
        BadInput: the head does not let this process in.
    """
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    logging.getLogger("ray.dashboard.modules.job.sdk").setLevel(logging.WARNING)
    try:
        return JobSubmissionClient(address)
    except AuthenticationError as error:
        raise BadInput(
            f"the head of {cluster} does not take the token of this machine: `ray up {cluster}`"
            " brings it there, and ends a sweep that runs there; or take its owner's token"
        ) from error
    except (ConnectionError, RuntimeError) as error:
        raise BadInput(f"the head of {cluster}: {error}") from error


def _upload(cluster: Path, local: Path, remote: str) -> None:
    command = [*_ray("rsync-up"), cluster.name, str(local.absolute()), remote]
    try:
        done = subprocess.run(
            command,
            cwd=cluster.absolute().parent,
            capture_output=True,
            text=True,
            timeout=_COPIED_WITHIN,
        )
    except subprocess.TimeoutExpired as error:
        raise BadInput(f"{local} was not copied to the head in {_COPIED_WITHIN:.0f} s") from error
    if done.returncode:
        raise BadInput(f"{local} could not be copied to the head: {done.stderr.strip()[-300:]}")


def _watch(client: Any, cluster: Path, job: str) -> int:
    """Prints what a job prints until it ends; returns its exit code."""
    try:
        asyncio.run(_print_log(client, job))
        status = client.get_job_info(job)
    except KeyboardInterrupt:
        print(f"\n{job} goes on:\n{_commands(cluster, job)}")
        return 130
    except Exception as error:  # of aiohttp, requests and Ray: the connection, not the job
        reason = error_line(error)
        print(f"error: the connection broke ({reason}), but {job} goes on:", file=sys.stderr)
        print(_commands(cluster, job))
        return 1
    if status.status == "SUCCEEDED":
        return 0
    if status.status == "FAILED" and status.driver_exit_code:
        return int(status.driver_exit_code)
    print(f"error: {job}: {status.status}: {status.message}", file=sys.stderr)
    return 1


async def _print_log(client: Any, job: str) -> None:
    async for text in client.tail_job_logs(job):
        print(text, end="", flush=True)


def _commands(cluster: Path, job: str) -> str:
    """Returns what to type to watch a job again, and to stop it."""
    name = shlex.quote(str(cluster))
    return (
        f"  watch it  ray exec {name} 'ray job logs --follow {job}'\n"
        f"  stop it   ray exec {name} 'ray job stop {job}'"
    )


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Turns the end of the terminal into an exception, so that what was started ends as well."""

    def end(number: int, frame: Any) -> None:
        sys.exit(128 + number)

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, end) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
