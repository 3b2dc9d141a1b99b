"""What `make` would install and run; nothing is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CPU, CUDA = "requirements.lock", "requirements-cuda12.lock"


@pytest.fixture
def project(tmp_path):
    """A folder with what `make setup` reads, and uv."""
    for name in ("Makefile", "pyproject.toml", CPU, CUDA):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "uv").touch()
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / ".venv" / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}").mkdir(
        parents=True
    )
    return tmp_path


def would_run(project, *arguments):
    command = ["make", "--no-print-directory", "-n", "-C", project, *arguments]
    kept = {name: value for name, value in os.environ.items() if name not in ("LOCK", "MAKEFLAGS")}
    return subprocess.run(command, capture_output=True, text=True, env=kept, check=True).stdout


def installs(project, *arguments):
    """The name of the lock that `make setup` would install; None for nothing."""
    said = would_run(project, "setup", *arguments)
    found = {name for name in (CPU, CUDA) if f"-r {name}" in said}
    assert len(found) <= 1
    assert all(f"{{ echo {name}; pwd -P; }} > .venv/.installed" in said for name in found)
    return found.pop() if found else None


def installed(project, text, where=None):
    """A marker older than what is locked."""
    marker = project / ".venv" / ".installed"
    marker.write_text(f"{text}\n{where or project}\n")
    os.utime(marker, (0, 0))
    return marker


def test_a_fresh_machine_gets_the_lock_without_cuda_unless_another_is_named(project):
    assert installs(project) == CPU
    assert installs(project, f"LOCK={CUDA}") == CUDA


@pytest.mark.parametrize(
    ("noted", "again"),
    [(CPU, CPU), (CUDA, CUDA), ("", CPU), ("requirements-cuda9.lock", CPU)],
    ids=["CPU", "CUDA", "not named", "gone"],
)
def test_what_was_locked_anew_is_installed_as_before(project, noted, again):
    """`make` put the CPU's packages over those of a GPU."""
    marker = installed(project, noted)
    assert installs(project) == again
    assert "rm -rf" not in would_run(project, "setup")
    marker.touch()
    assert installs(project) is None


@pytest.mark.parametrize("spoilt", ["moved", "without its Python", "of another Python"])
def test_an_environment_that_is_of_no_use_is_made_anew_with_the_same_lock(project, spoilt):
    """A copied project ran the code of the original."""
    if spoilt == "moved":
        marker = installed(project, CUDA, where="/where/it/was")
    elif spoilt == "of another Python":
        marker = installed(project, CUDA)
        next((project / ".venv" / "lib").iterdir()).rename(project / ".venv" / "lib" / "python3.1")
    else:
        marker = installed(project, CUDA)
        (project / ".venv" / "bin" / "python").unlink()
        (project / ".venv" / "bin" / "python").symlink_to("/no/such/python")
    marker.touch()
    said = would_run(project, "setup")
    assert said.index('rm -rf ".venv"') < said.index(" -m venv ") < said.index("--require-hashes")
    assert installs(project) == CUDA
    command = ["make", "-C", project, "discard"]
    subprocess.run(command, check=True, capture_output=True)
    assert not (project / ".venv" / "bin").exists()
    assert installs(project) == CUDA, "also after a set-up that failed"


def test_an_environment_in_a_folder_that_is_reached_by_another_path_stays(project, tmp_path):
    (tmp_path / "other").symlink_to(project)
    marker = installed(project, CPU, where=tmp_path / "other")
    marker.touch()
    assert "rm -rf" not in would_run(project, "setup")


def test_an_environment_that_is_a_link_stays(project, tmp_path):
    installed(project, CPU, where="/where/it/is").touch()
    (project / ".venv").rename(tmp_path / "shared")
    (project / ".venv").symlink_to(tmp_path / "shared")
    assert "rm -rf" not in would_run(project, "setup")


def test_a_search_is_installed_for_and_run_with_the_flags_given(project):
    *setup, search = would_run(project, "search", "ARGS=--num-trials 64").strip().split("\n")
    assert f"-r {CPU}" in "\n".join(setup)
    assert search == ".venv/bin/python sweeps/reward_search.py --num-trials 64"
