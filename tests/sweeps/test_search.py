"""What a search takes where no flag says."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from sweeps import search, train, training
from sweeps.cli import make_console
from sweeps.search import pick_preset
from sweeps.search_flags import Flags
from tests.tuners.small import CONFIG, small_spec
from tuners.default_spaces import reward_space


@pytest.fixture
def machine(monkeypatch):
    """One with an NVIDIA GPU, in no cluster."""
    for name in ("SHAPESWEEP_PRESET", "JAX_PLATFORMS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(search, "joins_cluster", lambda address: False)
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter([self / "nvidia0"]))
    return monkeypatch


def test_a_gpu_is_used(machine, capsys):
    machine.setattr(search, "has_cuda", lambda: True)
    assert pick_preset(None) == "gpu"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("hidden", ["JAX_PLATFORMS=cpu", "CUDA_VISIBLE_DEVICES="])
def test_who_hides_the_gpu_wants_the_cpu(machine, capsys, hidden):
    machine.setattr(search, "has_cuda", lambda: True)
    machine.setenv(*hidden.split("="))
    assert pick_preset(None) == "laptop"
    assert capsys.readouterr().err == ""


def test_a_gpu_that_jax_cannot_use_is_said(machine, capsys):
    machine.setattr(search, "has_cuda", lambda: False)
    assert pick_preset(None) == "laptop"
    assert "make setup LOCK=requirements-cuda12.lock" in capsys.readouterr().err


def test_on_a_cluster_it_is_the_clusters(machine):
    machine.undo()
    for name in ("SHAPESWEEP_PRESET", "RAY_ADDRESS"):
        machine.delenv(name, raising=False)
    machine.setattr(Path, "glob", lambda self, pattern: iter([]))
    assert pick_preset("10.0.0.1:6379") == "cluster"
    assert pick_preset("local") == "laptop"


def test_the_environment_decides(machine):
    machine.setenv("SHAPESWEEP_PRESET", "gpu-cluster")
    assert pick_preset(None) == "gpu-cluster"


@pytest.mark.parametrize(("given", "seed"), [(None, 5), (7, 7)])
def test_a_warm_start_has_seeds_of_its_own(tmp_path, monkeypatch, given, seed):
    before = small_spec(tmp_path, seed=4)
    monkeypatch.setattr(search, "begin_with", lambda spec, before: spec)
    flags = Flags(preset="smoke", runs_dir=tmp_path, warm_start="before", seed=given)
    assert search._fresh(flags, reward_space, before).seed == seed


def test_a_run_of_a_config_is_named_after_its_task(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(replace(CONFIG, task="balance", reward={}).to_dict()))
    flags = train.Flags(config=path, runs_dir=tmp_path)
    assert training._fresh(flags).name.startswith("train-balance-")


@pytest.mark.parametrize("platforms", ["cpu", ""])
def test_a_sweep_on_gpus_says_that_the_cpu_is_asked_for(tmp_path, monkeypatch, capsys, platforms):
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    search._print_plan(make_console(), small_spec(tmp_path, gpus_per_trial=1.0))
    assert ("no trial will use a GPU" in capsys.readouterr().out) == (platforms == "cpu")


@pytest.mark.parametrize("tracked", [True, False])
def test_what_to_run_next_can_be_typed_as_it_is_printed(tmp_path, monkeypatch, capsys, tracked):
    folder = tmp_path / "my [red] :car: runs"
    folder.mkdir()
    monkeypatch.chdir(folder)
    spec = small_spec(folder / "runs", tracking_uri="sqlite:///my [red] store.db")
    spec.folder.mkdir(parents=True)
    search._print_next(make_console(), spec, tracked)
    printed = capsys.readouterr().out
    assert "ui --backend-store-uri 'sqlite:///my [red] store.db'\n" in printed
    assert f"export_best.py sweep --runs-dir '{folder}/runs' --out best\n" in printed
    assert (f"track.py sweep --runs-dir '{folder}/runs'\n" in printed) != tracked
