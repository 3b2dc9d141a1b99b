"""What a script prints to be typed next."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sweeps.commands import on_sweep, program_here
from tests.tuners.small import small_spec

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def venv(tmp_path, monkeypatch):
    """A virtual environment that runs this process, in a folder that a shell would part in two."""
    folder = tmp_path / "my work" / ".venv" / "bin"
    folder.mkdir(parents=True)
    for name in ("python", "mlflow"):
        (folder / name).write_text('#!/bin/sh\necho "here: $@"\n')
        (folder / name).chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.chdir(folder.parents[1])
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return folder


def typed(command, folder=None):
    return subprocess.run(
        command, shell=True, capture_output=True, text=True, check=True, cwd=folder
    ).stdout


def test_programs_of_an_environment_that_is_not_active_are_called_by_their_path(venv, monkeypatch):
    assert program_here("mlflow") == ".venv/bin/mlflow"
    assert typed(f"{program_here('mlflow')} ui") == "here: ui\n"
    monkeypatch.chdir(venv.parents[2])
    assert typed(f"{program_here('mlflow')} ui") == "here: ui\n"
    monkeypatch.chdir("/")
    assert typed(f"{program_here('mlflow')} ui") == "here: ui\n"


@pytest.mark.parametrize("first", [True, False])
def test_they_are_called_by_name_where_a_shell_finds_these(venv, monkeypatch, tmp_path, first):
    (tmp_path / "theirs").mkdir()
    other = tmp_path / "theirs" / "mlflow"
    other.symlink_to("/bin/true")
    places = [venv, other.parent] if first else [other.parent, venv]
    monkeypatch.setenv("PATH", ":".join(map(str, places)))
    assert program_here("mlflow") == ("mlflow" if first else ".venv/bin/mlflow")


def test_a_script_is_named_from_where_one_is_and_a_sweep_by_its_folder(venv, monkeypatch, tmp_path):
    spec = small_spec(tmp_path / "my runs")
    script = f"{ROOT}/sweeps/track.py"
    assert typed(on_sweep("track.py", spec)) == f"here: {script} sweep --runs-dir {spec.runs_dir}\n"
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PATH", str(venv))
    usual = replace(spec, runs_dir=Path("runs"))
    assert on_sweep("track.py", usual) == "python sweeps/track.py sweep"
    assert on_sweep("train.py", usual, "--resume") == "python sweeps/train.py --resume sweep"


def test_it_is_printed_also_where_a_shell_would_look_elsewhere(venv, monkeypatch, tmp_path):
    monkeypatch.chdir(venv)
    assert program_here("mlflow") == "./mlflow"
    (venv / "mlflow").unlink()
    assert program_here("mlflow") == "mlflow", "a Python of the system has its programs elsewhere"
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert typed(f"{program_here('python')} ui", folder="/") == "here: ui\n"
