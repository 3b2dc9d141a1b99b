"""Mistakes in a cluster file, told before `ray up` spends minutes and money on them.

Ray checks the form of its own keys, and botocore knows what EC2 takes.  What neither sees is here:
a worker that cannot read the bucket, a port that is open, two versions of Ray, no token.
"""

import base64
import contextlib
import copy
import difflib
import importlib.metadata
import io
import ipaddress
import json
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tuners.login import error_line

Config = dict[str, Any]

PROVIDERS = ("aws", "local")
LOCK = "requirements.lock"
CUDA_PACKAGE = "jax-cuda12-plugin"
TOKEN_FILE = "~/.ray/auth_token"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
CODE = ("rlcore", "tuners", "sweeps", "cluster", "pyproject.toml", "Makefile")
HEAD_VARIABLES = ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "SHAPESWEEP_RUNS_DIR")
# What stands in the files as they come: names that nobody can have.
EXAMPLES = ("your-bucket", "ami-0123456789abcdef0", "192.0.2.")

# How a key begins that no passphrase locks, in OpenSSH's own form.
_UNLOCKED = base64.b64encode(b"openssh-key-v1\0\0\0\0\4no").decode()
_IMAGE = re.compile(r"ami-([0-9a-f]{8}|[0-9a-f]{17})")
_GPU_FAMILY = re.compile(r"(g\d|gr\d|p\d)")
_VARIABLE = re.compile(r"\b([A-Z][A-Za-z0-9_]*)=([^\s'\";]+)")
_LOCK_NAME = re.compile(r"[\w.-]+\.lock\b")
_PIN = re.compile(r"^([\w.-]+)(?:\[[^]]*\])?==([^\s;\\]+)", re.MULTILINE)
_HOST = re.compile(r"--(?:dashboard-)?host[= ](\S+)")


def check_cluster_file(path: Path) -> list[str]:
    """Returns one plain line for each mistake: what is given, and what is allowed.

    Local sources in ``file_mounts`` count from the file's folder: `ray up` is run there.  Where the
    form is wrong, only the form is told.
    """
    try:
        config = yaml.safe_load(path.read_text())
    except OSError as error:
        return [f"{path} cannot be read: {error.strerror}"]
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        return [f"{path} is not YAML: {error_line(error)}"]
    if not isinstance(config, dict):
        return [f"{path} holds no keys and values; cluster.yaml is an example"]
    lines = list(_against_schema(config)) or list(_check_form(config))
    if lines:
        return lines
    prepared = _prepare(config)
    is_aws = config["provider"]["type"] == "aws"
    lines += _check_aws(config) if is_aws else _check_machines(config)
    lines += _check_access(prepared)
    lines += _check_file_mounts(prepared, path.parent)
    lines += _check_installs(prepared, path.parent)
    lines += _check_token(prepared)
    lines += _check_commands(prepared)
    lines += _check_head_environment(prepared)
    return lines or list(_ray_validates(prepared))


def unchosen_values(path: Path) -> list[str]:
    """Returns one line for each value at the top of the file that is still the example's."""
    chosen = yaml.safe_load(path.read_text()).get("metadata") or {}
    return [
        f"metadata.{name} is still the example, {value}; the comment above it says what to give"
        for name, value in chosen.items()
        if any(example in str(value) for example in EXAMPLES)
    ]


def _check_form(config: Config) -> Iterator[str]:
    """Yields what no schema knows, and what keeps Ray from completing the file."""
    for remote, local in config.get("file_mounts", {}).items():
        if not isinstance(local, str):
            yield f"file_mounts.{remote} is {local}, but must be a local file or folder"
    provider = config["provider"]
    if provider["type"] not in PROVIDERS:
        yield f"provider.type is '{provider['type']}'; allowed: {', '.join(PROVIDERS)}"
    elif provider["type"] == "aws":
        yield from _check_head_type(config)
        if "region" not in provider:
            yield "provider lacks 'region', the AWS region of all nodes"
    else:
        for key in ("available_node_types", "head_node_type"):
            if key in config:
                yield f"{key} is given, but machines of provider local are all of one type"
        for key in ("head_ip", "worker_ips"):
            if key not in provider:
                yield f"provider lacks '{key}', as the machines see each other"


def _against_schema(config: Config) -> Iterator[str]:
    import ray.autoscaler
    from jsonschema import Draft7Validator

    config = copy.deepcopy(config)
    if _at(config, "provider", "type") == "local":
        least = config.pop("min_workers", 0)  # Ray moves it before it looks
        if not isinstance(least, int):
            yield f"min_workers is {least!r}, but must be of type integer"
    types = config.get("available_node_types")
    for node in types.values() if isinstance(types, dict) else ():
        if isinstance(node, dict):
            node.setdefault("resources", {})  # Ray asks EC2
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    for error in Draft7Validator(schema).iter_errors(config):
        yield _told(error)


def _told(error: Any) -> str:
    """Returns what a schema finds wrong as a line of our own."""
    where = ".".join(map(str, error.absolute_path)) or "the file"
    if error.validator == "additionalProperties":
        known = sorted(error.schema["properties"])
        unknown = ", ".join(f"'{key}'" for key in error.instance if key not in known)
        return f"{where} has {unknown}, which Ray does not know; allowed: {', '.join(known)}"
    if error.validator == "required":
        return f"{where} lacks {error.message.split(' is ')[0]}"
    if error.validator == "type":
        return f"{where} is {error.instance!r}, but must be of type {error.validator_value}"
    if error.validator == "minimum":
        return f"{where} is {error.instance}, but must be at least {error.validator_value}"
    return f"{where}: {error.message}"


def _check_head_type(config: Config) -> Iterator[str]:
    types = config.get("available_node_types")
    if not types:
        yield "available_node_types is missing: a head and one or more workers"
        return
    listed = ", ".join(types)
    if config.get("head_node_type") not in types:
        yield f"head_node_type is '{config.get('head_node_type')}'; allowed: {listed}"
    elif len(types) < 2:
        yield f"available_node_types has {listed} alone, but no worker"


def _prepare(config: Config) -> Config:
    """Returns the file as Ray completes it, with its defaults and its commands in order."""
    from ray.autoscaler._private.util import prepare_config

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return dict(prepare_config(copy.deepcopy(config)))


def _ray_validates(prepared: Config) -> Iterator[str]:
    from ray.autoscaler._private.util import validate_config

    config = copy.deepcopy(prepared)
    for node in config["available_node_types"].values():
        node.setdefault("resources", {})
    try:
        validate_config(config)
    except (ValueError, RuntimeError) as error:
        yield error_line(error)


def _check_aws(config: Config) -> Iterator[str]:
    provider, types = config["provider"], config["available_node_types"]
    if provider.get("cache_stopped_nodes", True):
        yield "provider.cache_stopped_nodes is not false, but a stopped node still costs its disk"
    if not config.get("idle_timeout_minutes"):
        yield "idle_timeout_minutes is not above 0: workers must end when nothing is left to do"
    yield from _check_ports(provider)
    yield from _check_numbers(config)
    for name, node in types.items():
        launch, where = node["node_config"], f"available_node_types.{name}.node_config"
        yield from _check_launch(launch, where, is_head=name == config["head_node_type"])
    nameless = [name for name, node in types.items() if "KeyName" not in node["node_config"]]
    if nameless and "ssh_private_key" in config.get("auth", {}):
        yield f"auth.ssh_private_key needs its KeyName in node_config, of {', '.join(nameless)} too"
    yield from _check_against_aws(config)


def _check_ports(provider: Config) -> Iterator[str]:
    for rule in _at(provider, "security_group", "IpPermissions") or ():
        ports = _at(rule, "FromPort"), _at(rule, "ToPort")
        if ports != (22, 22):
            yield (
                f"provider.security_group opens ports {ports[0]} to {ports[1]}; allowed: 22 alone,"
                " and the rest through forwarded ports"
            )


def _check_numbers(config: Config) -> Iterator[str]:
    most = config.get("max_workers")
    if not most:
        yield f"max_workers is {most}, but must be at least 1"
        return
    types = config["available_node_types"]
    least = {name: node.get("min_workers", 0) for name, node in types.items()}
    for name, node in types.items():
        own = node.get("max_workers", 0 if name == config["head_node_type"] else most)
        if least[name] > own:
            yield (
                f"available_node_types.{name}.min_workers is {least[name]}, but must be at most its"
                f" max_workers, {own}"
            )
        if name == config["head_node_type"] and own:
            yield f"available_node_types.{name}.max_workers is {own}, but must be 0: it is the head"
    if sum(least.values()) > most:
        yield f"min_workers add up to {sum(least.values())}, but max_workers is {most}"
    workers = {
        name: node.get("max_workers", most)
        for name, node in types.items()
        if name != config["head_node_type"]
    }
    for name, own in workers.items():
        if len(workers) > 1 and own >= most > 1:
            yield (
                f"available_node_types.{name}.max_workers is {own}, but must be below max_workers,"
                f" {most}: where there is none of this type, Ray would ask for no other"
            )
    if workers and sum(workers.values()) < most:
        yield (
            f"max_workers is {most}, but those of the types of workers add up to"
            f" {sum(workers.values())}"
        )


def _check_launch(launch: Config, where: str, *, is_head: bool) -> Iterator[str]:
    """Yields what of one node type EC2 would take, but we do not."""
    image = launch.get("ImageId")
    if image is None:
        yield f"{where} lacks ImageId: Ray's own choice is an Ubuntu of 2018"
    elif not _IMAGE.fullmatch(str(image)):
        yield f"{where}.ImageId is '{image}', but must be ami- and 17 hexadecimal digits"
    if not (_at(launch, "IamInstanceProfile", "Name") or _at(launch, "IamInstanceProfile", "Arn")):
        why = "start workers" if is_head else "read the bucket"
        yield f"{where} lacks IamInstanceProfile with a Name or Arn: it could not {why}"
    market = _at(launch, "InstanceMarketOptions", "MarketType")
    if is_head and market is not None:
        yield f"{where} asks for {market}, but the head must be on demand: with it the sweep ends"
    if not is_head and market != "spot":
        yield f"{where}.InstanceMarketOptions.MarketType is {market or 'missing'}; allowed: spot"


def _check_against_aws(config: Config) -> Iterator[str]:
    """Yields what EC2 would refuse, without asking it."""
    try:
        from botocore.validate import ParamValidator
    except ImportError:
        yield "boto3 is not installed, so node types are unchecked: pip install 'shapesweep[aws]'"
        return
    regions, shape, known = _ec2()
    yield from _check_places(config["provider"], regions)
    for name, node in config["available_node_types"].items():
        where = f"available_node_types.{name}.node_config"
        # SubnetIds is Ray's own; it launches in one of them.
        launch = {key: value for key, value in node["node_config"].items() if key != "SubnetIds"}
        report = ParamValidator().validate({**launch, "MinCount": 1, "MaxCount": 1}, shape)
        yield from (f"{where}: {line}" for line in report.generate_report().splitlines())
        given = launch.get("InstanceType")
        if given not in known:
            near = difflib.get_close_matches(str(given), known) or ["m7i.2xlarge", "g6.2xlarge"]
            yield f"{where}.InstanceType is {given}, unknown to EC2; near: {', '.join(near)}"


@cache
def _ec2() -> tuple[list[str], Any, list[str]]:
    """Returns the regions of EC2, what it takes to run instances, and the types it has."""
    from botocore.session import Session

    session = Session()
    ec2 = session.get_service_model("ec2")
    shape = ec2.operation_model("RunInstances").input_shape
    return session.get_available_regions("ec2"), shape, ec2.shape_for("InstanceType").enum


def _check_places(provider: Config, regions: list[str]) -> Iterator[str]:
    region = provider["region"]
    if region not in regions:
        near = difflib.get_close_matches(region, regions) or regions
        yield f"provider.region is '{region}'; allowed: {', '.join(near)} ..."
        return
    zones = str(provider.get("availability_zone", region)).split(",")
    elsewhere = [zone for zone in zones if not zone.strip().startswith(region)]
    if elsewhere:
        yield f"provider.availability_zone has {', '.join(elsewhere)}, not in region {region}"


def _check_machines(config: Config) -> Iterator[str]:
    """Yields what is wrong with the addresses of provider local."""
    provider = config["provider"]
    machines = [provider["head_ip"], *provider["worker_ips"]]
    for address in machines:
        try:
            ipaddress.ip_address(str(address))
        except ValueError:
            yield f"provider has '{address}', but Ray tells machines apart by IP address"
    for address in {address for address in machines if machines.count(address) > 1}:
        yield f"provider has {address} twice; a machine is the head or one worker"
    count = len(machines) - 1
    least, most = config.get("min_workers", count), config.get("max_workers", count)
    if not least <= most <= count:
        yield (
            f"min_workers is {least} and max_workers {most}, but must be in this order and at most"
            f" the {count} of provider.worker_ips"
        )
    start = " ".join(config.get("head_start_ray_commands", []))
    if _variables(start).get("RAY_enable_autoscaler_v2") != "0":
        yield (
            "head_start_ray_commands lack RAY_enable_autoscaler_v2=0 before `ray start`: version 2"
            " starts one machine too few"
        )


def _check_access(prepared: Config) -> Iterator[str]:
    auth = prepared["auth"]
    if not auth.get("ssh_user"):
        yield "auth lacks 'ssh_user', who logs in on every node"
    key = auth.get("ssh_private_key")
    if key is None:
        return
    path = Path(os.path.expanduser(key))
    if not path.is_file():
        yield f"auth.ssh_private_key is {key}, which is no file"
    elif _has_passphrase(path.read_text(errors="replace")):
        yield (
            f"auth.ssh_private_key is {key}, which has a passphrase: the head, which starts the"
            " workers, could not use it"
        )


def _has_passphrase(key: str) -> bool:
    """Returns whether a private key is encrypted, in PEM's form or in OpenSSH's own."""
    if "ENCRYPTED" in key:
        return True
    _, is_openssh, rest = key.partition("-----BEGIN OPENSSH PRIVATE KEY-----")
    return bool(is_openssh) and not rest.lstrip().startswith(_UNLOCKED)


def _check_file_mounts(prepared: Config, folder: Path) -> Iterator[str]:
    brought = set()
    for remote, local in prepared["file_mounts"].items():
        source = folder / os.path.expanduser(local)
        brought.add(source.resolve())
        if not source.exists():
            made = "; `ray get-auth-token --generate` makes it" if local == TOKEN_FILE else ""
            yield f"file_mounts.{remote} is {local}, which is not there{made}"
        elif any((source / name).exists() for name in (".venv", "runs")):
            yield (
                f"file_mounts.{remote} is {local}, with .venv or runs in it: at each `ray up` Ray"
                " would read all of it; mount its parts"
            )
    for name in CODE:
        if not {(folder / name).resolve(), folder.resolve()} & brought:
            yield f"file_mounts lack {name}, which every node needs"


def _check_installs(prepared: Config, folder: Path) -> Iterator[str]:
    """Yields where a node would get other versions than those that are locked."""
    reference = _pins(folder / LOCK)
    here = importlib.metadata.version("ray")
    if reference.get("ray") != {here}:
        yield f"ray is {here} here, but {_listed(reference, 'ray')} in {LOCK}: make setup"
    mounted = {Path(local).name for local in prepared["file_mounts"].values()}
    uses_gpu = any(
        _GPU_FAMILY.match(str(node["node_config"].get("InstanceType")))
        for name, node in prepared["available_node_types"].items()
        if name != prepared["head_node_type"]
    )
    for kind, commands in _commands(prepared).items():
        for command in commands:
            if re.search(r"\bpip3? install\b", command) and ".lock" not in command:
                yield f"{kind}: `{command}` takes versions that are not locked; use make setup"
        locks = _locks(commands)
        if not locks:
            yield f"{kind}: no command installs from {LOCK}; allowed: make setup LOCK=..."
        for lock in sorted(locks):
            if not (folder / lock).is_file() or lock not in mounted:
                yield f"{kind}: {lock} is installed, but is not there or not in file_mounts"
                continue
            yield from _check_lock(kind, folder / lock, reference)
            if uses_gpu and kind != "head" and CUDA_PACKAGE not in _pins(folder / lock):
                yield f"{kind}: {lock} is without CUDA; allowed: requirements-cuda12.lock"


def _check_lock(kind: str, lock: Path, reference: dict[str, set[str]]) -> Iterator[str]:
    pins = _pins(lock)
    for name in sorted(pins.keys() & reference.keys()):
        if pins[name] != reference[name]:
            yield (
                f"{kind}: {lock.name} has {name} {_listed(pins, name)}, but {LOCK}"
                f" {_listed(reference, name)}: make lock"
            )


def _locks(commands: list[str]) -> set[str]:
    """Returns the lock files that the commands install from."""
    found = set()
    for command in commands:
        if re.search(r"\bmake\b.*\bsetup\b", command):
            found.add(_variables(command).get("LOCK", LOCK))
        elif "pip" in command:
            found.update(_LOCK_NAME.findall(command))
    return found


def _pins(lock: Path) -> dict[str, set[str]]:
    """Returns the versions of each package; there are several where they hang on Python's."""
    pins: dict[str, set[str]] = {}
    for name, version in _PIN.findall(lock.read_text() if lock.is_file() else ""):
        pins.setdefault(name, set()).add(version)
    return pins


def _listed(pins: dict[str, set[str]], name: str) -> str:
    return " or ".join(sorted(pins.get(name, {"missing"})))


def _check_token(prepared: Config) -> Iterator[str]:
    for kind, commands in _commands(prepared).items():
        variables = _variables(" ".join(commands))
        mode = variables.get("RAY_AUTH_MODE", "missing")
        if mode != "token":
            yield f"{kind}: RAY_AUTH_MODE is {mode}, but must be token: any who reach it run code"
        if "RAY_AUTH_TOKEN" in variables:
            yield f"{kind}: RAY_AUTH_TOKEN is in the file for all to read; mount {TOKEN_FILE}"
        file = variables.get("RAY_AUTH_TOKEN_PATH", TOKEN_FILE)
        if file not in prepared["file_mounts"]:
            yield f"{kind}: file_mounts lack {file}, the token that all nodes share"


def _check_commands(prepared: Config) -> Iterator[str]:
    """Yields what is wrong with how Ray and servers are started."""
    head = _start(prepared["head_start_ray_commands"])
    if "--head" not in head or "--autoscaling-config=~/ray_bootstrap_config.yaml" not in head:
        yield (
            "head_start_ray_commands must have `ray start --head"
            " --autoscaling-config=~/ray_bootstrap_config.yaml`, or no worker is ever started"
        )
    if "--address=$RAY_HEAD_IP:" not in _start(prepared["worker_start_ray_commands"]):
        yield "worker_start_ray_commands must have `ray start --address=$RAY_HEAD_IP:6379`"
    for kind, commands in _commands(prepared).items():
        for host in _HOST.findall(" ".join(commands)):
            if host not in LOOPBACK:
                yield f"{kind}: a server listens on {host}; allowed: 127.0.0.1, and forwarded ports"


def _check_head_environment(prepared: Config) -> Iterator[str]:
    commands = " ".join(_commands(prepared)["head"])
    variables = _variables(commands)
    for name in HEAD_VARIABLES:
        if name not in variables:
            yield f"head: {name} is not set, so the scripts would not use the cluster"
    tracking_uri = variables.get("MLFLOW_TRACKING_URI", "")
    if any(host in tracking_uri for host in LOOPBACK) and "mlflow_server.sh" not in commands:
        yield f"head: MLFLOW_TRACKING_URI is {tracking_uri}, but nothing runs mlflow_server.sh"
    store = variables.get("SHAPESWEEP_STORE", "")
    allowed = ("s3://",) if prepared["provider"]["type"] == "aws" else ("/", "s3://")
    if not store.startswith(allowed):
        yield f"head: SHAPESWEEP_STORE is '{store}', but must begin with {' or '.join(allowed)}"


def _at(config: Any, *keys: str) -> Any:
    """Returns what lies so deep in the file, or None if nothing does."""
    for key in keys:
        config = config.get(key) if isinstance(config, dict) else None
    return config


def _commands(prepared: Config) -> dict[str, list[str]]:
    """Returns what each kind of node runs, from its set-up to the start of Ray."""
    start = prepared["worker_start_ray_commands"]
    runs = {
        "head": [*prepared["head_setup_commands"], *prepared["head_start_ray_commands"]],
        "workers": [*prepared["worker_setup_commands"], *start],
    }
    for name, node in prepared["available_node_types"].items():
        if "worker_setup_commands" in node:
            runs[name] = [*node["worker_setup_commands"], *start]
    return runs


def _start(commands: list[str]) -> str:
    return " ".join(command for command in commands if "ray start" in command)


def _variables(command: str) -> dict[str, str]:
    """Returns the variables that shell commands set."""
    return dict(_VARIABLE.findall(command))
