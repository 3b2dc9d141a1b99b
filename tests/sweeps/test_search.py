"""What a search takes where no flag says."""

from pathlib import Path

import pytest

from sweeps import search
from sweeps.search import pick_preset


@pytest.fixture
def machine(monkeypatch):
    """One with an NVIDIA GPU, in no cluster."""
    monkeypatch.delenv("SHAPESWEEP_PRESET", raising=False)
    monkeypatch.setattr(search, "joins_cluster", lambda address: False)
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter([self / "nvidia0"]))
    return monkeypatch


def test_a_gpu_is_used(machine, capsys):
    machine.setattr(search, "has_cuda", lambda: True)
    assert pick_preset(None) == "gpu"
    assert capsys.readouterr().err == ""


def test_a_gpu_that_jax_cannot_use_is_said(machine, capsys):
    machine.setattr(search, "has_cuda", lambda: False)
    assert pick_preset(None) == "laptop"
    assert "make setup LOCK=requirements-cuda12.lock" in capsys.readouterr().err


def test_the_environment_decides(machine):
    machine.setenv("SHAPESWEEP_PRESET", "gpu-cluster")
    assert pick_preset(None) == "gpu-cluster"
