"""What Ray is told by the environment: to listen here alone, and to tell its makers nothing."""

import os
import socket
import sys

import pytest
from ray._common.usage.usage_lib import usage_stats_enabled
from ray._common.utils import get_default_ray_temp_dir
from ray.tune.execution import class_cache

from tests.tuners.small import refusal
from tuners.ray_settings import (
    LOCAL,
    ONE_MACHINE,
    apply_ray_settings,
    joins_cluster,
    keep_keys_in_the_environment,
)

USAGE = "RAY_USAGE_STATS_ENABLED"


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    """One that is given back, and in which no other Ray of this machine is noted."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    for name in (USAGE, "RAY_ADDRESS", *ONE_MACHINE):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize("address", [None, LOCAL])
def test_a_ray_that_is_started_here_does_not_tell_its_makers(address):
    assert usage_stats_enabled(), "the default that is changed"
    apply_ray_settings(address)
    assert not usage_stats_enabled()


@pytest.mark.parametrize(("value", "enabled"), [("1", True), ("0", False)])
def test_who_has_said_so_before_decides(environment, value, enabled):
    environment.setenv(USAGE, value)
    apply_ray_settings(LOCAL)
    assert usage_stats_enabled() == enabled


def test_programs_lie_in_one_folder_for_workers_that_work_in_others(environment, tmp_path):
    environment.chdir(tmp_path)
    environment.setenv("SHAPESWEEP_CACHE", "programs")
    apply_ray_settings(LOCAL)
    assert os.environ["SHAPESWEEP_CACHE"] == str(tmp_path / "programs")


@pytest.mark.skipif(sys.platform == "darwin", reason="there Ray does not look at TMPDIR")
def test_ray_goes_where_its_sockets_names_are_short_enough(environment):
    """A batch system's folder for temporary files ended a sweep with a traceback."""
    environment.delenv("RAY_TMPDIR")
    for folder, used in (("/".ljust(39, "x"), None), ("/".ljust(40, "x"), "/tmp"), ("", "/tmp")):
        environment.delenv("RAY_TMPDIR", raising=False)
        environment.setenv("TMPDIR", folder)
        apply_ray_settings(LOCAL)
        assert os.environ.get("RAY_TMPDIR") == used
    environment.setenv("RAY_TMPDIR", "/".ljust(60, "x"))
    apply_ray_settings(LOCAL)
    assert len(os.environ["RAY_TMPDIR"]) == 60, "whoever names it is told that it is too long"


@pytest.mark.parametrize("name", ["RAY_TMPDIR", "TMPDIR"][: 1 + (sys.platform != "darwin")])
def test_the_cluster_of_this_machine_is_found_where_ray_noted_it(environment, tmp_path, name):
    environment.delenv("RAY_TMPDIR")
    environment.setenv(name, str(tmp_path))
    assert str(tmp_path / "ray") == get_default_ray_temp_dir(), "Ray's own rule"
    assert not joins_cluster(None)
    with socket.create_server(("127.0.0.1", 0)) as server:
        (tmp_path / "ray").mkdir()
        (tmp_path / "ray" / "ray_current_cluster").write_text(
            f"127.0.0.1:{server.getsockname()[1]}"
        )
        assert joins_cluster(None)
        assert not joins_cluster(LOCAL)


def test_an_environment_may_ask_for_a_ray_of_its_own_too(environment):
    environment.setenv("RAY_ADDRESS", LOCAL)
    assert not joins_cluster(None)
    apply_ray_settings(None)
    assert not usage_stats_enabled()
    assert os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
    assert joins_cluster("127.0.0.1:6379"), "an address that is given comes first"


def test_a_cluster_is_left_as_those_who_started_it_have_it():
    apply_ray_settings("127.0.0.1:6379")
    assert USAGE not in os.environ
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in os.environ


def test_a_value_that_ray_would_not_take_is_refused(environment):
    environment.setenv(USAGE, "yes")
    assert "allowed: 0, 1" in refusal(apply_ray_settings, LOCAL)


def test_keys_stay_out_of_the_command_lines_of_workers(environment):
    known = set(class_cache.ENV_VARS_TO_PROPAGATE)
    assert "AWS_SECRET_ACCESS_KEY" in known, "what is kept from Tune"
    environment.setattr(class_cache, "ENV_VARS_TO_PROPAGATE", set(known))
    keep_keys_in_the_environment()
    left = class_cache.ENV_VARS_TO_PROPAGATE
    assert not [name for name in left if name.startswith("AWS_")]
    assert left
