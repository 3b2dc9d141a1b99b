"""Cluster files: both that come with the project pass, and each planted mistake is named."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from tuners.cluster import cluster_file
from tuners.cluster.cluster_file import check_cluster_file, unchosen_values

ROOT = Path(__file__).resolve().parents[3]
AWS, ONPREM = "cluster.yaml", "cluster.onprem.yaml"
GONE = object()
# The first bytes of what ssh-keygen made, without and with a passphrase.
OPENSSH = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA"
KEYS = {
    "id_ed25519": f"{OPENSSH}BG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\n",
    "locked": f"{OPENSSH}CmFlczI1Ni1jdHIAAAAGYmNyeXB0AAAAGAAAABDoqJTDxH\n",
    "old": "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n",
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder that looks like the project's, of a user who has a token and a key."""
    home, folder = tmp_path / "home", tmp_path / "project"
    for name in (".ray", ".ssh"):
        (home / name).mkdir(parents=True)
    (home / ".ray" / "auth_token").write_text("secret")
    for name, text in KEYS.items():
        (home / ".ssh" / name).write_text(text)
    monkeypatch.setenv("HOME", str(home))
    folder.mkdir()
    for entry in ROOT.iterdir():
        if entry.name in ("cluster", "rlcore", "tuners", "sweeps") or entry.suffix == ".lock":
            (folder / entry.name).symlink_to(entry)
    for name in ("Makefile", "pyproject.toml", "README.md", "LICENSE", AWS, ONPREM):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    return folder


def edited(project, name, where, change):
    """The file `name` with one entry changed; `where` has its keys, with " > " between them."""
    config = json.loads(json.dumps(yaml.safe_load((project / name).read_text())))
    *outer, last = where.split(" > ")
    place = config
    for key in outer:
        place = place.setdefault(key, {})
    if change is GONE:
        del place[last]
    else:
        place[last] = change(place[last]) if callable(change) else change
    path = project / f"edited-{name}"
    path.write_text(yaml.safe_dump(config))
    return path


def swap(old, new):
    """A change of commands: one word by another."""

    def change(commands):
        assert any(old in command for command in commands)
        return [command.replace(old, new) for command in commands]

    return change


def more(command):
    return lambda commands: [*commands, command]


WORKER = "available_node_types > worker-l4"
LAUNCH = f"{WORKER} > node_config"
HEAD = "available_node_types > head"
SECURITY = "provider > security_group"
WEB = {"FromPort": 8265, "ToPort": 8265, "IpProtocol": "tcp", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
DISK = [{"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": "150"}}]

# What is changed, into what, and what the line must say.
AWS_MISTAKES = {
    # What EC2 is asked for.
    "worker without profile": (f"{LAUNCH} > IamInstanceProfile", GONE, "worker-l4", "read the bu"),
    "profile as text": (f"{LAUNCH} > IamInstanceProfile", "me", "worker-l4", "IamInstanceProfile"),
    "head without profile": (f"{HEAD} > node_config > IamInstanceProfile", GONE, "start workers"),
    "no image": (f"{LAUNCH} > ImageId", GONE, "worker-l4.node_config lacks ImageId"),
    "image is no id": (f"{LAUNCH} > ImageId", "ubuntu-24.04", "'ubuntu-24.04', but must be ami-"),
    "worker on demand": (
        f"{LAUNCH} > InstanceMarketOptions",
        GONE,
        "worker-l4",
        "missing; allowed: spot",
    ),
    "market misspelt": (
        f"{LAUNCH} > InstanceMarketOptions > MarketType",
        "Spot",
        "Spot; allowed: spot",
    ),
    "head on spot": (
        f"{HEAD} > node_config > InstanceMarketOptions",
        {"MarketType": "spot"},
        "head.node_config asks for spot",
    ),
    "unknown instance type": (f"{LAUNCH} > InstanceType", "g6.2xlrge", "g6.2xlrge", "g6.2xlarge"),
    "unknown launch key": (f"{LAUNCH} > InstanceTyp", "g6.2xlarge", '"InstanceTyp", must be one'),
    "disk size as text": (f"{LAUNCH} > BlockDeviceMappings", DISK, "Ebs.VolumeSize, value: 150"),
    "key without its name": ("auth > ssh_private_key", "~/.ssh/id_ed25519", "needs its KeyName"),
    "unknown region": ("provider > region", "us-west-3", "'us-west-3'; allowed: us-west-2"),
    "zone elsewhere": (
        "provider > availability_zone",
        "us-east-1a",
        "us-east-1a, not in region us-west-2",
    ),
    "stopped nodes kept": ("provider > cache_stopped_nodes", GONE, "cache_stopped_nodes"),
    "open port": (f"{SECURITY} > IpPermissions", [WEB], "opens ports 8265 to 8265; allowed: 22"),
    # How many.
    "no idle timeout": ("idle_timeout_minutes", GONE, "idle_timeout_minutes"),
    "no workers": ("max_workers", 0, "max_workers is 0, but must be at least 1"),
    "more at least than at most": (f"{WORKER} > min_workers", 9, "min_workers is 9", "at most"),
    "as many of a type as there may be": (
        f"{WORKER} > max_workers",
        8,
        "worker-l4.max_workers is 8, but must be below max_workers, 8",
    ),
    "more than there are of all types": (
        "max_workers",
        10,
        "max_workers is 10, but those of the types of workers add up to 9",
    ),
    "workers of the head's type": (
        f"{HEAD} > max_workers",
        2,
        "head.max_workers is 2",
        "must be 0",
    ),
    "head type misspelt": ("head_node_type", "haed", "'haed'; allowed: head, worker-a"),
    "head type alone": ("available_node_types", lambda types: {"head": types["head"]}, "no worker"),
    # What Ray's schema sees.
    "unknown key": (
        "idle_timeout",
        10,
        "'idle_timeout', which Ray does not know",
        "idle_timeout_m",
    ),
    "text for a number": ("max_workers", "eight", "max_workers is 'eight'", "integer"),
    "below the least": ("upscaling_speed", -1, "upscaling_speed is -1, but must be at least 0"),
    "unknown provider": ("provider > type", "gcp", "provider.type is 'gcp'; allowed: aws, local"),
    # What the nodes get.
    "no user": ("auth > ssh_user", "", "ssh_user"),
    "source that is not there": ("file_mounts > ~/data", "data", "file_mounts.~/data is data"),
    "code left out": ("file_mounts > ~/shapesweep/tuners", GONE, "lack tuners"),
    "no token mounted": ("file_mounts > ~/.ray/auth_token", GONE, "lack ~/.ray/auth_token"),
    "token authentication off": (
        "setup_commands",
        swap("RAY_AUTH_MODE=token", "RAY_AUTH_MODE=disabled"),
        "RAY_AUTH_MODE is disabled, but must be token",
    ),
    "token in the file": ("setup_commands", more("export RAY_AUTH_TOKEN=abc"), "for all to read"),
    "Ray by hand": (
        "worker_setup_commands",
        more("pip install ray==2.59.0"),
        "`pip install ray==2.59.0` takes versions that are not locked",
    ),
    "nothing installed": ("head_setup_commands", lambda them: them[:1], "no command installs"),
    "no CUDA": ("worker_setup_commands", swap("-cuda12", ""), "requirements.lock is without CUDA"),
    "lock that is not there": ("worker_setup_commands", swap("cuda12", "cuda11"), "cuda11.lock"),
    "lock left behind": (
        "file_mounts > ~/shapesweep/requirements.lock",
        GONE,
        "requirements.lock is installed, but is not there or not in file_mounts",
    ),
    # How they start.
    "no autoscaler": ("head_start_ray_commands", swap("--autoscaling-config", "--x"), "no worker"),
    "dashboard for all": ("head_start_ray_commands", swap("127.0.0.1", "0.0.0.0"), "on 0.0.0.0"),
    "worker on its own": ("worker_start_ray_commands", swap("--address", "--x"), "RAY_HEAD_IP"),
    "no MLflow": ("head_start_ray_commands", lambda them: them[:2], "nothing runs mlflow_server"),
    "no runs folder": ("head_setup_commands", swap("SHAPESWEEP_RUNS_DIR", "RUNS"), "_RUNS_DIR"),
    "store on the head's disk": (
        "setup_commands",
        swap("s3://your-bucket", "/home/ubuntu"),
        "SHAPESWEEP_STORE is '/home/ubuntu/shapesweep', but must begin with s3://",
    ),
}
ONPREM_MISTAKES = {
    "no head": ("provider > head_ip", GONE, "lacks 'head_ip'"),
    "name for an address": ("provider > head_ip", "big-box", "'big-box'", "IP address"),
    "head among the workers": ("provider > worker_ips", ["192.0.2.10"], "192.0.2.10 twice"),
    "more workers than machines": ("max_workers", 5, "max_workers 5", "at most the 2"),
    "text for a number": ("min_workers", "all", "min_workers is 'all'", "integer"),
    "node types": ("available_node_types", {}, "available_node_types is given"),
    "autoscaler 2": ("head_start_ray_commands", swap("v2=0", "v2=1"), "RAY_enable_autoscaler_v2=0"),
    "key with a passphrase": ("auth > ssh_private_key", "~/.ssh/locked", "has a passphrase"),
    "old key with a passphrase": ("auth > ssh_private_key", "~/.ssh/old", "has a passphrase"),
    "key that is not there": ("auth > ssh_private_key", "~/.ssh/nokey", "~/.ssh/nokey", "no file"),
    "store that is no path": ("setup_commands", swap("=/mnt", "=mnt"), "must begin with / or s3"),
    "no CUDA check without types": ("setup_commands", swap("make", "echo"), "no command installs"),
}
MISTAKES = [
    pytest.param(name, *mistake[:2], mistake[2:], id=f"{name}: {what}")
    for name, table in ((AWS, AWS_MISTAKES), (ONPREM, ONPREM_MISTAKES))
    for what, mistake in table.items()
]


@pytest.mark.parametrize("name", [AWS, ONPREM])
def test_the_files_that_come_with_the_project_pass(project, name):
    assert check_cluster_file(project / name) == []


@pytest.mark.parametrize(("name", "where", "change", "words"), MISTAKES)
def test_each_mistake_is_named(project, name, where, change, words):
    lines = check_cluster_file(edited(project, name, where, change))
    assert any(all(word in line for word in words) for line in lines), lines
    assert len(lines) <= 2, "one mistake is one line, or one for head and workers each"
    assert not any("\n" in line for line in lines)


@pytest.mark.parametrize("name", [AWS, ONPREM])
@pytest.mark.parametrize("value", [None, 7, "text", [], ["text"], {}, {"a": None}])
def test_no_value_of_a_wrong_form_is_an_exception(project, name, value):
    for key in yaml.safe_load((project / name).read_text()):
        assert isinstance(check_cluster_file(edited(project, name, key, value)), list)


@pytest.mark.parametrize("value", [None, 7, "text", [], ["text"], {}, {"a": None}])
def test_no_launch_setting_of_a_wrong_form_is_an_exception(project, value):
    for key in ("IamInstanceProfile", "InstanceMarketOptions", "ImageId", "InstanceType"):
        assert check_cluster_file(edited(project, AWS, f"{LAUNCH} > {key}", value))


@pytest.mark.parametrize(
    ("text", "words"), [("a: [1", "is not YAML"), ("- a", "holds no keys"), ("", "holds no keys")]
)
def test_what_is_no_cluster_file_is_said_to_be_none(tmp_path, text, words):
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    [line] = check_cluster_file(path)
    assert words in line


def test_of_a_type_that_is_the_only_one_there_may_be_as_many_as_of_all(project):
    path = edited(project, AWS, f"{WORKER} > max_workers", 8)
    for other in ("a10g", "t4"):
        path = edited(project, path.name, f"available_node_types > worker-{other}", GONE)
    assert check_cluster_file(path) == []


def test_a_file_that_is_not_there_is_named(tmp_path):
    [line] = check_cluster_file(tmp_path / "nowhere.yaml")
    assert "nowhere.yaml cannot be read" in line


def test_versions_that_differ_between_locks_are_named(project):
    lock = project / "requirements-cuda12.lock"
    text = lock.read_text()
    lock.unlink()
    lock.write_text(text.replace("mlflow==", "mlflow==9."))
    [line] = check_cluster_file(project / AWS)
    assert "requirements-cuda12.lock has mlflow 9." in line


def test_another_ray_on_the_laptop_is_named(project, monkeypatch):
    monkeypatch.setattr(cluster_file.importlib.metadata, "version", lambda name: "2.59.0")
    [line] = check_cluster_file(project / AWS)
    assert "ray is 2.59.0 here" in line


def test_a_folder_that_ray_would_read_whole_is_named(project):
    (project / ".venv").mkdir()
    lines = check_cluster_file(edited(project, AWS, "file_mounts > ~/shapesweep", "."))
    assert any("with .venv or runs in it" in line for line in lines)


def test_without_boto_node_types_are_said_to_be_unchecked(project, monkeypatch):
    monkeypatch.setitem(sys.modules, "botocore.validate", None)
    [line] = check_cluster_file(project / AWS)
    assert "boto3 is not installed" in line
    assert "shapesweep[aws]" in line


def test_several_mistakes_are_a_line_each(project):
    path = edited(project, AWS, "idle_timeout_minutes", GONE)
    path = edited(project, path.name, f"{LAUNCH} > ImageId", GONE)
    path = edited(project, path.name, "auth > ssh_user", "")
    assert len(check_cluster_file(path)) == 3


@pytest.mark.parametrize(
    ("name", "unchosen"), [(AWS, {"store", "image"}), (ONPREM, {"head", "workers"})]
)
def test_values_left_as_they_came_are_named(project, name, unchosen):
    lines = unchosen_values(project / name)
    assert {line.split()[0].removeprefix("metadata.") for line in lines} == unchosen


def test_a_chosen_value_is_not_named(project):
    path = edited(project, AWS, "metadata > image", "ami-0fedcba9876543210")
    assert [line.split()[0] for line in unchosen_values(path)] == ["metadata.store"]
