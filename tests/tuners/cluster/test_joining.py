"""An address that cannot be joined is refused at once, in a line that says what to type instead."""

import socket
from contextlib import nullcontext

import pytest
from ray._private import services
from ray._private.utils import validate_socket_filepath

from tests.tuners.small import refusal
from tuners.cluster import joining
from tuners.cluster.joining import check_joinable, joined
from tuners.errors import BadInput

SCRIPT = "sweeps/doctor.py"


@pytest.fixture(autouse=True)
def lonely(monkeypatch):
    """A machine on which no Ray runs, or did."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(services, "_find_address_from_flag", lambda flag: set())
    monkeypatch.setattr(services, "find_bootstrap_address", lambda folder: None)
    monkeypatch.setattr(services, "get_node_ip_address", lambda *arguments: "127.0.0.1")


@pytest.fixture
def listening():
    """The address of a socket that answers, though not as Ray does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def closed():
    """An address at which nothing answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    return address


@pytest.mark.parametrize(
    ("allowed", "container", "free", "counted", "said"),
    [
        ({0}, 4.0, 9.5e9, 1, []),
        (set(range(32)), 4.0, 4.8e9, 4, []),
        ({0, 1}, 0.5, 9.5e9, 1, []),
        (set(range(8)), 8.0, 4.7e9, 3, ["4.7 GB of memory are free, so Ray gets 3 of 8 cores"]),
        ({0, 1}, 2.0, 0.4e9, 1, ["0.4 GB of memory are free, so Ray gets 1 of 2 cores"]),
    ],
    ids=["taskset", "container", "half a core", "memory", "hardly any memory"],
)
def test_cores_are_those_left_to_us_and_no_more_than_memory_is_free_for(
    monkeypatch, allowed, container, free, counted, said
):
    """Ray counts a container's, and began eight trials in the memory of four: some failed."""
    told, lines = [], []
    monkeypatch.setattr(joining, "free_memory", lambda: free)
    monkeypatch.setattr(joining.os, "sched_getaffinity", lambda process: allowed)
    monkeypatch.setattr("ray._private.utils.get_num_cpus", lambda **_: container)
    monkeypatch.setattr(joining, "_init", lambda address, **given: told.append(given["num_cpus"]))
    monkeypatch.setattr(joining, "keep_token_private", lambda: None)
    monkeypatch.setattr(joining, "_ending_with_ray", nullcontext)
    with joined("local", say=lines.append):
        assert told == [counted]
    assert [line.partition(": it takes")[0] for line in lines] == said


@pytest.mark.parametrize(
    ("python", "told"),
    [
        ("/venv/bin/python", None),
        ("/my venv/python", {"py_executable": "'/my venv/python'"}),
    ],
)
def test_where_python_has_a_space_in_its_path_ray_is_told_in_quotes(monkeypatch, python, told):
    monkeypatch.setattr(joining.sys, "executable", python)
    assert joining._quoted_python() == told


def test_without_an_address_ray_is_started_here():
    assert check_joinable(None, SCRIPT) is None


def test_a_cluster_of_this_machine_can_be_joined(listening, monkeypatch):
    monkeypatch.setattr(services, "_find_address_from_flag", lambda flag: {listening})
    assert check_joinable(listening, SCRIPT) == listening
    assert check_joinable("auto", SCRIPT) == listening
    assert check_joinable(listening.replace("127.0.0.1", "localhost"), SCRIPT) == listening
    monkeypatch.setenv("RAY_ADDRESS", listening)
    assert check_joinable(None, SCRIPT) == listening


def test_an_address_that_does_not_answer(closed, monkeypatch):
    line = refusal(check_joinable, closed, SCRIPT)
    assert f"no Ray cluster answers at {closed}" in line
    assert "ray up cluster.yaml" in line
    assert "leave out --address" in line
    monkeypatch.setenv("RAY_ADDRESS", closed)
    assert "RAY_ADDRESS" in refusal(check_joinable, None, SCRIPT)


def test_an_address_from_which_no_packet_comes_back(monkeypatch):
    def wait_in_vain(where, timeout):
        assert timeout <= 5
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", wait_in_vain)
    assert "no Ray cluster answers at 10.1.2.3:6379" in refusal(
        check_joinable, "10.1.2.3:6379", SCRIPT
    )


def test_a_cluster_that_this_machine_is_not_part_of(listening):
    line = refusal(check_joinable, listening, SCRIPT)
    assert f"not part of the cluster at {listening}" in line
    assert "ray submit cluster.yaml sweeps/doctor.py" in line


def test_a_cluster_that_ended_without_a_word(closed, monkeypatch):
    monkeypatch.setattr(services, "find_bootstrap_address", lambda folder: closed)
    line = refusal(check_joinable, None, SCRIPT)
    assert closed in line
    assert "ray stop" in line


def test_auto_where_no_cluster_is():
    assert "no Ray cluster runs on this machine" in refusal(check_joinable, "auto", SCRIPT)


@pytest.mark.parametrize("scheme", ["ray", "http"])
def test_a_client_is_sent_to_the_head(scheme):
    line = refusal(check_joinable, f"{scheme}://10.1.2.3:10001", SCRIPT)
    assert "ray submit cluster.yaml sweeps/doctor.py" in line


@pytest.mark.parametrize("address", ["head", "127.0.0.1:port", "no.such.host.invalid:6379", ":1"])
def test_what_is_no_address(address, monkeypatch):
    def unknown(host):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    if "invalid" in address:
        monkeypatch.setattr(joining.socket, "gethostbyname", unknown)
    assert f"address is '{address}', but must be HOST:PORT" in refusal(
        check_joinable, address, SCRIPT
    )


def join(monkeypatch, error):
    """Joins a cluster that is there, where ray.init raises the error."""

    def init(**arguments):
        raise error

    monkeypatch.setattr(joining, "check_joinable", lambda address, script: address)
    monkeypatch.setattr("ray.init", init)
    monkeypatch.setenv("RAY_gcs_server_port_wait_time_s", "1")
    with joined("10.0.0.1:6379", "sweeps/doctor.py"):
        raise AssertionError("joined")


def test_a_cluster_that_wants_another_token(monkeypatch):
    refused = ConnectionError("Failed to connect to Ray cluster")
    refused.__cause__ = RuntimeError("Traceback:\n  AuthenticationError: token is missing\n")
    line = refusal(join, monkeypatch, refused)
    assert "10.0.0.1:6379 does not let this process in" in line
    assert "AuthenticationError: token is missing" in line
    assert "RAY_AUTH_MODE" in line


def test_other_errors_of_ray_keep_their_traceback(monkeypatch):
    error = RuntimeError("a mistake of ours")
    with pytest.raises(RuntimeError) as raised:
        join(monkeypatch, error)
    assert raised.value is error


def test_a_folder_too_long_for_rays_sockets_is_refused(monkeypatch):
    """By Ray's own check."""
    monkeypatch.setattr("ray.init", lambda **_: validate_socket_filepath("/".ljust(120, "x")))
    monkeypatch.setattr("tuners.cluster.joining.keep_token_private", lambda: None)
    with pytest.raises(BadInput, match="too long for the names of Ray's sockets"), joined("local"):
        pass


def test_a_machine_too_busy_for_ray_to_start_is_said_in_one_line(monkeypatch):
    def init(**_):
        raise Exception("The current node timed out during startup. This could happen because")

    monkeypatch.setattr("ray.init", init)
    with pytest.raises(OSError, match="did not start on this machine") as ended, joined("local"):
        pass
    assert "\n" not in ended.value.strerror
    assert "--resume" in ended.value.strerror


def test_a_full_disk_is_not_taken_for_a_busy_machine(monkeypatch):
    def init(**_):
        raise RuntimeError("Timed out waiting for file gcs_server_port")

    def full(folder):
        raise OSError(28, "No space left on device", str(folder))

    monkeypatch.setattr("ray.init", init)
    monkeypatch.setattr("tuners.cluster.joining.check_room", full)
    monkeypatch.setenv("RAY_TMPDIR", "/scratch")
    with pytest.raises(OSError, match="No space left") as ended, joined("local"):
        pass
    assert ended.value.filename == "/scratch"
