"""Several hosts on one machine: namespaces with a network, processes and files of their own.

They are joined by a switch that leads nowhere else, and log in on each other by SSH.  Everything
belongs to processes that end with the one that made them, whatever ends it; nothing is left.
"""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HOME = Path("/root")
_INIT = Path(__file__).with_name("host_init.sh")
# The kernel ends it with this process, and what it started with it: a power cut for the host.
_BOUND = ("setpriv", "--pdeathsig", "KILL", "unshare", "--kill-child", "--fork", "--net")
_OWN = ("--pid", "--mount", "--uts", "--ipc", "--mount-proc")
_CLONE_NEWNET = 0x40000000  # as setns(2) has it
_NEEDED = ("setpriv", "unshare", "nsenter", "ip", "sshd", "ssh", "ssh-keygen", "rsync")


def why_not() -> str:
    """Returns why no hosts can be made here, or nothing."""
    if os.geteuid() != 0:
        return "needs root, to make hosts of namespaces"
    missing = [tool for tool in _NEEDED if shutil.which(tool) is None]
    if missing:
        return f"not on the PATH: {', '.join(missing)}; `make system` installs them"
    made = subprocess.run([*_BOUND, *_OWN, "true"], capture_output=True, text=True)
    return f"may not make namespaces: {made.stderr.strip()}" if made.returncode else ""


@dataclass
class Host:
    """A host.

    Attributes:
        name: its own.
        address: in the network of all hosts.
        root: folder of this machine that holds its home and /tmp.
        log: of its first process.
        shared: folder of this machine behind its /mnt/shared, if any.
        public: a second address, if any.
        user: another name for root there, if any.
    """

    name: str
    address: str
    root: Path
    log: Path
    shared: Path | None = None
    public: str = ""
    user: str = ""
    process: subprocess.Popen[bytes] | None = None

    @property
    def home(self) -> Path:
        return self.root / HOME.relative_to("/")

    @property
    def is_on(self) -> bool:
        return self.process is not None

    @property
    def init(self) -> int:
        """Pid of its first process, as this machine counts."""
        assert self.process is not None, f"{self.name} is off"
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return int(children.split()[0])


class Hosts:
    """A network and the hosts in it; ``close`` ends them all.

    Args:
        folder: empty; holds the hosts' files.
        visible: folders of this machine that hosts see although they lie in /tmp or /root.
        is_routed: whether hosts look for every address here, as where a provider routes; without
            it they know that there are no others.
    """

    def __init__(
        self, folder: Path, visible: Sequence[Path] = (), *, is_routed: bool = False
    ) -> None:
        self.shared = folder / "shared"
        self.shared.mkdir()
        self._folder = folder
        self._visible = [*visible, Path(sys.base_prefix)]
        self._is_routed = is_routed
        self._hosts: dict[str, Host] = {}
        for key in ("key", "hostkey"):
            _succeed("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key))
        self._switch = subprocess.Popen([*_BOUND, "sleep", "infinity"])
        _wait_for_network(self._switch)
        # Of its own: else that of a host's port, with which it would go and leave calls unanswered.
        own = ("address", "02:00:00:00:00:01")
        self._on_switch("link", "add", "br0", *own, "type", "bridge")
        self._on_switch("link", "set", "br0", "up")

    def __getitem__(self, name: str) -> Host:
        return self._hosts[name]

    def make(self, name: str, address: str, **properties: Any) -> Host:
        """Makes a host, which is off, that opens to the key of all hosts and has it."""
        host = Host(name, address, self._folder / name, self._folder / f"{name}.log", **properties)
        for part in (host.root / "tmp", host.home / ".ssh"):
            part.mkdir(parents=True)
        (host.root / "tmp").chmod(0o1777)
        for key, as_name in (("key", "id_ed25519"), ("key.pub", "authorized_keys")):
            target = host.home / ".ssh" / as_name
            shutil.copy(self._folder / key, target)
            target.chmod(0o600)
        self._hosts[name] = host
        return host

    def switch_on(self, name: str) -> None:
        """Starts a host, with what files it has, and waits until SSH answers on it.

        It ends with the thread that started it.
        """
        host = self._hosts[name]
        with host.log.open("wb") as log:
            host.process = subprocess.Popen(
                [*_BOUND, *_OWN, "bash", str(_INIT)],
                env=environment(
                    HOST_NAME=name,
                    HOST_IP=host.address,
                    HOST_ROOT=str(host.root),
                    HOST_KEY=str(self._folder / "hostkey"),
                    HOST_SHARED=str(host.shared or ""),
                    HOST_VISIBLE=":".join(map(str, self._visible)),
                    HOST_PUBLIC=host.public,
                    HOST_USER=host.user,
                    HOST_ROUTE="yes" if self._is_routed else "no",
                ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        _wait_for_network(host.process)
        port = ("link", "add", f"v{name}", "type", "veth")
        self._on_switch(*port, "peer", "name", "eth0", "netns", str(host.process.pid))
        self._on_switch("link", "set", f"v{name}", "master", "br0", "up")
        self._wait_for_ssh(host)

    def cut(self, name: str) -> None:
        """Cuts a host's power: every process on it ends at once, and its network with them."""
        host = self._hosts[name]
        assert host.process is not None, f"{name} is off"
        self._on_switch("link", "delete", f"v{name}")
        host.process.kill()
        host.process.wait()
        host.process = None

    def forget(self, name: str) -> None:
        """Takes a host that is off away, with all its files."""
        host = self._hosts.pop(name)
        assert not host.is_on, f"{name} is on"
        shutil.rmtree(host.root)

    def listen(self, address: str, port: int) -> socket.socket:
        """Returns a socket that takes calls at an address of the network that is no host's."""
        self._on_switch("address", "replace", f"{address}/16", "dev", "br0")
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(_listen_in, self._switch.pid, address, port).result()

    def command(self, name: str, command: str, *, only_network: bool = False) -> list[str]:
        """Returns what runs a shell command on a host, or here with the host's network only."""
        host = self._hosts[name]
        if only_network:
            return ["nsenter", f"--net=/proc/{host.init}/ns/net", "bash", "-c", command]
        within = ["nsenter", "-t", str(host.init), "-n", "-m", "-p", "-u", "-i", "--"]
        return [*within, "bash", "-c", f"cd {HOME}; {command}"]

    def start_command(
        self, name: str, command: str, log: Path, env: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        """Starts a command on a host in a session of its own; what it prints goes to ``log``."""
        with log.open("ab") as output:
            return subprocess.Popen(
                self.command(name, command),
                env=environment(**env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def close(self) -> None:
        """Ends all hosts, then the network."""
        for name, host in self._hosts.items():
            if host.is_on:
                self.cut(name)
        self._switch.kill()
        self._switch.wait()

    def _on_switch(self, *arguments: str) -> None:
        _succeed("nsenter", f"--net=/proc/{self._switch.pid}/ns/net", "ip", *arguments)

    def _wait_for_ssh(self, host: Host) -> None:
        assert host.process is not None
        deadline = time.monotonic() + 20.0
        while "Server listening" not in host.log.read_text(errors="replace"):
            if host.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{host.name} does not start:\n{host.log.read_text()}")
            time.sleep(0.05)


def environment(**values: str) -> dict[str, str]:
    """Returns what a login on a fresh machine has, and the values."""
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {"HOME": str(HOME), "PATH": path, "LANG": "C.UTF-8", **values}


def _wait_for_network(process: subprocess.Popen[bytes]) -> None:
    """Waits until a process has a network of its own."""
    deadline = time.monotonic() + 10.0
    ours = os.readlink("/proc/self/ns/net")
    while os.readlink(f"/proc/{process.pid}/ns/net") == ours:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("no network namespace was made")
        time.sleep(0.02)


def _listen_in(pid: int, address: str, port: int) -> socket.socket:
    """Takes this thread to the network of a process for good, and listens there."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/proc/{pid}/ns/net") as network:
        if libc.setns(network.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "no way into the network")
    return socket.create_server((address, port), backlog=128)


def _succeed(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


def end_session(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and all in its session at once."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
